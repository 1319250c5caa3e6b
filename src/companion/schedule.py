"""How long a grid takes on more workers: its groups, with the times that trials took, dealt longest first."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import pandas as pd

from companion.sweep import groups
from companion.table import trial_of


def lengths(published: pd.DataFrame) -> list[float]:
    """Seconds of each group of a published table that a sweep hands to one worker: a fine-tuning trial, or probes
    that share their passes."""
    rows = published.drop_duplicates("trial_id")
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
