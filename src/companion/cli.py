"""The command line: ``companion trial | run | status | results | book | claims | doctor | tune | pretrain-pocket``.

Heavy libraries are imported inside the commands that need them, so that help and mistakes are quick.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import secrets
import shlex
import sys
import warnings
from collections import Counter
from pathlib import Path

from companion import __version__
from companion.errors import CompanionError, Interrupted, InvalidValue, one_line
from companion.paths import BUILD, RESULTS, data_folder, store_place


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 on success, 1 after an error (one sentence on stderr), 130 when interrupted."""
    parser = _parser()
    for word in sys.argv[1:] if argv is None else argv:
        if word.startswith("-") and word.endswith("=--"):  # argparse would make an empty list of it
            parser.error(f"argument {word[:-3]}: '--' is no value")
    arguments = parser.parse_args(argv)
    warnings.showwarning = lambda message, *_: print(f"warning: {one_line(str(message))}", file=sys.stderr)
    try:
        return arguments.command(arguments) or 0
    except Interrupted as error:
        print(f"companion: {error}", file=sys.stderr)
        return 130
    except CompanionError as error:
        print(f"companion: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        stored = "; what was finished is stored, and the same command goes on from there"
        print(f"companion: interrupted{stored if arguments.command in (run, pretrain) else ''}.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="companion", description="Rerun and read: Investigating Transferability in Pretrained Language Models."
    )
    parser.add_argument("--version", action="version", version=f"companion {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    own = (_add_trial, _add_run, _add_status, _add_results, _add_book, _add_claims)
    for add in (*own, _add_doctor, _add_tune, _add_pretrain):
        add(commands)
    return parser


def _command(commands, name: str, function, about: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=about, description=about)
    parser.set_defaults(command=function)
    return parser


def _folder(given: str) -> str:
    if not given:  # it would pass for the default
        raise argparse.ArgumentTypeError("'' names no folder; name one or leave the option out")
    return given


def _store_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", type=_folder, metavar="DIR",
                        help="folder or address of stored trials (default: COMPANION_STORE or ./store)")  # fmt: skip
    parser.add_argument("--data-dir", type=_folder, metavar="DIR",
                        help="local GLUE data (default: COMPANION_DATA_DIR, else the hub)")  # fmt: skip


# --- trial ---------------------------------------------------------------------------------------------------------


def _add_trial(commands) -> None:
    parser = _command(commands, "trial", trial, "run one trial, or show its stored result")
    parser.add_argument("--id", metavar="ID", help="a stored or published trial by its id, or by the id's beginning")
    parser.add_argument("--rerun", action="store_true", help="with --id: run it again now and compare")
    parser.add_argument("--model", help="pocket-bert, minilm-l6, bert-base-uncased, a folder or hub id")
    parser.add_argument("--task", help="pocket-cola, pocket-sst2, pocket-qnli, cola, sst2, qnli or rte")
    parser.add_argument("--train-size", type=int, metavar="N", help="number of training examples")
    change = parser.add_mutually_exclusive_group()
    change.add_argument("--reinit", metavar="LAYERS", help="0-based layers to reinitialize, such as 8-11 or 0,3")
    change.add_argument("--permute", type=int, metavar="SEED", help="permute all layers as RandomState(SEED) does")
    change.add_argument("--probe", type=int, metavar="K", help="probe the frozen model after its first K layers")
    parser.add_argument("--pooling", help="what a probe reads: first (token, default) or mean")
    parser.add_argument("--control", action="store_true", default=None, help="the probe learns random labels of words")
    parser.add_argument("--random-rate", type=float, metavar="X",
                        help="factor on the learning rate of reinitialized layers (default 1)")  # fmt: skip
    parser.add_argument("--keep-layernorm", action="store_true", default=None,
                        help="keep LayerNorm of reinitialized layers")  # fmt: skip
    parser.add_argument("--protocol", metavar="NAME[+FIELD=VALUE]",
                        help="described (default), released, or one with single fields changed")  # fmt: skip
    parser.add_argument("--seed", type=int, help="default 0")
    parser.add_argument("--learning-rate", type=float, metavar="X", help="default: the model's profile")
    parser.add_argument("--batch-size", type=int, metavar="B", help="default: the model's profile")
    parser.add_argument("--epochs", type=int, metavar="E", help="default: the model's profile")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    _store_options(parser)


# Options that say something of what another one does to the layers, which they need.
ONLY_WITH = {"keep_layernorm": "reinit", "random_rate": "reinit", "pooling": "probe", "control": "probe"}
DESCRIBING = ("model", "task", "train_size", "reinit", "permute", "probe", "protocol", "seed", "learning_rate",
              "batch_size", "epochs", *ONLY_WITH)  # fmt: skip
# Which profile's hyperparameters a single trial of a model takes when none are given.
HYPERPARAMETERS_OF = {"pocket-bert": "pocket-quick", "minilm-l6": "minilm"}


def _settings(arguments: argparse.Namespace):
    """The experiment settings of a single trial, its hyperparameters completed from the model's profile."""
    from companion import profiles
    from companion.experiments import Settings

    profile = profiles.load(HYPERPARAMETERS_OF.get(arguments.model, "paper"))
    defaults = profile.experiments["progressive" if arguments.probe is None else "probing"]
    defaults = {**defaults, "epochs": defaults.get("probe_epochs", defaults["epochs"])}
    given = {name: getattr(arguments, name) for name in ("learning_rate", "batch_size", "epochs")}
    return Settings(
        model=arguments.model,
        tasks=[arguments.task],
        train_sizes=[arguments.train_size],
        seeds=[arguments.seed or 0],
        data_dir=arguments.data_dir or "",
        max_length=defaults["max_length"],
        **{name: defaults[name] if value is None else value for name, value in given.items()},
    )


def trial(arguments: argparse.Namespace) -> int | None:
    """Build the trial, run it unless it is stored, print it; or find it by id."""
    from companion.store import open_store
    from companion.sweep import run_trial, set_threads

    store = open_store(arguments.store)
    given = [name for name in DESCRIBING if getattr(arguments, name) is not None]
    if arguments.id is not None:
        if given:
            raise InvalidValue(f"--id and {_option(given[0])} both say which trial it is", "give one of them")
        return _trial_by_id(arguments, store)
    if arguments.rerun:
        raise InvalidValue("--rerun compares with a known trial", "add --id, or leave --rerun out")
    for name in given:
        if (needed := ONLY_WITH.get(name)) and needed not in given:
            remedy = f"add --{needed} or leave {_option(name)} out"
            raise InvalidValue(f"{_option(name)} changes nothing without --{needed}", remedy)
    wanted = _described(arguments)
    result = store.get(wanted)
    if result is None:  # a store that is only to be read need not be writable
        store.check_writable()
        set_threads()
        result = run_trial(wanted, store, data_dir=data_folder(arguments.data_dir))
    _show(result, store, arguments.json)
    return None


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _described(arguments: argparse.Namespace):
    """The trial that the options describe."""
    from companion.experiments import base_trials
    from companion.interventions import paper_permutation
    from companion.trial import parse_layers

    for name in ("model", "task", "train_size"):
        if getattr(arguments, name) is None:
            raise InvalidValue(f"a trial needs {_option(name)}", "give it, or --id of a known trial")
    base = next(base_trials(_settings(arguments)))
    if arguments.permute is not None and not 0 <= arguments.permute < 2**32:
        raise InvalidValue(f"permutation seed {arguments.permute} is not possible", "choose from 0 to 4294967295")
    named = {name: value for name in ("protocol", *ONLY_WITH) if (value := getattr(arguments, name)) is not None}
    return dataclasses.replace(
        base,
        reinitialized=parse_layers(arguments.reinit) if arguments.reinit is not None else (),
        permutation=() if arguments.permute is None else paper_permutation(arguments.permute, base.layers),
        probe_layer=arguments.probe,
        **named,
    )


def _show(result, store, as_json: bool) -> None:
    """Print a stored result in words or as one JSON object."""
    wanted = result.trial
    summary = {"id": wanted.id, **{k: result.outcome[k] for k in ("metric", "score", "seconds", "diverged")}}
    if as_json:
        whole = {"trial": dataclasses.asdict(wanted), "outcome": result.outcome, "provenance": result.provenance}
        print(json.dumps({**summary, **whole}))
        return
    print(
        f"{summary['metric']} {summary['score']:.4f} on the dev split of {wanted.task}"
        f" ({wanted.kind}, {wanted.train_size} examples, seed {wanted.seed}, {summary['seconds']:.1f} s)"
    )
    print(f"trial {wanted.id} in {store.path(wanted.id)}")
    if summary["diverged"]:
        print(f"diverged: {result.outcome['failure'] or 'every prediction is the same class'}")


def _trial_by_id(arguments: argparse.Namespace, store) -> int:
    """Show a stored or published trial; with --rerun run it again, print both scores, 1 if they should agree and do
    not. What is shown of a published trial is its row of the table."""
    from companion import replay

    known = replay.find(arguments.id, store)
    if not arguments.rerun:
        shown = known.as_dict()
        print(json.dumps(shown) if arguments.json else "\n".join(f"{key}: {value}" for key, value in shown.items()))
        return 0
    (outcome,) = replay.rerun([known], data_dir=data_folder(arguments.data_dir))
    print(json.dumps(outcome.as_dict()) if arguments.json else str(outcome))
    return int(outcome.broken)


# --- run, status ---------------------------------------------------------------------------------------------------


def _profile_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", default="pocket-quick", metavar="NAME|FILE", help="default: pocket-quick")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("KEY", "VALUE"), dest="parameters",
                        help="override a parameter of every notebook that has it (the value is YAML)")  # fmt: skip
    _store_options(parser)


