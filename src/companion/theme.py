"""Colors, shapes and chart settings shared by every figure.

Train sizes and tasks are told apart by color, point shape and dash at once, never by color alone. Every color has a
contrast of at least 3:1 on the book's light and on its dark background, so that a chart needs one palette only; text
and grid colors of the dark theme are set where the chart is embedded (``book/_static/companion-charts.js``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import altair as alt

# Blue, vermilion and green of Okabe and Ito; their yellow and pink, darkened to be seen on white; gray and brown.
PALETTE = ("#0072B2", "#D55E00", "#00916B", "#9A7500", "#B0578D", "#737373", "#8C564B")
# Purple, ochre and teal: a task keeps its color in every figure that shows several, and lines of one task have others.
TASK_PALETTE = ("#7B61C9", "#9A7500", "#00899A", "#5E7F1E", "#B0578D", "#737373")
TASK_ORDER = ("cola", "sst2", "qnli")
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "triangle-right", "triangle-left")
DASHES = ([1, 0], [7, 3], [2, 2], [9, 3, 2, 3], [4, 4], [1, 4], [12, 4])
THIS_RUN = "#B0578D"
PRETRAINED = "#737373"
CROSS = "M-1,-1L1,1M-1,1L1,-1"  # Vega's own "cross" is a filled plus that small sizes turn into a blot

METRIC_TITLES = {"accuracy": "accuracy", "matthews": "Matthews correlation"}
METRIC_RANGES = {"accuracy": (0.0, 1.0), "matthews": (-1.0, 1.0)}
MARGIN = 0.02  # of a score axis, beyond the values on it

alt.data_transformers.disable_max_rows()  # charts are parts of pages, not of a notebook that is kept; see embed

_CONFIG = {
    "font": "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif",
    "view": {"stroke": None},
    "axis": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "gridOpacity": 0.5},
    "legend": {
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titleLimit": 400,
        "orient": "top",
    },
    "title": {"fontSize": 13, "fontWeight": "bold", "subtitleFontSize": 12, "anchor": "start", "frame": "group"},
}


def styled(chart: alt.TopLevelMixin) -> alt.TopLevelMixin:
    """The chart with the book's fonts and sizes."""
    return chart.configure(**_CONFIG)


def score_domain(metric: str, values: Iterable[float]) -> list[float]:
    """The ends of a score axis that holds all the values (NaN apart), within the range that the metric has."""
    seen = [value for value in map(float, values) if not math.isnan(value)]
    floor, ceiling = METRIC_RANGES[metric]
    return [max(floor, min(seen) - MARGIN), min(ceiling, max(seen) + MARGIN)]


def color_scale(domain: list) -> alt.Scale:
    """One color per member of ``domain``, in its order; after seven they come again."""
    return alt.Scale(domain=domain, range=colors(len(domain)))


def task_scale(domain: list) -> alt.Scale:
    """The color of each task of ``domain``: the paper's three have their own, others the next in order; at most six."""
    known = [task for task in TASK_ORDER if task in domain]
    ordered = [*TASK_ORDER, *(task for task in domain if task not in known)]
    return alt.Scale(domain=domain, range=[TASK_PALETTE[ordered.index(task)] for task in domain])


def shape_scale(domain: list) -> alt.Scale:
    """One point shape per member of ``domain``, in its order; a color that comes again has another shape."""
    return alt.Scale(domain=domain, range=shapes(len(domain)))


def dash_scale(domain: list) -> alt.Scale:
    """One dash pattern per member of ``domain``, in its order; a color that comes again has another one."""
    return alt.Scale(domain=domain, range=[list(DASHES[i]) for i in _shifted(len(domain))])


def colors(count: int) -> list[str]:
    """The colors of so many members."""
    return [PALETTE[i % len(PALETTE)] for i in range(count)]


def shapes(count: int) -> list[str]:
    """The point shapes of so many members."""
    return [SHAPES[i] for i in _shifted(count)]


def _shifted(count: int) -> list[int]:
    """Indices of the shapes and dashes of so many members: each seven begin one further than those before."""
    return [(i + i // len(PALETTE)) % len(PALETTE) for i in range(count)]
