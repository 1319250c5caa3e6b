"""Parts of a page that are neither figure nor prose: run cards, sentences and small tables, all from the tidy table."""

from __future__ import annotations

import contextlib
import html
import math
from collections.abc import Callable, Iterable

import pandas as pd
from IPython.display import HTML, Markdown

from companion import authors, comparisons, coverage, embed, figures, ledger, views, worth
from companion import table as tables
from companion.errors import TableUnavailable
from companion.quantities import WELL
from companion.scores import DELTA
from companion.study import Study
from companion.theme import METRIC_TITLES
from companion.views import View

INTERVAL = "Bands and bars are 95\u00a0% Student-t intervals of the mean, drawn from three seeds up. Dev split."
UNPAIRED = Markdown("*No trial here can be paired with an intact one of the same seed.*")


def run_card(table: pd.DataFrame, title: str) -> HTML:
    """What the numbers below it come from: profile, model, data, trials, seeds, settings, commit, device, dates."""
    days = pd.to_datetime(table["finished_at"], format="ISO8601").dt.strftime("%Y-%m-%d")
    finished = " to ".join(dict.fromkeys([days.min(), days.max()]))
    lines = {
        "profile": _values(table["profile"]),
        "model": f"{_values(table['model'])} ({_values(table['layers'])} layers, weights {_values(table['weights'])})",
        "scored on": ", ".join(
            f"{task} dev split ({METRIC_TITLES[rows['metric'].iloc[0]]}, data {_values(rows['data'])})"
            for task, rows in table.groupby("task", sort=False)
        ),
        "trials": f"{len(table):,}: train sizes {_values(table['train_size'])}; seeds {_values(table['seed'])}",
        **_planned(table),
        **_one_class(table),
        "settings": f"{_steps(table)}at most {_values(table['max_length'])} tokens, {_values(table['precision'])}",
        "run on": f"{_values(table['device'])}, {_values(table['processor'])}, {_values(table['threads'])} thread each",
        "code": f"commit {_values(table['git_commit'])}",
        "finished": f"{finished}, {table['seconds'].sum() / 3600:.2f} core-hours",
    }
    rows = "".join(f"<dt>{name}</dt><dd>{html.escape(value)}</dd>" for name, value in lines.items())
    return HTML(f'<aside class="companion-card"><p><strong>{html.escape(title)}</strong></p><dl>{rows}</dl></aside>')


def _planned(table: pd.DataFrame) -> dict[str, str]:
    """How much of the grid of each published profile is there; nothing where no grid is known."""
    known = coverage.read().merge(table[["profile", "experiment"]].drop_duplicates())
    told = [
        f"all {row.planned:,} of profile {row.profile} are published"
        if row.published == row.planned
        else f"{row.published:,} of {row.planned:,} of profile {row.profile} are published, the others not yet"
        for row in known.itertuples()
    ]
    return {"planned": ". ".join(told)} if told else {}


def _one_class(table: pd.DataFrame) -> dict[str, str]:
    """How many trials diverged; a probe does not diverge, but it may say one class of everything."""
    diverged, failed = int(table["diverged"].sum()), int((table["failure"] != "").sum())
    if (table["kind"] == "probe").all():
        not_finite = f", {failed} by a loss that was not finite" if failed else ""
        return {"one class only": f"{diverged:,} of these probes{not_finite}"}
    return {"diverged": f"{diverged}: every prediction one class, or (in {failed}) a loss that was not finite"}


def _steps(table: pd.DataFrame) -> str:
    """The settings of the steps that were taken; logistic probes take none."""
    stepless = table["learning_rate"].isna()
    told = f"learning rate {_values(table['learning_rate'])}, batch {_values(table['batch_size'])}, "
    told += f"epochs {_values(table['epochs'])}"
    if stepless.all():
        return "logistic probes, which take no steps; "
    return f"{told} (released probes alone; logistic ones take no steps); " if stepless.any() else f"{told}, "


def _values(column: pd.Series) -> str:
    values = sorted(column.dropna().unique().tolist())
    return ", ".join(f"{v:g}" if isinstance(v, float) else f"{v:,}" if isinstance(v, int) else str(v) for v in values)