def _add_run(commands) -> None:
    parser = _command(commands, "run", run, "run notebooks through papermill; trials already stored are reused")
    parser.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help="default: all of the profile")
    parser.add_argument("--executor", choices=("local", "processes", "ray"),
                        help="default: processes, one per core or GPU; ray: the cluster at RAY_ADDRESS")  # fmt: skip
    parser.add_argument("--time-limit", metavar="HOURS", help="of one trial (default: COMPANION_TIME_LIMIT, else 12)")
    parser.add_argument("--gpu-share", metavar="X", help="ray: part of a GPU that a trial takes (default 1)")
    parser.add_argument("--retry-failed", action="store_true", help="try trials again that failed three times")
    _profile_options(parser)


def _planned(arguments: argparse.Namespace, experiments: list[str]) -> tuple[str, dict[str, dict]]:
    """The profile's name, and for each wanted experiment its notebook parameters, overrides included."""
    import yaml

    from companion import notebooks, profiles
    from companion.errors import UnknownName

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
    for option, find in {"store": store_place, "data_dir": data_folder}.items():
        if option in overrides:  # commands that run no notebook would not see it
            raise InvalidValue(f"{option!r} is not given by -p", f"use {_option(option)}")
        place = find(getattr(arguments, option))
        if getattr(arguments, option):
            overrides[option] = _written(place)
    wanted = {n: dict(p) for n, p in profile.experiments.items() if not experiments or n in experiments}
    known = {name: notebooks.parameters(name) for name in wanted} if overrides else {}
    for key, value in overrides.items():  # each experiment takes those that it has
        taking = [name for name in wanted if key in known[name]]
        if not taking:
            notebooks.check_parameters(next(iter(wanted)), {key: value})
        for name in taking:
            wanted[name][key] = value
    return profile.name, wanted


