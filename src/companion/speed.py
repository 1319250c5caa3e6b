"""How fast this code is: the results of ``benchmarks/`` as the tables and charts of a page.

Results are rows by name, as ``python -m benchmarks`` writes them; every part can be made while rows are missing, and
says what was not measured. Ratios are of medians.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from companion import embed, stats, theme
from companion.paths import ROOT
from companion.views import FEWEST_PLACES

RESULTS = ROOT / "benchmarks" / "results" / "speed.json"
Rows = dict[str, dict[str, Any]]
OURS, TRAINER, RELEASED = "this code", "Trainer", "as released"
OURS_BF16 = "this code, bf16"
ONE_AT_A_TIME, AT_ONCE, AT_ONCE_BF16 = "one at a time", "several at once", "several at once, bf16"  # trials on one GPU
BF16 = (OURS_BF16, AT_ONCE_BF16)  # variants that multiply numbers rounded to bfloat16
TASKS = {  # model → task → its title, and how many times faster than the released procedure a trial is to be
    "minilm-l6": {"cola": ("CoLA", 15), "sst2": ("SST-2", 10), "qnli": ("QNLI", 4)},
    "pocket-bert": {
        "pocket-cola": ("pocket-cola", 15),
        "pocket-sst2": ("pocket-sst2", 10),
        "pocket-qnli": ("pocket-qnli", 4),
    },
}
ABSENT = "not measured"
USUAL_IS_SLOWER = 1.1  # a ratio of two rates of matrix products that is told


def load() -> Rows:
    """The repository's results; none where the benchmarks were never run."""
    return json.loads(RESULTS.read_text(encoding="utf-8"))["rows"] if RESULTS.is_file() else {}


# --- numbers from rows ---------------------------------------------------------------------------------------------


def median(rows: Rows, name: str, variant: str, what: str) -> float | None:
    """The median of a measured quantity, or None."""
    return rows.get(name, {}).get("medians", {}).get(variant, {}).get(what)


def ratio(rows: Rows, name: str, slow: str, fast: str, what: str = "cpu_seconds") -> float | None:
    """How many times the cost of one variant another has, or None where one is missing."""
    costs = [median(rows, name, variant, what) for variant in (slow, fast)]
    return costs[0] / costs[1] if all(costs) else None


def useful_rate(rows: Rows, name: str, variant: str) -> float | None:
    """Useful GFLOP per CPU second of a trial."""
    operations, seconds = (median(rows, name, variant, what) for what in ("useful_flops", "cpu_seconds"))
    return operations / seconds / 1e9 if operations and seconds else None


def share_of_machine(rows: Rows, name: str, variant: str) -> float | None:
    """Useful rate of a trial as a share of the measured rate of large matrix products in its precision, on the same
    machine; None where the rows are of two."""
    rate = useful_rate(rows, name, variant)
    if rate and rows.get("machine", {}).get("machine") != rows[name]["machine"]:
        return None
    machine = median(rows, "machine", OURS, "bfloat16_gflops" if variant in BF16 else "float32_gflops")
    return rate / machine if rate and machine else None


def memory(rows: Rows, name: str) -> float | None:
    """Peak memory of a trial above what the imports take, in MB."""
    peak, imports = (median(rows, name, OURS, what) for what in ("peak_mb", "imports_mb"))
    return peak - imports if peak and imports else None


# --- what was aimed at ---------------------------------------------------------------------------------------------

Quantity = Callable[[Rows, str], float | None]  # of the rows, from the one that is named


@dataclass(frozen=True)
class Aim:
    """Something to reach: what, the row it is found in, how it is computed and written, and the threshold.

    With ``more``, larger values than the threshold are better, else smaller ones.
    """

    what: str
    row: str
    quantity: Quantity
    write: str
    threshold: float
    more: bool = True

    def found(self, rows: Rows) -> float | None:
        """The measured value, or None."""
        return self.quantity(rows, self.row)

    def reached(self, value: float) -> bool:
        """Whether the value is at least as good as the threshold."""
        return value >= self.threshold if self.more else value <= self.threshold


def _against(slow: str, fast: str = OURS, what: str = "cpu_seconds") -> Quantity:
    return lambda rows, name: ratio(rows, name, slow, fast, what)


def _wall(rows: Rows, name: str) -> float | None:
    return median(rows, name, OURS, "wall_seconds")


