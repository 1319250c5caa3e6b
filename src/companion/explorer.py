"""Any experiment of any published profile, as a picture for a page without a kernel; the lab draws the same views."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Mapping

import altair as alt
import pandas as pd

from companion import theme, views
from companion.errors import CompanionError, TableUnavailable
from companion.figures import MENUS, SPREAD, mean_tooltip
from companion.layers import paper_permutation
from companion.surgery import PERMUTATIONS

FAMILY = "task (pocket- left out) "
# What a menu chooses where a view does not show all its values at once.
CHOSEN = {"train_size": MENUS["train_size"], "protocol": MENUS["protocol"], "times": "times the usual epochs"}
TRIAL = ["score", "seed", "trial_id", "diverged"]
ANY = "any"
USUAL_SIZE = "500"  # training examples when the page opens: every experiment but one has them
CHOICE = ["profile", "experiment", "family", *CHOSEN]
POINT = [*CHOICE, "series", "rank", "x"]
TITLE_WIDTH = 40  # characters of a bold line that a narrow window holds


def _permutations(trials: pd.DataFrame) -> views.View:
    depth = int(trials["layers"].max())
    return views.permutation(trials, {seed: paper_permutation(seed, depth) for seed in range(1, PERMUTATIONS + 1)})


# What is drawn of each experiment; a block is a quarter of twelve layers, or a third of six.
VIEWS: dict[str, Callable[[pd.DataFrame], views.View]] = {
    "progressive": lambda trials: views.progressive(trials, "suffix"),
    "probing": views.probing,
    "data_scaling": views.data_scaling,
    "localized": lambda trials: views.localized(trials, 2 if trials["layers"].max() < 12 else 3),
    "permutation": _permutations,
    "small_data": views.small_data,
    "single_layer": views.single_layer,
    "learning_rate": views.learning_rate,
    "layernorm": views.layernorm,
    "initialization": views.initialization,
}


def view(table: pd.DataFrame, experiment: str) -> views.View | None:
    """What is drawn of an experiment in a profile's tidy table; None if no trial has a place in its figure."""
    rows = table[table["experiment"] == experiment].reset_index(drop=True)
    try:
        return VIEWS[experiment](rows) if len(rows) else None
    except CompanionError:
        return None


def collected(tables: Mapping[str, pd.DataFrame]) -> dict[tuple[str, str], views.View]:
    """Every view of every profile: (profile, experiment) → view. Raises :class:`TableUnavailable` if there is none."""
    found = {(name, e): view(table, e) for name, table in tables.items() for e in VIEWS}
    found = {key: value for key, value in found.items() if value is not None}
    if not found:
        raise TableUnavailable(
            "no published table has a trial to draw", "publish some with `companion results publish`"
        )
    return found


def points(found: Mapping[tuple[str, str], views.View]) -> pd.DataFrame:
    """A row per point of every view: POINT, then task, metric, n, mean, low and high (95 % t-interval), and lists of
    its trials' scores, seeds, identifiers and whether they diverged."""
    frames = [_named(key, value, _ranked(value, value.means)) for key, value in found.items()]
    means = pd.concat(frames, ignore_index=True)[[*POINT, "task", "metric", "n", "mean", "low", "high"]]
    frames = [_named(key, value, _ranked(value, value.trials)) for key, value in found.items()]
    trials = pd.concat(frames, ignore_index=True).groupby(POINT)[TRIAL].agg(list)
    return means.merge(trials.reset_index(), on=POINT, validate="one_to_one")


def references(found: Mapping[tuple[str, str], views.View]) -> pd.DataFrame:
    """A row per horizontal line (the intact model, where a view has no place for it): CHOICE, then n and mean."""
    frames = [_named(key, value, value.reference_means) for key, value in found.items() if len(value.reference)]
    return pd.concat([pd.DataFrame(columns=[*CHOICE, "n", "mean"]), *frames], ignore_index=True)[[*CHOICE, "n", "mean"]]


def _ranked(view: views.View, rows: pd.DataFrame) -> pd.DataFrame:
    """With the place of each row's line in the order of that view's lines."""
    return rows.assign(rank=rows["series"].map(view.members.index))