def _written(place: Path | str) -> str:
    """A folder or an address as a notebook finds it, whose kernel runs elsewhere."""
    return str(place.absolute()) if isinstance(place, Path) else place


def run(arguments: argparse.Namespace) -> None:
    """Execute each wanted notebook with ``rerun=True``."""
    from companion import notebooks
    from companion.store import open_store
    from companion.sweep import terminable

    if "rerun" in dict(arguments.parameters):
        raise InvalidValue("-p rerun is not for run, which always runs", "draw what is stored with `companion book`")
    profile, wanted = _planned(arguments, arguments.experiments)
    for name in wanted:
        notebooks.check_parameters(name, wanted[name])
    open_store(arguments.store)  # an address out of reach is found now, not in the first notebook
    if arguments.retry_failed:
        _forget_failures(wanted)
    limits = {"COMPANION_TIME_LIMIT": arguments.time_limit, "COMPANION_GPU_SHARE": arguments.gpu_share}
    limits = {name: value for name, value in limits.items() if value is not None}
    with terminable():  # a batch system's SIGTERM ends like Ctrl-C
        for name, parameters in wanted.items():
            if arguments.executor:
                parameters["executor"] = arguments.executor
            out = BUILD / "runs" / profile / f"{name}.ipynb"
            print(f"{name} ({profile}): {notebooks.execute(name, {**parameters, 'rerun': True}, out, **limits)}")
    print(f"build the book from what is stored with: {_book_of(arguments)}")


