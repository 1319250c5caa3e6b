"""``companion trial``: run one trial or show a stored one."""

from __future__ import annotations

import argparse
import dataclasses
import json

from companion.commands.options import command, option, store_options
from companion.errors import InvalidValue
from companion.paths import data_folder


def add_trial(commands) -> None:
    """The command ``trial`` and its options."""
    parser = command(commands, "trial", trial, "run one trial, or show its stored result")
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
    parser.add_argument("--precision", help="of matrix products in fine-tuning: fp32 (default) or bf16")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    store_options(parser)


# Options that say something of what another one does to the layers, which they need.
ONLY_WITH = {"keep_layernorm": "reinit", "random_rate": "reinit", "pooling": "probe", "control": "probe"}
STEPPING = ("learning_rate", "batch_size", "epochs")
DESCRIBING = ("model", "task", "train_size", "reinit", "permute", "probe", "protocol", "seed", "learning_rate",
              "batch_size", "epochs", "precision", *ONLY_WITH)  # fmt: skip
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
    from companion.executors import set_threads
    from companion.protocols import DESCRIBED, protocol
    from companion.store import open_store
    from companion.sweep import run_trial

    store = open_store(arguments.store)
    given = [name for name in DESCRIBING if getattr(arguments, name) is not None]
    if arguments.id is not None:
        if given:
            raise InvalidValue(f"--id and {option(given[0])} both say which trial it is", "give one of them")
        return _trial_by_id(arguments, store)
    if arguments.rerun:
        raise InvalidValue("--rerun compares with a known trial", "add --id, or leave --rerun out")
    for name in given:
        if (needed := ONLY_WITH.get(name)) and needed not in given:
            remedy = f"add --{needed} or leave {option(name)} out"
            raise InvalidValue(f"{option(name)} changes nothing without --{needed}", remedy)
    if {"precision", "probe"} <= {*given}:
        raise InvalidValue("--precision changes nothing with --probe", "leave it out: probes are computed in fp32")
    wanted = _described(arguments)
    if "protocol" in given and protocol(arguments.protocol) != DESCRIBED and wanted.protocol == DESCRIBED.name:
        raise InvalidValue(f"--protocol {arguments.protocol} changes nothing in this trial", "leave it out")
    if wanted.logistic and (stepping := [name for name in given if name in STEPPING]):
        remedy = "leave it out, or add --protocol released"
        raise InvalidValue(f"{option(stepping[0])} changes nothing for a logistic probe, which takes no steps", remedy)
    result = store.get(wanted)
    if result is None:  # a store that is only to be read need not be writable
        store.check_writable()
        set_threads()
        result = run_trial(wanted, store, data_dir=data_folder(arguments.data_dir))
    _show(result, store, arguments.json)
    return None


def _described(arguments: argparse.Namespace):
    """The trial that the options describe."""
    from companion.experiments import base_trials
    from companion.layers import paper_permutation, parse_layers

    for name in ("model", "task", "train_size"):
        if getattr(arguments, name) is None:
            raise InvalidValue(f"a trial needs {option(name)}", "give it, or --id of a known trial")
    base = next(base_trials(_settings(arguments)))
    if arguments.permute is not None and not 0 <= arguments.permute < 2**32:
        raise InvalidValue(f"permutation seed {arguments.permute} is not possible", "choose from 0 to 4294967295")
    names = ("protocol", "precision", *ONLY_WITH)
    named = {name: value for name in names if (value := getattr(arguments, name)) is not None}
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