def _named(key: tuple[str, str], view: views.View, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with what the page's menus choose by, as text: ANY where the view shows all values at once."""
    times = rows["epochs"] // view.trials["epochs"].min() if "epochs" in view.menus else ANY
    family = rows["task"].str.removeprefix("pocket-")
    named = rows.assign(profile=key[0], experiment=key[1], family=family, times=times)
    named = named.assign(**{column: ANY for column in CHOSEN if column != "times" and column not in view.menus})
    return named.astype(dict.fromkeys(CHOSEN, str))


def chart(found: Mapping[tuple[str, str], views.View]) -> alt.TopLevelMixin:
    """The views of :func:`collected` as one picture: menus choose profile, experiment and what varies within it."""
    rows = _beside_each_other(points(found))
    by_rank = alt.EncodingSortField(field="rank", op="min")
    # equal in every layer, so that color and shape have one legend
    legend = alt.Legend(title=None, columns=2, symbolOpacity=1, labelLimit=300)
    most = int(rows["rank"].max()) + 1
    color = alt.Color("series:N", legend=legend, sort=by_rank, scale=alt.Scale(range=theme.colors(most)))
    shape = alt.Shape("series:N", legend=legend, sort=by_rank, scale=alt.Scale(range=theme.shapes(most)))
    x = alt.X("x:O", title=None).axis(labelAngle=0, grid=False)
    y = alt.Y("mean:Q", title=None, scale=_score_scale(rows))
    base = _picked(rows).encode(x=x, xOffset=alt.XOffset("aside:Q", scale=alt.Scale(domain=[-0.5, 0.5])))
    told = [alt.Tooltip("series:N"), *mean_tooltip("mean")]
    single = [alt.Tooltip("trial_id:N", title="trial"), alt.Tooltip("seed:Q"), alt.Tooltip("score:Q", format=".4f")]
    bars = base.transform_filter("isValid(datum.low)").mark_rule(color=theme.PRETRAINED, clip=True, aria=False)
    dots = base.transform_flatten(TRIAL).mark_point(filled=True, size=14, opacity=0.6, aria=False)
    layers = [
        *_intact(references(found), y),
        bars.encode(y=alt.Y("low:Q", title=None), y2="high:Q"),
        base.mark_point(filled=True, size=60, opacity=1).encode(y=y, color=color, shape=shape, tooltip=told),
        dots.encode(color=color, shape=shape, y="score:Q", tooltip=[*single, alt.Tooltip("diverged:N")]),
        *_nothing(rows, color, shape),
        _x_title(found),
    ]
    drawn = alt.layer(*layers).properties(width="container", height=320, title=_title(found))
    drawn = drawn.add_params(*_controls(rows)).properties(description=_describe(found))
    return theme.styled(drawn)


def _beside_each_other(rows: pd.DataFrame) -> pd.DataFrame:
    """``aside``: how far a point stands from its place, in steps of the axis, by the order of the lines."""
    last = rows.groupby(["profile", "experiment"])["rank"].transform("max")
    return rows.assign(aside=SPREAD * (rows["rank"] / last.clip(lower=1) - 0.5).where(last > 0, 0.0))


def _score_scale(rows: pd.DataFrame) -> alt.Scale:
    """A domain for each profile, experiment and task: all its trials and intervals, within the metric's range."""
    ends: dict[str, list[float]] = {}
    for key, points in rows.groupby(["profile", "experiment", "family"], sort=False):
        seen = [*points["score"].explode(), *points["low"], *points["high"]]
        ends["/".join(key)] = theme.score_domain(points["metric"].iloc[0], seen)
    chosen = f"({json.dumps(ends)}[profile + '/' + experiment + '/' + family] || [0, 1])"
    return alt.Scale(domain=[alt.ExprRef(f"{chosen}[{i}]") for i in (0, 1)], zero=False, nice=True)


def _picked(rows: pd.DataFrame) -> alt.Chart:
    return alt.Chart(rows).transform_filter(_test())


def _test() -> str:
    """Whether a row is of the menus' choice."""
    tests = ["datum.profile == profile", "datum.experiment == experiment", "datum.family == family"]
    tests += [f"(datum.{column} == '{ANY}' || datum.{column} == {column})" for column in CHOSEN]
    return " && ".join(tests)


def _intact(rows: pd.DataFrame, y: alt.Y) -> list[alt.Chart]:
    line = _picked(rows).mark_rule(strokeDash=[6, 4], strokeWidth=1.5, color=theme.PRETRAINED, aria=False)
    label = _picked(rows).mark_text(align="left", dx=4, dy=-6, fontSize=12, text="intact", aria=False)
    told = [alt.Tooltip("n:Q", title="trials"), alt.Tooltip("mean:Q", format=".3f")]
    return [line.encode(y=y, tooltip=told), label.encode(x=alt.value(0), y=y)]


def _nothing(points: pd.DataFrame, color: alt.Color, shape: alt.Shape) -> list[alt.Chart]:
    """A sentence where the menus choose what was not published; it has a place on the x axis and in the legend, for
    Vega cannot lay out an axis or a legend of nothing."""
    counted = alt.Chart(points).transform_calculate(hit=f"{_test()} ? 1 : 0").transform_aggregate(hits="sum(hit)")
    none = counted.transform_filter("datum.hits == 0").transform_calculate(x="' '", series="'none'", rank="0")
    none = none.encode(x="x:O", y=alt.value(alt.expr("height / 2")))
    said = none.mark_text(text="No trial of this choice is published.", fontSize=13, aria=False)
    return [said, none.mark_point(opacity=0, aria=False).encode(color=color, shape=shape)]


def _controls(points: pd.DataFrame) -> list[alt.Parameter]:
    names = {"profile": "profile ", "experiment": "experiment ", "family": FAMILY}
    names |= {column: f"{said} " for column, said in CHOSEN.items()}
    controls = []
    for column, name in names.items():
        options = [option for option in dict.fromkeys(points[column]) if option != ANY]
        numbers = all(option.isdigit() for option in options)
        options = sorted(options, key=int) if numbers else options
        labels = [f"{int(option):,}" if numbers else option for option in options]
        first = USUAL_SIZE if USUAL_SIZE in options else (options or [ANY])[0]
        bind = alt.binding_select(options=options, labels=labels, name=name)
        controls.append(alt.param(name=column, value=first, bind=bind))
    return controls


def _x_title(found: Mapping[tuple[str, str], views.View]) -> alt.Chart:
    """The axis's title, drawn as a text, for Vega-Lite's own cannot follow the menus."""
    titles = json.dumps({f"{profile}/{name}": value.x_title for (profile, name), value in found.items()})
    said = alt.ExprRef(f"{titles}[profile + '/' + experiment] || ' '")
    mark = alt.Chart(pd.DataFrame([{}])).mark_text(baseline="top", fontSize=12, text=said, aria=False)
    return mark.encode(x=alt.value(alt.expr("width / 2")), y=alt.value(alt.expr("height + 24")))


def _title(found: Mapping[tuple[str, str], views.View]) -> alt.Title:
    """The metric, what the colors tell apart, and which menus choose nothing, for the chosen experiment and task."""
    said = {}
    for (profile, name), value in found.items():
        below = [f"colors: {value.series_title}", *_idle(value)]
        for task, metric in value.trials[["task", "metric"]].drop_duplicates().itertuples(index=False):
            said[f"{profile}/{name}/{task.removeprefix('pocket-')}"] = [theme.METRIC_TITLES[metric], *below]
    chosen = f"{json.dumps(said)}[profile + '/' + experiment + '/' + family] || [' ']"
    return alt.Title(alt.ExprRef(chosen), lineHeight=17)


def _idle(view: views.View) -> list[str]:
    """Lines that name the menus without effect: the view shows all that they could choose, or there is one choice."""
    names = [name for column, name in CHOSEN.items() if {"times": "epochs"}.get(column, column) not in view.menus]
    return textwrap.wrap(f"no effect here: {', '.join(names)}", TITLE_WIDTH) if names else []


def _describe(found: Mapping[tuple[str, str], views.View]) -> str:
    profiles = ", ".join(dict.fromkeys(profile for profile, _ in found))
    experiments = ", ".join(dict.fromkeys(experiment for _, experiment in found))
    return (
        f"Points of mean scores with 95 percent intervals, and single trials as dots, of any published experiment "
        f"({experiments}) of any profile ({profiles}); menus choose which."
    )