def _forget_failures(wanted: dict[str, dict]) -> None:
    """Let the trials of these plans that were given up be tried anew."""
    from companion.experiments import plan
    from companion.store import open_store

    forgotten = 0
    for name, parameters in wanted.items():
        store = open_store(parameters.get("store"))
        forgotten += sum(store.forget_failure(trial) for trial in plan(name, parameters))
    print(f"{forgotten} failed trials will be tried again")


def _book_of(arguments: argparse.Namespace) -> str:
    """The command whose pages show what these arguments run: it needs the same ones."""
    profile = None if arguments.profile == "pocket-quick" else arguments.profile
    options = {"--profile": profile, "--store": arguments.store, "--data-dir": arguments.data_dir}
    words = ["companion", "book", *arguments.experiments]
    for option in [option for option in options.items() if option[1]] + [("-p", *p) for p in arguments.parameters]:
        words += option
    return shlex.join(words)


CAUSES_SHOWN = 5  # of failed trials, per experiment


def _add_status(commands) -> None:
    _profile_options(_command(commands, "status", status, "trials done, missing and failed, and the time left"))


def status(arguments: argparse.Namespace) -> None:
    """Compare the profile's grid with the store, and with the published table that it is drawn over."""
    from companion import notebooks, table
    from companion.experiments import plan
    from companion.store import open_store

    profile, wanted = _planned(arguments, [])
    store = open_store(arguments.store)
    for name, parameters in wanted.items():
        notebooks.check_parameters(name, parameters)
        # published trials of another profile count too: pocket-quick is drawn over those of pocket
        published = set(table.published_or_empty(str(parameters.get("published", profile)))["trial_id"])
        trials = plan(name, parameters)
        results = {t.id: store.get(t) for t in trials}
        done = [r for r in results.values() if r]
        failures = {t.id: store.failure(t) for t in trials if results[t.id] is None and store.failure(t)}
        failed = len(failures)
        print(
            f"{name} ({profile}): {len(done)} of {len(trials)} trials done, "
            f"{len(trials) - len(done) - failed} missing, {failed} failed{_time_left(trials, done)}; "
            f"{sum(t.id in published for t in trials)} published"
        )
        for trial_id, noted in list(failures.items())[:CAUSES_SHOWN]:
            print(f"  trial {trial_id} failed {noted['attempts']} times: {noted['cause']}")
        if failed > CAUSES_SHOWN:
            print(f"  and {failed - CAUSES_SHOWN} more")


def _time_left(trials: list, done: list) -> str:
    """Seconds of the missing trials, from stored trials of the same task and size (else of any)."""
    stored = {r.trial.id for r in done}
    missing = [t for t in trials if t.id not in stored]
    if not missing or not done:
        return ""
    times: dict = {}
    for r in done:
        times.setdefault((r.trial.task, r.trial.train_size), []).append(r.outcome["seconds"])
    everything = [s for seconds in times.values() for s in seconds]
    left = sum(sum(s) / len(s) for s in (times.get((t.task, t.train_size), everything) for t in missing))
    return f"; about {left / 60:.0f} core-minutes left"


# --- results, book -------------------------------------------------------------------------------------------------


