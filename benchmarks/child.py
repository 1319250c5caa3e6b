"""Measure one thing in this process and print it as JSON: ``python -m benchmarks.child JOB``.

A job is ``{"job": name, "arguments": …, "variant": …, "data_dir": … or null, "threads": …}``. What is imported on the
way is imported before the clock starts.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from companion.provenance import device_name, peak_resident_mb
from companion.speed import BF16, ONE_AT_A_TIME, OURS, OURS_BF16, RELEASED, TRAINER

Job = Callable[[dict[str, Any], str, Path | None], dict[str, Any]]


def main(text: str) -> None:
    """Run the job and print what was measured as the last line."""
    job = json.loads(text)
    warnings.simplefilter("ignore")
    _import_everything(job["variant"])
    from companion.executors import set_threads

    set_threads(job["threads"])
    data_dir = Path(job["data_dir"]) if job["data_dir"] else None
    with contextlib.redirect_stdout(sys.stderr):
        imports = peak_resident_mb()
        found = JOBS[job["job"]](job["arguments"], job["variant"], data_dir)
    print(json.dumps({**found, "imports_mb": round(imports, 1), "peak_mb": round(peak_resident_mb(), 1)}))


def _import_everything(variant: str) -> None:
    """What any variant imports on its way, so that no one pays for imports while the clock runs."""
    import sklearn.metrics  # noqa: F401
    import transformers

    from companion import experiments, finetune, probe, sweep  # noqa: F401

    for name in ("AutoModel", "AutoTokenizer", "BertForSequenceClassification", "BertTokenizerFast"):
        getattr(transformers, name)
    if variant in (RELEASED, TRAINER):
        from benchmarks import as_released  # noqa: F401
    if variant == TRAINER:
        from benchmarks import with_trainer  # noqa: F401
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def cpu_seconds() -> float:
    """CPU seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


@contextlib.contextmanager
def clock(found: dict[str, Any]):
    """Put the CPU and wall seconds of the body into ``found``."""
    cpu, wall = cpu_seconds(), time.perf_counter()
    yield
    found |= {"cpu_seconds": round(cpu_seconds() - cpu, 3), "wall_seconds": round(time.perf_counter() - wall, 3)}


# --- trials --------------------------------------------------------------------------------------------------------


