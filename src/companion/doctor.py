"""What a rerun needs of a machine, checked one thing at a time."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from companion import linear, models, profiles, table, tasks
from companion.errors import CompanionError
from companion.executors import cores
from companion.paths import data_folder
from companion.store import open_store

BROWSERS = ("google-chrome", "chromium", "chromium-browser")
BROWSERS += ("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",)


@dataclass(frozen=True)
class Check:
    """One thing: whether it is good, what was found or what to do, and whether the pocket profile needs it."""

    name: str
    good: bool
    finding: str
    needed: bool


def checks(store: str | None, data_dir: str | None) -> Iterator[Check]:
    """All checks, in the order a newcomer would ask; nothing is fetched and no trial is run.

    ``store`` and ``data_dir`` are as the options of those names give them, None where they are left out.
    """
    import torch

    yield Check("python", True, f"{platform.python_version()}, torch {torch.__version__}", True)
    yield Check("device", True, torch.cuda.get_device_name() if torch.cuda.is_available() else _processor(), True)
    yield _attempt("PocketBERT", lambda: f"weights {models.weights_of('pocket-bert')}", needed=True)
    yield _attempt("MiniLM", _minilm, needed=False)
    yield _attempt("pocket tasks", lambda: f"data {tasks.load('pocket-cola').fingerprint}", needed=True)
    yield _attempt("GLUE data", lambda: _glue(data_dir), needed=False)
    yield _attempt("store", lambda: _store(store), needed=True)
    yield Check("published tables", True, ", ".join(table.published_profiles()) or "none", False)
    yield Check("profiles", True, ", ".join(profiles.names()), False)
    found = browser()
    yield Check("browser for tests", bool(found), found or "none: `make test` installs one or skips", False)


def _processor() -> str:
    return f"CPU, {cores()} cores" + (", large matrices by oneDNN" if linear.onednn_is_faster() else "")


def browser() -> str | None:
    """The Chromium or Chrome that the tests of finished pages open. Not a snap's, which does not see ``/tmp``."""
    found = filter(None, map(shutil.which, BROWSERS))
    return next((path for path in found if Path(path).resolve().name != "snap"), None)


def _attempt(name: str, find, needed: bool) -> Check:
    try:
        return Check(name, True, find(), needed)
    except CompanionError as error:
        return Check(name, False, str(error), needed)


def _minilm() -> str:
    source = models.NAMED["minilm-l6"]
    if models.packaged(source.package) is None:
        raise models.ModelUnavailable("its package is not installed", source.remedy)
    return f"weights {models.weights_of('minilm-l6')} (from the package {source.package})"


def _glue(given: str | None) -> str:
    if (data_dir := data_folder(given)) is None:
        raise tasks.DataUnavailable(
            "no local folder given", "set --data-dir or COMPANION_DATA_DIR, else the hub is asked"
        )
    sizes = [(name, tasks.load(name, data_dir)) for name in ("cola", "sst2", "qnli")]
    return ", ".join(f"{name} {len(data.train)} + {len(data.dev)}" for name, data in sizes) + f" in {data_dir}"


def _store(place: str | None) -> str:
    store = open_store(place)
    store.check_writable()
    free = shutil.disk_usage(store.folder).free / 1e9
    return f"{sum(1 for _ in store)} trials in {store.folder}, {free:.0f} GB free"
