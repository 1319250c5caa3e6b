"""Parts of pages: what sentences, cards and small tables say of a table, in the right number."""

from __future__ import annotations

import re

import pandas as pd
import pytest
from conftest import result_of, some_trial

from companion import coverage, pages, scores, table, views
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


# --- run cards ------------------------------------------------------------------------------------------------------


@pytest.fixture
def grid(monkeypatch):
    """A profile "p" of which a part of one experiment is published, and all of another."""
    known = {"profile": "p", "experiment": ["part", "whole"], "planned": 63, "published": [18, 63]}
    rows = pd.DataFrame(known).reindex(columns=list(coverage.COLUMNS))
    monkeypatch.setattr(coverage, "read", lambda: rows)


def test_a_card_says_how_much_of_the_grid_is_there(grid):
    assert card(rows(INTACT, experiment="part"))["planned"] == "18 of 63 of profile p are published, the others not yet"
    assert card(rows(INTACT, experiment="whole"))["planned"] == "all 63 of profile p are published"
    assert "planned" not in card(rows(INTACT, experiment="part", profile="mine"))


def test_a_card_of_probes_tells_steps_and_classes_as_they_are():
    logistic = rows(INTACT, probe_layer=2, learning_rate=None, batch_size=None, epochs=None, diverged=[1])
    released = rows(INTACT, probe_layer=2, protocol="released")
    both = card(together(logistic, released))
    told = "learning rate 0.001, batch 8, epochs 1 (released probes alone; logistic ones take no steps); "
    assert both["settings"] == told + "at most 128 tokens, fp32"
    assert both["one class only"] == "1 of these probes"
    assert "diverged" not in both
    assert card(logistic)["settings"] == "logistic probes, which take no steps; at most 128 tokens, fp32"
    assert card(released)["settings"] == "learning rate 0.001, batch 8, epochs 1, at most 128 tokens, fp32"
    assert card(rows(INTACT, diverged=[0]))["diverged"].startswith("1: every prediction one class")


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


def test_no_ring_marks_a_trial_of_a_size_that_the_figure_does_not_show(monkeypatch):
    kept = {"reinitialized": (2, 3)}
    published = together(*(rows(INTACT, **change) for change in ({}, kept, {"reinitialized": ALL})))
    drawn = []
    monkeypatch.setattr(pages.figures, "curves", lambda view, fresh=None: drawn.append((view, fresh)))
    monkeypatch.setattr(pages.embed, "show", lambda *_, **__: None)
    for size, ringed in ((16, True), (64, False)):
        mine = rows([0.4], seeds=[5], train_size=size, **kept)
        study = Study("small_data", (), mine, published, None)
        pages.figure(study, views.small_data, name="n", caption="c")
        view, fresh = drawn.pop()
        assert set(view.trials["train_size"]) == {16}
        assert (fresh is not None) == ringed


# --- differences and costs ------------------------------------------------------------------------------------------


def test_differences_have_a_sentence_in_the_right_number():
    found = pd.DataFrame(
        {
            "task": list("abcd"),
            "n": [3, 3, 3, 2],
            "mean": [0.1, -0.1, -0.2, 0.0],
            "low": [0.05, -0.2, -0.3, None],
            "high": [0.2, -0.05, -0.1, None],
        }
    )
    said = "1 has an interval above zero and 2 below zero; 1 has fewer than three seeds and so no interval"
    assert f"<p>Of 4 differences, {said}; each interval is of one by itself.</p>" in pages.differences(found, "x").data
    one = pages.differences(found.head(1), "x").data
    assert "<p>Of 1 difference, 1 has an interval above zero and 0 below zero.</p>" in one


def test_longer_training_without_three_seeds_is_no_answer_yet():
    few, many = (together(rows([0.5] * n, reinitialized=ALL), rows([0.6] * n, reinitialized=ALL, epochs=4))
                 for n in (2, 3))  # fmt: skip
    text = pages.longer_training(few).data
    assert text.startswith("<p>No answer yet: no difference has three seeds. Of 1 difference between 4 and 1 epochs, ")
    assert pages.longer_training(many).data.startswith("<p>Of 1 difference between 4 and 1 epochs, 1 has an interval")


def test_costs_name_places_plainly_and_count_intervals():
    blocks = {(0, 1): 0.2, (2, 3): 0.4, (1, 2): 0.1, (0, 3): 0.3}
    changed = [rows([s - cost for s in INTACT], reinitialized=which) for which, cost in blocks.items()]
    part = pages.costs(together(rows(INTACT), *changed), lambda trials: views.localized(trials, 2)).data
    assert "is +0.400 [+0.400 to +0.400] (layers 1–2 kept alone), the smallest +0.100 [" in part
    assert "(layers 2–3 random). Of 6 costs, 6 have an interval above zero and 0 below zero.</li>" in part
    assert "<th>protocol</th>" not in part
    released = rows([0.2] * 3, reinitialized=(2, 3), protocol="released")
    both = pages.costs(together(rows(INTACT), *changed, released), lambda trials: views.localized(trials, 2)).data
    assert "(released, layers 1–2 kept alone)" in both
    assert "<th>protocol</th>" in both


