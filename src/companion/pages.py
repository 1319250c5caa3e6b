"""Parts of a page that are neither figure nor prose: run cards, sentences and small tables, all from the tidy table."""

from __future__ import annotations

import html

import pandas as pd
from IPython.display import HTML, Markdown

from companion import comparisons
from companion.study import Study
from companion.theme import METRIC_TITLES


def run_card(table: pd.DataFrame, title: str) -> HTML:
    """What the numbers below it come from: profile, model, data, trials, seeds, settings, commit, device, dates."""
    days = pd.to_datetime(table["finished_at"], format="ISO8601")
    diverged, failed = int(table["diverged"].sum()), int((table["failure"] != "").sum())
    lines = {
        "profile": _values(table["profile"]),
        "model": f"{_values(table['model'])} ({_values(table['layers'])} layers, weights {_values(table['weights'])})",
        "scored on": ", ".join(
            f"{task} dev split ({METRIC_TITLES[rows['metric'].iloc[0]]}, data {_values(rows['data'])})"
            for task, rows in table.groupby("task", sort=False)
        ),
        "trials": f"{len(table):,}: train sizes {_values(table['train_size'])}; {table['seed'].nunique()} seeds "
        f"({_values(table['seed'])})",
        "diverged": f"{diverged} (every prediction one class, or a loss that was not finite: {failed})",
        "settings": f"learning rate {_values(table['learning_rate'])}, batch {_values(table['batch_size'])}, "
        f"epochs {_values(table['epochs'])}, at most {_values(table['max_length'])} tokens",
        "run on": f"{_values(table['device'])}, {_values(table['processor'])}, {_values(table['threads'])} thread each",
        "code": f"commit {_values(table['git_commit'])}",
        "finished": f"{days.min():%Y-%m-%d} to {days.max():%Y-%m-%d}, {table['seconds'].sum() / 3600:.2f} core-hours",
    }
    rows = "".join(f"<dt>{name}</dt><dd>{html.escape(value)}</dd>" for name, value in lines.items())
    return HTML(f'<aside class="companion-card"><p><strong>{html.escape(title)}</strong></p><dl>{rows}</dl></aside>')


def _values(column: pd.Series) -> str:
    values = sorted(column.unique().tolist())
    return ", ".join(f"{v:g}" if isinstance(v, float) else f"{v:,}" if isinstance(v, int) else str(v) for v in values)


def agreement(study: Study) -> Markdown:
    """Whether this run's trials agree with the published ones, in a sentence or two."""
    if study.this_run.empty:
        return Markdown("No trials of this run are stored: what you see are the published trials alone.")
    if study.published.empty:
        return Markdown(
            f"This run has {len(study.this_run):,} trials; nothing is published for its profile to compare them with."
        )
    found = comparisons.agreement(study.this_run, study.published)
    text = f"**This run and the published trials.** This run has {len(study.this_run):,} trials"
    if found.same_trials:
        text += f"; {found.same_trials:,} of them are published too, and {found.equal:,} of those have the same score"
        if found.equal < found.same_trials:
            text += f" (the largest difference is {found.largest:.4f})"
    text += "."
    if found.conditions:
        text += (
            f" In {found.conditions:,} further conditions the same seeds were run on other weights, data or code; the "
            f"95 % interval of their paired difference excludes zero in {found.apart:,}."
        )
    return Markdown(text)


def differences(rows: pd.DataFrame, what: str) -> HTML:
    """A table of paired differences; ``what`` names the difference in its heading."""
    shown = rows.assign(
        difference=[f"{mean:+.3f}" for mean in rows["mean"]],
        interval=[_interval(low, high) for low, high in zip(rows["low"], rows["high"], strict=True)],
    )
    names = {"train_size": "training examples", "preserved_layers": "layers preserved", "n": "seeds"}
    names |= {"difference": what, "interval": "95 % interval"}
    keep = ["task", "metric", "train_size", "preserved_layers", "difference", "interval", "n"]
    shown = shown[[c for c in keep if c in shown]].rename(columns=names)
    return HTML(shown.to_html(index=False, border=0, justify="left", classes="companion-table"))


def _interval(low: float, high: float) -> str:
    return "fewer than three seeds" if pd.isna(low) else f"{low:+.3f} to {high:+.3f}"


def takeaway(table: pd.DataFrame) -> Markdown:
    """What the pretrained layers were worth in this table: one sentence per task, and how the worth moves with data."""
    worth = comparisons.benefit(table)
    lines = []
    for (task, metric), rows in worth.groupby(["task", "metric"], sort=False):
        parts = [f"{r['mean']:+.3f} ({_interval(r['low'], r['high'])}) at {r['train_size']:,} examples"
                 for _, r in rows.sort_values("train_size").iterrows()]  # fmt: skip
        lines.append(f"- **{task}** ({METRIC_TITLES[metric]}): " + "; ".join(parts) + f". {_trend(rows)}")
    seeds = f"{worth['n'].min()}" if worth["n"].min() == worth["n"].max() else f"{worth['n'].min()}–{worth['n'].max()}"
    head = (
        f"**What all pretrained layers together are worth** (intact minus every layer redrawn, `described` "
        f"initialization, paired over {seeds} seeds, 95 % intervals):"
    )
    return Markdown(head + "\n\n" + "\n".join(lines))


def _trend(rows: pd.DataFrame) -> str:
    """How the benefit at the largest size compares with the largest benefit; never stronger than the intervals."""
    if rows["low"].isna().any():
        return "Too few seeds to say more."
    clear = rows[rows["low"] > 0]
    if clear.empty:
        return "No interval excludes zero: a benefit is not shown here."
    text = f"The interval excludes zero at {' and '.join(f'{size:,}' for size in clear['train_size'])} examples"
    if len(rows) == 1:
        return text + "."
    peak, last = rows.loc[rows["mean"].idxmax()], rows.loc[rows["train_size"].idxmax()]
    if peak["train_size"] == last["train_size"]:
        return text + "; the mean benefit is largest at the largest size."
    return text + f"; the mean benefit is largest at {peak['train_size']:,}, smaller at {last['train_size']:,}."