def _add_results(commands) -> None:
    parser = _command(commands, "results", results, "list, export or publish stored results; verify published ones")
    parser.add_argument("action", choices=("list", "export", "publish", "verify"))
    parser.add_argument("--out", metavar="FILE", help="export: a .csv or .parquet file, or its address (fsspec)")
    parser.add_argument("--sample", type=int, default=10, metavar="N", help="verify: number of trials (default 10)")
    parser.add_argument("--draw", type=int, metavar="SEED", help="verify: which sample (default: chosen and told)")
    parser.add_argument("--workers", type=int, help="verify: processes (default: one per core or GPU)")
    _profile_options(parser)


def results(arguments: argparse.Namespace) -> int | None:
    """The profile's stored trials as a table: printed, written to a file, or published under results/; or a sample of
    what is published, rerun.

    Publishing adds to what is published: rows of trials that the profile still has and this store lacks stay. What -p
    changes would drop the rows of all other trials.
    """
    import pandas as pd

    from companion import coverage, table
    from companion.experiments import plan
    from companion.store import open_store

    if arguments.action == "publish" and arguments.parameters:
        problem = f"-p {arguments.parameters[0][0]} is not for publish, which keeps a profile's own trials alone"
        raise InvalidValue(problem, "write it into a profile of your own")
    profile, wanted = _planned(arguments, [])
    if arguments.action == "verify":
        return _verify(arguments, wanted)
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
        planned = {(name, t.id) for name, trials in plans.items() for t in trials}
        whole = table.with_published(whole, profile, planned, RESULTS)
        for path in table.publish(whole, profile, RESULTS):
            print(f"{len(whole)} rows: {path}")
        ids = {name: [t.id for t in trials] for name, trials in plans.items()}
        coverage.record(coverage.count(profile, ids, whole), RESULTS)
    elif arguments.action == "export":
        _export(whole, arguments.out)
    else:
        columns = ["trial_id", "task", "train_size", "kind", "preserved_layers", "protocol", "seed", "metric", "score"]
        print(whole[columns].to_string(index=False))
    return None


def _verify(arguments: argparse.Namespace, wanted: dict[str, dict]) -> int:
    """Rerun a random sample of what is published beneath the profile, print each comparison and a summary; 1 if a
    trial failed, or scored otherwise on the same kind of machine."""
    from companion import replay

    names = sorted({str(parameters.get("published", "")) for parameters in wanted.values()})
    seed = secrets.randbelow(10**6) if arguments.draw is None else arguments.draw
    sample = replay.sample(names, arguments.sample, seed)
    folder = next((d for p in wanted.values() if (d := p.get("data_dir"))), None)
    try:
        outcomes = replay.rerun(sample, data_dir=data_folder(folder), workers=arguments.workers)
    except KeyboardInterrupt:
        remedy = f"the same with --draw {seed} begins it again"
        raise Interrupted("interrupted, and none of it is kept", remedy) from None
    for outcome in outcomes:
        print(outcome)
    print(f"{replay.summary(outcomes)} Sample {seed} of {', '.join(names)}: --draw {seed} repeats it.")
    return int(any(outcome.broken for outcome in outcomes))


def _export(whole, out: str | None) -> None:
    from companion.table import replace

    if not out or not out.endswith((".csv", ".parquet")):
        raise InvalidValue(f"cannot export to {out!r}", "give --out a file ending in .csv or .parquet")
    write = functools.partial(whole.to_csv if out.endswith(".csv") else whole.to_parquet, index=False)
    try:
        path = Path(os.path.expanduser(out))
        if "://" in out:
            write(out)
        elif os.path.isdir(path.parent):
            replace({path: write}, path.name)  # what is there stays whole until all is written
        else:
            raise InvalidValue(f"cannot export to {out!r}, whose folder is not there", "make it first")
    except (OSError, ValueError, ImportError) as error:  # of an address: no such protocol, or not installed
        reason = getattr(error, "strerror", None) or error
        raise InvalidValue(f"{out} cannot be written ({reason})", "choose another place") from error
    print(f"{len(whole)} rows: {out}")


def _add_book(commands) -> None:
    parser = _command(commands, "book", book, "build the book from stored results only")
    about = "whose pages show the profile (default: all of it); other pages show what is published"
    parser.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help=about)
    parser.add_argument("--repository", metavar="URL", help="pages link to it: https://github.com/OWNER/NAME")
    _profile_options(parser)


