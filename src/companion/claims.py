"""The claims ledger: the paper's claims as checks on the tidy table, with verdicts never stronger than the data.

A claim is taken apart into cases: one comparison in one task, sometimes one of several there. Each case sets an
interval against a threshold that was fixed before looking. "Supported" and "not supported" both need the whole interval
on one side; an interval that includes the threshold, fewer than three seeds, or a missing experiment is "undecided".

From cases to the claim. A claim about *every* case is supported if each one supports it at 95 %, and not supported if
one speaks against it. A claim about *some* case is supported if one supports it, and not supported if each one speaks
against it. Where one case of many decides, its interval is taken at 1 - 0.05/cases (Bonferroni), since the most
extreme of many comparisons is extreme by chance alone.

All claims are judged on the ``described`` protocol, and on one setup (weights, data, hyperparameters) per task and
train size: the one with most trials. Differences are paired by seed. Where several train sizes were run, the largest
with at least three seeds counts, unless the claim is about sizes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd

from companion.comparisons import SETUP, distinct, plain
from companion.errors import InvalidValue
from companion.stats import (
    FEWEST,
    FEWEST_PAIRS,
    LEVEL,
    Interval,
    blocked_anova,
    bootstrap_interval,
    expanded_level,
    rank_correlations,
    ratio_interval,
    t_interval,
    welch_interval,
)
from companion.trial import format_layers, parse_layers

SUPPORTED, NOT_SUPPORTED, UNDECIDED = "supported", "not supported", "undecided"

# The smallest difference of scores worth a claim: about what another seed does to a fine-tuned BERT. Matthews
# correlation runs from -1 to 1, twice as far as accuracy, so the same share of its range is twice as much.
DELTA = {"accuracy": 0.02, "matthews": 0.04}
A_LOT = 2.0  # times DELTA: clearly more than the smallest difference worth a claim
LITTLE = 0.1  # of what all layers are worth: a cost this small leaves nine tenths of the benefit
WELL = 0.9  # of the best probe's gain over the embeddings: a layer that reaches it "probes well"
MOST = 0.5  # of the benefit: a block that costs more than this when redrawn carries it
SHORT = 0.5  # of the layers: a longer block is not "a short block"
ALPHA = 1 - LEVEL
# Fewer seeds resampled cannot give a 95 % interval: even the range of five values covers a median 94 % of the time.
FEWEST_RESAMPLED = 5
BOOTSTRAP_SEED = 0

# The columns that say what a trial was and how it scored; the others would only be carried along.
READ = ["trial_id", "experiment", "layers", "task", "train_size", "seed", "metric", "score", "kind", "reinitialized"]
READ += ["permutation", "preserved_layers", "keep_layernorm", "random_rate", "probe_layer", "pooling", "control"]

Margins = tuple[float, float]  # how far an interval lies inside the claim, and inside its opposite; at most one is > 0
Rule = Callable[[float, float], Margins]
NEITHER: Margins = (-math.inf, -math.inf)


@dataclass(frozen=True)
class Case:
    """One comparison. ``interval`` and ``margins`` are functions of the confidence level; ``interval`` gives None, and
    ``margins`` NEITHER, where the data do not allow one. ``statistic`` is what the interval is of."""

    setting: str
    statistic: float
    n: int
    interval: Callable[[float], Interval | None]
    margins: Callable[[float], Margins]
    trial_ids: frozenset[str] = frozenset()
    note: str = ""


@dataclass(frozen=True)
class Evidence:
    """A case judged: by itself at 95 % (``verdict``), and as one of many (``strict``). ``margin`` orders cases of one
    verdict: the larger, the farther the interval lies inside the claim (in units of the smallest difference)."""

    setting: str
    statistic: float
    low: float | None
    high: float | None
    n: int
    verdict: str
    strict: str
    margin: float
    trial_ids: tuple[str, ...]
    note: str


@dataclass(frozen=True)
class Verdict:
    """A claim judged for one profile. ``setting``, ``statistic``, ``low``, ``high`` (95 %) and ``n`` are those of the
    case that decides; ``trial_ids`` are of all cases; ``statistic`` is NaN, ``n`` 0 where there is no case."""

    id: str
    profile: str
    setting: str
    statistic: float
    low: float | None
    high: float | None
    n: int
    verdict: str
    reason: str
    trial_ids: tuple[str, ...]
    evidence: tuple[Evidence, ...]

    def as_dict(self) -> dict[str, object]:
        """For JSON: ``low`` and ``high`` as ``interval`` (None or a pair), numbers that do not exist as None; and the
        claim's statement and rule."""
        values = {**asdict(self), "interval": _pair(self), "evidence": []}
        for case in self.evidence:
            shown = {**asdict(case), "interval": _pair(case)}
            values["evidence"].append({k: v for k, v in shown.items() if k not in ("low", "high", "margin", "strict")})
        for judged in (values, *values["evidence"]):
            judged["statistic"] = judged["statistic"] if math.isfinite(judged["statistic"]) else None
        claim = claim_of(self)
        known = {"id": self.id, "statement": claim.statement, "rule": claim.rule}
        return {**known, **{name: value for name, value in values.items() if name not in ("low", "high")}}


