"""What pretrained layers are worth by number of training examples, task beside task and model beside model.

A task has its color and dash here whatever the model, and a model its shape. Accuracy and Matthews correlation are
different units, so each has a panel.
"""

from __future__ import annotations

import itertools

import altair as alt
import pandas as pd

from companion import theme
from companion.comparisons import effects, plain, usual_epochs
from companion.errors import TableUnavailable
from companion.figures import ASIDE, mean_tooltip
from companion.views import FEWEST_PLACES

COLUMNS = ["model", "task", "metric", "train_size", "kept", "share", "n", "worth", "low", "high"]
PICKED = ["family", "model"]  # what a click on the legend chooses
NEAR = 1.6  # times a size: the labels of nearer ones would touch on a phone
KEPT_FIRST = 0  # percent of the layers kept below, when the page opens: nothing, so all layers together


def worth(trials: pd.DataFrame) -> pd.DataFrame:
    """What the layers above the first ``kept`` are worth: intact minus those redrawn ("described"), paired by seed.

    ``trials``: rows of the tidy table, of one model or several. A row per model, task, train size and ``kept``, with
    ``share`` (percent of the layers that are kept), n (seeds), worth, low and high (95 % t-interval, NaN when n < 3).
    Raises :class:`TableUnavailable` where no trial can be paired.
    """
    rows = plain(trials[trials["kind"] != "probe"])
    found = effects(usual_epochs(rows))
    found = found[found["kind"].isin(["suffix", "all"]) & (found["protocol"] == "described")]
    if found.empty:
        raise TableUnavailable("no trial can be paired with an intact one", "run both with `companion run`")
    depth = rows.groupby("model")["layers"].max()
    kept = found["preserved_layers"].astype(int)
    share = (100 * kept / found["model"].map(depth)).round().astype(int)
    turned = {"worth": 0 - found["mean"], "low": 0 - found["high"], "high": 0 - found["low"]}  # 0 - 0 is 0, -0.0 is not
    return found.assign(**turned, kept=kept, share=share).sort_values(
        ["metric", "task", "model", "train_size", "kept"]
    )[COLUMNS]


def chart(found: pd.DataFrame) -> alt.TopLevelMixin:
    """``found`` (of :func:`worth`) over the number of training examples, a panel for each metric."""
    shares = sorted(found["share"].unique().tolist())
    labels = ["0 (all layers together)" if share == 0 else f"{share} %" for share in shares]
    bind = alt.binding_select(options=shares, labels=labels, name="worth of the layers above the first ")
    drawn = _beside_each_other(found.assign(family=found["task"].str.removeprefix("pocket-")))
    first, *others = drawn["metric"].unique()
    panels = [_panel(drawn, first, PICKED), *(_panel(drawn, metric, []) for metric in others)]
    text = (
        "Line charts of what pretrained layers are worth (score of the intact model minus score with those layers "
        f"random) against the number of training examples, for the tasks {', '.join(drawn['family'].unique())} (by "
        f"color and dash) and the models {', '.join(drawn['model'].unique())} (by shape), with 95 percent intervals "
        "and a line at zero."
    )
    kept = alt.param(name="share", value=KEPT_FIRST, bind=bind)
    return theme.styled(alt.vconcat(*panels, spacing=14).add_params(kept).properties(description=text))


def _beside_each_other(found: pd.DataFrame) -> pd.DataFrame:
    """``place``: the train size, moved by a few percent so that intervals of one size do not hide each other;
    ``places``: the number of train sizes of the point's line."""
    lines = (found["task"] + found["model"]).rank(method="dense")
    places = found.groupby(["task", "model", "share"])["train_size"].transform("nunique")
    return found.assign(place=found["train_size"] * ASIDE ** (lines - lines.max() / 2), places=places)


def _panel(drawn: pd.DataFrame, metric: str, picked: list[str]) -> alt.LayerChart:
    """One metric's lines; the legends are of all panels, so that they stand once, and so are the clicks on them, which
    ``picked`` defines."""
    tasks, models = sorted(drawn["family"].unique()), list(drawn["model"].unique())
    rows = alt.Chart(drawn[drawn["metric"] == metric]).transform_filter("datum.share == share")
    rows = rows.transform_filter({"and": [{"param": f"picked_{field}"} for field in PICKED]})
    x = alt.X("place:Q", title="training examples", scale=alt.Scale(type="log", domain=_around(drawn), nice=False))
    x = x.axis(**_ticks(sorted(drawn["train_size"].unique().tolist())))
    scale = alt.Scale(domain=_range(drawn[drawn["metric"] == metric]), zero=False, nice=True)
    y = alt.Y("worth:Q", title=None, scale=scale)
    legend = alt.Legend(title="task (pocket- left out)", symbolType="stroke", symbolSize=400, symbolOpacity=1)
    color = alt.Color("family:N", legend=legend, scale=theme.task_scale(tasks))
    dash = alt.StrokeDash("family:N", legend=legend, scale=theme.dash_scale(tasks))
    shape = alt.Shape("model:N", legend=alt.Legend(title="model", columns=1), scale=theme.shape_scale(models))
    base = rows.encode(x=x, color=color, detail="task:N")
    told = [alt.Tooltip("task:N"), alt.Tooltip("model:N"), alt.Tooltip("kept:Q", title="first layers kept")]
    told += [alt.Tooltip("train_size:Q", title="training examples", format=","), *mean_tooltip("worth", "+.3f")]
    zero = alt.Chart(pd.DataFrame([{"zero": 0}])).mark_rule(color=theme.PRETRAINED, aria=False).encode(y="zero:Q")
    spread = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=2, opacity=0.6, clip=True, aria=False)
    joined = base.transform_filter(f"datum.places >= {FEWEST_PLACES}")
    points = base.mark_point(filled=True, size=70, opacity=1)
    by_legend = [alt.selection_point(name=f"picked_{field}", fields=[field], bind="legend") for field in picked]
    points = points.add_params(*by_legend) if by_legend else points
    layers = [
        zero,
        spread.encode(y=alt.Y("low:Q", title=None), y2="high:Q"),
        joined.mark_line(strokeWidth=2, aria=False).encode(y=y, strokeDash=dash),
        points.encode(y=y, shape=shape, tooltip=told),
    ]
    title = alt.Title(f"worth in {theme.METRIC_TITLES[metric]}", subtitle="mean of paired differences, 95 % t-interval")
    return alt.layer(*layers).properties(width="container", height=190, title=title)


def _ticks(sizes: list[int]) -> dict[str, object]:
    """A label for every size; one too near its left neighbor stands a line lower, where Vega would leave it out."""
    lowered: list[int] = []
    for left, size in itertools.pairwise(sizes):
        if size < NEAR * left and left not in lowered:
            lowered.append(size)
    label = f"indexof({lowered}, datum.value) < 0 ? datum.label : [' ', datum.label]"
    return {"values": sizes, "format": ",d", "grid": False, "labelExpr": label, "labelOverlap": False}


def _around(drawn: pd.DataFrame) -> list[float]:
    return [drawn["train_size"].min() / 1.3, drawn["train_size"].max() * 1.3]


def _range(rows: pd.DataFrame) -> list[float]:
    """All means, and of the intervals what lies within one unit: two or three seeds can give absurdly wide ones."""
    seen = rows[["worth", "low", "high"]].astype(float)
    return [max(-1.0, seen.min().min()), min(1.0, seen.max().max())]
