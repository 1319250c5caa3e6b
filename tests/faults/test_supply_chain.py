"""What is installed, loaded and published: pinned, hashed, no code from data, nothing of the machine in the pages."""

from __future__ import annotations

import ast
import getpass
import hashlib
import json
import os
import re
import secrets
from pathlib import Path

import pytest
from conftest import CASES, ROOT, needs_pocket

from companion import book, models, tasks

CODE = sorted(p for folder in ("src", "scripts", "benchmarks", "tests") for p in (ROOT / folder).rglob("*.py"))
OURS = [p for p in CODE if "tests" not in p.relative_to(ROOT).parts]
NOTEBOOKS = sorted(p for folder in ("notebooks", "labs") for p in (ROOT / folder).glob("*.ipynb"))


# --- no code from data ----------------------------------------------------------------------------------------------

MODULES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "pty", "code"}
HARMLESS = {("joblib", "cpu_count")}  # of these modules
NAMES = {"eval", "exec", "compile", "__import__"}
CALLS = {"torch.load", "torch.save", "os.system", "os.popen", "pd.read_pickle", "pandas.read_pickle",
         "yaml.unsafe_load", "yaml.full_load", "torch.hub.load"}  # fmt: skip


def dangerous(tree: ast.AST) -> list[str]:
    """Imports, calls and options in the code that could run what a file or an address holds."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            found += [node.module for alias in node.names if (node.module, alias.name) not in HARMLESS]
        elif isinstance(node, ast.Name) and node.id in NAMES:
            found.append(node.id)
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in CALLS:
            found.append(ast.unparse(node))
        elif isinstance(node, ast.keyword) and node.arg in ("trust_remote_code", "shell", "allow_pickle"):
            if ast.unparse(node.value) != "False":
                found.append(f"{node.arg}={ast.unparse(node.value)}")
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "yaml.load":
            found += [] if len(node.args) == 2 and ast.unparse(node.args[1]) == "_Yaml" else ["yaml.load"]
    return found


@pytest.mark.parametrize("path", OURS, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_code_is_run_from_data(path):
    assert dangerous(ast.parse(path.read_text())) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_no_notebook_runs_code_from_data(path):
    cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    for cell in cells:
        source = "".join(cell["source"])
        assert not re.search(r"^\s*[!%]", source, re.MULTILINE), "shell or magic commands"
        assert dangerous(ast.parse(source)) == []


@pytest.mark.parametrize(
    "code",
    ["import pickle", "from joblib import load", "eval('1')", "torch.load(p)", "f(trust_remote_code=True)",
     "yaml.load(x)", "subprocess.run(c, shell=True)", "exec(x)", "numpy.load(p, allow_pickle=True)"],
)  # fmt: skip
def test_the_check_finds_what_it_looks_for(code):
    assert len(dangerous(ast.parse(code))) == 1
    assert dangerous(ast.parse("network.eval(); f(trust_remote_code=False); yaml.load(text, _Yaml)")) == []


# --- what is loaded -------------------------------------------------------------------------------------------------


def test_every_source_on_a_hub_has_a_commit():
    for name, source in models.NAMED.items():
        assert source.hub is None or re.fullmatch(r"[0-9a-f]{40}", source.revision), name
    assert re.fullmatch(r"[0-9a-f]{40}", tasks.GLUE_REVISION)


def test_every_source_of_shipped_or_packaged_weights_has_a_hash():
    for name, source in models.NAMED.items():
        assert (source.folder is None and source.package is None) or re.fullmatch(r"[0-9a-f]{64}", source.sha256), name


@needs_pocket
def test_the_shipped_weights_are_those_of_the_model_card():
    folder = ROOT / "models" / "pocket-bert"
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert digest == models.NAMED["pocket-bert"].sha256
    assert digest in (folder / "README.md").read_text()
    assert models.weights_of("pocket-bert") == digest[:16]


def test_every_call_that_loads_a_model_refuses_remote_code_and_pickles():
    calls = [n for p in OURS for n in ast.walk(ast.parse(p.read_text()))
             if isinstance(n, ast.Call) and getattr(n.func, "attr", "") == "from_pretrained"]  # fmt: skip
    assert calls
    for call in calls:
        given = {k.arg: ast.unparse(k.value) for k in call.keywords}
        assert given.get("trust_remote_code") == "False", ast.unparse(call)
        if "AutoModel" in ast.unparse(call.func):
            assert given.get("use_safetensors") == "True", ast.unparse(call)


# --- nothing of the machine in what is published ---------------------------------------------------------------------

PLACES = re.compile(r"(?<![\w.~$}/])/(?:home|Users|root|tmp|work|mnt|private|var/folders)/[\w.-]+")


def private(text: str) -> list[str]:
    """Absolute paths of people's folders, this checkout's place and this user's name, where they occur in the text."""
    found = PLACES.findall(text)
    found += [place for place in (str(ROOT), str(Path.home())) if len(place) > 5 and place in text]
    user = getpass.getuser()
    if user not in ("root", "user", "runner", "admin", "test"):  # words as well
        found += re.findall(rf"\b{re.escape(user)}\b", text)
    return found


