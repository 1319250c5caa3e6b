"""Build the book: execute the notebooks from stored results, stage everything in one folder, run Jupyter Book strictly.

Nothing is asked of the network: the chart library is taken from the installed ``vl-convert-python``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from companion import embed, generated, notebooks
from companion.errors import BookBuildFailed, InvalidValue
from companion.paths import BUILD, ROOT

SOURCES = ("_config.yml", "_toc.yml", "book")
KEPT_TAGS = {"parameters", "hide-input", "remove-input", "remove-cell"}  # cells that say themselves how they are shown
ROLES = {  # what Sphinx and its theme write → what screen readers need: the sidebar a landmark, the bibliography a list
    'role="doc-biblioentry"': 'role="listitem"',
    '<div id="pst-primary-sidebar"': '<div id="pst-primary-sidebar" role="complementary" aria-label="Book"',
}


def build(wanted: Mapping[str, Mapping[str, Any]], folder: Path = BUILD, repository: str | None = None) -> Path:
    """Build the book in ``folder`` and return its first page, ``html/index.html``.

    ``wanted`` maps a notebook's name to its parameters; each is executed with ``rerun=False``. ``repository`` is the
    address on GitHub that pages then link to: their source, and their notebook on Binder. Raises
    :class:`NotebookFailed`, :class:`BookBuildFailed`, or :class:`InvalidValue` for another kind of address; no site is
    left behind by a failed build, not even an older one: what is there is whole, and made from today's stored results.
    """
    links = links_to(repository) if repository else {}
    try:
        return _build(wanted, folder, links)
    except OSError as error:
        shutil.rmtree(folder / "html", ignore_errors=True)
        raise BookBuildFailed(
            f"the book cannot be written to {folder} ({error.strerror or error})",
            "free some space, or move away what is in its place",
        ) from error


def _build(wanted: Mapping[str, Mapping[str, Any]], folder: Path, links: Mapping[str, Any]) -> Path:
    site, source = folder / "html", folder / "src"
    for old in (site, source):
        shutil.rmtree(old, ignore_errors=True)
    stage(source, links)
    stored = {name: {**parameters, "rerun": False} for name, parameters in wanted.items()}
    # figures are then written for a page, not for a live notebook
    for page in notebooks.execute_all(stored, source / "notebooks", COMPANION_BOOK="1"):
        fold_code(page)
    _run_jupyter_book(source, site)
    weights(site).to_csv(folder / "page-weights.csv", index=False)
    return site / "index.html"


def links_to(repository: str) -> dict[str, Any]:
    """Settings of Jupyter Book that link its pages to a repository on GitHub; raises :class:`InvalidValue`."""
    if not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", repository):
        raise InvalidValue(
            f"{repository!r} is not the address of a repository", "write it as https://github.com/OWNER/NAME"
        )
    return {
        "repository": {"url": repository, "branch": "main"},
        "launch_buttons": {"notebook_interface": "jupyterlab", "binderhub_url": "https://mybinder.org"},
        "html": {"use_repository_button": True, "use_issues_button": True},
    }


def stage(source: Path, links: Mapping[str, Any] | None = None) -> None:
    """Copy what the book is written in to ``source`` and put the browser's chart library beside it.

    ``links`` are settings added to those of ``_config.yml`` (see :func:`links_to`).
    """
    source.mkdir(parents=True)
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    if links:
        settings = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
        for name, value in links.items():
            settings[name] = {**settings.get(name, {}), **value}
        (source / "_config.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    generated.write(source / "book" / "_generated")
    vendor = source / "book" / "_vendor"
    vendor.mkdir()
    (vendor / "vega-bundle.js").write_text(embed.chart_library(), encoding="utf-8")


def fold_code(page: Path) -> None:
    """Collapse the code of an executed notebook, except the parameters cell; drop what papermill added to it.

    The site has the notebooks as well as the pages: paths of the machine that built it must be in neither.
    """
    notebook = json.loads(page.read_text(encoding="utf-8"))
    notebook.get("metadata", {}).pop("papermill", None)
    for cell in notebook["cells"]:
        cell["metadata"].pop("papermill", None)
        tags = cell["metadata"].setdefault("tags", [])
        if "injected-parameters" in tags:
            tags.append("remove-cell")
            cell["source"] = _without_places(cell["source"])
        elif cell["cell_type"] == "code" and not KEPT_TAGS.intersection(tags):
            tags.append("hide-input")
    page.write_text(json.dumps(notebook, indent=1), encoding="utf-8")


def _without_places(source: str | list[str]) -> str:
    """Assignments without those of folders, which are this machine's own."""
    lines = "".join(source).splitlines(keepends=True)
    return "".join(line for line in lines if not re.match(r"(store|data_dir) = ", line))


def weights(site: Path) -> pd.DataFrame:
    """Every page of the site with its size in bytes (``page``, ``bytes``), the heaviest first.

    Styles and scripts, which all pages share and a browser loads once, are not in it.
    """
    pages = [page for page in site.rglob("*.html") if "_static" not in page.relative_to(site).parts]
    rows = [{"page": page.relative_to(site).as_posix(), "bytes": page.stat().st_size} for page in pages]
    return pd.DataFrame(rows).sort_values(["bytes", "page"], ascending=[False, True], ignore_index=True)


def _run_jupyter_book(source: Path, site: Path) -> None:
    """Warnings are errors; the site is moved into place only when there was none."""
    # not the script on PATH, which may belong to another environment
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", str(source)]
    options = ["--path-output", str(source.parent / "jb"), "--all", "-W", "-n", "--keep-going"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    output = source.parent / "jb" / "_build"
    try:
        if done.returncode:
            printed = re.sub(r"\x1b\[[0-9;]*m", "", done.stderr + done.stdout)  # without terminal colors
            lines = printed.replace(f"{source.resolve()}{os.sep}", "").splitlines()
            said = [line.strip() for line in lines if "WARNING" in line or "ERROR" in line] or lines[-3:]
            raise BookBuildFailed(f"the book did not build: {' | '.join(said[:3])}", "mend the page named there")
        for page in (output / "html").rglob("*.html"):
            _mend_roles(page)
        (output / "html").rename(site)
    finally:
        shutil.rmtree(output.parent, ignore_errors=True)


def _mend_roles(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for written, needed in ROLES.items():
        text = text.replace(written, needed)
    page.write_text(text, encoding="utf-8")
