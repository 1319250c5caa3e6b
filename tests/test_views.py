"""Views: which trials a figure shows, where they stand, and to which line they belong; on hand-made tables."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest
from conftest import result_of, some_trial

from companion import figures, table, views
from companion.errors import InvalidValue, TableUnavailable, UnknownName

BASE = {"tasks": ("cola", "qnli"), "seeds": (0, 1, 2)}


def rows(*changes: dict, score=lambda trial: 0.5) -> pd.DataFrame:
    """The tidy table of the intact trial and of each change, for two tasks and three seeds."""
    trials = [
        some_trial(task=task, seed=seed, **change)
        for task in BASE["tasks"]
        for seed in BASE["seeds"]
        for change in ({}, *changes)
    ]
    results = [result_of(trial, score(trial)) for trial in dict.fromkeys(trials)]
    return table.tidy(results, experiment="e", profile="p")


def places(view: views.View) -> set[tuple]:
    return set(zip(view.trials["series"], view.trials["x"], view.trials["reinitialized"], strict=True))


SUFFIXES = [{"reinitialized": layers} for layers in ((0, 1, 2, 3), (2, 3))]
RELEASED = {"reinitialized": (0, 1, 2, 3), "protocol": "released"}


def test_progressive_has_both_ends_and_one_direction():
    view = views.progressive(rows(*SUFFIXES, {"reinitialized": (0, 1)}), "suffix")
    assert places(view) == {("16", 0, "0-3"), ("16", 2, "2-3"), ("16", 4, "")}
    assert view.redrawn == {"": {0: (0, 1, 2, 3), 2: (2, 3), 4: ()}}


def test_intact_trials_belong_to_every_protocol_that_is_there():
    both = views.progressive(rows(*SUFFIXES, RELEASED), "suffix").trials.query("kind == 'intact'")
    assert both["protocol"].value_counts().to_dict() == {"described": 6, "released": 6}
    one = views.progressive(rows(*SUFFIXES), "suffix").trials.query("kind == 'intact'")
    assert set(one["protocol"]) == {"described"}


def test_progressive_leaves_out_the_controls_of_the_appendix():
    controls = [{**SUFFIXES[1], "keep_layernorm": True}, {**SUFFIXES[1], "random_rate": 5.0}]
    assert len(views.progressive(rows(*SUFFIXES, *controls), "suffix").trials) == 3 * 6


def test_means_are_per_point_with_their_number_of_seeds():
    view = views.progressive(rows(*SUFFIXES, score=lambda t: 0.1 * t.seed + len(t.reinitialized)), "suffix")
    point = view.means.query("task == 'cola' and x == 2").iloc[0]
    assert (point["n"], point["mean"]) == (3, pytest.approx(2.1))
    assert point["low"] < 2.1 < point["high"]


def test_data_scaling_puts_sizes_on_the_axis():
    sizes = [{**change, "train_size": 64} for change in ({}, *SUFFIXES)]
    view = views.data_scaling(rows(*SUFFIXES, *sizes))
    assert view.members == ("4 layers", "2 layers", "0 layers")
    assert view.ticks == (16, 64)
    assert set(view.trials["x"]) == {16, 64}


def test_localized_places_blocks_and_their_inverses():
    blocks = [{"reinitialized": which} for which in ((0, 1), (1, 2), (0, 3), (2, 3))]
    view = views.localized(rows(*blocks), 2)
    block, inverse = view.members
    # redrawing 0-1 leaves the block 2-3 alone pretrained, so each end is a block and another's inverse
    assert places(view) == {
        (block, 1, "0-1"),
        (inverse, 3, "0-1"),
        (block, 2, "1-2"),
        (inverse, 2, "0,3"),
        (block, 3, "2-3"),
        (inverse, 1, "2-3"),
    }
    assert set(view.reference["kind"]) == {"intact"}
    with pytest.raises(InvalidValue, match="a block of 5 layers does not exist"):
        views.localized(rows(*blocks), 5)


def test_lines_that_redraw_different_layers_have_a_strip_each_under_their_name():
    view = views.localized(rows(*({"reinitialized": which} for which in ((0, 1), (1, 2), (0, 3), (2, 3)))), 2)
    block, inverse = view.members
    random = {block: {1: {1, 2}, 2: {2, 3}, 3: {3, 4}}, inverse: {1: {3, 4}, 2: {1, 4}, 3: {1, 2}}}
    spec = figures.curves(view).to_dict()
    _, *strips = spec["vconcat"]
    assert [strip["title"]["text"] for strip in strips] == [f"layers with {name}" for name in view.members]
    for strip, name in zip(strips, view.members, strict=True):
        cells = [cell for cell in spec["datasets"][strip["data"]["name"]] if cell["state"] == "random"]
        assert {x: {cell["layer"] for cell in cells if cell["x"] == x} for x in random[name]} == random[name]


def test_single_layers_are_counted_from_one():
    view = views.single_layer(rows({"reinitialized": (0,)}, {"reinitialized": (3,)}))
    assert places(view) == {("one layer random", 1, "0"), ("one layer random", 4, "3")}


def test_permutations_are_named_by_their_number():
    orders = {7: (1, 0, 2, 3), 9: (3, 2, 1, 0)}
    view = views.permutation(rows(*({"permutation": order} for order in orders.values())), orders)
    assert set(zip(view.trials["x"], view.trials["permutation"], strict=True)) == {(7, "1,0,2,3"), (9, "3,2,1,0")}
    assert len(view.reference_means) == 2


def test_learning_rate_and_layernorm_tell_their_control_apart_from_the_usual():
    suffix = SUFFIXES[1]
    both = rows(suffix, {**suffix, "random_rate": 5.0}, {**suffix, "keep_layernorm": True})
    rate, norm = views.learning_rate(both), views.layernorm(both)
    assert rate.members == ("× 1", "× 5")
    assert norm.members == ("reset", "kept")
    for view in (rate, norm):
        counts = view.trials.query("x == 2")["series"].value_counts()
        assert counts.to_dict() == dict.fromkeys(view.members, 6)
        assert set(view.trials.query("x == 4")["series"]) == set(view.members)  # the intact model ends both lines


def test_initialization_has_a_line_for_each_way_of_drawing():
    ways = [{"reinitialized": (2, 3), "protocol": name} for name in ("shuffled", "released", "described")]
    view = views.initialization(rows(*ways, *({**way, "epochs": 4} for way in ways)))
    assert view.members == ("described", "released", "shuffled")
    assert view.menus == ("task", "train_size", "epochs")
    assert set(view.trials["epochs"]) == {1, 4}


def test_transfer_beside_probing_shows_both_poolings_of_the_largest_size():
    probes = [
        {"probe_layer": k, "pooling": pooling, "train_size": size, "control": control}
        for k in (0, 2, 4)
        for pooling in ("first", "mean")
        for size, control in ((16, False), (24, False), (24, True))
    ]
    released = {"probe_layer": 2, "train_size": 24, "protocol": "released"}
    view = views.transfer_and_probing(rows(*SUFFIXES, RELEASED, *probes, released))
    assert view.members == ("16", "24, probe of first token", "24, probe of mean of tokens")
    shown = view.trials[view.trials["kind"] == "probe"]
    assert set(zip(shown["series"], shown["x"], strict=True)) == {(m, k) for m in view.members[1:] for k in (0, 2, 4)}
    assert set(view.trials["protocol"]) == {"described"}
    assert not shown["control"].any()
    assert view.redrawn == {"": {0: (0, 1, 2, 3), 2: (2, 3), 4: ()}}


def test_the_largest_size_is_that_of_the_probes_that_are_drawn():
    probes = [{"probe_layer": k, "train_size": 16} for k in (0, 2, 4)]
    released = {"probe_layer": 2, "train_size": 24, "protocol": "released"}
    assert views.transfer_and_probing(rows(*SUFFIXES, *probes, released)).members == ("16", "16, probe of first token")


def test_probes_of_different_kinds_are_different_lines():
    kinds = [{}, {"pooling": "mean"}, {"control": True}, {"protocol": "released"}]
    view = views.probing(rows(*({"probe_layer": k, **kind} for kind in kinds for k in (0, 4))))
    assert view.members == ("first token", "mean of tokens", "first token, random labels", "released")
    assert set(view.trials["x"]) == {0, 4}


def test_small_data_shows_the_smallest_size_alone():
    larger = [{**change, "train_size": 64} for change in ({}, *SUFFIXES)]
    both = rows(*SUFFIXES, *larger)
    sizes = {asked: set(views.small_data(both, asked).trials["train_size"]) for asked in (None, 16, 64, 500)}
    assert sizes == {None: {16}, 16: {16}, 64: {64}, 500: {16}}


@pytest.mark.parametrize(
    "view_of", [views.single_layer, views.learning_rate, views.probing, lambda t: views.permutation(t, {1: (0,)})]
)
def test_a_table_without_such_trials_is_one_sentence(view_of):
    with pytest.raises(TableUnavailable, match="the table has no .* trials; run them with"):
        view_of(rows())
    with pytest.raises(TableUnavailable):
        view_of(rows().head(0))


def test_a_table_of_intact_models_alone_says_which_parameter_gives_the_others():
    remedy = "no suffix trials; run them with `companion run`, with preserved_layers below 4."
    with pytest.raises(TableUnavailable, match=remedy):
        views.progressive(rows({}), "suffix")


def test_an_unknown_direction_is_an_error():
    with pytest.raises(UnknownName, match="unknown direction 'sideways'"):
        views.progressive(rows(*SUFFIXES), "sideways")


EVERY_VIEW = [
    (views.data_scaling, SUFFIXES),
    (views.single_layer, [{"reinitialized": (1,)}]),
    (lambda t: views.localized(t, 3), [{"reinitialized": (0, 1, 2)}, {"reinitialized": (3,)}]),
    (lambda t: views.permutation(t, {1: (1, 0, 2, 3)}), [{"permutation": (1, 0, 2, 3)}]),
    (views.learning_rate, [{**SUFFIXES[1], "random_rate": 5.0}]),
    (views.layernorm, [{**SUFFIXES[1], "keep_layernorm": True}]),
    (views.initialization, SUFFIXES),
    (views.probing, [{"probe_layer": 2}]),
    (views.small_data, SUFFIXES),
]


@pytest.mark.parametrize(("view_of", "changes"), EVERY_VIEW)
def test_every_view_can_be_drawn_with_rings_and_names_all_its_menus(view_of, changes):
    view = view_of(rows(*changes))
    spec = figures.curves(view, dataclasses.replace(view)).to_dict()
    assert {p["name"] for p in spec["params"]} >= set(view.menus)
    assert "this run" in spec["description"]
    drawn = [row for data in spec["datasets"].values() for row in data if "trial_id" in row]
    assert {row["trial_id"] for row in drawn} == set(view.trials["trial_id"])
