"""The hours of the paper's fine-tuning trials on this machine, projected from the times of a few of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import linear_regression
from typing import Any

from companion import experiments, profiles
from companion.trial import Trial


def planned(profile: str, instead: Mapping[str, Any], data_dir: Path | None) -> list[Trial]:
    """The fine-tuning trials of a profile that the paper's figures have, each once, with parameters ``instead`` of its
    own: not the experiment that is this companion's, the prefix curves, and the second protocol."""
    instead = {**instead, "directions": ["suffix"], "data_dir": str(data_dir or "")}
    wanted = {name: own for name, own in profiles.load(profile).experiments.items() if name != "initialization"}
    trials = [trial for name, own in wanted.items() for trial in experiments.plan(name, {**own, **instead})]
    tuned = [trial for trial in trials if trial.probe_layer is None and trial.protocol == "described"]
    return list({trial.id: trial for trial in tuned}.values())


def examples_seen(trial: Trial) -> int:
    """How many examples the trial trains on, each as often as it comes."""
    return trial.train_size * trial.epochs


def projected_hours(seconds: Mapping[str, Mapping[int, float]], trials: Iterable[Trial]) -> float:
    """Hours of the trials one after another; ``seconds`` is what was measured: task → examples seen → seconds a trial.

    On a task what a trial takes is a straight line of the examples it sees, as it has the same dev texts whatever they
    are: the line of least squares through what was measured, two points or more.
    """
    lines = {task: linear_regression(list(measured), list(measured.values())) for task, measured in seconds.items()}
    return sum(lines[t.task].intercept + lines[t.task].slope * examples_seen(t) for t in trials) / 3600
