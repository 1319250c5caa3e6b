"""The tidy table: one row per (experiment, trial). Figures, statistics and pages know nothing but this table."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path

import pandas as pd

from companion.errors import CompanionError, TableUnavailable
from companion.layers import format_layers, parse_layers
from companion.paths import RESULTS
from companion.store import METRICS, Result
from companion.trial import Trial

COLUMNS = {
    "trial_id": "str",
    "experiment": "str",
    "profile": "str",
    "model": "str",
    "layers": "int64",
    "task": "str",
    "train_size": "int64",
    "kind": "str",
    "reinitialized": "str",
    "permutation": "str",
    "probe_layer": "Int64",
    "preserved_layers": "Int64",
    "protocol": "str",
    "keep_layernorm": "bool",
    "random_rate": "float64",
    "pooling": "str",
    "control": "bool",
    "seed": "int64",
    "metric": "str",
    "score": "float64",
    "diverged": "bool",
    "majority_share": "float64",
    "failure": "str",
    "steps": "int64",
    "seconds": "float64",
    "examples_per_second": "float64",
    "peak_memory_mb": "float64",
    "final_loss": "float64",
    "regularization": "float64",
    "learning_rate": "float64",
    "batch_size": "Int64",
    "epochs": "Int64",
    "max_length": "int64",
    "precision": "str",
    "device": "str",
    "threads": "int64",
    "processor": "str",
    "git_commit": "str",
    "weights": "str",
    "data": "str",
    "finished_at": "str",
}
_FIELDS = [field.name for field in fields(Trial)]


class RowsDropped(UserWarning):
    """Published rows are not in the table that is to take their place."""


class OlderTable(TableUnavailable):
    """A published table without a column that this version has."""


def tidy(results: Iterable[Result], *, experiment: str, profile: str) -> pd.DataFrame:
    """The table of these results, in their order; an empty one for no results."""
    rows = [_row(result, experiment, profile) for result in results]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def _row(result: Result, experiment: str, profile: str) -> dict[str, object]:
    trial, outcome, provenance = result.trial, result.outcome, result.provenance
    named = {name: getattr(trial, name) for name in COLUMNS if hasattr(trial, name)}
    named |= {name: outcome[name] for name in COLUMNS if name in outcome}
    named |= {name: provenance[name] for name in COLUMNS if name in provenance}
    return named | {
        "trial_id": trial.id,
        "experiment": experiment,
        "profile": profile,
        "reinitialized": format_layers(trial.reinitialized),
        "permutation": ",".join(map(str, trial.permutation)),
        "pooling": "" if trial.probe_layer is None else trial.pooling,
        "preserved_layers": _preserved_layers(trial),
        "final_loss": outcome["loss_curve"][-1],
    }


def _preserved_layers(trial: Trial) -> int:
    return trial.layers - len(trial.reinitialized) if trial.probe_layer is None else trial.probe_layer


def trial_of(row: Mapping[str, object]) -> Trial:
    """The trial that a row of the table is about; :class:`TableUnavailable` if the row's id, kind or number of
    preserved layers is not the trial's.

    ``companion`` can therefore rerun every published row: it says all that the score depends on.
    """
    remedy = "restore the table from the repository"
    try:
        trial = _trial_of(row)
    except (CompanionError, ValueError, TypeError, AttributeError) as error:
        raise TableUnavailable(f"the published row {row['trial_id']} describes no possible trial", remedy) from error
    if trial.id != row["trial_id"]:
        raise TableUnavailable(f"the published row {row['trial_id']} describes trial {trial.id}", remedy)
    for name, value in {"kind": trial.kind, "preserved_layers": _preserved_layers(trial)}.items():
        if pd.isna(row[name]) or row[name] != value:
            told = f"says {name} {row[name]!r} of a trial with {value!r}"
            raise TableUnavailable(f"the published row {row['trial_id']} {told}", remedy)
    return trial


def _trial_of(row: Mapping[str, object]) -> Trial:
    values = {name: row[name] for name in _FIELDS}
    values = {name: None if pd.isna(value) else value for name, value in values.items()}
    for name in ("layers", "train_size", "seed", "max_length", "batch_size", "epochs", "probe_layer"):
        values[name] = None if values[name] is None else int(values[name])
    for name in ("keep_layernorm", "control"):
        values[name] = bool(values[name])
    values["reinitialized"] = parse_layers(row["reinitialized"]) if row["reinitialized"] else ()
    values["permutation"] = tuple(map(int, row["permutation"].split(","))) if row["permutation"] else ()
    values["pooling"] = row["pooling"] or "first"
    return Trial(**values)


def published_profiles() -> list[str]:
    """Names of the profiles with a published table."""
    return sorted(path.stem for path in RESULTS.glob("*.parquet") if _is_name(path.stem))


def published(profile: str, folder: Path = RESULTS) -> pd.DataFrame:
    """The published table of a profile; :class:`TableUnavailable` when it is missing, damaged or lacks a column."""
    path = folder / f"{profile}.parquet"
    if not _is_name(profile) or not path.is_file():
        raise TableUnavailable(
            f"there is no published table for profile {profile!r}", "run it and use `companion results publish`"
        )
    remedy = "restore it from the repository"
    try:
        table = pd.read_parquet(path)
    except Exception as error:  # of damaged files pyarrow and pandas raise many unrelated classes
        raise TableUnavailable(f"{path} is not a readable Parquet file", remedy) from error
    if lacking := [name for name in COLUMNS if name not in table]:
        raise OlderTable(f"{path} has no column {lacking[0]!r}", "publish it again with this version")
    table = table[list(COLUMNS)]
    if wrong := [name for name, kind in COLUMNS.items() if not _is_of(kind, table[name])]:
        raise TableUnavailable(f"{path} has in column {wrong[0]!r} values of another type", remedy)
    try:
        table = table.astype(COLUMNS)
    except (ValueError, TypeError, OverflowError) as error:  # a number that is missing, or too large
        raise TableUnavailable(f"{path} has values of another type", remedy) from error
    if wrong := _wrong(table) or _of_others(table, profile):
        raise TableUnavailable(f"{path} has {wrong}", remedy)
    return table


def _is_of(kind: str, values: pd.Series) -> bool:
    """Whether these are values of a kind of column, which a conversion would make of nearly anything."""
    if kind == "bool":
        return pd.api.types.is_bool_dtype(values)
    if kind == "str":
        return values.isna().all() or pd.api.types.is_string_dtype(values.dropna())
    numbers = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    return numbers and (kind == "float64" or bool((values.dropna() % 1 == 0).all()))


def _of_others(table: pd.DataFrame, profile: str) -> str:
    """What is wrong with whose rows these are; empty if they are the profile's."""
    others = sorted(set(table["profile"]) - {profile})
    return f"rows of profile {others[0]!r}" if others else ""