def book(arguments: argparse.Namespace) -> None:
    """Execute every notebook from stored results and build the site; what the profile does not have is drawn as the
    notebooks' own defaults say, from what is published."""
    from companion.book import build, weights
    from companion.experiments import EXPERIMENTS
    from companion.store import open_store

    _, wanted = _planned(arguments, arguments.experiments)
    open_store(arguments.store)
    others = {"store": _written(store_place(arguments.store))} if arguments.store else {}
    pages = {name: wanted.get(name, others) for name in EXPERIMENTS}
    first = build(pages, repository=arguments.repository)
    heavy = weights(first.parent)
    print(f"{len(heavy)} pages; the heaviest is {heavy['page'][0]}, {heavy['bytes'][0] / 1e6:.1f} MB")
    print(f"the book is at {first}")


# --- claims --------------------------------------------------------------------------------------------------------


def _add_claims(commands) -> None:
    parser = _command(commands, "claims", claims, "judge the paper's claims on the published tables")
    parser.add_argument("--profile", action="append", metavar="NAME", help="may be repeated (default: all published)")
    parser.add_argument("--json", action="store_true", help="print a list of JSON objects, one per claim and profile")


def claims(arguments: argparse.Namespace) -> None:
    """Print a verdict on each claim for each profile."""
    from companion import claims as ledger
    from companion import table
    from companion.errors import TableUnavailable

    names = arguments.profile or table.published_profiles()
    if not names:
        raise TableUnavailable("no table is published", "run a profile and use `companion results publish`")
    verdicts = [verdict for name in names for verdict in ledger.judge(table.checked(name))]
    if arguments.json:
        print(json.dumps([verdict.as_dict() for verdict in verdicts], allow_nan=False))
    else:
        print("\n\n".join(map(ledger.in_words, verdicts)))


# --- doctor, tuning, pretraining -----------------------------------------------------------------------------------


def _add_doctor(commands) -> None:
    parser = _command(commands, "doctor", doctor, "what works on this machine, and what to do about what does not")
    _store_options(parser)


def doctor(arguments: argparse.Namespace) -> int:
    """Print one line per thing a rerun needs; 1 if something the pocket profile needs is missing."""
    from companion.doctor import checks

    found = list(checks(arguments.store, data_folder(arguments.data_dir)))
    for check in found:
        print(f"{'ok  ' if check.good else 'MISS' if check.needed else '-   '}  {check.name}: {check.finding}")
    return int(any(check.needed and not check.good for check in found))


def _add_tune(commands) -> None:
    parser = _command(commands, "tune", tune, "choose a profile's learning rate on seeds and data kept for that")
    parser.add_argument("--rates", nargs="+", type=float, required=True, metavar="X", help="candidate learning rates")
    parser.add_argument("--workers", type=int, help="processes (default: one per core)")
    _profile_options(parser)


def tune(arguments: argparse.Namespace) -> None:
    """Score every candidate, print the means and write ``results/tuning-<profile>.csv``."""
    from companion.experiments import settings
    from companion.table import replace
    from companion.tuning import scores

    profile, wanted = _planned(arguments, ["progressive"])
    table = scores(settings(wanted["progressive"]), arguments.rates, workers=arguments.workers)
    means = table.pivot_table("score", "learning_rate", ["task", "train_size"], margins=True, margins_name="mean")
    print(means.round(3).to_string())  # before anything can go wrong with the file
    path = RESULTS / f"tuning-{profile}.csv"
    replace({path: functools.partial(table.to_csv, index=False)}, "the table of scores")
    print(f"{len(table)} rows: {path}")


def _add_pretrain(commands) -> None:
    parser = _command(commands, "pretrain-pocket", pretrain, "pretrain PocketBERT again (resumable)")
    parser.add_argument("--out", type=_folder, metavar="DIR", help="default: _build/pocket-bert")


def pretrain(arguments: argparse.Namespace) -> None:
    """Pretrain by the shipped recipe, continuing an interrupted run of the same recipe."""
    from companion.pocket.pretrain import pretrain

    out = arguments.out or BUILD / "pocket-bert"  # not models/: a trial's weights are those pinned there
    pretrain(out)
    print(f"PocketBERT is in {out}")
