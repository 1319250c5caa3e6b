"""One function per figure: tidy table → Altair chart. Statistics come from :mod:`companion.stats`, none are made here.

A table given to a figure holds the trials of one model. :func:`show` turns a chart into the HTML of a page: the chart,
its caption, its rows as a CSV file and as a table for readers who do not see the drawing.
"""

from __future__ import annotations

import base64
import functools
import html
import json
import os

import altair as alt
import pandas as pd
import vl_convert
from IPython.display import HTML, display

from companion import stats, theme
from companion.errors import TableUnavailable, UnknownName

DIRECTIONS = ("suffix", "prefix")
THIS_RUN = "this run"
LIVE_WIDTH = 600  # pixels
POINT = ["model", "task", "metric", "train_size", "protocol", "preserved_layers"]
TOLD = ["seed", "trial_id", "score", "steps", "seconds", "diverged"]
DRAWN = ["task", "train_size", "protocol", "preserved_layers", *TOLD]


def curve(table: pd.DataFrame, direction: str) -> pd.DataFrame:
    """The trials of one curve: reinitialized from the last layer down ("suffix") or from the first up ("prefix").

    Both curves begin at every layer random and end at none. An intact trial redraws nothing, so it is repeated for
    each protocol that its task and train size have.
    """
    if direction not in DIRECTIONS:
        raise UnknownName("direction", direction, DIRECTIONS)
    redrawn = table[table["kind"].isin(["all", direction])]
    protocols = redrawn[["model", "task", "train_size", "protocol"]].drop_duplicates()
    intact = table[table["kind"] == "intact"].drop(columns="protocol").merge(protocols)
    return pd.concat([redrawn, intact[list(table.columns)]], ignore_index=True)


def curve_means(table: pd.DataFrame, direction: str) -> pd.DataFrame:
    """The points of one curve: a row per model, task, train size, protocol and k, with n, mean, low, high, diverged."""
    return stats.summarize(curve(table, direction), POINT)


def progressive(table: pd.DataFrame, *, direction: str, this_run: pd.DataFrame | None = None) -> alt.TopLevelMixin:
    """Score against the number of pretrained layers preserved, one line per train size, with dropdowns.

    ``direction`` is "suffix" (the last layers are random) or "prefix" (the first are). Bands are 95 % t-intervals,
    absent where n < 3; dots are single trials, crosses diverged ones; rings on top are the trials of ``this_run``.
    """
    trials, means = curve(table, direction), curve_means(table, direction)
    if trials.empty:
        raise TableUnavailable(f"the table has no {direction} trials", "run them with `companion run progressive`")
    fresh = trials.head(0) if this_run is None else curve(this_run, direction)
    everything = pd.concat([trials, fresh], ignore_index=True)
    sizes = sorted(int(size) for size in everything["train_size"].unique())
    depth = int(table["layers"].max())

    x = alt.X("preserved_layers:Q", title="pretrained layers preserved", scale=_layer_scale(depth))
    x = x.axis(values=list(range(depth + 1)), format="d", grid=False)
    y = alt.Y("score:Q", title=None, scale=_score_scale(everything, means))
    layers = [*_mean_layers(means, sizes, x, y), _trial_layer(trials, sizes, x, y)]
    if len(fresh):
        layers.append(_this_run_layer(fresh, x, y))
    layers.append(_diverged_layer(trials, sizes, x, y))
    layered = alt.layer(*layers).properties(width="container", height=300, title=_metric_title(everything))
    strip = _layer_strip(depth, direction).properties(width="container", height=5 * depth + 20)
    chart = alt.vconcat(layered, strip, spacing=8).add_params(*_controls(everything, sizes))
    return theme.styled(chart.properties(description=_describe(everything, depth, direction, len(fresh))))


def _controls(trials: pd.DataFrame, sizes: list[int]) -> list[alt.Parameter]:
    tasks, protocols = list(trials["task"].unique()), sorted(trials["protocol"].unique())
    labels = ["all sizes", *(f"{size:,}" for size in sizes)]
    size_menu = alt.binding_select(options=[0, *sizes], labels=labels, name="training examples ")
    return [
        alt.param(name="task", value=tasks[0], bind=alt.binding_select(options=tasks, name="task ")),
        alt.param(name="train_size", value=0, bind=size_menu),
        alt.param(name="protocol", value=protocols[0], bind=alt.binding_select(options=protocols, name="protocol ")),
        alt.param(name="hide_trials", value=False, bind=alt.binding_checkbox(name="hide single trials ")),
    ]


def _chosen(chart: alt.Chart) -> alt.Chart:
    """The chart with only the rows that the dropdowns select."""
    sizes = "(train_size == 0 || datum.train_size == train_size)"
    return chart.transform_filter(f"datum.task == task && datum.protocol == protocol && {sizes}")


