"""Results on disk: one JSON file per trial, ``<store>/<id[:2]>/<id>.json``.

A file is written under a temporary name and renamed, so any number of processes may write and a reader never sees half
a file; copying two stores together merges them. Each file carries a checksum of its content. A file that does not
parse, does not match its checksum or does not belong under its name is moved to ``<store>/set-aside/`` with a warning:
never trusted, never deleted. One that the system will not read stays where it is and stops the reader. A folder of the
store that is a link to somewhere else is refused: nothing is written outside the store.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import math
import os
import secrets
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from companion.errors import CompanionError, StoreUnavailable, one_line
from companion.paths import store_place
from companion.trial import Trial

FORMAT = 1


# What reading a JSON file of any content may raise, where a result is expected.
_NO_RESULT = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)


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
        self.forget_failure(result.trial)

    def put_failure(self, trial: Trial, cause: str) -> None:
        """Note that a trial ended without a result, and why; how often it is tried again is the sweep's to say."""
        content = {"trial": asdict(trial), "cause": cause, "attempts": self.attempts(trial) + 1}
        self._write(self._failure_path(trial), content)

    def failure(self, trial: Trial) -> dict[str, Any] | None:
        """``cause`` and number of ``attempts`` of a trial that only ever failed, or None."""
        path = self._failure_path(trial)
        try:
            noted = json.loads(path.read_text()) if path.is_file() else None
            return {"cause": one_line(str(noted["cause"])), "attempts": max(int(noted["attempts"]), 0)}
        except (*_NO_RESULT, OSError):
            return None

    def attempts(self, trial: Trial) -> int:
        """How often the trial was tried and failed since it was last stored or forgotten."""
        return (self.failure(trial) or {"attempts": 0})["attempts"]

    def forget_failure(self, trial: Trial) -> bool:
        """Let the trial be tried anew, as if it had never failed; whether there was anything to forget."""
        known, path = self.failure(trial) is not None, self._failure_path(trial)
        if path.parent.is_symlink():  # what lies behind a link is not the store's to remove
            return known
        try:
            self._check_folder(path.parent)
            self._check_no_folder(path)
            path.unlink(missing_ok=True)
        except OSError as error:
            raise self._unavailable(error) from error
        return known

    def __iter__(self) -> Iterator[Result]:
        for path in sorted(self.folder.glob("[0-9a-f][0-9a-f]/*.json")):
            if (result := self._read(path)) is not None:
                yield result

    def find(self, beginning: str) -> list[Result]:
        """The results whose trial's id begins with these hex digits (two at least)."""
        paths = sorted((self.folder / beginning[:2]).glob(f"{beginning}*.json"))
        return [result for path in paths if (result := self._read(path)) is not None]

    def check_writable(self) -> None:
        """Stop with :class:`StoreUnavailable` now rather than after the first trial."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
            # without it a file that cannot be trusted would stay where its trial's result is to be written
            self._check_inside(self.folder / "set-aside")
            self._check_folder(self.folder / "failed")
            self._check_no_folder(self.folder / ".claims")
        except (OSError, ValueError) as error:  # ValueError: a name no file can have
            raise self._unavailable(error) from error

    def _failure_path(self, trial: Trial) -> Path:
        return self.folder / "failed" / f"{trial.id}.json"

    def _write(self, path: Path, content: dict[str, Any]) -> None:
        temporary = None
        try:
            self._check_inside(path.parent)
            self._check_no_folder(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            unused = path.parent / f".{secrets.token_hex(8)}.tmp"
            with open(unused, "x") as file:  # readable to those whom the umask lets: a group may share the store
                temporary = unused
                json.dump(content, file, indent=1, sort_keys=True, allow_nan=False)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException as error:
            if temporary:
                temporary.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise self._unavailable(error) from error
            raise

    def _check_inside(self, folder: Path) -> None:
        """Stop rather than write through a link that leads out of the store."""
        if folder.is_symlink():
            raise self._in_the_way(folder, "a link to somewhere else")
        self._check_folder(folder)

    def _check_folder(self, folder: Path) -> None:
        if folder.exists() and not folder.is_dir():
            raise self._in_the_way(folder, "a file and no folder")

    def _check_no_folder(self, path: Path) -> None:
        if path.is_dir():
            raise self._in_the_way(path, "a folder and no file")

    def _in_the_way(self, path: Path, what: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"the store {self.folder} cannot be written ({path.relative_to(self.folder)} in it is {what})",
            "move that away or name another store with --store",
        )

    def _unavailable(self, error: OSError | ValueError) -> StoreUnavailable:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free some space and run again" if full else "make it writable or name another with --store"
        reason = getattr(error, "strerror", None) or error
        return StoreUnavailable(f"the store {self.folder} cannot be written ({reason})", remedy)

    def _read(self, path: Path) -> Result | None:
        try:
            if not path.is_file() and path.exists():  # a pipe or a device would be read forever
                return self._set_aside(path, "it is not a file")
            text = path.read_text()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError as error:  # not UTF-8, or a name no file can have
            return self._set_aside(path, f"it cannot be read ({type(error).__name__})")
        except OSError as error:
            if error.errno == errno.ELOOP:
                return self._set_aside(path, "it is a link to itself")
            raise StoreUnavailable(  # the file may be as good as any: another user's, or out of reach for a moment
                f"the result {path} cannot be read ({error.strerror})", "make it readable or name another store"
            ) from error
        try:
            content = json.loads(text)
            checksum = content.pop("checksum")
            trial = Trial.from_dict(content["trial"])
            _check_content(content)
        except (*_NO_RESULT, CompanionError) as error:
            return self._set_aside(path, f"it is not a result ({type(error).__name__})")
        if checksum != _checksum(content):
            return self._set_aside(path, "its content was changed after it was written")
        if not trial.id == content["id"] == path.stem:
            return self._set_aside(path, "it is not the result of the trial it is named after")
        return Result(trial, content["outcome"], content["provenance"])

    def _set_aside(self, path: Path, reason: str) -> None:
        target = self.folder / "set-aside" / path.name
        try:
            while target.exists():
                target = target.with_name(target.name + "+")
            self._check_inside(target.parent)
            self._check_inside(path.parent)
            target.parent.mkdir(exist_ok=True)
            path.rename(target)
            where = f"moved to {target}"
        except (OSError, StoreUnavailable):
            where = "ignored"
        warnings.warn(f"result file {path} was {where}: {reason}; its trial counts as missing.", SetAside, stacklevel=3)


def open_store(given: Path | str | None = None) -> Store:
    """The store at the place given (see :func:`companion.paths.store_place`), a folder or an address.

    Raises :class:`InvalidValue` for what can be neither, and :class:`StoreUnavailable` for an address out of reach.
    """
    place = store_place(given)
    if isinstance(place, Path):
        return Store(place)
    from companion.remote import RemoteStore

    return RemoteStore(place)


class Claims:
    """Which trials this process is running, told to every other process with the same store.

    Claims are locks on bytes of one file: the system gives them back when a process ends, even by kill -9, so none is
    ever stale. Where the file system has no locks every claim is granted; two sweeps may then run a trial at the same
    time, and store equal results.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self._file = open(folder / ".claims", "r+b", opener=_make_here)  # noqa: SIM115 - held as long as the claims
        except OSError:
            self._file = None

    def take(self, trial: Trial) -> bool:
        """Claim the trial; False if another process has."""
        try:
            self._lock(trial, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # the two ways to say that somebody else has it
            return False
        except OSError:
            return True
        return True

    def release(self, trial: Trial) -> None:
        """Give the trial back."""
        with contextlib.suppress(OSError):
            self._lock(trial, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give everything back."""
        if self._file:
            self._file.close()

    def _lock(self, trial: Trial, operation: int) -> None:
        if self._file:
            fcntl.lockf(self._file, operation, 1, int(trial.id[:15], 16))  # 60 bits of the id fit a file's offset


def _make_here(path: str, flags: int) -> int:
    """Open the file, made if need be, but not one at the other end of a link."""
    return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW, 0o666)


METRICS = ("accuracy", "matthews")
# What every result says of its trial's outcome, and what must be true of it.
_OUTCOME = {
    "metric": lambda value: value in METRICS,
    "score": lambda value: _is_number(value) and -1 <= value <= 1,
    "diverged": lambda value: type(value) is bool,
    "failure": lambda value: isinstance(value, str),
    "majority_share": lambda value: _is_number(value) and 0 <= value <= 1,
    "loss_curve": lambda value: bool(value) and all(loss is None or _is_number(loss) for loss in value),
    "steps": lambda value: type(value) is int and 0 <= value < 2**63,
    "seconds": lambda value: _is_number(value) and value >= 0,
    "examples_per_second": lambda value: _is_number(value) and value >= 0,
    "peak_memory_mb": lambda value: _is_number(value) and value >= 0,
}


def _check_content(content: dict[str, Any]) -> None:
    """Stop with ValueError, KeyError or TypeError at anything that no trial could have come to."""
    for name, possible in _OUTCOME.items():
        if not possible(content["outcome"][name]):
            raise ValueError(name)
    chosen = content["outcome"].get("regularization")
    if not (chosen is None or _is_number(chosen)):
        raise ValueError("regularization")
    where = content["provenance"]
    parts = (content["trial"], content["outcome"], where)
    if len(set().union(*parts)) < sum(map(len, parts)):  # one would hide the other in the table
        raise ValueError("a name twice")
    if not all(isinstance(where[name], str) for name in ("device", "processor", "git_commit", "finished_at")):
        raise TypeError("provenance")
    if type(where["threads"]) is not int or not 0 < where["threads"] < 2**63:
        raise ValueError("threads")


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _checksum(content: dict[str, Any]) -> str:
    # Through JSON once, so that tuples and lists hash alike.
    return hashlib.sha256(json.dumps(json.loads(json.dumps(content)), sort_keys=True).encode()).hexdigest()
