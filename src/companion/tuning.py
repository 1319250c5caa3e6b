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
import math
from collections.abc import Sequence

import pandas as pd
from tqdm import tqdm

from companion import sweep, tasks
from companion.errors import TrialFailed
from companion.executors import Group, processes
from companion.experiments import Settings, base_trials
from companion.store import Result

SEEDS = (1000, 1001)


class _Waiting(list[Group]):
    """A queue for an executor: nothing that waits is being run by another sweep."""

    def take(self) -> Group | None:
        return self.pop(0) if self else None


def scores(
    settings: Settings, rates: Sequence[float], *, workers: int | None = None, progress: bool = True
) -> pd.DataFrame:
    """One row per (rate, task, train size, seed) with its score on the tuning pool's held-out rows.

    The seeds are :data:`SEEDS`, not those of the settings. :class:`InvalidValue` for an impossible number of workers,
    :class:`WorkersLost` if none can be started, and :class:`TrialFailed` for an error of a trial that is not the
    user's, its process's death included.
    """
    workers = sweep.workers_wanted(workers)
    settings = dataclasses.replace(settings, seeds=SEEDS)
    trials = [
        trial
        for rate in rates
        for trial in base_trials(dataclasses.replace(settings, learning_rate=rate), tasks.TUNING)
    ]
    work = functools.partial(sweep.work, data_dir=settings.folder, pool=tasks.TUNING)
    found: dict[str, Result] = {}
    events = processes(_Waiting([trial] for trial in trials), work, workers, math.inf)
    with contextlib.closing(events), tqdm(total=len(trials), desc="tuning", disable=not progress) as bar:
        for news in events:
            if news.cause:
                (trial,) = news.group
                raise TrialFailed(
                    f"tuning on {trial.task!r} with the learning rate {trial.learning_rate:g} failed: {news.cause}",
                    "free some memory or use fewer --workers, or correct the model or data, and run again",
                )
            found |= {result.trial.id: result for result in news.results}
            bar.update(len(news.results))
    return pd.DataFrame([_row(found[trial.id]) for trial in trials])


def _row(result: Result) -> dict[str, object]:
    columns = ("model", "weights", "task", "data", "train_size", "seed", "learning_rate", "batch_size", "epochs")
    values = {name: getattr(result.trial, name) for name in (*columns, "precision")}
    scored = {name: result.outcome[name] for name in ("metric", "score", "diverged", "seconds")}
    return {**values, **scored, "git_commit": result.provenance["git_commit"]}