def about(trials: pd.DataFrame) -> str:
    """The model and the tasks of these trials, as a sentence for a caption."""
    return f"Model {_listed(trials['model'].unique())} on {_listed(trials['task'].unique())}."


def _caption(caption: str, view: View) -> str:
    """A figure's caption: what it shows, of which model and tasks, how many trials a point has, what the bands are."""
    moved = "" if view.joins or len(view.members) == 1 else "Points at one place are moved apart. "
    return f"{caption} {about(view.trials)} {counted(view.means['n'], 'trial')} a point. {moved}{INTERVAL}"


def counted(numbers: pd.Series, what: str) -> str:
    """From the smallest to the largest of these numbers of something: "1 trial", "3 to 5 seeds"."""
    fewest, most = int(numbers.min()), int(numbers.max())
    return f"{fewest} to {most} {what}s" if fewest < most else f"{most} {what}{'s' if most > 1 else ''}"


def _listed(values: Iterable[object]) -> str:
    """ "a", "a and b", "a, b and c"."""
    *first, last = map(str, values)
    return f"{', '.join(first)} and {last}" if first else last


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def agreement(study: Study) -> Markdown:
    """Whether this run's trials agree with the published ones, in a sentence or two."""
    if study.this_run.empty:
        return Markdown("No trials of this run are stored: what you see are the published trials alone.")
    trials = _number(len(study.this_run), "trial")
    if study.published.empty:
        return Markdown(f"This run has {trials}; nothing is published for its profile to compare them with.")
    found = comparisons.agreement(study.this_run, study.published)
    text = f"This run has {trials}"
    if found.equal == len(study.this_run):
        text = f"All {trials} of this run are published, with the same scores"
        text = "The one trial of this run is published, with the same score" if found.equal == 1 else text
    elif found.same_trials:
        are = "is" if found.same_trials == 1 else "are"
        text += f"; {found.same_trials:,} {are} published too, {found.equal:,} with the same score"
        if found.equal < found.same_trials:
            text += f" (the largest difference is {found.largest:.4f})"
    text = f"**This run and the published trials.** {text}."
    if found.conditions:
        text += (
            f" In {_number(found.conditions, 'further condition')} the same seeds were run on other weights, data or "
            f"code; the 95 % interval of their paired difference excludes zero in {found.apart:,}."
        )
    return Markdown(text)


def figure(study: Study, view_of: Callable[[pd.DataFrame], View], *, name: str, caption: str) -> HTML:
    """An experiment's figure: the trials of the study as ``view_of`` arranges them, this run's marked by rings."""
    view = view_of(study.table)
    shown = study.this_run["train_size"].isin(view.trials["train_size"])  # no ring of a size that has no line here
    try:
        fresh = view_of(study.this_run[shown])
    except TableUnavailable:  # nothing of this run belongs in this figure
        fresh = None
    return embed.show(figures.curves(view, fresh), name=name, caption=_caption(caption, view), rows=view.drawn_means)


def published_figure(
    profile: str, experiment: str, view_of: Callable[[pd.DataFrame], View], *, name: str, caption: str
) -> HTML | Markdown:
    """The published trials of another profile, with their run card; a sentence where there are none.

    Trials that an experiment shares with others (a control's lines without the control) are no figure of it.
    """
    trials = tables.published_or_empty(profile).query("experiment == @experiment").reset_index(drop=True)
    own = ledger.TRIALS_OF.get(experiment)
    if len(trials) and own and trials.query(own, engine="python").empty:
        return Markdown(f"*Of this experiment, profile `{profile}` has published only what other pages share.*")
    try:
        view = view_of(trials)
    except TableUnavailable:
        return Markdown(f"*Profile `{profile}` has no published trials of this experiment yet.*")
    card = run_card(trials, f"Published trials: profile {profile}")
    drawn = embed.show(figures.curves(view), name=name, caption=_caption(caption, view), rows=view.drawn_means)
    return HTML(card.data + drawn.data)