def published_files() -> list[Path]:
    kinds = ("*.ipynb", "*.md", "*.csv", "*.yml", "*.yaml", "*.json", "*.toml", "*.cff", "Makefile", "*.sh")
    folders = ("notebooks", "labs", "book", "results", "benchmarks", "models", "scripts", "src")
    found = [p for kind in kinds for folder in folders for p in (ROOT / folder).rglob(kind)]
    return [*found, *(p for kind in kinds for p in ROOT.glob(kind))]


def test_what_is_committed_names_no_user_and_no_folder_of_theirs():
    found = {p.name: places for p in published_files() if (places := private(p.read_text(errors="replace")))}
    assert found == {}


def test_pages_and_notebooks_of_the_site_carry_nothing_of_the_machine(tmp_path):
    """An executed notebook as papermill leaves it, made into a page's source."""
    given = f'# Parameters\nstore = "{tmp_path}/store"\ndata_dir = "/home/someone/glue"\nseeds = [0]\n'
    parameters = {"cell_type": "code", "metadata": {"tags": ["injected-parameters"]}, "source": given, "outputs": []}
    plain = {"cell_type": "code", "metadata": {"papermill": {"status": "completed"}}, "source": "x = 1", "outputs": []}
    where = {"input_path": str(ROOT / "notebooks" / "x.ipynb"), "output_path": str(tmp_path / "x.ipynb")}
    page = tmp_path / "page.ipynb"
    content = {"cells": [parameters, plain], "metadata": {"papermill": {**where, "environment_variables": {}}}}
    page.write_text(json.dumps(content))
    book.fold_code(page)
    assert private(page.read_text()) == []
    assert str(tmp_path) not in page.read_text()
    assert "seeds = [0]" in page.read_text()


@pytest.mark.slow
def test_a_built_book_carries_no_environment_variable(tmp_path, monkeypatch):
    """What is staged for the book: its pages, and the tables that are made for them."""
    canary = secrets.token_hex(16)
    monkeypatch.setenv("COMPANION_CANARY", canary)
    book.stage(tmp_path / "src")
    known = {v for k, v in os.environ.items() if len(v) > 12 and re.search("TOKEN|KEY|SECRET|PASS|HOME|USER|CANARY", k)}
    for path in (p for p in (tmp_path / "src").rglob("*") if p.suffix in (".md", ".yml", ".css", ".html", ".bib")):
        text = path.read_text()
        assert private(text) == [], path
        assert not [value for value in known if value in text], path


# --- promises -------------------------------------------------------------------------------------------------------


def test_every_promise_names_a_test_that_exists():
    text = (ROOT / "SECURITY.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(named) > 20
    for file, test in named:
        functions = {n.name for n in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(n, ast.FunctionDef)}
        assert test in functions, f"{file} has no {test}"
    rows = [line for line in text.splitlines() if line.startswith("| ")][2:]
    assert all("`tests/" in row for row in rows), "a promise without a test"


def test_the_numbers_of_cases_are_told_as_they_are():
    fuzz = ast.parse((ROOT / "tests" / "faults" / "test_fuzz.py").read_text())
    properties = [n for n in ast.walk(fuzz) if isinstance(n, ast.FunctionDef)
                  and any(ast.unparse(d) == "fuzzed" for d in n.decorator_list)]  # fmt: skip
    told = f"{len(properties)} properties, each tried on {CASES['default']:,} inputs by `make test` "
    told += f"and on {CASES['long']:,}"
    assert told in " ".join((ROOT / "SECURITY.md").read_text().split())
