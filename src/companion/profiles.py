"""Profiles: named YAML files of papermill parameters, one section per notebook.

``shared`` holds parameters every notebook takes; a section named after an experiment adds or overrides its own. A key
that no notebook parameter has is an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from companion.errors import InvalidValue, UnknownName
from companion.experiments import EXPERIMENTS
from companion.paths import PROFILES, usable

KEYS = ("about", "shared", *EXPERIMENTS)


@dataclass(frozen=True)
class Profile:
    """A name, one sentence about it, and the parameters of each of its experiments."""

    name: str
    about: str
    experiments: dict[str, dict[str, Any]]


class _Yaml(yaml.SafeLoader):
    """Safe YAML in which 2e-5 is a number, as in YAML 1.2 and Python (1.1 wants 2.0e-5 and reads a text).

    Aliases are refused: a few lines of them stand for a value larger than any memory. So are keys that are there
    twice, of which YAML takes the last.
    """

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases are not allowed", self.peek_event().start_mark)
        return super().compose_node(parent, index)

    def flatten_mapping(self, node):
        """Merge nothing: a mapping behind ``<<`` would come in unchecked, and without aliases it has no use."""

    def construct_mapping(self, node, deep=False):
        mapping, seen = super().construct_mapping(node, deep), set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                problem = f"the key {key!r} is there twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.add(key)
        return mapping


def _plain_numbers() -> None:
    """Read numbers as Python writes them: in YAML 1.1, 1:30 is ninety and 010 eight, here both are texts."""
    number, digits = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}, [*"-+.0123456789"]
    _Yaml.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in found if tag not in number]
        for first, found in _Yaml.yaml_implicit_resolvers.items()
    }
    _Yaml.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?(0|[1-9]\d*|0x[0-9a-fA-F]+)$"), digits)
    decimal = r"[-+]?(\.\d+|\d+\.\d*)([eE][-+]?\d+)?$|[-+]?\d+[eE][-+]?\d+$"
    decimal += r"|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"
    _Yaml.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(decimal), digits)


_plain_numbers()


def read_yaml(text: str) -> Any:
    """The value a YAML text stands for; raises :class:`yaml.YAMLError`, whose text is one line."""
    try:
        return yaml.load(text, _Yaml)
    except yaml.MarkedYAMLError as error:
        raise yaml.YAMLError(f"{error.problem}, line {error.problem_mark.line + 1}") from error
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        # PyYAML's own converters: a 13th month, a number of 5,000 digits, a thousand brackets
        raise yaml.YAMLError(f"a value that cannot be read ({type(error).__name__})") from error


def names() -> list[str]:
    """Names of the profiles that ship with the package."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def load(name: str) -> Profile:
    """A shipped profile by name, or one of your own by path (a file ending in .yaml or .yml).

    :class:`UnknownName` for one that does not exist or a key that no profile has, :class:`InvalidValue` for a file that
    cannot be read as a profile, for one whose name is taken and for one that says where the store is.
    """
    path = usable(name if name.endswith((".yaml", ".yml")) else PROFILES / f"{name}.yaml", "profile")
    if not path.is_file():
        raise UnknownName("profile", name, names())
    _check_name(name, path)
    try:
        content = read_yaml(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise InvalidValue(f"profile {name!r} is not readable YAML ({error})", "correct the file") from error
    if not isinstance(content, dict):
        raise InvalidValue(f"profile {name!r} is not a mapping", "write it like the shipped profiles")
    if unknown := [key for key in content if key not in KEYS]:
        raise UnknownName(f"key in profile {name!r}:", unknown[0], KEYS)
    shared = _section(name, content, "shared")
    experiments = {
        experiment: {"published": path.stem, **shared, **_section(name, content, experiment), "profile": path.stem}
        for experiment in EXPERIMENTS
        if experiment in content
    }
    if not experiments:
        raise InvalidValue(f"profile {name!r} has no experiment", f"add a section: {', '.join(EXPERIMENTS)}")
    if any("store" in given for given in experiments.values()):  # commands that run no notebook would not see it
        raise InvalidValue(f"'store' is not given by profile {name!r}", "use --store")
    return Profile(path.stem, str(content.get("about", "")).strip(), experiments)


def _check_name(name: str, path: Path) -> None:
    """Stop unless the file's name can be that of files under ``results/`` that nothing else writes."""
    if not re.fullmatch(r"\w[\w.-]{0,99}", path.stem):
        remedy = "use letters, digits, '-' and '_', a hundred at most"
        raise InvalidValue(f"profile {name!r} has a name that files cannot have", remedy)
    shipped = path.stem in names() and path.resolve().parent != PROFILES
    if shipped or path.stem == "coverage" or path.stem.startswith("tuning-"):
        remedy = f"rename the file: results/{path.stem}.csv is another's"
        raise InvalidValue(f"profile {name!r} has a name that is taken", remedy)


def _section(name: str, content: dict[str, Any], key: str) -> dict[str, Any]:
    section = content.get(key) or {}
    if not isinstance(section, dict) or not all(isinstance(k, str) for k in section):
        raise InvalidValue(f"section {key!r} of profile {name!r} is not a mapping", "write parameter: value lines")
    return section