def _mean_layers(means: pd.DataFrame, sizes: list[int], x: alt.X, y: alt.Y) -> list[alt.Chart]:
    means = means.rename(columns={"mean": "score"}).drop(columns=["model", "metric"])
    color, shape, dash = _size_channels(sizes)
    lines = _chosen(alt.Chart(means))
    # a point without an interval interrupts the band instead of being bridged
    bands = lines.mark_area(opacity=0.18, clip=True, aria=False, invalid="break-paths-show-domains")
    return [
        bands.encode(x=x, y=alt.Y("low:Q", title=None), y2="high:Q", color=color),
        lines.mark_line(strokeWidth=2, aria=False).encode(x=x, y=y, color=color, strokeDash=dash),
        lines.mark_point(filled=True, size=60, opacity=1).encode(
            x=x, y=y, color=color, shape=shape, tooltip=_mean_tooltip()
        ),
    ]


def _trial_layer(trials: pd.DataFrame, sizes: list[int], x: alt.X, y: alt.Y) -> alt.Chart:
    dots = _chosen(alt.Chart(trials.loc[~trials["diverged"], DRAWN])).transform_filter("!hide_trials")
    color = _size_channels(sizes)[0]
    return dots.mark_circle(size=16, opacity=0.5, aria=False).encode(x=x, y=y, color=color, tooltip=_trial_tooltip())


def _diverged_layer(trials: pd.DataFrame, sizes: list[int], x: alt.X, y: alt.Y) -> alt.Chart:
    crosses = _chosen(alt.Chart(trials.loc[trials["diverged"], DRAWN])).transform_filter("!hide_trials")
    mark = crosses.mark_point(filled=False, shape=theme.CROSS, size=45, strokeWidth=1.5, opacity=1, aria=False)
    return mark.encode(x=x, y=y, color=_size_channels(sizes)[0], tooltip=_trial_tooltip())


def _this_run_layer(fresh: pd.DataFrame, x: alt.X, y: alt.Y) -> alt.Chart:
    """Rings around this run's trials; the stroke channel carries their legend entry."""
    rings = _chosen(alt.Chart(fresh[DRAWN].assign(source=THIS_RUN))).mark_point(
        filled=False, shape="circle", size=110, strokeWidth=2, opacity=1, aria=False
    )
    legend = alt.Legend(title=None, symbolType="circle")
    scale = alt.Scale(domain=[THIS_RUN], range=[theme.THIS_RUN])
    stroke = alt.Stroke("source:N", scale=scale, legend=legend)
    return rings.encode(x=x, y=y, stroke=stroke, tooltip=[alt.Tooltip("source:N"), *_trial_tooltip()])


def _mean_tooltip() -> list[alt.Tooltip]:
    return [
        alt.Tooltip("train_size:Q", title="training examples", format=","),
        alt.Tooltip("n:Q", title="trials"),
        alt.Tooltip("score:Q", title="mean", format=".3f"),
        alt.Tooltip("low:Q", title="95 % interval from", format=".3f"),
        alt.Tooltip("high:Q", title="to", format=".3f"),
    ]


def _trial_tooltip() -> list[alt.Tooltip]:
    return [
        alt.Tooltip("seed:Q"),
        alt.Tooltip("trial_id:N", title="trial"),
        alt.Tooltip("score:Q", format=".4f"),
        alt.Tooltip("preserved_layers:Q", title="layers preserved"),
        alt.Tooltip("train_size:Q", title="training examples", format=","),
        alt.Tooltip("steps:Q", format=","),
        alt.Tooltip("seconds:Q", format=".1f"),
        alt.Tooltip("diverged:N"),
    ]


def _size_channels(sizes: list[int]) -> tuple[alt.Color, alt.Shape, alt.StrokeDash]:
    """Color, shape and dash of the train size; equal titles and domains make one legend of the three."""
    legend = alt.Legend(title="training examples", format=",", symbolSize=80, symbolOpacity=1, symbolStrokeWidth=0)
    field = {"shorthand": "train_size:N", "legend": legend}
    return (
        alt.Color(**field, scale=theme.color_scale(sizes)),
        alt.Shape(**field, scale=theme.shape_scale(sizes)),
        alt.StrokeDash(**field, scale=theme.dash_scale(sizes)),
    )


def _layer_scale(layers: int) -> alt.Scale:
    return alt.Scale(domain=[-0.5, layers + 0.5], nice=False, zero=False)


