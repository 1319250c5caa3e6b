"""Labs for a live notebook: operate on a model's layers and train it; look at any part of the published table.

Charts are drawn as pictures (SVG), which every notebook program shows and nothing has to be loaded for.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass, replace

import altair as alt
import ipywidgets
import numpy as np
import pandas as pd
import vl_convert

from companion import experiments, explorer, figures, models, pages, profiles, sweep, table, tasks, theme, views
from companion.diagrams import in_words
from companion.errors import CompanionError
from companion.executors import set_threads
from companion.layers import paper_permutation
from companion.store import Result, Store
from companion.trial import Trial

PROFILE = "pocket-quick"  # whose model and hyperparameters the surgery lab uses
PUBLISHED = "pocket"  # whose curve it draws
SIZES = (50, 100, 200, 500, 1000, 2000, 4000)
REINITIALIZE, PERMUTE = "make layers random", "permute the layers"
WIDTH = 560  # pixels of a chart
LAB_RANGES = {"accuracy": (0.4, 1.0), "matthews": (-0.2, 1.0)}  # fixed, so that trials are compared by eye


@dataclass(frozen=True)
class Point:
    """A trial of the lab, as its chart shows it: number, score, layers preserved."""

    number: int
    trial: Trial
    score: float

    @property
    def preserved(self) -> int:
        """Pretrained layers left in place (all of them in a permuted model)."""
        return self.trial.layers - len(self.trial.reinitialized)


class LayerSurgery:
    """The layer surgery lab: choose task, data and what happens to each layer, train, see the score beside the curve.

    ``view`` is the widget to display. Every trial is a real one, run by :func:`companion.sweep.run_trial` and kept in
    ``store``: asked for again, it is read.
    """

    def __init__(self, store: Store, published: pd.DataFrame | None = None) -> None:
        self.store = store
        found = table.published_or_empty(PUBLISHED) if published is None else published
        self.published = found[found["experiment"] == "progressive"]
        self.parameters = profiles.load(PROFILE).experiments["progressive"]
        self.depth = models.depth(self.parameters["model"])
        self.points: list[Point] = []
        self._make_controls()
        self._arrange()
        self._check()
        self._draw()

    # --- what is on the screen ----------------------------------------------------------------------------------

    def _make_controls(self) -> None:
        wide = ipywidgets.Layout(width="24em")
        style = {"description_width": "11em"}
        self.task = ipywidgets.Dropdown(
            options=list(self.parameters["tasks"]), description="task", layout=wide, style=style
        )
        self.train_size = ipywidgets.SelectionSlider(
            options=[(f"{n:,}", n) for n in SIZES], value=500, description="training examples", layout=wide, style=style
        )
        self.seed = ipywidgets.BoundedIntText(value=0, min=0, max=9999, description="seed", layout=wide, style=style)
        self.protocol = ipywidgets.Dropdown(
            options=["described", "released"], description="new weights", layout=wide, style=style
        )
        self.operation = ipywidgets.ToggleButtons(options=[REINITIALIZE, PERMUTE], style={"button_width": "12em"})
        self.layers = [ipywidgets.ToggleButton(layout=ipywidgets.Layout(width="14em")) for _ in range(self.depth)]
        numbers = [str(i + 1) for i in range(self.depth)]
        self.order = ipywidgets.TagsInput(value=numbers, allowed_tags=numbers, allow_duplicates=False)
        self.train = ipywidgets.Button(description="Train", button_style="primary", icon="play")
        self.progress = ipywidgets.IntProgress(description="steps", layout=ipywidgets.Layout(width="22em"))
        self.progress.layout.visibility = "hidden"
        self.status, self.chart = ipywidgets.HTML(), ipywidgets.HTML()
        for control in (self.task, self.train_size, self.seed, self.protocol, self.operation, self.order, *self.layers):
            control.observe(lambda _: self._check(), "value")
        for control in (self.task, self.train_size, self.protocol):
            control.observe(lambda _: self._draw(), "value")
        self.train.on_click(lambda _: self.run())

    def _arrange(self) -> None:
        top = range(self.depth - 4, self.depth)
        presets = {"none": (), "all": range(self.depth), "last four": top, "first four": range(4)}
        self.presets = {name: self._preset(name, chosen) for name, chosen in presets.items()}
        stack = [ipywidgets.HBox(list(self.presets.values())), *reversed(self.layers)]
        self.orders = {
            "shuffle": self._button("shuffle", self._shuffled),
            "reverse": self._button("reverse", lambda: tuple(reversed(self._numbers()))),
            "as pretrained": self._button("as pretrained", lambda: tuple(range(1, self.depth + 1))),
        }
        hint = "Drag the numbers, or remove one and type it elsewhere; the first is the lowest layer."
        ordering = [ipywidgets.HBox(list(self.orders.values())), self.order, ipywidgets.HTML(hint)]
        self._panels = {REINITIALIZE: ipywidgets.VBox(stack), PERMUTE: ipywidgets.VBox(ordering)}
        settings = [self.task, self.train_size, self.seed, self.protocol]
        left = ipywidgets.VBox([*settings, self.operation, *self._panels.values()])
        right = ipywidgets.VBox([ipywidgets.HBox([self.train, self.progress]), self.status, self.chart])
        self.view = ipywidgets.HBox([left, right], layout=ipywidgets.Layout(flex_flow="row wrap"))

    def _preset(self, name: str, chosen: range | tuple[()]) -> ipywidgets.Button:
        def press(_) -> None:
            for i, layer in enumerate(self.layers):
                layer.value = i in chosen

        button = ipywidgets.Button(description=name, layout=ipywidgets.Layout(width="auto"))
        button.on_click(press)
        return button

    def _button(self, name: str, order: Callable[[], tuple[int, ...]]) -> ipywidgets.Button:
        button = ipywidgets.Button(description=name, layout=ipywidgets.Layout(width="auto"))
        button.on_click(lambda _: setattr(self.order, "value", [str(n) for n in order()]))
        return button

    def _numbers(self) -> tuple[int, ...]:
        return tuple(int(tag) for tag in self.order.value)

    def _shuffled(self) -> tuple[int, ...]:
        seed = int(np.random.default_rng().integers(1, 1000))
        return tuple(i + 1 for i in paper_permutation(seed, self.depth))

    # --- what is chosen -----------------------------------------------------------------------------------------

    def trial(self) -> Trial:
        """The trial that the controls describe."""
        permuting = self.operation.value == PERMUTE
        settings = experiments.Settings(
            model=self.parameters["model"],
            tasks=[self.task.value],
            train_sizes=[self.train_size.value],
            seeds=[self.seed.value],
            **{name: self.parameters[name] for name in ("learning_rate", "batch_size", "epochs", "max_length")},
        )
        chosen = tuple(i for i, layer in enumerate(self.layers) if layer.value)
        return replace(
            next(experiments.base_trials(settings)),
            reinitialized=() if permuting else chosen,
            permutation=tuple(n - 1 for n in self._numbers()) if permuting else (),
            protocol=self.protocol.value,
        )

    def _check(self) -> None:
        """Say what Train would do, or why it can do nothing."""
        permuting = self.operation.value == PERMUTE
        for name, panel in self._panels.items():
            panel.layout.display = "" if name == self.operation.value else "none"
        for i, layer in enumerate(self.layers):
            layer.description = f"layer {i + 1}: {'random' if layer.value else 'pretrained'}"
            layer.icon = "random" if layer.value else "check"
        absent = sorted(set(range(1, self.depth + 1)) - set(self._numbers()))
        self.train.disabled = permuting and bool(absent)
        self.protocol.disabled = permuting or not any(layer.value for layer in self.layers)
        if self.train.disabled:
            self._say(f"The order lacks layer {', '.join(map(str, absent))}: every layer must occur once.")
        else:
            trial = self.trial()
            try:
                stored = self.store.get(trial) is not None
            except CompanionError as error:
                self._say(str(error))
            else:
                self._say(f"Train will {'show the stored' if stored else 'run the'} trial: {self._told(trial)}.")

    def _told(self, trial: Trial) -> str:
        return f"{trial.task}, {trial.train_size:,} examples, seed {trial.seed}, {in_words(trial)}"

    def _say(self, text: str) -> None:
        self.status.value = f'<div role="status" style="max-width: 34em">{html.escape(text)}</div>'

    # --- what Train does ----------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run the chosen trial with a progress bar, and add its point to the chart."""
        trial = self.trial()
        self.train.disabled = True
        self.progress.layout.visibility = "visible"
        self._say(f"Training: {self._told(trial)} …")
        try:
            set_threads()  # as every other trial, or its score would round differently
            result = sweep.run_trial(trial, self.store, on_step=self._advance)
        except CompanionError as error:
            self._say(str(error))
        else:
            self._show(trial, result)
        finally:
            self.progress.layout.visibility = "hidden"
            self.train.disabled = False

    def _show(self, trial: Trial, result: Result) -> None:
        self.points.append(Point(len(self.points) + 1, trial, result.outcome["score"]))
        self._draw()
        metric = theme.METRIC_TITLES[result.outcome["metric"]]
        self._say(
            f"Trial {len(self.points)}: {metric} {result.outcome['score']:.3f} ({self._told(trial)}; "
            f"{result.outcome['seconds']:.1f} s). {self._beside()}"
        )

    def _advance(self, step: int, steps: int) -> None:
        self.progress.max, self.progress.value = steps, step

    def _curve(self) -> pd.DataFrame:
        """Means of the published suffix curve at the chosen task, size and protocol; no rows if there is none."""
        rows = self.published[self.published["task"] == self.task.value]
        rows = rows[rows["train_size"] == self.train_size.value]
        if not rows["kind"].isin(["suffix", "all"]).any():
            return pd.DataFrame(columns=["protocol", "x", "n", "mean", "low", "high"])
        means = views.progressive(rows, "suffix").means
        return means[means["protocol"] == self.protocol.value]

    def _beside(self) -> str:
        curve = self._curve()
        if curve.empty:
            return "No curve is published for this choice."
        intact = curve.loc[curve["x"].idxmax()]
        return f"The published intact model: {intact['mean']:.3f}, mean of {intact['n']} seeds."

    def _draw(self) -> None:
        chosen = [p for p in self.points if p.trial.task == self.task.value]
        points = [p for p in chosen if p.trial.train_size == self.train_size.value]
        spec = surgery_chart(self._curve(), points, self.depth, self.task.value).to_dict()
        self.chart.value = picture(spec, spec["description"])


