"""Statistics of few runs: means with Student-t intervals, and differences paired by seed. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats as scipy_stats

LEVEL = 0.95
FEWEST = 3  # no interval from fewer values than this


def t_interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float] | None:
    """The Student-t interval of the mean of ``values`` (n,), or None for fewer than three.

    mean ± t(n-1) · s/√n with the sample standard deviation s (n-1 in its denominator). It assumes independent,
    roughly normal values; identical values give an interval of no width.
    """
    values = np.asarray(values, dtype=float)
    if len(values) < FEWEST:
        return None
    half = scipy_stats.t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def summarize(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """One row per group of the tidy table: ``by`` + n, mean, low, high (NaN when n < 3), diverged (a share 0…1)."""
    rows = []
    for key, group in table.groupby(by, sort=True, dropna=False):
        low, high = t_interval(group["score"]) or (math.nan, math.nan)
        row = dict(zip(by, key, strict=True))
        row |= {"n": len(group), "mean": group["score"].mean(), "low": low, "high": high}
        rows.append({**row, "diverged": group["diverged"].mean()})
    return pd.DataFrame(rows, columns=[*by, "n", "mean", "low", "high", "diverged"])


def paired_difference(first: pd.DataFrame, second: pd.DataFrame, on: list[str]) -> dict[str, float] | None:
    """Mean of ``first`` minus ``second`` over the rows that agree in the columns ``on`` (which must include the seed).

    Returns n, mean, low and high (NaN when n < 3), or None when nothing can be paired.
    """
    both = first.merge(second, on=on, suffixes=("_first", "_second"), validate="one_to_one")
    if both.empty:
        return None
    differences = both["score_first"] - both["score_second"]
    low, high = t_interval(differences) or (math.nan, math.nan)
    return {"n": len(both), "mean": float(differences.mean()), "low": low, "high": high}