def intact_and_random(trials: pd.DataFrame, *, name: str) -> HTML | Markdown:
    """The intact model and the one with every layer redrawn by train size; a sentence where there is neither."""
    try:
        chart = figures.intact_vs_random(trials)
    except TableUnavailable:
        return Markdown("*Neither the intact model nor one with every layer random is here.*")
    caption = "The intact model and the one with every layer redrawn (described initialization), by train size."
    rows = figures.intact_means(trials).query("protocol == 'described'")
    return embed.show(chart, name=name, caption=f"{caption} {about(trials)} {INTERVAL}", rows=rows)


def worth_by_size(trials: pd.DataFrame, profiles: list[str], *, name: str, caption: str) -> HTML | Markdown:
    """What layers are worth by train size, in these trials and in what is published of data scaling in ``profiles``."""
    others = [tables.published_or_empty(profile).query("experiment == 'data_scaling'") for profile in profiles]
    everything = comparisons.named_apart(comparisons.distinct(pd.concat([trials, *others], ignore_index=True)))
    try:
        found = worth.worth(everything)
    except TableUnavailable:
        return UNPAIRED
    seeds = counted(found["n"], "seed")
    models = _listed(found["model"].unique())
    caption = f"{caption} Models {models}; tasks {_listed(sorted(found['task'].unique()))}; {seeds} a point. "
    caption += "The axis of training examples is logarithmic, and points at one size are moved apart. "
    return embed.show(worth.chart(found), name=name, caption=caption + INTERVAL, rows=found)


def beside_authors(
    kind: str,
    experiments: list[str],
    view_of: Callable[[pd.DataFrame], View],
    *,
    random_rate: float = 1.0,
    name: str,
    caption: str,
) -> HTML:
    """The authors' early plots of one kind; over them, what is published of these experiments on the same tasks."""
    early = authors.early_plots(kind, random_rate)
    found = []
    for profile in tables.published_profiles():
        trials = tables.published(profile)
        alike = trials["task"].isin(early["task"]) & trials["experiment"].isin(experiments)
        with contextlib.suppress(TableUnavailable):  # a profile without such trials
            found.append(view_of(comparisons.distinct(trials[alike])).trials)
    rows = pd.concat([tables.tidy([], experiment="", profile=""), *found])
    rows = comparisons.named_apart(rows.drop_duplicates(["trial_id", "protocol"]))  # a view repeats some by protocol
    x_title = {"suffix": "layers that stay pretrained (%)", "probe": "layers below the probe (%)"}[kind]
    runs = {"suffix": "how many runs are behind a point is not known", "probe": "each point is a single run"}[kind]
    note = (
        f"The curves of {authors.MODEL} are values read off the authors' early plots (October 2020), to about ±0.002. "
        f"They are not the paper's results, and {runs}. "
    )
    models, tasks = (", ".join(rows[column].unique()) for column in ("model", "task"))
    ours = f"Beside them are means of our trials of {models} on {tasks}; bands are their 95 % intervals."
    note += ours if len(rows) else "Nothing of ours is published yet."
    chart = figures.beside_authors(early, rows, x_title)
    drawn = figures.with_authors(early, rows)
    return embed.show(chart, name=name, caption=f"{caption} {note} Dev split.", rows=drawn)


def differences(rows: pd.DataFrame, what: str) -> HTML | Markdown:
    """A table of paired differences; ``what`` names the difference in its heading."""
    if rows.empty:
        return Markdown("*No two trials here can be paired.*")
    if "random_rate" in rows:
        rows = rows.assign(random_rate=rows["random_rate"].map("× {:g}".format))
    columns = ["task", "metric", "train_size", "protocol", "random_rate", "preserved_layers"]
    shown = _with_intervals(rows, [c for c in columns if c in rows], what)
    head = f"<p>Of {_number(len(rows), 'difference')}, {_intervals(rows)}{_by_itself(rows)}.</p>"
    return HTML(head + rows_table(shown, "Differences"))


def _with_intervals(rows: pd.DataFrame, columns: list[str], what: str, series_title: str = "series") -> pd.DataFrame:
    """Columns, the difference ``what`` in ``mean``, its interval and n, as a reader sees them."""
    shown = rows.assign(
        mean=[f"{mean:+z.3f}" for mean in rows["mean"]],
        interval=[_interval(low, high) for low, high in zip(rows["low"], rows["high"], strict=True)],
    )
    names = {"train_size": "training examples", "preserved_layers": "layers preserved", "random_rate": "rate"}
    names |= {"series": series_title, "mean": what, "interval": "95 % interval", "n": "seeds"}
    return shown[[*columns, "mean", "interval", "n"]].rename(columns=names)


