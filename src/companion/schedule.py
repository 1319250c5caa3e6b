"""How long a grid takes on more workers: its groups, with the times that trials took, dealt longest first."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import pandas as pd

from companion.sweep import groups
from companion.table import trial_of


def sweeps(published: pd.DataFrame, experiments: Sequence[str]) -> list[list[float]]:
    """For each experiment, in the order given, the seconds of each group of its published trials that a sweep hands to
    one worker: a fine-tuning trial, or probes that share their passes. What an earlier experiment ran is not run again.
    """
    ranks = {name: rank for rank, name in enumerate(experiments)}
    rows = published[published["experiment"].isin(list(ranks))].sort_values(
        "experiment", key=lambda names: names.map(ranks), kind="stable"
    )
    rows = rows.drop_duplicates("trial_id")
    return [_lengths(found) for _, found in rows.groupby("experiment", sort=False)]


def _lengths(rows: pd.DataFrame) -> list[float]:
    trials = {trial_of(row): float(row["seconds"]) for _, row in rows.iterrows()}
    return [sum(trials[trial] for trial in group) for group in groups(list(trials))]


def in_order(seconds: Sequence[float], workers: int) -> float:
    """When the last worker is done, if each takes the next group whenever it is free, as a sweep does."""
    busy_until = [0.0] * workers
    for length in seconds:
        heapq.heapreplace(busy_until, busy_until[0] + length)
    return max(busy_until)


def longest_first(seconds: Sequence[float], workers: int) -> float:
    """The same, with the longest groups first (LPT)."""
    return in_order(sorted(seconds, reverse=True), workers)


def least(seconds: Sequence[float], workers: int) -> float:
    """No schedule is shorter: the work evenly divided, or the longest group."""
    return max(sum(seconds) / workers, max(seconds))


def worst(workers: int) -> float:
    """How many times the shortest schedule LPT can take at most (Graham 1969)."""
    return 4 / 3 - 1 / (3 * workers)
