"""The comparisons the book makes, as tables computed from the tidy table. Pure functions; every difference is paired by
seed: trials of one seed share examples, classifier start and data order."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from companion.stats import paired_difference

SETTING = ["model", "task", "metric", "train_size"]
# Two trials with these in common differ in seed alone.
CONDITION = [*SETTING, "protocol", "reinitialized", "permutation", "keep_layernorm", "learning_rate"]
CONDITION += ["batch_size", "epochs", "max_length"]


def benefit(table: pd.DataFrame, kind: str = "all", protocol: str = "described") -> pd.DataFrame:
    """What the redrawn layers were worth: intact minus ``kind`` ("all": every layer redrawn), by setting.

    Columns of SETTING, then n (seeds in both), mean, low, high (95 % t-interval, NaN when n < 3), sorted.
    """
    redrawn = table[(table["kind"] == kind) & (table["protocol"] == protocol)]
    return _differences(table[table["kind"] == "intact"], redrawn, SETTING)


def protocol_difference(table: pd.DataFrame) -> pd.DataFrame:
    """Described minus released initialization at each number of preserved layers (suffix), where both were run."""
    rows = table[table["kind"].isin(["suffix", "all"])]
    by_protocol = (rows[rows["protocol"] == name] for name in ("described", "released"))
    return _differences(*by_protocol, [*SETTING, "preserved_layers"])


def _differences(first: pd.DataFrame, second: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    columns = ["seed", "score"]
    groups = dict(iter(second.groupby(by)))
    rows = []
    for key, group in first.groupby(by):
        if key in groups and (found := paired_difference(group[columns], groups[key][columns], ["seed"])):
            rows.append({**dict(zip(by, key, strict=True)), **found})
    return pd.DataFrame(rows, columns=[*by, "n", "mean", "low", "high"])


@dataclass(frozen=True)
class Agreement:
    """This run beside the published table: trials in both, how many scores are equal, the largest difference, and how
    many conditions could be compared only in the mean (of which ``apart`` have an interval that excludes zero)."""

    same_trials: int
    equal: int
    largest: float
    conditions: int
    apart: int


def agreement(this_run: pd.DataFrame, published: pd.DataFrame) -> Agreement:
    """Compare equal trials score by score; conditions with other seeds or hyperparameters by unpaired rows are skipped.

    A condition without a common trial but with common seeds (another machine's weights or data, say) is compared by
    its paired difference.
    """
    both = this_run.merge(published, on="trial_id", suffixes=("", "_published"))
    gaps = (both["score"] - both["score_published"]).abs()
    rest = this_run[~this_run["trial_id"].isin(both["trial_id"])]
    differences = _differences(rest, published, CONDITION)
    apart = differences[(differences["low"] > 0) | (differences["high"] < 0)]
    return Agreement(
        same_trials=len(both),
        equal=int((gaps == 0).sum()),
        largest=float(gaps.max()) if len(both) else math.nan,
        conditions=len(differences),
        apart=len(apart),
    )
