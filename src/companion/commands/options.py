"""Options that several commands share, and what they name."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from companion.errors import InvalidValue
from companion.paths import data_folder, store_place


def command(commands, name: str, function, about: str, *, resumable: bool = False) -> argparse.ArgumentParser:
    """A new command's parser. ``resumable``: what it finished before an interrupt is stored."""
    parser = commands.add_parser(name, help=about, description=about)
    parser.set_defaults(command=function, resumable=resumable)
    return parser


def nonempty(given: str) -> str:
    """The type of an option whose empty text would pass for the default."""
    if not given:
        raise argparse.ArgumentTypeError("'' says nothing; give a value or leave the option out")
    return given


def store_options(parser: argparse.ArgumentParser) -> None:
    """Where trials are stored, and where data is."""
    parser.add_argument("--store", type=nonempty, metavar="DIR",
                        help="folder or address of stored trials (default: COMPANION_STORE or ./store)")  # fmt: skip
    parser.add_argument("--data-dir", type=nonempty, metavar="DIR",
                        help="local GLUE data (default: COMPANION_DATA_DIR, else the hub)")  # fmt: skip


def profile_options(parser: argparse.ArgumentParser) -> None:
    """Which trials: a profile, changed by ``-p``; and where they are stored."""
    parser.add_argument("--profile", default="pocket-quick", metavar="NAME|FILE", help="default: pocket-quick")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("KEY", "VALUE"), dest="parameters",
                        help="override a parameter of every notebook that has it (the value is YAML)")  # fmt: skip
    store_options(parser)


def option(name: str) -> str:
    """The option as it is written: ``train_size`` → ``--train-size``."""
    return f"--{name.replace('_', '-')}"


def planned(arguments: argparse.Namespace, experiments: list[str]) -> tuple[str, dict[str, dict]]:
    """The profile's name, and for each wanted experiment its notebook parameters, overrides included."""
    import yaml

    from companion import notebooks, profiles
    from companion.errors import UnknownName
    from companion.experiments import arguments as arguments_of
    from companion.study import check_running

    profile = profiles.load(arguments.profile)
    for name in experiments:
        if name not in profile.experiments:
            raise UnknownName("experiment", name, list(profile.experiments))
    try:
        overrides = {key: profiles.read_yaml(value) for key, value in arguments.parameters}
    except yaml.YAMLError as error:
        raise InvalidValue(
            f"a -p value is not readable YAML ({error}: {arguments.parameters})", "correct it"
        ) from error
    if twice := [key for key, times in Counter(key for key, _ in arguments.parameters).items() if times > 1]:
        raise InvalidValue(f"-p {twice[0]} is given more than once", "give it once")
    for key, find in {"store": store_place, "data_dir": data_folder}.items():
        if key in overrides:  # commands that run no notebook would not see it
            raise InvalidValue(f"{key!r} is not given by -p", f"use {option(key)}")
        place = find(getattr(arguments, key))
        if getattr(arguments, key):
            overrides[key] = written(place)
    wanted = {n: dict(p) for n, p in profile.experiments.items() if not experiments or n in experiments}
    for name, parameters in wanted.items():
        notebooks.check_parameters(name, parameters)
    known = {name: notebooks.parameters(name) for name in wanted} if overrides else {}
    for key, value in overrides.items():  # each experiment takes those that it has
        taking = [name for name in wanted if key in known[name]]
        if not taking:
            notebooks.check_parameters(next(iter(wanted)), {key: value})
        for name in taking:
            wanted[name][key] = value
    for name, parameters in wanted.items():
        arguments_of(name, parameters)  # for one that is missing a notebook would take its own default
        check_running(parameters)
    return profile.name, wanted


def written(place: Path | str) -> str:
    """A folder or an address as a notebook finds it, whose kernel runs elsewhere."""
    return str(place.absolute()) if isinstance(place, Path) else place
