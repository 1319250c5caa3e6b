"""Parts that pages include, made from files of the repository while the book is built: no page holds typed results.

What the published tables show is made here; what the package tells of itself in :mod:`companion.stacks`,
:mod:`companion.handbook`, :mod:`companion.lessons` and :mod:`companion.reference`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from scipy import stats as scipy_stats

from companion import (
    claims,
    comparisons,
    coverage,
    embed,
    explorer,
    figures,
    handbook,
    ledger,
    lessons,
    pages,
    profiles,
    reference,
    schedule,
    speed,
    stacks,
    stats,
    surgery,
    table,
    views,
)
from companion.coverage import markdown
from companion.errors import TableUnavailable
from companion.paths import MODELS, RESULTS
from companion.pocket.generate import GENERATORS, examples
from companion.theme import METRIC_TITLES

EXAMPLES = 3  # dev examples shown per pocket task and label


def pocket_examples() -> str:
    """The first dev examples of each label of each pocket task, as Markdown tables."""
    parts = []
    for name in GENERATORS:
        dev = pd.DataFrame(examples(name)[1]).drop(columns="idx")
        parts.append(f"**{name}**\n\n{markdown(dev.groupby('label').head(EXAMPLES))}")
    return "\n\n".join(parts) + "\n"


def pretraining_log() -> str:
    """PocketBERT's held-out losses and accuracies at every eighth checkpoint, and at the last."""
    log = pd.read_csv(MODELS / "pocket-bert" / "training_log.csv")
    names = {"word_loss": "masked-word loss (nats)", "pair_loss": "pair loss (nats)"}
    names |= {"word_accuracy": "masked-word accuracy", "pair_accuracy": "pair accuracy"}
    shown = log[(log.index % 8 == 7) | (log.index == len(log) - 1)]
    counts = {"step": "{:,}".format, "layers": str}
    rounded = {column: shown[column].map(counts.get(column, "{:.3f}".format)) for column in shown}
    return markdown(pd.DataFrame(rounded).rename(columns=names))


def tuning() -> str:
    """For each tuned profile: mean score per task and learning rate on the tuning pool, and the best rate."""
    parts = []
    for path in sorted(RESULTS.glob("tuning-*.csv")):
        scores = _tuned(path)
        label = scores["task"] + " (" + scores["metric"].map(METRIC_TITLES) + ")"
        rows = ["task", "training examples"]
        named = scores.assign(task=label).rename(columns={"train_size": rows[1]})
        means = named.pivot_table("score", rows, "learning_rate", sort=False)
        best = means.mean().idxmax()
        means.loc[("mean", ""), :] = means.mean()
        means.columns = [f"{rate:g}" for rate in means.columns]
        shown = means.map("{:.3f}".format).reset_index()
        name = path.stem.removeprefix("tuning-")
        seeds = ", ".join(map(str, sorted(scores["seed"].unique())))
        parts.append(
            f"**Profile `{name}`** ({scores['model'].iloc[0]}, {len(scores)} trials, seeds "
            f"{seeds}): the best mean is at **{best:g}**.\n\n{markdown(shown)}"
        )
    return "\n\n".join(parts) + "\n"


def _tuned(path: Path) -> pd.DataFrame:
    """The scores of a tuning; :class:`TableUnavailable` for a damaged file."""
    try:
        scores = pd.read_csv(path)
        return scores.astype({"learning_rate": float, "train_size": int, "score": float, "task": str, "metric": str,
                              "seed": int, "model": str})  # fmt: skip
    except (OSError, ValueError, KeyError) as error:
        raise TableUnavailable(f"{path} is not the table it should be", "restore it, or tune again") from error


def published() -> str:
    """What has been run and published, and what is missing: a row per profile and experiment."""
    return coverage.told(coverage.read())


def published_in_short() -> str:
    """The same in a row per profile."""
    return coverage.summary(coverage.read())


def scorecard() -> str:
    """Every claim with its rule, and its verdict for each published profile with evidence and trial ids."""
    judged = [verdict for name in table.published_profiles() for verdict in claims.judge(table.checked(name))]
    return _verdicts(judged) + "".join(_claim(claim, judged) for claim in ledger.CLAIMS)


def _verdicts(judged: list[claims.Verdict]) -> str:
    """One line per claim, one column per profile: its verdict, and how many comparisons say what."""
    profiles = list(dict.fromkeys(verdict.profile for verdict in judged))
    rows = []
    for claim in ledger.CLAIMS:
        found = {v.profile: f"{SIGNS[v.verdict]}\u00a0{v.verdict}{_counts(v)}" for v in judged if v.id == claim.id}
        rows.append({"claim": f"[{claim.id}](#{claim.id.lower()})", "says": claim.statement, **found})
    return markdown(pd.DataFrame(rows, columns=["claim", *profiles, "says"])) + "\n"


