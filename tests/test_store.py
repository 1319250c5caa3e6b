"""The store: what is written is whole, what cannot be trusted is set aside, and nothing is ever deleted."""

from __future__ import annotations

import dataclasses
import errno
import json
import multiprocessing
import os
import shutil
import stat
import warnings
from pathlib import Path

import pandas as pd
import pytest
from conftest import result_of, some_trial
from hypothesis import given
from hypothesis import strategies as st

from companion import table
from companion.errors import StoreUnavailable
from companion.store import Claims, Result, SetAside, Store


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


def files(store: Store) -> list[Path]:
    return sorted(p.relative_to(store.folder) for p in store.folder.rglob("*") if p.is_file())


def failing(number: int):
    """What fails as the system does with this number."""

    def fail(*_):
        raise OSError(number, os.strerror(number))

    return fail


# --- writing and reading --------------------------------------------------------------------------------------------


def test_reading_a_store_that_does_not_exist_finds_nothing_and_makes_nothing(store):
    assert store.get(some_trial()) is None
    assert store.failure(some_trial()) is None
    assert list(store) == []
    assert not store.folder.exists()


def test_a_result_comes_back_as_it_was(store):
    result = result_of(some_trial(reinitialized=(1, 2), protocol="released"), 0.75)
    store.put(result)
    again = store.get(result.trial)
    assert again.trial == result.trial
    assert again.outcome == {**result.outcome, "loss_curve": [0.7, 0.5]}
    assert again.provenance == result.provenance
    assert list(store) == [again]


def test_where_and_how_results_are_kept(store):
    trial = some_trial()
    store.put(result_of(trial))
    assert files(store) == [Path(trial.id[:2], f"{trial.id}.json")]
    content = json.loads(store.path(trial.id).read_text())
    assert content.keys() == {"format", "id", "trial", "outcome", "provenance", "checksum"}
    assert content["id"] == trial.id
    assert content["trial"] == {**dataclasses.asdict(trial), "reinitialized": [], "permutation": []}


@given(score=st.floats(-1, 1), seed=st.integers(0, 10**9), failure=st.text(max_size=20))
def test_any_result_survives(tmp_path_factory, score, seed, failure):
    store = Store(tmp_path_factory.mktemp("store"))
    result = result_of(some_trial(seed=seed), score, failure=failure)
    store.put(result)
    assert store.get(result.trial).outcome["score"] == score
    assert store.get(result.trial).outcome["failure"] == failure


def test_failures_are_counted_and_forgotten_with_a_result(store):
    trial = some_trial()
    store.put_failure(trial, "first")
    store.put_failure(trial, "second")
    assert store.failure(trial)["cause"] == "second"
    assert store.failure(trial)["attempts"] == 2
    assert store.get(trial) is None
    assert list(store) == []
    store.put(result_of(trial))
    assert store.failure(trial) is None


def test_copying_two_stores_together_merges_them(tmp_path):
    one, other = Store(tmp_path / "one"), Store(tmp_path / "other")
    for seed in range(6):
        (one if seed < 4 else other).put(result_of(some_trial(seed=seed)))
    one.put(result_of(some_trial(seed=4)))  # in both
    shutil.copytree(other.folder, one.folder, dirs_exist_ok=True)
    assert sorted(result.trial.seed for result in one) == list(range(6))


# --- files that cannot be trusted -----------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    path.write_text(path.read_text()[:-40])


def empty(path: Path) -> None:
    path.write_text("")


def binary(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")


def other_score(path: Path) -> None:
    path.write_text(path.read_text().replace('"score": 0.5', '"score": 0.9'))


def other_seed(path: Path) -> None:
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))


def foreign_json(path: Path) -> None:
    path.write_text('[{"score": 1.0}]')


def no_checksum(path: Path) -> None:
    content = json.loads(path.read_text())
    del content["checksum"]
    path.write_text(json.dumps(content))


def unknown_field(path: Path) -> None:
    content = json.loads(path.read_text())
    content["trial"]["warmup"] = 1
    path.write_text(json.dumps(content))


