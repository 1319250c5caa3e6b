"""Parts of pages: what sentences, cards and small tables say of a table, in the right number."""

from __future__ import annotations

import re

import pandas as pd
import pytest
from conftest import result_of, some_trial

from companion import pages, table
from companion.study import Study

LAYERS, ALL = 4, (0, 1, 2, 3)
INTACT = (0.9, 0.8, 0.7)


def rows(scores, *, experiment: str = "e", profile: str = "p", seeds=None, diverged=(), **trial) -> pd.DataFrame:
    """The tidy table of one trial a score, of seeds 0, 1, …"""
    pairs = [(some_trial(seed=seed, **trial), score) for seed, score in zip(seeds or range(9), scores, strict=False)]
    results = [result_of(one, score, diverged=one.seed in diverged) for one, score in pairs]
    return table.tidy(results, experiment=experiment, profile=profile)


def together(*tables: pd.DataFrame) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True)


def card(trials: pd.DataFrame) -> dict[str, str]:
    return dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", pages.run_card(trials, "Card").data))


def shown(part) -> pd.DataFrame:
    """The cells of a part's table, as they read."""
    head, *body = (re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in part.data.split("<tr")[1:])
    return pd.DataFrame(body, columns=head)


# --- this run and the published trials ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mine", "said"),
    [
        ([0.9, 0.8, 0.7], "All 3 trials of this run are published, with the same scores."),
        ([0.9], "The one trial of this run is published, with the same score."),
        ([0.8], "This run has 1 trial; 1 is published too, 0 with the same score (the largest difference is 0.1000)."),
        ([0.9, 0.8, 0.7, 0.6], "This run has 4 trials; 3 are published too, 3 with the same score."),
    ],
)
def test_agreement_is_told_in_the_right_number(mine, said):
    study = Study("e", (), rows(mine), rows(INTACT), None)
    assert pages.agreement(study).data == f"**This run and the published trials.** {said}"


def test_agreement_with_other_weights_is_by_condition():
    study = Study("e", (), rows(INTACT, weights="v" * 16), rows(INTACT), None)
    said = pages.agreement(study).data
    assert "This run has 3 trials. In 1 further condition the same seeds" in said
    assert "nothing is published" in pages.agreement(Study("e", (), rows([0.9]), rows([]), None)).data
