"""Trials found by id in the store and in the published tables, rerun and compared."""

from __future__ import annotations

import json
import math

import pandas as pd
import pytest
from conftest import result_of, some_trial

from companion import replay, sweep, table
from companion.cli import main
from companion.errors import Interrupted, InvalidValue, TableUnavailable
from companion.store import Store


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def published(monkeypatch, plan_trial, tiny_glue, tmp_path):
    """A published table of six trials that were really run, of every kind of intervention."""
    changes = [{}, {"reinitialized": (1, 3), "protocol": "released"}, {"permutation": (3, 2, 1, 0)},
               {"probe_layer": 2}, {"probe_layer": 1, "pooling": "mean", "control": True},
               {"reinitialized": (0,), "random_rate": 5.0}]  # fmt: skip
    trials, folder = [plan_trial(**change) for change in changes], Store(tmp_path / "elsewhere")
    sweep.run(trials, folder, data_dir=tiny_glue, executor="local", progress=False)
    rows = table.tidy([folder.get(t) for t in trials], experiment="progressive", profile="tiny")
    monkeypatch.setattr(table, "published_profiles", lambda: ["tiny"])
    monkeypatch.setattr(table, "published", lambda name: rows)
    monkeypatch.setattr(replay.sweep, "run", in_this_process(sweep.run))
    return trials, rows


def in_this_process(run):
    return lambda *given, **named: run(*given, **{**named, "executor": "local", "progress": False})


@pytest.mark.parametrize("profile", [p for p in table.published_profiles() if p in ("pocket", "minilm")])
def test_every_published_row_says_all_that_its_trial_is(profile):
    rows = table.published(profile).drop_duplicates("trial_id")
    assert [table.trial_of(row).id for _, row in rows.iterrows()] == rows["trial_id"].tolist()


def test_a_row_that_was_edited_is_not_rerun(published):
    _, rows = published
    with pytest.raises(TableUnavailable, match="describes trial .*; restore the table"):
        table.trial_of({**rows.iloc[0].to_dict(), "seed": 7})


@pytest.mark.parametrize(
    "change",
    [{"permutation": "x"}, {"reinitialized": "3-"}, {"protocol": "evil"}, {"layers": 0}, {"permutation": float("nan")}],
)
def test_a_row_of_no_possible_trial_ends_in_a_sentence(published, change):
    _, rows = published
    with pytest.raises(TableUnavailable, match="describes no possible trial; restore the table"):
        table.trial_of({**rows.iloc[0].to_dict(), **change})


def test_a_stored_trial_is_found_by_the_beginning_of_its_id(store, published):
    trial = some_trial()
    store.put(result_of(trial, 0.25))
    known = replay.find(trial.id[:6], store)
    assert (known.trial, known.score, known.source) == (trial, 0.25, f"store {store.folder}")
    trials, rows = published
    known = replay.find(trials[1].id, store)
    assert (known.trial, known.score, known.source) == (trials[1], rows["score"][1], "results/tiny")


@pytest.mark.parametrize("beginning", ["", "abc", "../../x", "ABCD", "g" * 16, "0" * 17, "*" * 8])
def test_what_is_no_id(beginning, store):
    with pytest.raises(InvalidValue, match="is no trial id; give its 16 hex digits"):
        replay.find(beginning, store)


def test_ids_that_are_unknown_or_stand_for_several(store, published, monkeypatch):
    with pytest.raises(InvalidValue, match="no trial '0000' is stored in .* or published"):
        replay.find("0000", store)
    trials, _ = published
    monkeypatch.setattr(replay, "_published", lambda beginning: {trials[0].id: 1, trials[1].id: 2})
    with pytest.raises(InvalidValue, match="2 trials begin with 'abcd'; choose one of: "):
        replay.find("abcd", store)


def test_reruns_on_this_machine_are_equal_to_the_last_bit(published, tiny_glue):
    sample = replay.sample(["tiny"], 10, seed=0)
    assert len(sample) == 6
    outcomes = replay.rerun(sample, data_dir=tiny_glue)
    assert all(each.equal and each.same_machine and not each.broken for each in outcomes)
    assert replay.summary(outcomes).startswith("6 of 6 reruns are equal to the last bit (6 of 6 made on the same kind")


def test_samples_are_drawn_at_random_and_can_be_drawn_again(published):
    first, again = (replay.sample(["tiny"], 3, seed=5) for _ in range(2))
    assert [k.trial.id for k in first] == [k.trial.id for k in again]
    assert len({tuple(k.trial.id for k in replay.sample(["tiny"], 3, seed=s)) for s in range(8)}) > 1
    for size, seed in ((0, 1), (1, -1), (1, 2**32)):
        with pytest.raises(InvalidValue):
            replay.sample(["tiny"], size, seed)


