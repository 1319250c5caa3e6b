"""Trials on a Ray cluster: an existing one, named by Ray's own ``RAY_ADDRESS``, or one of this machine alone.

Groups of trials are Ray tasks; the results come back to the sweep, which alone writes to the store, so workers need no
shared folder for them. Ray keeps worker processes between tasks, unless they use a GPU, and each keeps the model and
the data it has loaded.
Ray itself repeats nothing: a task lost with its worker or node is a failed attempt, which the sweep counts and repeats.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

from companion.errors import CompanionError, InvalidValue, WorkersLost, first_line
from companion.executors import POLL, Group, News, Queue, Work, duration, named, set_threads
from companion.store import Result


def on_ray(queue: Queue, work: Work, workers: int | None, limit: float) -> Iterator[News]:
    """Groups as Ray tasks, at most ``workers`` at a time; by default as many as the cluster has cores or GPU shares.

    A GPU is shared by 1 / ``COMPANION_GPU_SHARE`` trials (default 1: none shares). A trial that takes longer than
    ``limit`` seconds, or whose worker or node dies, has failed. Raises :class:`InvalidValue` without Ray
    and :class:`WorkersLost` when no cluster can be reached, and what a worker raises of :class:`CompanionError`.
    """
    with _session() as ray:
        share = gpu_share()
        needs = {"num_gpus": share} if ray.cluster_resources().get("GPU") else {"num_cpus": 1}
        task = ray.remote(max_retries=0, **needs)(_attempt)
        running: dict[Any, tuple[Group, float]] = {}
        try:
            while queue or running:
                most = workers or _slots(ray, share)
                while len(running) < most and (group := queue.take()):
                    running[task.remote(work, group, limit)] = group, time.monotonic()
                if not running:
                    time.sleep(POLL)
                    continue
                for reference in ray.wait(list(running), timeout=POLL)[0]:
                    group, since = running.pop(reference)
                    yield _outcome(ray, reference, group, late=time.monotonic() - since > limit, limit=limit)
        finally:
            for reference in running:  # a cluster that was there before would go on with what nobody waits for
                ray.cancel(reference, force=True)


def gpu_share() -> float:
    """The part of a GPU that a trial takes, from ``COMPANION_GPU_SHARE``; :class:`InvalidValue` if it is none."""
    given = os.environ.get("COMPANION_GPU_SHARE", "1")
    try:
        share = float(given)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise InvalidValue(f"COMPANION_GPU_SHARE is {given!r}", "give a number above 0 and up to 1, such as 0.25")
    return share


def _slots(ray: Any, share: float) -> int:
    """Tasks that the cluster can run at once just now; one where it has lost every node, which waits for another."""
    there = ray.cluster_resources()
    return max(1, int(there["GPU"] / share if there.get("GPU") else there.get("CPU", 1)))


def _attempt(work: Work, group: Group, limit: float) -> tuple[list[Result], str, CompanionError | None]:
    """In a worker: the results of a group, why it failed if it did, and the user's error if there is one.

    The worker ends itself when a trial is late: only here is it known when the trial began.
    """
    set_threads()
    results: list[Result] = []
    with open(os.devnull, "w") as nowhere:
        try:
            faulthandler.dump_traceback_later(limit, exit=True, file=nowhere)
            for result in work(group):
                results.append(result)
                faulthandler.dump_traceback_later(limit, exit=True, file=nowhere)  # anew for the next trial
        except CompanionError as error:
            return results, "", error
        except Exception as error:  # one broken trial must not end the others; its cause is stored
            return results, named(error), None
        finally:
            faulthandler.cancel_dump_traceback_later()
    return results, "", None


def _outcome(ray: Any, reference: Any, group: Group, *, late: bool, limit: float) -> News:
    try:
        results, cause, error = ray.get(reference)
    except ray.exceptions.RayError as lost:
        if late and isinstance(lost, ray.exceptions.WorkerCrashedError):
            return News(group, cause=f"it took longer than the time limit of {duration(limit)}")
        return News(group, cause=f"its worker or node was lost ({type(lost).__name__}: {first_line(lost)})")
    if error is not None:
        raise error
    return News(group, results, cause=cause)


@contextlib.contextmanager
def _session() -> Iterator[Any]:
    """Ray, connected, and disconnected afterwards unless the caller was connected already."""
    # Ray has authentication on by itself only in a cluster that it starts here, and reads this when it is imported.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray
    except ImportError as error:
        raise InvalidValue(
            "the executor 'ray' needs Ray, which is not installed", "install the extra [ray], or choose processes"
        ) from error
    if os.environ["RAY_AUTH_MODE"].lower() != "token":
        raise InvalidValue(
            "RAY_AUTH_MODE switches Ray's token authentication off, so that anyone who reaches a port could run code",
            "unset it",
        )
    if ray.is_initialized():
        yield ray
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        with contextlib.suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGTERM, before)  # Ray's own handler would hide how far the sweep came
    except Exception as error:  # Ray raises many unrelated classes here
        raise WorkersLost(
            f"no Ray cluster could be reached or started ({first_line(error)})",
            "check RAY_ADDRESS and the cluster's token, or unset RAY_ADDRESS to use this machine",
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()
