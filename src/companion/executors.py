"""Where trials are run: in this process, in one process per core or GPU, or (:mod:`companion.cluster`) with Ray.

An executor takes groups of trials from a queue, has them worked on, and yields what came of them. It knows nothing of
the store: only the sweep's own process writes. Whatever happens to a worker, the others go on.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Protocol

from companion.errors import CompanionError, WorkersLost
from companion.store import Result
from companion.trial import Trial

Group = list[Trial]
Work = Callable[[Group], Iterable[Result]]  # results in the order of the trials; must be importable by a new process

POLL = 0.5  # seconds between looks at deadlines and at trials that another sweep is running
STARTING = 300.0  # seconds that a new process may take before its first trial's time begins
LOST_IN_A_ROW = 10  # worker processes that may die one after another before the sweep stops


@dataclass(frozen=True)
class News:
    """What came of a group so far: new results, and whether it ended; ``cause`` says why it failed, if it did."""

    group: Group
    results: Sequence[Result] = ()
    ended: bool = True
    cause: str = ""


class Queue(Protocol):
    """The groups that wait: true while there are any, even if none can be taken now."""

    def __bool__(self) -> bool: ...

    def take(self) -> Group | None:
        """The next group, or None if every waiting one is being run by another sweep."""


def local(queue: Queue, work: Work, workers: int | None, limit: float) -> Iterator[News]:
    """One group after another in this process, without a time limit: what ends this process ends the sweep, and so does
    an error after which its GPU is lost to it (:class:`WorkersLost`)."""
    while queue:
        group = queue.take()
        if group is None:
            time.sleep(POLL)
            continue
        set_threads()
        try:
            for result in work(group):
                yield News(group, [result], ended=False)
            yield News(group)
        except CompanionError:
            raise
        except Exception as error:  # one broken trial must not end the others; its cause is stored
            yield News(group, cause=named(error))
            if "CUDA error" in str(error):  # every later call of this process would fail as well
                raise WorkersLost(
                    f"the GPU takes no more work from this process ({named(error)})",
                    "run again; finished trials are stored",
                ) from error


def processes(queue: Queue, work: Work, workers: int | None, limit: float) -> Iterator[News]:
    """Groups in ``workers`` processes of one thread each; by default one per GPU, or per core where there is none.

    A trial that takes longer than ``limit`` seconds, or whose process dies, has failed; a new process takes the next.
    Raises :class:`WorkersLost` when processes cannot be started or die one after another without a result between,
    and what a worker raises of :class:`CompanionError`.
    """
    crew = [_Worker(work, limit, device) for device in slots(workers)]
    lost = 0
    try:
        while queue or any(worker.group for worker in crew):
            for worker in crew:
                if not worker.group and (group := queue.take()):
                    worker.begin(group)
            busy = [worker for worker in crew if worker.group]
            wait([worker.pipe for worker in busy], timeout=POLL)
            for worker in busy:
                for news in worker.news():
                    lost = lost + 1 if worker.lost else 0
                    if lost >= LOST_IN_A_ROW:
                        raise WorkersLost(
                            f"{lost} worker processes died one after another, the last because {news.cause}",
                            "free some memory or use fewer workers and run again; finished trials are stored",
                        )
                    yield news
    finally:
        for worker in crew:
            worker.end()


def slots(workers: int | None) -> list[str | None]:
    """For each worker the GPU it sees, or None: as many as asked for, else one per GPU, else one per core."""
    import torch

    if not torch.cuda.is_available():  # devices may be counted that this torch or driver cannot use
        return [None] * (workers or cores())
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]
    return [gpus[i % len(gpus)] for i in range(workers or len(gpus))]


def cores() -> int:
    """Cores this process may use: fewer than the machine has where a batch system or a container's quota says so."""
    from joblib import cpu_count

    return cpu_count()


def set_threads(count: int = 1) -> None:
    """Use ``count`` threads for arithmetic: sums over several threads round differently, and processes get in each
    other's way."""
    import threadpoolctl
    import torch

    torch.set_num_threads(count)
    threadpoolctl.threadpool_limits(count)  # NumPy's and SciPy's own, which probes use