SIGNS = {claims.SUPPORTED: "✓", claims.NOT_SUPPORTED: "✗", claims.UNDECIDED: "?"}
SIDES = {claims.SUPPORTED: "for", claims.NOT_SUPPORTED: "against", claims.UNDECIDED: "open"}


def _counts(verdict: claims.Verdict) -> str:
    """How many comparisons speak for the claim, against it, or for neither; those that there are."""
    counts = Counter(case.verdict for case in verdict.evidence)
    told = ", ".join(f"{counts[side]}\u00a0{word}" for side, word in SIDES.items() if counts[side])
    return f"<br>{told}" if told else ""


def _comparisons(verdict: claims.Verdict) -> str:
    """Every comparison of a verdict, each as it stands by itself, as a table that folds away (HTML of one line)."""
    rows = [
        {
            "comparison": case.setting,
            "found": "" if math.isnan(case.statistic) else f"{case.statistic:+z.3f}",
            "95 % interval": "" if case.low is None else f"{case.low:+z.3f} to {case.high:+z.3f}",
            "n": case.n or "",
            "by itself": SIDES[case.verdict],
            "note": case.note,
        }
        for case in verdict.evidence
    ]
    listed = pd.DataFrame(rows)
    listed = listed if listed["note"].any() else listed.drop(columns="note")
    drawn = pages.rows_table(listed, f"Comparisons of {verdict.id}, {verdict.profile}").replace("\n", "")
    return f"<details><summary>Every comparison ({len(rows)})</summary>{drawn}</details>"


def _claim(claim: ledger.Claim, judged: list[claims.Verdict]) -> str:
    shown = " and ".join(f"[{name.replace('_', ' ')}](../notebooks/{name})" for name in claim.notebooks)
    parts = [
        f"({claim.id.lower()})=\n## {claim.id}\n\n{claim.statement}\n\n**Decided by** {claim.quantity}\n\n"
        f"**Rule.** {claim.rule} Trials and figures: {shown}.\n"
    ]
    for verdict in (v for v in judged if v.id == claim.id):
        reason = verdict.reason[:1].upper() + verdict.reason[1:]
        parts.append(f"- `{verdict.profile}`: **{verdict.verdict}**. {reason}{_figure_links(claim, verdict.profile)}")
        if verdict.to_decide:
            parts.append(f"\n  *To decide it:* {verdict.to_decide}.")
        if verdict.trial_ids:
            parts.append(
                f"\n  {_comparisons(verdict)}\n"
                f"\n  <details><summary>Trials behind it ({len(verdict.trial_ids):,})</summary>"
                f"<code>{' '.join(verdict.trial_ids)}</code></details>\n"
            )
    return "\n".join(parts) + "\n\n"


def _figure_links(claim: ledger.Claim, profile: str) -> str:
    """Links to the figures that show this profile's trials, where pages have them (HTML, as figures are)."""
    suffix = {"pocket": "", "minilm": "-minilm"}.get(profile)
    if suffix is None:
        return ""
    links, trials = [], table.published_or_empty(profile)
    for name in claim.notebooks:
        shown = trials[trials["experiment"] == name].query(ledger.TRIALS_OF[name], engine="python")
        if len(shown):  # else the page has a sentence there instead
            anchor = f"figure-{name.replace('_', '-')}{suffix}"
            title = f"Figure of {name.replace('_', ' ')}" if len(claim.notebooks) > 1 else "Figure"
            links.append(f' <a href="../notebooks/{name}.html#{anchor}">{title}</a>')
    return "".join(links)


def _speed(part: Callable[[speed.Rows], pd.DataFrame | str]) -> Callable[[], str]:
    """A part of the page on speed: a table, or a figure's HTML; a sentence where nothing of it was measured."""

    def made() -> str:
        found = part(speed.load())
        if not len(found):
            return "*Not measured yet: `make bench`.*\n"
        return f"```{{raw}} html\n{found}\n```\n" if isinstance(found, str) else markdown(found)

    return made


SCHEDULED = "minilm"  # the published profile whose trial times are the most like the paper's: real data, real model
WORKERS = (1, 2, 4, 8, 16, 32, 64)


