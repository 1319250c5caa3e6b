"""What a reader needs for a rerun, told by the package itself: protocols, parameters, costs, sources, errors. Each
function returns a part of a page, as Markdown.
"""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pandas as pd

from companion import coverage, notebooks, profiles, protocols, table, tasks
from companion.coverage import markdown
from companion.errors import CompanionError
from companion.paths import ROOT
from companion.theme import METRIC_TITLES
from companion.trial import Trial

TASK, SIZE = "pocket-cola", 100  # what the mistakes below are made with


INFLUENCES = {
    protocols.REDRAWING: "redrawn layers",
    protocols.RATES: "other rates on redrawn layers",
    protocols.PROBING: "probes",
}


def protocol_fields() -> str:
    """Every field of a protocol: what it decides and for which trials, its value in both readings, and other values."""
    rows = []
    for field in fields(protocols.Protocol):
        influence, values = protocols.CHOICES[field.name]
        read = {
            name: protocols.text_of(getattr(protocols.PROTOCOLS[name], field.name))
            for name in ("described", "released")
        }
        others = [f"`{protocols.text_of(value)}`" for value in values if protocols.text_of(value) not in read.values()]
        rows.append(
            {
                "field": f"`{field.name}`",
                "what it decides": f"{protocols.ABOUT[field.name]} *({INFLUENCES[influence]})*",
                **{name: f"`{value}`" for name, value in read.items()},
                "or": ", ".join(others) or "–",
            }
        )
    return markdown(pd.DataFrame(rows))