def _value(variant: str) -> Quantity:
    return lambda rows, name: median(rows, name, variant, "value")


def aims() -> list[Aim]:
    """Every threshold, all of them set before anything was measured."""
    return [*_trial_aims(), *_probing_aims(), *_machine_aims()]


def _trial_aims() -> Iterator[Aim]:
    for model, tasks in TASKS.items():
        for task, (title, least) in tasks.items():
            name = f"trial/{model}/{task}"
            said = f"{model}, {title}: CPU seconds of"
            yield Aim(f"{said} the procedure as released, to ours", name, _against(RELEASED), "{:.1f}×", least)
            yield Aim(f"{said} transformers' Trainer, to ours", name, _against(TRAINER), "{:.1f}×", 2)
    for task in ("cola", "qnli"):
        title = f"minilm-l6, {TASKS['minilm-l6'][task][0]}: memory of a trial above the imports"
        yield Aim(title, f"trial/minilm-l6/{task}", memory, "{:,.0f} MB", 700, more=False)


def _probing_aims() -> Iterator[Aim]:
    for name in ("probing/minilm-l6/cola", "probing/pocket-bert/pocket-cola"):
        said = f"{name.split('/')[1]}: CPU seconds of probing all layers as released (extrapolated), to ours"
        yield Aim(said, name, _against(RELEASED), "{:,.0f}×", 1000)


def _machine_aims() -> Iterator[Aim]:
    turns = _against("one after another, two threads", "two processes", "wall_seconds")
    yield Aim("wall seconds of many small trials one after another on two threads, to a sweep", "sweep", turns,
              "{:.2f}×", 1.5)  # fmt: skip
    for name in ("start/minilm-l6/cola", "start/pocket-bert/pocket-cola"):
        said = f"{name.split('/')[1]}: start of `companion trial` to its first step, data at hand"
        yield Aim(said, name, _wall, "{:.1f} s", 5, more=False)
    yield Aim("building the book from stored results", "book", _wall, "{:.0f} s", 60, more=False)
    said, several = "BERT base on a GPU, several trials at once", _against(ONE_AT_A_TIME, AT_ONCE, "trial_seconds")
    for variant, precision in ((AT_ONCE, "fp32"), (AT_ONCE_BF16, "bf16")):
        share = f"{said}, in {precision}: share of the bf16 matrix rate"
        yield Aim(share, "gpu/bert-base", _value(variant), "{:.0%}", 0.35)
    yield Aim(f"{said}: wall seconds of one at a time, to those of several", "gpu/bert-base", several, "{:.1f}×", 8)
    grid = "the paper's fine-tuning grid on one GPU, projected (the aim is for an H200)"
    yield Aim(grid, "gpu/grid", _value(OURS), "{:.1f} h", 3, more=False)


# --- tables --------------------------------------------------------------------------------------------------------


def _spaced(number: str) -> str:
    """A number and its unit or percent sign as the book writes them, never on two lines."""
    return number.replace(" ", "\u00a0").replace("%", "\u00a0%")


def aims_table(rows: Rows) -> pd.DataFrame:
    """What was aimed at, what was measured, and whether that is enough."""
    found = []
    for aim in aims():
        value = aim.found(rows)
        why = rows.get(aim.row, {}).get("skipped", "")
        measured = _measured(aim, value) if value is not None else f"{ABSENT}{why and ': '}{why}"
        verdict = "" if value is None else "✓" if aim.reached(value) else "✗"
        bound = f"{'at least' if aim.more else 'at most'} {_spaced(aim.write.format(aim.threshold))}"
        found.append({"what": aim.what, "measured": measured, "aim": bound, "reached": verdict})
    return pd.DataFrame(found)


def _measured(aim: Aim, value: float) -> str:
    """The value; one that misses the threshold and rounds to it says on which side it is."""
    written, threshold = (_spaced(aim.write.format(number)) for number in (value, aim.threshold))
    side = "" if aim.reached(value) or written != threshold else "just under " if aim.more else "just over "
    return side + written