def scaling() -> str:
    """The published trials of one profile, with the times they took, scheduled on more and more workers."""
    sweeps = schedule.sweeps(table.published(SCHEDULED), list(profiles.load(SCHEDULED).experiments))
    seconds, rows = [length for sweep in sweeps for length in sweep], []
    for workers in WORKERS:
        taken, ideal = schedule.longest_first(seconds, workers), schedule.least(seconds, workers)
        in_turn = sum(schedule.in_order(sweep, workers) for sweep in sweeps)
        rows.append(
            {
                "workers": workers,
                "hours, one experiment after another": f"{in_turn / 3600:.2f}",
                "times as fast as one": f"{sum(seconds) / in_turn:.1f}",
                "hours, all at once, longest first": f"{taken / 3600:.2f}",
                "no schedule is below": f"{ideal / 3600:.2f}",
                "worst case in general": f"{100 * (schedule.worst(workers) - 1):.0f} % above the best",
            }
        )
    device = ", ".join(sorted(table.published(SCHEDULED)["device"].unique()))
    head = (
        f"Profile `{SCHEDULED}`: {len(seconds):,} groups of trials (the longest {max(seconds) / 60:.1f} minutes, "
        f"{sum(seconds) / 3600:.1f} hours together), as published; measured on: {device}, one thread a worker.\n\n"
    )
    return head + markdown(pd.DataFrame(rows))


CENTRAL = "pocket"  # the profile with several train sizes and probes


def central_result() -> str:
    """The paper's central question as one picture: what layers are worth, by data, beside what probes read off them."""
    trials = table.published(CENTRAL)
    trials = comparisons.distinct(trials[trials["experiment"].isin(["progressive", "data_scaling", "probing"])])
    view = views.transfer_and_probing(trials)
    caption = (
        "Fine-tuned: the first k pretrained layers are kept, the others are random before everything is fine-tuned. "
        "Frozen: a probe, which is a logistic regression, reads what the first k layers of the intact model give, at "
        "the first token or averaged over all tokens. New weights as the paper's text describes them (described). "
        f"Means of {pages.counted(view.means['n'], 'seed')}. "
        f"{pages.INTERVAL} {pages.about(trials)} Published trials."
    )
    return embed.on_page(figures.curves(view), name="central", caption=caption, rows=view.means) + "\n"


def central_takeaway() -> str:
    """What the picture shows, in numbers: the worth of all layers together, by task and size."""
    return pages.takeaway(table.published(CENTRAL).query("experiment == 'progressive'")).data + "\n"


def layer_surgery(profile: str, width: int) -> Callable[[], str]:
    """The picture of :mod:`companion.surgery` for a published profile, with blocks of ``width``."""

    def made() -> str:
        trials = table.published(profile)
        found, depth = surgery.scores(trials, width), int(trials["layers"].max())
        caption = (
            f"{trials['model'].iloc[0]}, published trials of profile {profile}, described protocol: a point for every "
            "change of the layers, the mean of its seeds; the line joins those with the last layers random. The "
            "diamond is the change that is chosen, with its 95 % Student-t interval (from three seeds up). Dev split."
        )
        drawn = surgery.chart(found, depth, width)
        return embed.on_page(drawn, name=f"surgery-{profile}", caption=caption, rows=found) + "\n"

    return made


def any_experiment() -> str:
    """Every experiment of every published profile in one picture, by menus."""
    tables = {name: table.published(name) for name in table.published_profiles()}
    largest_first = sorted(tables, key=lambda name: -len(tables[name]))
    found = explorer.collected({name: tables[name] for name in largest_first})
    caption = (
        "Published trials of every profile and experiment. Large points are means of the seeds, with 95 % Student-t "
        "intervals from three seeds up; small dots are single trials, whose identifiers are told by pointing at them. "
        "Dev split."
    )
    lines = explorer.references(found).assign(series="intact (horizontal line)")
    rows = pd.concat([explorer.points(found).drop(columns=explorer.TRIAL), lines], ignore_index=True)
    return embed.on_page(explorer.chart(found), name="any-experiment", caption=caption, rows=rows) + "\n"


def error_bars() -> str:
    """What the released error bars cover beside what 95 % takes, by the number of values; computed, not quoted."""
    rows = []
    for n in (2, 3, 5, 10, 50):
        own = stats.RELEASED_MULTIPLIER * ((n - 1) / n) ** 0.5  # in units of the sample deviation over the root of n
        rows.append(
            {
                "runs": n,
                "released bar, in standard errors": f"{own:.2f}",
                "needed for 95 %": f"{scipy_stats.t.ppf(0.975, n - 1):.2f}",
                "what the released bar covers": f"{100 * stats.released_coverage(n):.0f} %",
            }
        )
    return markdown(pd.DataFrame(rows))