def surgery_chart(curve: pd.DataFrame, points: list[Point], depth: int, task: str) -> alt.TopLevelMixin:
    """The published curve (columns x, mean, low, high) with its 95 % band, and the lab's trials as numbered points."""
    metric = tasks.task(task).metric
    scale = alt.Scale(domain=[0, depth], nice=False)
    x = alt.X("x:Q", title="pretrained layers preserved", scale=scale).axis(values=list(range(depth + 1)), grid=False)
    title = theme.METRIC_TITLES[metric]
    y = alt.Y("mean:Q", title=title, scale=alt.Scale(domain=LAB_RANGES[metric], clamp=True))
    rows = alt.Chart(curve[["x", "mean", "low", "high"]].astype(float))
    mine = alt.Chart(pd.DataFrame([{"x": p.preserved, "mean": p.score, "number": str(p.number)} for p in points]))
    layers = [
        rows.transform_filter("isValid(datum.low)")
        .mark_area(opacity=0.18, color=theme.PALETTE[0])
        .encode(x=x, y=alt.Y("low:Q", title=title), y2="high:Q"),
        rows.mark_line(point=True, color=theme.PALETTE[0]).encode(x=x, y=y),
    ]
    if points:
        spots = mine.mark_point(shape="diamond", size=120, filled=True, opacity=1, color=theme.PALETTE[1])
        layers += [
            spots.encode(x=x, y=y),
            mine.mark_text(dx=11, dy=-8, fontWeight="bold").encode(x=x, y=y, text="number:N"),
        ]
    told = "; ".join(f"trial {p.number}, {in_words(p.trial)}: {p.score:.3f}" for p in points) or "no trial of yours yet"
    text = f"{task}: published mean score by layers preserved, with 95 percent band; diamonds are yours: {told}."
    return theme.styled(alt.layer(*layers).properties(width=WIDTH, height=300, description=text))


