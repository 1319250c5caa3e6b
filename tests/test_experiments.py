"""Experiments: a notebook's parameters become the paper's grids, each trial once."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest
from conftest import DEV, TRAIN, result_of

from companion import executors, experiments, finetune, table, tasks, tuning
from companion.errors import InvalidValue, TrialFailed, UnknownName


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


# --- the other experiments ------------------------------------------------------------------------------------------

BASES = 2 * 2 * 3  # tasks × train sizes × seeds
OWN = {  # a valid value for each experiment's own parameters
    "progressive": {"directions": ["suffix"], "preserved_layers": {"described": "all"}},
    "probing": {"probe_layers": "all", "poolings": ["first"], "protocols": ["described"], "control": False,
                "probe_epochs": 40},
    "data_scaling": {"preserved_layers": {"described": [0, 4]}},
    "localized": {"width": 2, "starts": "all", "variants": ["block", "inverse"], "protocols": ["described"]},
    "single_layer": {"which": "all", "protocols": ["described"]},
    "permutation": {"permutations": [1, 2, 3]},
    "learning_rate": {"preserved_layers": {"described": [0, 4]}, "random_rates": [1, 5]},
    "layernorm": {"preserved_layers": {"described": [0, 4]}},
    "small_data": {"preserved_layers": {"described": [0, 4]}},
    "initialization": {"preserved_layers": {"described": [0, 4]}, "epochs_factors": [1, 4]},
}  # fmt: skip


@pytest.fixture
def plan(parameters):
    """The trials of an experiment, and what they have besides task, train size and seed (one of each, in order)."""
    del parameters["directions"], parameters["preserved_layers"]

    def make(name, *told, **own):
        trials = experiments.plan(name, {**parameters, **OWN[name], **own})
        bases = Counter((t.task, t.train_size, t.seed) for t in trials)
        assert set(bases) == {(task, size, seed) for task in ("cola", "sst2") for size in (8, 16) for seed in range(3)}
        assert len({t.id for t in trials}) == len(trials)
        found = list(dict.fromkeys(tuple(getattr(t, field) for field in told) for t in trials))
        assert set(bases.values()) == {len(found)}  # each task, size and seed has all of them, once
        return found

    return make


def test_every_experiment_is_here():
    assert set(OWN) == set(experiments.EXPERIMENTS)


PROBE = ("protocol", "probe_layer", "pooling", "control", "learning_rate", "batch_size", "epochs")


def test_probing_reads_every_layer_with_both_poolings_and_control_labels(plan):
    asked = {"probe_layers": [0, 4], "poolings": ["first", "mean"], "protocols": ["described", "released"]}
    found = plan("probing", *PROBE, **asked, control=True)
    none = (None, None, None)
    logistic = {("described", k, p, c, *none) for k in (0, 4) for p in ("first", "mean") for c in (False, True)}
    # heads read the pooled first token and learn the task's labels alone, in probe_epochs epochs
    assert set(found) == logistic | {("released", k, "first", False, 1e-3, 8, 40) for k in (0, 4)}


def test_probing_all_layers_is_the_embeddings_and_each_layer(plan, parameters):
    found = plan("probing", *PROBE, "kind", "reinitialized", "permutation")
    assert found == [("described", k, "first", False, None, None, None, "probe", (), ()) for k in range(5)]
    assert plan("probing", *PROBE, probe_layers=[0, 1, 2, 3, 4, 4], poolings=["first"] * 2) == [f[:7] for f in found]
    single = {**parameters, **OWN["probing"], "tasks": ["cola"], "train_sizes": [8], "seeds": [0]}
    twice = experiments.plan("probing", {**single, "learning_rate": 1e-5, "epochs": 9, "probe_epochs": 1})
    assert experiments.plan("probing", single) == twice  # a logistic probe takes no steps


def test_probing_with_a_head_without_the_scripts_quirks(plan):
    found = plan("probing", *PROBE, protocols=["described+probe=head"], probe_layers=[2], control=True, probe_epochs=3)
    assert found == [("described+probe=head", 2, "first", False, 1e-3, 8, 3)]


@pytest.mark.parametrize("name", ["data_scaling", "small_data"])
def test_data_scaling_and_small_data_redraw_suffixes(name, plan):
    found = plan(name, "protocol", "reinitialized", preserved_layers={"described": [0, 3, 4], "released": [3, 4]})
    assert found == [
        ("described", (0, 1, 2, 3)), ("described", (3,)), ("described", ()), ("released", (3,)),
    ]  # fmt: skip


def test_localized_blocks_and_their_inverses(plan):
    # of width 2 the first block and the inverse of the last one are the same layers, and the other way round
    assert plan("localized", "reinitialized") == [((),), ((0, 1),), ((1, 2),), ((2, 3),), ((0, 3),), ((0, 1, 2, 3),)]


def test_localized_variants_of_any_width(plan):
    def sets(**own):
        return [layers for (layers,) in plan("localized", "reinitialized", **own)]

    whole = (0, 1, 2, 3)
    assert sets(variants=["block"]) == [(), (0, 1), (1, 2), (2, 3), whole]
    assert sets(variants=["inverse"]) == [(), (2, 3), (0, 3), (0, 1), whole]
    assert sets(variants=["block"], starts=[2, 2]) == [(), (2, 3), whole]
    assert sets(width=1) == [(), (0,), (1,), (2,), (3,), (1, 2, 3), (0, 2, 3), (0, 1, 3), (0, 1, 2), whole]
    assert sets(width=3) == [(), (0, 1, 2), (1, 2, 3), (3,), (0,), whole]
    assert sets(width=4) == [(), whole]


def test_localized_protocols_share_the_intact_model(plan):
    found = plan("localized", "protocol", "kind", variants=["block"], starts=[1], protocols=["described", "released"])
    assert found == [
        ("described", "intact"), ("described", "block"), ("described", "all"), ("released", "block"),
        ("released", "all"),
    ]  # fmt: skip


def test_single_layers_one_at_a_time(plan):
    assert plan("single_layer", "reinitialized") == [((),), ((0,),), ((1,),), ((2,),), ((3,),)]
    found = plan("single_layer", "protocol", "reinitialized", which=[3, 0, 3], protocols=["released", "described"])
    assert found == [
        ("described", ()), ("released", (3,)), ("released", (0,)), ("described", (3,)), ("described", (0,)),
    ]  # fmt: skip


def test_permutations_are_those_of_numpy_with_every_seed(plan):
    expected = [tuple(np.random.RandomState(s).permutation(4)) for s in (1, 2, 3)]
    found = plan("permutation", "permutation", "kind", "protocol", "reinitialized")
    assert found == [((), "intact", "described", ()), *((order, "permuted", "described", ()) for order in expected)]
    assert plan("permutation", "permutation", permutations=[3, 3]) == [((),), (expected[2],)]


def test_a_permutation_that_moves_nothing_is_the_intact_model(plan):
    still = next(s for s in range(1000) if list(np.random.RandomState(s).permutation(4)) == [0, 1, 2, 3])
    assert plan("permutation", "permutation", permutations=[still]) == [((),)]


def test_learning_rates_of_redrawn_layers(plan):
    keep = {"described": [2, 4], "released": [2]}
    found = plan("learning_rate", "protocol", "reinitialized", "random_rate", "learning_rate", preserved_layers=keep)
    # nothing is redrawn of the intact model: it has no other rate
    assert found == [
        ("described", (2, 3), 1.0, 1e-3), ("described", (2, 3), 5.0, 1e-3), ("described", (), 1.0, 1e-3),
        ("released", (2, 3), 1.0, 1e-3), ("released", (2, 3), 5.0, 1e-3),
    ]  # fmt: skip


def test_layernorm_is_reset_and_kept(plan):
    keep = {"described": [0, 4], "released": [2]}
    found = plan("layernorm", "protocol", "reinitialized", "keep_layernorm", preserved_layers=keep)
    assert found == [
        ("described", (0, 1, 2, 3), False), ("described", (0, 1, 2, 3), True), ("described", (), False),
        ("released", (2, 3), False), ("released", (2, 3), True),
    ]  # fmt: skip


def test_initializations_are_run_for_multiples_of_the_epochs(plan):
    keep = {"described": [2, 4], "described+weights=tiny": [2], "released": [4]}
    found = plan("initialization", "protocol", "reinitialized", "epochs", preserved_layers=keep, epochs=3)
    assert found == [
        ("described", (2, 3), 3), ("described", (2, 3), 12), ("described", (), 3), ("described", (), 12),
        ("described+weights=tiny", (2, 3), 3), ("described+weights=tiny", (2, 3), 12),
    ]  # fmt: skip


def test_experiments_share_trials(parameters):
    plans = {name: set(experiments.plan(name, {**parameters, **OWN[name]})) for name in OWN}
    intact = {t for t in plans["progressive"] if t.kind == "intact"}
    assert len(intact) == BASES
    assert all(intact <= trials for name, trials in plans.items() if name != "probing")
    assert plans["data_scaling"] == plans["small_data"] < plans["progressive"]
    assert {t for t in plans["layernorm"] if not t.keep_layernorm} == plans["small_data"]
    assert {t for t in plans["learning_rate"] if t.random_rate == 1.0} == plans["small_data"]
    assert {t for t in plans["single_layer"] if t.reinitialized == (3,)} <= plans["progressive"]
    assert not any(plans["probing"] & trials for name, trials in plans.items() if name != "probing")


def test_a_grid_changes_nothing_but_what_it_varies(parameters):
    varied = {"reinitialized", "permutation", "protocol", "probe_layer", "random_rate", "keep_layernorm", "epochs"}
    parameters |= {"tasks": ["cola"], "train_sizes": [8], "seeds": [1]}
    shared = {"model", "weights", "layers", "data", "max_length"}
    for name, own in OWN.items():
        trials = [dataclasses.asdict(t) for t in experiments.plan(name, {**parameters, **own})]
        same = shared if name == "probing" else set(trials[0]) - varied
        assert all(trial[field] == trials[0][field] for trial in trials for field in same), name


@pytest.mark.parametrize(("name", "missing"), [(name, own) for name in OWN for own in OWN[name]])
def test_each_own_parameter_is_required(name, missing, parameters):
    given = {**{k: v for k, v in parameters.items() if k not in OWN["progressive"]}, **OWN[name]}
    del given[missing]
    with pytest.raises(InvalidValue, match=f"parameter '{missing}' is missing; give it in the profile or with -p"):
        experiments.plan(name, given)


@pytest.mark.parametrize("name", OWN)
def test_settings_are_required_by_every_experiment(name, parameters):
    for missing in ("model", "tasks", "train_sizes", "seeds", "learning_rate", "batch_size", "epochs", "max_length"):
        given = {**parameters, **OWN[name]}
        del given[missing]
        with pytest.raises(InvalidValue, match=f"parameter '{missing}' is missing"):
            experiments.plan(name, given)


@pytest.mark.parametrize("name", OWN)
def test_parameters_of_other_experiments_are_passed_over(name, parameters):
    everything = {key: value for own in OWN.values() for key, value in own.items()} | {"title": "a page's", "x": None}
    given = {**parameters, **OWN[name]}
    assert experiments.plan(name, {**everything, **given}) == experiments.plan(name, given)


@pytest.mark.parametrize(
    ("name", "wrong", "sentence"),
    [
        ("probing", {"probe_layers": [5]}, "5 in parameter 'probe_layers' is not possible; give numbers from 0 to 4"),
        ("probing", {"probe_layers": [-1]}, "-1 in parameter 'probe_layers' is not possible"),
        ("probing", {"probe_layers": [True]}, "True in parameter 'probe_layers' is not possible"),
        ("probing", {"probe_layers": "some"}, "parameter 'probe_layers' is 'some'; give a list"),
        ("probing", {"probe_layers": 3}, "parameter 'probe_layers' is 3; give a list"),
        ("probing", {"poolings": ["max"]}, "unknown value of parameter 'poolings': 'max'; choose one of: first, mean"),
        ("probing", {"poolings": []}, r"parameter 'poolings' is \[\]; give a list with at least one value"),
        ("probing", {"protocols": ["x"]}, "unknown protocol 'x'; choose one of: described, released"),
        ("probing", {"protocols": "described"}, "parameter 'protocols' is 'described'; give a list"),
        ("probing", {"control": "yes"}, "parameter 'control' is 'yes'; give true or false"),
        ("probing", {"control": 1}, "parameter 'control' is 1; give true or false"),
        ("probing", {"protocols": ["released"], "probe_epochs": 0}, "epochs 0 is not possible; give a positive"),
        ("data_scaling", {"preserved_layers": [0, 4]}, r"parameter 'preserved_layers' is \[0, 4\]; give a mapping"),
        ("data_scaling", {"preserved_layers": {"described": [5]}}, r"5 in parameter 'preserved_layers\[described\]'"),
        ("small_data", {"preserved_layers": {}}, "parameter 'preserved_layers' is {}; give a mapping such as"),
        ("small_data", {"preserved_layers": {"x": "all"}}, "unknown protocol 'x'"),
        ("localized", {"width": 0}, "parameter 'width' is 0; give a whole number from 1 to 4"),
        ("localized", {"width": 5}, "parameter 'width' is 5; give a whole number from 1 to 4"),
        ("localized", {"width": "2"}, "parameter 'width' is '2'; give a whole number from 1 to 4"),
        ("localized", {"starts": [3]}, "3 in parameter 'starts' is not possible; give numbers from 0 to 2"),
        ("localized", {"variants": ["blocks"]}, "unknown value of parameter 'variants': 'blocks'; choose one of"),
        ("localized", {"protocols": []}, "parameter 'protocols' is"),
        ("single_layer", {"which": [4]}, "4 in parameter 'which' is not possible; give numbers from 0 to 3"),
        ("single_layer", {"which": "last"}, "parameter 'which' is 'last'; give a list"),
        ("single_layer", {"protocols": ["described+weights=huge"]}, "value of protocol field 'weights': 'huge'"),
        ("permutation", {"permutations": [-1]}, "permutation -1 is not possible; give whole numbers from 0 to"),
        ("permutation", {"permutations": [2**32]}, "permutation 4294967296 is not possible"),
        ("permutation", {"permutations": ["1"]}, "permutation '1' is not possible"),
        ("permutation", {"permutations": 3}, "parameter 'permutations' is 3; give a list"),
        ("learning_rate", {"random_rates": [0]}, "random rate 0 is not possible; give a number above 0"),
        ("learning_rate", {"random_rates": ["5"]}, "random rate '5' is not possible"),
        ("learning_rate", {"random_rates": []}, "parameter 'random_rates' is"),
        ("layernorm", {"preserved_layers": {"described": "most"}}, "is 'most'; give a list"),
        ("initialization", {"epochs_factors": [0]}, "epochs factor 0 is not possible; give whole numbers from 1 up"),
        ("initialization", {"epochs_factors": [1.5]}, "epochs factor 1.5 is not possible"),
        ("initialization", {"epochs_factors": 2}, "parameter 'epochs_factors' is 2; give a list"),
        ("initialization", {"epochs": 0}, "epochs 0 is not possible"),
    ],
)  # fmt: skip
def test_wrong_parameters_are_named(name, wrong, sentence, parameters):
    with pytest.raises((InvalidValue, UnknownName), match=sentence):
        experiments.plan(name, {**parameters, **OWN[name], **wrong})


# --- choosing the learning rate -------------------------------------------------------------------------------------


def test_a_rate_is_chosen_on_seeds_and_data_of_its_own(tiny_bert, monkeypatch):
    asked, settings = [], experiments.Settings(tiny_bert, ["pocket-cola"], [16], [0, 1, 2], 1e-3, 8, 1, 64)

    def run(trial, *, pool, **_):
        asked.append((trial, pool))
        return finetune.Outcome(**result_of(trial).outcome)

    def here(queue, work, workers, limit):
        assert workers == 3
        return executors.local(queue, work, workers, limit)

    monkeypatch.setattr(tuning, "processes", here)
    monkeypatch.setattr(finetune, "finetune", run)
    found = tuning.scores(settings, [1e-4, 1e-3], workers=3, progress=False)
    assert found[["learning_rate", "seed"]].to_numpy().tolist() == [[r, s] for r in (1e-4, 1e-3) for s in (1000, 1001)]
    assert {(trial.kind, trial.data, pool) for trial, pool in asked} == {
        ("intact", tasks.load("pocket-cola", None, tasks.TUNING).fingerprint, tasks.TUNING)
    }
    assert set(found["precision"]) == {"fp32"}
    for profile in table.published_profiles():
        assert not {*tuning.SEEDS} & {*table.published(profile)["seed"]}


def test_a_tuning_in_which_a_trial_fails_names_its_task_and_rate(tiny_bert, monkeypatch):
    def fills_the_memory(*_, **__):
        raise MemoryError("no room\nfor it")

    monkeypatch.setattr(tuning, "processes", executors.local)
    monkeypatch.setattr(finetune, "finetune", fills_the_memory)
    settings = experiments.Settings(tiny_bert, ["pocket-cola"], [16], [0], 1e-3, 8, 1, 64)
    wanted = "tuning on 'pocket-cola' with the learning rate 0.0005 failed: MemoryError: no room for it; free some"
    with pytest.raises(TrialFailed, match=wanted):
        tuning.scores(settings, [5e-4], workers=1, progress=False)
