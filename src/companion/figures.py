"""One function per kind of figure: a view of the tidy table → Altair chart. No statistic is computed here.

A table given to a figure holds the trials of one model; :mod:`companion.embed` puts a chart on a page.
"""

from __future__ import annotations

import json
import textwrap

import altair as alt
import pandas as pd

from companion import authors, stats, theme
from companion.errors import TableUnavailable
from companion.views import FEWEST_PLACES, View

THIS_RUN = "this run"
EVERY = "all"
READ_WIDTH = 50  # characters of a line of text that a narrow window holds
POINT_SIZE, CROSS_SIZE = 60, 170  # square pixels: the arms of a cross reach beyond a point at the same place
LINE = 15  # pixels of a line of text
ASIDE = 1.03  # factor between neighbors at one place of a logarithmic axis, so that their intervals can be seen
SPREAD = 0.3  # of a step of any other axis: how far the first and the last stand apart
SHOWN = "datum.seed < seeds_below"  # of single trials; means and intervals are always those of all
TOLD = ["seed", "trial_id", "score", "steps", "seconds", "diverged"]
MENUS = {"task": "task", "train_size": "training examples", "protocol": "protocol", "epochs": "epochs"}


def curves(view: View, this_run: View | None = None) -> alt.TopLevelMixin:
    """Score against the view's x, one line per series, with a dropdown for each of its menus and for the series.

    Bands (bars, where the view has no order) are 95 % t-intervals, absent where n < 3; dots are single trials, crosses
    diverged ones; a dashed horizontal line is the view's reference; rings on top are the trials of ``this_run``. A
    click on the legend shows some lines alone; a slider moves a thin vertical line, at which the means are said.
    """
    fresh = view.trials.head(0) if this_run is None else this_run.trials
    everything = pd.concat([view.trials, fresh], ignore_index=True)
    x = _x_channel(view)
    y = alt.Y("score:Q", title=None, scale=_score_scale(everything, [view.means, view.reference_means]))
    layers = [_reading_line(view, x), _reading_text(view), *_reference_layers(view, y), *_mean_layers(view, x, y)]
    layers.append(_trial_layer(view, x, y))
    if len(fresh):
        layers.append(_this_run_layer(view, fresh, x, y))
    layers.append(_diverged_layer(view, x, y))
    layered = alt.layer(*layers).properties(width="container", height=300, title=_metric_title(view, everything))
    parts = [layered]
    if view.strip:
        parts += _layer_strips(view)
    chart = alt.vconcat(*parts, spacing=8).add_params(*_controls(view, everything, fresh))
    return theme.styled(chart.properties(description=_describe(view, len(fresh))))


def _x_channel(view: View) -> alt.X:
    if view.logarithmic:
        scale = alt.Scale(type="log", domain=[min(view.ticks) / 1.3, max(view.ticks) * 1.3], nice=False)
    else:
        scale = _linear_scale(view)
    axis = alt.Axis(values=list(view.ticks), format=",d", grid=False)
    return alt.X("place:Q", title=view.x_title, scale=scale, axis=axis)


def _placed(view: View, rows: pd.DataFrame) -> pd.DataFrame:
    """``place``: x, or where no line is drawn a little beside it, by the order of the series, as intervals of one x
    would hide each other."""
    if view.joins or len(view.members) == 1:
        return rows.assign(place=rows["x"])
    middle = (len(view.members) - 1) / 2
    ranks = {name: rank - middle for rank, name in enumerate(view.members)}
    rank = rows["series"].map(lambda name: ranks.get(name, 0.0)).astype(float)
    aside = rows["x"] * ASIDE**rank if view.logarithmic else rows["x"] + SPREAD * rank / (2 * middle)
    return rows.assign(place=aside)


def _linear_scale(view: View) -> alt.Scale:
    return alt.Scale(domain=[min(view.ticks) - 0.5, max(view.ticks) + 0.5], nice=False, zero=False)


