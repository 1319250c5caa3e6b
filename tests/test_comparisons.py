"""The book's comparisons on tables small enough to check by hand."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from conftest import result_of, some_trial

from companion import comparisons, table

SUFFIX, ALL = (2, 3), (0, 1, 2, 3)


def rows(*cells: tuple, **changes) -> pd.DataFrame:
    """A tidy table of (reinitialized, protocol, seed, score)."""
    results = [
        result_of(some_trial(reinitialized=which, protocol=protocol, seed=seed, **changes), score)
        for which, protocol, seed, score in cells
    ]
    return table.tidy(results, experiment="progressive", profile="p")


INTACT = [((), "described", seed, score) for seed, score in enumerate((0.9, 0.8, 0.7))]


def test_benefit_is_intact_minus_all_redrawn_of_the_same_seed():
    random = [(ALL, "described", seed, score) for seed, score in enumerate((0.5, 0.5, 0.3))]
    released = [(ALL, "released", seed, 0.0) for seed in range(3)]
    suffix = [(SUFFIX, "described", seed, 0.0) for seed in range(3)]
    found = comparisons.benefit(rows(*INTACT, *random, *released, *suffix))
    assert len(found) == 1
    assert found.loc[0, ["task", "train_size", "n"]].tolist() == ["cola", 16, 3]
    assert found.loc[0, "mean"] == pytest.approx((0.4 + 0.3 + 0.4) / 3)
    assert found.loc[0, "low"] < found.loc[0, "mean"] < found.loc[0, "high"]


def test_benefit_is_by_setting_and_only_where_both_were_run():
    random = [(ALL, "described", seed, 0.5) for seed in range(3)]
    small, large = rows(*INTACT, *random), rows(*INTACT, *random[:2], train_size=99)
    alone = rows(*INTACT, task="sst2")
    found = comparisons.benefit(pd.concat([small, large, alone]))
    assert found[["task", "train_size", "n"]].to_numpy().tolist() == [["cola", 16, 3], ["cola", 99, 2]]
    assert found["low"].isna().tolist() == [False, True]


def test_benefit_of_nothing_has_its_columns():
    found = comparisons.benefit(rows(*INTACT))
    assert found.empty
    assert found.columns.tolist() == ["model", "task", "metric", "train_size", "n", "mean", "low", "high"]


def test_protocols_are_compared_at_each_number_of_preserved_layers():
    cells = [(which, protocol, seed, base + 0.1 * seed + (0.2 if protocol == "described" else 0.0))
             for which, base in ((SUFFIX, 0.5), (ALL, 0.1)) for protocol in ("described", "released")
             for seed in range(3)]  # fmt: skip
    prefix = [((0, 1), "described", seed, 1.0) for seed in range(3)]
    found = comparisons.protocol_difference(rows(*INTACT, *cells, *prefix))
    assert found["preserved_layers"].tolist() == [0, 2]
    assert found["n"].tolist() == [3, 3]
    assert found["mean"].tolist() == pytest.approx([0.2, 0.2])


# --- this run and the published trials ------------------------------------------------------------------------------


def test_equal_trials_are_compared_score_by_score():
    mine = rows(*INTACT)
    theirs = rows(*INTACT[:2], ((), "described", 2, 0.75), ((), "described", 3, 0.1))
    found = comparisons.agreement(mine, theirs)
    assert (found.same_trials, found.equal, found.conditions) == (3, 2, 0)
    assert found.largest == pytest.approx(0.05)


def test_other_weights_are_compared_in_the_mean():
    theirs = rows(*INTACT)
    close = rows(*(((), "described", seed, s + 0.01 * (-1) ** seed) for _, _, seed, s in INTACT), weights="x")
    apart = rows(*(((), "described", seed, s - 0.5 - 0.001 * seed) for _, _, seed, s in INTACT), weights="x")
    for mine, differs in ((close, 0), (apart, 1)):
        found = comparisons.agreement(mine, theirs)
        assert (found.same_trials, found.conditions, found.apart) == (0, 1, differs)
        assert math.isnan(found.largest)


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 2e-3},
        {"batch_size": 4},
        {"epochs": 2},
        {"max_length": 64},
        {"train_size": 17},
        {"task": "sst2"},
    ],
)  # fmt: skip
def test_other_hyperparameters_are_not_compared(change):
    found = comparisons.agreement(rows(*INTACT, **change), rows(*INTACT))
    assert (found.same_trials, found.conditions) == (0, 0)


def test_other_seeds_cannot_be_compared():
    mine = rows(*(((), "described", seed + 10, score) for _, _, seed, score in INTACT))
    found = comparisons.agreement(mine, rows(*INTACT))
    assert (found.same_trials, found.conditions) == (0, 0)


# --- the table on disk ----------------------------------------------------------------------------------------------


def test_a_published_table_comes_back_with_its_types(tmp_path):
    whole = rows(*INTACT, (SUFFIX, "released", 0, 0.25))
    paths = table.publish(whole.sample(frac=1, random_state=0), "p", tmp_path)
    assert [p.name for p in paths] == ["p.parquet", "p.csv"]
    again = table.published("p", tmp_path)
    assert again.dtypes.astype(str).to_dict() == whole.dtypes.astype(str).to_dict()
    assert sorted(again["trial_id"]) == sorted(whole["trial_id"])
    twin = pd.read_csv(paths[1], dtype={"reinitialized": str})
    assert twin["score"].tolist() == again["score"].tolist()
    assert twin["trial_id"].tolist() == again["trial_id"].tolist()
    assert not list(tmp_path.glob("*.tmp"))


def test_publishing_the_same_rows_in_another_order_writes_the_same_files(tmp_path):
    whole = rows(*INTACT, (SUFFIX, "released", 0, 0.25))
    first = [p.read_bytes() for p in table.publish(whole, "p", tmp_path)]
    assert [p.read_bytes() for p in table.publish(whole[::-1], "p", tmp_path)] == first


def test_missing_and_damaged_tables_end_in_a_sentence(tmp_path):
    with pytest.raises(table.TableUnavailable, match="there is no published table for profile 'p'"):
        table.published("p", tmp_path)
    assert table.published_or_empty("p", tmp_path).empty
    (tmp_path / "p.parquet").write_bytes(b"PAR1")
    with pytest.raises(table.TableUnavailable, match="not a readable Parquet file"):
        table.published("p", tmp_path)
    rows(*INTACT).drop(columns="score").to_parquet(tmp_path / "p.parquet")
    with pytest.raises(table.TableUnavailable, match="has no column 'score'"):
        table.published("p", tmp_path)