def _by_itself(rows: pd.DataFrame) -> str:
    return "; each interval is of one by itself" if len(rows) > 1 else ""


def _interval(low: float, high: float) -> str:
    return "fewer than three seeds" if pd.isna(low) else f"{_bound(low)} to {_bound(high)}"


def _bound(value: float) -> str:
    """Three digits, or as many as it takes, up to six, to say on which side of zero it is."""
    digits = 3 if abs(value) >= 0.0005 or abs(value) < 1e-6 else -math.floor(math.log10(abs(value)))
    return f"{value:+z.{digits}f}"


def _intervals(rows: pd.DataFrame) -> str:
    """How many intervals lie above zero and how many below, and how many differences have none."""
    above, below, none = (int(found.sum()) for found in (rows["low"] > 0, rows["high"] < 0, rows["low"].isna()))
    text = f"{above} {_have(above)} an interval above zero and {below} below zero"
    return text + (f"; {none} {_have(none)} fewer than three seeds and so no interval" if none else "")


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def costs(trials: pd.DataFrame, view_of: Callable[[pd.DataFrame], View]) -> HTML | Markdown:
    """What each change of a figure costs: intact minus changed, paired by seed; the extremes per task first, and last
    what is left of the benefit: changed minus every layer redrawn ("embeddings only")."""
    view = view_of(trials)
    found, kept = (_effects_in(view, comparisons.effects(trials, reference)) for reference in ("intact", "all"))
    kept = kept[kept["kind"] != "all"]  # a control of the same: there is nothing left of layers that are all random
    if found.empty:
        return UNPAIRED
    found = found.assign(mean=-found["mean"], low=-found["high"], high=-found["low"])
    protocol = ["protocol"] if found["protocol"].nunique() > 1 else []
    named = [view.named(series, x) for series, x in zip(found["series"], found["x"], strict=True)]
    found["named"] = found["protocol"] + ", " + named if protocol else named
    lines = [_cost_line(*key, rows) for key, rows in found.groupby(["task", "train_size"], sort=False)]
    columns = ["task", "metric", "train_size", *protocol, "epochs", "series", view.x_title]
    shown = _effects_table(found.rename(columns={"x": view.x_title}), columns, "cost", view.series_title)
    if len(kept):
        kept = kept.rename(columns={"x": view.x_title})
        fold = f"What is left: the score minus that with every layer random, {_number(len(kept), 'difference')}"
        shown += _effects_table(kept, columns, "left", view.series_title, fold)
    return HTML(f"<ul>{''.join(lines)}</ul>" + shown)


COST_KEYS = ["task", "train_size", "epochs", *comparisons.INTERVENTION]


def _effects_in(view: View, effects: pd.DataFrame) -> pd.DataFrame:
    """The effects of what a figure shows, each with its series and place."""
    places = view.trials[[*COST_KEYS, "series", "x"]].drop_duplicates()
    return effects.merge(places, on=COST_KEYS).sort_values([*COST_KEYS[:2], "protocol", "epochs", "series", "x"])


def _cost_line(task: str, size: int, rows: pd.DataFrame) -> str:
    most, least = rows.loc[rows["mean"].idxmax()], rows.loc[rows["mean"].idxmin()]
    if len(rows) == 1:
        told = f"the only mean cost is {_signed(most)} ({most['named']})"
    else:
        told = f"the largest mean cost is {_signed(most)} ({most['named']}), the smallest {_signed(least)} "
        told += f"({least['named']}). Of {len(rows)} costs, {_intervals(rows)}"
    return f"<li><strong>{html.escape(task)}</strong>, {size:,} examples: {html.escape(told)}.</li>"


def _signed(row: pd.Series) -> str:
    return f"{row['mean']:+z.3f} [{_interval(row['low'], row['high'])}]"


