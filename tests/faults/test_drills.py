"""Fault drills: a sweep killed twenty times, sweeps side by side, disks that are full or read-only, a clock that jumps.

Ctrl-C, SIGTERM and one kill -9 of a sweep with worker processes are in tests/test_sweep.py; damaged result files in
tests/test_store.py.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import subprocess
import time
import warnings
from pathlib import Path

import faulty
import pytest
from conftest import some_trial

from companion import provenance, sweep, table
from companion.errors import StoreUnavailable
from companion.store import SetAside, Store

KILLS = 20
OF_THE_RUN = ["seconds", "examples_per_second", "peak_memory_mb", "finished_at"]  # may differ between equal runs


@pytest.fixture(scope="module")
def fresh():
    """Processes that have torch at once, and have never used it: forked from a server that only imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["companion.finetune", "companion.probe", "companion.sweep", "companion.experiments"]
    )
    return context


@pytest.fixture
def start(fresh, tmp_path, tiny_glue, monkeypatch):
    """A function that starts a sweep of the given trials in a process of its own."""
    monkeypatch.setenv("EXECUTIONS", str(tmp_path / "executions"))
    started = []

    def go(trials):
        process = fresh.Process(
            target=run_with_log, args=(trials, tmp_path / "store", tiny_glue, tmp_path / "executions")
        )
        process.start()
        started.append(process)
        return process

    yield go
    for process in started:
        process.kill()
        process.join()


def run_with_log(trials, folder, data_dir, log) -> None:
    os.environ["EXECUTIONS"] = str(log)  # a server's children have its environment and not ours
    faulty.sweep_logged(trials, folder, data_dir)


def stored(folder: Path) -> dict[Path, tuple[int, int]]:
    """Result files, with what changes when one is written again."""
    return {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in folder.glob("[0-9a-f][0-9a-f]/*.json")}


def tidy(store: Store):
    rows = table.tidy(list(store), experiment="progressive", profile="tiny")
    return rows.drop(columns=OF_THE_RUN).sort_values("trial_id", ignore_index=True)


@pytest.mark.slow
def test_killed_twenty_times_at_random_moments(start, tmp_path, plan_trial, tiny_glue):
    trials = [plan_trial(seed=s, reinitialized=which) for s in range(16) for which in ((), (3,), (2, 3), (0, 1, 2, 3))]
    folder, chance, hits = tmp_path / "store", random.Random(0), 0
    for _ in range(KILLS):
        before = stored(folder)
        process = start(trials)
        more = len(before) + chance.randrange(4)
        while process.is_alive() and len(stored(folder)) < more:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.1))
        process.kill()
        process.join()
        hits += process.exitcode == -9
        after = stored(folder)
        assert {p: after[p] for p in before} == before, "a finished trial was lost or run again"
    last = start(trials)
    last.join(timeout=300)
    assert last.exitcode == 0
    assert hits >= KILLS / 2, "the sweep was over before it could be killed"
    executions = (tmp_path / "executions").read_text().split()
    assert set(executions) == {t.id for t in trials}
    assert len(executions) <= len(trials) + KILLS  # a kill costs the one trial that is running
    undisturbed = Store(tmp_path / "undisturbed")
    sweep.run(trials, undisturbed, data_dir=tiny_glue, executor="local", progress=False)
    assert tidy(Store(folder)).equals(tidy(undisturbed))


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_sweeps_side_by_side_share_the_trials_and_run_none_twice(count, start, tmp_path, plan_trial):
    trials = [plan_trial(seed=s, epochs=4) for s in range(24)]
    together = [start(trials) for _ in range(count)]
    for process in together:
        process.join(timeout=300)
    assert [process.exitcode for process in together] == [0] * count
    assert sorted((tmp_path / "executions").read_text().split()) == sorted(t.id for t in trials)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert {r.trial for r in Store(tmp_path / "store")} == set(trials)