def diverged() -> str:
    """The share of diverged fine-tunings by profile, train size and what was done to the layers, with its interval."""
    parts = []
    for name in table.published_profiles():
        tuned = _usual_trials(name, ["intact", "suffix", "all"])
        found = comparisons.diverged_share(tuned, ["train_size", "protocol", "kind"])
        bounds = zip(found["low"], found["high"], strict=True)
        rows = {
            "profile": f"`{name}`",
            "training examples": found["train_size"].map("{:,}".format),
            "layers": found["kind"].map({"intact": "intact", "suffix": "upper ones random", "all": "all random"}),
            "protocol": found["protocol"].where(found["kind"] != "intact", "–"),
            "diverged": [f"{d} of {n}" for d, n in zip(found["diverged"], found["n"], strict=True)],
            "share": [f"{100 * share:.0f} %" for share in found["share"]],
            "95 % interval": [f"{100 * low:.0f} to {100 * high:.0f} %" for low, high in bounds],
        }
        parts.append(pd.DataFrame(rows))
    return markdown(pd.concat(parts))


def _usual_trials(profile: str, kinds: list[str]) -> pd.DataFrame:
    """A profile's published fine-tunings of these kinds, each once, without controls and without longer trainings."""
    trials = comparisons.distinct(comparisons.plain(table.published(profile)))
    return comparisons.usual_epochs(trials[trials["kind"].isin(kinds)])


def spread_of_seeds() -> str:
    """How far scores of trials that differ in nothing but the seed lie apart: intact, and with every layer random."""
    rows = []
    for name in table.published_profiles():
        usual = _usual_trials(name, ["intact", "all"]).query("protocol == 'described'")
        for key, found in usual.groupby(["task", "metric", "train_size", "kind"], sort=False):
            if len(found) < stats.FEWEST:
                continue
            numbers = found["score"].agg(["min", "mean", "max", "std"])
            task = f"{key[0]} ({METRIC_TITLES[key[1]]})"
            rows.append([f"`{name}`", task, f"{key[2]:,}", KINDS[key[3]], len(found)])
            rows[-1] += [f"{number:.3f}" for number in numbers]
    names = ["profile", "task", "training examples", "layers", "seeds", "lowest", "mean", "highest"]
    return markdown(pd.DataFrame(rows, columns=[*names, "standard deviation"]))


KINDS = {"intact": "intact", "all": "all random"}

PARTS: dict[str, Callable[[], str]] = {
    "pocket-examples.md": pocket_examples,
    "pretraining-log.md": pretraining_log,
    "tuning.md": tuning,
    "coverage.md": published,
    "coverage-in-short.md": published_in_short,
    "scorecard.md": scorecard,
    "speed-aims.md": _speed(speed.aims_table),
    "speed-trials.md": _speed(speed.trials_table),
    "speed-trials-figure.md": _speed(speed.trials_figure),
    "speed-precision.md": _speed(speed.precision_table),
    "speed-phases.md": _speed(speed.phases_table),
    "speed-operations.md": _speed(speed.operations_table),
    "speed-growth-figure.md": _speed(speed.growth_figure),
    "speed-machines.md": _speed(speed.where_table),
    "speed-rate.md": lambda: speed.matrix_rate_sentence(speed.load()) + "\n",
    "scaling.md": scaling,
    "central-result.md": central_result,
    "central-takeaway.md": central_takeaway,
    "surgery-pocket.md": layer_surgery("pocket", 3),
    "surgery-minilm.md": layer_surgery("minilm", 2),
    "any-experiment.md": any_experiment,
    "error-bars.md": error_bars,
    "diverged.md": diverged,
    "spread-of-seeds.md": spread_of_seeds,
    "anatomy.md": stacks.anatomy,
    "layer-parameters.md": stacks.layer_parameters,
    "initializers.md": stacks.initializers,
    "stacks-overview.md": stacks.stacks_overview,
    "stacks-progressive.md": stacks.stacks_progressive,
    "stacks-probing.md": stacks.stacks_probing,
    "stacks-localized.md": stacks.stacks_localized,
    "stacks-permutation.md": stacks.stacks_permutation,
    "stacks-single.md": stacks.stacks_single,
    "protocol-fields.md": handbook.protocol_fields,
    "parameters.md": handbook.parameters,
    "profiles.md": handbook.shipped_profiles,
    "costs.md": handbook.costs,
    "cost-of-a-trial.md": handbook.cost_of_a_trial,
    "models-used.md": handbook.models_used,
    "data-used.md": handbook.data_used,
    "troubles.md": handbook.troubles,
    "lessons.md": lessons.lesson_table,
    "reference.md": reference.reference,
    "columns.md": reference.columns,
    "changelog.md": reference.changelog,
    "bibtex.md": reference.bibtex,
}


def write(folder: Path) -> None:
    """Write every part into ``folder``, for pages to include."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in PARTS.items():
        (folder / name).write_text(part(), encoding="utf-8")
    (folder / "downloads.md").write_text(reference.downloads(folder / "files"), encoding="utf-8")
