"""The quantity that decides each claim: from the trials of one task to the cases of the claim.

One function per claim of :mod:`companion.ledger`, none of its cases where the task lacks the trials. Thresholds,
but for C5's, were fixed before any verdict was computed. A case that cannot be computed says why;
:mod:`companion.claims` turns cases into verdicts.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Iterable
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd

from companion.cases import (
    NEITHER,
    Case,
    Margins,
    above,
    against_if_all,
    agreeing,
    backed_by,
    below,
    beyond,
    both,
    in_numbers,
    left_open,
    nothing,
    of_mean,
    only_if,
    tested,
    within,
)
from companion.comparisons import distinct
from companion.layers import block, format_layers, inverse, parse_layers
from companion.scores import TaskTrials, by_seed, ids_of, minus, scores_by_seed, sizes_of
from companion.stats import (
    ALPHA,
    FEWEST,
    FEWEST_PAIRS,
    LEVEL,
    Interval,
    blocked_anova,
    bootstrap_interval,
    expanded_level,
    rank_correlations,
    ratio_interval,
    reliability,
    t_interval,
    welch_interval,
)

A_LOT = 2.0  # times DELTA: clearly more than the smallest difference worth a claim
LITTLE = 0.1  # of what all layers are worth: a cost this small leaves nine tenths of the benefit
WELL = 0.9  # of the best probe's gain over the embeddings: a layer that reaches it "probes well"
MOST = 0.5  # of the benefit: a block that costs more than this when redrawn takes most of it
BEST = 1.0  # the highest accuracy, and the highest Matthews correlation
ALIKE = 0.1  # a smaller difference of two rank correlations says nothing about which curve is more alike
RELIABLE = 0.9  # of the variance of a curve's points, if it is to have a shape: less would pull a correlation towards 0
SHORT = 0.5  # of the layers: a longer block is not "a short block"
FEWEST_RESAMPLED = 5  # see _resampled_at_most
BOOTSTRAP_SEED = 0


def not_necessary(task: TaskTrials) -> list[Case]:
    """C1: the cost of redrawing every layer from the first on that probes well.

    With k* the fewest layers whose probe reaches 90 % of the best gain, that is to keep k*-1. On a coarser grid the
    nearest fewer layers kept must cost little to support the claim (more is redrawn than needed), and the nearest more
    kept must cost more to speak against it (only layers that probe well are redrawn). Little is less than the smallest
    difference worth a claim, or less than a tenth of what all layers are worth, whichever can be shown. Where the
    probes' seeds leave it open which layer is the first, a side is taken only if it is for each that may be.
    """
    probes, suffixes = task.probes(), task.of_kind("suffix")
    if probes.empty or suffixes.empty:
        return []
    size, curve = sizes_of(suffixes)[-1], task.probing_curve
    if why := task.nothing_to_read():
        return [nothing(f"{task.name}, {size:,} examples", why, probes["trial_id"])]
    gain = curve.drop(0).max() - curve[0]
    first = min(k for k in curve.index if k and curve[k] >= curve[0] + WELL * gain)
    others = [k for k in _may_be_first(task) if k != first]
    case = _redrawn_from(task, size, first - 1)
    if others:
        told = (
            f"the first layer that probes well may also be layer {' or '.join(map(str, others))}, by the probes' seeds"
        )
        case = functools.reduce(agreeing, [_redrawn_from(task, size, k - 1) for k in others], case)
        case = replace(case, note=f"{case.note}; {told}", lacks=case.lacks or told)
    return [backed_by(case, probes["trial_id"])]


def _may_be_first(task: TaskTrials) -> list[int]:
    """The layers (from 1) that may be the first to probe well, for each that may be the best: those not shown to fall
    short of its bar, up to the first that is shown to reach it (t-intervals, paired by seed)."""
    scores, found = _probes_by_seed(task), set()
    best = _best_probed(task)
    for top in [best, *_not_worse(task, best)]:
        for k in range(1, top + 1):
            low, high = t_interval(scores[k] - (1 - WELL) * scores[0] - WELL * scores[top]) or (-math.inf, math.inf)
            if high >= 0:
                found.add(k)
            if low >= 0:
                break
    return sorted(found)


def _best_probed(task: TaskTrials) -> int:
    """The layer (from 1) with the best mean probe score."""
    return int(task.probing_curve.drop(0).idxmax())


def _not_worse(task: TaskTrials, best: int) -> list[int]:
    """The other layers (from 1) that the probes' seeds do not show to probe worse (t-intervals, paired by seed)."""
    scores = _probes_by_seed(task)
    intervals = {int(k): t_interval(scores[best] - scores[k]) for k in scores.columns.drop([0, best])}
    return [k for k, found in intervals.items() if found is None or found[0] <= 0]


