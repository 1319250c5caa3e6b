"""What is measured: one row of the results each, made of jobs that fresh processes run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from companion.speed import AT_ONCE, AT_ONCE_BF16, ONE_AT_A_TIME, OURS, OURS_BF16, RELEASED, TRAINER

MODELS = {"minilm-l6": ("cola", "sst2", "qnli"), "pocket-bert": ("pocket-cola", "pocket-sst2", "pocket-qnli")}
HYPERPARAMETERS = {
    "minilm-l6": {"learning_rate": 1e-4, "batch_size": 8, "epochs": 3, "max_length": 128},
    "pocket-bert": {"learning_rate": 3e-4, "batch_size": 16, "epochs": 4, "max_length": 64},
}
SLOW = (OURS_BF16, TRAINER, RELEASED)  # variants that are run fewer times


@dataclass(frozen=True)
class Row:
    """A row: its name, a job (a name of ``child.JOBS`` and its arguments), the variants it is run in.

    ``once``: every variant counts as slow. ``threads``: what a process may use.
    """

    name: str
    job: str
    arguments: dict[str, Any]
    variants: tuple[str, ...] = (OURS,)
    glue: bool = False
    once: bool = False
    threads: int = 1
    unmeasured: str = ""

    def described(self) -> dict[str, Any]:
        """What the results say of the row besides what was measured."""
        return {"job": self.job, "arguments": self.arguments, "threads": self.threads}


def rows(quick: bool) -> list[Row]:
    """Every row, short ones first; with ``quick`` one task for each model, and very little data."""
    found = [Row("machine", "matrix_rate", {"seconds": 0.3 if quick else 2.0})]
    found += [_start(model, quick) for model in MODELS]
    found += [_trial(model, task, quick) for model in reversed(MODELS) for task in MODELS[model][: 1 if quick else 3]]
    found += [_precision(task, quick) for task in MODELS["pocket-bert"][: 1 if quick else 3]]
    found += [_profile(model, quick) for model in MODELS]
    found += [_growth(quick), _sweep(quick)]
    found += [_probing("pocket-bert", "pocket-cola", quick), _probing("minilm-l6", "cola", quick)]
    found.append(Row("book", "book", {"whole": not quick}, once=True))
    return [*found, *_gpu(quick)]


def _common(model: str, task: str, size: int) -> dict[str, Any]:
    return {"model": model, "task": task, "train_size": size, **HYPERPARAMETERS[model]}


def _trial(model: str, task: str, quick: bool) -> Row:
    """A fine-tuning trial whose upper half of layers is redrawn, four ways."""
    arguments = _common(model, task, 16 if quick else 500) | ({"epochs": 1} if quick else {})
    glue = model == "minilm-l6"
    variants = (OURS, OURS_BF16, TRAINER, RELEASED)
    return Row(f"trial/{model}/{task}", "finetune", arguments, variants, glue, once=glue and task == "qnli")


def _precision(task: str, quick: bool) -> Row:
    """The same trials, one for each seed, in both precisions: does it change scores?"""
    arguments = _common("pocket-bert", task, 16 if quick else 500) | {"seeds": 2 if quick else 10}
    return Row(f"precision/pocket-bert/{task}", "precision", arguments, (OURS, OURS_BF16), once=True)


def _start(model: str, quick: bool) -> Row:
    task = MODELS[model][0]
    return Row(
        f"start/{model}/{task}",
        "first_step",
        {"model": model, "task": task, "train_size": 16 if quick else 500},
        glue=model == "minilm-l6",
    )


def _profile(model: str, quick: bool) -> Row:
    """Training steps under PyTorch's profiler."""
    arguments = _common(model, MODELS[model][0], 16 if quick else 120) | {"epochs": 1}
    glue = model == "minilm-l6"
    return Row(f"profile/{model}/{MODELS[model][0]}", "profile", arguments, (RELEASED, OURS), glue, once=True)


def _probing(model: str, task: str, quick: bool) -> Row:
    """All layers' probes on the whole training split; the baseline from a number of steps per layer."""
    arguments = _common(model, task, 40 if quick else 0) | {"probe_epochs": 40, "steps": 2 if quick else 20}
    return Row(f"probing/{model}/{task}", "probing", arguments, (RELEASED, OURS), model == "minilm-l6", once=True)


def _sweep(quick: bool) -> Row:
    """Many small trials: one after another on two threads, and in one process per core."""
    arguments = _common("pocket-bert", "pocket-sst2", 16 if quick else 300) | {"trials": 2 if quick else 12}
    return Row("sweep", "sweep", arguments, ("one after another, two threads", "two processes"), once=True, threads=2)


def _growth(quick: bool) -> Row:
    """Cost of a trial of a small random BERT when one thing changes and the rest stays."""
    middle = {"train_size": 200, "layers": 4, "width": 128, "batch_size": 8}
    values = {
        "train_size": [50, 100, 200, 400, 800],
        "layers": [1, 2, 4, 8],
        "width": [64, 128, 256, 512],
        "batch_size": [2, 4, 8, 16, 32],
        "workers": [1, 2],
    }
    if quick:
        middle = {"train_size": 16, "layers": 1, "width": 32, "batch_size": 8}
        values = {"train_size": [8, 16], "layers": [1, 2], "width": [32, 64], "batch_size": [4, 8], "workers": [1]}
    return Row("growth", "growth", {"middle": middle, "values": values, "trials": 2 if quick else 8}, once=True)


def _gpu(quick: bool) -> list[Row]:
    """Trials of a BERT of the paper's shape, with random weights, on one GPU: in one process and in several, and from
    some of each task the hours of the paper's grid. ``trials``: of each worker."""
    import torch

    shape = {"layers": 12, "width": 768, "head": 64, "workers": 8}
    some = shape | {"train_size": 1000, "batch_size": 8, "trials": 5}
    grid = shape | {"profile": "paper", "instead": {}, "vocabulary_of": "minilm-l6", "sizes": [500, 4000], "trials": 5}
    if quick:
        some |= {"train_size": 16, "trials": 2, "workers": 2}
        grid |= {"instead": {"train_sizes": [16]}, "sizes": [8, 16], "trials": 2, "workers": 2}
    unmeasured = "" if torch.cuda.is_available() else "no GPU here"
    return [
        Row("gpu/bert-base", "gpu", some, (ONE_AT_A_TIME, AT_ONCE, AT_ONCE_BF16), once=True, unmeasured=unmeasured),
        Row("gpu/grid", "grid", grid, glue=True, once=True, unmeasured=unmeasured),
    ]
