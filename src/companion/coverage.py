"""How much of each profile's grid has been run and published, as results/README.md and the book tell it.

A grid can only be counted where its data are, so the numbers of planned trials are kept in a file of their own,
``results/coverage.csv``, with one row per profile and experiment.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path

import pandas as pd

from companion.comparisons import CONDITION
from companion.errors import TableUnavailable
from companion.paths import RESULTS
from companion.table import replace

COLUMNS = {
    "profile": "str",
    "experiment": "str",
    "planned": "int64",
    "published": "int64",
    "tasks": "str",
    "train_sizes": "str",
    "seeds": "str",
    "core_hours": "float64",
    "run_on": "str",
}
BEGIN, END = "<!-- made by `companion results publish` -->", "<!-- end -->"


def count(profile: str, plans: Mapping[str, Collection[str]], published: pd.DataFrame) -> pd.DataFrame:
    """One row per experiment of the profile: ``plans`` holds the ids of its grid's trials, ``published`` the table."""
    rows = []
    for experiment, planned in plans.items():
        found = published[published["experiment"] == experiment]
        changed = found[found["kind"] != "intact"]  # intact models are shared with experiments that have more seeds
        seeds = changed.groupby(CONDITION, dropna=False)["seed"].nunique()
        rows.append(
            {
                "profile": profile,
                "experiment": experiment,
                "planned": len(set(planned)),
                "published": int(found["trial_id"].isin(planned).sum()),
                "tasks": ", ".join(found["task"].unique()),
                "train_sizes": ", ".join(f"{size:,}" for size in sorted(found["train_size"].unique())),
                "seeds": _spread(seeds) if len(seeds) else "",
                "core_hours": round(found["seconds"].sum() / 3600, 2),
                "run_on": ", ".join(sorted(set(found["device"] + ", " + found["processor"]))),
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def _spread(counts: pd.Series) -> str:
    return str(counts.min()) if counts.min() == counts.max() else f"{counts.min()} to {counts.max()}"


def read(folder: Path = RESULTS) -> pd.DataFrame:
    """Every profile's rows; none if nothing has been published. :class:`TableUnavailable` for a damaged file."""
    path = folder / "coverage.csv"
    if not path.is_file():
        return pd.DataFrame(columns=list(COLUMNS)).astype(COLUMNS)
    try:
        return pd.read_csv(path, keep_default_na=False)[list(COLUMNS)].astype(COLUMNS)
    except (OSError, ValueError, KeyError) as error:
        raise TableUnavailable(
            f"{path} is not the table it should be",
            "restore it from the repository, or delete it and publish each profile again",
        ) from error


def record(rows: pd.DataFrame, folder: Path = RESULTS) -> None:
    """Replace the rows of this profile, and the part of the folder's README.md that is made from them, as
    :func:`companion.table.replace` does."""
    before = read(folder)
    others = before[~before["profile"].isin(rows["profile"])]
    whole = pd.concat([others, rows], ignore_index=True).sort_values("profile", kind="stable", ignore_index=True)
    readme, files = folder / "README.md", {folder / "coverage.csv": partial(whole.to_csv, index=False)}
    if readme.is_file():
        files[readme] = lambda path: path.write_text(_with_part(readme.read_text("utf-8"), told(whole)), "utf-8")
    replace(files, "the account of what is published")


def _with_part(text: str, part: str) -> str:
    """The text with the part between its marks, or as it is if it has none."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{part}\n{END}{tail}" if begin and end else text


def told(whole: pd.DataFrame) -> str:
    """The coverage as a Markdown table for people, with the trials that are missing."""
    if whole.empty:
        return "Nothing has been published yet.\n"
    rows = [
        {
            "profile": row["profile"],
            "experiment": row["experiment"],
            "trials": f"{row['published']:,} of {row['planned']:,}",
            "missing": f"{row['planned'] - row['published']:,}",
            "tasks": row["tasks"] or "–",
            "train sizes": row["train_sizes"] or "–",
            "seeds": row["seeds"] or "–",
            "core-hours": f"{row['core_hours']:.2f}",
            "run on": row["run_on"] or "–",
        }
        for _, row in whole.iterrows()
    ]
    return markdown(pd.DataFrame(rows))


def summary(whole: pd.DataFrame) -> str:
    """The coverage by profile, as a Markdown table: what is whole, what is not, and what it took to run."""
    rows = []
    for profile, found in whole.groupby("profile", sort=False):
        missing = found["planned"] - found["published"]
        parts = [f"{name} ({lacking:,} of {planned:,})" for name, lacking, planned
                 in zip(found["experiment"], missing, found["planned"], strict=True) if lacking]  # fmt: skip
        rows.append(
            {
                "profile": f"`{profile}`",
                "experiments run in full": f"{(missing == 0).sum()} of {len(found)}",
                "trials still missing": ", ".join(parts).replace("_", " ") or "none",
            }
        )
    return markdown(pd.DataFrame(rows)) if rows else told(whole)


def markdown(table: pd.DataFrame) -> str:
    """The table as a Markdown table."""
    rows = [list(table.columns), ["---"] * table.shape[1], *table.astype(object).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows) + "\n"
