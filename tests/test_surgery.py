"""The picture of the layer surgery page: what can be chosen, and that its numbers are the table's."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from companion import surgery, table
from companion.errors import TableUnavailable
from companion.layers import paper_permutation, parse_layers


@pytest.fixture(scope="module")
def trials():
    return table.published("pocket")


@pytest.fixture(scope="module")
def found(trials):
    return surgery.scores(trials, 3)


def test_operations_do_what_their_names_say():
    does = {(name, n): (redrawn, order) for name, n, redrawn, order in surgery.operations(4, 2)}
    assert does["the last n layers random", 0] == ((), ())
    assert does["the last n layers random", 3] == ((1, 2, 3), ())
    assert does["the first n layers random", 3] == ((0, 1, 2), ())
    assert does["2 layers random, from layer n", 2] == ((1, 2), ())
    assert does["all but 2 layers random, from layer n", 2] == ((0, 3), ())
    assert does["layer n alone random", 4] == ((3,), ())
    assert does["layers permuted, permutation n", 7] == ((), paper_permutation(7, 4))
    assert ("2 layers random, from layer n", 4) not in does


def test_scores_are_the_means_of_the_published_trials(trials, found):
    row = found.query("task == 'pocket-qnli' and train_size == 500 and operation == 'the last n layers random'")
    row = row.query("place == 4").iloc[0]
    same = trials.query("task == 'pocket-qnli' and train_size == 500 and reinitialized == '8-11' and epochs == 4")
    same = same.query("protocol == 'described' and kind == 'suffix' and not keep_layernorm and random_rate == 1")
    same = same.drop_duplicates("trial_id")
    assert row["mean"] == pytest.approx(same["score"].mean())
    assert row["n"] == same["seed"].nunique() == len(same)
    assert row["done"] == "layers 9 to 12 random"


def test_no_trial_is_counted_twice(found):
    assert not found.duplicated(["operation", "place", "task", "train_size"]).any()


def test_squares_show_the_redrawn_layers(found):
    spec = surgery.chart(found, 12, 3).to_dict()
    text = json.dumps(spec)
    cells = next(pd.DataFrame(rows) for rows in spec["datasets"].values() if "position" in rows[0])
    chosen = cells[(cells["operation"] == "all but 3 layers random, from layer n") & (cells["place"] == 10)]
    random = chosen.loc[chosen["state"] == "random", "position"]
    assert tuple(random - 1) == parse_layers("0-8")
    assert surgery.UNPUBLISHED in text


def test_a_table_of_probes_alone_has_no_picture(trials):
    with pytest.raises(TableUnavailable, match="no fine-tuning trials"):
        surgery.scores(trials[trials["kind"] == "probe"], 3)


def test_longer_trainings_are_not_averaged_with_the_usual(trials, found):
    tuned = trials[trials["kind"] != "probe"]
    longer = tuned.assign(epochs=99, score=0.0, trial_id=lambda rows: "x" + rows["trial_id"])
    pd.testing.assert_frame_equal(surgery.scores(pd.concat([trials, longer]), 3), found)


def test_each_train_size_has_usual_epochs_of_its_own(trials, found):
    more = trials.assign(epochs=trials["epochs"].where(trials["train_size"] != 100, 2 * trials["epochs"]))
    pd.testing.assert_frame_equal(surgery.scores(more, 3), found)


def test_squares_of_a_permuted_model_name_the_layers_that_stand_there(found):
    spec = surgery.chart(found, 12, 3).to_dict()
    cells = next(pd.DataFrame(rows) for rows in spec["datasets"].values() if "position" in rows[0])
    chosen = cells[(cells["operation"] == "layers permuted, permutation n") & (cells["place"] == 1)]
    order = chosen.sort_values("position")["layer"].astype(int) - 1
    assert tuple(order) == paper_permutation(1, 12)
