"""What a notebook asks for: its parameters checked, its trials run or read, its tables."""

from __future__ import annotations

import warnings

import pytest
from conftest import result_of

from companion import comparisons, experiments, finetune, study, table
from companion.errors import InvalidValue, StoreUnavailable, TrialFailed, UnknownName
from companion.store import Store


@pytest.fixture
def parameters(tiny_bert, tiny_glue, tmp_path) -> dict:
    shared = {
        "model": tiny_bert,
        "data_dir": str(tiny_glue),
        "tasks": ["cola"],
        "train_sizes": [16],
        "seeds": [0, 1, 2],
    }
    shared |= {"learning_rate": 1e-3, "batch_size": 8, "epochs": 1, "max_length": 64, "directions": ["suffix"]}
    shared |= {"precision": "fp32"}
    running = {"profile": "tiny", "published": "tiny", "store": "", "rerun": False, "executor": "local"}
    return {**shared, **running, "preserved_layers": {"described": [0, 4]}}


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """A function that publishes results as profile ``tiny``, away from the checkout."""
    real = table.published_or_empty
    monkeypatch.setattr(table, "published_or_empty", lambda profile: real(profile, tmp_path / "results"))

    def go(results) -> None:
        rows = table.tidy(results, experiment="progressive", profile="tiny")
        table.publish(rows, "tiny", tmp_path / "results")

    return go


def planned(parameters) -> list:
    return experiments.plan("progressive", parameters)


# --- parameters -----------------------------------------------------------------------------------------------------


def namespace(parameters, **extra) -> dict:
    """A notebook's variables after its parameters cells: also what the kernel and the notebook's imports put there."""
    kernel = {"__name__": "__main__", "_": "", "_i1": "x", "In": [""], "Out": {}, "get_ipython": print, "exit": print}
    return {**kernel, "conduct": study.conduct, **parameters, **extra}


def test_parameters_are_picked_out_of_a_notebooks_variables(parameters):
    assert study.read_parameters("progressive", namespace(parameters)) == parameters


def test_a_misspelt_parameter_is_an_error(parameters):
    with pytest.raises(UnknownName, match="unknown parameter 'sedes'; choose one of: "):
        study.read_parameters("progressive", namespace(parameters, sedes=[1]))


def test_a_parameter_left_out_is_an_error(parameters):
    del parameters["seeds"]
    with pytest.raises(InvalidValue, match="parameter 'seeds' is missing"):
        study.read_parameters("progressive", namespace(parameters))


@pytest.mark.parametrize(("name", "value"), [("rerun", "no"), ("rerun", 1), ("store", None), ("profile", 3)])
def test_a_parameter_of_the_wrong_type_is_an_error(parameters, name, value):
    with pytest.raises(InvalidValue, match=f"parameter '{name}' is {value!r}; give a "):
        study.read_parameters("progressive", namespace({**parameters, name: value}))


# --- running and reading --------------------------------------------------------------------------------------------


def test_rerun_runs_what_is_missing_and_no_rerun_runs_nothing(parameters, tmp_path, publish, monkeypatch):
    Store(tmp_path / "store").put(result_of(planned(parameters)[0], score=0.125, metric="matthews"))
    first = study.conduct("progressive", {**parameters, "rerun": True})
    assert (first.report.ran, first.report.reused) == (5, 1)
    assert len(first.this_run) == 6
    assert first.this_run["score"].iloc[0] == 0.125
    monkeypatch.setattr(finetune, "finetune", None)
    second = study.conduct("progressive", parameters)
    assert second.report is None
    assert second.this_run.equals(first.this_run)
    assert second.table.equals(first.this_run)


def test_trials_outside_the_plan_are_not_shown(parameters, tmp_path, publish):
    for trial in planned({**parameters, "seeds": [0, 7]}):
        Store(tmp_path / "store").put(result_of(trial))
    shown = study.conduct("progressive", parameters)
    assert shown.this_run["seed"].tolist() == [0, 0]


def test_nothing_stored_and_nothing_published_is_an_error(parameters, publish):
    with pytest.raises(StoreUnavailable, match="no trial of 'progressive' is stored in .* with rerun set to True"):
        study.conduct("progressive", parameters)


