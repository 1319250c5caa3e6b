"""The scores of one task's trials by condition and seed, as the cases of claims compare them."""

from __future__ import annotations

import functools
from collections.abc import Collection
from dataclasses import dataclass

import pandas as pd

from companion.comparisons import HYPERPARAMETERS, SETUP, distinct, plain
from companion.errors import InvalidValue
from companion.stats import FEWEST, t_interval

# The smallest difference of scores worth a claim: about what another seed does to a fine-tuned BERT. Matthews
# correlation runs from -1 to 1, twice as far as accuracy, so the same share of its range is twice as much.
DELTA = {"accuracy": 0.02, "matthews": 0.04}

# The columns that say what a trial was and how it scored; the others would only be carried along.
READ = ["trial_id", "experiment", "layers", "task", "train_size", "seed", "metric", "score", "kind", "reinitialized"]
READ += ["permutation", "preserved_layers", "keep_layernorm", "random_rate", "probe_layer", "pooling", "control"]
READ += ["diverged"]
READ += HYPERPARAMETERS


@dataclass(frozen=True)
class TaskTrials:
    """The ``described`` trials of one model and task, of the same weights and data and of one setup per train size.
    ``rows`` are of the tidy table, a trial once per experiment; ``among`` is the number of tasks that the table has."""

    name: str
    rows: pd.DataFrame
    among: int

    @functools.cached_property
    def trials(self) -> pd.DataFrame:
        """Each plain fine-tuning trial once."""
        return distinct(plain(self.rows[self.rows["kind"] != "probe"]))

    @property
    def depth(self) -> int:
        """The number of layers."""
        return int(self.rows["layers"].iloc[0])

    @property
    def delta(self) -> float:
        """The smallest difference worth a claim, in the task's metric."""
        return DELTA[self.rows["metric"].iloc[0]]

    def of_kind(self, *kinds: str) -> pd.DataFrame:
        """The plain trials of these kinds."""
        return self.trials[self.trials["kind"].isin(kinds)]

    def localized(self) -> pd.DataFrame:
        """The trials of the experiment ``localized`` that redraw some layers, but not all."""
        rows = plain(self.rows[self.rows["experiment"] == "localized"])
        return distinct(rows[~rows["kind"].isin(["intact", "all"])])

    def probes(self) -> pd.DataFrame:
        """Logistic probes of the first token for the task's labels, at the largest train size (:func:`sizes_of`)."""
        probes = self.rows[(self.rows["kind"] == "probe") & (self.rows["pooling"] == "first") & ~self.rows["control"]]
        return distinct(probes[probes["train_size"].isin(sizes_of(probes)[-1:])])

    def intact(self, size: int) -> pd.DataFrame:
        """The intact model's scores at a train size, by seed (see :func:`by_seed`)."""
        trials = self.of_kind("intact")
        return by_seed(trials[trials["train_size"] == size])

    def kept(self, size: int) -> list[int]:
        """The numbers of first layers kept pretrained (0…L-1) that were run at a train size."""
        trials = self.of_kind("suffix", "all")
        return sorted(int(k) for k in trials.loc[trials["train_size"] == size, "preserved_layers"].unique())

    def cost(self, size: int, kept: int) -> pd.DataFrame:
        """Intact minus "only the first ``kept`` layers are pretrained", by seed."""
        trials = self.of_kind("suffix", "all")
        chosen = trials[(trials["train_size"] == size) & (trials["preserved_layers"] == kept)]
        return minus(self.intact(size), by_seed(chosen))

    def benefit(self, size: int) -> pd.DataFrame:
        """What all pretrained layers are worth: intact minus every layer redrawn, by seed."""
        return self.cost(size, 0)

    def transfer(self, size: int) -> pd.DataFrame:
        """Scores by seed (rows) and number of first layers kept (columns, 0…L) at a train size."""
        trials = self.of_kind("suffix", "all", "intact")
        return scores_by_seed(
            trials[trials["train_size"] == size].astype({"preserved_layers": int}), "preserved_layers"
        )

    def transfer_ids(self, size: int, kept: Collection[int], seeds: Collection[int]) -> set[str]:
        """The trials behind these columns and rows of :meth:`transfer`."""
        trials = self.of_kind("suffix", "all", "intact")
        chosen = trials["preserved_layers"].isin(kept) & trials["seed"].isin(seeds) & (trials["train_size"] == size)
        return set(trials.loc[chosen, "trial_id"])

    @functools.cached_property
    def probing_curve(self) -> pd.Series:
        """Mean probe score by number of layers read (0: the embeddings)."""
        probes = self.probes()
        return probes.groupby(probes["probe_layer"].astype(int))["score"].mean()

    def nothing_to_read(self) -> str:
        """Why no claim about layers that probe well can be judged, or "" if some layer probes clearly better."""
        if 0 not in self.probing_curve:
            return "no probe reads the embeddings"
        if lacking := sorted({*range(self.depth + 1)} - {*self.probing_curve.index}):
            return f"no probe reads the output of layer {', '.join(map(str, lacking))} (from 1)"
        if self.probes().groupby("probe_layer")["seed"].nunique().min() < FEWEST:
            return f"fewer than {FEWEST} seeds of probes"
        gain = self.probing_curve.drop(0).max() - self.probing_curve[0]
        return "" if gain > self.delta else f"no layer's mean probe score is {self.delta} above that on the embeddings"

    def set_up_alike(self, sizes: Collection[int]) -> str:
        """Why these train sizes cannot be compared, or "" if they were run with the same hyperparameters."""
        setups = self.trials.loc[self.trials["train_size"].isin(sizes), HYPERPARAMETERS].drop_duplicates()
        return "" if len(setups) == 1 else "the train sizes were run with different hyperparameters"

    def nothing_at_stake(self, size: int) -> str:
        """Why no claim about parts of the benefit can be judged at this size, or "" if the benefit is shown."""
        interval = t_interval(self.benefit(size)["value"])
        if interval is None:
            return f"fewer than {FEWEST} seeds of the intact model and of every layer redrawn"
        shown = interval[0] > self.delta
        return "" if shown else f"all layers together are not shown to be worth more than {self.delta}"


