"""The files that say what to install agree with each other and with what the code imports."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
PINS = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
VERSIONS = dict(line.split("==") for line in PINS if "==" in line)
REQUIREMENTS = [Requirement(r) for r in [*PROJECT["dependencies"], *(r for extra in EXTRAS.values() for r in extra)]]


def test_pins_are_names_and_public_versions():
    """No address, folder, local build or range: nothing that only one machine has."""
    odd = [line for line in PINS if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)]
    assert odd == []


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda r: r.name)
def test_every_dependency_is_pinned_within_its_range(requirement):
    pins = {canonicalize_name(name): version for name, version in VERSIONS.items()}
    assert Version(pins[canonicalize_name(requirement.name)]) in requirement.specifier


def test_conda_environment_installs_the_same():
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(d["pip"] for d in dependencies if isinstance(d, dict))
    assert [d for d in dependencies if isinstance(d, str)] == ["python=3.11", "pip"]
    assert PROJECT["requires-python"] == ">=3.11,<3.12"
    assert pip[0] == "--constraint constraints.txt"
    extras = re.fullmatch(r"--editable \.\[(.+)\]", pip[1])[1]
    assert set(extras.split(",")) <= set(EXTRAS)
    assert f"--editable '.[{extras}]'" in (ROOT / "Makefile").read_text()


def test_every_import_is_a_declared_dependency():
    declared = {canonicalize_name(r.name) for r in REQUIREMENTS}
    distributions = packages_distributions()
    undeclared = {
        name
        for name in _imported(ROOT / "src") - set(sys.stdlib_module_names) - {"companion"}
        if declared.isdisjoint(map(canonicalize_name, distributions.get(name, [name])))
    }
    assert undeclared == set()


def _imported(folder: Path) -> set[str]:
    """Top-level names of all modules imported by the Python files under ``folder``."""
    names = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(node.module.split(".")[0])
    return names


def test_version_and_license_are_told_once():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert citation["authors"] == PROJECT["authors"]
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()
