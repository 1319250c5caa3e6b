"""The claims ledger: the paper's claims as checks on the tidy table, with verdicts never stronger than the data.

A claim is taken apart into cases: one comparison in one task, sometimes one of several there. Each case sets an
interval against a threshold that was fixed before any verdict was computed. "Supported" and "not supported" both need
the whole interval on one side; an interval that includes the threshold, fewer than three seeds, or a missing
experiment is "undecided", unless what was run refutes a claim about every case by itself.

From cases to the claim. A claim about "every" case is supported if each one supports it at 95 %, and not supported if
one speaks against it. A claim about "some" case is supported if one supports it, and not supported if each one speaks
against it. Where one case of many decides, its interval is taken at 1 - 0.05/cases (Bonferroni), since the most
extreme of many comparisons is extreme by chance alone.

All claims are judged on the ``described`` protocol, on the same weights and data in a task, and on one setup
(hyperparameters) per train size: what most trials have. Sizes of different setups are not compared. Differences are
paired by seed. Where several train sizes were run, the largest with at least three seeds counts, unless the claim is
about sizes.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass

import pandas as pd

from companion.cases import (
    A_LOT,
    ALIKE,
    ALPHA,
    LITTLE,
    MOST,
    RELIABLE,
    SHORT,
    WELL,
    Case,
    Margins,
    controls_keep_it,
    depends_on_size,
    in_numbers,
    no_block_carries_it,
    not_necessary,
    not_sufficient,
    nothing,
    order_matters,
    resembles_probing,
    worth_nothing_when_scarce,
)
from companion.errors import InvalidValue
from companion.scores import DELTA, TaskTrials, tasks_of
from companion.stats import FEWEST, LEVEL, level_as_if

SUPPORTED, NOT_SUPPORTED, UNDECIDED = "supported", "not supported", "undecided"
MANY = 1000  # values that no experiment here would be repeated for


@dataclass(frozen=True)
class Evidence:
    """A case judged: by itself at 95 % (``verdict``), and as one of many (``strict``). ``margin`` orders cases of one
    verdict: the larger, the farther the interval lies inside the claim (in units of the smallest difference).

    ``needed`` is about how many values in place of ``n`` would bring the case to the side that it ``leans`` to, if
    mean and spread stayed; None where not even ``MANY`` would."""

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
    lacks: str = ""
    counted: str = "seeds"
    leans: str = ""
    needed: int | None = None


@dataclass(frozen=True)
class Verdict:
    """A claim judged for one profile. ``setting``, ``statistic``, ``low``, ``high`` (95 %) and ``n`` are those of the
    case that decides; ``trial_ids`` are of all cases; ``statistic`` is NaN, ``n`` 0 where there is no case.
    ``to_decide`` says what would decide an undecided claim."""

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
    to_decide: str = ""

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
PROBES = " (logistic probes of the first token, at the largest train size they have)"
GAINED = f"A task where no layer's mean probe score is {SMALL} above that on the embeddings is left open"
AT_STAKE = f"all layers together are not shown to be worth more than {SMALL}"

CLAIMS = (
    Claim(
        id="C1",
        statement="Layers whose output probes well are not necessary: redrawing all of them can cost little.",
        quantity=f"intact score minus the score with every layer redrawn from the first that probes well, {PAIRED}; "
        f"a layer probes well if its probe has {_percent(WELL)} of the best gain over the embeddings{PROBES}.",
        rule=f"some task: the interval's upper end is below {SMALL}, or below {_percent(LITTLE)} of what all layers "
        f"are worth, and all layers are worth more than {SMALL}. {GAINED}.",
        over="some",
        needs=("probing", "progressive"),
        cases=not_necessary,
        notebook="probing",
        figure="1",
    ),
    Claim(
        id="C2",
        statement="Layers whose output probes well are not sufficient: kept alone, they do not give the intact score.",
        quantity=f"intact score minus the score with only a short block around the best-probing layer kept, {PAIRED}"
        f"{PROBES}.",
        rule=f"every task and every such block of the widths run: the interval's lower end is above {SMALL}. {GAINED}, "
        f"and one where {AT_STAKE}.",
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
        rule=f"every task: the interval lies above {SMALL}, or below minus that. Not supported only if no two of the "
        "sizes run differ by more.",
        over="every",
        needs=("data_scaling",),
        cases=depends_on_size,
        notebook="data_scaling",
        figure="1",
    ),
    Claim(
        id="C4",
        statement="Layers worth a lot with plenty of data can be worth next to nothing when data is scarce.",
        quantity="worth of the layers above the first k, 0 < k < L (intact minus those redrawn), at the largest and at "
        "the smallest train size, paired by seed.",
        rule=f"some task and k: at the largest size the interval's lower end is above {LARGE}, and at the "
        f"smallest the interval lies within ±{SMALL}, and no more than half of the trials there diverged. Not "
        "supported only if every k was run, and it holds of no two of the sizes.",
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
        f"minus at the largest, bootstrap over seeds{PROBES}.",
        rule=f"every task: the interval's lower end is above {ALIKE:g}, more than {_percent(RELIABLE)} of the variance "
        "of the large size's points is not noise (analysis of variance, seeds as blocks), and no two of them are at "
        f"the best score there is. Not supported if the interval is below -{ALIKE:g} and the small size's curve is as "
        f"reliable. {GAINED}.",
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
        rule=f"every task and every block of the widths run: the interval's upper end is below {_percent(MOST)}, and "
        f"in every task positions differ with p < {ALPHA:.2g} divided by the number of tasks (and widths); how tasks "
        f"differ is shown, not judged. A task where {AT_STAKE} is left open.",
        over="every",
        needs=("localized",),
        cases=no_block_carries_it,
        notebook="localized",
        figure="2",
    ),
    Claim(
        id="C7",
        statement="The order of pretrained layers matters: permuting them costs score, some orders more than others.",
        quantity="intact score, mean over seeds, minus the permuted models', mean over permutations; the same within "
        f"each seed; and an analysis of variance over permutations, each with at least {FEWEST} seeds.",
        rule=f"every task: both intervals' lower ends are above {SMALL}, and permutations differ "
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
        rule=f"every task and both controls: the interval's lower end is above {SMALL}, as it is without the control, "
        "and no more than half of the control's trials diverged.",
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
    models, profile = sorted(table["model"].unique()), ", ".join(sorted(table["profile"].unique()))
    if len(models) > 1:
        of = f"the table of {profile} has trials of the models {', '.join(models)}"
        raise InvalidValue(of, "judge one model at a time, and publish each under a profile of its own")
    tasks = tasks_of(table)
    rows = pd.concat([task.rows for task in tasks]) if tasks else table.head(0)
    return [_verdict(claim, tasks, rows, profile) for claim in ledger]


def _verdict(claim: Claim, tasks: list[TaskTrials], rows: pd.DataFrame, profile: str) -> Verdict:
    cases = _cases(claim, tasks)
    evidence = tuple(_weigh(case, len(cases), claim.over) for case in cases)
    verdict = aggregate(evidence, claim.over)
    missing = [name for name in claim.needs if rows.query(TRIALS_OF[name], engine="python").empty]
    if missing and verdict != NOT_SUPPORTED:
        verdict = UNDECIDED
    if not evidence:
        reason = _absent(claim, missing)
        return Verdict(claim.id, profile, "", math.nan, None, None, 0, verdict, reason, (), (), "run what is missing")
    shown = _decisive(evidence, claim.over, verdict)
    lacking = missing and verdict == UNDECIDED
    judged_in = _listed([task.name for task in tasks])
    reason = _absent(claim, missing) if lacking else _reason(evidence, claim.over, verdict, shown, judged_in)
    trial_ids = tuple(sorted({i for case in evidence for i in case.trial_ids}))
    numbers = (shown.setting, shown.statistic, shown.low, shown.high, shown.n)
    remedy = "" if verdict != UNDECIDED else "run what is missing" if missing else _to_decide(evidence, claim.over)
    return Verdict(claim.id, profile, *numbers, verdict, reason, trial_ids, evidence, remedy)


def _cases(claim: Claim, tasks: list[TaskTrials]) -> list[Case]:
    """The claim's cases in all tasks. Where some tasks have any, one without keeps its place, undecided: a claim about
    every task is not supported by the others alone."""
    found = {task.name: claim.cases(task) for task in tasks}
    if not any(found.values()):
        return []
    why = f"not all the trials of {' and '.join(claim.needs)} that it takes"
    return [case for task, cases in found.items() for case in cases or [nothing(task, why)]]


def _weigh(case: Case, cases: int, over: str) -> Evidence:
    """Judge a case alone, and as one of so many."""
    low, high = case.interval(LEVEL) or (None, None)
    strict = 1 - ALPHA / cases
    margins, as_one = case.margins(LEVEL), case.margins(strict)
    numbers = (case.setting, case.statistic, low, high, case.n)
    judged = (_side(margins), _side(as_one), margins[0], tuple(sorted(case.trial_ids)))
    said = (case.note, case.lacks, case.counted)
    levels = {SUPPORTED: LEVEL, NOT_SUPPORTED: strict} if over == "every" else {SUPPORTED: strict, NOT_SUPPORTED: LEVEL}
    return Evidence(*numbers, *judged, *said, *_leaning(case, levels))


def _leaning(case: Case, levels: Mapping[str, float]) -> tuple[str, int | None]:
    """The side on which the case would come with many more values at the side's level, and the fewest that do it."""
    if case.n < FEWEST:
        return "", None

    def side(n: int, level: float) -> str:
        return _side(case.margins(level_as_if(case.n, n, level)))

    for leans, level in levels.items():
        if side(MANY, level) == leans:
            return leans, bisect_left(range(MANY), True, lo=case.n, key=lambda n: side(n, level) == leans)
    return "", None