def checked(profile: str) -> pd.DataFrame:
    """The published table for a verdict: :class:`TableUnavailable` also if a row is not of the trial that it names."""
    rows = published(profile)
    # The rows of one trial in several experiments say the same of it, unless one was edited: each differing one counts.
    for row in rows.drop_duplicates(["trial_id", "kind", "preserved_layers", *_FIELDS]).to_dict("records"):
        trial_of(row)
    return rows


def _wrong(table: pd.DataFrame) -> str:
    """What no published table can hold, in words; empty if there is nothing of the kind."""
    needed = [name for name, kind in COLUMNS.items() if kind not in ("Int64", "float64")]
    lacking = table[needed].isna().any()
    if lacking.any():
        return f"rows without {lacking.idxmax()!r}"
    if not table["metric"].isin(METRICS).all():
        return "an unknown metric"
    if not table["score"].between(-1, 1).all():
        return "scores that are not from -1 to 1"
    if table.duplicated(["experiment", "trial_id"]).any():
        return "a trial twice"
    if len(table.drop_duplicates(["trial_id", "score", "diverged"])) > table["trial_id"].nunique():
        return "a trial with two scores"
    return ""


def published_or_empty(profile: str, folder: Path = RESULTS) -> pd.DataFrame:
    """The published table of a profile, or a table without rows if nothing is published under that name."""
    exists = _is_name(profile) and (folder / f"{profile}.parquet").is_file()
    return published(profile, folder) if exists else pd.DataFrame(columns=list(COLUMNS)).astype(COLUMNS)


