"""What the tests share: tiny models and data sets made on the spot, an empty store, no network, and one browser."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub, which reads it once

import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, settings

from companion import doctor, models, tasks
from companion.pocket.generate import examples
from companion.pocket.pretrain import build_tokenizer
from companion.trial import Trial

ROOT = Path(__file__).resolve().parents[1]
TRAIN, DEV = 48, 40  # examples in the tiny data folder

# How many inputs each property of tests/faults/test_fuzz.py is tried on: the long mode is COMPANION_FUZZ=long.
CASES = {"default": 100, "long": 5000}
FUZZ = os.environ.get("COMPANION_FUZZ", "default")

settings.register_profile("companion", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("companion")
fuzzed = settings(
    deadline=None,
    max_examples=CASES[FUZZ],
    derandomize=FUZZ == "default",
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    """No setting of the user's leaks in, nothing is stored in the checkout, one thread as in every sweep."""
    for name in [name for name in os.environ if name.startswith("COMPANION_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COMPANION_STORE", str(tmp_path / "store"))
    torch.set_num_threads(1)


@pytest.fixture
def on_cpu(monkeypatch):
    """No GPU is seen: for tests whose expected values are of a CPU."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


def save_model(folder: Path, config, *, tokenizer=None, seed: int = 0) -> str:
    """Write a model folder of that configuration with random weights, biases and norms; its path as text."""
    from transformers import AutoModel

    torch.manual_seed(seed)
    network = AutoModel.from_config(config)
    with torch.no_grad():  # biases and norms away from 0 and 1, so that keeping and resetting them differ
        for name, parameter in network.named_parameters():
            if "embeddings" not in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    network.save_pretrained(folder)
    (tokenizer or build_tokenizer()).save_pretrained(folder)
    return str(folder)


def bert_config(**changes):
    """A BERT of 4 layers, width 32, without dropout (so that an independent loop can be compared with)."""
    from transformers import BertConfig

    sizes = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 48}
    values = {"vocab_size": len(build_tokenizer()), "max_position_embeddings": 64, **sizes}
    values |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return BertConfig(**{**values, **changes})


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory) -> str:
    """The folder of a small BERT with random weights."""
    return save_model(tmp_path_factory.mktemp("models") / "tiny-bert", bert_config())


@pytest.fixture(scope="session")
def tiny_glue(tmp_path_factory) -> Path:
    """A data folder in the hub's layout: a few generated examples under the names cola, sst2 and qnli."""
    folder = tmp_path_factory.mktemp("glue")
    for name in ("cola", "sst2", "qnli"):
        train, dev = examples(f"pocket-{name}")
        write_split(folder, name, "train", train[:TRAIN])
        write_split(folder, name, "validation", dev[:DEV])
    return folder


def write_split(folder: Path, task: str, split: str, rows: list[dict]) -> Path:
    """Write one split where ``--data-dir`` looks for it."""
    path = folder / task / f"{split}-00000-of-00001.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(path, index=False)
    return path


@pytest.fixture(scope="session")
def plan_trial(tiny_bert, tiny_glue):
    """A function that makes a small trial: any field can be given, the model's and data's hashes follow."""

    def make(**changes) -> Trial:
        name, task = changes.get("model", tiny_bert), changes.get("task", "cola")
        known = {"model": name, "weights": models.weights_of(name), "layers": models.depth(name), "task": task}
        known["data"] = tasks.load(task, tiny_glue).fingerprint
        small = {"train_size": 16, "seed": 0, "learning_rate": 1e-3, "batch_size": 8, "epochs": 1, "max_length": 64}
        return Trial(**{**known, **small, **changes})

    return make


def result_of(trial: Trial, score: float = 0.5, **outcome):
    """A result that no one ran, for tests of what is done with results."""
    from companion.store import Result

    known = {"metric": "accuracy", "score": score, "diverged": False, "failure": "", "majority_share": 0.6}
    known |= {"loss_curve": (0.7, 0.5), "steps": 2, "seconds": 1.0, "examples_per_second": 16.0, "peak_memory_mb": 1.0}
    where = {"git_commit": "abc", "device": "cpu", "threads": 1, "processor": "p"}
    where["finished_at"] = "2020-01-01T00:00:00+00:00"
    return Result(trial, {**known, **outcome}, where)


A_TRIAL = {
    "model": "m",
    "weights": "w" * 16,
    "layers": 4,
    "task": "cola",
    "data": "d" * 16,
    "train_size": 16,
    "seed": 0,
    "learning_rate": 1e-3,
    "batch_size": 8,
    "epochs": 1,
}


def some_trial(**changes) -> Trial:
    """A trial that cannot be run (its model does not exist), for tests that only store or name it."""
    return Trial(**{**A_TRIAL, **changes})


def real_glue() -> Path | None:
    """A folder with real GLUE data, or None."""
    named = [os.environ.get(name) for name in ("COMPANION_TEST_GLUE", "COMPANION_DATA_DIR")]
    folders = [Path(name) for name in named if name] + [ROOT.parent / "shared" / "glue"]
    return next((f for f in folders if (f / "cola" / "train-00000-of-00001.parquet").is_file()), None)


REAL_GLUE = real_glue()
needs_glue = pytest.mark.skipif(REAL_GLUE is None, reason="no real GLUE data: set COMPANION_TEST_GLUE to a folder")
needs_pocket = pytest.mark.skipif(
    not (ROOT / "models" / "pocket-bert" / "model.safetensors").is_file(), reason="models/pocket-bert is not there"
)
needs_notebook_tables = pytest.mark.skipif(
    not (ROOT / "results" / "minilm.parquet").is_file(), reason="results/minilm.parquet is not there"
)


def heed_interrupts() -> None:
    """For a child process: heed Ctrl-C, even if whoever runs the tests in the background ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


# --- pages and labs ----------------------------------------------------------------------------------------------

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def browser() -> Iterator:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")
    if (executable := doctor.browser()) is None:
        pytest.skip(f"no browser (looked for {', '.join(doctor.BROWSERS)}): run scripts/install-chromium.sh")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()