def _probes_by_seed(task: TaskTrials) -> pd.DataFrame:
    """Probe scores by seed (rows, those that all layers have) and number of layers read (columns)."""
    return scores_by_seed(task.probes().astype({"probe_layer": int}), "probe_layer").dropna()


def _redrawn_from(task: TaskTrials, size: int, first: int) -> Case:
    """The case that redrawing the layers from ``first`` on costs little, by the nearest numbers of layers kept."""
    setting = f"{task.name}, {size:,} examples"
    fewer = [k for k in task.kept(size) if k <= first]
    more = [k for k in task.kept(size) if k >= first]
    if not fewer:
        return nothing(setting, f"no trial keeps {first} layers or fewer")
    setting += f", first {fewer[-1]} of {task.depth} layers kept"
    supporting = _costs_little(setting, task, size, fewer[-1])
    opposing = _costs_little("", task, size, more[0]) if more else nothing(setting, "")
    probed = sizes_of(task.probes())[-1]
    coarse = ""
    note = f"layer {first + 1}, counted from 1, is the first that probes well, with probes of {probed:,} examples"
    if more and more[0] != fewer[-1]:
        shown = in_numbers(opposing.statistic, opposing.interval(LEVEL), opposing.n)
        coarse = f"no trial keeps the {first} layer{'s' * (first > 1)} below layer {first + 1}"
        note += f", and {coarse}; first {more[0]} kept: {shown}"

    def margins(level: float) -> Margins:
        found = supporting.margins(level)[0], opposing.margins(level)[1]
        return NEITHER if min(found) > 0 else found  # on a coarse grid both can hold

    case = replace(supporting, margins=margins, note=note, lacks=coarse)
    return left_open(backed_by(case, opposing.trial_ids), task.nothing_at_stake(size))


def _costs_little(setting: str, task: TaskTrials, size: int, kept: int) -> Case:
    """The case that redrawing all but the first ``kept`` layers costs little, shown with the interval of that cost."""
    cost, benefit = task.cost(size, kept), task.benefit(size)
    tenth = benefit.assign(value=LITTLE * benefit["value"])
    small = of_mean(setting, cost, below(task.delta), task.delta)
    part = of_mean(setting, minus(cost, tenth), below(0.0), task.delta)

    def margins(level: float) -> Margins:
        (by_size, not_by_size), (by_part, not_by_part) = small.margins(level), part.margins(level)
        return max(by_size, by_part), min(not_by_size, not_by_part)

    return backed_by(replace(small, margins=margins), ids_of(benefit))


def not_sufficient(task: TaskTrials) -> list[Case]:
    """C2: the loss when only a short block around the best-probing layer keeps its weights; every such block counts."""
    localized, probes = task.localized(), task.probes()
    if probes.empty or localized.empty:
        return []
    size = sizes_of(localized)[-1]
    setting = f"{task.name}, {size:,} examples"
    if why := task.nothing_to_read():
        return [nothing(setting, why, probes["trial_id"])]
    best = _best_probed(task) - 1
    cases, blocks, widths = [], set(), set()
    for text, rows in _by_layers(localized[localized["train_size"] == size]):
        kept = inverse(parse_layers(text), task.depth)
        if not _short_block(kept, task.depth):
            continue
        widths.add(len(kept))
        if best in kept:
            blocks.add(kept)
            where = f"{setting}, {_named(kept)} alone kept"
            loss = minus(task.intact(size), by_seed(rows))
            cases.append(left_open(of_mean(where, loss, above(task.delta), task.delta), task.nothing_at_stake(size)))
    if not cases:
        cases = [nothing(setting, f"no block around the best-probing layer {best + 1} was kept alone")]
    if cases[0].n and (lacking := [one for one in _lacking(blocks, widths, task.depth) if best in one]):
        cases.append(nothing(setting, f"{_all_named(lacking)} kept alone: not run with this setup"))
    told = ""
    if alike := _not_worse(task, best + 1):
        which = f"layers {', '.join(map(str, alike))} are" if len(alike) > 1 else f"layer {alike[0]} is"
        told = f"{which} not shown to probe worse than layer {best + 1}"
    cases = [replace(case, note="; ".join(filter(None, [case.note, told]))) for case in cases]
    return [backed_by(case, ids_of(task.benefit(size)), probes["trial_id"]) for case in cases]