def _score_scale(trials: pd.DataFrame, means: pd.DataFrame) -> alt.Scale:
    """A domain for each task, chosen by the task dropdown: all its trials and intervals, within the metric's range."""
    lows, highs = {}, {}
    for (task, metric), rows in trials.groupby(["task", "metric"], sort=False):
        seen = means.loc[means["task"] == task, ["low", "high"]]
        floor, ceiling = theme.METRIC_RANGES[metric]
        lows[task] = max(floor, min(rows["score"].min(), seen["low"].min()) - 0.02)
        highs[task] = min(ceiling, max(rows["score"].max(), seen["high"].max()) + 0.02)
    return alt.Scale(domain=[_by_task(lows), _by_task(highs)], zero=False, nice=True)


def _metric_title(trials: pd.DataFrame) -> alt.Title:
    """The metric of the chosen task, or that nothing is stored for the choice; below it, what the marks are."""
    metrics = trials.drop_duplicates("task").set_index("task")["metric"].map(theme.METRIC_TITLES)
    chosen = trials["task"] + "/" + trials["protocol"] + "/"
    stored = [*(chosen + "0").unique(), *(chosen + trials["train_size"].astype(str)).unique()]
    has = f"indexof({json.dumps(stored)}, task + '/' + protocol + '/' + train_size) >= 0"
    metric = f"{json.dumps(metrics.to_dict())}[task]"
    marks = "mean, 95 % t-interval, single trials" + (" (× diverged)" if trials["diverged"].any() else "")
    return alt.Title(alt.ExprRef(f"{has} ? {metric} : 'no trials of this choice are stored'"), subtitle=marks)


def _by_task(values: dict[str, object]) -> alt.ExprRef:
    """A value that follows the task dropdown."""
    return alt.ExprRef(f"{json.dumps(values)}[task]")


def _layer_strip(layers: int, direction: str) -> alt.Chart:
    """Which layers are pretrained and which random at each x, layer 1 at the bottom."""
    cells = [
        {"k": k, "layer": layer, "next": layer + 1, "state": "pretrained" if kept else "random"}
        for k in range(layers + 1)
        for layer in range(1, layers + 1)
        for kept in [layer <= k if direction == "suffix" else layer > layers - k]
    ]
    scale = alt.Scale(domain=["pretrained", "random"], range=[theme.PRETRAINED, "transparent"])
    x = alt.X("left:Q", scale=_layer_scale(layers), axis=None)
    y = alt.Y("layer:Q", title="layer", scale=alt.Scale(domain=[1, layers + 1], nice=False, zero=False))
    y = y.axis(values=[1.5, layers + 0.5], labelExpr="floor(datum.value)", grid=False, ticks=False, domain=False)
    fill = alt.Fill("state:N", scale=scale, legend=alt.Legend(title=None, symbolType="square", orient="bottom"))
    rects = alt.Chart(pd.DataFrame(cells)).transform_calculate(left="datum.k - 0.36", right="datum.k + 0.36")
    mark = rects.mark_rect(stroke=theme.PRETRAINED, strokeWidth=0.6, aria=False)
    return mark.encode(x=x, x2="right:Q", y=y, y2="next:Q", fill=fill)


def _describe(trials: pd.DataFrame, layers: int, direction: str, fresh: int) -> str:
    """Alt text: what is drawn, not what it shows; the figure's table holds the numbers."""
    where = "last" if direction == "suffix" else "first"
    sizes = ", ".join(f"{size:,}" for size in sorted(trials["train_size"].unique()))
    text = (
        f"Line chart of the score of fine-tuned models against the number of pretrained layers preserved, 0 to "
        f"{layers}, when the {where} layers are replaced by random ones. One line for each number of training examples "
        f"({sizes}), for the tasks {', '.join(trials['task'].unique())}; bands are 95 percent intervals, dots are "
        f"single trials."
    )
    return text + (" Rings are trials of this run." if fresh else "")


def intact_means(table: pd.DataFrame) -> pd.DataFrame:
    """The intact model and the one with every layer random: a row per model, task, train size, protocol and kind."""
    rows = table[table["kind"].isin(["intact", "all"])]
    return stats.summarize(rows, ["model", "task", "metric", "train_size", "kind", "protocol"])


def intact_vs_random(table: pd.DataFrame) -> alt.TopLevelMixin:
    """Mean score by train size, one panel per task: every layer pretrained, or every layer random ("described").

    The distance between the two lines is what pretrained layers are worth at that size.
    """
    means = intact_means(table)
    means = means[means["protocol"] == "described"].rename(columns={"mean": "score"})
    means["layers"] = means["kind"].map({"intact": "every layer pretrained", "all": "every layer random"})
    panels = [_size_panel(means[means["task"] == task]) for task in table["task"].unique()]
    text = (
        f"Line charts of the mean score against the number of training examples, one for each of the tasks "
        f"{', '.join(means['task'].unique())}: a line for the model with every layer pretrained and one for the model "
        f"with every layer random, each with 95 percent intervals."
    )
    return theme.styled(alt.vconcat(*panels, spacing=14).properties(description=text))


