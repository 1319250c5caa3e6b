"""Statistics of few runs: means and differences with intervals, ratios, correlations, and what the released error bars
cover. Pure functions from arrays to numbers; an interval is ``(low, high)``, or None where the values allow none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats as scipy_stats

from companion.errors import InvalidValue

Interval = tuple[float, float]

LEVEL = 0.95
ALPHA = 1 - LEVEL
FEWEST = 3  # no interval from fewer values than this
FEWEST_PAIRS = 4  # Fisher's z has variance 1/(n - 3)
RESAMPLES = 9_999
RELEASED_MULTIPLIER = 2.667  # of the scripts' error bars, whatever n


def t_interval(values: Sequence[float], level: float = LEVEL) -> Interval | None:
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


def welch_interval(first: Sequence[float], second: Sequence[float], level: float = LEVEL) -> Interval | None:
    """The t-interval of the mean of ``first`` (n,) minus that of ``second`` (m,), which are not paired.

    Variances need not be equal (degrees of freedom after Welch and Satterthwaite); None when either has fewer than
    three values.
    """
    groups = [np.asarray(values, dtype=float) for values in (first, second)]
    if min(map(len, groups)) < FEWEST:
        return None
    difference = groups[0].mean() - groups[1].mean()
    squared = [values.var(ddof=1) / len(values) for values in groups]
    total = sum(squared)
    if total == 0:
        return float(difference), float(difference)
    freedom = total**2 / sum(s**2 / (len(g) - 1) for s, g in zip(squared, groups, strict=True))
    half = scipy_stats.t.ppf((1 + level) / 2, freedom) * math.sqrt(total)
    return float(difference - half), float(difference + half)


def ratio_interval(above: Sequence[float], below: Sequence[float], level: float = LEVEL) -> Interval | None:
    """Fieller's interval of mean(``above``) / mean(``below``), both (n,) and paired.

    It holds every ratio r for which the t-interval of ``above - r·below`` includes 0, so it stays right when the
    denominator is uncertain. None for fewer than three pairs, or when the interval of mean(``below``) includes 0: the
    ratio could then be anything.
    """
    above, below = np.asarray(above, dtype=float), np.asarray(below, dtype=float)
    n = len(above)
    if n < FEWEST:
        return None
    squared_t = scipy_stats.t.ppf((1 + level) / 2, n - 1) ** 2
    (v_above, v_both), (_, v_below) = np.cov(above, below) / n
    # (a - r·b)² = t²·(v_above - 2r·v_both + r²·v_below), as a quadratic in r
    square = below.mean() ** 2 - squared_t * v_below
    if square <= 0:
        return None
    linear = above.mean() * below.mean() - squared_t * v_both
    root = math.sqrt(max(0.0, linear**2 - square * (above.mean() ** 2 - squared_t * v_above)))
    return float((linear - root) / square), float((linear + root) / square)


def _means(samples: np.ndarray) -> np.ndarray:
    return samples.mean(axis=1)


def bootstrap_interval(
    values: Sequence[float] | np.ndarray,
    level: float = LEVEL,
    seed: int = 0,
    statistic: Callable[[np.ndarray], np.ndarray] = _means,
) -> Interval | None:
    """The percentile bootstrap interval of a statistic of ``values`` (n, …), resampled along the first axis.

    ``statistic`` maps resamples (m, n, …) to m numbers; by default their means. The same seed gives the same interval.
    None for fewer than three values, or when the statistic is undefined (NaN) for some resample. With few values it is
    too narrow: for a normal mean a level of 95 % covers about 75 % at n = 3, 85 % at n = 5 (:func:`expanded_level`).
    """
    values = np.asarray(values, dtype=float)
    n = len(values)
    if n < FEWEST:
        return None
    estimates = statistic(values[np.random.default_rng(seed).integers(n, size=(RESAMPLES, n))])
    if np.isnan(estimates).any():
        return None
    low, high = np.quantile(estimates, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def expanded_level(n: int, level: float = LEVEL) -> float:
    """The level to ask of :func:`bootstrap_interval` for n ≥ 2 values, to cover a mean about as often as ``level``.

    Expanded percentiles (Hesterberg, What Teachers Should Know about the Bootstrap, 2015): the normal quantile that is
    √(n/(n-1)) times Student's. Below five values no level is enough: even from the smallest value to the largest, an
    interval covers 1 - 2·2⁻ⁿ.
    """
    quantile = math.sqrt(n / (n - 1)) * scipy_stats.t.ppf((1 + level) / 2, n - 1)
    return float(2 * scipy_stats.norm.cdf(quantile) - 1)


def level_as_if(n: int, more: int, level: float = LEVEL) -> float:
    """The level whose t-interval of ``n`` values is as wide as that of ``more`` values at ``level``, their standard
    deviation being the same."""
    quantile = scipy_stats.t.ppf((1 + level) / 2, more - 1) * math.sqrt(n / more)
    return float(2 * scipy_stats.t.cdf(quantile, n - 1) - 1)


def blocked_anova(scores: np.ndarray) -> float:
    """The p-value of "all columns have the same mean" for ``scores`` (seeds, treatments); a row is one seed.

    Analysis of variance with seeds as blocks: what a seed adds to all of its treatments does not count as noise. For
    two columns it is the paired t-test. NaN for fewer than two rows or columns; it assumes that residuals are alike
    in all columns.
    """
    rows, columns = np.shape(scores)
    if rows < 2 or columns < 2:
        return math.nan
    between, residual = _blocked_variances(scores)
    if residual < 1e-24:  # rounding alone
        return 1.0 if between < 1e-24 else 0.0
    return float(scipy_stats.f.sf(between / residual, columns - 1, (columns - 1) * (rows - 1)))


def reliability(scores: np.ndarray) -> float:
    """The share of the variance of column means that is not noise, for ``scores`` (seeds, treatments): 1 - 1/F of
    :func:`blocked_anova`, at least 0; NaN for fewer than two rows or columns (Hoyt 1941)."""
    if min(np.shape(scores)) < 2:
        return math.nan
    between, residual = _blocked_variances(scores)
    return max(0.0, 1 - residual / between) if between > 1e-24 else 0.0


def _blocked_variances(scores: np.ndarray) -> tuple[float, float]:
    """Mean squares between columns, and of what neither row nor column explains."""
    scores = np.asarray(scores, dtype=float)
    rows, columns = scores.shape
    of_rows, of_columns = scores.mean(axis=1, keepdims=True), scores.mean(axis=0, keepdims=True)
    between = rows * ((of_columns - scores.mean()) ** 2).sum() / (columns - 1)
    residual = ((scores - of_rows - of_columns + scores.mean()) ** 2).sum() / ((columns - 1) * (rows - 1))
    return float(between), float(residual)


@dataclass(frozen=True)
class Correlation:
    """Pearson's and Spearman's correlation of n pairs, with 95 % intervals.

    A correlation is NaN where it is undefined: n < 2, or one side is constant. An interval is None where there is no
    correlation, where n < 4, and where it is ±1, for which Fisher's z is infinite.
    """

    n: int
    pearson: float
    pearson_interval: Interval | None
    spearman: float
    spearman_interval: Interval | None


def correlation(first: Sequence[float], second: Sequence[float], level: float = LEVEL) -> Correlation:
    """Pearson's and Spearman's correlation of two series (n,) of pairs; :class:`InvalidValue` for unequal lengths.

    Intervals are Fisher's: tanh(atanh r ± z·σ), with σ² = 1/(n-3) for Pearson, and (1 + r²/2)/(n-3) for Spearman
    (Bonett and Wright, Psychometrika 65, 2000).
    """
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    n = len(first)
    if len(second) != n:
        raise InvalidValue(f"{n} values cannot be paired with {len(second)}", "give as many of one as of the other")
    if n < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return Correlation(n, math.nan, None, math.nan, None)
    pearson = float(scipy_stats.pearsonr(first, second).statistic)
    spearman = float(scipy_stats.spearmanr(first, second).statistic)
    pearson_interval = _fisher(pearson, n, 1.0, level)
    return Correlation(n, pearson, pearson_interval, spearman, _fisher(spearman, n, 1 + spearman**2 / 2, level))


def _fisher(r: float, n: int, factor: float, level: float) -> Interval | None:
    if n < FEWEST_PAIRS or abs(r) > 1 - 1e-12:
        return None
    half = scipy_stats.norm.ppf((1 + level) / 2) * math.sqrt(factor / (n - 3))
    return float(np.tanh(np.arctanh(r) - half)), float(np.tanh(np.arctanh(r) + half))


def rank_correlations(curves: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Spearman's correlation of each of ``curves`` (m, k) with ``target`` (k,): m numbers, NaN for a constant curve."""
    ranks = scipy_stats.rankdata(np.round(curves, 12), axis=1)  # means that differ by rounding alone are ties
    ranks = ranks - ranks.mean(axis=1, keepdims=True)
    wanted = scipy_stats.rankdata(target)
    wanted = wanted - wanted.mean()
    norms = np.sqrt((ranks**2).sum(axis=1) * (wanted**2).sum())
    return np.divide(ranks @ wanted, norms, out=np.full(len(ranks), math.nan), where=norms > 0)


def released_coverage(n: int) -> float:
    """How often the released error bar of n normal values covers their true mean (0…1).

    Half the bar is 2.667/√n times the population standard deviation, with one multiplier for every n. Where s² is
    n/(n-1) times the population variance, the bar covers if |t| ≤ 2.667·√((n-1)/n), t on n-1 degrees of freedom.
    :class:`InvalidValue` for fewer than two values, whose deviation is 0.
    """
    if n < 2:
        raise InvalidValue(f"an error bar of {n} values has no coverage", "give at least 2")
    return float(2 * scipy_stats.t.cdf(RELEASED_MULTIPLIER * math.sqrt((n - 1) / n), n - 1) - 1)