def plan_trial(arguments: dict[str, Any], data_dir: Path | None):
    """The row's trial: the upper half of the layers redrawn as the scripts draw them. Size 0 is the whole split."""
    from companion.experiments import Settings, base_trials
    from companion.layers import suffix

    names = ("model", "learning_rate", "batch_size", "epochs", "max_length")
    settings = Settings(
        tasks=[arguments["task"]],
        train_sizes=[arguments["train_size"] or "full"],
        seeds=[0],
        data_dir=str(data_dir or ""),
        **{name: arguments[name] for name in names},
    )
    base = next(base_trials(settings))
    return replace(base, protocol="released", reinitialized=suffix(base.layers // 2, base.layers))


def finetune(arguments: dict[str, Any], variant: str, data_dir: Path | None) -> dict[str, Any]:
    """A trial from files to score, by one of the procedures."""
    found: dict[str, Any] = {}
    if variant in (OURS, OURS_BF16):
        from companion.finetune import finetune

        with clock(found):
            trial = replace(plan_trial(arguments, data_dir), precision=precision_of(variant))
            outcome = finetune(trial, data_dir=data_dir)
        found |= {"steps": outcome.steps, "score": outcome.score}
    else:
        from benchmarks import as_released, with_trainer

        trial = plan_trial(arguments, data_dir)
        _forget_data()
        with clock(found):
            done = (as_released if variant == RELEASED else with_trainer).finetune(trial, data_dir)
        found |= {"steps": len(done.losses), "score": done.score, "phases": done.phases}
    return {**found, "useful_flops": useful_flops(trial, data_dir)}


def precision_of(variant: str) -> str:
    """That of the trials' matrix products."""
    return "bf16" if variant in BF16 else "fp32"


def precision(arguments: dict[str, Any], variant: str, data_dir: Path | None) -> dict[str, Any]:
    """``scores`` of trials that differ in their seed, from 0 up."""
    from companion.finetune import finetune

    base = replace(plan_trial(arguments, data_dir), precision=precision_of(variant))
    found: dict[str, Any] = {}
    with clock(found):
        scores = [finetune(replace(base, seed=seed), data_dir=data_dir).score for seed in range(arguments["seeds"])]
    return {**found, "scores": scores}


def _forget_data() -> None:
    """Let the procedure read its data itself."""
    from companion import tasks

    tasks._load.cache_clear()


def useful_flops(trial, data_dir: Path | None) -> int:
    """The arithmetic of the trial's tokens (:mod:`benchmarks.flops`)."""
    from benchmarks import flops
    from companion.finetune import prepare

    _, base, train, dev = prepare(trial, data_dir)
    return flops.trial(shape_of(base.network.config), train.lengths.tolist(), dev.lengths.tolist(), trial.epochs)


def shape_of(config):
    """The sizes that arithmetic depends on."""
    from benchmarks.flops import Shape

    return Shape(config.num_hidden_layers, config.hidden_size, config.intermediate_size)


# --- the machine, start, book --------------------------------------------------------------------------------------


def matrix_rate(arguments: dict[str, Any], variant: str, data_dir: Path | None) -> dict[str, Any]:
    """GFLOP per CPU second of a large matrix product: in single precision as trials and as PyTorch compute it, and in
    bfloat16."""
    import torch

    from companion.linear import linear

    found: dict[str, Any] = {}
    with clock(found), torch.no_grad():
        for name, product in (
            ("float32", linear),
            ("float32_usual", torch.nn.Linear.forward),
            ("bfloat16", torch.nn.Linear.forward),
        ):
            dtype = getattr(torch, name.partition("_")[0])
            matrix, rows = torch.nn.Linear(2048, 2048, bias=False, dtype=dtype), torch.randn(2048, 2048).to(dtype)
            product(matrix, rows)
            products, started = 0, cpu_seconds()
            while cpu_seconds() - started < arguments["seconds"]:
                product(matrix, rows)
                products += 1
            found[f"{name}_gflops"] = round(products * 2 * 2048**3 / (cpu_seconds() - started) / 1e9, 1)
    return found


def first_step(arguments: dict[str, Any], variant: str, data_dir: Path | None) -> dict[str, Any]:
    """Seconds from starting ``companion trial`` to its first training step, in a process of its own."""
    with tempfile.TemporaryDirectory() as store:
        options = ["--model", arguments["model"], "--task", arguments["task"], "--store", store]
        options += ["--train-size", str(arguments["train_size"])]
        options += ["--data-dir", str(data_dir)] if data_dir else []
        command, found = [sys.executable, "-m", "benchmarks.first_step", *options], {}
        for _ in range(2):  # the first run fills the system's file cache
            started, before = time.time(), cpu_seconds()
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            reached = float(done.stdout.split()[-1])
            found = {"cpu_seconds": round(cpu_seconds() - before, 3), "wall_seconds": round(reached - started, 3)}
    return found


def book(arguments: dict[str, Any], variant: str, data_dir: Path | None) -> dict[str, Any]:
    """Build the whole book from published results in an empty folder, or (not ``whole``) only stage it."""
    from companion import book, profiles

    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, clock(found):
        if arguments["whole"]:
            wanted = profiles.load("pocket-quick").experiments
            no_store = {"store": str(Path(folder) / "store")}
            book.build({name: {**parameters, **no_store} for name, parameters in wanted.items()}, Path(folder))
        else:
            book.stage(Path(folder) / "src")
    return found


# --- where time goes -----------------------------------------------------------------------------------------------


def profile(arguments: dict[str, Any], variant: str, data_dir: Path | None) -> dict[str, Any]:
    """The share of each PyTorch operation in the time of the trial's training steps."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    train = _training(plan_trial(arguments, data_dir), variant, data_dir)
    found: dict[str, Any] = {}
    with clock(found), profiler(activities=[ProfilerActivity.CPU]) as seen:
        losses = train()
    operations = sorted(seen.key_averages(), key=lambda o: -o.self_cpu_time_total)
    whole = sum(o.self_cpu_time_total for o in operations)
    shares = {o.key.removeprefix("aten::"): round(o.self_cpu_time_total / whole, 4) for o in operations[:15]}
    return {**found, "steps": len(losses), "shares": shares}


def _training(trial, variant: str, data_dir: Path | None) -> Callable[[], list[float]]:
    """The training of a trial, everything before it done."""
    from benchmarks import as_released
    from companion import finetune, models, tasks
    from companion.seeds import stream

    data, base, train, dev = finetune.prepare(trial, data_dir)
    pad = base.tokenizer.pad_token_id
    if variant == OURS:
        network, (train, _) = finetune.copy_with_used_embeddings(base.network, pad, train, dev)
        classifier = finetune.Classifier(network, stream(trial.seed, "head"), base.sigma)
        return lambda: finetune.train_epochs(classifier, train, trial, pad)
    network = as_released.load(models.find(trial.model))
    rows = data.train.select(tasks.subset(data, trial.train_size, trial.seed))
    padded = as_released.tokenize(base.tokenizer, data.task, rows, as_released.padded_length(trial, network))
    return lambda: as_released.train_epochs(network, padded, trial)


# --- probing, sweeps, growth ---------------------------------------------------------------------------------------


def probing(arguments: dict[str, Any], variant: str, data_dir: Path | None) -> dict[str, Any]:
    """Probes after every layer. ``as released``: some steps a layer are run, the scripts' number is a multiple."""
    from companion.probe import probe

    found: dict[str, Any] = {}
    intact = replace(plan_trial(arguments, data_dir), reinitialized=(), protocol="described")
    layers = range(1, intact.layers + 1)
    if variant == OURS:
        with clock(found):
            outcomes = list(probe([replace(intact, probe_layer=k) for k in layers], data_dir=data_dir))
        return {**found, "scores": [round(outcome.score, 4) for outcome in outcomes]}
    from benchmarks.as_released import probe_steps

    wanted = math.ceil(intact.train_size / intact.batch_size) * arguments["probe_epochs"]
    sampled = [probe_steps(intact, k, arguments["steps"], data_dir) for k in layers]
    estimate = sum(sampled) / arguments["steps"] * wanted
    return {
        "cpu_seconds": round(estimate, 1),
        "extrapolated_from_steps": arguments["steps"],
        "steps_per_layer": wanted,
        "measured_cpu_seconds": round(sum(sampled), 3),
    }


def sweep(arguments: dict[str, Any], variant: str, data_dir: Path | None) -> dict[str, Any]:
    """Wall seconds of small trials that differ in their seed."""
    from companion.finetune import finetune

    base = plan_trial(arguments, data_dir)
    trials = [replace(base, seed=seed) for seed in range(arguments["trials"])]
    if variant == "two processes":
        return _swept(trials, 2, data_dir)
    found: dict[str, Any] = {}
    with clock(found):
        for trial in trials:
            finetune(trial, data_dir=data_dir)
    return {**found, "trials": len(trials)}


def _swept(trials: list, workers: int, data_dir: Path | None) -> dict[str, Any]:
    """Wall seconds of a sweep, the start of its processes included."""
    report, _ = _run(trials, workers, data_dir)
    return {"wall_seconds": round(report.seconds, 3), "trials": report.ran}


def _swept_steadily(trials: list, workers: int, data_dir: Path | None) -> dict[str, Any]:
    """``trial_seconds``: wall seconds from the end of one trial to the end of the next, once every worker has ended its
    first. So the start of processes and of the GPU, and loading, do not count.
    """
    report, ends = _run(trials, workers, data_dir)
    apart = (ends[-1] - ends[workers - 1]) / (len(ends) - workers)
    return {"wall_seconds": round(report.seconds, 3), "trials": report.ran, "trial_seconds": round(apart, 4)}


def _run(trials: list, workers: int, data_dir: Path | None):
    """Sweep into an empty store: the report, and when each trial ended, in order. Trials that failed, or whose loss was
    not finite so that they stopped early, are no measurement.
    """
    from companion.store import Store
    from companion.sweep import run

    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        report = run(trials, store, data_dir=data_dir, workers=workers, progress=False)
        if report.failed:
            raise RuntimeError(report.cause)
        if early := [found for trial in trials if (found := store.get(trial).outcome["failure"])]:
            raise RuntimeError(early[0])
        return report, sorted(store.path(trial.id).stat().st_mtime for trial in trials)


def growth(arguments: dict[str, Any], variant: str, data_dir: Path | None) -> dict[str, Any]:
    """CPU seconds of a trial of a small random BERT when one of its sizes changes; wall seconds for workers."""
    points = []
    middle, found = arguments["middle"], {}
    with tempfile.TemporaryDirectory() as folder, clock(found):
        for factor, values in arguments["values"].items():
            for value in values:
                sizes = middle if factor == "workers" else {**middle, factor: value}
                trial = _random_trial(Path(folder), **sizes)
                if factor == "workers":
                    trials = [replace(trial, seed=seed) for seed in range(arguments["trials"])]
                    measured = _swept(trials, value, None)
                else:
                    measured = _trained(trial)
                points.append({"factor": factor, "value": value, **measured})
    return {**found, "points": points}


def gpu(arguments: dict[str, Any], variant: str, data_dir: Path | None) -> dict[str, Any]:
    """Wall seconds that a trial takes when trials that differ in their seed run on one GPU, one or several at a time;
    ``value`` is its useful arithmetic as a share of the GPU's rate of large matrix products in bfloat16."""
    sizes = {name: arguments[name] for name in ("train_size", "layers", "width", "head", "batch_size")}
    with tempfile.TemporaryDirectory() as folder:
        trial = replace(_random_trial(Path(folder), **sizes), precision=precision_of(variant))
        workers = 1 if variant == ONE_AT_A_TIME else arguments["workers"]
        trials = [replace(trial, seed=seed) for seed in range(workers * arguments["trials"])]
        useful = useful_flops(trial, None)
        measured = _swept_steadily(trials, workers, None)
    share = useful / measured["trial_seconds"] / device_matrix_rate()
    return {**measured, "useful_flops": useful, "value": round(share, 4), "device": device_name()}


def grid(arguments: dict[str, Any], variant: str, data_dir: Path | None) -> dict[str, Any]:
    """``value``: hours that the paper's fine-tuning trials would take on one GPU, several at once, projected from some
    of each task, of which the upper half of the layers is redrawn. A BERT of the paper's shape with random weights
    stands in for it."""
    from benchmarks.grid import examples_seen, planned, projected_hours
    from companion.layers import suffix

    shape = {name: arguments[name] for name in ("layers", "width", "head", "vocabulary_of")}
    redrawn = suffix(arguments["layers"] // 2, arguments["layers"])
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, clock(found):
        model = _random_model(Path(folder), **shape, positions=512)
        trials = planned(arguments["profile"], {"model": model, **arguments["instead"]}, data_dir)
        intact = {trial.task: trial for trial in reversed(trials)}  # the first of each task
        seconds = {task: {} for task in intact}
        for task, size in itertools.product(intact, arguments["sizes"]):
            changed = replace(intact[task], train_size=size, reinitialized=redrawn)
            some = [replace(changed, seed=seed) for seed in range(arguments["workers"] * arguments["trials"])]
            measured = _swept_steadily(some, arguments["workers"], data_dir)
            seconds[task][examples_seen(changed)] = measured["trial_seconds"]
    hours = round(projected_hours(seconds, trials), 3)
    return {**found, "value": hours, "projected_trials": len(trials), "seconds": seconds, "device": device_name()}


def device_matrix_rate(size: int = 8192, products: int = 500) -> float:
    """FLOP per wall second of large bfloat16 matrix products where trials run; on a large GPU for about a second."""
    import torch

    from companion.finetune import device

    a, b = (torch.randn(size, size, dtype=torch.bfloat16, device=device()) for _ in range(2))
    for _ in range(3):
        (a @ b).sum().item()  # reading the sum waits for the product
    started = time.perf_counter()
    for _ in range(products):
        last = a @ b
    last.sum().item()
    return products * 2 * size**3 / (time.perf_counter() - started)


def _trained(trial) -> dict[str, Any]:
    """CPU and wall seconds of the trial, its data and model loaded."""
    from companion.finetune import finetune

    found: dict[str, Any] = {}
    finetune(replace(trial, train_size=8, epochs=1))
    with clock(found):
        finetune(trial)
    return found


def _random_trial(folder: Path, *, train_size: int, layers: int, width: int, batch_size: int, head: int = 32):
    """A trial of a BERT of that shape (``head``: width of one) with random weights, saved in ``folder``."""
    model = _random_model(folder, layers=layers, width=width, head=head)
    arguments = {"model": model, "task": "pocket-sst2", "train_size": train_size, "batch_size": batch_size}
    return plan_trial({**arguments, "learning_rate": 1e-4, "epochs": 3, "max_length": 64}, None)


def _random_model(
    folder: Path, *, layers: int, width: int, head: int, positions: int = 64, vocabulary_of: str = "pocket-bert"
) -> str:
    """The folder of a BERT of that shape with random weights, saved in ``folder``."""
    import torch
    from transformers import BertConfig, BertModel

    from companion import models

    model = folder / f"bert-{layers}x{width}"
    if not model.exists():
        tokenizer = models.load(vocabulary_of).tokenizer
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=max(1, width // head),
            intermediate_size=4 * width,
            max_position_embeddings=positions,
        )
        torch.manual_seed(0)
        BertModel(config).save_pretrained(model)
        tokenizer.save_pretrained(model)
    models.weights_of(str(model))
    return str(model)


JOBS: dict[str, Job] = {
    "matrix_rate": matrix_rate,
    "first_step": first_step,
    "finetune": finetune,
    "precision": precision,
    "profile": profile,
    "probing": probing,
    "sweep": sweep,
    "growth": growth,
    "gpu": gpu,
    "grid": grid,
    "book": book,
}

if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main(sys.argv[1])