def another_trials(path: Path) -> None:
    elsewhere = Store(path.parent / "elsewhere")
    elsewhere.put(result_of(some_trial(seed=1)))
    shutil.copy(elsewhere.path(some_trial(seed=1).id), path)
    shutil.rmtree(elsewhere.folder)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (truncate, "it is not a result"),
        (empty, "it is not a result"),
        (binary, "it cannot be read"),
        (other_score, "its content was changed"),
        (other_seed, "its content was changed"),
        (foreign_json, "it is not a result"),
        (no_checksum, "it is not a result"),
        (unknown_field, "it is not a result"),
        (another_trials, "it is not the result of the trial it is named after"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_cannot_be_trusted_is_set_aside_with_a_warning(store, damage, reason):
    trial, good = some_trial(), some_trial(seed=5)
    for each in (trial, good):
        store.put(result_of(each))
    damage(store.path(trial.id))
    damaged = store.path(trial.id).read_bytes()
    with pytest.warns(SetAside, match=f"{trial.id}.json was moved to .*{reason}"):
        assert store.get(trial) is None
    assert (store.folder / "set-aside" / f"{trial.id}.json").read_bytes() == damaged
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.get(trial) is None
        assert [result.trial for result in store] == [good]


def test_setting_aside_never_overwrites(store):
    trial = some_trial()
    for text in ("one", "two", "three"):
        store.put(result_of(trial))
        store.path(trial.id).write_text(text)
        with pytest.warns(SetAside):
            assert store.get(trial) is None
    assert sorted(p.read_text() for p in (store.folder / "set-aside").iterdir()) == ["one", "three", "two"]


def test_what_may_not_be_read_stays_where_it_is(store, monkeypatch):
    """As a colleague's results are in a folder that both may write, or any result while a network disk is away."""
    store.put(result_of(some_trial()))
    path = store.path(some_trial().id)
    for number in (errno.EACCES, errno.ESTALE):
        wanted = rf"the result .*{path.name} cannot be read \({os.strerror(number)}\); make it readable or name another"
        with monkeypatch.context() as patch, pytest.raises(StoreUnavailable, match=wanted):
            patch.setattr(Path, "read_text", failing(number))
            store.get(some_trial())
    assert store.get(some_trial()).trial == some_trial()


def test_results_are_readable_to_those_whom_the_umask_lets(store):
    before = os.umask(0o027)
    try:
        store.put(result_of(some_trial()))
    finally:
        os.umask(before)
    assert stat.S_IMODE(store.path(some_trial().id).stat().st_mode) == 0o640


def test_iterating_sets_aside_too(store):
    store.put(result_of(some_trial()))
    truncate(store.path(some_trial().id))
    with pytest.warns(SetAside):
        assert list(store) == []


def test_a_damaged_note_of_failure_counts_as_none(store):
    store.put_failure(some_trial(), "cause")
    truncate(store.folder / "failed" / f"{some_trial().id}.json")
    assert store.failure(some_trial()) is None


# --- disks that will not --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.ENOSPC, "free some space and run again"), (errno.EROFS, "name another with --store")]
)
def test_a_write_that_fails_leaves_nothing_behind_and_loses_nothing(store, monkeypatch, step, number, remedy):
    kept = some_trial(seed=1)
    store.put(result_of(kept))
    before = files(store)

    monkeypatch.setattr(os, step, failing(number))
    with pytest.raises(StoreUnavailable, match=f"cannot be written .*{os.strerror(number)}.*{remedy}"):
        store.put(result_of(some_trial()))
    with pytest.raises(StoreUnavailable):
        store.put(result_of(kept, score=0.9))
    assert files(store) == before
    assert store.get(kept).outcome["score"] == 0.5


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_write_leaves_nothing_behind(store, monkeypatch, error):
    def stop(*_):
        raise error

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(error):
        store.put(result_of(some_trial()))
    assert files(store) == []


def test_values_that_are_not_json_leave_nothing_behind(store):
    with pytest.raises(ValueError, match="JSON compliant"):
        store.put(result_of(some_trial(), score=float("nan")))
    assert files(store) == []


