"""Results on disk: one JSON file per trial, ``<store>/<id[:2]>/<id>.json``.

A file is written under a temporary name and renamed, so any number of processes may write and a reader never sees half
a file; copying two stores together merges them. Each file carries a checksum of its content. A file that does not
parse, does not match its checksum or does not belong under its name is moved to ``<store>/set-aside/`` with a warning:
never trusted, never deleted.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from companion.errors import CompanionError, StoreUnavailable
from companion.trial import Trial

FORMAT = 1


class SetAside(UserWarning):
    """A result file that could not be trusted was moved out of the way."""


@dataclass(frozen=True)
class Result:
    """A trial with what it came to (:class:`companion.finetune.Outcome` as a dict) and its provenance."""

    trial: Trial
    outcome: dict[str, Any]
    provenance: dict[str, Any]


class Store:
    """A folder of results. Reading a store that does not exist yet finds nothing; writing creates it."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def path(self, trial_id: str) -> Path:
        """Where the result of a trial is kept."""
        return self.folder / trial_id[:2] / f"{trial_id}.json"

    def get(self, trial: Trial) -> Result | None:
        """The stored result of the trial, or None."""
        return self._read(self.path(trial.id))

    def put(self, result: Result) -> None:
        """Store a result, replacing none or an equal trial's; :class:`StoreUnavailable` if the disk will not."""
        content = {"format": FORMAT, "id": result.trial.id, **asdict(result)}
        self._write(self.path(result.trial.id), {**content, "checksum": _checksum(content)})
        self._failure_path(result.trial).unlink(missing_ok=True)

    def put_failure(self, trial: Trial, cause: str) -> None:
        """Note that a trial ended without a result, and why; the next sweep tries it again."""
        attempts = (self.failure(trial) or {"attempts": 0})["attempts"] + 1
        self._write(self._failure_path(trial), {"trial": asdict(trial), "cause": cause, "attempts": attempts})

    def failure(self, trial: Trial) -> dict[str, Any] | None:
        """``cause`` and number of ``attempts`` of a trial that only ever failed, or None."""
        try:
            return json.loads(self._failure_path(trial).read_text())
        except (OSError, ValueError):
            return None

    def __iter__(self) -> Iterator[Result]:
        for path in sorted(self.folder.glob("[0-9a-f][0-9a-f]/*.json")):
            if (result := self._read(path)) is not None:
                yield result

    def check_writable(self) -> None:
        """Stop with :class:`StoreUnavailable` now rather than after the first trial."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise self._unavailable(error) from error

    def _failure_path(self, trial: Trial) -> Path:
        return self.folder / "failed" / f"{trial.id}.json"

    def _write(self, path: Path, content: dict[str, Any]) -> None:
        temporary = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
            with os.fdopen(descriptor, "w") as file:
                json.dump(content, file, indent=1, sort_keys=True, allow_nan=False)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException as error:
            if temporary:
                Path(temporary).unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise self._unavailable(error) from error
            raise

    def _unavailable(self, error: OSError) -> StoreUnavailable:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free some space and run again" if full else "make it writable or name another with --store"
        return StoreUnavailable(f"the store {self.folder} cannot be written ({error.strerror})", remedy)

    def _read(self, path: Path) -> Result | None:
        try:
            text = path.read_text()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, UnicodeDecodeError) as error:
            return self._set_aside(path, f"it cannot be read ({type(error).__name__})")
        try:
            content = json.loads(text)
            checksum = content.pop("checksum")
            trial = Trial.from_dict(content["trial"])
        except (ValueError, KeyError, TypeError, AttributeError, CompanionError) as error:
            return self._set_aside(path, f"it is not a result ({type(error).__name__})")
        if checksum != _checksum(content):
            return self._set_aside(path, "its content was changed after it was written")
        if not trial.id == content["id"] == path.stem:
            return self._set_aside(path, "it is not the result of the trial it is named after")
        return Result(trial, content["outcome"], content["provenance"])

    def _set_aside(self, path: Path, reason: str) -> None:
        target = self.folder / "set-aside" / path.name
        while target.exists():
            target = target.with_name(target.name + "+")
        try:
            target.parent.mkdir(exist_ok=True)
            path.rename(target)
            where = f"moved to {target}"
        except OSError:
            where = "ignored"
        warnings.warn(f"result file {path} was {where}: {reason}; its trial counts as missing.", SetAside, stacklevel=3)


def _checksum(content: dict[str, Any]) -> str:
    # Through JSON once, so that tuples and lists hash alike.
    return hashlib.sha256(json.dumps(json.loads(json.dumps(content)), sort_keys=True).encode()).hexdigest()