def _pair(judged: Evidence | Verdict) -> list[float] | None:
    return None if judged.low is None else [judged.low, judged.high]


@dataclass(frozen=True)
class Claim:
    """One line of the ledger. ``cases`` computes ``quantity`` for every comparison in a task; ``over`` says whether
    "every" case or "some" case must hold; ``needs`` are the experiments without which there is no verdict;
    ``notebook`` is the page that shows the trials, ``figure`` the paper's figure it answers to."""

    id: str
    statement: str
    quantity: str
    rule: str
    over: str
    needs: tuple[str, ...]
    cases: Callable[[TaskTrials], list[Case]]
    notebook: str
    figure: str


# --- the trials of one task ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TaskTrials:
    """The ``described`` trials of one model and task, of one setup per train size. ``rows`` are of the tidy table, a
    trial once per experiment; ``among`` is the number of tasks that the table has."""

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
        """Logistic probes of the first token for the task's labels, at the largest train size."""
        probes = self.rows[(self.rows["kind"] == "probe") & (self.rows["pooling"] == "first") & ~self.rows["control"]]
        return distinct(probes[probes["train_size"] == probes["train_size"].max()])

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
        trials = trials[trials["train_size"] == size].astype({"preserved_layers": int})
        return trials.pivot(index="seed", columns="preserved_layers", values="score")

    def transfer_ids(self, size: int, kept: Collection[int], seeds: Collection[int]) -> set[str]:
        """The trials behind these columns and rows of :meth:`transfer`."""
        trials = self.of_kind("suffix", "all", "intact")
        chosen = trials["preserved_layers"].isin(kept) & trials["seed"].isin(seeds) & (trials["train_size"] == size)
        return set(trials.loc[chosen, "trial_id"])

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
    """The table's described trials by task, each train size (and its probes) cut down to the setup with most rows."""
    rows = table[table["protocol"] == "described"].sort_values(["seed", "trial_id"])  # sums come out alike to the bit
    if rows.empty:
        return []
    setup = rows.groupby(SETUP, dropna=False).ngroup()
    most = setup.groupby([rows["task"], rows["train_size"], rows["kind"] == "probe"]).transform(lambda s: s.mode()[0])
    by_task = rows.loc[setup == most, READ].groupby("task")
    return [TaskTrials(name, group, len(by_task)) for name, group in by_task]


def sizes_of(rows: pd.DataFrame) -> list[int]:
    """Train sizes run with at least three seeds, ascending; if there are none, all train sizes."""
    seeds = rows.groupby("train_size")["seed"].nunique()
    return sorted(int(size) for size in (seeds[seeds >= FEWEST] if (seeds >= FEWEST).any() else seeds).index)


# --- rules and cases -----------------------------------------------------------------------------------------------


def above(threshold: float) -> Rule:
    """The claim is that the quantity is above the threshold."""
    return lambda low, high: (low - threshold, threshold - high)


def below(threshold: float) -> Rule:
    """The claim is that the quantity is below the threshold."""
    return lambda low, high: (threshold - high, low - threshold)


def beyond(threshold: float) -> Rule:
    """The claim is that the quantity is farther from 0 than the threshold, on either side."""
    return lambda low, high: (max(low, -high) - threshold, min(threshold - high, low + threshold))


def within(threshold: float) -> Rule:
    """The claim is that the quantity is nearer to 0 than the threshold."""
    return lambda low, high: beyond(threshold)(low, high)[::-1]


