"""The authors' early plots: the shipped numbers, and that a figure draws them as theirs and ours as ours."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pandas as pd
import pytest

from companion import authors, figures, pages, views
from companion.errors import TableUnavailable


def test_the_shipped_points_are_those_of_the_pictures():
    """Counts and a few values, read off independently of the code."""
    suffix, faster, probes = (
        authors.early_plots("suffix"),
        authors.early_plots("suffix", 5),
        authors.early_plots("probe"),
    )
    assert (len(suffix), len(faster), len(probes)) == (155, 39, 36)
    sst2 = suffix[suffix["source_plot"].str.contains("subsets")].set_index(["examples", "preserved_layers"])["score"]
    assert [sst2["5,000", k] for k in (12, 4, 0)] == [0.903, 0.828, 0.796]
    assert [sst2["500", k] for k in (12, 4, 0)] == [0.858, 0.531, 0.509]
    cola = suffix[suffix["task"] == "cola"].set_index(["examples", "preserved_layers"])["score"]
    assert [cola["full", k] for k in (12, 4, 0)] == [0.593, 0.308, 0.103]
    assert suffix["examples"].notna().all()


@pytest.mark.parametrize("content", ["", "task,score\nsst2,0.9\n", "not a table at all"])
def test_a_damaged_table_is_one_sentence(tmp_path, content):
    (tmp_path / "reference").mkdir()
    (tmp_path / "reference" / "authors-early-plots.csv").write_text(content)
    with pytest.raises(TableUnavailable, match=r"authors-early-plots.csv.*restore it"):
        authors.early_plots("suffix", folder=tmp_path)


def ours() -> pd.DataFrame:
    setting = {
        "model": "small",
        "layers": 6,
        "task": "sst2",
        "metric": "accuracy",
        "train_size": 500,
        "diverged": False,
    }
    return pd.DataFrame(
        {
            **setting,
            "protocol": "released",
            "preserved_layers": kept,
            "seed": seed,
            "score": 0.6 + kept / 20 + seed / 100,
        }
        for kept in (0, 3, 6)
        for seed in range(3)
    )


def test_curves_are_told_apart_and_share_an_axis():
    spec = figures.beside_authors(authors.early_plots("suffix"), ours(), "layers kept (%)").to_dict()
    (rows,) = spec["datasets"].values()
    drawn = pd.DataFrame(rows).set_index(["curves", "share"])
    assert drawn.loc[("small, released", 50.0)][["score", "n", "examples"]].tolist() == [pytest.approx(0.76), 3, "500"]
    theirs = drawn.loc["bert-base-uncased, authors' early plots"]
    assert theirs["low"].isna().all()
    assert len(theirs) == 155
    dashes = spec["layer"][1]["encoding"]["strokeDash"]["scale"]
    assert dashes["domain"] == ["small, released", "bert-base-uncased, authors' early plots"]
    assert dashes["range"][0] != dashes["range"][1]
    assert "authors' early plots" in spec["description"]


def test_our_trials_of_any_size_have_a_color_and_a_place_in_the_legend():
    more = [ours().assign(train_size=size) for size in (8551, 1000)]
    spec = figures.beside_authors(authors.early_plots("suffix"), pd.concat(more), "layers kept (%)").to_dict()
    for channel in ("color", "shape"):
        scale = spec["layer"][-1]["encoding"][channel]["scale"]
        assert scale["domain"] == ["500", "5,000", "50,000", "1 %", "10 %", "full", "1,000", "8,551"]
        assert len(scale["range"]) == 8


def test_without_trials_of_ours_only_the_pictures_are_drawn(monkeypatch):
    monkeypatch.setenv("COMPANION_BOOK", "1")
    monkeypatch.setattr(pages.tables, "published_profiles", list)
    page = pages.beside_authors("probe", ["probing"], views.probing, name="x", caption="Probes.").data
    assert "Nothing of ours is published yet" in page
    assert "not the paper&#x27;s results" in page


def test_the_rows_beside_the_picture_hold_both_curves(monkeypatch):
    trials = ours()
    trials = trials.assign(experiment="progressive", trial_id=trials.index)
    monkeypatch.setenv("COMPANION_BOOK", "1")
    monkeypatch.setattr(pages.tables, "published_profiles", lambda: ["small", "more"])  # the same trials in both
    monkeypatch.setattr(pages.tables, "published", lambda profile: trials)
    drawn = pages.beside_authors("suffix", ["progressive"], lambda t: SimpleNamespace(trials=t), name="x", caption="")
    twin = drawn.data.partition("<summary>")[2]
    assert re.findall(r"<td>small, released</td>.*?</tr>", twin, re.DOTALL)[0].count("<td>3.000</td>") == 1
    assert twin.count("<td>small, released</td>") == 3
    assert twin.count("<td>bert-base-uncased, authors' early plots</td>") == 155
