"""The labs without a browser: what their controls mean, what they refuse, and that Train runs the real trial."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

from companion import experiments, profiles, widgets
from companion.errors import StoreUnavailable
from companion.layers import paper_permutation
from companion.store import Store

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def lab(tmp_path) -> widgets.LayerSurgery:
    return widgets.LayerSurgery(Store(tmp_path / "store"))


def said(lab: widgets.LayerSurgery) -> str:
    return re.sub(r"<[^>]+>", "", lab.status.value)


def press(lab: widgets.LayerSurgery, *numbers: int) -> None:
    for number in numbers:
        lab.layers[number - 1].value = True


def test_the_lab_plans_the_trials_of_the_book(lab):
    """Same controls, same trial: its ids are those of the published grid."""
    planned = {t.id: t for t in experiments.plan("progressive", profiles.load("pocket").experiments["progressive"])}
    press(lab, 9, 10, 11, 12)
    lab.train_size.value, lab.seed.value = 500, 1
    assert lab.trial().id in planned
    assert planned[lab.trial().id].reinitialized == (8, 9, 10, 11)
    lab.protocol.value = "released"
    assert planned[lab.trial().id].protocol == "released"


def test_layers_say_what_they_are_and_presets_set_them(lab):
    assert said(lab) == "Train will run the trial: pocket-cola, 500 examples, seed 0, every layer pretrained."
    lab.presets["last four"].click()
    assert [layer.description for layer in lab.layers[7:9]] == ["layer 8: pretrained", "layer 9: random"]
    assert said(lab) == "Train will run the trial: pocket-cola, 500 examples, seed 0, layers 9 to 12 random."
    lab.presets["all"].click()
    assert lab.trial().kind == "all"
    lab.presets["none"].click()
    assert lab.trial().kind == "intact"


def test_a_result_that_cannot_be_read_is_told_and_the_controls_go_on(lab, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(lab.store, "get", lambda trial: (_ for _ in ()).throw(StoreUnavailable("it is locked", "wait")))
        press(lab, 12)
        assert said(lab) == "it is locked; wait."
    press(lab, 11)
    assert said(lab).endswith("layers 11 to 12 random.")


def test_an_impossible_order_disables_train_and_says_why(lab):
    press(lab, 3)
    lab.operation.value = widgets.PERMUTE
    assert lab.protocol.disabled  # nothing is drawn anew
    lab.order.value = [tag for tag in lab.order.value if tag not in ("4", "7")]
    assert lab.train.disabled
    assert said(lab) == "The order lacks layer 4, 7: every layer must occur once."
    lab.orders["as pretrained"].click()
    assert not lab.train.disabled
    lab.order.value = [str(i + 1) for i in paper_permutation(2, 12)]
    trial = lab.trial()
    assert (trial.permutation, trial.reinitialized) == (paper_permutation(2, 12), ())
    lab.operation.value = widgets.REINITIALIZE
    assert lab.trial().reinitialized == (2,)


def test_train_runs_the_trial_and_draws_it_beside_the_curve(lab, monkeypatch):
    steps = []
    monkeypatch.setattr(lab, "_advance", lambda step, total: steps.append((step, total)))
    lab.train_size.value = 50
    press(lab, 1)
    lab.train.click()
    (point,) = lab.points
    assert lab.store.get(point.trial).outcome["score"] == point.score
    assert steps == [(i, 16) for i in range(1, 17)]  # four epochs of 50 examples in batches of 16
    assert said(lab).startswith(
        f"Trial 1: Matthews correlation {point.score:.3f} (pocket-cola, 50 examples, seed 0, layer 1"
    )
    assert "No curve is published for this choice." in said(lab)
    assert "diamonds are yours: trial 1, layer 1 random" in lab.chart.value
    assert (lab.train.disabled, lab.progress.layout.visibility) == (False, "hidden")
    lab.task.value = "pocket-sst2"  # another task, another chart
    assert "no trial of yours yet" in lab.chart.value


def test_a_store_that_cannot_be_written_is_said_in_the_lab(lab, tmp_path):
    (tmp_path / "store").write_text("a file where the folder should be")
    lab.train_size.value = 50
    lab.train.click()
    assert "cannot be written" in said(lab)
    assert lab.points == []
    assert not lab.train.disabled


def test_the_explorer_shows_every_published_experiment():
    explorer = widgets.ResultsExplorer()
    for profile in explorer.profile.options:
        explorer.profile.value = profile
        assert "progressive" in explorer.experiment.options
        for experiment in explorer.experiment.options:
            explorer.experiment.value = experiment
            assert "<svg" in explorer.chart.value
            for menu in explorer.choices.children:
                menu.value = menu.options[-1][1]
            assert "95 % interval from" in explorer.rows.value
            assert "NaN" not in explorer.rows.value


@pytest.mark.parametrize("path", sorted((ROOT / "labs").glob("*.ipynb")), ids=lambda p: p.stem)
def test_lab_notebooks_are_stripped_and_run(path, monkeypatch):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    namespace: dict = {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs
            exec(cell.source, namespace)
    assert any(hasattr(value, "view") for value in namespace.values())
