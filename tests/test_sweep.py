"""Sweeps: what is run and what is not, failures, Ctrl-C, and kill -9 in the middle."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import bert_config, heed_interrupts, result_of, save_model

from companion import finetune, provenance, sweep
from companion.errors import Interrupted, InvalidValue, StoreUnavailable, UnknownName, WorkersLost
from companion.store import Store


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def run(store, tiny_glue):
    """A quiet sweep over the tiny data, in this process unless said otherwise."""

    def go(trials, **options):
        return sweep.run(trials, store, **{"data_dir": tiny_glue, "executor": "local", "progress": False, **options})

    return go


@pytest.fixture(scope="module")
def broken(tmp_path_factory) -> str:
    """A model that loads, plans and then fails: its word embeddings are fewer than its tokenizer's words."""
    return save_model(tmp_path_factory.mktemp("models") / "broken", bert_config(vocab_size=20))


# --- what is run ----------------------------------------------------------------------------------------------------


def test_a_sweep_stores_every_trial_and_a_second_one_runs_none(run, store, plan_trial, monkeypatch):
    trials = [plan_trial(seed=s) for s in range(3)]
    first = run(trials)
    assert (first.ran, first.reused, first.failed) == (3, 0, 0)
    written = {t.id: store.path(t.id).read_bytes() for t in trials}
    monkeypatch.setattr(finetune, "finetune", None)  # would raise if called
    second = run([*trials, trials[0]])
    assert (second.ran, second.reused, second.failed) == (0, 3, 0)
    assert {t.id: store.path(t.id).read_bytes() for t in trials} == written


def test_a_stored_trial_is_not_run_again(store, plan_trial, tiny_glue, monkeypatch):
    store.put(result_of(plan_trial(), score=0.123))
    monkeypatch.setattr(finetune, "finetune", None)
    assert sweep.run_trial(plan_trial(), store, data_dir=tiny_glue).outcome["score"] == 0.123


def test_a_trial_set_aside_is_run_again(run, store, plan_trial):
    run([plan_trial()])
    before = store.get(plan_trial()).outcome["score"]
    store.path(plan_trial().id).write_text("{")
    with pytest.warns(UserWarning, match="its trial counts as missing"):
        assert run([plan_trial()]).ran == 1
    assert store.get(plan_trial()).outcome["score"] == before


def test_provenance_of_a_result(run, store, plan_trial, on_cpu):
    run([plan_trial()])
    where = store.get(plan_trial()).provenance
    assert where["device"] == "cpu"
    assert where["threads"] == 1
    assert set(where["libraries"]) >= {"torch", "transformers", "tokenizers", "datasets"}
    assert where["finished_at"].endswith("+00:00")
    assert len(where["git_commit"].removesuffix("+changes")) in (0, 12)


def test_processes_and_one_process_give_equal_scores(run, plan_trial, tmp_path, tiny_glue):
    trials = [plan_trial(seed=s, epochs=2, reinitialized=(s,)) for s in range(3)]
    assert run(trials, executor="processes", workers=2).ran == 3
    alone = Store(tmp_path / "alone")
    sweep.run(trials, alone, data_dir=tiny_glue, executor="local", progress=False)
    together = Store(tmp_path / "store")
    for trial in trials:
        one, other = (s.get(trial).outcome for s in (alone, together))
        assert (one["score"], one["loss_curve"]) == (other["score"], other["loss_curve"])


# --- failures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", ["local", "processes"])
def test_a_trial_that_raises_is_tried_three_times_and_the_others_go_on(executor, run, store, broken, plan_trial):
    good, bad = [plan_trial(seed=s) for s in range(2)], plan_trial(model=broken)
    with pytest.warns(sweep.TrialsFailed, match=r"1 of 3 trials failed 3 times, the last because IndexError: .*; see"):
        report = run([bad, *good], executor=executor, workers=1)
    assert (report.ran, report.reused, report.failed, report.skipped) == (2, 0, 1, 0)
    assert report.cause.startswith("IndexError: ")
    assert store.failure(bad) == {"cause": report.cause, "attempts": 3}
    assert all(store.get(trial) for trial in good)