def _by_layers(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """(layers redrawn, trials), from the lowest layers up."""
    return sorted(rows.groupby("reinitialized"), key=lambda pair: parse_layers(pair[0]))


def _named(layers: tuple[int, ...]) -> str:
    """Layers as people count them, from 1."""
    return f"layer{'' if len(layers) == 1 else 's'} {format_layers(tuple(i + 1 for i in layers))} (from 1)"


def _all_named(blocks: Iterable[tuple[int, ...]]) -> str:
    return f"layers {', '.join(format_layers(tuple(i + 1 for i in one)) for one in blocks)} (from 1)"


def _lacking(blocks: Collection[tuple[int, ...]], widths: Collection[int], depth: int) -> list[tuple[int, ...]]:
    """The blocks of these widths that are not among these."""
    every = [block(start, width, depth) for width in sorted(widths) for start in range(depth - width + 1)]
    return [one for one in every if one not in blocks]


def _short_block(layers: tuple[int, ...], depth: int) -> bool:
    """Whether these are neighbors, and at most half of all layers."""
    return len(layers) <= SHORT * depth and layers == tuple(range(layers[0], layers[-1] + 1))


def depends_on_size(task: TaskTrials) -> list[Case]:
    """C3: what all layers are worth at the largest train size minus at the smallest, paired by seed.

    Sizes between them can speak for the claim where the ends are alike: only if no two sizes differ does a case speak
    against it.
    """
    trials = task.of_kind("all")
    if trials.empty:
        return []
    sizes = sizes_of(trials)
    if len(sizes) == 1:
        return [_one_size(task, trials)]

    def differ(small: int, large: int) -> Case:
        difference = minus(task.benefit(large), task.benefit(small))
        return of_mean(f"{task.name}, {_sizes(small, large)}", difference, beyond(task.delta), task.delta)

    pairs = {_sizes(*pair): differ(*pair) for pair in combinations(sizes, 2)}
    case = against_if_all(differ(sizes[0], sizes[-1]), pairs)
    return [left_open(case, task.set_up_alike(sizes))]


def worth_nothing_when_scarce(task: TaskTrials) -> list[Case]:
    """C4: layers k…L-1 (0 < k < L) worth a lot at the largest train size, and next to nothing at the smallest.

    The statistic shown is their worth at the largest size. A case speaks against the claim only if that holds of no two
    sizes. Where most redrawn or most intact models at the smallest size did not learn at all, layers worth nothing
    there say nothing.
    """
    trials = task.of_kind("suffix")
    if trials.empty:
        return []
    sizes = sizes_of(trials)
    if len(sizes) == 1:
        return [_one_size(task, trials)]
    small, large = sizes[0], sizes[-1]
    cases, run = [], sorted({*task.kept(small)} & {*task.kept(large)} - {0})
    for k in run:
        pairs = combinations([size for size in sizes if k in task.kept(size)], 2)
        others = {_sizes(*pair): _scarce(task, k, *pair) for pair in pairs}
        case = against_if_all(_scarce(task, k, small, large), others)
        cases.append(left_open(case, task.set_up_alike(sizes)))
    if lacking := [k for k in range(1, task.depth) if k not in run]:
        where = f"{task.name}, {_sizes(small, large)}"
        cases.append(nothing(where, f"first {', '.join(map(str, lacking))} layers kept: not run at both sizes"))
    return cases


def _scarce(task: TaskTrials, k: int, small: int, large: int) -> Case:
    """The case that the layers above the first ``k`` are worth a lot at one size and next to nothing at the other."""
    setting = f"{task.name}, first {k} of {task.depth} layers kept, {_sizes(small, large)}"
    plenty = of_mean(setting, task.cost(large, k), above(A_LOT * task.delta), task.delta)
    scarce = of_mean(setting, task.cost(small, k), within(task.delta), task.delta)
    there = f"at {small:,} examples {in_numbers(scarce.statistic, scarce.interval(LEVEL), scarce.n)}"
    trials = task.trials[task.trials["trial_id"].isin(scarce.trial_ids)]
    for what, kind in {"redrawn": trials["kind"] != "intact", "intact": trials["kind"] == "intact"}.items():
        diverged = trials.loc[kind, "diverged"]
        if diverged.mean() > 0.5:
            told = f"{there}, where {diverged.sum()} of {len(diverged)} {what} models diverged"
            return only_if(both(plenty, scarce, there), False, told)
    return both(plenty, scarce, there)


def _sizes(small: int, large: int) -> str:
    return f"{large:,} against {small:,} examples"


def _one_size(task: TaskTrials, trials: pd.DataFrame) -> Case:
    why = f"one train size only ({sizes_of(trials)[0]:,})"
    if trials["train_size"].nunique() > 1:
        why += f" with {FEWEST} seeds or more"
    return nothing(task.name, why, trials["trial_id"])


def resembles_probing(task: TaskTrials) -> list[Case]:
    """C5: Spearman's correlation between the probing curve and the transfer curve (mean score by number of first layers
    kept), at the smallest train size minus at the largest; bootstrap over the seeds that all points share.

    Noise in a curve pulls its correlation towards 0, in every resample, so that the interval does not tell: noise at
    the large size would support the claim, and at the small size speak against it. Either side is taken only if the
    curve that it finds less alike is reliable. A ceiling at the large size works for the claim too, as points that all
    reach the best score have no order.
    """
    probes, suffixes = task.probes(), task.of_kind("suffix")
    if probes.empty or suffixes.empty:
        return []
    small, large = sizes_of(suffixes)[0], sizes_of(suffixes)[-1]
    if small == large:
        return [_one_size(task, suffixes)]
    setting, probing = f"{task.name}, {small:,} against {large:,} examples", task.probing_curve
    if why := task.nothing_to_read():
        return [nothing(setting, why, probes["trial_id"])]
    curves = [task.transfer(size) for size in (small, large)]
    points = sorted(set(probing.index).intersection(*(curve.columns for curve in curves)))
    curves = [curve[points].dropna() for curve in curves]
    seeds = curves[0].index.intersection(curves[1].index)
    behind = {*task.transfer_ids(small, points, seeds), *task.transfer_ids(large, points, seeds), *probes["trial_id"]}
    if len(points) < FEWEST_PAIRS:
        why = f"the curves share {len(points)} numbers of layers, and {FEWEST_PAIRS} are needed"
        return [nothing(setting, why, behind)]
    if len(seeds) < FEWEST_RESAMPLED:
        return [nothing(setting, f"{len(seeds)} seeds, and resampling needs {FEWEST_RESAMPLED}", behind)]
    scores = np.stack([curve.loc[seeds].to_numpy(float) for curve in curves], axis=1)
    case = _resemblance(setting, scores, probing[points].to_numpy(float))
    top = [k for k, mean in zip(points, scores.mean(axis=0)[1], strict=True) if mean > BEST - task.delta]
    why = (
        f"with {', '.join(map(str, top))} layers kept the curve of {large:,} examples is at its ceiling, without order"
    )
    case = left_open(case, (why if len(top) > 1 else "") or task.set_up_alike([small, large]))
    return [backed_by(case, behind)]


def _resampled_at_most(n: int) -> float:
    """How often the range of n values, the widest interval that resampling can give, covers their median: 94 % at five,
    which is let pass for 95 %."""
    return 1 - 2.0 ** (1 - n)


def _resemblance(setting: str, scores: np.ndarray, target: np.ndarray) -> Case:
    """The case from scores (seeds, small and large size, numbers of layers) and probe scores (numbers of layers,)."""

    def gain(samples: np.ndarray) -> np.ndarray:
        means = samples.mean(axis=1)
        return rank_correlations(means[:, 0], target) - rank_correlations(means[:, 1], target)

    def interval(level: float) -> Interval | None:
        if level > max(LEVEL, _resampled_at_most(len(scores))):
            return None
        return bootstrap_interval(scores, expanded_level(len(scores), level), BOOTSTRAP_SEED, gain)

    by_interval = tested(interval, lambda low, high: (low - ALIKE, -ALIKE - high), 1.0)
    small, large = (reliability(scores[:, which]) for which in (0, 1))

    def margins(level: float) -> Margins:
        more, less = by_interval(level)
        return more if large > RELIABLE else -math.inf, less if small > RELIABLE else -math.inf

    case = Case(setting, float(gain(scores[np.newaxis])[0]), len(scores), interval, margins)
    if interval(LEVEL) is None:
        return left_open(case, "a curve is flat in some resamples, where a correlation is undefined")
    told = f"{small:.0%} and {large:.0%} of the variance of the two curves' points is not noise"
    return replace(case, note=told, lacks="" if min(small, large) > RELIABLE else f"only {told}")


def no_block_takes_most(task: TaskTrials) -> list[Case]:
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
        return [nothing(setting, "no short block was redrawn alone", localized["trial_id"])]
    rows = rows.assign(width=rows["reinitialized"].map(lambda text: len(parse_layers(text))))
    found = {width: blocked_anova(_complete(group, "reinitialized").to_numpy(float))
             for width, group in rows.groupby("width")}  # fmt: skip
    cases = []
    for text, group in _by_layers(rows):
        p = found[len(parse_layers(text))]
        cost = minus(task.intact(size), by_seed(group))
        where = f"{setting}, {_named(parse_layers(text))} redrawn, cost as a share"
        case = only_if(
            _share(where, cost, task.benefit(size)),
            p < ALPHA / task.among / len(found),
            f"that positions differ is not shown (p = {p:.2g})",
        )
        cases.append(backed_by(left_open(case, task.nothing_at_stake(size)), rows["trial_id"]))
    if lacking := _lacking({parse_layers(text) for text in rows["reinitialized"]}, list(found), task.depth):
        cases.append(nothing(setting, f"{_all_named(lacking)} redrawn: not run with this setup"))
    return cases


def _share(setting: str, cost: pd.DataFrame, benefit: pd.DataFrame) -> Case:
    """The case that the cost is less than half of the benefit, by Fieller's interval of their ratio."""
    seeds = cost.index.intersection(benefit.index)
    cost, benefit = cost.loc[seeds], benefit.loc[seeds]

    def interval(level: float) -> Interval | None:
        return ratio_interval(cost["value"], benefit["value"], level)

    share = cost["value"].mean() / benefit["value"].mean() if benefit["value"].mean() else math.nan
    margins = tested(interval, below(MOST), 1.0)
    return Case(setting, float(share), len(seeds), interval, margins, ids_of(cost, benefit))


def _complete(rows: pd.DataFrame, treatment: str) -> pd.DataFrame:
    """Scores (seeds × treatments) of the seeds that have every treatment."""
    return scores_by_seed(rows, treatment).dropna()


def order_matters(task: TaskTrials) -> list[Case]:
    """C7: the intact model's mean over seeds minus the permuted models' mean over permutations; and that permutations
    differ (analysis of variance, seeds as blocks, Bonferroni over tasks).

    Two intervals must hold. Welch's, permutations and seeds being two samples, leaves out that permuted scores share
    seeds; that of the difference within each seed leaves out that permutations are a sample. With one seed for all
    permutations (the paper's design) there is only the first, which the luck of that seed can put on either side.
    """
    permuted = task.of_kind("permuted")
    if permuted.empty:
        return []
    size = sizes_of(permuted)[-1]
    permuted = permuted[permuted["train_size"] == size]
    case, scores = _permuted(task, size, permuted), _complete(permuted, "permutation")
    told = f"{int(permuted['diverged'].sum())} of {len(permuted)} permuted trials diverged; "
    if len(scores) < FEWEST:
        why = f"fewer than {FEWEST} seeds have every permutation, and one seed's luck is common to all of them"
        return [left_open(case, f"{told}the interval is over permutations; {why}")]
    paired = _within_seeds(task, size, scores)
    told += f"within each seed {in_numbers(paired.statistic, paired.interval(LEVEL), paired.n)}"
    p = blocked_anova(scores.to_numpy(float))
    agreed = replace(agreeing(case, paired), note=told)
    return [only_if(agreed, p < ALPHA / task.among, f"{told}; that permutations differ is not shown (p = {p:.2g})")]


def _permuted(task: TaskTrials, size: int, permuted: pd.DataFrame) -> Case:
    """The case that intact models score higher than permuted ones, one value per seed and per permutation."""
    intact, means = task.intact(size), permuted.groupby("permutation")["score"].mean()

    def interval(level: float) -> Interval | None:
        return welch_interval(intact["value"], means, level)

    setting = f"{task.name}, {size:,} examples, {len(means)} permutations, intact model with {len(intact)} seeds"
    statistic = float(intact["value"].mean() - means.mean())
    margins = tested(interval, above(task.delta), task.delta)
    case = Case(setting, statistic, len(means), interval, margins, counted="permutations, and seeds in proportion,")
    return backed_by(case, ids_of(intact), permuted["trial_id"])


def _within_seeds(task: TaskTrials, size: int, scores: pd.DataFrame) -> Case:
    """The same case from the seeds that all have: intact minus the mean over permutations ``scores`` (by seed)."""
    means = pd.DataFrame({"value": scores.mean(axis=1), "ids": [()] * len(scores)}, index=scores.index)
    return of_mean("", minus(task.intact(size), means), above(task.delta), task.delta)


def controls_keep_it(task: TaskTrials) -> list[Case]:
    """C8: what pretrained layers are still worth when redrawn ones learn faster, or keep their LayerNorm: intact minus
    the control at the fewest layers kept. Only a worth shown without the control can be taken away by it."""
    rows = distinct(task.rows[task.rows["kind"].isin(["suffix", "all"])])
    faster = rows[(rows["random_rate"] > 1) & ~rows["keep_layernorm"]]
    norms = rows[rows["keep_layernorm"] & (rows["random_rate"] == 1)]
    if faster.empty and norms.empty:
        return []
    controls = [(f"{rate:g} times the rate", group) for rate, group in faster.groupby("random_rate")]
    controls = [*(controls or [("a larger rate", faster)]), ("LayerNorm kept", norms)]
    return [
        _control(task, what, group) if len(group) else nothing(f"{task.name}, {what}", "not run with this setup")
        for what, group in controls
    ]


def _control(task: TaskTrials, what: str, rows: pd.DataFrame) -> Case:
    """The case of one control. Where it keeps most models from learning, it says nothing about how they learn."""
    size = sizes_of(rows)[-1]
    rows = rows[rows["train_size"] == size]
    k = int(rows["preserved_layers"].min())
    rows = rows[rows["preserved_layers"] == k]
    setting = f"{task.name}, {size:,} examples, {what}, first {k} of {task.depth} layers kept"
    without = task.cost(size, k)
    case = of_mean(setting, minus(task.intact(size), by_seed(rows)), above(task.delta), task.delta)
    shown, diverged = t_interval(without["value"]), int(rows["diverged"].sum())
    told = f"{diverged} of {len(rows)} trials with this control diverged"
    if not (shown and shown[0] > task.delta):
        case = left_open(case, f"without the control, a benefit above {task.delta} is not shown")
    elif diverged > len(rows) / 2:
        case = left_open(case, f"{told}, so it cannot tell what learning would change")
    elif diverged:
        case = replace(case, note=told)
    return backed_by(case, ids_of(without))
