"""The comparisons the book makes, as tables computed from the tidy table. Pure functions; every difference is paired by
seed: trials of one seed share examples, classifier start and data order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from scipy import stats as scipy_stats

from companion.errors import UnknownName
from companion.stats import LEVEL, correlation, paired_difference

SETTING = ["model", "task", "metric", "train_size"]
# Two trials with these in common differ in seed alone.
CONDITION = [*SETTING, "protocol", "reinitialized", "permutation", "keep_layernorm", "learning_rate"]
CONDITION += ["batch_size", "epochs", "max_length", "precision", "random_rate", "probe_layer", "pooling", "control"]
# What must be the same for two trials to be paired: everything but the seed and what is done to the layers.
HYPERPARAMETERS = ["learning_rate", "batch_size", "epochs", "max_length", "precision"]
SETUP = [*SETTING, "weights", "data", *HYPERPARAMETERS]
INTERVENTION = ["kind", "protocol", "reinitialized", "preserved_layers", "permutation", "keep_layernorm", "random_rate"]
REFERENCES = ("intact", "all")


def distinct(table: pd.DataFrame) -> pd.DataFrame:
    """The table with each trial once: the same trial may belong to several experiments."""
    return table.drop_duplicates("trial_id", ignore_index=True)


def named_apart(table: pd.DataFrame) -> pd.DataFrame:
    """The table, whose models have the profile in their name where profiles train one model differently.

    For what pools several profiles: a mean over both setups would be of neither. They differ in the data or the
    hyperparameters of one task and train size, or in weights or precision wherever they are, of fine-tunings or of
    probes trained by steps. Longer training within a profile is a control.
    """
    trained = table[table["learning_rate"].notna()].assign(probe=lambda rows: rows["kind"] == "probe")
    usual = trained.groupby(["profile", *SETTING, "probe"])["epochs"].transform("min")
    trained, of_model, of_size = trained[trained["epochs"] == usual], ["model", "probe"], [*SETTING, "probe"]
    different = {
        key[0]
        for by, alike in ((of_model, ["weights", "precision"]), (of_size, ["data", *HYPERPARAMETERS]))
        for key, count in trained[[*by, *alike]].drop_duplicates().groupby(by).size().items()
        if count > 1
    }
    named = table["model"] + " (" + table["profile"] + ")"
    return table.assign(model=table["model"].mask(table["model"].isin(different), named))


def plain(table: pd.DataFrame) -> pd.DataFrame:
    """The rows without an appendix control: LayerNorm is redrawn with its layer, and all layers learn at one rate."""
    return table[~table["keep_layernorm"] & (table["random_rate"] == 1.0)]


def usual_epochs(table: pd.DataFrame) -> pd.DataFrame:
    """The rows with the fewest epochs that a model has for a task and train size: longer training is a control."""
    fewest = table.groupby(["model", "task", "train_size"])["epochs"].transform("min")
    return table[table["epochs"] == fewest]


def benefit(table: pd.DataFrame) -> pd.DataFrame:
    """What all layers were worth: intact minus every layer redrawn ("described"), by setup.

    Columns of SETUP, then n (seeds in both), mean, low, high (95 % t-interval, NaN when n < 3), sorted.
    """
    table = distinct(plain(table))
    redrawn = table[(table["kind"] == "all") & (table["protocol"] == "described")]
    return differences(table[table["kind"] == "intact"], redrawn, SETUP)


def growth(table: pd.DataFrame) -> pd.DataFrame:
    """What all layers are worth at the largest train size minus at the smallest, paired by seed.

    A row per model, task, metric, weights, data and hyperparameters that were run at two sizes or more, with ``small``
    and ``large`` (the sizes), n, mean, low and high as in :func:`benefit`.
    """
    rows = distinct(plain(table))
    redrawn = rows[(rows["kind"] == "all") & (rows["protocol"] == "described")]
    both = rows[rows["kind"] == "intact"].merge(redrawn, on=[*SETUP, "seed"], suffixes=("", "_redrawn"))
    worth = both.assign(score=both["score"] - both["score_redrawn"])
    same = [name for name in SETUP if name != "train_size"]
    sizes = worth.groupby(same)["train_size"]
    worth = worth.assign(small=sizes.transform("min"), large=sizes.transform("max"))
    ends = (worth[worth["train_size"] == worth[end]] for end in ("large", "small"))
    found = differences(*ends, [*same, "small", "large"])
    return found[found["small"] < found["large"]].reset_index(drop=True)


def protocol_difference(table: pd.DataFrame) -> pd.DataFrame:
    """Described minus released initialization at each number of preserved layers (suffix), where both were run."""
    rows = distinct(plain(table))
    rows = rows[rows["kind"].isin(["suffix", "all"])]
    by_protocol = (rows[rows["protocol"] == name] for name in ("described", "released"))
    return differences(*by_protocol, [*SETUP, "preserved_layers"])


def control_difference(table: pd.DataFrame, control: str) -> pd.DataFrame:
    """Score with an appendix control minus score without, at each number of preserved layers (suffix).

    ``control`` is its column: ``random_rate`` (a row for each rate above 1) or ``keep_layernorm``. Trials with both
    controls are of neither.
    """
    rows = distinct(table[table["kind"].isin(["suffix", "all"])])
    without = plain(rows)
    alone = ~rows["keep_layernorm"] if control == "random_rate" else rows["random_rate"] == 1.0
    controlled = rows[alone & ~rows["trial_id"].isin(without["trial_id"])].groupby(control)
    by = [*SETUP, "protocol", "preserved_layers"]
    found = [differences(group, without, by).assign(**{control: value}) for value, group in controlled]
    return pd.concat([differences(rows.head(0), without, by).assign(**{control: None}), *found], ignore_index=True)


def effects(table: pd.DataFrame, reference: str = "intact") -> pd.DataFrame:
    """Every intervention minus a reference, paired by seed: ``intact``, or ``all`` (embeddings only).

    A row per setup and intervention (columns of SETUP and INTERVENTION), then n, mean, low, high as in
    :func:`benefit`. With ``all``, redrawn layers are compared with all of them redrawn by the same protocol; the
    intact and the permuted model, which no protocol touches, with ``described``. Probes are no interventions.
    """
    if reference not in REFERENCES:
        raise UnknownName("reference", reference, REFERENCES)
    trials = distinct(table[table["kind"] != "probe"])
    references = plain(trials[trials["kind"] == reference])
    same = SETUP if reference == "intact" else [*SETUP, "protocol"]
    known = dict(iter(references.groupby(same)))
    rows = []
    for key, group in trials.groupby([*SETUP, *INTERVENTION]):
        named = dict(zip([*SETUP, *INTERVENTION], key, strict=True))
        base = known.get(tuple(named[column] for column in same))
        if base is None or set(base["trial_id"]) & set(group["trial_id"]):
            continue
        columns = ["seed", "score"]
        if found := paired_difference(group[columns], base[columns], ["seed"]):
            rows.append({**named, **found})
    return pd.DataFrame(rows, columns=[*SETUP, *INTERVENTION, "n", "mean", "low", "high"])


def task_correlations(table: pd.DataFrame) -> pd.DataFrame:
    """For each pair of tasks, the correlation over permutations of seed-mean scores (experiment ``permutation``).

    A row per model, train size and pair, with n, the number of permutations both tasks have; ``seeds``, the fewest
    trials behind a mean; and pearson, spearman with their intervals (``*_low``, ``*_high``), NaN where
    :func:`companion.stats.correlation` has none. Training sets differ between tasks, so nothing is paired by seed.
    """
    trials = distinct(table[(table["experiment"] == "permutation") & (table["kind"] == "permuted")])
    rows = []
    for (model, size), group in trials.groupby(["model", "train_size"]):
        scores = group.pivot_table("score", "permutation", "task", aggfunc=["mean", "count"])
        for pair in itertools.combinations(sorted(group["task"].unique()), 2):
            both = scores.loc[:, (slice(None), list(pair))].dropna()
            found = correlation(*(both["mean", task] for task in pair))
            row = {"model": model, "train_size": size, "first_task": pair[0], "second_task": pair[1], "n": found.n}
            row["seeds"] = int(both["count"].to_numpy().min()) if found.n else 0
            for name in ("pearson", "spearman"):
                low, high = getattr(found, f"{name}_interval") or (math.nan, math.nan)
                row |= {name: getattr(found, name), f"{name}_low": low, f"{name}_high": high}
            rows.append(row)
    columns = ["model", "train_size", "first_task", "second_task", "n", "seeds"]
    columns += [name + end for name in ("pearson", "spearman") for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=columns)


def diverged_share(table: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """How many trials diverged, per group: ``by`` + n, diverged (their number), share, low, high (Wilson's interval).

    A trial in several experiments counts once, or once in each if ``by`` holds ``experiment``.
    """
    rows = []
    for key, group in table.drop_duplicates(["trial_id", *by]).groupby(list(by), sort=True, dropna=False):
        diverged, n = int(group["diverged"].sum()), len(group)
        low, high = scipy_stats.binomtest(diverged, n).proportion_ci(LEVEL, method="wilson")
        row = dict(zip(by, key, strict=True))
        rows.append(
            {**row, "n": n, "diverged": diverged, "share": diverged / n, "low": float(low), "high": float(high)}
        )
    return pd.DataFrame(rows, columns=[*by, "n", "diverged", "share", "low", "high"])


def differences(first: pd.DataFrame, second: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """``first`` minus ``second`` paired by seed within each group of ``by``: a row of ``by`` + n, mean, low, high."""
    columns = ["seed", "score"]
    groups = dict(iter(second.groupby(by)))
    rows = []
    for key, group in first.groupby(by):
        if key in groups and (found := paired_difference(group[columns], groups[key][columns], ["seed"])):
            rows.append({**dict(zip(by, key, strict=True)), **found})
    return pd.DataFrame(rows, columns=[*by, "n", "mean", "low", "high"])


def _filled(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """What a trial lacks (a fine-tuning its probe layer, a logistic probe its rate) as a text, which equals itself."""
    keys = table[by].astype(object)
    return table.assign(**keys.where(keys.notna(), "none"))


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
    """Compare this run's trials with the published rows: equal trials score by score, others by condition.

    A condition without a common trial but with common seeds (another machine's weights or data, say) is compared by
    its paired difference. One that has no seed in common, or is published with other hyperparameters, is passed over.
    """
    both = this_run.merge(published, on="trial_id", suffixes=("", "_published"))
    gaps = (both["score"] - both["score_published"]).abs()
    rest = this_run[~this_run["trial_id"].isin(both["trial_id"])]
    compared = differences(_filled(rest, CONDITION), _filled(published, CONDITION), CONDITION)
    apart = compared[(compared["low"] > 0) | (compared["high"] < 0)]
    return Agreement(
        same_trials=len(both),
        equal=int((gaps == 0).sum()),
        largest=float(gaps.max()) if len(both) else math.nan,
        conditions=len(compared),
        apart=len(apart),
    )
