"""Schedules by hand, and bounds that hold for any."""

from __future__ import annotations

import pandas as pd
import pytest
from conftest import result_of, some_trial
from hypothesis import given
from hypothesis import strategies as st

from companion import generated, schedule, table


def test_by_hand():
    seconds = [1, 1, 2, 3, 5]
    assert schedule.longest_first(seconds, 2) == 6  # 5 + 1 and 3 + 2 + 1
    assert schedule.in_order(seconds, 2) == 8  # 1 + 2 + 5 and 1 + 3
    assert schedule.least(seconds, 2) == 6
    assert schedule.least(seconds, 4) == 5
    assert schedule.worst(2) == pytest.approx(7 / 6)


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=60), st.integers(1, 64))
def test_no_schedule_is_below_the_least_and_longest_first_is_near_it(seconds, workers):
    least, taken = schedule.least(seconds, workers), schedule.longest_first(seconds, workers)
    assert least <= taken + 1e-9
    assert taken <= sum(seconds) / workers + max(seconds)
    assert schedule.longest_first(seconds, 1) == sum(seconds)


def test_probes_that_share_passes_are_one_group():
    results = [result_of(some_trial(probe_layer=k), seconds=2.0) for k in range(3)] + [
        result_of(some_trial(), seconds=5.0)
    ]
    rows = table.tidy([*results, results[0]], experiment="probing", profile="p")
    [sweep] = schedule.sweeps(rows, ["probing"])
    assert sorted(sweep) == [5.0, 6.0]


def test_what_an_earlier_experiment_ran_is_not_run_again():
    first, second, third = (result_of(some_trial(seed=seed), seconds=seed + 1.0) for seed in range(3))
    rows = pd.concat(
        [
            table.tidy([second, third], experiment="localized", profile="p"),
            table.tidy([first, second], experiment="progressive", profile="p"),
            table.tidy([third], experiment="absent from the profile", profile="p"),
        ]
    )
    assert schedule.sweeps(rows, ["progressive", "localized"]) == [[1.0, 2.0], [3.0]]
    assert schedule.sweeps(rows, ["localized", "progressive"]) == [[2.0, 3.0], [1.0]]


@pytest.mark.skipif("minilm" not in table.published_profiles(), reason="results/minilm.parquet is not there")
def test_the_pages_table_goes_up_to_64_workers():
    lines = generated.scaling().splitlines()
    assert lines[0].startswith("Profile `minilm`: ")
    assert [line.split(" | ")[0] for line in lines[-7:]] == [f"| {n}" for n in (1, 2, 4, 8, 16, 32, 64)]
