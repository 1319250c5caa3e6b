"""Experiments: a notebook's parameters become the paper's grids, each trial once."""

from __future__ import annotations

from collections import Counter

import pytest
from conftest import DEV, TRAIN

from companion import experiments
from companion.errors import InvalidValue, UnknownName


@pytest.fixture
def parameters(tiny_bert, tiny_glue) -> dict:
    shared = {"model": tiny_bert, "data_dir": str(tiny_glue), "tasks": ["cola", "sst2"], "train_sizes": [8, 16]}
    shared |= {"seeds": [0, 1, 2], "learning_rate": 1e-3, "batch_size": 8, "epochs": 1, "max_length": 64}
    return {**shared, "directions": ["suffix", "prefix"], "preserved_layers": {"described": "all", "released": [0, 2]}}


def test_a_grid_worked_out_by_hand(parameters):
    trials = experiments.plan("progressive", parameters)
    # described, 4 layers: intact, all, 3 suffixes, 3 prefixes; released: all, 1 suffix, 1 prefix
    assert len(trials) == 2 * 2 * 3 * (8 + 3)
    assert len({t.id for t in trials}) == len(trials)
    kinds = Counter((t.protocol, t.kind) for t in trials)
    assert kinds == {("described", "intact"): 12, ("described", "all"): 12, ("described", "suffix"): 36,
                     ("described", "prefix"): 36, ("released", "all"): 12, ("released", "suffix"): 12,
                     ("released", "prefix"): 12}  # fmt: skip
    assert {t.reinitialized for t in trials if t.kind == "suffix"} == {(3,), (2, 3), (1, 2, 3)}
    assert {t.reinitialized for t in trials if t.protocol == "released"} == {(0, 1, 2, 3), (2, 3), (0, 1)}
    assert {(t.task, t.train_size, t.seed) for t in trials} == {
        (task, size, seed) for task in ("cola", "sst2") for size in (8, 16) for seed in range(3)
    }


def test_repeated_values_are_one_trial(parameters):
    twice = {**parameters, "seeds": [0, 0], "tasks": ["cola", "cola"], "train_sizes": [8], "directions": ["suffix"] * 2}
    trials = experiments.plan("progressive", {**twice, "preserved_layers": {"described": [4, 4]}})
    assert [t.kind for t in trials] == ["intact"]


def test_the_intact_model_is_one_trial_whatever_the_protocols(parameters):
    keep = {"described": [4], "released": [4]}
    trials = experiments.plan("progressive", {**parameters, "preserved_layers": keep})
    assert {(t.kind, t.protocol) for t in trials} == {("intact", "described")}
    assert len(trials) == 12


def test_full_is_the_whole_training_split(parameters):
    trials = experiments.plan("progressive", {**parameters, "train_sizes": ["full"]})
    assert {t.train_size for t in trials} == {TRAIN}
    assert TRAIN != DEV


def test_planning_follows_the_order_of_the_parameters(parameters):
    tasks = [t.task for t in experiments.plan("progressive", {**parameters, "tasks": ["sst2", "cola"]})]
    assert tasks == sorted(tasks, reverse=True)


@pytest.mark.parametrize("name", ["model", "tasks", "seeds", "max_length", "directions", "preserved_layers"])
def test_a_missing_parameter_is_named(parameters, name):
    del parameters[name]
    with pytest.raises(InvalidValue, match=f"parameter '{name}' is missing; give it in the profile or with -p"):
        experiments.plan("progressive", parameters)


def test_unknown_experiment():
    with pytest.raises(UnknownName, match="unknown experiment 'nonesuch'; choose one of: progressive"):
        experiments.plan("nonesuch", {})


def test_a_size_beyond_the_data_stops_the_plan(parameters):
    with pytest.raises(InvalidValue, match=f"train size {TRAIN + 1} is not possible for 'cola'"):
        experiments.plan("progressive", {**parameters, "train_sizes": [8, TRAIN + 1]})
