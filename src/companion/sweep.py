"""Run the trials of a list that are not stored yet, wherever an executor runs them, and store what comes of each."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
import re
import signal
import sys
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tqdm import tqdm
from tqdm.auto import tqdm as notebook_tqdm

from companion.errors import CompanionError, Interrupted, InvalidValue, TrialFailed, UnknownName
from companion.executors import Group, News, local, named, processes
from companion.store import Claims, Result, Store
from companion.trial import Trial

EXECUTORS = ("local", "processes", "ray")
OnStep = Callable[[int, int], None]
ATTEMPTS = 3  # a trial that fails is tried again twice
MOST_WORKERS = 9999  # that may be asked for: a larger number is a mistake, and a list of as many fills the memory
HOURS = 12.0  # the time limit of one trial: the longest of the paper's own take a GPU an hour, a lone core half a day


class TrialsFailed(UserWarning):
    """Some trials of a sweep ended without a result."""


@dataclasses.dataclass(frozen=True)
class Report:
    """What a sweep did: numbers of trials run now, found in the store, and failed in every attempt (with the last
    cause); ``skipped`` of the failed were left alone, because they had failed in every attempt before."""

    ran: int
    reused: int
    failed: int
    seconds: float
    cause: str = ""
    skipped: int = 0


def run_trial(trial: Trial, store: Store, *, data_dir: Path | None = None, on_step: OnStep | None = None) -> Result:
    """The stored result of the trial, or the result of running it now (which is then stored).

    ``on_step`` is told the progress of a fine-tuning: steps done, steps in all. Raises :class:`TrialFailed` for any
    error that is not of :class:`CompanionError` already.
    """
    if (stored := store.get(trial)) is not None:
        return stored
    try:
        (result,) = work([trial], data_dir, on_step)
    except CompanionError:
        raise
    except Exception as error:
        raise TrialFailed(
            f"trial {trial.id} failed with {named(error)}", "free some memory or correct its model or data"
        ) from error
    store.put(result)
    return store.get(trial)


def groups(trials: Sequence[Trial]) -> list[Group]:
    """The trials in lists to be run together: probes that share their passes over the texts; others alone."""
    together: dict[Trial, list[Trial]] = {}
    for trial in trials:
        together.setdefault(trial.group, []).append(trial)
    return list(together.values())


def work(
    group: Group, data_dir: Path | None, on_step: OnStep | None = None, pool: str = "published"
) -> Iterator[Result]:
    """Run a group's trials, in order; a worker process imports this by name. Fine-tunings can take another ``pool`` of
    data (:func:`companion.tasks.load`)."""
    from companion.finetune import library
    from companion.provenance import collect

    if group[0].probe_layer is None:
        from companion.finetune import finetune

        outcomes = (finetune(trial, data_dir=data_dir, pool=pool, on_step=on_step) for trial in group)
    else:
        from companion.probe import probe  # scikit-learn takes half a second to import

        outcomes = probe(group, data_dir=data_dir)
    for trial, outcome in zip(group, outcomes, strict=True):
        yield Result(trial, dataclasses.asdict(outcome), collect(library(trial)))


def run(
    trials: Sequence[Trial],
    store: Store,
    *,
    data_dir: Path | None = None,
    executor: str = "processes",
    workers: int | None = None,
    time_limit: float | None = None,
    progress: bool = True,
) -> Report:
    """Run every trial that the store lacks; each result is stored as soon as it is there (with Ray, probes that share a
    pass together).

    ``processes`` starts ``workers`` processes (default: ``COMPANION_WORKERS``, else one per core, or per GPU) with one
    thread each, so that a trial's score does not depend on how many run beside it; ``ray`` does so on a cluster;
    ``local`` runs in this process, where nothing can stop a trial. Elsewhere a trial may take ``time_limit`` seconds
    (default: ``COMPANION_TIME_LIMIT`` in hours, else 12 hours).

    A trial that raises, is late or loses its process is noted in the store as failed, and tried again when all others
    have been, up to three times in all; later sweeps leave it alone, with a warning (:class:`TrialsFailed`), until
    :meth:`Store.forget_failure`. What a user can mend (any :class:`CompanionError`) stops the sweep at once, and
    Ctrl-C or SIGTERM with :class:`Interrupted`. Any number of sweeps may share a store and their trials.
    """
    if executor not in EXECUTORS:
        raise UnknownName("executor", executor, EXECUTORS)
    workers = workers_wanted(workers)
    limit = time_limit if time_limit is not None else hours_allowed() * 3600
    store.check_writable()
    unique = list({trial.id: trial for trial in trials}.values())
    missing = [trial for trial in unique if store.get(trial) is None]
    wanted = [trial for trial in missing if store.attempts(trial) < ATTEMPTS]
    started = time.perf_counter()
    queue = _Queue(groups(wanted), store)
    events = _executor(executor)(queue, functools.partial(work, data_dir=data_dir), workers, limit)
    with _bar(len(unique), len(unique) - len(wanted), progress) as bar, terminable(), queue:
        try:
            _work_off(queue, events, bar)
        except KeyboardInterrupt:
            done = sum(store.get(trial) is not None for trial in unique)
            raise Interrupted(
                f"stopped with {done} of {len(unique)} trials stored", "run the same command again to go on"
            ) from None
    report = Report(
        ran=queue.ran,
        reused=len(unique) - len(missing) + queue.by_others,
        failed=len(queue.failures) + len(missing) - len(wanted),
        seconds=time.perf_counter() - started,
        cause=queue.failures[-1] if queue.failures else "",
        skipped=len(missing) - len(wanted),
    )
    _warn(report, len(unique))
    return report


def _work_off(queue: _Queue, events: Iterator[News], bar: tqdm) -> None:
    """Keep what comes of the queue's groups until none waits; afterwards, whatever ended it, no worker is left."""
    before = bar.n
    try:
        for news in events if queue else ():
            for result in news.results:
                queue.store(result)
            if news.ended:
                queue.done(news.group, news.cause)
            bar.update(before + queue.finished - bar.n)
    finally:
        events.close()


