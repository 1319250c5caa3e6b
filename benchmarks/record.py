"""Results of the benchmarks: one JSON file, a row per thing measured, each with where and when it was measured."""

from __future__ import annotations

import json
import os
import statistics
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from companion import provenance
from companion.paths import ROOT

RESULTS = ROOT / "benchmarks" / "results" / "speed.json"


def read(path: Path) -> dict[str, dict[str, Any]]:
    """The rows by name; none where there is no file."""
    return json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else {}


def write(path: Path, name: str, row: dict[str, Any]) -> None:
    """Put one row into the file and leave the others, so that an interrupted run has what it finished."""
    rows = dict(sorted({**read(path), name: row}.items()))
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"rows": rows}, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    new.replace(path)


def row(plan: dict[str, Any], runs: list[dict[str, Any]], quick: bool) -> dict[str, Any]:
    """A row: what was planned, every run, their medians by variant, and where they were made."""
    return {**plan, "runs": runs, "medians": medians(runs), "quick": quick, **where()}


def skipped(plan: dict[str, Any], reason: str, quick: bool) -> dict[str, Any]:
    """A row of something that was not measured, and why."""
    return {**plan, "skipped": reason, "quick": quick, **where()}


def medians(runs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """For each variant the median over its runs of everything that is one number."""
    found: dict[str, dict[str, float]] = {}
    for variant in dict.fromkeys(run["variant"] for run in runs):
        these = [run for run in runs if run["variant"] == variant]
        numbers = [name for name, value in these[0].items() if type(value) in (int, float)]
        found[variant] = {name: statistics.median(run[name] for run in these) for name in numbers}
        found[variant]["repeats"] = len(these)
    return found


def where() -> dict[str, Any]:
    """Time, machine, versions and commit; nothing about whose machine it is."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"processor": provenance.processor(), "cores": os.cpu_count()},
        "versions": provenance.libraries(),
        "git_commit": provenance.git_commit(),
    }


def is_current(old: dict[str, Any] | None, plan: dict[str, Any], quick: bool) -> bool:
    """Whether a stored row is of this plan and code on this kind of machine, and as thorough as now asked for."""
    if old is None or "runs" not in old:
        return False
    now = where()
    wanted = {**plan, **{name: now[name] for name in ("machine", "versions", "git_commit")}, "quick": quick}
    here = provenance.device_name()
    return all(old.get(name) == value for name, value in wanted.items()) and all(
        run.get("device", here) == here for run in old["runs"]
    )
