"""The picture of any experiment: its points are the views' means, its dots their trials."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from companion import explorer, table, theme
from companion.errors import TableUnavailable


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    return {name: table.published(name) for name in table.published_profiles()}


@pytest.fixture(scope="module")
def found(tables):
    return explorer.collected(tables)


def test_every_published_experiment_is_there(tables, found):
    assert {profile for profile, _ in found} == set(tables)
    assert {experiment for profile, experiment in found if profile == "pocket"} == set(explorer.VIEWS)


def test_points_hold_the_trials_behind_them(tables, found):
    points = explorer.points(found)
    assert not points.duplicated(explorer.POINT).any()
    for point in points.sample(40, random_state=0).itertuples():
        rows = tables[point.profile].query("experiment == @point.experiment").set_index("trial_id")
        scores = rows.loc[point.trial_id, "score"].tolist()
        assert scores == point.score
        assert point.n == len(scores)
        assert point.mean == pytest.approx(sum(scores) / len(scores))
        assert rows.loc[point.trial_id, "seed"].tolist() == point.seed


def test_menus_choose_among_what_is_published(found):
    points, spec = explorer.points(found), explorer.chart(found).to_dict()
    offered = {param["name"]: set(param["bind"]["options"]) for param in spec["params"]}
    for column in explorer.CHOICE:
        assert offered[column] == set(points[column]) - {explorer.ANY}
    opened = {param["name"]: param["value"] for param in spec["params"]}
    shown = points[(points["profile"] == opened["profile"]) & (points["experiment"] == opened["experiment"])]
    for column in explorer.CHOSEN:
        shown = shown[shown[column].isin([explorer.ANY, opened[column]])]
    assert len(shown[shown["family"] == opened["family"]]) > 0
    json.dumps(spec, allow_nan=False)


def test_the_intact_model_is_a_line_where_it_has_no_place(tables, found):
    lines = explorer.references(found).query("profile == 'pocket' and experiment == 'localized' and family == 'qnli'")
    intact = tables["pocket"].query("experiment == 'localized' and kind == 'intact' and task == 'pocket-qnli'")
    assert lines["mean"].tolist() == pytest.approx([intact["score"].mean()])
    assert "localized" in set(explorer.references(found)["experiment"])
    assert "progressive" not in set(explorer.references(found)["experiment"])


def test_color_and_shape_share_a_legend(found):
    [mark] = [layer for layer in explorer.chart(found).to_dict()["layer"] if layer["mark"].get("size") == 60]
    color, shape = mark["encoding"]["color"], mark["encoding"]["shape"]
    assert (color["legend"], color["sort"]) == (shape["legend"], shape["sort"])
    assert color["scale"]["range"] == list(theme.PALETTE)


def test_points_stand_near_their_place_on_the_axis(found):
    spec = explorer.chart(found).to_dict()
    [mark] = [layer for layer in spec["layer"] if layer["mark"].get("size") == 60]
    offset = mark["encoding"]["xOffset"]
    assert offset["scale"]["domain"] == [-0.5, 0.5]  # the whole of a step
    asides = {(row["profile"], row["experiment"], row["rank"]): row[offset["field"]]
              for row in spec["datasets"][mark["data"]["name"]]}  # fmt: skip
    assert max(map(abs, asides.values())) <= 0.15
    three = [asides["pocket", "progressive", rank] for rank in range(3)]
    assert three == pytest.approx([-0.15, 0, 0.15])
    assert asides["pocket", "permutation", 0] == 0


def test_menus_without_effect_are_named_and_the_axis_has_its_title(found):
    spec = explorer.chart(found).to_dict()
    said = spec["title"]["text"]["expr"]
    lines = json.loads(said.partition("}[")[0] + "}")
    *_, first, second = lines["pocket/progressive/cola"]
    assert f"{first} {second}" == "no effect here: training examples, times the usual epochs"
    assert not any("training examples" in line for line in lines["pocket/permutation/cola"])
    assert max(len(line) for line in lines["pocket/progressive/cola"]) <= explorer.TITLE_WIDTH
    texts = [json.dumps(layer["mark"].get("text", "")) for layer in spec["layer"]]
    assert any("permutation (seed of RandomState)" in text for text in texts)


def test_an_empty_table_is_said(tables):
    with pytest.raises(TableUnavailable):
        explorer.collected({"pocket": tables["pocket"].head(0)})
