"""Run the trials of a list that are not stored yet: in this process, or in one process per core."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from tqdm import tqdm
from tqdm.auto import tqdm as notebook_tqdm

from companion.errors import CompanionError, Interrupted, InvalidValue, UnknownName
from companion.store import Result, Store
from companion.trial import Trial

EXECUTORS = ("local", "processes")
OnStep = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class Report:
    """What a sweep did: numbers of trials run now, found in the store, and failed (with the last cause)."""

    ran: int
    reused: int
    failed: int
    seconds: float
    cause: str = ""


def run_trial(trial: Trial, store: Store, *, data_dir: Path | None = None, on_step: OnStep | None = None) -> Result:
    """The stored result of the trial, or the result of running it now (which is then stored).

    ``on_step`` is told the progress of a fine-tuning: steps done, steps in all.
    """
    if (stored := store.get(trial)) is not None:
        return stored
    _run_group([trial], store, data_dir, on_step)
    return store.get(trial)


def groups(trials: Sequence[Trial]) -> list[list[Trial]]:
    """The trials in lists to be run together: probes that share their passes over the texts; others alone."""
    from companion.probe import group_key

    together: dict[object, list[Trial]] = {}
    for trial in trials:
        key = trial.id if trial.probe_layer is None else group_key(trial)
        together.setdefault(key, []).append(trial)
    return list(together.values())


def _run_group(trials: Sequence[Trial], store: Store, data_dir: Path | None, on_step: OnStep | None = None) -> None:
    """Run them, and store each as soon as it is there."""
    from companion.provenance import collect

    if trials[0].probe_layer is None:
        from companion.finetune import finetune

        outcomes = (finetune(trial, data_dir=data_dir, on_step=on_step) for trial in trials)
    else:
        from companion.probe import probe  # scikit-learn takes half a second to import

        outcomes = probe(trials, data_dir=data_dir)
    for trial, outcome in zip(trials, outcomes, strict=True):
        store.put(Result(trial, dataclasses.asdict(outcome), collect()))


def run(
    trials: Sequence[Trial],
    store: Store,
    *,
    data_dir: Path | None = None,
    executor: str = "processes",
    workers: int | None = None,
    progress: bool = True,
) -> Report:
    """Run every trial that the store lacks; each result is stored as soon as it is there.

    ``processes`` starts ``workers`` processes (default: one per core) with one thread each, so that a trial's score
    does not depend on how many run beside it; ``local`` runs in this process. A trial that raises is noted in the
    store as failed and the others go on; Ctrl-C or SIGTERM stops the sweep with :class:`Interrupted`.
    """
    if executor not in EXECUTORS:
        raise UnknownName("executor", executor, EXECUTORS)
    if workers is not None and workers < 1:
        raise InvalidValue(f"{workers} workers cannot run anything", "give a whole number from 1 up")
    store.check_writable()
    unique = list({trial.id: trial for trial in trials}.values())
    missing = [trial for trial in unique if store.get(trial) is None]
    started, failures = time.perf_counter(), []
    each = _processes if executor == "processes" and len(missing) > 1 else _local
    with _bar(len(unique), len(unique) - len(missing), progress) as bar, _terminable():
        try:
            for group, cause in each(groups(missing), store, data_dir, workers):
                bar.update(len(group))
                for trial in group if cause else ():
                    if store.get(trial) is None:
                        store.put_failure(trial, cause)
                        failures.append(cause)
        except KeyboardInterrupt:
            done = sum(store.get(trial) is not None for trial in unique)
            raise Interrupted(
                f"stopped with {done} of {len(unique)} trials stored", "run the same command again to go on"
            ) from None
    return Report(
        ran=len(missing) - len(failures),
        reused=len(unique) - len(missing),
        failed=len(failures),
        seconds=time.perf_counter() - started,
        cause=failures[-1] if failures else "",
    )


def _bar(total: int, done: int, progress: bool) -> tqdm:
    """A progress bar with time left: text in a terminal or under papermill, a widget in a live notebook.

    A widget would not reach the terminal that waits for papermill, so ``companion run`` asks for text.
    """
    kind = tqdm if os.environ.get("COMPANION_PROGRESS") == "text" else notebook_tqdm
    hidden = not progress or done == total
    # Later trials of a grid are often larger: the average over the whole run misleads less than the recent pace.
    return kind(
        total=total, initial=done, unit="trial", desc="trials", disable=hidden, smoothing=0, file=sys.stderr, leave=True
    )


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C for the duration (where this is the main thread)."""
    try:
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _attempt(group: list[Trial], store: Store, data_dir: Path | None) -> str:
    """Run a group; the cause of failure, or an empty string. User errors are causes for the whole sweep to stop."""
    try:
        _run_group(group, store, data_dir)
    except CompanionError:
        raise
    except Exception as error:  # one broken trial must not end the others; its cause is stored
        return f"{type(error).__name__}: {error}"
    return ""


def _local(
    groups: list[list[Trial]], store: Store, data_dir: Path | None, workers: int | None
) -> Iterator[tuple[list[Trial], str]]:
    for group in groups:
        set_threads()
        yield group, _attempt(group, store, data_dir)


def _processes(
    groups: list[list[Trial]], store: Store, data_dir: Path | None, workers: int | None
) -> Iterator[tuple[list[Trial], str]]:
    """Groups in a pool of fresh processes, at most a few submitted ahead so that stopping is quick."""
    workers = min(workers or os.cpu_count() or 1, len(groups))
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=_start_worker, initargs=(os.getpid(),))
    queue = iter(groups)
    running: dict[Future, list[Trial]] = {}
    try:
        while True:
            for group in queue:
                running[pool.submit(_attempt, group, store, data_dir)] = group
                if len(running) >= 2 * workers:
                    break
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
    except BrokenProcessPool:
        lost = ", ".join(sorted(trial.id for group in running.values() for trial in group))
        raise CompanionError(
            f"a worker process died (out of memory?) while running one of {lost}",
            "run the same command again, perhaps with fewer workers; finished trials are stored",
        ) from None
    finally:
        _stop(pool)


def _stop(pool: ProcessPoolExecutor) -> None:
    """End the pool now: workers that still run a trial are ended, nothing they stored is lost."""
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()


def _start_worker(parent: int) -> None:
    """In a fresh worker: leave Ctrl-C to the parent, end with it even when it is killed, use one thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    set_threads()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def set_threads(count: int = 1) -> None:
    """Use ``count`` threads for arithmetic: sums over several threads round differently, and processes get in each
    other's way."""
    import threadpoolctl
    import torch

    torch.set_num_threads(count)
    threadpoolctl.threadpool_limits(count)  # NumPy's and SciPy's own, which probes use
