"""What pages include of the package itself: complete, true to the code, and made without a network."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from companion import errors, handbook, lessons, notebooks, protocols, reference, table
from tests.conftest import needs_notebook_tables, needs_pocket

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"


def cells(markdown: str) -> list[list[str]]:
    """The rows of the first Markdown table, without its heading."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_every_field_of_a_protocol_is_told():
    fields = [f.name for f in dataclasses.fields(protocols.Protocol)]
    assert list(protocols.ABOUT) == fields
    rows = {row[0].strip("`"): row for row in cells(handbook.protocol_fields())}
    assert list(rows) == fields
    for name in fields:
        released = str(getattr(protocols.RELEASED, name)).lower()
        assert rows[name][3].strip("`") == released
    assert rows["weights"][4] == "`normal`, `shuffled`"


def test_every_parameter_of_every_notebook_is_told():
    told = {row[0].strip("`"): row for row in cells(handbook.parameters())}
    assert set(handbook.NOTEBOOK_ORDER) == {p.stem for p in (ROOT / "notebooks").glob("*.ipynb")}
    wanted = {name for notebook in handbook.NOTEBOOK_ORDER for name in notebooks.parameters(notebook)}
    assert set(told) == wanted
    assert all(row[2] not in ("", "–") for row in told.values())
    assert told["seeds"][3] == "all"
    assert "permutation" in told["permutations"][3]


@needs_pocket
@pytest.mark.slow
def test_troubles_are_what_the_command_line_says(tmp_path):
    page = handbook.troubles()
    found = re.findall(r"```bash\n(companion .*)\n```\n\n```text\n(.*)\n```", page)
    assert len(found) > 8
    typed, said = found[0]
    environment = {"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", *typed.split()]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == said


@needs_notebook_tables
def test_every_column_is_explained():
    meanings = reference.column_meanings()
    assert set(table.COLUMNS) == set(meanings)
    assert len(set(meanings.values())) == len(meanings)
    assert [row[0].strip("`") for row in cells(reference.columns())] == list(table.COLUMNS)


@needs_notebook_tables
def test_downloads_are_the_published_files(tmp_path):
    text = reference.downloads(tmp_path / "files")
    for name in table.published_profiles():
        for suffix in ("csv", "parquet"):
            copy = tmp_path / "files" / f"{name}.{suffix}"
            assert copy.read_bytes() == (ROOT / "results" / copy.name).read_bytes()
            assert f"`{copy.name} <_generated/files/{copy.name}>`" in text


@needs_notebook_tables
def test_costs_are_sums_of_the_table():
    rows = {(row[0].strip("`"), row[1]): row for row in cells(handbook.costs())}
    trials = table.published("pocket").query("experiment == 'progressive'")
    row = next(row for key, row in rows.items() if key[0] == "pocket" and "progressive" in key[1])
    assert row[2] == f"{len(trials):,}"
    assert row[4] == f"{trials['seconds'].sum() / 3600:.2f}"


def test_a_grid_costs_what_its_larger_sizes_do():
    tasks = ["cola", "sst2", "qnli"]
    trials = pd.DataFrame({"task": tasks, "train_size": 500, "epochs": 3, "seconds": 10.0})
    # published at 500 examples, planned at 500 and 5,000
    assert handbook.seconds_in_grid(trials, "minilm", "data_scaling") == pytest.approx((10 + 100) / 2)
    # planned with the epochs of the profile, and four times as many
    assert handbook.seconds_in_grid(trials, "minilm", "initialization") == pytest.approx((10 + 40) / 2)
    assert handbook.seconds_in_grid(trials[:2], "minilm", "data_scaling") is None
    assert handbook.seconds_in_grid(trials, "paper", "progressive") is None
    assert handbook.seconds_in_grid(trials, "mine", "progressive") is None


@needs_pocket
def test_models_and_data_come_with_their_hashes():
    text = handbook.models_used()
    card = (ROOT / "models" / "pocket-bert" / "README.md").read_text()
    assert re.search(r"SHA-256 `(\w{64})`", card)[1] in text
    assert set(handbook.MODEL_LICENSES) == set(re.findall(r"\*\*`([\w-]+)`\*\*", text))


