"""Statistics against SciPy and numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from companion import stats
from companion.errors import InvalidValue
from companion.stats import (
    blocked_anova,
    bootstrap_interval,
    correlation,
    expanded_level,
    paired_difference,
    rank_correlations,
    ratio_interval,
    released_coverage,
    summarize,
    t_interval,
    welch_interval,
)

scores = st.lists(st.floats(-1, 1).map(lambda x: round(x, 6)), min_size=3, max_size=12)


@given(scores.filter(lambda values: np.std(values) > 1e-6))
def test_interval_is_scipys(values):
    expected = scipy_stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=scipy_stats.sem(values))
    assert t_interval(values) == pytest.approx(expected)


def test_interval_by_hand():
    # mean 2, sample deviation 1, t(2) at 97.5 % = 4.302653
    low, high = t_interval([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)), abs=1e-6)
    assert t_interval([0.5] * 4) == (0.5, 0.5)


@pytest.mark.parametrize("values", [[], [0.1], [0.1, 0.9]])
def test_fewer_than_three_values_have_no_interval(values):
    assert t_interval(values) is None


def test_interval_covers_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(size=(4000, 5))
    covered = np.mean([low <= 0 <= high for low, high in map(t_interval, draws)])
    assert covered == pytest.approx(0.95, abs=0.012)


def test_summary_by_hand():
    rows = [("a", 1, 0.1, False), ("a", 2, 0.2, True), ("a", 3, 0.3, False), ("b", 1, 0.5, True), ("b", 2, 0.7, True)]
    summary = summarize(pd.DataFrame(rows, columns=["task", "seed", "score", "diverged"]), ["task"])
    assert summary.columns.tolist() == ["task", "n", "mean", "low", "high", "diverged"]
    assert summary["task"].tolist() == ["a", "b"]
    assert summary["n"].tolist() == [3, 2]
    assert summary["mean"].tolist() == pytest.approx([0.2, 0.6])
    half = 4.302653 * 0.1 / math.sqrt(3)
    assert summary.loc[0, ["low", "high"]].tolist() == pytest.approx([0.2 - half, 0.2 + half], abs=1e-6)
    assert summary.loc[1, ["low", "high"]].isna().all()
    assert summary["diverged"].tolist() == pytest.approx([1 / 3, 1.0])


def test_summary_of_nothing_has_its_columns():
    summary = summarize(pd.DataFrame(columns=["task", "score", "diverged"]), ["task"])
    assert summary.empty
    assert summary.columns.tolist() == ["task", "n", "mean", "low", "high", "diverged"]


def seeds(**values: float) -> pd.DataFrame:
    return pd.DataFrame({"seed": [int(k[1:]) for k in values], "score": values.values()})


def test_difference_is_paired_by_seed():
    found = paired_difference(seeds(s0=0.9, s1=0.5, s2=0.7, s9=0.0), seeds(s2=0.5, s1=0.4, s0=0.6, s7=1.0), ["seed"])
    assert found["n"] == 3
    assert found["mean"] == pytest.approx(0.2)
    paired = scipy_stats.ttest_rel([0.9, 0.5, 0.7], [0.6, 0.4, 0.5]).confidence_interval(0.95)
    assert (found["low"], found["high"]) == pytest.approx((paired.low, paired.high))


def test_difference_of_few_or_no_pairs():
    two = paired_difference(seeds(s0=1.0, s1=0.5), seeds(s0=0.5, s1=0.5), ["seed"])
    assert (two["n"], two["mean"]) == (2, 0.25)
    assert math.isnan(two["low"])
    assert math.isnan(two["high"])
    assert paired_difference(seeds(s0=1.0), seeds(s1=0.5), ["seed"]) is None


def test_two_rows_of_one_seed_are_never_paired_by_accident():
    twice = pd.concat([seeds(s0=1.0), seeds(s0=0.9)])
    with pytest.raises(pd.errors.MergeError):
        paired_difference(twice, seeds(s0=0.5), ["seed"])


# --- other intervals ------------------------------------------------------------------------------------------------


def test_welch_interval_is_scipys():
    first, second = [0.9, 0.8, 0.85, 0.95], [0.5, 0.7, 0.65]
    expected = scipy_stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    assert welch_interval(first, second) == pytest.approx((expected.low, expected.high))
    assert welch_interval([0.9] * 3, [0.5] * 3) == pytest.approx((0.4, 0.4))
    assert welch_interval(first, second[:2]) is None


def test_ratio_interval_by_hand():
    """Its ends are the ratios r at which the t-interval of above - r·below just touches 0."""
    above, below = np.array([0.10, 0.12, 0.09, 0.13]), np.array([0.30, 0.33, 0.28, 0.31])
    low, high = ratio_interval(above, below)
    assert low < above.mean() / below.mean() < high
    assert t_interval(above - low * below)[0] == pytest.approx(0)
    assert t_interval(above - high * below)[1] == pytest.approx(0)


def test_ratio_interval_with_a_sure_denominator_is_the_t_interval():
    above = [0.1, 0.2, 0.3]
    assert ratio_interval(above, [0.5] * 3) == pytest.approx([2 * end for end in t_interval(above)])


def test_ratio_to_what_may_be_zero_has_no_interval():
    assert ratio_interval([0.1, 0.2, 0.3], [-0.1, 0.1, 0.2]) is None
    assert ratio_interval([0.1, 0.2], [0.5, 0.6]) is None


def test_bootstrap_interval_agrees_with_scipys():
    values = np.random.default_rng(1).normal(size=20)
    rng = np.random.default_rng(2)
    theirs = scipy_stats.bootstrap((values,), np.mean, method="percentile", rng=rng).confidence_interval
    assert bootstrap_interval(values) == pytest.approx((theirs.low, theirs.high), abs=0.02)
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)


def test_bootstrap_interval_of_few_and_of_equal_values():
    assert bootstrap_interval([0.1, 0.2]) is None
    assert bootstrap_interval([0.5] * 3) == (0.5, 0.5)
    assert bootstrap_interval([1.0, 2.0, 3.0]) == (1.0, 3.0)  # the same value is drawn three times in 1 of 27 resamples


def test_bootstrap_of_another_statistic_resamples_rows():
    rows = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    assert bootstrap_interval(
        rows, statistic=lambda s: s[:, :, 1].mean(axis=1) / s[:, :, 0].mean(axis=1)
    ) == pytest.approx((10, 10))
    assert bootstrap_interval(rows, statistic=lambda s: np.full(len(s), math.nan)) is None


@pytest.mark.parametrize("n", [5, 10])
def test_expanded_level_mends_the_coverage_of_the_bootstrap(n, monkeypatch):
    monkeypatch.setattr(stats, "RESAMPLES", 1999)
    draws = np.random.default_rng(0).normal(size=(600, n))

    def coverage(level: float) -> float:
        return np.mean([low <= 0 <= high for low, high in (bootstrap_interval(d, level) for d in draws)])

    assert coverage(0.95) < 0.93
    assert coverage(expanded_level(n)) == pytest.approx(0.95, abs=0.035)


# --- analysis of variance -------------------------------------------------------------------------------------------


def test_analysis_of_variance_by_hand():
    # columns 1, 2, 3 apart from residuals ±0.5 in a 2 × 2 corner: F = (2·2/2) / (1/2) = 4 on 2 and 2, p = 1/(1 + 4)
    scores = np.array([[1.5, 1.5, 3.0], [0.5, 2.5, 3.0]])
    assert blocked_anova(scores) == pytest.approx(1 / 5)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)).map(lambda p: (round(p[0], 3), round(p[1], 3))),
                min_size=3, max_size=8))  # fmt: skip
def test_analysis_of_variance_of_two_columns_is_the_paired_test(pairs):
    scores = np.array(pairs)
    differences = scores[:, 0] - scores[:, 1]
    if np.ptp(differences) < 1e-6:
        assert blocked_anova(scores) == (1.0 if abs(differences[0]) < 1e-6 else 0.0)
    else:
        assert blocked_anova(scores) == pytest.approx(scipy_stats.ttest_rel(*scores.T).pvalue, abs=1e-9)


def test_analysis_of_variance_ignores_what_a_seed_adds_to_all():
    scores = np.random.default_rng(0).normal(size=(4, 5))
    assert blocked_anova(scores + 10 * np.arange(4)[:, None]) == pytest.approx(blocked_anova(scores))
    assert math.isnan(blocked_anova(scores[:1]))
    assert math.isnan(blocked_anova(scores[:, :1]))
    assert math.isnan(blocked_anova(np.empty((0, 0))))


# --- correlations ---------------------------------------------------------------------------------------------------

pairs = st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=5, max_size=12, unique_by=(
    lambda p: round(p[0], 3), lambda p: round(p[1], 3)))  # fmt: skip


@given(pairs)
def test_correlations_are_scipys(values):
    first, second = np.round(np.array(values).T, 3)
    found = correlation(first, second)
    theirs = scipy_stats.pearsonr(first, second)
    assert found.n == len(values)
    assert found.pearson == pytest.approx(theirs.statistic)
    if found.pearson_interval is not None:
        interval = theirs.confidence_interval(0.95)
        assert found.pearson_interval == pytest.approx((interval.low, interval.high))
    assert found.spearman == pytest.approx(scipy_stats.spearmanr(first, second).statistic)


def test_correlation_by_hand():
    # ranks 1 2 3 4 5 and 2 1 3 4 5: d² = 2, so 1 - 6·2/(5·24) = 0.9; z = atanh 0.9 ± 1.96·√((1 + 0.81/2)/2)
    found = correlation([1, 2, 3, 4, 5], [20, 10, 30, 40, 1000])
    assert found.spearman == pytest.approx(0.9)
    half = 1.959964 * math.sqrt(1.405 / 2)
    assert found.spearman_interval == pytest.approx((math.tanh(1.472219 - half), math.tanh(1.472219 + half)), abs=1e-6)


def test_correlations_that_are_undefined_or_have_no_interval():
    for flat in (correlation([1, 1, 1, 1, 1], [1, 2, 3, 4, 5]), correlation([1, 2, 3], [0.1] * 3), correlation([], [])):
        assert math.isnan(flat.pearson)
        assert math.isnan(flat.spearman)
        assert (flat.pearson_interval, flat.spearman_interval) == (None, None)
    three = correlation([1, 2, 3], [1, 3, 2])
    assert three.spearman == pytest.approx(0.5)
    assert (three.n, three.pearson_interval, three.spearman_interval) == (3, None, None)
    perfect = correlation([1, 2, 3, 4], [2, 4, 6, 9])
    assert perfect.spearman == pytest.approx(1.0)
    assert perfect.spearman_interval is None
    assert perfect.pearson_interval is not None


def test_correlation_of_unequal_lengths_is_an_error():
    with pytest.raises(InvalidValue, match="3 values cannot be paired with 2; give as many of one as of the other."):
        correlation([1, 2, 3], [1, 2])


def test_rank_correlations_are_spearmans():
    curves, target = np.random.default_rng(0).integers(0, 5, size=(8, 6)), np.array([1, 2, 2, 4, 5, 6])
    expected = [scipy_stats.spearmanr(curve, target).statistic for curve in curves]
    assert rank_correlations(curves, target) == pytest.approx(expected)
    flat = rank_correlations(np.array([[0.3, 0.1 + 0.2, 0.3], [1, 2, 3]]), np.array([1, 2, 3]))
    assert math.isnan(flat[0])  # 0.1 + 0.2 is 0.3 but for rounding
    assert flat[1] == pytest.approx(1.0)


# --- the released error bars ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "coverage"), [(3, 0.84), (10, 0.97), (50, 0.99)])
def test_coverage_of_the_released_error_bars(n, coverage):
    assert released_coverage(n) == pytest.approx(coverage, abs=0.005)
    draws = np.random.default_rng(n).normal(size=(4000, n))
    half_widths = 2.667 / math.sqrt(n) * draws.std(axis=1, ddof=0)  # as the scripts draw them
    assert np.mean(np.abs(draws.mean(axis=1)) <= half_widths) == pytest.approx(released_coverage(n), abs=0.02)


@pytest.mark.parametrize("level", [0.9, 0.95, 0.999])
def test_fewer_values_at_a_lower_level_have_the_interval_of_more(level):
    few, more = np.array([-1.0, 0.0, 1.0]), np.tile([-1.0, 1.0], 6)
    few, more = (values / values.std(ddof=1) + 0.5 for values in (few, more))
    assert stats.t_interval(few, stats.level_as_if(3, 12, level)) == pytest.approx(stats.t_interval(more, level))
    assert stats.level_as_if(3, 3, level) == pytest.approx(level)


def test_one_value_has_no_coverage():
    with pytest.raises(InvalidValue, match="an error bar of 1 values has no coverage; give at least 2."):
        released_coverage(1)


def test_reliability_by_hand():
    """Columns 1, 3 and 5 on average, each row 1 above or below: no residual but in one cell pair."""
    exact = np.array([[0.0, 2.0, 4.0], [2.0, 4.0, 6.0]])
    assert stats.reliability(exact) == 1.0
    shaken = np.array([[0.0, 2.0, 4.0], [2.0, 4.0, 6.0], [1.0, 4.0, 4.0]])
    f, p = blocked_f(shaken)
    assert stats.reliability(shaken) == pytest.approx(1 - 1 / f)
    assert stats.blocked_anova(shaken) == pytest.approx(p)
    assert stats.reliability(np.array([[1.0, 1.0], [2.0, 2.0]])) == 0.0
    assert math.isnan(stats.reliability(np.ones((1, 3))))


def blocked_f(scores: np.ndarray) -> tuple[float, float]:
    """F and p of two-way analysis of variance without replication, from sums of squares of nested linear models."""
    rows, columns = scores.shape
    y = scores.ravel()
    row, column = (np.eye(n)[index] for n, index in ((rows, np.repeat(range(rows), columns)),
                                                     (columns, np.tile(range(columns), rows))))  # fmt: skip

    def left(design: np.ndarray) -> float:
        return float(((y - design @ np.linalg.lstsq(design, y, rcond=None)[0]) ** 2).sum())

    full, reduced = left(np.hstack([row, column])), left(row)
    freedom = (columns - 1, (columns - 1) * (rows - 1))
    f = (reduced - full) / freedom[0] / (full / freedom[1])
    return f, float(scipy_stats.f.sf(f, *freedom))


def test_expanded_level_by_hand():
    # t(4) at 97.5 % = 2.776445; 2Φ(x) - 1 = erf(x/√2) at x = √(5/4) times that, 0.998 in place of 0.95
    assert expanded_level(5) == pytest.approx(math.erf(2.776445 * math.sqrt(5 / 4) / math.sqrt(2)), abs=1e-7)


def test_a_statistic_that_some_resamples_leave_undefined_has_no_interval():
    def spread_or_nothing(samples):
        return np.where(np.ptp(samples, axis=1) == 0, math.nan, samples.mean(axis=1))

    assert bootstrap_interval([1.0, 2.0, 3.0], statistic=spread_or_nothing) is None