def test_a_difference_is_told_and_counts_where_machines_are_equal(published, tiny_glue, store, capsys, on_cpu):
    trials, rows = published
    rows.loc[0, "score"] = 0.987
    argv = ["trial", "--id", trials[0].id, "--rerun", "--data-dir", str(tiny_glue), "--store", str(store.folder)]
    assert main(argv) == 1
    assert "0.987000 in results/tiny, " in capsys.readouterr().out
    rows["processor"] = "another"
    assert main([*argv, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["id"], shown["equal"], shown["same_machine"]) == (trials[0].id, False, False)
    assert list(store) == []


def test_what_is_known_of_a_trial_is_shown(published, capsys):
    trials, rows = published
    assert main(["trial", "--id", trials[2].id[:8], "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["id"], shown["score"], shown["permutation"]) == (trials[2].id, rows["score"][2], "3,2,1,0")
    assert main(["trial", "--id", trials[2].id]) == 0
    assert "permutation: 3,2,1,0" in capsys.readouterr().out


def test_verify_reruns_a_sample_and_says_how_to_repeat_it(published, tiny_glue, capsys):
    argv = ["results", "verify", "--sample", "2", "--draw", "3", "--data-dir", str(tiny_glue)]
    assert main(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all("equal (same kind of machine)" in line for line in lines[:2])
    assert lines[2].endswith("Sample 3 of pocket: --draw 3 repeats it.")


def test_an_interrupted_rerun_says_that_nothing_is_kept(published, tiny_glue, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    trials, _ = published
    monkeypatch.setattr(sweep, "work", interrupted)
    assert main(["results", "verify", "--draw", "3", "--data-dir", str(tiny_glue)]) == 130
    said = (
        "interrupted when 0 of 6 trials were compared, and none of it is kept; the same with --draw 3 begins it again."
    )
    assert capsys.readouterr().err == f"companion: {said}\n"
    assert main(["trial", "--id", trials[0].id, "--rerun", "--data-dir", str(tiny_glue)]) == 130
    assert capsys.readouterr().err == "companion: interrupted.\n"


def test_what_was_compared_before_an_interrupt_is_told(published, capsys, monkeypatch):
    """Of a long sample it may be most, and is worth knowing."""

    def some_then_stopped(trials, store, **_):
        for trial in trials[:2]:
            store.put(result_of(trial, 0.25))
        raise Interrupted("interrupted", "go on")

    monkeypatch.setattr(replay.sweep, "run", some_then_stopped)
    assert main(["results", "verify", "--draw", "3"]) == 130
    out, err = capsys.readouterr()
    assert [line.count("0.250000 now, difference") for line in out.splitlines()] == [1, 1]
    assert "when 2 of 6 trials were compared" in err


def test_a_rerun_that_fails_is_broken(published, monkeypatch):
    known = replay.sample(["tiny"], 1, seed=0)
    monkeypatch.setattr(replay.sweep, "run", lambda trials, store, **_: store.put_failure(trials[0], "no memory"))
    (outcome,) = replay.rerun(known)
    assert outcome.broken
    assert str(outcome).endswith("failed, no memory")
    assert "and 1 failed." in replay.summary([outcome])


# --- what counts as equal -------------------------------------------------------------------------------------------


def compared(score: float, *, device: str = "cpu", same_machine: bool = True) -> replay.Comparison:
    """A trial known to score 0.5, and its rerun."""
    known = replay.Known(some_trial(), "accuracy", 0.5, (device, "p", 1), "results/tiny", {})
    return replay.Comparison(known, score, same_machine)


def test_a_difference_in_the_last_bit_is_broken_on_the_same_kind_of_cpu_machine_alone():
    off = math.nextafter(0.5, 1.0)
    assert compared(off).broken
    assert not compared(0.5).broken
    assert not compared(off, same_machine=False).broken
    assert not compared(off, device="NVIDIA H100").broken


def test_the_largest_difference_is_told_whichever_score_is_larger():
    assert "the largest difference is 0.250000" in replay.summary([compared(0.25), compared(0.6)])


def test_a_trial_of_several_experiments_is_drawn_once(monkeypatch):
    rows = table.tidy([result_of(some_trial(seed=s)) for s in range(3)], experiment="progressive", profile="tiny")
    twice = pd.concat([rows, rows.assign(experiment="data_scaling")])
    monkeypatch.setattr(table, "published", lambda name: twice)
    assert sorted(known.trial.seed for known in replay.sample(["tiny"], 9, seed=0)) == [0, 1, 2]