def test_costs_come_with_what_is_left_beside_random_layers():
    changed = [rows([s - 0.1 for s in INTACT], reinitialized=which) for which in ((0, 1), (2, 3))]
    alls = rows([0.5, 0.5, 0.5], reinitialized=ALL)
    part = pages.costs(together(rows(INTACT), alls, *changed), lambda trials: views.localized(trials, 2)).data
    costs, left = part.split("<details>")[1:]
    assert left.startswith("<summary>What is left: the score minus that with every layer random, 4 differences<")
    assert costs.count("<td>+0.100</td>") == left.count("<td>+0.200</td>") == 4  # two sets, each a block and an inverse
    norms = together(rows(INTACT), alls, rows(INTACT, reinitialized=ALL, keep_layernorm=True), changed[1])
    # the suffix and the intact model; of models with every layer random nothing is left
    assert "with every layer random, 2 differences<" in pages.costs(norms, views.layernorm).data


def test_where_nothing_can_be_paired_a_sentence_says_so():
    alone = rows(INTACT, reinitialized=(2, 3))
    told = "*No trial here can be paired with an intact one of the same seed.*"
    assert pages.takeaway(alone).data == told
    assert pages.intact_and_random(alone, name="x").data.startswith("*Neither the intact model nor one")
    assert pages.costs(alone, lambda trials: views.progressive(trials, "suffix")).data == told
    assert pages.longer_training(alone.head(0)).data == "*No trial of this experiment is here.*"


def test_places_of_every_figure_with_costs_have_plain_names():
    changed = [{"reinitialized": (2, 3)}, {"reinitialized": (2, 3), "keep_layernorm": True}, {"reinitialized": (1,)}]
    trials = together(rows(INTACT), *(rows(INTACT, **change) for change in changed))
    assert views.layernorm(trials).named("kept", 1) == "LayerNorm of random layers kept, 1 layer preserved"
    assert views.progressive(trials, "suffix").named("16", 2) == "2 layers preserved"
    assert views.single_layer(trials).named("one layer random", 2) == "layer 2 random"
    permuted = rows(INTACT, permutation=(1, 0, 2, 3))
    assert views.permutation(permuted, {6: (1, 0, 2, 3)}).named("layers permuted", 6) == "permutation 6"


# --- probes and diverged trials -------------------------------------------------------------------------------------


def test_gains_of_probes_have_selectivity_and_say_where_there_is_no_gain():
    scores = {(False, 0): 0.5, (False, 2): 0.9, (True, 0): 0.6, (True, 2): 0.55}
    probes = [rows([score] * 3, probe_layer=k, control=control, train_size=4000)
              for (control, k), score in scores.items()]  # fmt: skip
    found = shown(pages.probe_gains(together(*probes))).set_index("probe")
    assert found["training examples"].tolist() == ["4,000", "4,000"]
    assert found.loc["first token", "selectivity there"] == "+0.350"
    assert found.loc["first token, random labels", "selectivity there"] == ""
    assert found["90% of the gain at layer"].tolist() == ["2", "no gain"]


def test_without_probes_of_the_embeddings_there_is_nothing_to_gain_from():
    found = shown(pages.probe_gains(together(*(rows([0.5 + 0.1 * k] * 3, probe_layer=k) for k in (2, 4)))))
    assert found.loc[0, ["on the embeddings", "at layer", "90% of the gain at layer"]].tolist() == ["", "4", ""]


@pytest.mark.parametrize(
    ("bound", "text"),
    [(0.0816, "+0.082"), (-0.00049, "-0.0005"), (0.00016, "+0.0002"), (-0.00001, "-0.00001"), (-1e-17, "+0.000")],
)
def test_a_bound_of_an_interval_shows_on_which_side_of_zero_it_is(bound, text):
    found = pd.DataFrame({"task": ["a"], "n": [3], "mean": [0.1], "low": [bound], "high": [0.2]})
    assert f"<td>{text} to +0.200</td>" in pages.differences(found, "x").data


def test_the_best_layer_of_equal_means_is_the_first():
    """0.1 + 0.2 is a last bit above 0.3: what rounding leaves of two equal means must not choose the layer."""
    kinds = [rows([0.0, 0.0, 0.0], probe_layer=0), rows([0.3] * 3, probe_layer=1), rows([0.1 + 0.2] * 3, probe_layer=2)]
    assert shown(pages.probe_gains(together(*kinds)))["at layer"].tolist() == ["1"]


def test_the_rows_of_a_figure_hold_its_horizontal_line():
    view = views.single_layer(together(rows(INTACT), rows([0.5, 0.6, 0.7], reinitialized=(2,))))
    found = view.drawn_means.set_index("series")
    assert found["mean"].to_dict() == pytest.approx({"one layer random": 0.6, "intact": sum(INTACT) / len(INTACT)})


def test_diverged_and_other_trials_are_two_groups_only_if_they_stand_apart():
    delta = scores.DELTA["accuracy"]
    apart = rows([0.5, 0.5, 0.51 + delta], reinitialized=ALL, diverged=[0, 1])
    near = rows([0.5, 0.5, 0.49 + delta], reinitialized=(2, 3), diverged=[0, 1])
    part = pages.two_groups(together(rows(INTACT), apart, near))
    assert "In 1 of 2 conditions with both" in part.data
    assert f"more than {delta:g} (accuracy) above the highest diverged" in part.data
    assert shown(part).set_index("layers preserved")["groups"].to_dict() == {"0": "apart", "2": "not apart"}
    assert "No condition has both" in pages.two_groups(rows(INTACT)).data