def _effects_table(
    rows: pd.DataFrame, columns: list[str], what: str, series_title: str = "series", fold: str = ""
) -> str:
    """A table of differences that is folded under ``fold``."""
    shown = _with_intervals(rows, columns, what, series_title)
    fold = fold or f"All {len(shown):,} differences"
    return f"<details><summary>{fold}</summary>{rows_table(shown, fold)}</details>"


def rows_table(rows: pd.DataFrame, label: str) -> str:
    """A table that scrolls by itself where the page is narrow; ``label`` names it for screen readers."""
    sizes = {"training examples": lambda size: size if isinstance(size, str) else f"{size:,}"}
    drawn = rows.to_html(index=False, border=0, justify="left", na_rep="", formatters=sizes)
    return f'<div class="companion-rows" tabindex="0" role="group" aria-label="{label}">{drawn}</div>'


def probe_gains(trials: pd.DataFrame) -> HTML:
    """For each kind of probe: its score on the embeddings, its best mean, the first layer that probes well.

    Its selectivity at the best layer is the mean there minus that of the probe of random labels. Without probes of the
    embeddings there is nothing to gain from.
    """
    view, by = views.probing(trials), ["task", "train_size", "series", "x"]
    every, rows = view.means.set_index(by)["mean"], []
    for key, curve in view.means.groupby(["task", "metric", "train_size", "series"], sort=False):
        means = curve.set_index("x")["mean"].sort_index().round(9)  # equal scores may differ in their last bit
        start = means.get(0, math.nan)
        gain = means.max() - start
        reached = means.index[means >= start + WELL * gain][0] if gain > 0 else "no gain" if gain == 0 else ""
        task, _, size, series = key
        above = means.max() - every.get((task, size, series + views.CONTROL, means.idxmax()), math.nan)
        best = [f"{means.max():.3f}", means.idxmax(), "" if math.isnan(above) else f"{above:+z.3f}"]
        rows.append([*key, "" if math.isnan(start) else f"{start:.3f}", *best, reached, int(curve["n"].min())])
    names = ["task", "metric", "training examples", "probe", "on the embeddings", "best mean", "at layer"]
    shown = pd.DataFrame(rows, columns=[*names, "selectivity there", f"{WELL:.0%} of the gain at layer", "seeds"])
    return HTML(rows_table(shown, "Gains of probes"))


def task_correlations(trials: pd.DataFrame) -> HTML | Markdown:
    """Correlations between tasks over permutations, with their intervals and the number of permutations."""
    found = comparisons.task_correlations(trials)
    if found.empty:
        return Markdown("*Correlations between tasks need two tasks with the same permutations.*")
    rows = {
        "training examples": found["train_size"],
        "tasks": found["first_task"] + " and " + found["second_task"],
        **{name.title(): [_correlation(row, name) for _, row in found.iterrows()] for name in ("spearman", "pearson")},
        "permutations": found["n"],
    }
    return HTML(rows_table(pd.DataFrame(rows), "Correlations between tasks"))


def _correlation(row: pd.Series, name: str) -> str:
    value, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
    if pd.isna(value):
        return "undefined"
    return f"{value:+z.2f} " + ("(no interval)" if pd.isna(low) else f"({low:+z.2f} to {high:+z.2f})")


def diverged(trials: pd.DataFrame) -> HTML:
    """The share of diverged trials for each number of preserved layers, with Wilson's interval."""
    by = ["task", "train_size", "protocol", "preserved_layers"]
    found = comparisons.diverged_share(trials, by)
    shares = [f"{r['share']:.2f} ({r['low']:.2f} to {r['high']:.2f})" for _, r in found.iterrows()]
    shown = found[by].assign(diverged=shares, trials=found["n"])
    shown = shown.rename(columns={"train_size": "training examples", "preserved_layers": "layers preserved"})
    return HTML(rows_table(shown, "Shares of diverged trials"))


