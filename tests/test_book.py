"""The book: its browser library, its staging folder, what it hides, and that a failed build leaves nothing behind."""

from __future__ import annotations

import json
import re
from pathlib import Path

import altair
import pytest
import vl_convert
import yaml
from conftest import result_of, some_trial

from companion import book, generated, table
from companion.errors import BookBuildFailed

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "book").rglob("*.md"))


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("staged") / "src"
    book.stage(folder)
    return folder


def test_staging_holds_the_sources_and_the_chart_library(staged):
    for name in ("_config.yml", "_toc.yml", "book/index.md", "book/_static/companion-charts.js"):
        assert (staged / name).read_bytes() == (ROOT / name).read_bytes()
    bundle = (staged / "book" / "_vendor" / "vega-bundle.js").read_text()
    assert bundle.startswith("(() => {")
    assert "window.vegaEmbed=" in bundle


def test_chart_library_has_the_versions_altair_writes_for(staged):
    bundle = (staged / "book" / "_vendor" / "vega-bundle.js").read_text()
    assert f'"{altair.VEGALITE_VERSION}"' in bundle
    assert f'"{vl_convert.get_vega_version()}"' in bundle
    assert vl_convert.get_vega_version().split(".")[0] == altair.VEGA_VERSION
    assert vl_convert.get_vega_embed_version().split(".")[0] == altair.VEGAEMBED_VERSION


def test_static_folders_of_the_configuration_are_staged(staged):
    config = yaml.safe_load((ROOT / "_config.yml").read_text())["sphinx"]["config"]
    assert all((staged / folder).is_dir() for folder in config["html_static_path"])
    files = [*config["html_css_files"], *config["html_js_files"]]
    assert all(any((staged / folder / name).is_file() for folder in config["html_static_path"]) for name in files)


def test_every_page_is_in_the_table_of_contents():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    named = {toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])}
    assert {str(page.relative_to(ROOT).with_suffix("")) for page in PAGES} <= named
    notebooks = {f"notebooks/{page.stem}" for page in (ROOT / "notebooks").glob("*.ipynb")}
    assert {name for name in named if name.startswith("notebooks/")} == notebooks


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_result_is_typed_by_hand(page):
    """Scores are written with decimals; versions, DOIs and code are not scores."""
    assert typed_results(page.read_text()) == []


@pytest.mark.parametrize("page", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda page: page.stem)
def test_no_result_is_typed_in_a_notebook(page):
    cells = json.loads(page.read_text())["cells"]
    assert typed_results("\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")) == []


def typed_results(text: str) -> list[str]:
    prose = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)", " ", text, flags=re.DOTALL)
    return re.findall(r"(?<![\d.])-?[01]?\.\d\d+", prose)


def test_code_is_folded_and_injected_parameters_go(tmp_path):
    def cell(kind, *tags):
        return {"cell_type": kind, "metadata": {"tags": list(tags)} if tags else {}, "source": "x = 1"}

    cells = [cell("markdown"), cell("code", "parameters"), cell("code", "injected-parameters"), cell("code")]
    page = tmp_path / "page.ipynb"
    page.write_text(json.dumps({"cells": [*cells, cell("code", "remove-input")], "nbformat": 4}))
    book.fold_code(page)
    tags = [cell["metadata"]["tags"] for cell in json.loads(page.read_text())["cells"]]
    assert tags == [[], ["parameters"], ["injected-parameters", "remove-cell"], ["hide-input"], ["remove-input"]]


@pytest.fixture
def small_project(tmp_path, monkeypatch):
    """A book of one page, and an older site where the new one goes."""
    root, folder = tmp_path / "project", tmp_path / "_build"
    (root / "book").mkdir(parents=True)
    (root / "_config.yml").write_text("title: Small\nonly_build_toc_files: true\nsphinx: {config: {language: en}}\n")
    (root / "_toc.yml").write_text("format: jb-book\nroot: book/index\n")
    (folder / "html").mkdir(parents=True)
    (folder / "html" / "stale.html").write_text("old")
    monkeypatch.setattr(book, "ROOT", root)
    return root, folder


@pytest.mark.slow
def test_a_warning_stops_the_build_and_leaves_no_site(small_project):
    root, folder = small_project
    (root / "book" / "index.md").write_text("# Title\n\n[gone](nowhere.md)\n")
    with pytest.raises(BookBuildFailed, match=r"index.md.*nowhere") as failure:
        book.build({}, folder)
    assert "\x1b" not in str(failure.value)
    assert not (folder / "html").exists()


@pytest.mark.slow
def test_a_build_replaces_the_older_site(small_project):
    root, folder = small_project
    (root / "book" / "index.md").write_text("# Title\n\nText.\n")
    index = book.build({}, folder)
    assert index == folder / "html" / "index.html"
    assert index.is_file()
    assert not (folder / "html" / "stale.html").exists()


def test_a_failing_notebook_leaves_no_site(small_project, monkeypatch):
    root, folder = small_project
    (root / "book" / "index.md").write_text("# Title\n")

    def fail(wanted, folder, **environment):
        assert wanted == {"progressive": {"profile": "p", "rerun": False}}
        raise RuntimeError("progressive")

    monkeypatch.setattr(book.notebooks, "execute_all", fail)
    with pytest.raises(RuntimeError, match="progressive"):
        book.build({"progressive": {"profile": "p"}}, folder)
    assert not (folder / "html").exists()


def test_a_book_that_cannot_be_written_ends_in_a_sentence(small_project, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(BookBuildFailed, match="the book cannot be written to .*file .*; free some space, or move away"):
        book.build({}, tmp_path / "file")
    folder = small_project[1]

    def all_but_the_last(source, site):
        site.mkdir()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(book, "_run_jupyter_book", all_but_the_last)
    with pytest.raises(BookBuildFailed, match="No space left on device"):
        book.build({}, folder)
    assert not (folder / "html").exists()


def test_longer_trainings_are_not_counted_with_the_usual_ones(monkeypatch):
    usual = [result_of(some_trial(seed=seed), diverged=seed == 0) for seed in range(3)]
    longer = [result_of(some_trial(seed=seed, epochs=9), 0.75, diverged=True) for seed in range(3)]
    rows = table.tidy([*usual, *longer], experiment="progressive", profile="p")
    monkeypatch.setattr(table, "published_profiles", lambda: ["p"])
    monkeypatch.setattr(table, "published", lambda _: rows)
    assert "| 1 of 3 | 33 % |" in generated.diverged()
    assert "| 3 | 0.500 | 0.500 | 0.500 |" in generated.spread_of_seeds()