def _to_decide(evidence: tuple[Evidence, ...], over: str) -> str:
    """How many values would decide an undecided claim: in the one case that suffices, else in all of them."""
    alone, alone_does = (SUPPORTED, "support it"), (NOT_SUPPORTED, "speak against it")
    each, single = (alone, alone_does) if over == "every" else (alone_does, alone)
    sufficient = [case for case in evidence if case.leans == single[0]]
    if sufficient:
        case = min(sufficient, key=lambda case: case.needed)
        return f"about {case.needed} {case.counted} instead of {case.n} in {case.setting} would {single[1]}"
    stuck = [case for case in evidence if not case.leans]
    if not stuck:
        case = max(evidence, key=lambda case: case.needed)
        needed = f"up to about {case.needed} {case.counted} in each would {each[1]}"
        return f"{needed}; most are needed in {case.setting}, now {case.n}"
    named, few = stuck[0].setting, f"fewer than {FEWEST} {stuck[0].counted} in common" if stuck[0].n < FEWEST else ""
    why = stuck[0].lacks or few or f"too close to the threshold for any number of {stuck[0].counted}"
    return f"first mend what keeps {len(stuck)} of {len(evidence)} comparisons from a verdict, such as {named}: {why}"


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
    alone = NOT_SUPPORTED if over == "every" else SUPPORTED  # the side on which one case decides, as one of many
    judged = [case.strict if verdict == alone else case.verdict for case in evidence]
    agreeing = [case for case, side in zip(evidence, judged, strict=True) if side == verdict] or evidence
    return (min if over == "every" else max)(agreeing, key=lambda case: case.margin)


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _reason(evidence: tuple[Evidence, ...], over: str, verdict: str, decisive: Evidence, tasks: str) -> str:
    counts = {side: sum(case.verdict == side for case in evidence) for side in (SUPPORTED, NOT_SUPPORTED, UNDECIDED)}
    support, against, undecided = (counts[side] for side in (SUPPORTED, NOT_SUPPORTED, UNDECIDED))
    text = (
        f"in {tasks}, of {len(evidence)} comparison{'' if len(evidence) == 1 else 's'} "
        f"{support} support{'s' * (support == 1)} it, "
        f"{against} speak{'s' * (against == 1)} against it, {undecided} {'is' if undecided == 1 else 'are'} undecided"
    )
    if verdict == UNDECIDED and counts[SUPPORTED if over == "some" else NOT_SUPPORTED]:
        level = _percent(1 - ALPHA / len(evidence))
        text += f"; for one of them to decide, its interval must hold at {level}, as one of {len(evidence)}"
    numbers = in_numbers(decisive.statistic, _pair(decisive), decisive.n)
    return f"{text}; {decisive.setting}: {numbers}{f' ({decisive.note})' if decisive.note else ''}."


def _absent(claim: Claim, missing: list[str]) -> str:
    if missing:
        return f"no trials of {' and '.join(missing)} by the described protocol with the setup that most trials have."
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
        *([f"  to decide {verdict.to_decide}."] if verdict.to_decide else []),
        f"  trials    {len(verdict.trial_ids):,}; page {claim.notebook}, the paper's figure {claim.figure}",
    ])  # fmt: skip
