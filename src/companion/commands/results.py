"""``companion results``: list, export, publish or verify."""

from __future__ import annotations

import argparse
import functools
import os
import secrets
from pathlib import Path

from companion.commands.options import command, planned, profile_options
from companion.errors import Interrupted, InvalidValue
from companion.paths import RESULTS, data_folder


def add_results(commands) -> None:
    """The command ``results`` and its options."""
    parser = command(commands, "results", results, "list, export or publish stored results; verify published ones")
    parser.add_argument("action", choices=("list", "export", "publish", "verify"))
    parser.add_argument("--out", metavar="FILE", help="export: a .csv or .parquet file, or its address (fsspec)")
    parser.add_argument("--sample", type=int, metavar="N", help="verify: number of trials (default 10)")
    parser.add_argument("--draw", type=int, metavar="SEED", help="verify: which sample (default: chosen and told)")
    parser.add_argument("--workers", type=int, help="verify: processes (default: one per core or GPU)")
    profile_options(parser)


ONLY_FOR = {"out": "export", "sample": "verify", "draw": "verify", "workers": "verify"}


def results(arguments: argparse.Namespace) -> int | None:
    """The profile's stored trials as a table: printed, written to a file, or published under results/; or a sample of
    what is published, rerun.

    Publishing adds to what is published: rows of trials that the profile still has and this store lacks stay. What -p
    changes would drop the rows of all other trials.
    """
    import pandas as pd

    from companion import table
    from companion.experiments import plan
    from companion.store import open_store

    _check_options(arguments)
    profile, wanted = planned(arguments, [])
    if arguments.action == "verify":
        return _verify(arguments, profile, wanted)
    store = open_store(arguments.store)
    plans = {name: plan(name, parameters) for name, parameters in wanted.items()}
    tables = []
    for name, trials in plans.items():
        found = [r for t in trials if (r := store.get(t))]
        tables.append(table.tidy(found, experiment=name, profile=profile))
    whole = pd.concat(tables, ignore_index=True)
    if whole.empty:
        raise InvalidValue(f"no trial of profile {profile!r} is stored in {store.folder}", "run it first")
    if arguments.action == "publish":
        _check_alike(profile, [t for trials in plans.values() for t in trials])
        _publish(whole, profile, {name: [t.id for t in trials] for name, trials in plans.items()})
    elif arguments.action == "export":
        _export(whole, arguments.out)
    else:
        columns = ["trial_id", "task", "train_size", "kind", "preserved_layers", "protocol", "seed", "metric", "score"]
        print(whole[columns].to_string(index=False))
    return None


def _check_options(arguments: argparse.Namespace) -> None:
    """Stop at an option that would change nothing, or more than it says."""
    for name, action in ONLY_FOR.items():
        if getattr(arguments, name) is not None and arguments.action != action:
            raise InvalidValue(f"--{name} changes nothing for {arguments.action}", f"leave it out: it is for {action}")
    given = [name for name, _ in arguments.parameters]
    if arguments.action == "publish" and given:
        problem = f"-p {given[0]} is not for publish, which keeps a profile's own trials alone"
        raise InvalidValue(problem, "write it into a profile of your own")
    if arguments.action != "verify":
        return
    if others := [name for name in given if name != "published"]:
        raise InvalidValue(f"-p {others[0]} is not for verify, which draws from all that is published", "leave it out")
    if arguments.store:
        raise InvalidValue("--store changes nothing for verify, which stores no trial", "leave it out")


def _check_alike(profile: str, trials: list) -> None:
    """Stop unless the profile's trials, run or not, are of one model, and fine-tuned in one precision."""
    of_each = {
        "model": {trial.model for trial in trials},
        "precision": {trial.precision for trial in trials if trial.probe_layer is None},
    }
    for what, found in of_each.items():
        if len(found) > 1:
            problem = f"profile {profile!r} has trials of the {what}s {', '.join(sorted(found))}"
            raise InvalidValue(f"{problem}, whose scores no page may mix", f"write one profile for each {what}")


def _publish(whole, profile: str, planned_ids: dict[str, list[str]]) -> None:
    """Add the stored trials to the published table of the profile, whose experiments have trials of these ids."""
    from companion import coverage, table

    with table.alone(RESULTS):
        coverage.read(RESULTS)  # damaged, it would stop the rest in the middle
        own = {(name, i) for name, ids in planned_ids.items() for i in ids}
        whole = table.with_published(whole, profile, own, RESULTS)
        for path in table.publish(whole, profile, RESULTS):
            print(f"{len(whole)} rows: {path}")
        coverage.record(coverage.count(profile, planned_ids, whole), RESULTS)


def _verify(arguments: argparse.Namespace, profile: str, wanted: dict[str, dict]) -> int:
    """Rerun a random sample of what is published beneath the profile, print each comparison and a summary; 1 if a
    trial failed, or scored otherwise on the same kind of machine."""
    from companion import replay

    names = sorted({str(parameters["published"]) for parameters in wanted.values()})
    seed = secrets.randbelow(10**6) if arguments.draw is None else arguments.draw
    sample = replay.sample(names, 10 if arguments.sample is None else arguments.sample, seed)
    folder = next((d for p in wanted.values() if (d := p.get("data_dir"))), None)
    try:
        outcomes = replay.rerun(sample, data_dir=data_folder(folder), workers=arguments.workers)
    except replay.Stopped as stopped:
        for outcome in stopped.done:
            print(outcome)
        problem = f"interrupted when {len(stopped.done)} of {len(sample)} trials were compared, and none of it is kept"
        raise Interrupted(problem, f"the same with --draw {seed} begins it again") from None
    for outcome in outcomes:
        print(outcome)
    print(f"{replay.summary(outcomes)} Sample {seed} of {', '.join(names)}: --draw {seed} repeats it.")
    return int(any(outcome.broken for outcome in outcomes))


def _export(whole, out: str | None) -> None:
    from companion.table import replace

    if not out or not out.endswith((".csv", ".parquet")):
        raise InvalidValue(f"cannot export to {out!r}", "give --out a file ending in .csv or .parquet")
    write = functools.partial(whole.to_csv if out.endswith(".csv") else whole.to_parquet, index=False)
    if "://" in out:
        _export_to_address(write, out)
        print(f"{len(whole)} rows: {out}")
        return
    try:
        path = Path(os.path.expanduser(out))
        if os.path.isdir(path.parent):
            replace({path: write}, path.name)  # what is there stays whole until all is written
        else:
            raise InvalidValue(f"cannot export to {out!r}, whose folder is not there", "make it first")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidValue(f"{out} cannot be written ({reason})", "choose another place") from error
    print(f"{len(whole)} rows: {out}")


def _export_to_address(write, out: str) -> None:
    import fsspec

    from companion.errors import first_line

    try:
        with fsspec.open(out, "wb") as file:
            write(file)
    except Exception as error:  # each file system has exceptions of its own
        raise InvalidValue(f"{out} cannot be written ({first_line(error)})", "choose another place") from error