def two_groups(trials: pd.DataFrame) -> HTML | Markdown:
    """Whether the diverged trials of a condition and its others stand apart, where it has both kinds."""
    by, rows = ["task", "train_size", "protocol", "preserved_layers", "metric"], []
    for key, group in comparisons.distinct(trials).groupby(by):
        diverged, others = (group.loc[group["diverged"] == kind, "score"] for kind in (True, False))
        if len(diverged) and len(others):
            apart = others.min() - diverged.max() > DELTA[key[-1]]
            scores = [f"{diverged.mean():.3f}", f"{others.min():.3f}", f"{others.max():.3f}"]
            rows.append([*key, len(diverged), len(others), *scores, "apart" if apart else "not apart"])
    if not rows:
        return Markdown("*No condition has both diverged trials and others, so there are no two groups to compare.*")
    names = ["task", "training examples", "protocol", "layers preserved", "metric", "diverged", "others"]
    names += ["mean of the diverged", "lowest of the others", "highest of the others", "groups"]
    shown = pd.DataFrame(rows, columns=names)
    margins = " or ".join(f"{DELTA[metric]:g} ({METRIC_TITLES[metric]})" for metric in shown["metric"].unique())
    head = (
        f"<p>In {(shown['groups'] == 'apart').sum()} of {_number(len(shown), 'condition')} with both diverged trials "
        f"and others the two groups stand apart, which is to say: the lowest of the others is more than {margins} "
        f"above the highest diverged.</p>"
    )
    return HTML(head + rows_table(shown, "Diverged and other trials"))


def longer_training(trials: pd.DataFrame) -> HTML | Markdown:
    """Score with the most epochs minus score with the fewest, paired by seed, for each protocol and task."""
    if trials.empty:
        return Markdown("*No trial of this experiment is here.*")
    fewest, most = int(trials["epochs"].min()), int(trials["epochs"].max())
    by = ["model", "task", "metric", "train_size", "protocol", "preserved_layers"]
    short, long = (trials[trials["epochs"] == count] for count in (fewest, most))
    found = comparisons.differences(long, short, by)
    if fewest == most or found.empty:
        return Markdown("*Only one number of epochs was run.*")
    columns = ["task", "metric", "train_size", "protocol", "preserved_layers"]
    open_yet = "No answer yet: no difference has three seeds. " if found["low"].isna().all() else ""
    counts = f"Of {_number(len(found), 'difference')} between {most} and {fewest} epochs, {_intervals(found)}"
    counts += f"{_by_itself(found)}."
    return HTML(f"<p>{open_yet}{counts}</p>" + _effects_table(found, columns, f"{most} epochs − {fewest} epochs"))


def takeaway(table: pd.DataFrame) -> Markdown:
    """What the pretrained layers were worth in this table: one sentence per task, and how the worth moves with data."""
    worth, growth = comparisons.benefit(table), comparisons.growth(table)
    if worth.empty:
        return UNPAIRED
    lines = []
    for (task, metric), rows in worth.groupby(["task", "metric"], sort=False):
        parts = [f"{r['mean']:+z.3f} ({_interval(r['low'], r['high'])}) at {r['train_size']:,} examples"
                 for _, r in rows.sort_values("train_size").iterrows()]  # fmt: skip
        told = _shown(rows) + "".join(_grown(row) for _, row in growth[growth["task"] == task].iterrows())
        lines.append(f"- **{task}** ({METRIC_TITLES[metric]}): {'; '.join(parts)}. {told}.")
    head = (
        f"**What all pretrained layers together are worth** (intact minus every layer redrawn, `described` "
        f"initialization, paired by seed, {counted(worth['n'], 'seed')}, 95 % intervals):"
    )
    return Markdown(head + "\n\n" + "\n".join(lines))


def _shown(rows: pd.DataFrame) -> str:
    """At which train sizes a benefit is shown; never stronger than the intervals."""
    if rows["low"].isna().all():
        return "Too few seeds to say more"
    clear = rows[rows["low"] > 0]
    if clear.empty:
        return "No interval lies above zero: a benefit is not shown here"
    return f"The interval lies above zero at {_listed(f'{size:,}' for size in clear['train_size'])} examples"


def _grown(row: pd.Series) -> str:
    """How the worth at the largest train size differs from that at the smallest."""
    sizes = f"from {row['small']:,} to {row['large']:,} examples"
    return f"; {sizes} the worth changes by {row['mean']:+z.3f} ({_interval(row['low'], row['high'])})"
