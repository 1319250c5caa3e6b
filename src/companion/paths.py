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


def store_place(given: str | Path | None = None) -> Path | str:
    """Where stored trials are: the place given, else ``COMPANION_STORE``, else ``store/`` of the checkout. A folder, or
    as text an address of a file system that fsspec knows.

    Raises :class:`InvalidValue` for an address with a password in it, which executed notebooks and messages would show.
    """
    place = given or os.environ.get("COMPANION_STORE") or ROOT / "store"
    if not isinstance(place, str) or "://" not in place:
        return usable(place, "store")
    kind, _, rest = place.partition("://")
    if "@" in rest and ":" in rest.rpartition("@")[0]:
        raise InvalidValue(
            f"the {kind}:// address of the store holds a password, which executed notebooks would show",
            f"take it out, and give it as fsspec reads it: export FSSPEC_{kind.upper()}_PASSWORD",
        )
    return place


def data_folder(given: str | Path | None = None) -> Path | None:
    """The folder of GLUE data: the one given, else ``COMPANION_DATA_DIR``; None means the hub."""
    folder = given or os.environ.get("COMPANION_DATA_DIR")
    return usable(folder, "data folder") if folder else None


def usable(given: object, what: str) -> Path:
    """The path, whether or not there is anything; :class:`InvalidValue` for one at which nothing could ever be."""
    if not isinstance(given, str | Path) or "\0" in str(given) or not _is_text(str(given)):
        raise InvalidValue(f"{what} {given!r} is not the name of a file or folder", "give a path as text")
    if "://" in str(given):
        kind, _, rest = str(given).partition("://")
        told = f"{kind}://…" if "@" in rest else str(given)  # it may hold a password
        raise InvalidValue(f"{what} {told!r} is an address and not a folder", "give a folder, or mount it as one")
    try:
        path = Path(given).expanduser()  # a shell leaves --store=~/x as it is
        path.exists()
    except (OSError, RuntimeError) as error:  # RuntimeError: no such user
        reason = getattr(error, "strerror", None) or error
        raise InvalidValue(f"{what} {str(given)!r} cannot be used ({reason})", "choose another") from error
    return path


def _is_text(path: str) -> bool:
    """Whether notebooks, which are UTF-8, can say it."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
