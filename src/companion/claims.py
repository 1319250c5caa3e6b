"""The paper's claims as checks on the tidy table, with verdicts never stronger than the data.

A claim is taken apart into cases: one comparison in one task, sometimes one of several there. Each case sets an
interval against a threshold, fixed (but for C5's) before any verdict was computed. "Supported" and "not supported"
both need the whole interval on one side; an interval that includes the threshold, fewer than three seeds, or a missing
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
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import pandas as pd

from companion.cases import Case, Margins, in_numbers, nothing
from companion.errors import InvalidValue
from companion.ledger import CLAIMS, TRIALS_OF, Claim, percent
from companion.scores import TaskTrials, tasks_of
from companion.stats import ALPHA, FEWEST, LEVEL, level_as_if

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

    claim: Claim
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

    @property
    def id(self) -> str:
        """The claim's number, such as C1."""
        return self.claim.id

    def as_dict(self) -> dict[str, object]:
        """For JSON: ``low`` and ``high`` as ``interval`` (None or a pair), numbers that do not exist as None; and the
        claim's statement and rule."""
        values = {**asdict(self), "interval": _pair(self), "evidence": []}
        del values["claim"]
        for case in self.evidence:
            shown = {**asdict(case), "interval": _pair(case)}
            values["evidence"].append({k: v for k, v in shown.items() if k not in ("low", "high", "margin", "strict")})
        for judged in (values, *values["evidence"]):
            judged["statistic"] = judged["statistic"] if math.isfinite(judged["statistic"]) else None
        known = {"id": self.id, "statement": self.claim.statement, "rule": self.claim.rule}
        return {**known, **{name: value for name, value in values.items() if name not in ("low", "high")}}


def _pair(judged: Evidence | Verdict) -> list[float] | None:
    return None if judged.low is None else [judged.low, judged.high]


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
        return Verdict(claim, profile, "", math.nan, None, None, 0, verdict, reason, (), (), "run what is missing")
    shown = _decisive(evidence, claim.over, verdict)
    lacking = missing and verdict == UNDECIDED
    judged_in = _listed([task.name for task in tasks])
    reason = _absent(claim, missing) if lacking else _reason(evidence, claim.over, verdict, shown, judged_in)
    trial_ids = tuple(sorted({i for case in evidence for i in case.trial_ids}))
    numbers = (shown.setting, shown.statistic, shown.low, shown.high, shown.n)
    remedy = "" if verdict != UNDECIDED else "run what is missing" if missing else _to_decide(evidence, claim.over)
    return Verdict(claim, profile, *numbers, verdict, reason, trial_ids, evidence, remedy)


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
    together, single = _sides(over)
    return Evidence(*numbers, *judged, *said, *_leaning(case, {together: LEVEL, single: strict}))


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
    together, single = _sides(over)
    does = {SUPPORTED: "support it", NOT_SUPPORTED: "speak against it"}
    sufficient = [case for case in evidence if case.leans == single]
    if sufficient:
        case = min(sufficient, key=lambda case: case.needed)
        return f"about {case.needed} {case.counted} instead of {case.n} in {case.setting} would {does[single]}"
    stuck = [case for case in evidence if not case.leans]
    if not stuck:
        case = max(evidence, key=lambda case: case.needed)
        needed = f"up to about {case.needed} {case.counted} in each would {does[together]}"
        return f"{needed}; most are needed in {case.setting}, now {case.n}"
    named, few = stuck[0].setting, f"fewer than {FEWEST} {stuck[0].counted} in common" if stuck[0].n < FEWEST else ""
    why = stuck[0].lacks or few or f"no number of {stuck[0].counted} would decide it with these means and this spread"
    return f"first mend what keeps {len(stuck)} of {len(evidence)} comparisons from a verdict, such as {named}: {why}"


def _side(margins: Margins) -> str:
    return SUPPORTED if margins[0] > 0 else NOT_SUPPORTED if margins[1] > 0 else UNDECIDED


def _sides(over: str) -> tuple[str, str]:
    """The verdict that takes all cases together, and the one that a single case can bring."""
    return (SUPPORTED, NOT_SUPPORTED) if over == "every" else (NOT_SUPPORTED, SUPPORTED)


def aggregate(evidence: Iterable[Evidence], over: str) -> str:
    """The verdict over cases: for "every", all must support and one can refute; for "some", the other way round."""
    together, single = _sides(over)
    if any(case.strict == single for case in evidence):
        return single
    return together if evidence and all(case.verdict == together for case in evidence) else UNDECIDED


def _decisive(evidence: tuple[Evidence, ...], over: str, verdict: str) -> Evidence:
    """The case to show: for "every" the one that supports least, for "some" the one that supports most."""
    _, single = _sides(over)
    judged = [case.strict if verdict == single else case.verdict for case in evidence]
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
    if verdict == UNDECIDED and counts[_sides(over)[1]]:
        level = percent(1 - ALPHA / len(evidence))
        text += f"; for one of them to decide, its interval must hold at {level}, as one of {len(evidence)}"
    numbers = in_numbers(decisive.statistic, _pair(decisive), decisive.n)
    return f"{text}; {decisive.setting}: {numbers}{f' ({decisive.note})' if decisive.note else ''}."


def _absent(claim: Claim, missing: list[str]) -> str:
    if missing:
        return f"no trials of {' and '.join(missing)} by the described protocol with the setup that most trials have."
    return f"no task has all the trials of {' and '.join(claim.needs)} that it takes."


def in_words(verdict: Verdict) -> str:
    """A verdict as a block of lines for a terminal."""
    claim = verdict.claim
    return "\n".join([
        f"{verdict.id} ({verdict.profile or 'no trials'}): {verdict.verdict}",
        f"  claim     {claim.statement}",
        f"  quantity  {claim.quantity}",
        f"  rule      {claim.rule}",
        f"  found     {verdict.reason}",
        *([f"  to decide {verdict.to_decide}."] if verdict.to_decide else []),
        f"  trials    {len(verdict.trial_ids):,}; the paper's figure {claim.figure}",
        f"  pages     {', '.join(claim.notebooks)}",
    ])  # fmt: skip
