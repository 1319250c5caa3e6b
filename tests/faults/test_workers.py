"""Trials that hang, fill the memory, raise or lose their process: noted with the cause, tried again at most twice."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import signal
import subprocess
import sys

import faulty
import pytest
from conftest import some_trial

from companion import executors, sweep, tuning
from companion.errors import InvalidValue, TrialFailed, WorkersLost
from companion.experiments import Settings
from companion.store import Claims, Store


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


@pytest.mark.slow
def test_a_trial_that_hangs_dies_or_fills_the_memory_fails_alone(store, monkeypatch):
    monkeypatch.setattr(sweep, "work", faulty.instant)
    bad = {seed: some_trial(seed=seed) for seed in (faulty.HANGS, faulty.IS_KILLED, faulty.FILLS_MEMORY, faulty.RAISES)}
    good = [some_trial(seed=s) for s in range(20)]
    with pytest.warns(sweep.TrialsFailed, match="4 of 24 trials failed 3 times"):
        report = sweep.run([*bad.values(), *good], store, workers=2, time_limit=3, progress=False)
    assert (report.ran, report.reused, report.failed, report.skipped) == (20, 0, 4, 0)
    assert all(store.get(trial).outcome["score"] == trial.seed / 1000 for trial in good)
    causes = {seed: store.failure(trial) for seed, trial in bad.items()}
    assert {noted["attempts"] for noted in causes.values()} == {3}
    assert causes[faulty.HANGS]["cause"] == "it took longer than the time limit of 3 seconds"
    assert causes[faulty.IS_KILLED]["cause"] == "its process was killed by SIGKILL, as happens when memory runs out"
    assert causes[faulty.FILLS_MEMORY]["cause"].startswith("MemoryError")
    assert causes[faulty.RAISES]["cause"] == "RuntimeError: a bug of two lines"
    monkeypatch.setattr(sweep, "work", faulty.killed)  # would fail if called
    with pytest.warns(sweep.TrialsFailed, match="4 of 24 trials were left alone"):
        again = sweep.run([*bad.values(), *good], store, workers=2, progress=False)
    assert (again.ran, again.reused, again.failed, again.skipped) == (0, 20, 4, 4)


@pytest.mark.parametrize(("device", "processes"), [(None, 1), ("0", 3)])
def test_an_error_on_a_gpu_ends_its_process(device, processes, store, monkeypatch, tmp_path):
    """After some errors every call of the process would fail; three attempts on a processor share one."""
    monkeypatch.setenv("PROCESSES", str(tmp_path / "processes"))
    monkeypatch.setattr(sweep, "work", faulty.raising)
    monkeypatch.setattr(executors, "slots", lambda workers: [device])
    with pytest.warns(sweep.TrialsFailed, match="1 of 1 trials failed 3 times"):
        sweep.run([some_trial()], store, progress=False)
    seen = (tmp_path / "processes").read_text().split()
    assert len(seen) == 3
    assert len(set(seen)) == processes


@pytest.mark.slow
def test_workers_that_keep_dying_stop_the_sweep(store, monkeypatch):
    monkeypatch.setattr(sweep, "work", faulty.killed)
    monkeypatch.setattr(executors, "LOST_IN_A_ROW", 2)
    with pytest.raises(WorkersLost, match="2 worker processes died one after another, .*SIGKILL.*; free some memory"):
        sweep.run([some_trial(seed=s) for s in range(9)], store, workers=1, progress=False)
    assert list(store) == []


def test_a_worker_that_cannot_be_started_stops_the_sweep_and_loses_nothing(store, monkeypatch):
    monkeypatch.setattr(sweep, "work", faulty.instant)
    process, started = multiprocessing.get_context("spawn").Process, []
    start = process.start

    def only_one_starts(self):
        if started:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        started.append(self)
        start(self)

    monkeypatch.setattr(process, "start", only_one_starts)
    trials = [some_trial(seed=s) for s in range(3)]
    store.put(faulty.result(trials[0]))
    with pytest.raises(WorkersLost, match="cannot be started .*temporarily unavailable.*; end other programs or use"):
        sweep.run(trials, store, workers=2, progress=False)
    assert [worker.is_alive() for worker in started] == [False]
    assert [store.attempts(trial) for trial in trials] == [0, 0, 0]
    assert sweep.run(trials, store, executor="local", progress=False).ran == 2


def test_a_tuning_whose_worker_dies_ends_in_a_sentence(tiny_bert, tiny_glue, monkeypatch):
    monkeypatch.setattr(sweep, "work", faulty.killed)
    settings = Settings(tiny_bert, ["cola"], [16], [0], 1e-3, 8, 1, 64, str(tiny_glue))
    monkeypatch.setattr(tuning, "base_trials", lambda *_: [some_trial()])
    wanted = "tuning on 'cola' with the learning rate 0.001 failed: its process was killed by SIGKILL, as .*; free some"
    with pytest.raises(TrialFailed, match=wanted):
        tuning.scores(settings, [1e-3], workers=1, progress=False)


TUNING = """
import sys, time
from companion import sweep, tuning
from companion.cli import main

