"""The notebook through papermill on a tiny grid, and what stops it; `companion run` killed in the middle."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
import yaml
from conftest import ROOT, heed_interrupts, needs_notebook_tables

from companion import experiments, notebooks, profiles, table
from companion.cli import main
from companion.errors import NotebookFailed, UnknownName
from companion.store import Store


@pytest.fixture
def parameters(tiny_bert, tiny_glue, tmp_path) -> dict:
    shared = {
        "model": tiny_bert,
        "data_dir": str(tiny_glue),
        "tasks": ["cola"],
        "train_sizes": [16, 32],
        "seeds": [0, 1],
    }
    shared |= {"learning_rate": 1e-3, "batch_size": 8, "epochs": 1, "max_length": 64, "directions": ["suffix"]}
    running = {"profile": "tiny", "published": "tiny", "store": str(tmp_path / "store"), "executor": "local"}
    return {**shared, **running, "preserved_layers": {"described": [0, 2, 4], "released": [0]}}


def defaults_of(name: str) -> dict:
    return {n: ast.literal_eval(p["default"]) for n, p in notebooks.parameters(name).items()}


def texts(page: Path) -> str:
    """Everything an executed notebook shows."""
    cells = nbformat.read(page, 4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return json.dumps([output.get("data") or output.get("text", "") for output in outputs])


# --- the committed notebooks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_committed_notebooks_are_stripped_and_describe_their_parameters(path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
    assert path.stem in experiments.EXPERIMENTS
    found = notebooks.parameters(path.stem)
    assert all(parameter["help"] and parameter["inferred_type_name"] != "None" for parameter in found.values())


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_a_notebooks_defaults_are_those_of_the_quick_profile(name):
    quick = profiles.load("pocket-quick").experiments[name]
    defaults = {
        n: profiles.read_yaml(p["default"].replace("True", "true")) for n, p in notebooks.parameters(name).items()
    }
    assert {parameter: defaults[parameter] for parameter in quick} == quick


# --- executed -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@needs_notebook_tables
def test_a_run_and_then_a_page_from_stored_results_alone(parameters, tmp_path, capfd):
    store, page = Store(tmp_path / "store"), tmp_path / "page.ipynb"
    assert notebooks.execute("progressive", {**parameters, "rerun": True}, page) == page
    stored = {r.trial.id: r.provenance["finished_at"] for r in store}
    assert len(stored) == 2 * 2 * 4
    assert "16/16" in capfd.readouterr().err  # the progress bar reaches the terminal that waits
    shown = texts(page)
    assert "This run has 16 trials; nothing is published for its profile" in shown
    assert "What all pretrained layers together are worth" in shown
    assert str(tmp_path) not in shown.replace(parameters["model"], "")

    again = tmp_path / "again.ipynb"
    notebooks.execute("progressive", {**parameters, "rerun": False}, again)
    assert {r.trial.id: r.provenance["finished_at"] for r in store} == stored
    assert "trial/s" not in texts(again)  # no progress bar on a published page
    assert sorted(p.name for p in tmp_path.glob("*.ipynb")) == ["again.ipynb", "page.ipynb"]
    assert not list(tmp_path.glob(".*.ipynb"))


SMALL = {
    "probing": {"probe_layers": [0, 4], "probe_epochs": 1},
    "data_scaling": {"preserved_layers": {"described": [0, 2, 4]}},
    "localized": {"width": 2, "starts": "all"},
    "single_layer": {"which": [0, 3]},
    "permutation": {"permutations": [1, 2]},
    "learning_rate": {"preserved_layers": {"described": [0, 4]}},
    "layernorm": {"preserved_layers": {"described": [0, 4]}},
    "small_data": {"preserved_layers": {"described": [0, 4]}},
    "initialization": {"preserved_layers": {"described": [0], "shuffled": [0]}, "epochs_factors": [1, 2]},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_every_experiment_runs_and_draws_through_papermill(name, parameters, tmp_path):
    known = notebooks.parameters(name)
    given = {k: v for k, v in {**parameters, **SMALL[name]}.items() if k in known}
    page = tmp_path / "page.ipynb"
    notebooks.execute(name, {**given, "rerun": True}, page)
    planned = experiments.plan(
        name, {**{k: profiles.read_yaml(p["default"].replace("True", "true")) for k, p in known.items()}, **given}
    )
    assert {r.trial for r in Store(tmp_path / "store")} == set(planned)
    shown = texts(page)
    assert f"This run has {len(planned)} trials; nothing is published for its profile" in shown
    assert f"figure-{name.replace('_', '-')}" in shown


def test_an_unknown_parameter_stops_before_the_kernel_starts(parameters, tmp_path):
    with pytest.raises(UnknownName, match="unknown parameter of notebook 'progressive': 'sedes'; choose one of: "):
        notebooks.execute("progressive", {**parameters, "sedes": [0]}, tmp_path / "page.ipynb")
    assert not list(tmp_path.glob("*.ipynb"))


@pytest.mark.slow
def test_a_wrong_type_ends_in_the_notebooks_own_sentence_and_leaves_no_page(parameters, tmp_path):
    page = tmp_path / "page.ipynb"
    page.write_text("the page of an earlier run")
    with pytest.raises(NotebookFailed) as caught:
        notebooks.execute("progressive", {**parameters, "rerun": "no"}, page)
    assert str(caught.value) == "notebook 'progressive': parameter 'rerun' is 'no'; give a bool."
    assert page.read_text() == "the page of an earlier run"
    assert [p.name for p in tmp_path.iterdir()] == ["page.ipynb"]


def test_unknown_notebook():
    with pytest.raises(UnknownName, match="unknown experiment 'nonesuch'"):
        notebooks.path("nonesuch")


@pytest.fixture
def folder_of_notebooks(tmp_path, monkeypatch):
    """A function that writes a notebook of a parameters cell and one more, where notebooks are looked for."""
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path)

    def write(name: str, source: str) -> None:
        cell = nbformat.v4.new_code_cell("x: int = 1  # a number", metadata={"tags": ["parameters"]})
        notebook = nbformat.v4.new_notebook(cells=[cell, nbformat.v4.new_code_cell(source)])
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")

    return write


def test_a_notebook_that_stops_with_a_bug_is_named(folder_of_notebooks, tmp_path):
    folder_of_notebooks("broken", "1 / (x - 1)")
    with pytest.raises(NotebookFailed, match="notebook 'broken' stopped with ZeroDivisionError: division by zero"):
        notebooks.execute("broken", {"x": 1}, tmp_path / "out" / "page.ipynb")
    assert list((tmp_path / "out").iterdir()) == []
    assert notebooks.execute("broken", {"x": 2}, tmp_path / "out" / "page.ipynb").is_file()


def test_a_page_that_cannot_be_written_ends_in_a_sentence(folder_of_notebooks, tmp_path, monkeypatch):
    folder_of_notebooks("good", "x")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotebookFailed, match="'good' cannot be run and kept as .*page.ipynb .*; free some space"):
        notebooks.execute("good", {}, tmp_path / "file" / "page.ipynb")

    def full(source, target, *_, **__):
        target.write_text("{")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(notebooks.papermill, "execute_notebook", full)
    with pytest.raises(NotebookFailed, match="No space left on device.; free some space, or move away what is in its"):
        notebooks.execute("good", {}, tmp_path / "out" / "page.ipynb")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_kernel_that_dies_ends_in_a_sentence(folder_of_notebooks, tmp_path, monkeypatch):
    folder_of_notebooks("killed", "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(
        NotebookFailed, match="'killed': its kernel is lost .Kernel died.; free some memory or use fewer"
    ):
        notebooks.execute("killed", {}, tmp_path / "out" / "page.ipynb")
    assert list((tmp_path / "out").iterdir()) == []

    def silent(*_, **__):
        raise RuntimeError("Kernel didn't respond in 60 seconds")

    monkeypatch.setattr(notebooks.papermill, "execute_notebook", silent)
    with pytest.raises(NotebookFailed, match="'killed': its kernel is lost .*respond in 60 seconds.; free some"):
        notebooks.execute("killed", {}, tmp_path / "out" / "page.ipynb")


def test_notebooks_beside_each_other_see_their_environment_and_leave_ours(folder_of_notebooks, tmp_path, capsys):
    for name in "abc":
        folder_of_notebooks(name, "import os; print(os.environ['COMPANION_TEST'], os.environ['COMPANION_PROGRESS'], x)")
    before = dict(os.environ)
    wanted = {name: {"x": number} for number, name in enumerate("abc", start=5)}
    pages = notebooks.execute_all(wanted, tmp_path / "out", COMPANION_TEST="seen")
    assert [page.stem for page in pages] == list("abc")
    for number, page in enumerate(pages, start=5):
        assert f"seen text {number}" in texts(page)
    assert dict(os.environ) == before
    print("still here")  # what is printed afterwards reaches its reader
    assert capsys.readouterr().out == "still here\n"


def test_a_failure_among_many_is_raised_and_leaves_no_half_page(folder_of_notebooks, tmp_path):
    folder_of_notebooks("good", "x")
    folder_of_notebooks("broken", "1 / 0")
    with pytest.raises(NotebookFailed, match="'broken' stopped with ZeroDivisionError"):
        notebooks.execute_all({"broken": {}, "good": {}}, tmp_path / "out")
    assert not (tmp_path / "out" / "broken.ipynb").exists()
    with pytest.raises(UnknownName, match="parameter of notebook 'good'"):
        notebooks.execute_all({"broken": {}, "good": {"y": 1}}, tmp_path / "other")
    assert not (tmp_path / "other").exists()


# --- `companion run`, killed ----------------------------------------------------------------------------------------


@pytest.fixture
def profile(parameters, tmp_path) -> Path:
    own = {k: v for k, v in parameters.items() if k not in ("profile", "store", "executor")}
    own |= {"seeds": list(range(12)), "train_sizes": [48], "epochs": 20, "preserved_layers": {"described": [0, 4]}}
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({"about": "small", "progressive": own}))
    return path


def stored(folder: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in folder.glob("[0-9a-f][0-9a-f]/*.json")}


@pytest.mark.slow
@pytest.mark.parametrize(
    "signals", [[signal.SIGKILL], [signal.SIGINT], [signal.SIGINT] * 2], ids=["kill -9", "Ctrl-C", "Ctrl-C twice"]
)
def test_companion_run_stopped_in_the_middle_goes_on_where_it_was(signals, profile, tmp_path, capfd):
    folder = tmp_path / "store"
    command = [sys.executable, "-m", "companion", "run", "--profile", str(profile), "--store", str(folder)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, **pipes, text=True, preexec_fn=heed_interrupts)
    try:
        while process.poll() is None and len(stored(folder)) < 2:
            time.sleep(0.01)
        for number in signals:
            process.send_signal(number)
            time.sleep(0.1)  # two at once would be one
        process.wait(timeout=60)
    finally:
        process.kill()
    if signal.SIGINT in signals:
        assert process.returncode == 130
        said = process.stderr.read()  # after two, the kernel that ends may have the last word
        assert "companion: interrupted; what was finished is stored, and the same command goes on from there.\n" in said
        assert "Traceback" not in said
    quiet_since, before = time.monotonic(), stored(folder)
    while time.monotonic() - quiet_since < 3:  # the kernel and its workers end by themselves
        time.sleep(0.2)
        if (now := stored(folder)) != before:
            quiet_since, before = time.monotonic(), now
    assert 2 <= len(before) < 24, "the run was not stopped in the middle"

    code = main(["run", "--profile", str(profile), "--store", str(folder), "--executor", "local"])
    assert code == (0 if "minilm" in table.published_profiles() else 1)
    assert {path: when for path, when in stored(folder).items() if path in before} == before
    planned = experiments.plan("progressive", profiles.load(str(profile)).experiments["progressive"])
    assert {r.trial for r in Store(folder)} == set(planned)
    assert os.path.isdir(folder)