@pytest.mark.slow
def test_a_sweep_that_starts_amid_a_group_of_probes_runs_none_of_them_twice(start, tmp_path, plan_trial):
    """What it finds stored of the group must not lead it to another claim than that of the sweep at work."""
    kinds = [(k, p, c) for k in range(5) for p in ("first", "mean") for c in (False, True)]
    trials = [plan_trial(seed=s, probe_layer=k, pooling=p, control=c) for s in range(4) for k, p, c in kinds]
    together = [start(trials)]
    for count in (2, len(kinds) + 2):
        while together[0].is_alive() and len(stored(tmp_path / "store")) < count:
            time.sleep(0.002)
        together.append(start(trials))
    for process in together:
        process.join(timeout=300)
    assert [process.exitcode for process in together] == [0] * 3
    assert sorted((tmp_path / "executions").read_text().split()) == sorted(t.id for t in trials)


# --- disks ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own in memory, and a function that mounts it again with other options."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(*options: str) -> bool:
        return not subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", place], capture_output=True).returncode

    if not mount("-o", "size=128k"):
        pytest.skip("mounting a small file system needs more rights")
    yield place, lambda option: mount("-o", f"remount,{option}")
    subprocess.run(["umount", place], check=False)


def test_a_disk_that_fills_up_stops_the_sweep_which_goes_on_when_there_is_space(small_disk, monkeypatch):
    place, remount = small_disk
    monkeypatch.setattr(sweep, "work", faulty.instant)
    trials, store = [some_trial(seed=s) for s in range(100)], Store(place / "store")
    with pytest.raises(StoreUnavailable, match="No space left on device.*; free some space and run again"):
        sweep.run(trials, store, executor="local", progress=False)
    before = stored(store.folder)
    assert 1 < len(before) < 100
    assert not list(store.folder.rglob("*.tmp"))
    assert remount("size=4m")
    report = sweep.run(trials, store, executor="local", progress=False)
    assert (report.ran, report.reused, report.failed) == (100 - len(before), len(before), 0)
    assert {p: stored(store.folder)[p] for p in before} == before


def test_a_read_only_store_is_read_and_nothing_is_run(small_disk, monkeypatch):
    place, remount = small_disk
    store, trials = Store(place / "store"), [some_trial(seed=s) for s in range(3)]
    for trial in trials[:2]:
        store.put(faulty.result(trial))
    store.path(trials[0].id).write_text("{")
    assert remount("ro")
    monkeypatch.setattr(sweep, "work", None)  # would raise if called
    with pytest.raises(StoreUnavailable, match="Read-only file system.*; make it writable or name another"):
        sweep.run(trials, store, executor="local", progress=False)
    with pytest.warns(SetAside, match="was ignored: it is not a result"):
        assert [r.trial for r in store] == [trials[1]]


# --- time -----------------------------------------------------------------------------------------------------------


def test_a_clock_that_jumps_changes_no_decision(tmp_path, plan_trial, tiny_glue, monkeypatch):
    jumps = random.Random(0)
    monkeypatch.setattr(time, "time", lambda: jumps.uniform(-1e9, 4e9))
    trials, store = [plan_trial(seed=s) for s in range(4)], Store(tmp_path / "store")
    first = sweep.run(trials[:2], store, data_dir=tiny_glue, executor="local", progress=False)
    for path, when in zip(stored(store.folder), (0, 4_000_000_000), strict=True):
        os.utime(path, (when, when))  # written in 1970, and in the year 2096
    second = sweep.run(trials, store, data_dir=tiny_glue, executor="local", progress=False)
    assert (first.ran, second.ran, second.reused) == (2, 2, 2)
    assert 0 <= first.seconds < 300
    assert all(0 < r.outcome["seconds"] < 300 for r in store)


def test_provenance_keeps_the_time_zone(monkeypatch):
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    try:
        assert provenance.collect()["finished_at"].endswith("+00:00")
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