def test_a_process_whose_gpu_is_lost_ends_the_sweep_and_blames_no_other_trial(run, store, plan_trial, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(finetune, "finetune", fail)
    first, second = plan_trial(), plan_trial(seed=1)
    with pytest.raises(WorkersLost, match="takes no more work from this process .*; run again"):
        run([first, second], executor="local")
    assert store.failure(first) == {"cause": "RuntimeError: CUDA error: device-side assert triggered", "attempts": 1}
    assert store.failure(second) is None


def test_a_trial_given_up_is_left_alone_until_it_is_to_be_tried_again(run, store, broken, plan_trial):
    good, bad = plan_trial(), plan_trial(model=broken)
    with pytest.warns(sweep.TrialsFailed, match="1 of 2 trials failed"):
        run([bad, good])
    with pytest.warns(sweep.TrialsFailed, match="1 of 2 trials were left alone .* `companion run --retry-failed`"):
        again = run([bad, good])
    assert (again.ran, again.reused, again.failed, again.skipped) == (0, 1, 1, 1)
    assert store.failure(bad)["attempts"] == 3
    assert store.forget_failure(bad)
    assert not store.forget_failure(bad)
    with pytest.warns(sweep.TrialsFailed, match="1 of 2 trials failed"):
        assert run([bad, good]).skipped == 0


def test_a_trial_that_another_sweep_gives_up_meanwhile_is_given_up_here(store, plan_trial):
    waiting = [plan_trial(seed=seed) for seed in range(2)]
    with sweep._Queue(sweep.groups(waiting), store) as queue:
        for _ in range(3):
            store.put_failure(waiting[0], "of the other sweep")
        assert queue.take() == [waiting[1]]
        assert queue.failures == ["of the other sweep"]
        queue.done([waiting[1]], "")
        assert not queue


def test_a_checkout_within_another_projects_has_no_commit(tmp_path, monkeypatch):
    def commit_at(folder):
        provenance.git_commit.cache_clear()
        monkeypatch.setattr(provenance, "ROOT", folder)
        return provenance.git_commit()

    inside = tmp_path / "inside"
    inside.mkdir()
    assert commit_at(tmp_path) == ""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@example.org"]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    assert re.fullmatch("[0-9a-f]{12}", commit_at(tmp_path))
    assert commit_at(inside) == ""
    provenance.git_commit.cache_clear()


def test_trials_of_a_group_tried_again_keep_its_claim_to_the_last(store, plan_trial, monkeypatch):
    claimed = set()

    class Claims:  # as the system counts them: one lock of a process, however often it asks
        def __init__(self, folder):
            pass

        def take(self, trial):
            claimed.add(trial)
            return True

        def release(self, trial):
            claimed.discard(trial)

        def close(self):
            claimed.clear()

    monkeypatch.setattr(sweep, "Claims", Claims)
    probes = [plan_trial(probe_layer=k) for k in (3, 1)]
    with sweep._Queue(sweep.groups([*probes, plan_trial()]), store) as queue:
        assert queue.take() == probes
        (claim,) = claimed
        assert queue.take() == [plan_trial()]
        assert claimed == {claim, plan_trial()}
        queue.done([plan_trial()], "")
        queue.done(probes, "out of luck")
        assert claimed == set()
        one, other = queue.take(), queue.take()
        assert ([one, other], claimed) == ([[probe] for probe in probes], {claim})
        queue.done(other, "")
        assert claimed == {claim}
        queue.done(one, "")
        assert claimed == set()


@pytest.mark.parametrize("executor", ["local", "processes"])
def test_what_a_user_can_mend_stops_the_sweep_with_its_own_sentence(executor, run, plan_trial):
    stale = [plan_trial(seed=s, data="0" * 16) for s in range(2)]
    with pytest.raises(InvalidValue, match="the data of 'cola' are .*; plan the trial again"):
        run(stale, executor=executor, workers=1)


def test_full_disk_stops_the_sweep(run, store, plan_trial, monkeypatch):
    run([plan_trial(seed=9)])

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StoreUnavailable, match="free some space"):
        run([plan_trial(seed=s) for s in range(3)])
    assert [p.suffix for p in store.folder.rglob("*") if p.is_file() and p.name != ".claims"] == [".json"]


