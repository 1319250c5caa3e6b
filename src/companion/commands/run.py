"""``companion run`` and ``companion status``: a profile's experiments."""

from __future__ import annotations

import argparse
import shlex

from companion.commands.options import command, nonempty, option, planned, profile_options
from companion.errors import InvalidValue
from companion.paths import BUILD


def add_run(commands) -> None:
    """The command ``run`` and its options."""
    about = "run notebooks through papermill; trials already stored are reused"
    parser = command(commands, "run", run, about, resumable=True)
    parser.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help="default: all of the profile")
    parser.add_argument("--executor", choices=("local", "processes", "ray"),
                        help="default: processes, one per core or GPU; ray: the cluster at RAY_ADDRESS")  # fmt: skip
    parser.add_argument(
        "--workers",
        type=nonempty,
        metavar="N",
        help="trials at once (default: COMPANION_WORKERS, else one per core or GPU)",
    )
    parser.add_argument(
        "--time-limit", type=nonempty, metavar="HOURS", help="of one trial (default: COMPANION_TIME_LIMIT, else 12)"
    )
    parser.add_argument("--gpu-share", metavar="X", help="ray: part of a GPU that a trial takes (default 1)")
    parser.add_argument("--retry-failed", action="store_true", help="try trials again that failed three times")
    profile_options(parser)


def run(arguments: argparse.Namespace) -> None:
    """Execute each wanted notebook with ``rerun=True``."""
    from companion import notebooks
    from companion.store import open_store
    from companion.sweep import terminable

    if "rerun" in dict(arguments.parameters):
        raise InvalidValue("-p rerun is not for run, which always runs", "draw what is stored with `companion book`")
    profile, wanted = planned(arguments, arguments.experiments)
    _check_executors(arguments, wanted)
    open_store(arguments.store)  # an address out of reach is found now, not in the first notebook
    if arguments.retry_failed:
        _forget_failures(wanted)
    limits = {"COMPANION_TIME_LIMIT": arguments.time_limit, "COMPANION_GPU_SHARE": arguments.gpu_share}
    limits["COMPANION_WORKERS"] = arguments.workers
    limits = {name: value for name, value in limits.items() if value is not None}
    with terminable():  # a batch system's SIGTERM ends like Ctrl-C
        for name, parameters in wanted.items():
            out = BUILD / "runs" / profile / f"{name}.ipynb"
            print(f"{name} ({profile}): {notebooks.execute(name, {**parameters, 'rerun': True}, out, **limits)}")
    print(f"build the book from what is stored with: {_book_of(arguments)}")


def _check_executors(arguments: argparse.Namespace, wanted: dict[str, dict]) -> None:
    """Give the notebooks the executor asked for; stop at an option that none of their executors has a use for."""
    if arguments.executor:
        for parameters in wanted.values():
            parameters["executor"] = arguments.executor
    executors = {parameters.get("executor", "processes") for parameters in wanted.values()}
    elsewhere = ("processes", "ray")
    for name, users in {"gpu_share": ("ray",), "workers": elsewhere, "time_limit": elsewhere}.items():
        if getattr(arguments, name) is not None and not executors & {*users}:
            given = f"{option(name)} changes nothing with --executor {' or '.join(sorted(executors))}"
            raise InvalidValue(given, f"leave it out, or use --executor {users[0]}")


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
    for given in [pair for pair in options.items() if pair[1]] + [("-p", *p) for p in arguments.parameters]:
        words += given
    return shlex.join(words)


CAUSES_SHOWN = 5  # of failed trials, per experiment


def add_status(commands) -> None:
    """The command ``status`` and its options."""
    profile_options(command(commands, "status", status, "trials done, missing and failed, and the time left"))


def status(arguments: argparse.Namespace) -> None:
    """Compare the profile's grid with the store, and with the published table that it is drawn over."""
    from companion import table
    from companion.experiments import plan
    from companion.store import open_store

    profile, wanted = planned(arguments, [])
    store = open_store(arguments.store)
    for name, parameters in wanted.items():
        # published trials of another profile count too: pocket-quick is drawn over those of pocket
        published = set(table.published_or_empty(str(parameters["published"]))["trial_id"])
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
