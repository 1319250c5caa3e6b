"""A chart as the HTML of a page: drawing, caption, and its rows as a CSV file and as a table for who does not see it.

While the book is built (``COMPANION_BOOK=1``) the page's own script draws the charts; a live notebook, which has no
such script, is shown each chart with its libraries inside. Nothing is asked of the network in either case.
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

LIVE_WIDTH = 600  # pixels


def show(chart: alt.TopLevelMixin, *, name: str, caption: str, rows: pd.DataFrame) -> HTML:
    """The figure as HTML: chart, caption, and ``rows`` (what is drawn) as a CSV file and a table.

    ``name`` is the figure's id and its CSV file's name; the chart's ``description`` is its alt text. While the book is
    built (``COMPANION_BOOK=1``) the page's own script draws the chart; a live notebook, which has no such script, is
    shown the chart with its libraries inside.
    """
    if os.environ.get("COMPANION_BOOK") != "1":
        display(HTML(_standalone(chart.to_dict(), f"chart-{name}")))
        return HTML(_figure(name, "", caption, rows))
    return HTML(on_page(chart, name=name, caption=caption, rows=rows))


def on_page(chart: alt.TopLevelMixin, *, name: str, caption: str, rows: pd.DataFrame) -> str:
    """The figure as a page of the book holds it, for its own script to draw; without a blank line, as Markdown asks."""
    spec = chart.to_dict()
    label = html.escape(spec["description"], quote=True)
    drawing = (
        f'<div class="companion-chart" role="group" aria-label="{label}">'
        f'<script type="application/vnd.vegalite.v6+json">{_json_for_html(spec)}</script></div>'
    )
    return _figure(name, drawing, caption, rows)


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
    """Compact JSON that cannot end the script element it stands in; NaN, which browsers refuse, is an error here."""
    return json.dumps(spec, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")


def _figure(name: str, drawing: str, caption: str, rows: pd.DataFrame) -> str:
    data = base64.b64encode(rows.to_csv(index=False).encode()).decode()
    twin = rows.to_html(index=False, border=0, na_rep="", float_format="{:.3f}".format, justify="left")
    return (
        f'<figure class="companion-figure" id="figure-{name}">{drawing}'
        f"<figcaption>{html.escape(caption)} "
        f'<a download="{name}.csv" href="data:text/csv;base64,{data}">Download the rows (CSV)</a></figcaption>'
        f"<details><summary>The same as a table ({len(rows):,} rows)</summary>"
        f'<div class="companion-rows" tabindex="0" role="group" aria-label="Rows of the figure">{twin}</div>'
        f"</details></figure>"
    )