def parameters() -> str:
    """Every parameter of every notebook, from the notebooks' own parameters cells."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for name in NOTEBOOK_ORDER:
        for parameter, told in notebooks.parameters(name).items():
            found.setdefault(parameter, {})[name] = told
    rows = []
    for parameter, by_notebook in found.items():
        defaults = {told["default"] for told in by_notebook.values()}
        everywhere = len(by_notebook) == len(NOTEBOOK_ORDER)
        told = _meaning({name: told["help"].strip() for name, told in by_notebook.items()})
        kind = next(iter(by_notebook.values()))["inferred_type_name"].strip()
        pages = ", ".join(f"[{name.replace('_', ' ')}](../notebooks/{name}.ipynb)" for name in by_notebook)
        rows.append(
            {
                "name": f"`{parameter}`",
                "default": f"`{defaults.pop()}`" if len(defaults) == 1 else f"differs ({kind})",
                "meaning": told or "–",
                "notebooks": "all" if everywhere else pages,
            }
        )
    return markdown(pd.DataFrame(rows))


def _meaning(by_notebook: dict[str, str]) -> str:
    """What a parameter means: the comment that most notebooks have, and in brackets where it means something else."""
    usual = Counter(by_notebook.values()).most_common(1)[0][0]
    others = [f"{name.replace('_', ' ')}: {said}" for name, said in by_notebook.items() if said != usual]
    return f"{usual} ({'; '.join(others)})" if others else usual


NOTEBOOK_ORDER = (
    "progressive",
    "probing",
    "data_scaling",
    "localized",
    "permutation",
    "small_data",
    "single_layer",
    "learning_rate",
    "layernorm",
    "initialization",
)


def shipped_profiles() -> str:
    """The profiles that ship with the package, in their own words."""
    rows = []
    for name in ("pocket-quick", "pocket", "minilm", "paper"):
        profile = profiles.load(name)
        shared = next(iter(profile.experiments.values()))
        rows.append(
            {
                "profile": f"`{name}`",
                "what it is": profile.about,
                "learning rate": f"{shared['learning_rate']:g}",
                "batch size": shared["batch_size"],
                "epochs": shared["epochs"],
            }
        )
    return markdown(pd.DataFrame(rows))


def costs() -> str:
    """For each profile and experiment: what the published trials took, and about what the whole grid would take."""
    counted = coverage.read()
    rows = []
    for _, row in counted.iterrows():
        trials = table.published_or_empty(row["profile"]).query("experiment == @row['experiment']")
        if trials.empty:
            continue
        each = seconds_in_grid(trials, row["profile"], row["experiment"])
        rows.append(
            {
                "profile": f"`{row['profile']}`",
                "experiment": f"[{row['experiment'].replace('_', ' ')}](../notebooks/{row['experiment']}.ipynb)",
                "trials": f"{len(trials):,}",
                "seconds each, median": f"{trials['seconds'].median():.1f}",
                "core-hours": f"{trials['seconds'].sum() / 3600:.2f}",
                "whole grid, about": "–" if each is None else f"{row['planned'] * each / 3600:.1f}",
            }
        )
    return markdown(pd.DataFrame(rows))


def seconds_in_grid(trials: pd.DataFrame, profile: str, experiment: str) -> float | None:
    """Seconds of a trial of the profile's grid, on average over its tasks, train sizes and numbers of epochs.

    ``trials`` are the published ones. A size that none of them has takes the time of the nearest, in proportion to the
    examples trained on. None for a profile that does not ship, for the size ``full``, and where a task has no trial.
    """
    if profile not in profiles.names():
        return None
    planned = profiles.load(profile).experiments.get(experiment, {})
    if not planned or "full" in planned["train_sizes"]:
        return None
    factors = planned.get("epochs_factors", [1])
    seen = trials["train_size"] * (1 if experiment == "probing" else trials["epochs"].astype(float))
    epochs = [1] if experiment == "probing" else [planned["epochs"] * factor for factor in factors]
    means = trials.assign(seen=seen).groupby(["task", "seen"])["seconds"].mean()
    taken = []
    for task in planned["tasks"]:
        if task not in means.index:
            return None
        known = means[task]
        for wanted in (size * passes for size in planned["train_sizes"] for passes in epochs):
            nearest = min(known.index, key=lambda seen, wanted=wanted: abs(math.log(seen / wanted)))
            taken.append(known[nearest] * wanted / nearest)
    return sum(taken) / len(taken)


def cost_of_a_trial() -> str:
    """Steps, seconds and examples per second of one fine-tuning (medians), by profile, task, train size and epochs."""
    rows = []
    for name in table.published_profiles():
        trials = table.published(name).drop_duplicates("trial_id")
        tuned = trials[trials["kind"] != "probe"]
        for (task, size, epochs), found in tuned.groupby(["task", "train_size", "epochs"]):
            rows.append(
                {
                    "profile": f"`{name}`",
                    "task": task,
                    "training examples": f"{size:,}",
                    "epochs": int(epochs),
                    "steps": f"{found['steps'].median():,.0f}",
                    "seconds, median": f"{found['seconds'].median():.1f}",
                    "examples per second": f"{found['examples_per_second'].median():,.0f}",
                    "trials": len(found),
                }
            )
    return markdown(pd.DataFrame(rows))


MODEL_LICENSES = {
    "pocket-bert": "MIT, as the code",
    "minilm-l6": "Apache 2.0, as its model card says",
    "bert-base-uncased": "Apache 2.0, as its model card says",
}


def models_used() -> str:
    """The named models: where they are looked for, how they are pinned, and under which license they are."""
    from companion import models

    parts = []
    for name, source in models.NAMED.items():
        places = []
        if source.folder:
            places.append(f"`{source.folder.relative_to(ROOT)}`, in the repository")
        if source.package:
            places.append(f"the package `{source.package}`")
        if source.hub:
            places.append(f"the hub, `{source.hub}`")
        pinned = f"SHA-256 of the weights: `{source.sha256}`" if source.sha256 else ""
        if source.revision:
            pinned += f"{chr(10) + '- ' if pinned else ''}revision on the hub: `{source.revision}`"
        parts.append(
            f"**`{name}`** is looked for in {', then '.join(places)}. License: {MODEL_LICENSES[name]}.\n\n- {pinned}\n"
        )
    return "\n".join(parts)


def data_used() -> str:
    """The tasks: columns, metric, where they come from, and the hash of the texts the published trials were run on."""
    published = pd.concat([table.published(name) for name in table.published_profiles()])
    hashes = published.groupby("task")["data"].unique()
    rows = []
    for task in tasks.TASKS.values():
        source = "generated" if task.generated else f"`{tasks.GLUE_REPOSITORY}`, or a local folder"
        known = ", ".join(f"`{value}`" for value in hashes.get(task.name, []))
        rows.append(
            {
                "task": f"`{task.name}`",
                "reads": ", ".join(f"`{text}`" for text in task.texts),
                "scored by": METRIC_TITLES[task.metric],
                "comes from": source,
                "hash of the published data": known or "none published",
            }
        )
    return markdown(pd.DataFrame(rows)) + f"\nThe hub's GLUE is pinned at revision `{tasks.GLUE_REVISION}`.\n"


def troubles() -> str:
    """Real mistakes, made while this page was built, and the sentences they end in."""
    parts = []
    for heading, typed, make in _mistakes():
        try:
            make()
        except CompanionError as error:
            said = f"{'companion' if typed.startswith('companion') else type(error).__name__}: {error}"
            parts.append(f"### {heading}\n\n```bash\n{typed}\n```\n\n```text\n{said}\n```\n")
        else:
            raise AssertionError(f"no error where one is told: {typed}")
    return "\n".join(parts)


Mistake = tuple[str, str, Callable[[], object]]  # heading, what one typed, and a call that makes the same mistake


def _mistakes() -> Iterator[Mistake]:
    yield from _mistakes_in_a_trial("companion trial --model pocket-bert --task pocket-cola --train-size 100")
    yield from _mistakes_in_a_study(profiles.load("pocket").experiments["progressive"])


def _mistakes_in_a_trial(typed: str) -> Iterator[Mistake]:
    from companion import models
    from companion.experiments import Settings, base_trials

    def trial(size: int = SIZE) -> Trial:
        base = {"learning_rate": 1e-4, "batch_size": 8, "epochs": 1, "max_length": 64, "seeds": [0]}
        return next(base_trials(Settings(model="pocket-bert", tasks=[TASK], train_sizes=[size], **base)))

    yield "A model that does not exist", typed.replace("-bert", "-brt"), lambda: models.find("pocket-brt")
    yield "A task that does not exist", typed.replace("pocket-cola", "mnli"), lambda: tasks.task("mnli")
    yield (
        "Layers are counted from 0",
        f"{typed} --reinit 9-12",
        lambda: replace(trial(), reinitialized=(9, 10, 11, 12)),
    )
    yield "More training examples than there are", typed.replace("100", "9000"), lambda: trial(size=9000)
    yield (
        "A protocol's field misspelt",
        f"{typed} --reinit 8-11 --protocol described+bias=kept",
        lambda: protocols.protocol("described+bias=kept"),
    )
    yield (
        "GLUE is not where it was said to be",
        "companion trial --model minilm-l6 --task cola --train-size 500 --data-dir glue",
        lambda: tasks.load("cola", Path("glue")),
    )
    yield "A store that cannot be written", f"{typed} --store full/disk/store", _check_unwritable_store


def _mistakes_in_a_study(grid: dict[str, Any]) -> Iterator[Mistake]:
    from companion.experiments import plan
    from companion.study import read_parameters

    yield (
        "A profile that does not exist",
        "companion run --profile pocket-fast",
        lambda: profiles.load("pocket-fast"),
    )
    yield (
        "A parameter that does not exist",
        "companion run progressive -p seed '[0, 1]'",
        lambda: notebooks.check_parameters("progressive", {"seed": [0, 1]}),
    )
    yield (
        "A parameter of the wrong type",
        "companion status -p seeds 3",
        lambda: plan("progressive", {**grid, "seeds": 3}),
    )
    yield (
        "In a notebook: a parameter nobody knows",
        'papermill -y "{train_size: [100]}" notebooks/progressive.ipynb out.ipynb',
        lambda: read_parameters("progressive", {**grid, "train_size": [100]}),
    )
    yield (
        "Nothing is published under that name",
        "companion claims --profile paper",
        lambda: table.published("paper"),
    )


def _check_unwritable_store() -> None:
    from companion.store import Store

    with tempfile.NamedTemporaryFile() as file:  # no folder can be made below a file
        try:
            Store(Path(file.name) / "store").check_writable()
        except CompanionError as error:
            problem, _, remedy = str(error).rstrip(".").partition("; ")
            raise type(error)(problem.replace(file.name, "full/disk"), remedy) from None
