"""The baseline: fine-tuning and probing done the way the paper's released scripts do it, in our own words.

Everything is padded to one length, the whole training split is tokenized to use some of it, new weights come from
``scipy.stats.truncnorm``, the fine-tuned model is saved and loaded again to be scored, optimizer and network are the
plain ones of PyTorch and transformers. Kinder than the scripts in one way: today's tokenizers are compiled.
Examples, their order, the classifier's start and the number of steps are the trial's own: the work is the same.
"""

from __future__ import annotations

import math
import resource
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from scipy.stats import truncnorm
from torch import nn
from torch.nn import functional as F
from transformers import AutoTokenizer, BertForSequenceClassification

from companion import models, tasks
from companion.seeds import stream
from companion.trial import Trial

Rows = dict[str, torch.Tensor]  # input_ids, attention_mask, token_type_ids (texts × length) and labels (texts,)
EVALUATION_BATCH = 8


def cpu_seconds() -> float:
    """CPU seconds of this process so far, its own and the system's for it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@dataclass
class Phases:
    """CPU seconds of the named parts of a procedure: each :meth:`end` closes the part since the last."""

    seconds: dict[str, float] = field(default_factory=dict)
    since: float = field(default_factory=cpu_seconds)

    def end(self, name: str) -> None:
        """Everything since the last call (or the start) was ``name``."""
        now = cpu_seconds()
        self.seconds[name] = round(now - self.since, 3)
        self.since = now


@dataclass(frozen=True)
class Done:
    """What a procedure came to: the loss of every step, the dev score, CPU seconds by phase."""

    losses: list[float]
    score: float
    phases: dict[str, float]


def finetune(trial: Trial, data_dir: Path | None) -> Done:
    """The whole procedure, from files to a score on the dev split."""
    phases = Phases()
    data = tasks.load(trial.task, data_dir)
    folder = models.find(trial.model)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    network = load(folder)
    length = padded_length(trial, network)
    train, dev = (tokenize(tokenizer, data.task, split, length) for split in (data.train, data.dev))
    chosen = torch.from_numpy(tasks.subset(data, trial.train_size, trial.seed))
    phases.end("data and tokens")
    start_classifier(network, trial)
    redraw(network, trial)
    phases.end("new weights")
    losses = train_epochs(network, {name: values[chosen] for name, values in train.items()}, trial)
    phases.end("training")
    network = save_and_load(network)
    phases.end("save and load")
    predictions = predict(network, dev)
    phases.end("evaluation")
    return Done(losses, tasks.score(data.task.metric, dev["labels"].numpy(), predictions), phases.seconds)


def load(folder: Path) -> BertForSequenceClassification:
    """The pretrained network with a classifier on it, attention computed step by step as in the scripts' day."""
    return BertForSequenceClassification.from_pretrained(
        folder,
        num_labels=2,
        dtype="float32",
        attn_implementation="eager",
        use_safetensors=True,
        trust_remote_code=False,
    )


def padded_length(trial: Trial, network: nn.Module) -> int:
    """128 tokens, or as many as the model has positions for."""
    return min(128, network.config.max_position_embeddings)


def tokenize(tokenizer, task: tasks.Task, split, length: int) -> Rows:
    """Every text of the split, padded to ``length``."""
    columns = [list(split[name]) for name in task.texts]
    encoded = tokenizer(*columns, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    return {**encoded, "labels": torch.tensor(split["label"])}


def start_classifier(network: BertForSequenceClassification, trial: Trial) -> None:
    """The trial's own start of the classifier."""
    with torch.no_grad():
        network.classifier.weight.normal_(0.0, network.config.initializer_range, generator=stream(trial.seed, "head"))
        network.classifier.bias.zero_()


def redraw(network: BertForSequenceClassification, trial: Trial) -> None:
    """New weights for the trial's layers as the scripts draw them: number by number from SciPy, biases kept."""
    sigma, drawn = network.config.initializer_range, np.random.RandomState(trial.seed)
    for index in trial.reinitialized:
        for module in network.bert.encoder.layer[index].modules():
            if isinstance(module, nn.Linear):
                shape = tuple(module.weight.shape)
                fresh = truncnorm.rvs(-2 * sigma, 2 * sigma, scale=sigma, size=shape, random_state=drawn)
                module.weight.data = torch.tensor(fresh, dtype=torch.float32)
            elif isinstance(module, nn.LayerNorm):
                module.weight.data.fill_(1.0)
                module.bias.data.zero_()


def train_epochs(network: nn.Module, train: Rows, trial: Trial) -> list[float]:
    """Train in place; the loss of every step. AdamW parameter by parameter, linear decay, gradients clipped to 1."""
    total = math.ceil(len(train["labels"]) / trial.batch_size) * trial.epochs
    optimizer = torch.optim.AdamW(network.parameters(), trial.learning_rate, eps=1e-8, weight_decay=0.0, foreach=False)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / total)
    losses = []
    network.train()
    for batch in batches(len(train["labels"]), trial):
        loss = network(**{name: values[batch] for name, values in train.items()}).loss
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        network.zero_grad()
        losses.append(loss.item())
    return losses


def batches(size: int, trial: Trial) -> Iterator[torch.Tensor]:
    """The trial's batches of indices, epoch after epoch."""
    order = stream(trial.seed, "order")
    for _ in range(trial.epochs):
        yield from torch.randperm(size, generator=order).split(trial.batch_size)


def save_and_load(network: BertForSequenceClassification) -> BertForSequenceClassification:
    """The network by way of a file."""
    with tempfile.TemporaryDirectory() as folder:
        network.save_pretrained(folder)
        return load(Path(folder))


@torch.no_grad()
def predict(network: nn.Module, dev: Rows) -> np.ndarray:
    """Predicted classes (n,), eight padded texts at a time."""
    network.eval()
    inputs = [{n: v for n, v in batch.items() if n != "labels"} for batch in _split(dev, EVALUATION_BATCH)]
    return torch.cat([network(**batch).logits.argmax(-1) for batch in inputs]).numpy()


def _split(rows: Rows, size: int) -> Iterator[Rows]:
    for batch in torch.arange(len(rows["labels"])).split(size):
        yield {name: values[batch] for name, values in rows.items()}


def probe_steps(trial: Trial, layer: int, steps: int, data_dir: Path | None) -> float:
    """CPU seconds of that many training steps of the probe after ``layer`` layers, without loading and tokenizing.

    As in the scripts, each step runs the frozen layers anew (with dropout) and trains the classifier on the pretrained
    pooler's output.
    """
    data, folder = tasks.load(trial.task, data_dir), models.find(trial.model)
    network = load(folder).train()
    network.bert.encoder.layer = network.bert.encoder.layer[:layer]
    network.bert.requires_grad_(False)
    some = data.train.select(range(min(len(data.train), steps * trial.batch_size)))
    train = tokenize(
        AutoTokenizer.from_pretrained(folder, trust_remote_code=False), data.task, some, padded_length(trial, network)
    )
    optimizer = torch.optim.AdamW(network.classifier.parameters(), trial.learning_rate, eps=1e-8, weight_decay=0.0)
    started = cpu_seconds()
    for batch in list(_split(train, trial.batch_size))[:steps]:
        labels = batch.pop("labels")
        loss = F.cross_entropy(network(**batch).logits, labels)
        loss.backward()
        nn.utils.clip_grad_norm_(network.classifier.parameters(), 1.0)
        optimizer.step()
        network.zero_grad()
    return cpu_seconds() - started