def _controls(view: View, trials: pd.DataFrame, fresh: pd.DataFrame) -> list[alt.Parameter]:
    """The menus and sliders. Of train sizes the largest comes first, as few examples tell little: if there are trials
    of this run (``fresh``), the largest of those, so that their rings are seen."""
    fresh = fresh[fresh["task"] == trials["task"].iloc[0]]  # the task that is drawn first
    here = fresh if len(fresh) else trials[trials["task"] == trials["task"].iloc[0]]
    found = []
    for column in view.menus:
        options = list(trials[column].unique()) if column == "task" else sorted(trials[column].unique().tolist())
        labels = [f"{o:,}" if isinstance(o, int) else str(o) for o in options]
        bind = alt.binding_select(options=options, labels=labels, name=f"{MENUS[column]} ")
        first = int(here[column].max()) if column == "train_size" else options[0]
        found.append(alt.param(name=column, value=first, bind=bind))
    if len(view.members) > 1:
        bind = alt.binding_select(options=[EVERY, *view.members], name=f"{view.series_title} ")
        found.append(alt.param(name="shown", value=EVERY, bind=bind))
    found.append(_reading_place(view))
    every = int(trials["seed"].max()) + 1
    bind = alt.binding_range(min=0, max=every, step=1, name="show single trials (means keep all): seeds below ")
    return [*found, alt.param(name="seeds_below", value=every, bind=bind)]


def _chosen(view: View, rows: pd.DataFrame) -> alt.Chart:
    """The rows that the dropdowns and clicks on the legend select; these override the dropdown of the series."""
    chart = alt.Chart(rows).transform_filter(" && ".join(f"datum.{column} == {column}" for column in view.menus))
    if len(view.members) == 1 or "series" not in rows:
        return chart
    chosen = f"length(data('picked_store')) || shown == '{EVERY}' || datum.series == shown"
    return chart.transform_filter({"and": [{"param": "picked"}, chosen]})


