"""``companion doctor``, ``tune`` and ``pretrain-pocket``: the machine, a profile's rate, the embedded model."""

from __future__ import annotations

import argparse
import functools
from dataclasses import fields

from companion.commands.options import command, nonempty, planned, profile_options, store_options
from companion.errors import InvalidValue
from companion.paths import BUILD, RESULTS


def add_doctor(commands) -> None:
    """The command ``doctor`` and its options."""
    parser = command(commands, "doctor", doctor, "what works on this machine, and what to do about what does not")
    store_options(parser)


def doctor(arguments: argparse.Namespace) -> int:
    """Print one line per thing a rerun needs; 1 if something the pocket profile needs is missing."""
    from companion.doctor import checks

    found = list(checks(arguments.store, arguments.data_dir))
    for check in found:
        print(f"{'ok  ' if check.good else 'MISS' if check.needed else '-   '}  {check.name}: {check.finding}")
    return int(any(check.needed and not check.good for check in found))


def add_tune(commands) -> None:
    """The command ``tune`` and its options."""
    parser = command(commands, "tune", tune, "choose a profile's learning rate on seeds and data kept for that")
    parser.add_argument("--rates", nargs="+", type=float, required=True, metavar="X", help="candidate learning rates")
    parser.add_argument("--workers", type=int, help="processes (default: COMPANION_WORKERS, else one per core or GPU)")
    profile_options(parser)


def tune(arguments: argparse.Namespace) -> None:
    """Score every candidate and print the means; of a profile as it is, write ``results/tuning-<profile>.csv`` too."""
    from companion import profiles
    from companion.experiments import Settings, settings
    from companion.sweep import terminable
    from companion.table import replace
    from companion.tuning import scores

    for name in dict(arguments.parameters):
        if name in ("seeds", "learning_rate"):
            raise InvalidValue(f"-p {name} is not for tune, which has its own", "leave it out")
        if name not in {field.name for field in fields(Settings)}:
            raise InvalidValue(f"-p {name} changes nothing for tune", "leave it out")
    if arguments.store:
        raise InvalidValue("--store changes nothing for tune, which stores no trial", "leave it out")
    if "progressive" not in (given := profiles.load(arguments.profile)).experiments:
        raise InvalidValue(f"profile {given.name!r} has no section 'progressive', which is what is tuned", "add it")
    profile, wanted = planned(arguments, ["progressive"])
    with terminable():  # a batch system's SIGTERM ends like Ctrl-C
        table = scores(settings(wanted["progressive"]), arguments.rates, workers=arguments.workers)
    means = table.pivot_table("score", "learning_rate", ["task", "train_size"], margins=True, margins_name="mean")
    print(means.round(3).to_string())  # before anything can go wrong with the file
    if arguments.parameters:
        print(f"Not written to results/, where what the profile {profile!r} itself is tuned by is kept.")
        return
    path = RESULTS / f"tuning-{profile}.csv"
    replace({path: functools.partial(table.to_csv, index=False)}, "the table of scores")
    print(f"{len(table)} rows: {path}")


def add_pretrain(commands) -> None:
    """The command ``pretrain-pocket`` and its options."""
    parser = command(commands, "pretrain-pocket", pretrain, "pretrain PocketBERT again (resumable)", resumable=True)
    parser.add_argument("--out", type=nonempty, metavar="DIR", help="default: _build/pocket-bert")


def pretrain(arguments: argparse.Namespace) -> None:
    """Pretrain by the shipped recipe, continuing an interrupted run of the same recipe."""
    from companion.pocket.pretrain import pretrain

    out = arguments.out or BUILD / "pocket-bert"  # not models/: a trial's weights are those pinned there
    pretrain(out)
    print(f"PocketBERT is in {out}")
