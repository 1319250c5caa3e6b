"""Figures: what is drawn is what the table and the statistics say, for eyes and for screen readers."""

from __future__ import annotations

import base64
import io
import json
import re

import altair as alt
import pandas as pd
import pytest

from companion import embed, figures, stats, theme, views
from companion.errors import TableUnavailable, UnknownName

LAYERS = 4
REDRAWN = {("all", 0): "0-3", ("suffix", 2): "2-3", ("prefix", 2): "0-1", ("intact", 4): ""}


def progressive(table: pd.DataFrame, direction: str = "suffix", this_run: pd.DataFrame | None = None):
    fresh = None if this_run is None else views.progressive(this_run, direction)
    return figures.curves(views.progressive(table, direction), fresh)


def trial(task: str, kind: str, kept: int, seed: int, score: float, **changes) -> dict:
    values = {
        "trial_id": f"{task}/{kind}/{kept}/{seed}/{changes}",
        "model": "pocket-bert",
        "layers": LAYERS,
        "task": task,
        "metric": "matthews" if "cola" in task else "accuracy",
        "train_size": 100,
        "kind": kind,
        "preserved_layers": kept,
        "reinitialized": REDRAWN[kind, kept],
        "permutation": "",
        "protocol": "described",
        "random_rate": 1.0,
        "keep_layernorm": False,
        "epochs": 4,
        "seed": seed,
        "score": score,
        "diverged": False,
        "steps": 39,
        "seconds": 1.5,
    }
    return values | changes


@pytest.fixture
def table() -> pd.DataFrame:
    """Two tasks, four layers; three seeds everywhere but at k = 2, which has two; one diverged; "released" at k = 0."""
    rows = []
    for task in ("pocket-cola", "pocket-qnli"):
        for kind, kept in (("all", 0), ("suffix", 2), ("prefix", 2), ("intact", 4)):
            for seed in range(2 if kept == 2 else 3):
                rows.append(trial(task, kind, kept, seed, 0.5 + 0.1 * kept + 0.01 * seed))
        rows += [trial(task, "all", 0, seed, 0.4, protocol="released", diverged=seed == 1) for seed in range(3)]
    return pd.DataFrame(rows).astype({"preserved_layers": "Int64"})


def layers_of(chart: alt.TopLevelMixin) -> dict[str, list[tuple[dict, list[dict]]]]:
    """Mark type → (layer, its rows) of every layer, from the chart's specification."""
    spec = chart.to_dict()
    found: dict[str, list] = {}
    for view in spec["vconcat"]:
        for layer in view.get("layer", [view]):
            rows = spec["datasets"][layer.get("data", view.get("data"))["name"]]
            found.setdefault(layer["mark"]["type"], []).append((layer, rows))
    return found


def test_bands_are_the_intervals_of_stats_and_absent_below_three(table):
    chart = progressive(table)
    [(layer, rows)] = layers_of(chart)["area"]
    assert (layer["encoding"]["y"]["field"], layer["encoding"]["y2"]["field"]) == ("low", "high")
    assert {row["protocol"] for row in rows} == {"described"}  # released has two places, which no line joins
    means = views.progressive(table, "suffix").means
    assert len(rows) == (means["protocol"] == "described").sum()
    for row in rows:
        scores = views.progressive(table, "suffix").trials.query(
            "task == @row['task'] and protocol == @row['protocol'] and x == @row['x']"
        )["score"]
        assert row["n"] == len(scores)
        assert row["score"] == pytest.approx(scores.mean())
        interval = stats.t_interval(scores)
        assert (row["low"], row["high"]) == ((None, None) if interval is None else pytest.approx(interval))
    assert [row["x"] for row in rows if row["low"] is None] == [2, 2]
    assert layer["mark"]["invalid"].startswith("break-paths")


def test_points_that_no_line_joins_have_bars_for_their_intervals(table):
    bars = [rows for layer, rows in layers_of(progressive(table))["rule"] if "y2" in layer["encoding"]]
    means = views.progressive(table, "suffix").means
    expected = means[(means["protocol"] == "released") & means["low"].notna()]  # two places; the others have a band
    [rows] = bars
    drawn = {(row["task"], row["x"], row["low"], row["high"]) for row in rows}
    assert drawn == set(zip(expected["task"], expected["x"], expected["low"], expected["high"], strict=True))
    assert drawn
    assert {row["protocol"] for row in rows} == {"released"}


def placed(chart: alt.TopLevelMixin) -> set[tuple[str, int, float]]:
    """(series, x, where it is drawn) of every mean, interval and trial."""
    marks = layers_of(chart)
    drawn = [rows for kind in ("rule", "point", "circle", "line", "area") for _, rows in marks.get(kind, [])]
    return {(row["series"], row["x"], round(row["place"], 9)) for rows in drawn for row in rows if "series" in row}