def _reading_place(view: View) -> alt.Parameter:
    """Where the means are read off: a slider over the ticks, or a menu where they are far apart."""
    places = sorted(int(x) for x in view.means["x"].unique())
    name = f"{view.x_title}, means at "
    if view.logarithmic or len(view.ticks) <= max(view.ticks) - min(view.ticks):
        bind = alt.binding_select(options=places, labels=[f"{place:,}" for place in places], name=name)
    else:
        bind = alt.binding_range(min=min(view.ticks), max=max(view.ticks), step=1, name=name)
    counts = view.means["x"].value_counts()
    fullest = sorted(int(x) for x in counts.index[counts == counts.max()])  # where most lines have something to say
    return alt.param(name="at", value=fullest[len(fullest) // 2], bind=bind)


def _reading_line(view: View, x: alt.X) -> alt.Chart:
    places = alt.Chart(pd.DataFrame({"place": list(view.ticks)})).transform_filter("datum.place == at")
    return places.mark_rule(strokeWidth=1, color=theme.PRETRAINED, opacity=0.8, aria=False).encode(x=x)


def _reading_text(view: View) -> alt.Chart:
    """The means of the chosen trials at the place that is read off, in words above the plot."""
    lines, height = _read_off(view)
    absent = "[at === null ? ' ' : 'at ' + at + ' (no trials)'" + ", ' '" * (height - 1) + "]"
    choice = " + '/' + ".join([*view.menus, "at"])
    said = alt.ExprRef(f"{json.dumps(lines)}[{choice}] || {absent}")
    mark = alt.Chart(pd.DataFrame([{}])).mark_text(
        align="left", baseline="top", lineHeight=LINE, fontSize=12, text=said
    )
    return mark.encode(x=alt.value(0), y=alt.value(-LINE * height - 6))


def _read_off(view: View) -> tuple[dict[str, list[str]], int]:
    """Choice of menus and place → the means there as lines of text, and the number of lines each of them has."""
    order = {name: i for i, name in enumerate(view.members)}
    rows = view.means.sort_values("series", key=lambda names: names.map(order), kind="stable")
    said = {}
    for key, points in rows.groupby([*view.menus, "x"]):
        means = [f"{name}: {mean:.3f}" for name, mean in zip(points["series"], points["mean"], strict=True)]
        text = ", ".join(mean.replace(" ", "\u00a0") for mean in means)
        said["/".join(map(str, key))] = textwrap.wrap(f"at {key[-1]:,} ({text})", READ_WIDTH)
    height = max(map(len, said.values()))
    return {key: [*found, *[" "] * (height - len(found))] for key, found in said.items()}, height


def _reference_layers(view: View, y: alt.Y) -> list[alt.Chart]:
    means = view.reference_means
    if means.empty:
        return []
    rows = means.rename(columns={"mean": "score"}).drop(columns=["model", "metric", "layers"]).assign(what="intact")
    line = _chosen(view, rows).mark_rule(strokeDash=[6, 4], strokeWidth=1.5, color=theme.PRETRAINED, aria=False)
    label = _chosen(view, rows).mark_text(align="left", dx=4, dy=-6, fontSize=12, aria=False)
    return [line.encode(y=y, tooltip=mean_tooltip()), label.encode(x=alt.value(0), y=y, text="what:N")]


def _mean_layers(view: View, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    means = _placed(view, view.means).rename(columns={"mean": "score"}).drop(columns=["model", "metric", "layers"])
    color, shape, dash = _series_channels(view)
    rows = _chosen(view, means)
    interval = {"x": x, "y": alt.Y("low:Q", title=None), "y2": "high:Q", "color": color}
    if view.ordered:
        places = means.groupby([*view.menus, "series"])["x"].transform("nunique")
        joined = _chosen(view, means[places >= FEWEST_PLACES])
        # a point without an interval interrupts the band instead of being bridged
        bands = joined.mark_area(opacity=0.18, clip=True, aria=False, invalid="break-paths-show-domains")
        lines = joined.mark_line(strokeWidth=2, aria=False).encode(x=x, y=y, color=color, strokeDash=dash)
        spread = [bands.encode(**interval), lines]
        alone = means[(places < FEWEST_PLACES) & means["low"].notna()]
    else:
        spread, alone = [], means[means["low"].notna()]
    if len(alone):
        bars = _chosen(view, alone).mark_rule(strokeWidth=2, opacity=0.6, clip=True, aria=False)
        spread.append(bars.encode(**interval))
    points = rows.mark_point(filled=True, size=POINT_SIZE, opacity=1)
    if len(view.members) > 1:  # of this layer, because it has the legend that is clicked
        points = points.add_params(alt.selection_point(name="picked", fields=["series"], bind="legend"))
    told = [alt.Tooltip("series:N", title=view.series_title), *mean_tooltip()]
    return [*spread, points.encode(x=x, y=y, color=color, shape=shape, tooltip=told)]


def _drawn(view: View, trials: pd.DataFrame) -> pd.DataFrame:
    return _placed(view, trials)[[*view.menus, "series", "x", "place", *TOLD]]


def _trial_layer(view: View, x: alt.X, y: alt.Y) -> alt.Chart:
    rows = _drawn(view, view.trials.loc[~view.trials["diverged"]])
    mark = _chosen(view, rows).transform_filter(SHOWN).mark_circle(size=16, opacity=0.7, aria=False)
    return mark.encode(x=x, y=y, color=_series_channels(view)[0], tooltip=_trial_tooltip(view))


def _diverged_layer(view: View, x: alt.X, y: alt.Y) -> alt.Chart:
    rows = _drawn(view, view.trials.loc[view.trials["diverged"]])
    crosses = _chosen(view, rows).transform_filter(SHOWN)
    mark = crosses.mark_point(filled=False, shape=theme.CROSS, size=CROSS_SIZE, strokeWidth=1.5, opacity=1, aria=False)
    return mark.encode(x=x, y=y, color=_series_channels(view)[0], tooltip=_trial_tooltip(view))


def _this_run_layer(view: View, fresh: pd.DataFrame, x: alt.X, y: alt.Y) -> alt.Chart:
    """Rings around this run's trials; the stroke channel carries their legend entry."""
    rows = _chosen(view, _drawn(view, fresh).assign(source=THIS_RUN)).transform_filter(SHOWN)
    rings = rows.mark_point(filled=False, shape="circle", size=110, strokeWidth=2, opacity=1, aria=False)
    legend = alt.Legend(title=None, symbolType="circle", orient="bottom")  # beside the lines' it would narrow the plot
    scale = alt.Scale(domain=[THIS_RUN], range=[theme.THIS_RUN])
    stroke = alt.Stroke("source:N", scale=scale, legend=legend)
    return rings.encode(x=x, y=y, stroke=stroke, tooltip=[alt.Tooltip("source:N"), *_trial_tooltip(view)])


def mean_tooltip(field: str = "score", form: str = ".3f") -> list[alt.Tooltip]:
    """What is told of a mean, which is in ``field``, beside n, low and high; ``form`` is d3's format of a number."""
    return [
        alt.Tooltip("n:Q", title="trials"),
        alt.Tooltip(f"{field}:Q", title="mean", format=form),
        alt.Tooltip("low:Q", title="95 % interval from", format=form),
        alt.Tooltip("high:Q", title="to", format=form),
    ]


def _trial_tooltip(view: View) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("seed:Q"),
        alt.Tooltip("trial_id:N", title="trial"),
        alt.Tooltip("score:Q", format=".4f"),
        alt.Tooltip("x:Q", title=view.x_title, format=","),
        alt.Tooltip("series:N", title=view.series_title),
        alt.Tooltip("steps:Q", format=","),
        alt.Tooltip("seconds:Q", format=".1f"),
        alt.Tooltip("diverged:N"),
    ]


def _series_channels(view: View) -> tuple[alt.Color, alt.Shape, alt.StrokeDash]:
    """Color, shape and dash of the series; equal titles and domains make one legend of the three."""
    members = list(view.members)
    legend = alt.Legend(
        title=view.series_title,
        columns=_legend_columns(members),
        labelLimit=300,
        symbolSize=80,
        symbolOpacity=1,
        symbolStrokeWidth=0,
    )
    field = {"shorthand": "series:N", "legend": legend}
    return (
        alt.Color(**field, scale=theme.color_scale(members)),
        alt.Shape(**field, scale=theme.shape_scale(members)),
        alt.StrokeDash(**field, scale=theme.dash_scale(members)),
    )


def _legend_columns(members: list[str]) -> int:
    """All in one row if a narrow window holds them, else as many beside each other as it does: Vega wraps no row."""
    needed = [len(name) + 4 for name in members]  # with the symbol and a gap
    return len(members) if sum(needed) <= READ_WIDTH else max(1, READ_WIDTH // max(needed))


def _score_scale(trials: pd.DataFrame, means: list[pd.DataFrame]) -> alt.Scale:
    """A domain for each task, chosen by the task dropdown: all its trials and intervals, within the metric's range."""
    seen = pd.concat([m[["task", "mean", "low", "high"]] for m in means], ignore_index=True).astype({"mean": float})
    ends = {}
    for (task, metric), rows in trials.groupby(["task", "metric"], sort=False):
        points = seen.loc[seen["task"] == task, ["mean", "low", "high"]].astype(float)
        ends[task] = theme.score_domain(metric, [*rows["score"], *points.to_numpy().flat])
    return scale_by_task(ends)


def _metric_title(view: View, trials: pd.DataFrame) -> alt.Title:
    """The metric of the chosen task, or that nothing is stored for the choice; below it, what the marks are."""
    metrics = trials.drop_duplicates("task").set_index("task")["metric"].map(theme.METRIC_TITLES)
    joined = trials[list(view.menus)].astype(str).agg("/".join, axis=1).unique().tolist()
    choice = " + '/' + ".join(view.menus)
    has = f"indexof({json.dumps(joined)}, {choice}) >= 0"
    metric = f"{json.dumps(metrics.to_dict())}[task]"
    marks = "mean, 95 % t-interval, single trials" + (" (× diverged)" if trials["diverged"].any() else "")
    text = alt.ExprRef(f"{has} ? {metric} : 'no trials of this choice are stored'")
    return alt.Title(text, subtitle=marks, offset=6)


def scale_by_task(ends: dict[str, list[float]]) -> alt.Scale:
    """A score axis with the ends (lowest, highest) of the task that the dropdown chooses."""
    domain = [_by_task({task: pair[i] for task, pair in ends.items()}) for i in (0, 1)]
    return alt.Scale(domain=domain, zero=False, nice=True)


def _by_task(values: dict[str, object]) -> alt.ExprRef:
    """A value that follows the task dropdown."""
    return alt.ExprRef(f"{json.dumps(values)}[task]")


def _layer_strips(view: View) -> list[alt.Chart]:
    """Which layers are pretrained and which random at each x; lines that differ have a strip each, under their name."""
    depth, strips = int(view.trials["layers"].max()), []
    for name, places in view.redrawn.items():
        strip = _layer_strip(view, depth, places).properties(width="container", height=5 * depth + 20)
        said = alt.Title(f"layers with {name}", fontWeight="normal", fontSize=12, offset=2)
        strips.append(strip.properties(title=said) if name else strip)
    return strips


def _layer_strip(view: View, layers: int, redrawn: dict[int, tuple[int, ...]]) -> alt.Chart:
    """A column of squares at each x, layer 1 at the bottom."""
    cells = [
        {"x": x, "layer": i + 1, "next": i + 2, "state": "random" if i in random else "pretrained"}
        for x, random in redrawn.items()
        for i in range(layers)
    ]
    scale = alt.Scale(domain=["pretrained", "random"], range=[theme.PRETRAINED, "transparent"])
    x = alt.X("left:Q", scale=_linear_scale(view), axis=None)
    y = alt.Y("layer:Q", title="layer", scale=alt.Scale(domain=[1, layers + 1], nice=False, zero=False))
    y = y.axis(values=[1.5, layers + 0.5], labelExpr="floor(datum.value)", grid=False, ticks=False, domain=False)
    fill = alt.Fill("state:N", scale=scale, legend=alt.Legend(title=None, symbolType="square", orient="bottom"))
    rects = alt.Chart(pd.DataFrame(cells)).transform_calculate(left="datum.x - 0.36", right="datum.x + 0.36")
    width = alt.condition("datum.x == at", alt.value(1.2), alt.value(0.6))
    mark = rects.mark_rect(stroke=theme.PRETRAINED, aria=False)
    return mark.encode(x=x, x2="right:Q", y=y, y2="next:Q", fill=fill, strokeWidth=width)


def _describe(view: View, fresh: int) -> str:
    """Alt text: what is drawn, not what it shows; the figure's table holds the numbers."""
    text = (
        f"{'Line chart' if view.joins else 'Points'} of the score {view.text} ({', '.join(view.members)}), for the "
        f"tasks {', '.join(view.trials['task'].unique())}; {'bands' if view.joins else 'bars'} are 95 percent "
        f"intervals, dots are single trials{', crosses diverged ones' if view.trials['diverged'].any() else ''}."
    )
    if not view.reference.empty:
        text += " A dashed horizontal line is the intact model."
    if view.strip:
        text += " Squares below the axis show which layers are pretrained and which random."
    return text + (" Rings are trials of this run." if fresh else "")


def beside_authors(early: pd.DataFrame, ours: pd.DataFrame, x_title: str) -> alt.TopLevelMixin:
    """The authors' digitised curves (:func:`companion.authors.early_plots`), and over them means of ``ours``.

    ``ours`` are rows of the tidy table on the same tasks, or none. The x axis is the share of the model's layers, for
    the models need not be equally deep. Dash patterns tell whose curve it is; bands are 95 % t-intervals of ours.
    """
    both, tasks = with_authors(early, ours), list(early["task"].unique())
    shown = set(both["examples"])
    sizes = [size for size in authors.SIZES.values() if size in shown]
    sizes += sorted(shown - {*sizes}, key=lambda size: int(size.replace(",", "")))  # ours alone
    curves = list(both["curves"].unique())  # the authors' first
    dashes = theme.dash_scale([*curves[1:], curves[0]])
    by_size = alt.Legend(title="training examples", columns=3, symbolOpacity=1)
    by_curve = alt.Legend(title=None, orient="bottom", columns=1, labelLimit=300, symbolSize=900)
    color = alt.Color("examples:N", legend=by_size, scale=theme.color_scale(sizes))
    shape = alt.Shape("examples:N", legend=by_size, scale=theme.shape_scale(sizes))
    x = alt.X("share:Q", title=x_title, scale=alt.Scale(domain=[0, 100])).axis(grid=False, values=[0, 25, 50, 75, 100])
    y = alt.Y("score:Q", title=None, scale=_score_scale(both, [both.rename(columns={"score": "mean"})]))
    rows = alt.Chart(both).transform_filter("datum.task == task").encode(x=x, color=color, detail="curves:N")
    told = [alt.Tooltip("curves:N"), alt.Tooltip("examples:N", title="training examples")]
    told += [alt.Tooltip("preserved_layers:Q", title="layers"), alt.Tooltip("layers:Q", title="of"), *mean_tooltip()]
    joined = rows.transform_filter(f"datum.places >= {FEWEST_PLACES}")
    bands = joined.transform_filter("isValid(datum.low)").mark_area(opacity=0.18, aria=False)
    lines = joined.mark_line(strokeWidth=1.5, aria=False)
    points = rows.mark_point(size=45, strokeWidth=1.5, opacity=1)
    dash = alt.StrokeDash("curves:N", scale=dashes, legend=by_curve)
    layers = [
        bands.encode(y=alt.Y("low:Q", title=None), y2="high:Q"),
        lines.encode(y=y, detail=["curves:N", "source_plot:N"], strokeDash=dash),
        points.encode(y=y, shape=shape, tooltip=told),
    ]
    bind = alt.binding_select(options=tasks, name=f"{MENUS['task']} ")
    metrics = both.drop_duplicates("task").set_index("task")["metric"].map(theme.METRIC_TITLES)
    chart = alt.layer(*layers).properties(width="container", height=300, title=alt.Title(_by_task(metrics.to_dict())))
    text = f"Line chart of the score against the {x_title}, for the tasks {', '.join(tasks)}: {', '.join(curves)}."
    return theme.styled(
        chart.add_params(alt.param(name="task", value=tasks[0], bind=bind)).properties(description=text)
    )


def with_authors(early: pd.DataFrame, ours: pd.DataFrame) -> pd.DataFrame:
    """Points of both: the digitised values, and means of our trials with their intervals."""
    means = stats.summarize(ours, ["model", "protocol", "task", "metric", "layers", "train_size", "preserved_layers"])
    examples, names = means["train_size"].map("{:,}".format), means["model"] + ", " + means["protocol"]
    means = means.rename(columns={"mean": "score"}).assign(examples=examples, curves=names)
    both = pd.concat([early.assign(curves=f"{authors.MODEL}, authors' early plots"), means], ignore_index=True)
    both["share"] = 100 * both["preserved_layers"].astype(float) / both["layers"]
    line = both.groupby(["task", "curves", "examples", "source_plot"], dropna=False)["share"]
    both["places"] = line.transform("nunique")
    shown = ["task", "metric", "examples", "curves", "share", "score", "low", "high", "n", "preserved_layers", "layers"]
    return both[[*shown, "source_plot", "places"]].astype(dict.fromkeys(["share", "score", "low", "high", "n"], float))


def intact_means(table: pd.DataFrame) -> pd.DataFrame:
    """The intact model and the one with every layer random: a row per model, task, train size, protocol and kind."""
    rows = table[table["kind"].isin(["intact", "all"])]
    return stats.summarize(rows, ["model", "task", "metric", "train_size", "kind", "protocol"])


def intact_vs_random(table: pd.DataFrame) -> alt.TopLevelMixin:
    """Mean score by train size, one panel per task: every layer pretrained, or every layer random ("described").

    The distance between the two lines is what pretrained layers are worth at that size. Raises
    :class:`TableUnavailable` where there is neither model.
    """
    means = intact_means(table)
    means = means[means["protocol"] == "described"].rename(columns={"mean": "score"})
    if means.empty:
        raise TableUnavailable("the table has no model with all or none of its layers random", "run both")
    means["layers"] = means["kind"].map({"intact": "every layer pretrained", "all": "every layer random"})
    panels = [_size_panel(means[means["task"] == task]) for task in means["task"].unique()]
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
    places = means.groupby("layers")["train_size"].transform("nunique")
    base = alt.Chart(means.assign(places=places)).encode(
        x=alt.X("train_size:O", title="training examples").axis(format=",", labelAngle=0, grid=False), color=color
    )
    points = means[["score", "low", "high"]].astype(float)
    # named, because Vega complains of a scale whose intervals are all absent
    floor, ceiling = theme.METRIC_RANGES[metric]
    domain = [max(floor, float(points.min().min())), min(ceiling, float(points.max().max()))]
    y = alt.Y("score:Q", title=None, scale=alt.Scale(domain=domain, zero=False, nice=True))
    tooltip = [alt.Tooltip("layers:N"), *mean_tooltip()]
    layers = [
        base.transform_filter("isValid(datum.low)")
        .mark_rule(strokeWidth=2, opacity=0.6, clip=True)
        .encode(y="low:Q", y2="high:Q"),
        base.transform_filter(f"datum.places >= {FEWEST_PLACES}")
        .mark_line(strokeWidth=2, aria=False)
        .encode(y=y, strokeDash=dash),
        base.mark_point(filled=True, size=70, opacity=1).encode(y=y, shape=shape, tooltip=tooltip),
    ]
    title = f"{task}: {theme.METRIC_TITLES[metric]}"
    return alt.layer(*layers).properties(width="container", height=140, title=title)