def trials_table(rows: Rows) -> pd.DataFrame:
    """A row per model, task and procedure: cost, score, and how much of the machine's matrix rate is put to use."""
    found = []
    for name, row in _of_kind(rows, "trial"):
        for variant, medians in row.get("medians", {}).items():
            rate, share = useful_rate(rows, name, variant), share_of_machine(rows, name, variant)
            found.append(
                {
                    "model": name.split("/")[1],
                    "task": name.split("/")[2],
                    "procedure": variant,
                    "CPU s": f"{medians['cpu_seconds']:.1f}",
                    "wall s": f"{medians['wall_seconds']:.1f}",
                    "runs": int(medians["repeats"]),
                    "steps": int(medians["steps"]),
                    "score": f"{medians['score']:.3f}" if "score" in medians else "–",
                    "useful GFLOP/s": f"{rate:.0f}",
                    "of the matrix rate": "" if share is None else _spaced(f"{share:.0%}"),
                }
            )
    return pd.DataFrame(found)


def phases_table(rows: Rows) -> pd.DataFrame:
    """Shares of CPU time by part of the procedure, where a procedure tells its parts."""
    found = []
    for name, row in _of_kind(rows, "trial"):
        for run in _first_runs(row):
            if "phases" in run:
                total = sum(run["phases"].values())
                shares = {phase: _spaced(f"{seconds / total:.0%}") for phase, seconds in run["phases"].items()}
                model, task = name.split("/")[1:]
                found.append({"model": model, "task": task, "procedure": run["variant"], **shares})
    return pd.DataFrame(found).fillna("–")


def operations_table(rows: Rows, most: int = 10) -> pd.DataFrame:
    """Shares of PyTorch's operations in training, as released and in this code, for each profiled model."""
    found = []
    for name, row in _of_kind(rows, "profile"):
        shares = {run["variant"]: run["shares"] for run in _first_runs(row)}
        for variant, by_operation in shares.items():
            for operation, share in list(by_operation.items())[:most]:
                what = {"model": name.split("/")[1], "procedure": variant}
                found.append({**what, "operation": f"`{operation}`", "share": _spaced(f"{share:.1%}")})
    return pd.DataFrame(found)


def precision_table(rows: Rows) -> pd.DataFrame:
    """Scores of the same trials, seed by seed, with matrix products in fp32 and in bf16, and their differences."""
    found = []
    for name, row in _of_kind(rows, "precision"):
        scores = {run["variant"]: np.array(run["scores"]) for run in _first_runs(row)}
        single, half = (scores[variant] for variant in (OURS, OURS_BF16))
        low, high = stats.t_interval(half - single) or (math.nan, math.nan)
        found.append(
            {
                "model": name.split("/")[1],
                "task": name.split("/")[2],
                "seeds": len(single),
                "mean score, fp32": f"{single.mean():.3f}",
                "bf16": f"{half.mean():.3f}",
                "bf16 − fp32": f"{(half - single).mean():+z.3f}",
                "95 % interval": f"{low:+z.3f} to {high:+z.3f}",
                "spread over seeds, fp32": f"{single.std(ddof=1):.3f}",
                "spread, bf16": f"{half.std(ddof=1):.3f}",
            }
        )
    return pd.DataFrame(found)


def where_table(rows: Rows) -> pd.DataFrame:
    """The machines and the code that rows were measured on."""
    found: dict[tuple[str, ...], list[str]] = {}
    for name, row in rows.items():
        if "runs" in row:
            machine = f"{row['machine']['processor']}, {row['machine']['cores']} cores"
            if (device := row["runs"][0].get("device", "cpu")) != "cpu":
                machine += f", {device}"
            torch = row["versions"]["torch"]
            quick = " (quick: very little data)" if row["quick"] else ""
            found.setdefault((row["date"][:10], machine, torch, row["git_commit"] + quick), []).append(name)
    names = ("date", "machine", "torch", "commit")
    return pd.DataFrame([{**dict(zip(names, key, strict=True)), "rows": len(value)} for key, value in found.items()])


def text(rows: Rows) -> str:
    """The results for a terminal."""
    tables = (trials_table(rows), aims_table(rows))
    return "\n\n".join([*(t.to_string(index=False) for t in tables if len(t)), matrix_rate_sentence(rows)])