def _size_panel(means: pd.DataFrame) -> alt.LayerChart:
    task, metric = means.iloc[0][["task", "metric"]]
    kinds = ["every layer pretrained", "every layer random"]
    legend = alt.Legend(title=None, symbolSize=80, symbolStrokeWidth=0)
    field = {"shorthand": "layers:N", "legend": legend}
    color = alt.Color(**field, scale=theme.color_scale(kinds))
    shape = alt.Shape(**field, scale=theme.shape_scale(kinds))
    dash = alt.StrokeDash(**field, scale=theme.dash_scale(kinds))
    base = alt.Chart(means).encode(
        x=alt.X("train_size:O", title="training examples").axis(format=",", labelAngle=0, grid=False), color=color
    )
    y = alt.Y("score:Q", title=None, scale=alt.Scale(zero=False, nice=True))
    tooltip = [alt.Tooltip("layers:N"), *_mean_tooltip()]
    layers = [
        base.transform_filter("isValid(datum.low)")
        .mark_rule(strokeWidth=2, opacity=0.6)
        .encode(y="low:Q", y2="high:Q"),
        base.mark_line(strokeWidth=2, aria=False).encode(y=y, strokeDash=dash),
        base.mark_point(filled=True, size=70, opacity=1).encode(y=y, shape=shape, tooltip=tooltip),
    ]
    title = f"{task}: {theme.METRIC_TITLES[metric]}"
    return alt.layer(*layers).properties(width="container", height=140, title=title)


def show(chart: alt.TopLevelMixin, *, name: str, caption: str, rows: pd.DataFrame) -> HTML:
    """The figure as HTML: chart, caption, and ``rows`` (what is drawn) as a CSV file and a table.

    ``name`` is the figure's id and its CSV file's name; the chart's ``description`` is its alt text. While the book is
    built (``COMPANION_BOOK=1``) the page's own script draws the chart; a live notebook, which has no such script, is
    shown the chart with its libraries inside.
    """
    spec = chart.to_dict()
    if os.environ.get("COMPANION_BOOK") != "1":
        display(HTML(_standalone(spec, f"chart-{name}")))
        return HTML(_figure(name, "", caption, rows))
    label = html.escape(spec["description"], quote=True)
    drawing = (
        f'<div class="companion-chart" role="group" aria-label="{label}">'
        f'<script type="application/vnd.vegalite.v6+json">{_json_for_html(spec)}</script></div>'
    )
    return HTML(_figure(name, drawing, caption, rows))


def _standalone(spec: dict, element: str) -> str:
    """HTML that draws a chart by itself, without the network; of fixed width, as no script fits it to its place."""
    for view in spec.get("vconcat", [spec]):
        if view.get("width") == "container":
            view["width"] = LIVE_WIDTH
    options = "{actions: {export: true, source: false, compiled: false, editor: false}}"
    call = f'vegaEmbed("#{element}", {_json_for_html(spec)}, {options});'
    return f'<div id="{element}"></div><script>{chart_library()}{call}</script>'


@functools.cache
def chart_library() -> str:
    """Vega, Vega-Lite and vega-embed as one browser script that defines ``vegaEmbed`` (0.9 MB).

    It is a function of its own, or its top-level names would clash with those of other scripts, and with themselves
    when two charts of a live notebook bring it. (A module would have its own scope too, but browsers refuse modules in
    pages opened as files.)
    """
    return f"(() => {{\n{vl_convert.javascript_bundle()}\n}})();\n"


def _json_for_html(spec: dict) -> str:
    """Compact JSON that cannot end the script element it stands in."""
    return json.dumps(spec, separators=(",", ":")).replace("</", "<\\/")


def _figure(name: str, drawing: str, caption: str, rows: pd.DataFrame) -> str:
    data = base64.b64encode(rows.to_csv(index=False).encode()).decode()
    twin = rows.to_html(index=False, border=0, na_rep="", float_format="{:.3f}".format, justify="left")
    return (
        f'<figure class="companion-figure" id="figure-{name}">{drawing}'
        f"<figcaption>{html.escape(caption)} "
        f'<a download="{name}.csv" href="data:text/csv;base64,{data}">Download the rows (CSV)</a></figcaption>'
        f"<details><summary>The same as a table ({len(rows):,} rows)</summary>"
        f'<div class="companion-rows" tabindex="0" role="region" aria-label="Rows of the figure">{twin}</div>'
        f"</details></figure>"
    )