def hangs(group, data_dir, pool):
    print("begun", flush=True)
    time.sleep(600)
    yield

if __name__ == "__main__":
    sweep.work, tuning.base_trials = hangs, lambda *_: ["a trial"] * 9
    sys.exit(main(["tune", "--rates", "1e-3", "--workers", "1"]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGTERM, 130, "companion: interrupted.\n"), (signal.SIGKILL, -signal.SIGKILL, "")],
    ids=["SIGTERM", "SIGKILL"],
)
def test_a_tuning_that_is_ended_leaves_no_worker(number, code, said, tmp_path):
    (tmp_path / "tune.py").write_text(TUNING)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    process = subprocess.Popen([sys.executable, str(tmp_path / "tune.py")], **pipes)
    try:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)  # to the command alone
        _, errors = process.communicate(timeout=30)  # until the last worker lets go of stdout
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == code
    assert errors.endswith(said)
    assert "Traceback" not in errors


# --- the queue, without processes -----------------------------------------------------------------------------------


def queue_of(groups, store):
    store.check_writable()
    return sweep._Queue(groups, store)


def test_what_a_failed_group_left_undone_is_tried_again_one_by_one(store):
    trials = [some_trial(seed=s) for s in range(3)]
    with queue_of([trials], store) as queue:
        group = queue.take()
        queue.store(faulty.result(group[0]))
        queue.done(group, "broke")
        assert [store.attempts(t) for t in trials] == [0, 1, 1]
        second = queue.take()
        assert second == [trials[1]]
        queue.store(faulty.result(trials[1]))
        queue.done(second, "")
        assert store.failure(trials[1]) is None
        for _ in range(2):
            last = queue.take()
            assert last == [trials[2]]
            queue.done(last, "broke again")
        assert not queue
        assert (queue.ran, queue.failures) == (2, ["broke again"])


def test_a_trial_that_another_sweep_has_stored_meanwhile_is_not_run(store):
    trials = [some_trial(seed=s) for s in range(2)]
    with queue_of([[t] for t in trials], store) as queue:
        store.put(faulty.result(trials[0]))
        assert queue.take() == [trials[1]]
        assert (queue.by_others, queue.finished) == (1, 1)


def test_a_claim_ends_with_the_process_that_made_it(store):
    store.check_writable()
    trial, (heard, told) = some_trial(), os.pipe()
    child = os.fork()
    if not child:  # claim, say so, and wait to be killed
        Claims(store.folder).take(trial)
        mine = Claims(store.folder)
        mine.take(trial)
        os.write(told, b".")
        signal.pause()
    os.read(heard, 1)
    claims = Claims(store.folder)
    assert not claims.take(trial)
    assert claims.take(some_trial(seed=1))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert claims.take(trial)
    claims.close()


def test_where_nothing_can_be_locked_every_claim_is_granted(tmp_path):
    claims = Claims(tmp_path / "nowhere")
    assert claims.take(some_trial())
    claims.release(some_trial())
    claims.close()


# --- how many workers, and on what ----------------------------------------------------------------------------------


def test_one_worker_per_core_that_this_process_may_use(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)  # as NVML counts what the runtime cannot use
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2, 5})
    assert executors.slots(None) == [None] * 3
    assert executors.slots(2) == [None] * 2


def test_one_worker_per_gpu_or_as_many_as_asked_for(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert executors.slots(None) == ["0", "1"]
    assert executors.slots(3) == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-7")  # as a batch system hands them out
    assert executors.slots(None) == ["4", "GPU-7"]


def test_the_executor_and_time_limit_of_a_sweep_are_checked_first(store, monkeypatch):
    monkeypatch.setenv("COMPANION_TIME_LIMIT", "a while")
    with pytest.raises(InvalidValue, match="the time limit 'a while' is not possible; give a number of hours"):
        sweep.run([some_trial()], store)
    assert not store.folder.exists()