def test_a_run_whose_trials_all_fail_says_why_and_how_to_try_again(parameters, publish, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("a bug\nof two lines")

    told = []
    monkeypatch.setattr(finetune, "finetune", broken)
    monkeypatch.setattr(warnings, "showwarning", lambda *warned: told.append(warnings.formatwarning(*warned[:4])))
    usual = warnings.formatwarning
    for _ in range(2):  # the second time they are left alone
        with pytest.raises(TrialFailed) as caught:
            study.conduct("progressive", {**parameters, "rerun": True})
        assert str(caught.value) == (
            "all 6 trials of 'progressive' failed, the last because RuntimeError: a bug of two lines; "
            "see `companion status`, and try them again with `companion run --retry-failed`."
        )
    remedy = "; see `companion status`, and try them again with `companion run --retry-failed`.\n"
    assert told == [
        f"warning: 6 of 6 trials failed 3 times, the last because RuntimeError: a bug of two lines{remedy}",
        f"warning: 6 of 6 trials were left alone because they had failed 3 times before{remedy}",
    ]
    assert warnings.formatwarning is usual


def test_published_trials_alone_are_shown(parameters, publish):
    publish(map(result_of, planned(parameters)))
    shown = study.conduct("progressive", parameters)
    assert shown.this_run.empty
    assert len(shown.table) == len(shown.published) == 6


def test_each_trial_is_in_the_table_once(parameters, tmp_path, publish):
    trials = planned(parameters)
    publish(result_of(t, 0.5) for t in trials[:4])
    for trial in trials[2:]:
        Store(tmp_path / "store").put(result_of(trial, 0.5))
    shown = study.conduct("progressive", parameters)
    assert (len(shown.published), len(shown.this_run), len(shown.table)) == (4, 4, 6)
    assert sorted(shown.table["trial_id"]) == sorted(t.id for t in trials)
    found = comparisons.agreement(shown.this_run, shown.published)
    assert (found.same_trials, found.equal) == (2, 2)


@pytest.mark.parametrize("tweak", [{"learning_rate": 5e-4}, {"batch_size": 4}, {"epochs": 2}, {"max_length": 32}])
def test_a_tweaked_run_is_never_averaged_with_the_published_trials(tweak, parameters, tmp_path, publish):
    publish(result_of(t, 0.5) for t in planned(parameters))
    tweaked = {**parameters, **tweak, "train_sizes": [8, 16]}
    for trial in planned(tweaked):
        Store(tmp_path / "store").put(result_of(trial, 0.9))
    shown = study.conduct("progressive", tweaked)
    assert len(shown.this_run) == 12
    # at 16 examples the published rows, at 8 (where nothing is published) this run's
    assert shown.table.groupby("train_size")["score"].unique().map(list).to_dict() == {8: [0.9], 16: [0.5]}
    assert comparisons.benefit(shown.table)["n"].tolist() == [3, 3]


def test_a_run_in_another_precision_is_not_drawn_with_the_published_trials_at_any_size(parameters, tmp_path, publish):
    publish(result_of(t, 0.5) for t in planned(parameters))
    other = {**parameters, "precision": "bf16", "train_sizes": [8, 16]}
    for trial in planned(other):
        Store(tmp_path / "store").put(result_of(trial, 0.9))
    shown = study.conduct("progressive", other)
    assert len(shown.this_run) == 12
    assert set(shown.table["precision"]) == {"fp32"}
    alone = study.conduct("progressive", {**other, "published": "nothing"})
    assert set(alone.table["precision"]) == {"bf16"}


def test_further_seeds_of_the_same_settings_are_averaged_with_the_published_trials(parameters, tmp_path, publish):
    publish(map(result_of, planned(parameters)))
    for trial in planned({**parameters, "seeds": [3, 4]}):
        Store(tmp_path / "store").put(result_of(trial))
    shown = study.conduct("progressive", {**parameters, "seeds": [3, 4]})
    assert comparisons.benefit(shown.table)["n"].tolist() == [5]