def _tested(interval: Callable[[float], Interval | None], rule: Rule, unit: float) -> Callable[[float], Margins]:
    """The margins of a rule, in ``unit``, as a function of the level."""

    def margins(level: float) -> Margins:
        found = interval(level)
        return NEITHER if found is None else tuple(margin / unit for margin in rule(*found))

    return margins


def _case(setting: str, sample: pd.DataFrame, rule: Rule, unit: float) -> Case:
    """A case about the mean of per-seed values, by their t-interval."""

    def interval(level: float) -> Interval | None:
        return t_interval(sample["value"], level)

    margins = _tested(interval, rule, unit)
    return Case(setting, float(sample["value"].mean()), len(sample), interval, margins, ids_of(sample))


def _open(case: Case, why: str) -> Case:
    """The case without a verdict whatever its interval, if there is a reason; else as it was."""
    return replace(case, margins=lambda level: NEITHER, note=why) if why else case


def _with(case: Case, *trial_ids: Iterable[str]) -> Case:
    """The case with more trials behind it."""
    return replace(case, trial_ids=case.trial_ids.union(*trial_ids))


def _nothing(setting: str, why: str, trial_ids: Iterable[str] = ()) -> Case:
    """A case that cannot be computed."""
    return Case(setting, math.nan, 0, lambda level: None, lambda level: NEITHER, frozenset(trial_ids), why)


def _only_if(case: Case, shown: bool, otherwise: str) -> Case:
    """The case, able to support its claim only if a second condition is shown too; it can speak against it anyway."""
    if shown:
        return case
    return replace(case, margins=lambda level: (-math.inf, case.margins(level)[1]), note=otherwise)


# --- the claims ----------------------------------------------------------------------------------------------------
# One function per claim: from a task's trials to its cases, none where the task lacks the trials.


def not_necessary(task: TaskTrials) -> list[Case]:
    """C1: the cost of redrawing every layer from the first on that probes well.

    With k* the fewest layers whose probe reaches 90 % of the best gain, that is to keep k*-1. On a coarser grid the
    nearest fewer layers kept must cost little to support the claim (more is redrawn than needed), and the nearest more
    kept must cost more to speak against it (only layers that probe well are redrawn).
    """
    probes, suffixes = task.probes(), task.of_kind("suffix")
    if probes.empty or suffixes.empty:
        return []
    size, curve = sizes_of(suffixes)[-1], _curve(probes)
    gain = curve.drop(0, errors="ignore").max() - curve.get(0, math.nan)
    if not gain > task.delta:
        why = "no layer probes better than the embeddings"
        return [_nothing(f"{task.name}, {size:,} examples", why, probes["trial_id"])]
    first = min(k for k in curve.index if k and curve[k] >= curve[0] + WELL * gain) - 1
    return [_with(_redrawn_from(task, size, first), probes["trial_id"])]


def _redrawn_from(task: TaskTrials, size: int, first: int) -> Case:
    """The case that redrawing the layers from ``first`` on costs little, by the nearest numbers of layers kept."""
    setting = f"{task.name}, {size:,} examples"
    fewer = [k for k in task.kept(size) if k <= first]
    more = [k for k in task.kept(size) if k >= first]
    if not fewer:
        return _nothing(setting, f"no trial keeps {first} layers or fewer")
    setting += f", first {fewer[-1]} of {task.depth} layers kept"
    benefit = task.benefit(size)
    little = below(max(task.delta, LITTLE * benefit["value"].mean()))
    supporting = _case(setting, task.cost(size, fewer[-1]), little, task.delta)
    opposing = _case(setting, task.cost(size, more[0]), little, task.delta) if more else _nothing(setting, "")
    case = replace(
        supporting,
        margins=lambda level: (supporting.margins(level)[0], opposing.margins(level)[1]),
        note=f"layers {first} to {task.depth - 1}, counted from 0, probe well",
    )
    return _open(_with(case, opposing.trial_ids, ids_of(benefit)), task.nothing_at_stake(size))


def _curve(probes: pd.DataFrame) -> pd.Series:
    """Mean probe score by number of layers read (0: the embeddings)."""
    return probes.groupby(probes["probe_layer"].astype(int))["score"].mean()


