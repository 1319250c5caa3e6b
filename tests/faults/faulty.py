"""Ways to work on trials that the drills put in place of the real one; a module of its own, for workers to import."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from companion import sweep
from companion.store import Result

# What a trial of that seed does instead of running.
HANGS, IS_KILLED, FILLS_MEMORY, RAISES = 901, 902, 903, 904

PROVENANCE = {
    "device": "cpu",
    "threads": 1,
    "processor": "p",
    "git_commit": "",
    "finished_at": "2020-01-01",
}

# Kept, as the drills replace sweep.work by functions of this module.
really = sweep.work


def result(trial, score: float = 0.5) -> Result:
    """A result at once, without running anything."""
    outcome = {"metric": "accuracy", "score": score, "diverged": False, "failure": "", "majority_share": 0.6}
    outcome |= {"loss_curve": (0.7, 0.5), "steps": 2, "seconds": 1.0, "examples_per_second": 16.0}
    return Result(trial, {**outcome, "peak_memory_mb": 1.0}, PROVENANCE)


def instant(group, data_dir) -> Iterator[Result]:
    """Results at once, whose score is the seed's; trials of some seeds do what their names say."""
    for trial in group:
        if trial.seed == HANGS:
            time.sleep(3600)
        if trial.seed == IS_KILLED:
            os.kill(os.getpid(), signal.SIGKILL)
        if trial.seed == FILLS_MEMORY:
            fill_memory()
        if trial.seed == RAISES:
            raise RuntimeError("a bug\nof two lines")
        yield result(trial, trial.seed / 1000)


def raising(group, data_dir) -> Iterator[Result]:
    """Whatever the trial, an error, after the number of its process in the file PROCESSES names."""
    with open(os.environ["PROCESSES"], "a") as log:
        log.write(f"{os.getpid()}\n")
    raise RuntimeError("CUDA error")
    yield


def killed(group, data_dir, **_) -> Iterator[Result]:
    """Whatever the trial, its process is killed."""
    os.kill(os.getpid(), signal.SIGKILL)
    yield from ()


def logged(group, data_dir) -> Iterator[Result]:
    """The real work, after a line per trial in the file EXECUTIONS names (appended to, whoever writes)."""
    with open(os.environ["EXECUTIONS"], "a") as log:
        log.writelines(f"{trial.id}\n" for trial in group)
    yield from really(group, data_dir)


def slow(group, data_dir) -> Iterator[Result]:
    """The real work, after half a second."""
    time.sleep(0.5)
    yield from really(group, data_dir)


def fill_memory() -> None:
    """Allocate until the system says no, with 256 MB to go."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**28, hard))
    try:
        held = []
        while True:
            held.append(bytearray(2**26))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def sweep_logged(trials, folder, data_dir) -> None:
    """A sweep in a process of its own."""
    from companion.store import Store

    sweep.work = logged
    sweep.run(trials, Store(folder), data_dir=data_dir, executor="local", progress=False)