def test_unwritable_store_stops_before_the_first_trial(plan_trial, tiny_glue, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(finetune, "finetune", None)
    with pytest.raises(StoreUnavailable):
        sweep.run([plan_trial()], Store(tmp_path / "file"), data_dir=tiny_glue, progress=False)


def test_wrong_settings_of_a_sweep(run, monkeypatch):
    with pytest.raises(UnknownName, match="unknown executor 'slurm'; choose one of: local, processes, ray"):
        run([], executor="slurm")
    with pytest.raises(InvalidValue, match="0 workers are not possible; give a whole number from 1 to 9999"):
        run([], workers=0)
    for hours in ("soon", "0", "-1", "inf", "nan"):
        monkeypatch.setenv("COMPANION_TIME_LIMIT", hours)
        with pytest.raises(InvalidValue, match=f"the time limit '{hours}' is not possible"):
            run([])
    monkeypatch.delenv("COMPANION_TIME_LIMIT")
    assert run([], executor="processes").ran == 0
    for number in ("0", "-1", "two", "1.5", "²", "10000", "1" + "0" * 20, "9" * 5000):
        monkeypatch.setenv("COMPANION_WORKERS", number)
        with pytest.raises(InvalidValue, match=f"{number[-9:]} workers are not possible"):
            run([])


def test_the_environment_says_how_many_workers_where_nothing_else_does(monkeypatch):
    assert sweep.workers_wanted() is None
    monkeypatch.setenv("COMPANION_WORKERS", "8")
    assert sweep.workers_wanted() == 8
    assert sweep.workers_wanted(2) == 2


def test_a_worker_that_is_killed_costs_an_attempt_and_no_trial(run, plan_trial, store):
    def kill_one():
        while not (workers := multiprocessing.active_children()):
            time.sleep(0.01)
        os.kill(workers[0].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    report = run([plan_trial(seed=s) for s in range(4)], executor="processes", workers=2)
    killer.join()
    assert (report.ran, report.failed) == (4, 0)
    assert all(store.get(plan_trial(seed=s)) and not store.failure(plan_trial(seed=s)) for s in range(4))


# --- stopped from outside -------------------------------------------------------------------------------------------

SWEEP = """
import pickle, sys
from pathlib import Path
from companion import sweep
from companion.cli import main
from companion.errors import Interrupted
from companion.store import Store

if __name__ == "__main__":
    trials, store, data, executor = pickle.loads(Path(sys.argv[1]).read_bytes())
    try:
        report = sweep.run(trials, Store(store), data_dir=data, executor=executor, workers=2, progress=False)
    except Interrupted as error:
        sys.exit(f"Interrupted: {error}")
    print(report.ran, report.reused, report.failed)
"""


@pytest.fixture
def start(tmp_path, store, tiny_glue):
    """Start a sweep in a process group of its own; a function that waits for ``count`` stored results as well."""
    script = tmp_path / "sweep_script.py"
    script.write_text(SWEEP)
    started = []

    def go(trials, executor: str, wait_for: int = 0):
        (tmp_path / "what").write_bytes(pickle.dumps((trials, store.folder, tiny_glue, executor)))
        process = subprocess.Popen(
            [sys.executable, str(script), str(tmp_path / "what")],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
            preexec_fn=heed_interrupts,
        )  # fmt: skip
        started.append(process)
        while wait_for and process.poll() is None and len(stored(store)) < wait_for:
            time.sleep(0.005)
        return process

    yield go
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def stored(store: Store) -> list[Path]:
    return list(store.folder.glob("[0-9a-f][0-9a-f]/*.json"))


def group_of(process: subprocess.Popen) -> list[int]:
    """Processes of the group that are still there, zombies aside."""
    alive = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == process.pid and fields[0] != "Z":
            alive.append(int(path.parent.name))
    return alive


def wait_for_the_end_of_all(process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while group_of(process):
        assert time.monotonic() < deadline, "workers outlive the sweep"
        time.sleep(0.05)


def scores(store: Store) -> dict[str, tuple]:
    return {r.trial.id: (r.outcome["score"], r.outcome["loss_curve"]) for r in store}


@pytest.mark.slow
def test_kill_9_in_the_middle_loses_nothing_and_repeats_nothing(start, store, run, plan_trial, tmp_path, tiny_glue):
    trials = [plan_trial(seed=s, epochs=40) for s in range(16)]
    process = start(trials, "processes", wait_for=2)
    os.kill(process.pid, signal.SIGKILL)  # the parent alone: its workers must notice
    process.communicate(timeout=60)
    wait_for_the_end_of_all(process)
    finished = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in stored(store)}
    assert 2 <= len(finished) < 16

    report = run(trials)
    assert (report.ran, report.reused, report.failed) == (16 - len(finished), len(finished), 0)
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in finished} == finished
    undisturbed = Store(tmp_path / "undisturbed")
    sweep.run(trials, undisturbed, data_dir=tiny_glue, executor="local", progress=False)
    assert scores(store) == scores(undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["local", "processes"])
@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGTERM]], ids=["SIGINT", "SIGTERM"])
def test_ctrl_c_and_sigterm_stop_a_sweep_with_a_sentence(executor, signals, start, store, plan_trial):
    trials = [plan_trial(seed=s, epochs=40) for s in range(16)]
    process = start(trials, executor, wait_for=2)
    for number in signals:  # a terminal's Ctrl-C and a batch system's SIGTERM go to the workers as well
        os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=60)
    done = len(stored(store))
    assert process.returncode == 1
    assert errors == f"Interrupted: stopped with {done} of 16 trials stored; run the same command again to go on.\n"
    assert 2 <= done < 16
    wait_for_the_end_of_all(process)
    assert all(store.get(t) is None or store.get(t).trial == t for t in trials)


def test_an_interrupted_local_sweep_says_how_far_it_came(run, store, plan_trial, monkeypatch):
    real = finetune.finetune

    def third_is_interrupted(trial, **options):
        if trial.seed == 2:
            raise KeyboardInterrupt
        return real(trial, **options)

    monkeypatch.setattr(finetune, "finetune", third_is_interrupted)
    with pytest.raises(Interrupted, match="stopped with 2 of 4 trials stored; run the same command again to go on"):
        run([plan_trial(seed=s) for s in range(4)])
    assert not (store.folder / "failed").exists()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_progress_is_text_where_papermill_waits(run, plan_trial, monkeypatch, capsys):
    monkeypatch.setenv("COMPANION_PROGRESS", "text")
    run([plan_trial(seed=s) for s in range(2)], progress=True)
    shown = capsys.readouterr().err
    assert "2/2" in shown
    run([plan_trial(seed=s) for s in range(2)], progress=True)  # nothing to wait for
    assert capsys.readouterr().err == ""


def test_a_report_is_plain_data():
    report = sweep.Report(ran=1, reused=2, failed=0, seconds=0.5)
    assert json.loads(json.dumps(dataclasses.asdict(report)))["reused"] == 2