def test_a_full_disk(tmp_path):
    """A real one: a file system of 64 kB. Results are stored until it is full, and those stay readable."""
    mount = tmp_path / "small"
    mount.mkdir()
    if os.system(f"mount -t tmpfs -o size=64k tmpfs {mount} 2>/dev/null"):
        pytest.skip("mounting a small file system needs more rights")
    try:
        store, stored = Store(mount / "store"), 0
        with pytest.raises(StoreUnavailable, match="No space left on device.*; free some space and run again"):
            for seed in range(100):
                store.put(result_of(some_trial(seed=seed)))
                stored += 1
        assert 1 < stored < 100
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert len(list(store)) == stored
        assert not list(store.folder.rglob("*.tmp"))
    finally:
        os.system(f"umount {mount}")


def test_a_file_where_the_folder_should_be(tmp_path):
    store = Store(tmp_path / "file")
    store.folder.write_text("mine")
    with pytest.raises(StoreUnavailable, match="cannot be written .*; make it writable or name another with --store"):
        store.check_writable()
    with pytest.raises(StoreUnavailable):
        store.put(result_of(some_trial()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.get(some_trial()) is None
        assert list(store) == []
    assert store.folder.read_text() == "mine"


def test_a_folder_without_permission(store):
    store.folder.mkdir()
    store.folder.chmod(0o555)
    try:
        if os.access(store.folder, os.W_OK):
            pytest.skip("this user may write anywhere")
        with pytest.raises(StoreUnavailable, match="Permission denied"):
            store.check_writable()
    finally:
        store.folder.chmod(0o755)


# --- many writers ---------------------------------------------------------------------------------------------------


def write_many(folder: Path, worker: int) -> None:
    """Forty results: half of them the same ones that every worker writes."""
    store = Store(folder)
    for i in range(20):
        store.put(result_of(some_trial(seed=i)))
        store.put(result_of(some_trial(seed=1000 * (worker + 1) + i)))


def test_many_processes_may_write_at_once_while_another_reads(store):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=write_many, args=(store.folder, n)) for n in range(4)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a reader never sees half a file
        for worker in workers:
            worker.start()
        while any(worker.is_alive() for worker in workers):
            list(store)
        assert [worker.exitcode for worker in workers] == [0] * 4
        assert len(list(store)) == 20 + 4 * 20
    assert all(path.suffix == ".json" for path in files(store))


def test_a_result_is_a_plain_record(store):
    store.put(result_of(some_trial()))
    assert isinstance(store.get(some_trial()), Result)
    with pytest.raises(dataclasses.FrozenInstanceError):
        store.get(some_trial()).outcome = {}


def test_publishing_adds_to_what_is_published_and_drops_what_is_no_longer_planned(tmp_path):
    def rows(*trials, score=0.5):
        return table.tidy([result_of(t, score) for t in trials], experiment="progressive", profile="p")

    mine, theirs, gone = (some_trial(seed=seed) for seed in range(3))
    table.publish(rows(mine, theirs, gone, score=0.25), "p", tmp_path)
    planned = {("progressive", mine.id), ("progressive", theirs.id)}
    with pytest.warns(table.RowsDropped, match="1 of 3 published rows of profile 'p' are dropped: its grid no longer"):
        both = table.with_published(rows(mine), "p", planned, tmp_path)
    assert dict(zip(both["trial_id"], both["score"], strict=True)) == {mine.id: 0.5, theirs.id: 0.25}
    pd.DataFrame({"trial_id": ["x"]}).to_parquet(tmp_path / "old.parquet")
    with pytest.warns(table.RowsDropped, match="no row of the published table is kept: .*old.parquet has no column"):
        assert table.with_published(rows(mine), "old", planned, tmp_path).equals(rows(mine))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert table.with_published(rows(mine), "nothing-published", planned, tmp_path).equals(rows(mine))
        assert len(table.with_published(rows(mine, gone), "p", {*planned, ("progressive", gone.id)}, tmp_path)) == 3


def test_a_trial_published_in_one_experiment_is_published_in_all_that_plan_it(tmp_path):
    def rows(experiment, *trials):
        return table.tidy([result_of(t, 0.5) for t in trials], experiment=experiment, profile="p")

    theirs, mine, not_run = (some_trial(seed=seed) for seed in range(3))
    table.publish(rows("progressive", theirs), "p", tmp_path)
    planned = {(name, t.id) for name in ("progressive", "permutation") for t in (theirs, mine, not_run)}
    whole = table.with_published(rows("permutation", mine), "p", planned, tmp_path)
    expected = pd.concat([rows(name, theirs, mine) for name in ("permutation", "progressive")])
    order = ["experiment", "trial_id"]
    pd.testing.assert_frame_equal(*(t.sort_values(order, ignore_index=True) for t in (whole, expected)))


# --- what stands in a store's place ---------------------------------------------------------------------------------


def test_what_would_be_overwritten_for_want_of_a_place_stops_before_anything_runs(tmp_path):
    store, trial = Store(tmp_path / "store"), some_trial()
    store.put(result_of(trial))
    store.path(trial.id).write_text("precious")
    (store.folder / "set-aside").write_text("a file")
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        store.check_writable()
    (store.folder / "set-aside").unlink()
    (store.folder / "set-aside").symlink_to(tmp_path)
    with pytest.raises(StoreUnavailable, match="set-aside in it is a link to somewhere else"):
        store.check_writable()
    assert store.path(trial.id).read_text() == "precious"


@pytest.mark.parametrize(
    ("name", "what"),
    [("failed", "a file and no folder"), ("set-aside", "a file and no folder"), (".claims", "a folder")],
)
def test_what_is_in_the_way_of_a_sweep_is_named_before_anything_runs(name, what, store):
    store.folder.mkdir()
    (store.folder / name).mkdir() if what == "a folder" else (store.folder / name).write_text("mine")
    with pytest.raises(StoreUnavailable, match=rf"\({name} in it is {what}.*; move that away or name another store"):
        store.check_writable()


def test_what_is_in_the_way_of_a_file_is_named_and_left_there(store):
    trial, other = some_trial(), some_trial(seed=1)
    failed = store.folder / "failed" / f"{trial.id}.json"
    failed.mkdir(parents=True)
    for write in (lambda: store.put_failure(trial, "x"), lambda: store.forget_failure(trial)):
        with pytest.raises(StoreUnavailable, match=rf"\(failed/{trial.id}.json in it is a folder .*; move that away"):
            write()
    with pytest.raises(StoreUnavailable, match=f"failed/{trial.id}.json"):
        store.put(result_of(trial))
    assert store.get(trial).outcome["score"] == 0.5  # it is stored all the same
    store.path(other.id).parent.write_text("mine")
    with pytest.raises(StoreUnavailable, match=rf"\({other.id[:2]} in it is a file and no folder"):
        store.put(result_of(other))
    store.path(other.id).parent.unlink()
    store.path(other.id).mkdir(parents=True)
    with pytest.raises(StoreUnavailable, match=rf"\({other.id[:2]}/{other.id}.json in it is a folder"):
        store.put(result_of(other))
    assert failed.is_dir()


def test_claims_make_no_file_at_the_other_end_of_a_link(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / ".claims").symlink_to(tmp_path / "outside")
    claims = Claims(tmp_path / "store")
    assert claims.take(some_trial())
    claims.close()
    assert not (tmp_path / "outside").exists()


def test_a_trial_with_fewer_than_no_attempts_is_not_tried_forever(tmp_path):
    store, trial = Store(tmp_path / "store"), some_trial()
    store.put_failure(trial, "x")
    path = store.folder / "failed" / f"{trial.id}.json"
    path.write_text(path.read_text().replace('"attempts": 1', '"attempts": -1000000000'))
    store.put_failure(trial, "x")
    assert store.attempts(trial) == 1


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [("outcome", "regularization", []), ("outcome", "regularization", ""), ("outcome", "seed", 9),
     ("provenance", "score", 5)],
)  # fmt: skip
def test_a_result_that_would_say_something_else_in_the_table_is_set_aside(part, name, value, tmp_path):
    store, result = Store(tmp_path / "store"), result_of(some_trial())
    getattr(result, part)[name] = value
    store.put(result)
    with pytest.warns(SetAside, match="it is not a result"):
        assert store.get(result.trial) is None