def picture(spec: dict, text: str) -> str:
    """The chart as an SVG image in HTML, on white (so that it can be read in a dark theme too), with its alt text."""
    svg = vl_convert.vegalite_to_svg({**spec, "background": "white"})
    return f'<div role="img" aria-label="{html.escape(text, quote=True)}" style="overflow-x: auto">{svg}</div>'


class ResultsExplorer:
    """The results explorer: any experiment of any published profile, as a chart and as the rows behind it."""

    def __init__(self) -> None:
        self.profile = ipywidgets.Dropdown(options=table.published_profiles(), description="profile")
        self.experiment = ipywidgets.Dropdown(description="experiment")
        self.choices = ipywidgets.VBox()
        self.chart, self.rows = ipywidgets.HTML(), ipywidgets.HTML()
        self.profile.observe(lambda _: self._profile_chosen(), "value")
        self.experiment.observe(lambda _: self._experiment_chosen(), "value")
        left = ipywidgets.VBox([self.profile, self.experiment, self.choices])
        right = ipywidgets.VBox([self.chart, self.rows])
        self.view = ipywidgets.HBox([left, right], layout=ipywidgets.Layout(flex_flow="row wrap"))
        self._profile_chosen()

    def _profile_chosen(self) -> None:
        self._table = table.published(self.profile.value)
        before = self.experiment.value
        names = [name for name in explorer.VIEWS if explorer.view(self._table, name) is not None]
        self.experiment.options = names
        if not names:
            self.choices.children, self.rows.value = [], ""
            self.chart.value = "<p>Nothing that this profile has published has a figure here.</p>"
            return
        self.experiment.value = before if before in names else names[0]
        self._experiment_chosen()

    def _experiment_chosen(self) -> None:
        if self.experiment.value is None:  # for a moment, while the options change
            return
        self._shown = explorer.view(self._table, self.experiment.value)
        menus = []
        for column in self._shown.menus:
            options = sorted(self._shown.trials[column].unique().tolist(), key=str)
            labels = [(f"{o:,}" if isinstance(o, int) else str(o), o) for o in options]
            menu = ipywidgets.Dropdown(options=labels, description=figures.MENUS[column])
            menu.observe(lambda _: self._draw(), "value")
            menus.append(menu)
        self.choices.children = menus
        self._draw()

    def _draw(self) -> None:
        chosen = dict(zip(self._shown.menus, (menu.value for menu in self.choices.children), strict=True))
        means = self._shown.means
        for column, value in chosen.items():
            means = means[means[column] == value]
        spec = figures.curves(self._shown).to_dict()
        for parameter in spec["params"]:
            parameter.pop("bind", None)
            if "value" in parameter:
                parameter["value"] = {**chosen, "at": None}.get(parameter["name"], parameter["value"])
        for part in spec["vconcat"]:
            part["width"] = WIDTH
        self.chart.value = picture(spec, spec["description"])
        names = {"series": self._shown.series_title, "x": self._shown.x_title, "n": "trials", "mean": "mean"}
        names |= {"low": "95 % interval from", "high": "to"}
        shown = means[list(names)].rename(columns=names).round(3)
        self.rows.value = pages.rows_table(shown, "Means, with 95 % t-intervals from three trials up")
