"""What layers are worth, task beside task: paired differences, whatever else the table holds."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from scipy import stats as scipy_stats

from companion import pages, theme, worth
from companion.errors import TableUnavailable

INTACT = {0: 0.9, 1: 0.8, 2: 0.85}
SHARED = {
    "profile": "pocket",
    "weights": "w",
    "data": "d",
    "learning_rate": 1e-4,
    "batch_size": 8,
    "max_length": 64,
    "epochs": 3,
    "precision": "fp32",
}
SHARED |= {"protocol": "described", "permutation": "", "keep_layernorm": False, "random_rate": 1.0}
REDRAWN = {0: ("all", "0-3"), 2: ("suffix", "2-3"), 4: ("intact", "")}


def trial(seed: int, kept: int, score: float, **changes) -> dict:
    kind, reinitialized = REDRAWN[kept]
    row = SHARED | {"model": "pocket-bert", "task": "pocket-sst2", "metric": "accuracy", "train_size": 100, "layers": 4}
    row |= {"seed": seed, "score": score, "kind": kind, "reinitialized": reinitialized, "preserved_layers": kept}
    row |= changes
    return row | {"trial_id": "/".join(map(str, row.values()))}


@pytest.fixture
def trials() -> pd.DataFrame:
    rows = [trial(seed, 4, score) for seed, score in INTACT.items()]
    rows += [trial(seed, 0, score - 0.3 - 0.1 * seed) for seed, score in INTACT.items()]
    rows += [trial(seed, 2, INTACT[seed] - 0.1) for seed in (0, 1)]
    rows += [trial(0, 4, 0.5, epochs=12), trial(0, 0, 0.5, epochs=12), trial(0, 0, 0.1, protocol="released")]
    rows += [trial(0, 4, 0.2, kind="probe", epochs=1)]  # fewer passes than any fine-tuning, and no fine-tuning
    rows += [trial(0, 4, 0.4, task="cola", metric="matthews", model="minilm-l6")]
    rows += [trial(0, 0, 0.3, task="cola", metric="matthews", model="minilm-l6")]
    return pd.DataFrame(rows).astype({"preserved_layers": "Int64"})


def test_worth_is_the_paired_difference(trials):
    found = worth.worth(trials).set_index(["model", "kept"])
    everything = found.loc["pocket-bert", 0]
    assert (everything["n"], everything["share"]) == (3, 0)
    assert everything["worth"] == pytest.approx(0.4)
    half = scipy_stats.t.ppf(0.975, 2) * 0.1 / math.sqrt(3)
    assert (everything["low"], everything["high"]) == pytest.approx((0.4 - half, 0.4 + half))
    some = found.loc["pocket-bert", 2]
    assert (some["n"], some["share"], some["worth"]) == (2, 50, pytest.approx(0.1))
    assert math.isnan(some["low"])
    assert found.loc["minilm-l6", 0]["worth"] == pytest.approx(0.1)


def test_panels_are_of_one_metric_and_colors_of_one_task(trials):
    spec = worth.chart(worth.worth(trials)).to_dict()
    lines = [next(m for m in view["layer"] if m["mark"]["type"] == "line") for view in spec["vconcat"]]
    drawn = [{row["task"] for row in spec["datasets"][line["data"]["name"]]} for line in lines]
    assert drawn == [{"pocket-sst2"}, {"cola"}]
    for line in lines:
        assert line["encoding"]["color"]["scale"]["domain"] == ["cola", "sst2"]
        assert line["encoding"]["color"]["scale"]["range"] == list(theme.TASK_PALETTE[:2])
    assert {"share", "picked_family", "picked_model"} <= {param["name"] for param in spec["params"]}
    assert "cola, sst2" in spec["description"] or "sst2, cola" in spec["description"]


def test_a_line_joins_three_sizes_or_more(trials):
    sizes = [trials.assign(train_size=n, trial_id=f"{n}/" + trials["trial_id"]) for n in (100, 200, 400)]
    for tables, joined in ((sizes[:2], {2}), (sizes, {3})):
        spec = worth.chart(worth.worth(pd.concat(tables))).to_dict()
        [line] = [layer for layer in spec["vconcat"][0]["layer"] if layer["mark"]["type"] == "line"]
        rows = spec["datasets"][line["data"]["name"]]
        assert {row["places"] for row in rows if row["kept"] == 0} == joined
        assert line["transform"][-1]["filter"] == "datum.places >= 3"


def test_every_size_has_a_label_and_the_caption_tells_of_the_axis(trials):
    sizes = [trials.assign(train_size=n, trial_id=f"{n}/" + trials["trial_id"]) for n in (100, 4000, 5000)]
    spec = worth.chart(worth.worth(pd.concat(sizes))).to_dict()
    axis = next(layer["encoding"]["x"]["axis"] for layer in spec["vconcat"][0]["layer"] if "x" in layer["encoding"])
    assert axis["values"] == [100, 4000, 5000]
    assert not axis["labelOverlap"]
    assert axis["labelExpr"].startswith("indexof([5000], datum.value) < 0 ?")  # a line below that of 4,000
    page = pages.worth_by_size(trials, [], name="w", caption="Worth.").data
    assert "logarithmic, and points at one size are moved apart" in page


def test_a_task_keeps_its_color_beside_others():
    assert theme.task_scale(["qnli"]).range == [theme.TASK_PALETTE[2]]
    assert theme.task_scale(["mine", "cola"]).range == [theme.TASK_PALETTE[3], theme.TASK_PALETTE[0]]


def test_nothing_to_pair_is_said(trials):
    alone = trials[trials["kind"] != "intact"]
    with pytest.raises(TableUnavailable):
        worth.worth(alone)
    assert "No trial here can be paired" in pages.worth_by_size(alone, [], name="w", caption="").data


@pytest.mark.parametrize("control", [{"keep_layernorm": True}, {"random_rate": 5.0}], ids=str)
def test_controls_of_the_appendix_are_no_worth(control, trials):
    more = trials[trials["kind"] == "all"].assign(**control, score=0.0, trial_id=lambda rows: "x" + rows["trial_id"])
    pd.testing.assert_frame_equal(worth.worth(pd.concat([trials, more])), worth.worth(trials))
