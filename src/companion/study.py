"""From a notebook's parameters to its tables: the one call every experiment's notebook makes."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import pandas as pd

from companion import sweep, table
from companion.errors import InvalidValue, StoreUnavailable, TrialFailed, UnknownName, one_line
from companion.experiments import PARAMETERS, Settings, plan
from companion.paths import data_folder
from companion.store import Store, open_store
from companion.trial import Trial

# Parameters that every notebook takes besides its experiment's: they decide where and whether trials run, not which.
RUNNING: dict[str, type] = {"profile": str, "published": str, "store": str, "rerun": bool, "executor": str}
MADE_WITH = ["model", "weights", "data", "learning_rate", "batch_size", "epochs", "max_length", "precision"]
_KERNEL_NAMES = {"In", "Out", "get_ipython", "exit", "quit", "open"}


@dataclass(frozen=True)
class Study:
    """The tables of one notebook: trials of this run (planned and stored), and published ones to draw beneath."""

    experiment: str
    trials: tuple[Trial, ...]
    this_run: pd.DataFrame
    published: pd.DataFrame
    report: sweep.Report | None

    @property
    def table(self) -> pd.DataFrame:
        """Published rows, and rows of this run that add seeds, layers, train sizes or tasks to them.

        Where this run differs in model, weights, data or hyperparameters from what is published for a task and train
        size, its rows are left out (they are in ``this_run``): a mean over both would be of neither. So are rows of
        another precision than the published ones, wherever they are: one line may join several train sizes.
        """
        places = self.published[["task", "train_size"]].drop_duplicates()
        alike = self.published[["task", "train_size", *MADE_WITH]].drop_duplicates()
        fresh = self.this_run
        known = fresh.merge(alike, how="left", indicator=True)["_merge"].eq("both").to_numpy()
        elsewhere = fresh.merge(places, how="left", indicator=True)["_merge"].ne("both").to_numpy()
        if len(tuned := self.published.query("kind != 'probe'")):
            elsewhere = (
                elsewhere & (fresh["precision"].isin(tuned["precision"]) | (fresh["kind"] == "probe")).to_numpy()
            )
        both = pd.concat([self.published, fresh[known | elsewhere]], ignore_index=True)
        return both.drop_duplicates("trial_id", ignore_index=True)


def read_parameters(experiment: str, namespace: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters among a notebook's variables, when only its parameters cells have run.

    papermill injects a misspelt parameter as one more variable and says nothing: any variable that is not a
    parameter of the experiment is :class:`UnknownName`; a wrong type is :class:`InvalidValue`.
    """
    known = [*(f.name for f in fields(Settings)), *PARAMETERS[experiment], *RUNNING]
    mine = {k: v for k, v in namespace.items() if not k.startswith("_") and k not in _KERNEL_NAMES}
    given = {k: v for k, v in mine.items() if not callable(v)}  # leaves out what the notebook has imported
    for name in given:
        if name not in known:
            raise UnknownName("parameter", name, sorted(known))
    if absent := [name for name in known if name not in given]:
        raise InvalidValue(f"parameter {absent[0]!r} is missing", "add it to the parameters cell")
    check_running(given)
    return given


def check_running(given: Mapping[str, Any]) -> None:
    """Stop with :class:`InvalidValue` where one of these parameters is of RUNNING and not of its type."""
    for name, kind in RUNNING.items():
        if name in given and type(given[name]) is not kind:
            raise InvalidValue(f"parameter {name!r} is {given[name]!r}", f"give a {kind.__name__}")


def conduct(experiment: str, parameters: Mapping[str, Any]) -> Study:
    """Plan the experiment, run what is not stored (if ``rerun``), and read both tables.

    Raises :class:`companion.errors.CompanionError` subclasses for wrong parameters and missing models or data, and
    when there is neither a stored trial nor a published one to show: :class:`TrialFailed` if that is because all have
    failed, else :class:`StoreUnavailable`.
    """
    trials = plan(experiment, parameters)
    store = open_store(parameters["store"])
    report = None
    if parameters["rerun"]:
        folder = data_folder(parameters["data_dir"])
        with _brief_warnings():
            report = sweep.run(trials, store, data_dir=folder, executor=parameters["executor"])
    profile, beneath = parameters["profile"], parameters["published"]
    found = [result for trial in trials if (result := store.get(trial)) is not None]
    this_run = table.tidy(found, experiment=experiment, profile=profile)
    published = table.published_or_empty(beneath).query("experiment == @experiment").reset_index(drop=True)
    if this_run.empty and published.empty:
        if report is not None and report.failed:
            raise _all_failed(experiment, trials, store, report)
        raise StoreUnavailable(
            f"no trial of {experiment!r} is stored in {store.folder} and none is published for {beneath!r}",
            f"run them first, with `companion run {experiment}` or with rerun set to True",
        )
    return Study(experiment, tuple(trials), this_run, published, report)


def _all_failed(experiment: str, trials: list[Trial], store: Store, report: sweep.Report) -> TrialFailed:
    """What to say where every trial has failed, now or (then the report has no cause) in earlier sweeps."""
    cause = report.cause or (store.failure(trials[-1]) or {"cause": "without a cause"})["cause"]
    return TrialFailed(
        f"all {report.failed} trials of {experiment!r} failed, the last because {cause}",
        "see `companion status`, and try them again with `companion run --retry-failed`",
    )


@contextlib.contextmanager
def _brief_warnings() -> Iterator[None]:
    """Failed trials are told without the place in this code that found them."""
    usual = warnings.formatwarning

    def brief(message, category, *where, **line) -> str:
        if issubclass(category, sweep.TrialsFailed):
            return f"warning: {one_line(str(message))}\n"
        return usual(message, category, *where, **line)

    warnings.formatwarning = brief
    try:
        yield
    finally:
        warnings.formatwarning = usual
