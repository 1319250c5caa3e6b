"""Where things are. The package is used from a checkout (installed in editable mode), so paths start at its root."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "models"
NOTEBOOKS = ROOT / "notebooks"
RESULTS = ROOT / "results"
BUILD = ROOT / "_build"
PROFILES = Path(__file__).resolve().parent / "profiles"


def store_folder(given: str | Path | None = None) -> Path:
    """The folder of stored trials: the one given, else ``COMPANION_STORE``, else ``store/`` of the checkout."""
    return Path(given or os.environ.get("COMPANION_STORE") or ROOT / "store")


def data_folder(given: str | Path | None = None) -> Path | None:
    """The folder of GLUE data: the one given, else ``COMPANION_DATA_DIR``; None means the hub."""
    folder = given or os.environ.get("COMPANION_DATA_DIR")
    return Path(folder) if folder else None