def test_points_that_no_line_joins_stand_beside_each_other(table):
    """Three lines of two places: 100 and 1,000 examples; each 3 % to the right of the one before."""
    more = table.assign(train_size=1000, trial_id=table["trial_id"] + "/more")
    view = views.data_scaling(pd.concat([table, more], ignore_index=True))
    chart = figures.curves(view)
    factors = dict(zip(view.members, (1 / 1.03, 1, 1.03), strict=True))
    assert placed(chart) == {(name, x, round(x * factor, 9)) for name, factor in factors.items() for x in (100, 1000)}
    assert chart.to_dict()["description"].startswith("Points of the score")
    assert "bars are 95 percent intervals" in chart.to_dict()["description"]


def test_on_an_axis_of_layers_they_stand_within_a_third_of_a_step(table):
    view = views.initialization(table[table["preserved_layers"] == 0])
    assert placed(figures.curves(view)) == {
        ("described", 0, -0.15),
        ("released", 0, 0.15),
    }


def test_points_that_a_line_joins_and_those_of_one_series_stand_at_their_place(table):
    assert {x - place for _, x, place in placed(progressive(table))} == {0}
    alone = views.single_layer(table.assign(kind="single", reinitialized="1"))
    assert {x - place for _, x, place in placed(figures.curves(alone))} == {0}


def test_every_trial_is_drawn_once_and_diverged_ones_as_crosses(table):
    marks = layers_of(progressive(table))
    [(_, dots)] = marks["circle"]
    [(cross, crosses)] = [(layer, rows) for layer, rows in marks["point"] if layer["mark"].get("shape") == theme.CROSS]
    drawn = sorted(row["trial_id"] for row in dots + crosses)
    assert drawn == sorted(views.progressive(table, "suffix").trials["trial_id"])
    assert [row["diverged"] for row in crosses] == [True, True]
    highest = progressive(table).to_dict()["vconcat"][0]["layer"][-1]
    assert highest["mark"].get("shape") == theme.CROSS
    means = next(layer for layer, _ in marks["point"] if layer["mark"].get("filled"))
    assert cross["mark"]["size"] > 2 * means["mark"]["size"]  # and its arms reach beyond the mean of the same color
    told = {channel["field"] for channel in cross["encoding"]["tooltip"]}
    assert {"seed", "trial_id", "score", "steps", "seconds", "diverged"} <= told


