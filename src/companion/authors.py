"""The authors' early plots as numbers: the only curves in this book that this repository's code did not compute.

They were read off pictures in the authors' public development repository of October 2020, to about ±0.002. They are
not the paper's results: how many runs are behind a point is not known.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from companion.errors import TableUnavailable
from companion.paths import RESULTS

MODEL = "bert-base-uncased"
SIZES = {"500": "500", "5000": "5,000", "50000": "50,000", "1 %": "1 %", "10 %": "10 %", "full": "full"}
COLUMNS = {
    "task": "str",
    "metric": "str",
    "train_size": "str",
    "kind": "str",
    "random_rate": "float64",
    "layers": "int64",
    "preserved_layers": "int64",
    "score": "float64",
    "source_plot": "str",
}


def early_plots(kind: str, random_rate: float = 1.0, folder: Path = RESULTS) -> pd.DataFrame:
    """The digitised curves of one ``kind`` ("suffix" or "probe") and factor on the random layers' learning rate.

    One row per point, with ``examples`` (the number or share of training examples as it is written for people) beside
    the columns of ``results/reference/authors-early-plots.csv``. Raises :class:`TableUnavailable` when that file is
    missing or lacks a column.
    """
    path = folder / "reference" / "authors-early-plots.csv"
    try:
        table = pd.read_csv(path).astype(COLUMNS)
    except (OSError, ValueError, KeyError) as error:
        raise TableUnavailable(f"{path} is not the table it should be", "restore it from the repository") from error
    rows = table[(table["kind"] == kind) & (table["random_rate"] == random_rate)]
    return rows.assign(examples=rows["train_size"].map(SIZES)).reset_index(drop=True)
