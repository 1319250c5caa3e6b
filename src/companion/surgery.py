"""The layer surgery lab as a picture for a page without a kernel: a menu and a slider choose a published change.

Chosen is an operation and a number ``n``; the picture shows the model it makes, and its score among all the others.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

import altair as alt
import pandas as pd

from companion import stats, theme
from companion.comparisons import distinct, plain, usual_epochs
from companion.errors import TableUnavailable
from companion.figures import MENUS, mean_tooltip, scale_by_task
from companion.layers import block, changes_in_words, format_layers, inverse, paper_permutation, prefix, suffix

PERMUTATIONS = 10
SUFFIX = "the last n layers random"
UNPUBLISHED = "no such trial is published: run it in the lab"
SETTING = ["task", "metric", "train_size", "reinitialized", "permutation", "preserved_layers"]


def operations(depth: int, width: int) -> Iterator[tuple[str, int, tuple[int, ...], tuple[int, ...]]]:
    """All that the menu and the slider can choose: operation, n, redrawn layers (0-based), order of layers if permuted.

    ``width`` is that of the blocks; n counts layers, or is the first layer of a block (from 1), or a permutation.
    """
    for n in range(depth + 1):
        yield SUFFIX, n, suffix(depth - n, depth), ()
        yield "the first n layers random", n, prefix(depth - n, depth), ()
    for n in range(1, depth - width + 2):
        chosen = block(n - 1, width, depth)
        yield f"{width} layers random, from layer n", n, chosen, ()
        yield f"all but {width} layers random, from layer n", n, inverse(chosen, depth), ()
    for n in range(1, depth + 1):
        yield "layer n alone random", n, block(n - 1, 1, depth), ()
    for n in range(1, PERMUTATIONS + 1):
        yield "layers permuted, permutation n", n, (), paper_permutation(n, depth)


def scores(trials: pd.DataFrame, width: int) -> pd.DataFrame:
    """Mean scores of all that can be chosen and is published, described protocol, from the tidy table of one model.

    Columns: operation, place (n), done (in words), task, metric, train_size, preserved_layers, n, mean, low, high.
    """
    rows = distinct(plain(trials))
    rows = usual_epochs(rows[(rows["kind"] != "probe") & (rows["protocol"] == "described")])
    if rows.empty:
        raise TableUnavailable("the table has no fine-tuning trials", "run them with `companion run`")
    means = stats.summarize(rows.fillna({"reinitialized": "", "permutation": ""}), SETTING)
    depth = int(rows["layers"].max())
    choices = pd.DataFrame(
        [
            {
                "operation": operation,
                "place": n,
                "done": "every layer pretrained, in the order below" if order else changes_in_words(redrawn, (), depth),
                "reinitialized": format_layers(redrawn) if redrawn else "",
                "permutation": ",".join(map(str, order)),
            }
            for operation, n, redrawn, order in operations(depth, width)
        ]
    )
    found = choices.merge(means, on=["reinitialized", "permutation"])
    kept = ["operation", "place", "done", "task", "metric", "train_size", "preserved_layers", "n", "mean"]
    return found[[*kept, "low", "high"]].sort_values(["task", "train_size"], kind="stable", ignore_index=True)


def chart(found: pd.DataFrame, depth: int, width: int) -> alt.TopLevelMixin:
    """``found`` (of :func:`scores`) as points over the number of pretrained layers; below them, the chosen model."""
    chosen = "datum.operation == operation && datum.place == place"
    rows = alt.Chart(found.drop(columns="metric").astype({"preserved_layers": int}))
    rows = rows.transform_filter("datum.task == task && datum.train_size == train_size")
    points = _points(found, rows, chosen, depth).properties(width="container", height=300, title=_title(found))
    stack = _stack(depth, width, chosen).properties(width="container", height=34)
    text = (
        f"Points of the mean score of every published change of the {depth} layers, against the number of pretrained "
        f"layers left in place, for the tasks {', '.join(found['task'].unique())}. A menu and a slider choose one "
        "change: its point is marked, its numbers are said above, and the row of squares below shows its layers."
    )
    drawn = alt.vconcat(points, stack, spacing=12).add_params(*_controls(found, depth))
    return theme.styled(drawn.properties(description=text))


def _controls(found: pd.DataFrame, depth: int) -> list[alt.Parameter]:
    sizes = sorted(found["train_size"].unique().tolist())
    usual = int(found.groupby("train_size").size().idxmax())
    names = list(found["operation"].unique())
    menus = {"task": (list(found["task"].unique()), None), "train_size": (sizes, usual), "operation": (names, SUFFIX)}
    controls = []
    for name, (options, first) in menus.items():
        labels = [f"{o:,}" if isinstance(o, int) else o for o in options]
        bind = alt.binding_select(options=options, labels=labels, name=f"{MENUS.get(name, name)} ")
        controls.append(alt.param(name=name, value=first or options[0], bind=bind))
    slider = alt.binding_range(min=0, max=max(depth, PERMUTATIONS), step=1, name="n ")
    return [*controls, alt.param(name="place", value=depth // 3, bind=slider)]


def _points(found: pd.DataFrame, rows: alt.Chart, chosen: str, depth: int) -> alt.LayerChart:
    x = alt.X("preserved_layers:Q", title="pretrained layers in place")
    x = x.axis(values=list(range(depth + 1)), grid=False).scale(domain=[-0.5, depth + 0.5], nice=False)
    y = alt.Y("mean:Q", title=None, scale=_range(found))
    spread = {"x": x, "y": alt.Y("low:Q", title=None), "y2": "high:Q"}
    suffix = rows.transform_filter(f"datum.operation == '{SUFFIX}'")
    everything = rows.mark_circle(size=34, opacity=0.45, color=theme.PRETRAINED)
    told = [alt.Tooltip("done:N", title="layers"), *mean_tooltip("mean")]
    one = rows.transform_filter(chosen)
    return alt.layer(
        suffix.mark_line(color=theme.PALETTE[0], strokeWidth=1.5, aria=False).encode(x=x, y=y),
        everything.encode(x=x, y=y, tooltip=told),
        one.transform_filter("isValid(datum.low)").mark_rule(color=theme.PALETTE[1], strokeWidth=3).encode(**spread),
        one.mark_point(shape="diamond", size=160, filled=True, opacity=1, color=theme.PALETTE[1]).encode(
            x=x, y=y, tooltip=told
        ),
    )


def _range(found: pd.DataFrame) -> alt.Scale:
    """A domain for each task: all its means and intervals, so that trials are compared by eye over the sizes."""
    groups = found.groupby(["task", "metric"], sort=False)
    return scale_by_task(
        {
            task: theme.score_domain(metric, rows[["mean", "low", "high"]].to_numpy().flat)
            for (task, metric), rows in groups
        }
    )


def _title(found: pd.DataFrame) -> alt.Title:
    """The metric of the chosen task; below it the chosen change and its numbers, or that it is not published."""
    metrics = found.drop_duplicates("task").set_index("task")["metric"].map(theme.METRIC_TITLES).to_dict()
    said = {f"{r.task}/{r.train_size}/{r.operation}/{r.place}": [r.done, _numbers(r)] for r in found.itertuples()}
    key = "task + '/' + train_size + '/' + operation + '/' + place"
    told = f"({json.dumps(said)}[{key}] || {json.dumps([UNPUBLISHED, ''])})"
    return alt.Title(alt.ExprRef(f"[{json.dumps(metrics)}[task], {told}[0], {told}[1]]"))


def _numbers(row) -> str:
    trials = f"{row.n} seed{'s' if row.n > 1 else ''}"
    if math.isnan(row.low):
        return f"{row.mean:.3f} ({trials})"
    return f"{row.mean:.3f} ({row.low:.3f} to {row.high:.3f}, {trials})"


def _stack(depth: int, width: int, chosen: str) -> alt.LayerChart:
    """The layers of the chosen model, the lowest at the left: a pretrained one has its number, a random one nothing."""
    cells = [
        {
            "operation": operation,
            "place": n,
            "position": i + 1,
            "state": "random" if i in redrawn else "pretrained",
            "layer": "" if i in redrawn else str((order or range(depth))[i] + 1),
        }
        for operation, n, redrawn, order in operations(depth, width)
        for i in range(depth)
    ]
    row = alt.Chart(pd.DataFrame(cells)).transform_filter(chosen)
    x = alt.X("position:O", title="position in the model, the lowest layer first")
    x = x.axis(labelAngle=0).scale(paddingInner=0.12)
    legend = alt.Legend(title=None, symbolType="square", orient="bottom")
    scale = alt.Scale(domain=["pretrained", "random"], range=[theme.PRETRAINED, "transparent"])
    boxes = row.mark_rect(stroke=theme.PRETRAINED, strokeWidth=1, aria=False)
    return alt.layer(
        boxes.encode(x=x, fill=alt.Fill("state:N", scale=scale, legend=legend)),
        row.mark_text(color="white", fontSize=12, aria=False).encode(x=x, text="layer:N"),
    )