def workers_wanted(given: int | None = None) -> int | None:
    """The number given, else ``COMPANION_WORKERS``, else None; :class:`InvalidValue` for no whole number from 1 to
    :data:`MOST_WORKERS`."""
    wanted = os.environ.get("COMPANION_WORKERS", "") if given is None else str(given)
    if wanted and not (re.fullmatch("[0-9]{1,9}", wanted) and 0 < int(wanted) <= MOST_WORKERS):
        raise InvalidValue(f"{wanted} workers are not possible", f"give a whole number from 1 to {MOST_WORKERS}")
    return int(wanted) if wanted else None


def hours_allowed() -> float:
    """Hours that one trial may take, from ``COMPANION_TIME_LIMIT``; :class:`InvalidValue` if it says no such thing."""
    given = os.environ.get("COMPANION_TIME_LIMIT") or str(HOURS)
    try:
        hours = float(given)
    except ValueError:
        hours = math.nan
    if not 0 < hours < math.inf:
        raise InvalidValue(f"the time limit {given!r} is not possible", "give a number of hours above 0, such as 0.5")
    return hours


def _executor(name: str) -> Callable:
    if name == "ray":
        from companion.cluster import on_ray

        return on_ray
    return {"local": local, "processes": processes}[name]


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
def terminable() -> Iterator[None]:
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


def _warn(report: Report, total: int) -> None:
    """Say what has no result and what to do about it."""
    now = report.failed - report.skipped
    known = f"{now} of {total} trials failed {ATTEMPTS} times, the last because {report.cause}"
    before = f"{report.skipped} of {total} trials were left alone because they had failed {ATTEMPTS} times before"
    remedy = "see `companion status`, and try them again with `companion run --retry-failed`."
    for count, problem in ((now, known), (report.skipped, before)):
        if count:
            warnings.warn(f"{problem}; {remedy}", TrialsFailed, stacklevel=3)


class _Queue:
    """The groups still to be run. Each is handed out once, and not while another sweep of the store is running it;
    trials that fail come last, each by itself, until they have been tried ``ATTEMPTS`` times."""

    def __init__(self, waiting: Sequence[Group], store: Store) -> None:
        self._waiting, self._store = deque(waiting), store
        # How many groups handed out stand behind each claim. It is on what all trials of a group have in common, so
        # that a sweep that finds some of them stored, or tries one again, asks for the same claim.
        self._running: Counter[Trial] = Counter()
        self.ran, self.by_others = 0, 0
        self.failures: list[str] = []

    def __enter__(self) -> _Queue:
        self._claims = Claims(self._store.folder)
        return self

    def __exit__(self, *_: object) -> None:
        self._claims.close()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def finished(self) -> int:
        """Trials that need not be waited for any more."""
        return self.ran + self.by_others + len(self.failures)

    def take(self) -> Group | None:
        """The next group that is not stored, claimed; None if other sweeps are running all that wait."""
        for _ in range(len(self._waiting)):
            group = self._waiting.popleft()
            if not self._claims.take(group[0].group):
                self._waiting.append(group)
                continue
            self._running[group[0].group] += 1
            missing = [trial for trial in group if self._store.get(trial) is None]  # only now nobody else adds any
            self.by_others += len(group) - len(missing)
            failed = {trial: noted for trial in missing if (noted := self._store.failure(trial))}
            spent = {trial: noted["cause"] for trial, noted in failed.items() if noted["attempts"] >= ATTEMPTS}
            self.failures += spent.values()  # other sweeps have tried them since this one began
            if left := [trial for trial in missing if trial not in spent]:
                return left
            self._release(group)
        return None

    def store(self, result: Result) -> None:
        """Keep a result of a group that was handed out."""
        self._store.put(result)
        self.ran += 1

    def done(self, group: Group, cause: str) -> None:
        """Take the group back; what a failed one has left undone is noted, and waits again or is given up."""
        for trial in group if cause else ():
            if self._store.get(trial) is None:
                self._store.put_failure(trial, cause)
                if self._store.attempts(trial) < ATTEMPTS:
                    self._waiting.append([trial])
                else:
                    self.failures.append(cause)
        self._release(group)

    def _release(self, group: Group) -> None:
        claimed = group[0].group
        self._running[claimed] -= 1
        if not self._running[claimed]:  # the system knows one claim of this process, however often it was taken
            self._claims.release(claimed)