def matrix_rate_sentence(rows: Rows) -> str:
    """The machine's measured rate of large matrix products."""
    names = ("float32", "float32_usual", "bfloat16")
    single, usual, half = (median(rows, "machine", OURS, f"{name}_gflops") for name in names)
    if not single or not half:
        return "The rate of large matrix products was not measured."
    slower = f" ({usual:.0f} by PyTorch's usual library)" if usual and usual < single / USUAL_IS_SLOWER else ""
    return f"Large matrix products run at {single:.0f} GFLOP/s a core in fp32{slower} and at {half:.0f} in bf16."


def _of_kind(rows: Rows, kind: str) -> list[tuple[str, dict[str, Any]]]:
    return [(name, row) for name, row in rows.items() if name.startswith(f"{kind}/")]


def _first_runs(row: dict[str, Any]) -> list[dict[str, Any]]:
    """One run of each variant."""
    return list({run["variant"]: run for run in reversed(row.get("runs", []))}.values())[::-1]


# --- charts --------------------------------------------------------------------------------------------------------


def trials_figure(rows: Rows) -> str:
    """CPU seconds of a trial by procedure, as the HTML of a page; empty where none was measured."""
    costs = pd.DataFrame(
        {"trial": name.removeprefix("trial/"), "procedure": variant, "CPU seconds": medians["cpu_seconds"]}
        for name, row in _of_kind(rows, "trial")
        for variant, medians in row.get("medians", {}).items()
    )
    if costs.empty:
        return ""
    procedures = [RELEASED, TRAINER, OURS, OURS_BF16]
    chart = alt.Chart(costs).mark_point(filled=True, size=110, opacity=1)
    chart = chart.encode(
        x=alt.X("CPU seconds:Q", scale=alt.Scale(type="log"), axis=alt.Axis(values=[1, 3, 10, 30, 100, 300, 1000])),
        y=alt.Y("trial:N", title=None, sort=None, axis=alt.Axis(labelExpr="split(datum.label, '/')")),
        color=alt.Color("procedure:N", scale=theme.color_scale(procedures)),
        shape=alt.Shape("procedure:N", scale=theme.shape_scale(procedures)),
        tooltip=["trial:N", "procedure:N", alt.Tooltip("CPU seconds:Q", format=",.1f")],
    )
    said = f"CPU seconds of {costs['trial'].nunique()} fine-tuning trials by procedure, on a logarithmic scale."
    chart = theme.styled(chart.properties(width="container", height=alt.Step(34), description=said))
    return embed.on_page(chart, name="speed-trials", caption=said, rows=costs)


FACTORS = {
    "train_size": "training examples",
    "layers": "layers",
    "width": "width",
    "batch_size": "batch size",
    "workers": "workers (wall seconds of a sweep)",
}


def growth_figure(rows: Rows) -> str:
    """Cost of a trial as one of its sizes changes, as the HTML of a page; empty where it was not measured."""
    points = [point for run in rows.get("growth", {}).get("runs", []) for point in run["points"]]
    if not points:
        return ""
    table = pd.DataFrame(
        {
            "changed": FACTORS[point["factor"]],
            "value": point["value"],
            "seconds": point["wall_seconds" if point["factor"] == "workers" else "cpu_seconds"],
        }
        for point in points
    )
    panels = [_growth_panel(table[table["changed"] == title], title) for title in table["changed"].unique()]
    sizes = ", ".join(f"{FACTORS[name]} {value}" for name, value in rows["growth"]["arguments"]["middle"].items())
    said = f"Seconds of a trial of a small random BERT when one thing changes; the others stay at {sizes}."
    chart = theme.styled(alt.vconcat(*panels, spacing=12).properties(description=said))
    return embed.on_page(chart, name="speed-growth", caption=said, rows=table)


def _growth_panel(points: pd.DataFrame, title: str) -> alt.Chart:
    values = sorted(points["value"].unique().tolist())
    x = alt.X("value:Q", title=title, scale=alt.Scale(type="log", base=2), axis=alt.Axis(values=values, format=",d"))
    y = alt.Y("seconds:Q", title="seconds", scale=alt.Scale(zero=True))
    chart, color = alt.Chart(points), theme.PALETTE[0]
    if len(values) >= FEWEST_PLACES:
        drawn = chart.mark_line(point=alt.OverlayMarkDef(size=60), color=color)
    else:
        drawn = chart.mark_point(size=60, filled=True, opacity=1, color=color)
    return drawn.encode(x=x, y=y, tooltip=["value:Q", "seconds:Q"]).properties(width="container", height=130)
