"""A case of a claim: one comparison, its interval, and how far that lies on either side of a threshold.

Cases are made from per-seed values and a rule, and combined; :mod:`companion.quantities` makes those of each claim.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from companion.scores import ids_of
from companion.stats import LEVEL, Interval, t_interval

Margins = tuple[float, float]  # how far an interval lies inside the claim, and inside its opposite; at most one is > 0
Rule = Callable[[float, float], Margins]
NEITHER: Margins = (-math.inf, -math.inf)


@dataclass(frozen=True)
class Case:
    """One comparison. ``interval`` and ``margins`` are functions of the confidence level; ``interval`` gives None, and
    ``margins`` NEITHER, where the data do not allow one. ``statistic`` is what the interval is of, ``n`` the number of
    ``counted``. ``note`` is said beside the numbers; ``lacks`` is what keeps the case from a verdict, if known."""

    setting: str
    statistic: float
    n: int
    interval: Callable[[float], Interval | None]
    margins: Callable[[float], Margins]
    trial_ids: frozenset[str] = frozenset()
    note: str = ""
    lacks: str = ""
    counted: str = "seeds"


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


def tested(interval: Callable[[float], Interval | None], rule: Rule, unit: float) -> Callable[[float], Margins]:
    """The margins of a rule, in ``unit``, as a function of the level."""

    def margins(level: float) -> Margins:
        found = interval(level)
        return NEITHER if found is None else tuple(margin / unit for margin in rule(*found))

    return margins


def of_mean(setting: str, sample: pd.DataFrame, rule: Rule, unit: float) -> Case:
    """A case about the mean of per-seed values, by their t-interval."""

    def interval(level: float) -> Interval | None:
        return t_interval(sample["value"], level)

    margins = tested(interval, rule, unit)
    return Case(setting, float(sample["value"].mean()), len(sample), interval, margins, ids_of(sample))


def left_open(case: Case, why: str) -> Case:
    """The case without a verdict whatever its interval, if there is a reason; else as it was."""
    return replace(case, margins=lambda level: NEITHER, note=why, lacks=why) if why else case


def backed_by(case: Case, *trial_ids: Iterable[str]) -> Case:
    """The case with more trials behind it."""
    return replace(case, trial_ids=case.trial_ids.union(*trial_ids))


def nothing(setting: str, why: str, trial_ids: Iterable[str] = ()) -> Case:
    """A case that cannot be computed."""
    return Case(setting, math.nan, 0, lambda level: None, lambda level: NEITHER, frozenset(trial_ids), why, why)


def only_if(case: Case, shown: bool, otherwise: str) -> Case:
    """The case, able to support its claim only if a second condition is shown too; it can speak against it anyway."""
    if shown:
        return case
    return replace(case, margins=lambda level: (-math.inf, case.margins(level)[1]), note=otherwise, lacks=otherwise)


def against_if_all(case: Case, others: Mapping[str, Case]) -> Case:
    """The case, which speaks against its claim only where all others do too; its note names what keeps it from that."""

    def margins(level: float) -> Margins:
        return case.margins(level)[0], min(other.margins(level)[1] for other in others.values())

    told = ""
    if holds := [name for name, other in others.items() if case.margins(LEVEL)[0] <= 0 < other.margins(LEVEL)[0]]:
        told = f"{holds[0]} speaks for the claim, so that this cannot speak against it"
    elif case.margins(LEVEL)[1] > 0 >= margins(LEVEL)[1]:
        open_yet = next(name for name, other in others.items() if other.margins(LEVEL)[1] <= 0)
        told = f"by itself it speaks against the claim, but {open_yet} leaves it open"
    case = replace(case, note="; ".join(filter(None, [case.note, told])), lacks=told or case.lacks)
    return backed_by(replace(case, margins=margins), *(other.trial_ids for other in others.values()))


def both(first: Case, second: Case, note: str) -> Case:
    """The case that both hold, shown with the numbers of the first."""

    def margins(level: float) -> Margins:
        pairs = first.margins(level), second.margins(level)
        return min(a for a, _ in pairs), max(b for _, b in pairs)

    return backed_by(replace(first, margins=margins, note=note), second.trial_ids)


def agreeing(first: Case, second: Case) -> Case:
    """The first case, on a side only where the second is too."""

    def margins(level: float) -> Margins:
        return tuple(map(min, first.margins(level), second.margins(level)))

    return backed_by(replace(first, margins=margins), second.trial_ids)


def in_numbers(statistic: float, interval: Sequence[float] | None, n: int) -> str:
    """Statistic, interval and n in words."""
    if math.isnan(statistic):
        return "nothing to compare"
    between = "no interval" if interval is None else f"95 % interval {interval[0]:+z.3f} to {interval[1]:+z.3f}"
    return f"{statistic:+z.3f}, {between}, n = {n}"
