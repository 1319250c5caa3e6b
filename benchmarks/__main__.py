"""Measure every row, one fresh process after another, and keep the results: ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import plan, record
from companion import speed
from companion.paths import BUILD, ROOT, data_folder

QUICK_RESULTS = BUILD / "benchmarks-quick.json"
QUICK_ROWS = {"train": 48, "validation": 24}  # of each split that a quick run sees


def main(argv: list[str] | None = None) -> int:
    """Measure what is asked for; 1 when something could not be measured."""
    options = _options(argv)
    chosen = _chosen(options.only, options.quick)
    failed = []
    with _data(options.data_dir, options.quick) as data_dir:
        for row in chosen:
            try:
                measure(row, options, data_dir)
            except subprocess.CalledProcessError as error:
                failed.append(row.name)
                print(f"{row.name}: failed\n{error.stderr[-2000:]}", file=sys.stderr)
                skip(row, "its run failed", options)
    print(f"\n{speed.text(record.read(options.out))}\nThe rows are in {os.path.relpath(options.out)}")
    return int(bool(failed))


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="rows with one of these beginnings of a name")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each variant; the median counts (default 3)")
    parser.add_argument("--slow-repeats", type=int, default=1, help="runs of what takes long (default 1)")
    parser.add_argument("--quick", action="store_true", help="very little data: does everything run at all?")
    parser.add_argument("--again", action="store_true", help="measure also what is stored for this code and machine")
    parser.add_argument("--data-dir", metavar="DIR", help="local GLUE data (default: COMPANION_DATA_DIR)")
    parser.add_argument("--out", type=Path, help="file of results (default: benchmarks/results/speed.json)")
    options = parser.parse_args(argv)
    options.data_dir = data_folder(options.data_dir)
    options.out = options.out or (QUICK_RESULTS if options.quick else record.RESULTS)
    if options.quick:
        options.repeats = options.slow_repeats = 1
    return options


def _chosen(only: list[str] | None, quick: bool) -> list[plan.Row]:
    every = plan.rows(quick)
    if unknown := [name for name in only or () if not any(row.name.startswith(name) for row in every)]:
        sys.exit(f"no row begins with {unknown[0]!r}; the rows are: {', '.join(row.name for row in every)}")
    return [row for row in every if not only or row.name.startswith(tuple(only))]


def measure(row: plan.Row, options: argparse.Namespace, data_dir: Path | None) -> None:
    """Run the row's jobs, variants in turn, and put it into the file of results."""
    reason = row.unmeasured or ("no GLUE data: give --data-dir" if row.glue and data_dir is None else "")
    if reason:
        print(f"{row.name}: not measured ({reason})", flush=True)
        skip(row, reason, options)
        return
    if not options.again and record.is_current(record.read(options.out).get(row.name), row.described(), options.quick):
        print(f"{row.name}: measured already", flush=True)
        return
    runs = []
    for turn in range(max(options.repeats, options.slow_repeats)):
        for variant in row.variants:
            slow = row.once or variant in plan.SLOW
            if turn < (options.slow_repeats if slow else options.repeats):
                runs.append({"variant": variant, **in_fresh_process(row, variant, data_dir)})
                print(_progress(row.name, runs[-1]), flush=True)
    record.write(options.out, row.name, record.row(row.described(), runs, options.quick))


def skip(row: plan.Row, reason: str, options: argparse.Namespace) -> None:
    """Say in the file of results why the row is not there; what was measured before, or elsewhere, stays."""
    if "runs" not in record.read(options.out).get(row.name, {}):
        record.write(options.out, row.name, record.skipped(row.described(), reason, options.quick))


def _progress(name: str, run: dict[str, Any]) -> str:
    seconds = [f"{run[kind]:,.1f} s {kind.split('_')[0]}" for kind in ("cpu_seconds", "wall_seconds") if kind in run]
    return f"{time.strftime('%H:%M:%S')}  {name}, {run['variant']}: {', '.join(seconds)}"


def in_fresh_process(row: plan.Row, variant: str, data_dir: Path | None) -> dict[str, Any]:
    """What the child process measured."""
    job = {"job": row.job, "arguments": row.arguments, "variant": variant, "threads": 1}
    if row.threads > 1 and variant.endswith("threads"):
        job["threads"] = row.threads
    job["data_dir"] = str(data_dir.absolute()) if data_dir and (row.glue or row.job == "book") else None
    threads = {name: str(job["threads"]) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **threads}
    # rows of a GPU are about one, the first there is; the others are about processors
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0] if row.name.startswith("gpu/") else ""
    environment["CUDA_VISIBLE_DEVICES"] = seen
    command = [sys.executable, "-m", "benchmarks.child", json.dumps(job)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@contextlib.contextmanager
def _data(data_dir: Path | None, quick: bool) -> Iterator[Path | None]:
    """The folder of GLUE data, or for a quick run a folder with the first rows of each split."""
    if data_dir is None or not quick:
        yield data_dir
        return
    import pyarrow.parquet as pq

    with tempfile.TemporaryDirectory() as folder:
        for task in plan.MODELS["minilm-l6"]:
            for split, rows in QUICK_ROWS.items():
                name = f"{task}/{split}-00000-of-00001.parquet"
                (Path(folder) / task).mkdir(exist_ok=True)
                pq.write_table(pq.read_table(data_dir / name).slice(0, rows), Path(folder) / name)
        yield Path(folder)


if __name__ == "__main__":
    sys.exit(main())