def test_reference_has_every_public_name():
    text = reference.reference()
    for path in (ROOT / "src" / "companion").glob("[!_]*.py"):
        assert f"### companion.{path.stem}\n" in text
    for name in ("t_interval(", "class Trial(", "reinitialize(", *dir(errors)):
        if not name.startswith("_") and name not in ("annotations",):
            assert name in text
    assert ":class:" not in text


def test_docstrings_keep_their_signs():
    assert reference._prose("``a_b`` and :class:`companion.X` and [0, 1] < n_x") == (
        "`a_b` and `companion.X` and \\[0, 1\\] \\< n\\_x"
    )


# --- teaching ------------------------------------------------------------------------------------------------------


def test_every_chapter_of_the_first_three_parts_can_be_taught():
    parts = yaml.safe_load((ROOT / "_toc.yml").read_text())["parts"][:3]
    files = [chapter["file"] for part in parts for chapter in part["chapters"]]
    told = lessons.lessons()
    assert set(files) - set(told) == set()
    for title, text in told.values():
        assert title
        for word in ("**Minutes.**", "**Goals.**", "**Discuss.**"):
            assert text.count(word) == 1
    rows = cells(lessons.lesson_table())
    assert len(rows) == len(told)
    assert all(int(row[1]) > 0 and row[2] for row in rows)


def blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (BOOK / page).read_text(), re.MULTILINE | re.DOTALL)


SOLUTIONS = blocks("exercises.md")


def test_every_exercise_has_a_solution_that_checks_itself():
    text = (BOOK / "exercises.md").read_text()
    assert len(re.findall(r"^## \d", text, re.MULTILINE)) == len(SOLUTIONS) == text.count(":::{dropdown} Solution")
    assert all("assert " in solution for solution in SOLUTIONS)


@needs_pocket
@needs_notebook_tables
@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, len(SOLUTIONS) + 1))
def test_solution_runs(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(SOLUTIONS[number - 1], f"solution {number}", "exec"), {})


@needs_pocket
@pytest.mark.slow
def test_own_model_and_own_task_work_as_the_page_says(tmp_path, monkeypatch, capsys):
    from companion import tasks

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tasks, "TASKS", dict(tasks.TASKS))
    namespace: dict = {}
    for number, block in enumerate(blocks("own.md"), 1):
        exec(compile(block, f"own.md, block {number}", "exec"), namespace)
    printed = capsys.readouterr().out
    assert "matthews" in printed
    assert re.search(r"intact 0?\.?\d", printed)
    assert namespace["report"].failed == 0
    layers = json.loads((tmp_path / "half-pocket" / "config.json").read_text())["num_hidden_layers"]
    assert layers == 6


def test_bibtex_is_that_of_the_citation_file():
    text = reference.bibtex()
    assert "Tamkin, Alex and Singh, Trisha" in text
    assert "10.18653/v1/2020.findings-emnlp.125" in text


@needs_notebook_tables
def test_a_verdict_links_to_the_figures_of_its_trials(monkeypatch):
    from companion import generated, ledger

    for claim in ledger.CLAIMS:
        for profile in ("pocket", "minilm"):
            links = re.findall(r"notebooks/(\w+)\.html#figure-([\w-]+)", generated._figure_links(claim, profile))
            assert [name for name, _ in links] == list(claim.notebooks)
            for name, figure in links:  # a figure that a cell of the page draws
                assert f'name=\\"{figure}\\"' in (ROOT / "notebooks" / f"{name}.ipynb").read_text()
    assert generated._figure_links(ledger.CLAIMS[0], "nobody") == ""
    without = table.published("minilm").query("experiment != 'layernorm'")
    monkeypatch.setattr(table, "published_or_empty", lambda name: without)
    assert "layernorm" not in generated._figure_links(ledger.CLAIMS[-1], "minilm")
