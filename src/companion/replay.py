"""Trials found again by their ids, and rerun to be compared with what was stored or published of them."""

from __future__ import annotations

import dataclasses
import re
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from companion import sweep, table
from companion.errors import Interrupted, InvalidValue, TableUnavailable
from companion.store import Store
from companion.trial import Trial

MACHINE = ("device", "processor", "threads")  # where these are equal, so should CPU scores be


@dataclass(frozen=True)
class Known:
    """A trial whose score is known: from where, and on what kind of machine it was made (:data:`MACHINE`)."""

    trial: Trial
    metric: str
    score: float
    machine: tuple[object, ...]
    source: str
    record: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """The trial's id, where it was found, and all that is recorded there, as plain values."""
        return {"id": self.trial.id, "source": self.source, **self.record}


@dataclass(frozen=True)
class Comparison:
    """A known trial and the score of its rerun, None if the rerun failed (``cause``)."""

    known: Known
    score: float | None
    same_machine: bool
    cause: str = ""

    @property
    def equal(self) -> bool:
        """Whether both scores are the same to the last bit."""
        return self.score == self.known.score

    @property
    def broken(self) -> bool:
        """Whether the rerun failed, or differs where it should not: on the same kind of CPU machine."""
        return self.score is None or (self.same_machine and not self.equal and self.known.machine[0] == "cpu")

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        known = {"id": self.known.trial.id, "source": self.known.source, "known_score": self.known.score}
        found = {"score": self.score, "equal": self.equal, "same_machine": self.same_machine, "cause": self.cause}
        return {**known, **found}

    def __str__(self) -> str:
        trial = self.known.trial
        what = f"{trial.id} ({trial.task}, {trial.kind}, {trial.train_size} examples, seed {trial.seed})"
        if self.score is None:
            return f"{what}: failed, {self.cause}"
        where = "same kind of machine" if self.same_machine else "another kind of machine"
        said = "equal" if self.equal else f"{self.score:.6f} now, difference {self.score - self.known.score:+.6f}"
        return f"{what}: {self.known.metric} {self.known.score:.6f} in {self.known.source}, {said} ({where})"


class Stopped(KeyboardInterrupt):
    """Reruns were stopped; ``done`` are the comparisons of those that had ended."""

    def __init__(self, done: list[Comparison]) -> None:
        super().__init__()
        self.done = done


def find(beginning: str, store: Store) -> Known:
    """The stored trial whose id begins so, else the published one.

    Raises :class:`InvalidValue` for what is no id, for one that nothing is known of, and for a beginning of several.
    """
    if not re.fullmatch(r"[0-9a-f]{4,16}", beginning):
        raise InvalidValue(f"{beginning!r} is no trial id", "give its 16 hex digits, or at least the first four")
    stored = {result.trial.id: _stored(result, store) for result in store.find(beginning)}
    found = _published(beginning) | stored
    if not found:
        raise InvalidValue(
            f"no trial {beginning!r} is stored in {store.folder} or published", "check the id, or name another --store"
        )
    if len(found) > 1:
        raise InvalidValue(
            f"{len(found)} trials begin with {beginning!r}", f"choose one of: {', '.join(sorted(found))}"
        )
    return next(iter(found.values()))


def _stored(result, store: Store) -> Known:
    machine = tuple(result.provenance.get(name) for name in MACHINE)
    record = {"trial": dataclasses.asdict(result.trial), "outcome": result.outcome, "provenance": result.provenance}
    outcome = result.outcome
    return Known(result.trial, outcome["metric"], outcome["score"], machine, f"store {store.folder}", record)


def _published(beginning: str) -> dict[str, Known]:
    found = {}
    for profile in table.published_profiles():
        rows = table.published(profile)
        for _, row in rows[rows["trial_id"].str.startswith(beginning)].iterrows():
            found.setdefault(row["trial_id"], _row(row, profile))
    return found


def _row(row: pd.Series, profile: str) -> Known:
    plain = {
        name: None if pd.isna(value) else getattr(value, "item", lambda v=value: v)() for name, value in row.items()
    }
    machine = tuple(plain[name] for name in MACHINE)
    return Known(table.trial_of(row), row["metric"], float(row["score"]), machine, f"results/{profile}", plain)


def sample(profiles: Sequence[str], size: int, seed: int) -> list[Known]:
    """``size`` published trials drawn at random without replacement (all of them where there are fewer).

    Raises :class:`InvalidValue` for a size below 1 and :class:`TableUnavailable` where nothing is published.
    """
    if size < 1:
        raise InvalidValue(f"a sample of {size} trials is not possible", "give a whole number from 1 up")
    if not 0 <= seed < 2**32:
        raise InvalidValue(f"sample {seed} is not possible", "choose from 0 to 4294967295")
    tables = [table.published(name).assign(profile=name) for name in profiles]
    rows = pd.concat(tables, ignore_index=True).drop_duplicates("trial_id")
    if rows.empty:
        raise TableUnavailable(f"no trial of {', '.join(profiles)} is published", "publish some")
    drawn = rows.sort_values("trial_id").sample(min(size, len(rows)), random_state=seed)
    return [_row(row, row["profile"]) for _, row in drawn.iterrows()]


def rerun(known: Sequence[Known], *, data_dir: Path | None = None, workers: int | None = None) -> list[Comparison]:
    """Run the trials now, in a store of their own that is thrown away, and compare each with what is known of it.

    Raises :class:`companion.errors.CompanionError` subclasses for models and data that are missing or other ones, and
    :class:`Stopped` when it is stopped.
    """
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        try:
            with warnings.catch_warnings(category=sweep.TrialsFailed, action="ignore"):  # each comparison tells its own
                sweep.run([each.trial for each in known], store, data_dir=data_dir, workers=workers)
        except Interrupted:  # says what is stored, and this store goes
            raise Stopped([_compare(each, store) for each in known if store.get(each.trial)]) from None
        return [_compare(each, store) for each in known]


def _compare(known: Known, store: Store) -> Comparison:
    result = store.get(known.trial)
    if result is None:
        noted = store.failure(known.trial) or {"cause": "without a cause"}
        return Comparison(known, None, False, noted["cause"])
    here = tuple(result.provenance[name] for name in MACHINE)
    return Comparison(known, result.outcome["score"], here == known.machine)


def summary(comparisons: Sequence[Comparison]) -> str:
    """How many agree, where, and the largest difference, in one sentence."""
    done = [c for c in comparisons if c.score is not None]
    here = [c for c in done if c.same_machine]
    largest = max((abs(c.score - c.known.score) for c in done), default=0.0)
    return (
        f"{sum(c.equal for c in done)} of {len(comparisons)} reruns are equal to the last bit "
        f"({sum(c.equal for c in here)} of {len(here)} made on the same kind of machine); "
        f"the largest difference is {largest:.6f}, and {len(comparisons) - len(done)} failed."
    )