def test_more_trials_are_drawn_than_altair_takes_unasked(table):
    copies = -(-6000 // len(table))
    many = [table.assign(seed=table["seed"] + 100 * i, trial_id=table["trial_id"] + f"-{i}") for i in range(copies)]
    drawn = progressive(pd.concat(many, ignore_index=True)).to_dict()
    assert max(len(rows) for rows in drawn["datasets"].values()) > 5000


def test_this_run_is_ringed_on_top_with_a_legend_entry(table):
    fresh = table.query("seed == 0").assign(score=0.9)
    marks = layers_of(progressive(table, this_run=fresh))
    [(rings, rows)] = [(layer, rows) for layer, rows in marks["point"] if "stroke" in layer["encoding"]]
    assert sorted(row["trial_id"] for row in rows) == sorted(views.progressive(fresh, "suffix").trials["trial_id"])
    assert rings["encoding"]["stroke"]["scale"]["domain"] == ["this run"]
    assert rings["encoding"]["stroke"]["legend"] is not None
    text = json.dumps(progressive(table).to_dict())
    assert "this run" not in text.lower()


def test_dropdowns_offer_what_the_table_has(table):
    spec = progressive(table).to_dict()
    offered = {param["name"]: param["bind"].get("options") for param in spec["params"]}
    assert offered["task"] == ["pocket-cola", "pocket-qnli"]
    assert "shown" not in offered  # one line: nothing to choose
    assert offered["protocol"] == ["described", "released"]
    assert "seeds_below" in offered


def test_a_chart_opens_at_the_largest_train_size_of_this_run_or_of_all(table):
    more = pd.concat([table, table.assign(train_size=500, trial_id="500/" + table["trial_id"])], ignore_index=True)
    view, fresh = views.initialization(more), views.initialization(table.query("seed == 0"))
    for this_run, first in ((None, 500), (fresh, 100)):
        [size] = [p for p in figures.curves(view, this_run).to_dict()["params"] if p["name"] == "train_size"]
        assert (size["value"], size["bind"]["options"]) == (first, [100, 500])


def test_a_chart_opens_at_a_train_size_that_its_first_task_has(table):
    """As with the whole training set of each task."""
    whole = table.assign(train_size=table["task"].map({"pocket-cola": 300, "pocket-qnli": 900}))
    for this_run in (None, views.initialization(whole.query("task == 'pocket-qnli'"))):
        params = figures.curves(views.initialization(whole), this_run).to_dict()["params"]
        assert {p["name"]: p.get("value") for p in params}.items() >= {"task": "pocket-cola", "train_size": 300}.items()


def test_places_far_apart_are_read_off_by_a_menu(table):
    orders = {1: (1, 0, 2, 3), 5000: (3, 2, 1, 0)}
    permuted = [{**trial("pocket-cola", "intact", 4, 0, 0.6), "kind": "permuted", "trial_id": str(number),
                 "permutation": ",".join(map(str, order))} for number, order in orders.items()]  # fmt: skip
    rows = pd.concat([table, pd.DataFrame(permuted)], ignore_index=True)
    [at] = [p for p in figures.curves(views.permutation(rows, orders)).to_dict()["params"] if p["name"] == "at"]
    assert at["bind"]["options"] == [1, 5000]


def test_means_are_read_off_at_a_place(table):
    """Every mean is said at its place, as stats computes it; the slider covers the axis; a click on a line filters."""
    more = pd.concat([table, table.assign(train_size=500, trial_id="500/" + table["trial_id"])], ignore_index=True)
    spec = progressive(more).to_dict()
    params = {param["name"]: param for param in spec["params"]}
    assert [params["at"]["bind"][end] for end in ("min", "max")] == [0, LAYERS]
    assert params["picked"]["bind"] == "legend"
    [text] = [layer for layer in spec["vconcat"][0]["layer"] if "expr" in json.dumps(layer["mark"].get("text", ""))]
    said, choice = re.match(r"(\{.*?\})\[(.*?)\]", text["mark"]["text"]["expr"]).groups()
    assert choice == "task + '/' + protocol + '/' + at"
    means = views.progressive(more, "suffix").means
    assert len(json.loads(said)) == len(means) / 2  # two train sizes
    for key, lines in json.loads(said).items():
        task, protocol, x = key.split("/")
        rows = means[(means["task"] == task) & (means["protocol"] == protocol) & (means["x"] == int(x))]
        told = [f"{row['series']}: {row['mean']:.3f}" for _, row in rows.iterrows()]
        assert " ".join(lines).replace("\u00a0", " ").strip() == f"at {x} ({', '.join(told)})"
    lines = [layer for layer in spec["vconcat"][0]["layer"] if layer["mark"]["type"] == "line"]
    assert {"param": "picked"} in lines[0]["transform"][1]["filter"]["and"]


def test_axis_follows_the_metric_of_the_task(table):
    view = progressive(table).to_dict()["vconcat"][0]
    assert '"pocket-cola": "Matthews correlation"' in view["title"]["text"]["expr"]
    assert '"pocket-qnli": "accuracy"' in view["title"]["text"]["expr"]
    line = next(layer for layer in view["layer"] if layer["mark"]["type"] == "line")
    bounds = [json.loads(end["expr"].removesuffix("[task]")) for end in line["encoding"]["y"]["scale"]["domain"]]
    for task, rows in table[table["kind"] != "prefix"].groupby("task"):
        assert bounds[0][task] <= rows["score"].min()
        assert bounds[1][task] >= rows["score"].max()
    assert bounds[1]["pocket-qnli"] <= 1


@pytest.mark.parametrize("direction", views.DIRECTIONS)
def test_strip_shows_which_layers_stay(table, direction):
    [(_, cells)] = layers_of(progressive(table, direction))["rect"]
    kept = {k: {c["layer"] for c in cells if c["x"] == k and c["state"] == "pretrained"} for k in (0, 2, 4)}
    assert kept == {0: set(), 2: {1, 2} if direction == "suffix" else {3, 4}, 4: {1, 2, 3, 4}}


def test_alt_text_says_what_is_drawn(table):
    chart = progressive(table, "prefix", table)
    assert re.search(r"first layers.*pocket-cola, pocket-qnli.*this run", chart.to_dict()["description"])
    assert "pocket-cola" in figures.intact_vs_random(table).to_dict()["description"]


def test_intact_vs_random_draws_the_means_of_stats(table):
    lines = layers_of(figures.intact_vs_random(table))["line"]
    rows = [row for _, rows in lines for row in rows]
    means = figures.intact_means(table).query("protocol == 'described'")
    assert sorted(row["score"] for row in rows) == pytest.approx(sorted(means["mean"]))
    assert {row["kind"] for row in rows} == {"intact", "all"}


def test_two_sizes_are_two_points_and_no_line(table):
    three = [table.assign(train_size=size, trial_id=table["trial_id"] + str(size)) for size in (50, 100, 500)]
    for sizes in (2, 3):
        lines = layers_of(figures.intact_vs_random(pd.concat(three[:sizes], ignore_index=True)))["line"]
        for layer, rows in lines:
            assert layer["transform"] == [{"filter": f"datum.places >= {views.FEWEST_PLACES}"}]
            assert {row["places"] for row in rows} == {sizes}


def test_a_panel_without_any_interval_still_has_a_scale(table):
    """Vega warns in the reader's console of a scale that it must find from values that are all absent."""
    spec = figures.intact_vs_random(table[table["seed"] < 2]).to_dict()
    for panel in spec["vconcat"]:
        domains = [layer["encoding"]["y"].get("scale", {}).get("domain") for layer in panel["layer"]]
        low, high = next(domain for domain in domains if domain)
        assert low < high


def test_wrong_input_is_one_sentence(table):
    with pytest.raises(UnknownName, match="direction 'sideways'"):
        progressive(table, "sideways")
    with pytest.raises(TableUnavailable, match="no suffix trials"):
        progressive(table[table["kind"] == "intact"])


def test_page_html_has_chart_caption_rows_and_alt_text(table, monkeypatch):
    monkeypatch.setenv("COMPANION_BOOK", "1")
    chart, rows = progressive(table), views.progressive(table, "suffix").means
    page = embed.show(chart, name="suffix", caption="Means of <3 & more.", rows=rows).data
    spec = re.search(r'<script type="application/vnd.vegalite.v6\+json">(.*?)</script>', page).group(1)
    assert json.loads(spec) == json.loads(json.dumps(chart.to_dict()))
    assert 'role="group" aria-label="Line chart' in page
    assert "Means of &lt;3 &amp; more." in page
    data = re.search(r'download="suffix.csv" href="data:text/csv;base64,([^"]+)"', page).group(1)
    assert len(pd.read_csv(io.BytesIO(base64.b64decode(data)))) == len(rows)
    assert page.count("<tr") == len(rows) + 1


def test_live_notebook_draws_without_the_network(table, monkeypatch, capsys):
    monkeypatch.delenv("COMPANION_BOOK", raising=False)
    shown = []
    monkeypatch.setattr(embed, "display", shown.append)
    chart = progressive(table)
    page = embed.show(chart, name="suffix", caption="c", rows=table).data
    assert "companion-chart" not in page
    assert not re.search(r'src="https?://', shown[0].data)
    assert f'"width":{embed.LIVE_WIDTH}' in shown[0].data


def luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("color", [*theme.PALETTE, theme.THIS_RUN, theme.PRETRAINED])
@pytest.mark.parametrize("background", ["#ffffff", "#121212"])  # of the light and the dark theme
def test_colors_are_seen_on_both_backgrounds(color, background):
    one, other = sorted([luminance(color), luminance(background)])
    assert (other + 0.05) / (one + 0.05) >= 3


def test_places_without_an_order_are_not_joined_by_lines(table):
    rows = table.assign(kind="permuted", permutation="3,2,1,0", preserved_layers=4, reinitialized="")
    spec = figures.curves(views.permutation(rows, {1: (3, 2, 1, 0), 2: (0, 1, 2, 3)})).to_dict()
    marks = [layer["mark"]["type"] for layer in spec["vconcat"][0]["layer"]]
    assert "line" not in marks
    assert "area" not in marks
    assert marks.count("rule") == 2  # the bars, and the line where means are read off
    assert spec["description"].startswith("Points of the score")


def test_a_legend_wider_than_a_narrow_window_takes_several_rows():
    assert figures._legend_columns(["100", "500", "4,000"]) == 3
    assert figures._legend_columns([f"{kept} layers" for kept in range(7)]) < 7
    assert figures._legend_columns(["first token", "mean of tokens, random labels", "released", "and one more"]) == 1


def test_seven_lines_differ_in_color_shape_and_dash():
    names = [f"{kept} layers" for kept in range(7)]  # of a model with six
    for scale in (theme.color_scale, theme.shape_scale, theme.dash_scale):
        assert len({str(member) for member in scale(names).range}) == len(names)


def test_more_than_seven_lines_still_differ_in_something():
    names = [f"{kept} layers" for kept in range(25)]  # of a model with 24
    for second in (theme.shape_scale, theme.dash_scale):
        marks = zip(theme.color_scale(names).range, map(str, second(names).range), strict=True)
        assert len(set(marks)) == len(names)