def not_sufficient(task: TaskTrials) -> list[Case]:
    """C2: the loss when only a short block around the best-probing layer keeps its weights; every such block counts."""
    localized, curve = task.localized(), _curve(task.probes()).drop(0, errors="ignore")
    if curve.empty or localized.empty:
        return []
    size, best = sizes_of(localized)[-1], int(curve.idxmax()) - 1
    setting = f"{task.name}, {size:,} examples"
    cases = []
    for text, rows in _by_layers(localized[localized["train_size"] == size]):
        redrawn = parse_layers(text)
        kept = tuple(i for i in range(task.depth) if i not in redrawn)
        if best in kept and _short_block(kept, task.depth):
            where = f"{setting}, only layers {format_layers(kept)} (from 0) kept"
            loss = minus(task.intact(size), by_seed(rows))
            cases.append(_open(_case(where, loss, above(task.delta), task.delta), task.nothing_at_stake(size)))
    cases = cases or [_nothing(setting, f"no block around the best-probing layer {best} (from 0) was kept alone")]
    return [_with(case, ids_of(task.benefit(size)), task.probes()["trial_id"]) for case in cases]


def _by_layers(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """(layers redrawn, trials), from the lowest layers up."""
    return sorted(rows.groupby("reinitialized"), key=lambda pair: parse_layers(pair[0]))


def _short_block(layers: tuple[int, ...], depth: int) -> bool:
    """Whether these are neighbors, and at most half of all layers."""
    return len(layers) <= SHORT * depth and layers == tuple(range(layers[0], layers[-1] + 1))


def depends_on_size(task: TaskTrials) -> list[Case]:
    """C3: what all layers are worth at the largest train size minus at the smallest, paired by seed."""
    trials = task.of_kind("all")
    if trials.empty:
        return []
    small, large = sizes_of(trials)[0], sizes_of(trials)[-1]
    if small == large:
        return [_one_size(task, trials)]
    difference = minus(task.benefit(large), task.benefit(small))
    setting = f"{task.name}, {large:,} against {small:,} examples"
    return [_case(setting, difference, beyond(task.delta), task.delta)]


def worth_nothing_when_scarce(task: TaskTrials) -> list[Case]:
    """C4: layers k…L-1 (0 < k < L) worth a lot at the largest train size, and next to nothing at the smallest.

    The statistic shown is their worth at the largest size.
    """
    trials = task.of_kind("suffix")
    if trials.empty:
        return []
    small, large = sizes_of(trials)[0], sizes_of(trials)[-1]
    if small == large:
        return [_one_size(task, trials)]
    cases = []
    for k in sorted({*task.kept(small)} & {*task.kept(large)} - {0}):
        setting = f"{task.name}, first {k} of {task.depth} layers kept, {large:,} against {small:,} examples"
        plenty = _case(setting, task.cost(large, k), above(A_LOT * task.delta), task.delta)
        scarce = _case(setting, task.cost(small, k), within(task.delta), task.delta)
        cases.append(_both(plenty, scarce, f"at {small:,} examples {_shown(scarce)}"))
    return cases


def _one_size(task: TaskTrials, trials: pd.DataFrame) -> Case:
    return _nothing(task.name, f"one train size only ({sizes_of(trials)[0]:,})", trials["trial_id"])


def _both(first: Case, second: Case, note: str) -> Case:
    """The case that both hold, shown with the numbers of the first."""

    def margins(level: float) -> Margins:
        pairs = first.margins(level), second.margins(level)
        return min(a for a, _ in pairs), max(b for _, b in pairs)

    return _with(replace(first, margins=margins, n=min(first.n, second.n), note=note), second.trial_ids)


def resembles_probing(task: TaskTrials) -> list[Case]:
    """C5: Spearman's correlation between the probing curve and the transfer curve (mean score by number of first layers
    kept), at the smallest train size minus at the largest; bootstrap over the seeds that all points share.

    Noise in a curve pulls its correlation towards 0, and more so at the small size: that works against the claim.
    """
    probes, suffixes = task.probes(), task.of_kind("suffix")
    if probes.empty or suffixes.empty:
        return []
    small, large = sizes_of(suffixes)[0], sizes_of(suffixes)[-1]
    if small == large:
        return [_one_size(task, suffixes)]
    setting, probing = f"{task.name}, {small:,} against {large:,} examples", _curve(probes)
    curves = [task.transfer(size) for size in (small, large)]
    points = sorted(set(probing.index).intersection(*(curve.columns for curve in curves)))
    curves = [curve[points].dropna() for curve in curves]
    seeds = curves[0].index.intersection(curves[1].index)
    behind = {*task.transfer_ids(small, points, seeds), *task.transfer_ids(large, points, seeds), *probes["trial_id"]}
    if len(points) < FEWEST_PAIRS:
        why = f"the curves share {len(points)} numbers of layers, and {FEWEST_PAIRS} are needed"
        return [_nothing(setting, why, behind)]
    if len(seeds) < FEWEST_RESAMPLED:
        return [_nothing(setting, f"{len(seeds)} seeds, and resampling needs {FEWEST_RESAMPLED}", behind)]
    scores = np.stack([curve.loc[seeds].to_numpy(float) for curve in curves], axis=1)
    return [_with(_resemblance(setting, scores, probing[points].to_numpy(float)), behind)]


def _resemblance(setting: str, scores: np.ndarray, target: np.ndarray) -> Case:
    """The case from scores (seeds, small and large size, numbers of layers) and probe scores (numbers of layers,)."""

    def gain(samples: np.ndarray) -> np.ndarray:
        means = samples.mean(axis=1)
        return rank_correlations(means[:, 0], target) - rank_correlations(means[:, 1], target)

    def interval(level: float) -> Interval | None:
        return bootstrap_interval(scores, expanded_level(len(scores), level), BOOTSTRAP_SEED, gain)

    flat = "" if interval(LEVEL) else "a curve is flat in some resamples, where a correlation is undefined"
    statistic = float(gain(scores[np.newaxis])[0])
    return Case(setting, statistic, len(scores), interval, _tested(interval, above(0.0), 1.0), note=flat)


def no_block_carries_it(task: TaskTrials) -> list[Case]:
    """C6: what redrawing one short block costs, as a share of what all layers are worth, for every block; and that
    blocks at different positions differ (analysis of variance, seeds as blocks, Bonferroni over tasks)."""
    localized = task.localized()
    if localized.empty:
        return []
    size = sizes_of(localized)[-1]
    setting = f"{task.name}, {size:,} examples"
    rows = localized[localized["train_size"] == size]
    rows = rows[rows["reinitialized"].map(lambda text: _short_block(parse_layers(text), task.depth))]
    if rows.empty:
        return [_nothing(setting, "no short block was redrawn alone", localized["trial_id"])]
    cases, p = [], blocked_anova(_complete(rows, "reinitialized"))
    for text, group in _by_layers(rows):
        cost = minus(task.intact(size), by_seed(group))
        case = _share(f"{setting}, layers {text} (from 0) redrawn", cost, task.benefit(size))
        case = _only_if(case, p < ALPHA / task.among, f"that positions differ is not shown (p = {p:.2g})")
        cases.append(_open(case, task.nothing_at_stake(size)))
    return cases


def _share(setting: str, cost: pd.DataFrame, benefit: pd.DataFrame) -> Case:
    """The case that the cost is less than half of the benefit, by Fieller's interval of their ratio."""
    seeds = cost.index.intersection(benefit.index)
    cost, benefit = cost.loc[seeds], benefit.loc[seeds]

    def interval(level: float) -> Interval | None:
        return ratio_interval(cost["value"], benefit["value"], level)

    share = cost["value"].mean() / benefit["value"].mean() if benefit["value"].mean() else math.nan
    margins = _tested(interval, below(MOST), 1.0)
    return Case(setting, float(share), len(seeds), interval, margins, ids_of(cost, benefit))


def _complete(rows: pd.DataFrame, treatment: str) -> np.ndarray:
    """Scores (seeds, treatments) of the seeds that have every treatment."""
    return rows.pivot(index="seed", columns=treatment, values="score").dropna().to_numpy(float)


def order_matters(task: TaskTrials) -> list[Case]:
    """C7: the intact model's mean over seeds minus the permuted models' mean over permutations; and that permutations
    differ, where at least three seeds allow to tell (analysis of variance, seeds as blocks, Bonferroni over tasks).

    Welch's interval, permutations and seeds being two samples: with one seed for all permutations (the paper's design)
    a paired difference would leave out how far off the single intact score behind all of them may be.
    """
    permuted = task.of_kind("permuted")
    if permuted.empty:
        return []
    size = sizes_of(permuted)[-1]
    permuted = permuted[permuted["train_size"] == size]
    case, scores = _permuted(task, size, permuted), _complete(permuted, "permutation")
    if len(scores) < FEWEST:
        why = f"fewer than {FEWEST} seeds have every permutation, so whether permutations differ cannot be told"
        return [replace(case, note=f"the interval is over permutations; {why}")]
    p = blocked_anova(scores)
    return [_only_if(case, p < ALPHA / task.among, f"that permutations differ is not shown (p = {p:.2g})")]


def _permuted(task: TaskTrials, size: int, permuted: pd.DataFrame) -> Case:
    """The case that intact models score higher than permuted ones, one value per seed and per permutation."""
    intact, means = task.intact(size), permuted.groupby("permutation")["score"].mean()

    def interval(level: float) -> Interval | None:
        return welch_interval(intact["value"], means, level)

    setting = f"{task.name}, {size:,} examples, {len(means)} permutations, intact model with {len(intact)} seeds"
    statistic = float(intact["value"].mean() - means.mean())
    margins = _tested(interval, above(task.delta), task.delta)
    return _with(Case(setting, statistic, len(means), interval, margins), ids_of(intact), permuted["trial_id"])


def controls_keep_it(task: TaskTrials) -> list[Case]:
    """C8: what pretrained layers are still worth when redrawn ones learn faster, or keep their LayerNorm: intact minus
    the control at the fewest layers kept. Only a worth shown without the control can be taken away by it."""
    rows = distinct(task.rows[task.rows["kind"].isin(["suffix", "all"])])
    faster = rows[(rows["random_rate"] > 1) & ~rows["keep_layernorm"]]
    controls = [(f"{rate:g} times the rate", group) for rate, group in faster.groupby("random_rate")]
    controls.append(("LayerNorm kept", rows[rows["keep_layernorm"] & (rows["random_rate"] == 1)]))
    return [_control(task, what, group) for what, group in controls if len(group)]


def _control(task: TaskTrials, what: str, rows: pd.DataFrame) -> Case:
    size = sizes_of(rows)[-1]
    rows = rows[rows["train_size"] == size]
    k = int(rows["preserved_layers"].min())
    setting = f"{task.name}, {size:,} examples, {what}, first {k} of {task.depth} layers kept"
    remaining = minus(task.intact(size), by_seed(rows[rows["preserved_layers"] == k]))
    without = task.cost(size, k)
    case = _with(_case(setting, remaining, above(task.delta), task.delta), ids_of(without))
    shown = t_interval(without["value"])
    why = "" if shown and shown[0] > task.delta else "without the control, a benefit is not shown either"
    return _open(case, why)


# Which rows of the table are an experiment's, wherever else the same trials are listed.
TRIALS_OF = {
    "progressive": "kind == 'suffix'",
    "data_scaling": "kind in ['suffix', 'all']",
    "probing": "kind == 'probe'",
    "localized": "experiment == 'localized' and kind not in ['intact', 'all']",
    "permutation": "kind == 'permuted'",
    "learning_rate": "random_rate > 1",
    "layernorm": "keep_layernorm",
}


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


SMALL, LARGE = (f"{times * DELTA['accuracy']:g} (Matthews: {times * DELTA['matthews']:g})" for times in (1.0, A_LOT))
PAIRED = "paired by seed, at the largest train size"

CLAIMS = (
    Claim(
        id="C1",
        statement="Layers whose output probes well are not necessary: redrawing all of them can cost little.",
        quantity=f"intact score minus the score with every layer redrawn from the first that probes well, {PAIRED}; "
        f"a layer probes well if its probe has {_percent(WELL)} of the best gain over the embeddings.",
        rule=f"some task: the interval's upper end is below {SMALL}, or below {_percent(LITTLE)} of what all layers "
        f"are worth if that is more, and all layers are worth more than {SMALL}.",
        over="some",
        needs=("probing", "progressive"),
        cases=not_necessary,
        notebook="probing",
        figure="1",
    ),
    Claim(
        id="C2",
        statement="Layers whose output probes well are not sufficient: kept alone, they do not give the intact score.",
        quantity=f"intact score minus the score with only a short block around the best-probing layer kept, {PAIRED}.",
        rule=f"every task and every such block: the interval's lower end is above {SMALL}.",
        over="every",
        needs=("probing", "localized"),
        cases=not_sufficient,
        notebook="localized",
        figure="2",
    ),
    Claim(
        id="C3",
        statement="What pretrained layers are worth depends on how much data there is for fine-tuning.",
        quantity="worth of all layers (intact minus all redrawn) at the largest train size minus at the smallest, "
        "paired by seed.",
        rule=f"every task: the interval lies above {SMALL}, or below minus that.",
        over="every",
        needs=("data_scaling",),
        cases=depends_on_size,
        notebook="data_scaling",
        figure="1",
    ),
    Claim(
        id="C4",
        statement="Layers worth a lot with plenty of data can be worth next to nothing when data is scarce.",
        quantity="worth of layers k…L-1 (intact minus those redrawn, 0 < k < L) at the largest and at the smallest "
        "train size, paired by seed.",
        rule=f"some task and k: at the largest size the interval's lower end is above {LARGE}, and at the "
        f"smallest the interval lies within ±{SMALL}.",
        over="some",
        needs=("data_scaling",),
        cases=worth_nothing_when_scarce,
        notebook="data_scaling",
        figure="1",
    ),
    Claim(
        id="C5",
        statement="The fewer examples there are, the more the transfer curve looks like the probing curve.",
        quantity="Spearman's correlation of the mean transfer curve with the probing curve at the smallest train size "
        "minus at the largest, bootstrap over seeds.",
        rule="every task: the interval's lower end is above 0.",
        over="every",
        needs=("probing", "progressive"),
        cases=resembles_probing,
        notebook="probing",
        figure="1",
    ),
    Claim(
        id="C6",
        statement="No short block of layers carries the benefit alone, and a block's worth depends on where it is.",
        quantity=f"cost of redrawing one block of at most {_percent(SHORT)} of the layers, as a share of the worth of "
        f"all layers, {PAIRED}; and an analysis of variance over positions.",
        rule=f"every task and block: the interval's upper end is below {_percent(MOST)}, and in every task positions "
        f"differ with p < {ALPHA:.2g} divided by the number of tasks; how tasks differ is shown, not judged.",
        over="every",
        needs=("localized",),
        cases=no_block_carries_it,
        notebook="localized",
        figure="2",
    ),
    Claim(
        id="C7",
        statement="The order of pretrained layers matters: permuting them costs score, some orders more than others.",
        quantity="intact score, mean over seeds, minus the permuted models', mean over permutations; and an analysis "
        f"of variance over permutations where each has {FEWEST} seeds.",
        rule=f"every task: the interval's lower end is above {SMALL}, and, where that can be told, permutations differ "
        f"with p < {ALPHA:.2g} divided by the number of tasks.",
        over="every",
        needs=("permutation",),
        cases=order_matters,
        notebook="permutation",
        figure="3",
    ),
    Claim(
        id="C8",
        statement="A benefit of pretrained layers remains if new layers learn faster, or keep their LayerNorm.",
        quantity=f"intact score minus the control's at the fewest layers kept, {PAIRED}.",
        rule=f"every task and both controls: the interval's lower end is above {SMALL}, as it is without the control.",
        over="every",
        needs=("learning_rate", "layernorm"),
        cases=controls_keep_it,
        notebook="learning_rate",
        figure="6 and 7",
    ),
)


def claim_of(verdict: Verdict) -> Claim:
    """The line of the ledger that a verdict is about."""
    return next(claim for claim in CLAIMS if claim.id == verdict.id)


# --- from cases to verdicts ----------------------------------------------------------------------------------------


def judge(table: pd.DataFrame, ledger: Iterable[Claim] = CLAIMS) -> list[Verdict]:
    """The verdict on each claim of the ledger, from one profile's tidy table (rows of many experiments).

    Raises :class:`InvalidValue` for a table of several models: a mean over them would be of none.
    """
    models = sorted(table["model"].unique())
    if len(models) > 1:
        raise InvalidValue(f"the table has trials of the models {', '.join(models)}", "judge one model at a time")
    profile, tasks = ", ".join(sorted(table["profile"].unique())), tasks_of(table)
    rows = pd.concat([task.rows for task in tasks]) if tasks else table.head(0)
    return [_verdict(claim, tasks, rows, profile) for claim in ledger]


def _verdict(claim: Claim, tasks: list[TaskTrials], rows: pd.DataFrame, profile: str) -> Verdict:
    cases = [case for task in tasks for case in claim.cases(task)]
    evidence = tuple(_weigh(case, len(cases)) for case in cases)
    verdict = aggregate(evidence, claim.over)
    missing = [name for name in claim.needs if rows.query(TRIALS_OF[name], engine="python").empty]
    if missing and verdict != NOT_SUPPORTED:
        verdict = UNDECIDED
    if not evidence:
        reason = _absent(claim, missing)
        return Verdict(claim.id, profile, "", math.nan, None, None, 0, verdict, reason, (), ())
    shown = _decisive(evidence, claim.over, verdict)
    lacking = missing and verdict == UNDECIDED
    reason = _absent(claim, missing) if lacking else _reason(evidence, claim.over, verdict, shown)
    trial_ids = tuple(sorted({i for case in evidence for i in case.trial_ids}))
    numbers = (shown.setting, shown.statistic, shown.low, shown.high, shown.n)
    return Verdict(claim.id, profile, *numbers, verdict, reason, trial_ids, evidence)


def _weigh(case: Case, cases: int) -> Evidence:
    """Judge a case alone, and as one of so many."""
    low, high = case.interval(LEVEL) or (None, None)
    margins, as_one = case.margins(LEVEL), case.margins(1 - ALPHA / cases)
    numbers = (case.setting, case.statistic, low, high, case.n)
    return Evidence(*numbers, _side(margins), _side(as_one), margins[0], tuple(sorted(case.trial_ids)), case.note)


def _side(margins: Margins) -> str:
    return SUPPORTED if margins[0] > 0 else NOT_SUPPORTED if margins[1] > 0 else UNDECIDED


def aggregate(evidence: Iterable[Evidence], over: str) -> str:
    """The verdict over cases: for "every", all must support and one can refute; for "some", the other way round."""
    alone, as_one_of_many = (SUPPORTED, NOT_SUPPORTED) if over == "every" else (NOT_SUPPORTED, SUPPORTED)
    if any(case.strict == as_one_of_many for case in evidence):
        return as_one_of_many
    return alone if evidence and all(case.verdict == alone for case in evidence) else UNDECIDED


def _decisive(evidence: tuple[Evidence, ...], over: str, verdict: str) -> Evidence:
    """The case to show: for "every" the one that supports least, for "some" the one that supports most."""
    agreeing = [case for case in evidence if verdict in (case.verdict, case.strict)] or evidence
    return (min if over == "every" else max)(agreeing, key=lambda case: case.margin)


def _reason(evidence: tuple[Evidence, ...], over: str, verdict: str, decisive: Evidence) -> str:
    counts = {side: sum(case.verdict == side for case in evidence) for side in (SUPPORTED, NOT_SUPPORTED, UNDECIDED)}
    text = (
        f"of {len(evidence)} comparisons {counts[SUPPORTED]} support it, {counts[NOT_SUPPORTED]} speak against it, "
        f"{counts[UNDECIDED]} are undecided"
    )
    if verdict == UNDECIDED and counts[SUPPORTED if over == "some" else NOT_SUPPORTED]:
        text += f"; for one of them to decide, its interval must hold at {_percent(1 - ALPHA / len(evidence))}"
    return f"{text}; {decisive.setting}: {_shown(decisive)}{f' ({decisive.note})' if decisive.note else ''}."


def _shown(judged: Case | Evidence) -> str:
    """Statistic, interval and n in words."""
    if math.isnan(judged.statistic):
        return "nothing to compare"
    interval = judged.interval(LEVEL) if isinstance(judged, Case) else _pair(judged)
    between = "no interval" if interval is None else f"95 % interval {interval[0]:+.3f} to {interval[1]:+.3f}"
    return f"{judged.statistic:+.3f}, {between}, n = {judged.n}"


def _absent(claim: Claim, missing: list[str]) -> str:
    if missing:
        return f"no trials of {' and '.join(missing)} by the described protocol."
    return f"no task has all the trials of {' and '.join(claim.needs)} that it takes."


def in_words(verdict: Verdict) -> str:
    """A verdict as a block of lines for a terminal."""
    claim = claim_of(verdict)
    return "\n".join([
        f"{verdict.id} ({verdict.profile or 'no trials'}): {verdict.verdict}",
        f"  claim     {claim.statement}",
        f"  quantity  {claim.quantity}",
        f"  rule      {claim.rule}",
        f"  found     {verdict.reason}",
        f"  trials    {len(verdict.trial_ids):,}; page {claim.notebook}, the paper's figure {claim.figure}",
    ])  # fmt: skip
