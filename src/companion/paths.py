"""Where things are. The package is used from a checkout (installed in editable mode), so paths start at its root."""

from __future__ import annotations

import os
from pathlib import Path

from companion.errors import InvalidValue

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "models"
NOTEBOOKS = ROOT / "notebooks"
RESULTS = ROOT / "results"
BUILD = ROOT / "_build"
PROFILES = Path(__file__).resolve().parent / "profiles"


def store_folder(given: str | Path | None = None) -> Path:
    """The folder of stored trials: the one given, else ``COMPANION_STORE``, else ``store/`` of the checkout."""
    folder = given or os.environ.get("COMPANION_STORE") or ROOT / "store"
    export = "send the results there with `companion results export --out ADDRESS`"
    return usable(folder, "store", f"name a folder, which may be of a shared file system, and {export}")


def data_folder(given: str | Path | None = None) -> Path | None:
    """The folder of GLUE data: the one given, else ``COMPANION_DATA_DIR``; None means the hub."""
    folder = given or os.environ.get("COMPANION_DATA_DIR")
    return usable(folder, "data folder") if folder else None


def usable(given: object, what: str, instead: str = "give a folder, or mount it as one") -> Path:
    """The path, whether or not there is anything; :class:`InvalidValue` for one at which nothing could ever be.

    ``instead`` says what to do about an address.
    """
    if not isinstance(given, str | Path) or "\0" in str(given):
        raise InvalidValue(f"{what} {given!r} is not the name of a file or folder", "give a path as text")
    if "://" in str(given):
        raise InvalidValue(f"{what} {str(given)!r} is an address and not a folder", instead)
    try:
        Path(given).exists()
    except OSError as error:
        raise InvalidValue(f"{what} {str(given)!r} cannot be used ({error.strerror})", "choose another") from error
    return Path(given)
