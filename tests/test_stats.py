"""Statistics against SciPy and numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from companion.stats import paired_difference, summarize, t_interval

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