def by_seed(rows: pd.DataFrame) -> pd.DataFrame:
    """Scores of one condition, indexed by seed: columns ``value`` and ``ids``, a tuple of the trials behind it.

    :class:`InvalidValue` if two trials have one seed: they are not of one condition.
    """
    rows = rows.set_index("seed")
    if not rows.index.is_unique:
        first, second = rows.loc[rows.index[rows.index.duplicated()][0], "trial_id"].iloc[:2]
        raise InvalidValue(f"trials {first} and {second} differ in neither seed nor condition", "leave one of them out")
    return pd.DataFrame({"value": rows["score"], "ids": [(i,) for i in rows["trial_id"]]}, index=rows.index)


def scores_by_seed(rows: pd.DataFrame, treatment: str) -> pd.DataFrame:
    """Scores by seed (rows) and treatment (columns); :class:`InvalidValue` as of :func:`by_seed`."""
    for _, group in rows.groupby(treatment):
        by_seed(group)
    return rows.pivot(index="seed", columns=treatment, values="score")


def minus(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """First minus second where both have the seed; both as from :func:`by_seed`, and so is the answer."""
    seeds = first.index.intersection(second.index)
    first, second = first.loc[seeds], second.loc[seeds]
    ids = [a + b for a, b in zip(first["ids"], second["ids"], strict=True)]
    return pd.DataFrame({"value": first["value"] - second["value"], "ids": ids}, index=seeds)


def ids_of(*samples: pd.DataFrame) -> frozenset[str]:
    """The trials behind these samples."""
    return frozenset(i for sample in samples for ids in sample["ids"] for i in ids)


def tasks_of(table: pd.DataFrame) -> list[TaskTrials]:
    """The table's described trials by task: of the weights and data, and then at each train size (probes apart) of the
    setup, that have most trials."""
    rows = table[table["protocol"] == "described"].sort_values(["seed", "trial_id"])  # sums come out alike to the bit
    if rows.empty:
        return []
    rows = _commonest(rows, ["task"], ["weights", "data"])
    rows = _commonest(rows.assign(probe=rows["kind"] == "probe"), ["task", "train_size", "probe"], SETUP)
    by_task = rows[READ].groupby("task")
    return [TaskTrials(name, group, len(by_task)) for name, group in by_task]


def _commonest(rows: pd.DataFrame, within: list[str], which: list[str]) -> pd.DataFrame:
    """Within each group, only the rows of the combination of values that most trials have."""
    found = rows.groupby(which, dropna=False).ngroup()
    once = ~rows["trial_id"].duplicated()
    most = found[once].groupby([rows.loc[once, name] for name in within]).agg(lambda numbers: numbers.mode()[0])
    return rows[found == rows.join(most.rename("most"), on=within)["most"]]


def sizes_of(rows: pd.DataFrame) -> list[int]:
    """Train sizes run with at least three seeds, ascending; if there are none, all train sizes."""
    seeds = rows.groupby("train_size")["seed"].nunique()
    return sorted(int(size) for size in (seeds[seeds >= FEWEST] if (seeds >= FEWEST).any() else seeds).index)
