"""Choose a profile's learning rate on seeds that no published trial uses, and on data kept for it.

That data is no part of any dev split, nor of what trials of 500 GLUE examples with a seed from 0 to 9 train on; trials
of more examples or other seeds share rows with it. Every candidate fine-tunes the intact model on it
(:func:`companion.tasks.load`, pool ``tuning``) with seeds from 1000 up; the rate with the best mean score over tasks
wins. Whole-model fine-tuning decides alone: a rate picked to suit reinitialized models would favor one side of the
comparison the book is about.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from companion import tasks
from companion.errors import CompanionError, TrialFailed, WorkersLost
from companion.executors import end_with, named, set_threads, slots
from companion.experiments import Settings, base_trials
from companion.finetune import finetune
from companion.provenance import git_commit
from companion.sweep import workers_wanted
from companion.trial import Trial

SEEDS = (1000, 1001)


def scores(
    settings: Settings, rates: Sequence[float], *, workers: int | None = None, progress: bool = True
) -> pd.DataFrame:
    """One row per (rate, task, train size, seed) with its score on the tuning pool's held-out rows.

    The seeds are :data:`SEEDS`, not those of the settings. :class:`InvalidValue` for an impossible number of workers,
    :class:`WorkersLost` if one dies, and :class:`TrialFailed` for an error of a trial that is not the user's.
    """
    if workers is not None:
        workers_wanted(workers)
    settings = dataclasses.replace(settings, seeds=SEEDS)
    trials = [
        trial
        for rate in rates
        for trial in base_trials(dataclasses.replace(settings, learning_rate=rate), tasks.TUNING)
    ]
    row = functools.partial(_row, folder=settings.folder)
    try:
        with _pool(slots(workers)[: len(trials)]) as pool:
            # not map, which cancels the others when one fails: Python 3.11 ends a pool of such with a traceback
            asked = [pool.submit(row, trial) for trial in trials]
            with tqdm(asked, desc="tuning", disable=not progress) as bar:
                return pd.DataFrame([each.result() for each in bar])
    except BrokenProcessPool as error:
        remedy = "free some memory or use fewer --workers and run again"
        raise WorkersLost("a worker process of the tuning died", remedy) from error


@contextlib.contextmanager
def _pool(devices: list[str | None]) -> Iterator[ProcessPoolExecutor]:
    """A process for each of these (see :func:`companion.executors.slots`); none is left afterwards."""
    context = multiprocessing.get_context("spawn")
    begun = context.Value("i", 0)  # not a queue of devices: that is a pipe, which some thousands of them fill
    start, others = (devices, begun, os.getpid()), set(multiprocessing.active_children())
    with ProcessPoolExecutor(len(devices), mp_context=context, initializer=_start, initargs=start) as pool:
        try:
            yield pool
        except BaseException:
            for process in {
                *multiprocessing.active_children()
            } - others:  # else the pool waits for trials that have begun
                process.kill()
            raise


def _start(devices: list[str | None], begun: Synchronized, parent: int) -> None:
    """What a worker process begins with: the next GPU of those for as many as have begun, where there are any."""
    end_with(parent)
    with begun.get_lock():
        device = devices[begun.value]
        begun.value += 1
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    set_threads()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches it too, and ends it without a word


def _row(trial: Trial, folder: Path | None) -> dict[str, object]:
    try:
        outcome = finetune(trial, data_dir=folder, pool=tasks.TUNING)
    except CompanionError:
        raise
    except Exception as error:
        raise TrialFailed(
            f"tuning on {trial.task!r} with the learning rate {trial.learning_rate:g} failed with {named(error)}",
            "free some memory or use fewer --workers, or correct the model or data, and run again",
        ) from error
    columns = ("model", "weights", "task", "data", "train_size", "seed", "learning_rate", "batch_size", "epochs")
    values = {name: getattr(trial, name) for name in (*columns, "precision")}
    scored = {name: getattr(outcome, name) for name in ("metric", "score", "diverged", "seconds")}
    return {**values, **scored, "git_commit": git_commit()}