def _is_name(profile: str) -> bool:
    """Whether it can name a file of the folder of tables, and none elsewhere."""
    return bool(re.fullmatch(r"\w[\w.-]{0,99}", profile))


def with_published(
    table: pd.DataFrame, profile: str, planned: Collection[tuple[str, str]], folder: Path = RESULTS
) -> pd.DataFrame:
    """The table, and the published rows it lacks whose (experiment, trial id) is ``planned``: other machines' trials. A
    trial that is known in one experiment is known in all that plan it.

    Warns (:class:`RowsDropped`) of published rows that are not kept: those of trials that are no longer planned, or all
    of a table in an older format, which lacks columns. A damaged table is not replaced: :class:`TableUnavailable`.
    """
    try:
        before = published_or_empty(profile, folder)
    except OlderTable as error:
        warnings.warn(f"no row of the published table is kept: {error}", RowsDropped, stacklevel=2)
        return table
    known = set(zip(table["experiment"], table["trial_id"], strict=True))
    keys = list(zip(before["experiment"], before["trial_id"], strict=True))
    if gone := len(set(keys) - known - set(planned)):
        dropped = f"{gone} of {len(keys)} published rows of profile {profile!r} are dropped"
        warnings.warn(f"{dropped}: its grid no longer has their trials.", RowsDropped, stacklevel=2)
    kept = before[[key in planned and key not in known for key in keys]]
    whole = pd.concat([table, kept], ignore_index=True)
    lacking = set(planned) - known - set(keys)
    shared = pd.DataFrame(sorted(lacking), columns=["experiment", "trial_id"]).merge(
        whole.drop(columns="experiment").drop_duplicates("trial_id"), on="trial_id"
    )
    return pd.concat([whole, shared], ignore_index=True).astype(COLUMNS)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until no other process is in here for the same folder, so that none publishes over another's rows; where
    the file system has no locks, nobody waits."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        place = os.open(folder, os.O_RDONLY)
    except OSError as error:
        reason = error.strerror or error
        raise TableUnavailable(f"the folder {folder} cannot be used ({reason})", "move what is in its place") from error
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(place, fcntl.LOCK_EX)
        yield
    finally:
        os.close(place)  # and with it the lock


def publish(table: pd.DataFrame, profile: str, folder: Path = RESULTS) -> list[Path]:
    """Write the table as Parquet and as CSV, as :func:`replace` does; rows sorted, so that a diff means a change."""
    order = ["experiment", "task", "train_size", "protocol", "kind", "preserved_layers", "seed", "trial_id"]
    table = table.sort_values(order, ignore_index=True)
    written = {folder / f"{profile}.parquet": table.to_parquet, folder / f"{profile}.csv": table.to_csv}
    replace({path: partial(write, index=False) for path, write in written.items()}, f"the table of profile {profile!r}")
    return list(written)


def replace(files: Mapping[Path, Callable[[Path], object]], what: str) -> None:
    """Write the files of one folder, each by its function, under temporary names, and rename them when all are there.

    :class:`TableUnavailable` where they cannot be written; the files are then what they were.
    """
    temporary = {path: path.with_suffix(f"{path.suffix}.{os.getpid()}.tmp") for path in files}
    folder = next(iter(files)).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, write in files.items():
            write(temporary[path])
        for path, unfinished in temporary.items():
            unfinished.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            for unfinished in temporary.values():
                unfinished.unlink(missing_ok=True)
        if not isinstance(error, OSError | ValueError):  # ValueError: a text that is not Unicode
            raise
        reason = getattr(error, "strerror", None) or error
        remedy = "make it writable, with some space, and run the same command again"
        raise TableUnavailable(f"{what} cannot be written to {folder} ({reason})", remedy) from error