def end_with(parent: int) -> None:
    """In a worker process: end it, whatever it is doing, soon after the process that started it is gone."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def named(error: BaseException) -> str:
    """The error's class and its text, as one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


# --- one worker process -------------------------------------------------------------------------------------------


class _Worker:
    """A process that works on one group at a time, started when first needed and again after it was lost."""

    def __init__(self, work: Work, limit: float, device: str | None) -> None:
        self._work, self._limit, self._device = work, limit, device
        self._process: multiprocessing.Process | None = None
        self._since, self._started = 0.0, False
        self.pipe: Connection | None = None
        self.group: Group | None = None
        self.lost = False  # whether the process died of itself

    def begin(self, group: Group) -> None:
        """Hand over a group; :class:`WorkersLost` if the machine has no room for a process."""
        if self._process is None:
            try:
                self._start()
            except OSError as error:
                raise WorkersLost(
                    f"a worker process cannot be started ({error.strerror or error})",
                    "end other programs or use fewer workers, and run again",
                ) from error
        self.group, self._since, self.lost = group, time.monotonic(), False
        with contextlib.suppress(OSError):  # a process that has died meanwhile is noticed by news()
            self.pipe.send(group)

    def news(self) -> Iterator[News]:
        """What the process has said since the last look, its death and its being late included."""
        try:
            while self.group and self.pipe.poll():
                said = self.pipe.recv()
                if isinstance(said, CompanionError):
                    raise said
                self._since, self._started = time.monotonic(), True
                if said is not None:
                    yield self._told(said)
        except (EOFError, OSError):
            self.lost = True
            yield self._failed(_how_it_ended(self._process))
        limit = self._limit if self._started else max(self._limit, STARTING)
        if self.group and time.monotonic() - self._since > limit:
            yield self._failed(f"it took longer than the time limit of {duration(self._limit)}")

    def end(self) -> None:
        """End the process now, whatever it is doing."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self.pipe.close()
        self._process = None

    def _told(self, said: Result | str) -> News:
        """A result, or how the group ended: with a cause, or well with an empty text."""
        group = self.group
        if isinstance(said, Result):
            return News(group, [said], ended=False)
        self.group = None
        if said and self._device is not None:
            self.end()  # some errors of a GPU let every later call of their process fail
        return News(group, cause=said)

    def _failed(self, cause: str) -> News:
        group, self.group = self.group, None
        self.end()
        return News(group, cause=cause)

    def _start(self) -> None:
        self._started = False
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self._work, os.getpid(), self._device))
        resource_tracker.ensure_running()  # starting it later, with the first worker, would unblock the signals
        stopping = {signal.SIGINT, signal.SIGTERM}
        # A blocked signal stays blocked in the new process: stopping is the sweep's to do, which a terminal's Ctrl-C
        # and a batch system's SIGTERM reach as well.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, stopping)
        try:
            process.start()
            self._process = process  # from here on end() ends it, whatever signal comes
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()  # so that the death of the process is the end of the pipe


def _serve(pipe: Connection, work: Work, parent: int, device: str | None) -> None:
    """In a worker process: work on the groups that come, send back each result and how the group ended."""
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    end_with(parent)
    _be_killed_first()
    set_threads()
    pipe.send(None)  # ready
    while True:
        try:
            group = pipe.recv()
        except EOFError:
            return
        try:
            for result in work(group):
                pipe.send(result)
            pipe.send("")
        except CompanionError as error:
            pipe.send(error)
        except Exception as error:  # one broken trial must not end the others; its cause is stored
            pipe.send(named(error))


def _be_killed_first() -> None:
    """When memory runs out let Linux end this worker, and not the sweep that can start another."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("500")


def _how_it_ended(process: multiprocessing.Process) -> str:
    process.join(timeout=10)
    code = process.exitcode
    if code is None or code >= 0:
        return f"its process ended with exit code {code}"
    said = f"its process was killed by {signal.Signals(-code).name}"
    return said + (", as happens when memory runs out" if -code == signal.SIGKILL else "")


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    return f"{seconds / 3600:g} hours" if seconds >= 3600 else f"{seconds:g} seconds"
