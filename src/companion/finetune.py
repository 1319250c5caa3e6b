"""One fine-tuning trial, from a loaded encoder to a score on the dev split.

The procedure is the paper's (released scripts): AdamW without weight decay, ε = 1e-8, learning rate
decaying linearly to zero without warm-up, gradients clipped to norm 1, dropout as in the model's configuration, a new
linear classifier on the pooled first token, the last step's weights scored once. Two things are done differently
because they cannot change the result: nothing is computed for padding (:mod:`companion.encoders`), and embedding rows
of words that occur nowhere in the trial are left out (without weight decay a row without gradient never moves).
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from companion import interventions, models, tasks
from companion.encoders import Batch, pooled, to_device, uses_onednn
from companion.errors import InvalidValue
from companion.protocols import protocol
from companion.provenance import peak_resident_mb
from companion.seeds import stream, stream_seed
from companion.trial import Trial

EVALUATION_TOKENS = 2048  # per batch: about what a processor's cache holds
TOKENIZED_AT_ONCE = 250  # texts: a tokenizer returns many times the memory that the tokens take
CURVE_POINTS = 20
OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class Outcome:
    """What a trial came to. ``score`` is on the dev split in units of ``metric``.

    ``diverged``: the loss stopped being finite, or every prediction is the same class. ``loss_curve`` holds mean
    training losses (nats) of up to 20 equal stretches of the run, None where not finite. ``seconds`` covers training
    and evaluation. ``regularization`` is a logistic probe's C, None for other trials.
    """

    metric: str
    score: float
    diverged: bool
    failure: str
    majority_share: float
    loss_curve: tuple[float | None, ...]
    steps: int
    seconds: float
    examples_per_second: float
    peak_memory_mb: float
    regularization: float | None = None


@dataclass(frozen=True, eq=False)
class Texts:
    """Tokenized texts of one split, laid end to end: ``inputs[name]`` (tokens,) for ``input_ids`` and such, ``lengths``
    (texts,) in tokens, ``labels`` (texts,).
    """

    inputs: dict[str, np.ndarray]
    lengths: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def starts(self) -> np.ndarray:
        """The place of each text's first token (texts,)."""
        return self.lengths.cumsum() - self.lengths

    def places(self, rows: np.ndarray) -> np.ndarray:
        """The places (tokens,) of the given texts' tokens, text by text."""
        lengths = self.lengths[rows]
        ends = lengths.cumsum()
        return np.arange(ends[-1]) + np.repeat(self.starts[rows] - (ends - lengths), lengths)


class Classifier(nn.Module):
    """An encoder with dropout and a linear classifier on its pooled output (else on its first token)."""

    def __init__(self, encoder: nn.Module, generator: torch.Generator, sigma: float) -> None:
        super().__init__()
        config = encoder.config
        self.encoder = encoder
        self.dropout = nn.Dropout(getattr(config, "hidden_dropout_prob", None) or getattr(config, "dropout", None) or 0)
        self.head = nn.Linear(config.hidden_size, 2)
        with torch.no_grad():
            self.head.weight.normal_(0.0, sigma, generator=generator)
            self.head.bias.zero_()

    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits (texts × 2)."""
        return self.head(self.dropout(pooled(self.encoder, batch)))


def finetune(
    trial: Trial, *, data_dir: Path | None = None, pool: str = tasks.PUBLISHED, on_step: OnStep | None = None
) -> Outcome:
    """Run the trial, on a GPU if there is one. Deterministic on one CPU machine with one number of threads.

    ``on_step`` is told after every step how many are done, and of how many.

    Raises :class:`companion.errors.CompanionError` subclasses for missing models, missing data and sizes beyond them,
    and :class:`InvalidValue` when the model's weights or the task's data are no longer those the trial names.
    """
    started = time.perf_counter()
    data, base, train, dev = prepare(trial, data_dir, pool)
    network, (train, dev) = copy_with_used_embeddings(base.network, base.tokenizer.pad_token_id, train, dev)
    intervene(network, trial, base.sigma)
    classifier = Classifier(network, stream(trial.seed, "head"), base.sigma).to(device())
    pad = base.tokenizer.pad_token_id
    with own_dropout(trial):
        losses = train_epochs(classifier, train, trial, pad, on_step)
    with arithmetic(trial.precision):
        predictions = predict(classifier, dev, pad)
    seconds = time.perf_counter() - started
    return outcome(data.task, dev.labels, predictions, losses, examples_in(len(losses), trial), seconds)


@contextlib.contextmanager
def own_dropout(trial: Trial) -> Iterator[None]:
    """Dropout drawn from the trial's own stream; the generators of the CPU and of the GPU in use are put back."""
    with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
        torch.manual_seed(stream_seed(trial.seed, "dropout"))
        yield


def arithmetic(precision: str) -> torch.autocast:
    """The context of a forward pass: with ``bf16``, matrix products of numbers rounded to bfloat16, and rounded again.

    That is torch.autocast: weights, their gradients and the optimizer's moments stay in fp32. A context keeps its
    rounded weights, so each training step needs one of its own.
    """
    return torch.autocast(device().type, torch.bfloat16, enabled=precision == "bf16")


def library(trial: Trial) -> str:
    """``oneDNN`` where that multiplies the trial's matrices (:mod:`companion.linear`), else nothing."""
    replaced = device().type == "cpu" and trial.precision == "fp32" and uses_onednn(models.load(trial.model).network)
    return "oneDNN" if replaced else ""


def device() -> torch.device:
    """Where networks run: on a GPU if torch sees one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def prepare(
    trial: Trial, data_dir: Path | None, pool: str = tasks.PUBLISHED
) -> tuple[tasks.TaskData, models.Encoder, Texts, Texts]:
    """The trial's data and encoder, checked against the trial, its training subset and the dev split, tokenized."""
    data, base = tasks.load(trial.task, data_dir, pool), models.load(trial.model)
    _check_contents(trial, data, base)
    rows = data.train.select(tasks.subset(data, trial.train_size, trial.seed))
    train, dev = (tokenize(base, data.task, split, trial.max_length) for split in (rows, data.dev))
    return data, base, train, dev


def outcome(
    task: tasks.Task,
    labels: np.ndarray,
    predictions: np.ndarray,
    losses: Sequence[float],
    seen: int,
    seconds: float,
    regularization: float | None = None,
) -> Outcome:
    """What dev predictions (n,) and the training losses of every step come to; ``seen`` counts examples trained on."""
    majority = float(np.bincount(predictions).max() / len(predictions))
    finite = all(map(math.isfinite, losses))
    return Outcome(
        metric=task.metric,
        score=tasks.score(task.metric, labels, predictions),
        diverged=not finite or majority == 1.0,
        failure="" if finite else f"the loss was not finite at step {_first_bad(losses)}",
        majority_share=majority,
        loss_curve=_summary(losses),
        steps=len(losses),
        seconds=round(seconds, 3),
        examples_per_second=round(seen / seconds, 2),
        peak_memory_mb=round(_peak_memory_mb(), 1),
        regularization=regularization,
    )


def examples_in(steps: int, trial: Trial) -> int:
    """How many examples the first ``steps`` batches hold; the last batch of an epoch may be a smaller one."""
    epochs, more = divmod(steps, math.ceil(trial.train_size / trial.batch_size))
    return epochs * trial.train_size + more * trial.batch_size


def _check_contents(trial: Trial, data: tasks.TaskData, base: models.Encoder) -> None:
    for what, named, found in (
        (f"the weights of {trial.model!r}", trial.weights, base.weights),
        (f"the data of {trial.task!r}", trial.data, data.fingerprint),
    ):
        if named != found:
            raise InvalidValue(f"{what} are {found}, but the trial names {named}", "plan the trial again")


def tokenize(base: models.Encoder, task: tasks.Task, rows, max_length: int) -> Texts:
    """Tokenize the texts of ``rows`` (a Dataset), truncated to ``max_length`` and to what the model can hold.

    :class:`InvalidValue` where that leaves no room for a word between the model's own tokens, and nothing would be cut.
    """
    limit = min(
        max_length, base.tokenizer.model_max_length, getattr(base.network.config, "max_position_embeddings", 512)
    )
    if limit <= (own := base.tokenizer.num_special_tokens_to_add(pair=len(task.texts) == 2)):
        raise InvalidValue(f"max length {max_length} leaves no room for a word", f"give more than {own}")
    pieces: dict[str, list[np.ndarray]] = {}
    lengths: list[int] = []
    for start in range(0, len(rows), TOKENIZED_AT_ONCE):
        columns = rows[start : start + TOKENIZED_AT_ONCE]
        encoded = base.tokenizer(*(columns[t] for t in task.texts), truncation=True, max_length=limit)
        for name, tokens in encoded.items():
            pieces.setdefault(name, []).append(np.fromiter(itertools.chain.from_iterable(tokens), np.int32))
        lengths += map(len, encoded["input_ids"])
    pieces.pop("attention_mask", None)
    inputs = {name: np.concatenate(arrays) for name, arrays in pieces.items()}
    return Texts(inputs, np.array(lengths), np.array(rows["label"]))


def copy_with_used_embeddings(network: nn.Module, pad: int, *splits: Texts) -> tuple[nn.Module, list[Texts]]:
    """A copy of the network with the word embeddings that occur in the splits only, and the splits renumbered to match.

    Exact while weight decay is zero. Rows up to the padding id always stay, so that padding keeps its number (some
    models compute positions from it). Rows left out are never copied.
    """
    occurring = np.concatenate([split.inputs["input_ids"] for split in splits])
    old = network.get_input_embeddings()
    used = np.union1d(occurring, np.arange(max(pad, old.padding_idx or 0) + 1))
    new = nn.Embedding(len(used), old.embedding_dim, padding_idx=old.padding_idx, dtype=old.weight.dtype)
    new.train(old.training)
    with torch.no_grad():
        new.weight.copy_(old.weight[torch.from_numpy(used)])
    fewer = copy.deepcopy(network, {id(old): new})  # deepcopy takes ``new`` for the copy of ``old`` it made already
    return fewer, [
        replace(split, inputs={**split.inputs, "input_ids": np.searchsorted(used, split.inputs["input_ids"])})
        for split in splits
    ]


def intervene(network: nn.Module, trial: Trial, sigma: float) -> None:
    """Do to the network's layers what the trial says: first permute, then reinitialize."""
    layers = models.encoder_layers(network)
    if trial.permutation:
        interventions.permute(layers, trial.permutation)
    interventions.reinitialize(
        layers,
        trial.reinitialized,
        protocol=protocol(trial.protocol),
        sigma=sigma,
        seed=trial.seed,
        keep_layernorm=trial.keep_layernorm,
    )


def parameter_groups(classifier: Classifier, trial: Trial) -> list[dict[str, object]]:
    """The optimizer's groups: one, or redrawn layers apart from the rest where their learning rate differs."""
    if trial.random_rate == 1.0:
        return [{"params": list(classifier.parameters()), "lr": trial.learning_rate}]
    chosen, layers = protocol(trial.protocol), models.encoder_layers(classifier.encoder)
    unmoved = set() if chosen.last_layer_learns else set(layers[-1].parameters())
    random = {p for i in trial.reinitialized for p in layers[i].parameters()} - unmoved
    others = [p for p in classifier.parameters() if p not in random | unmoved]
    return [
        {"params": others, "lr": trial.learning_rate * chosen.others_rate},
        {"params": [p for p in classifier.parameters() if p in random], "lr": trial.learning_rate * trial.random_rate},
    ]


def train_epochs(
    classifier: Classifier, train: Texts, trial: Trial, pad: int, on_step: OnStep | None = None
) -> list[float]:
    """Train in place; the loss of every step (nats). Stops at the first loss that is not finite."""
    per_epoch = math.ceil(len(train) / trial.batch_size)
    total = per_epoch * trial.epochs
    order = stream(trial.seed, "order")
    optimizer = torch.optim.AdamW(parameter_groups(classifier, trial), eps=1e-8, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / total)
    device = classifier.head.weight.device
    parameters = list(classifier.parameters())  # also those that no group moves: their gradients count in the norm
    losses: list[torch.Tensor] = []
    classifier.train()
    for _ in range(trial.epochs):
        for batch in torch.randperm(len(train), generator=order).split(trial.batch_size):
            texts, labels = collate(train, batch.numpy(), pad, device)
            with arithmetic(trial.precision):
                logits = classifier(texts)
            loss = F.cross_entropy(logits.float(), labels)
            losses.append(loss.detach())
            if not torch.isfinite(loss):
                return torch.stack(losses).tolist()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            for parameter in parameters:  # before the next pass: gradients and activations not in memory at once
                parameter.grad = None
            if on_step:
                on_step(len(losses), total)
    return torch.stack(losses).tolist()


@torch.no_grad()
def predict(classifier: Classifier, texts: Texts, pad: int) -> np.ndarray:
    """Predicted classes (n,), computed in order of length; class 0 where a logit is not finite."""
    classifier.eval()
    device = classifier.head.weight.device
    predictions = np.zeros(len(texts), dtype=np.int64)
    for batch in by_length(texts.lengths, EVALUATION_TOKENS):
        logits = classifier(collate(texts, batch, pad, device)[0])
        finite = logits.isfinite().all(-1)
        predictions[batch] = (logits.argmax(-1) * finite).cpu().numpy()
    return predictions


def collate(texts: Texts, rows: np.ndarray, pad: int, device: torch.device) -> tuple[Batch, torch.Tensor]:
    """The given rows as a batch, and their labels (rows,)."""
    places = texts.places(rows)
    inputs = {name: to_device(values[places].astype(np.int64), device) for name, values in texts.inputs.items()}
    return Batch(inputs, texts.lengths[rows], pad), to_device(texts.labels[rows], device)


def by_length(lengths: np.ndarray, tokens: int) -> list[np.ndarray]:
    """All texts' indices in order of length, in batches of about ``tokens`` tokens."""
    rows = np.argsort(lengths, kind="stable")
    number = np.cumsum(lengths[rows]) // tokens
    return np.split(rows, np.flatnonzero(np.diff(number)) + 1)


def _first_bad(losses: Sequence[float]) -> int:
    """The 1-based number of the first step whose loss is not finite."""
    return 1 + next(i for i, loss in enumerate(losses) if not math.isfinite(loss))


def _summary(losses: Sequence[float]) -> tuple[float | None, ...]:
    """Means of up to ``CURVE_POINTS`` equal stretches, rounded to 5 digits; None where not finite."""
    means = [float(piece.mean()) for piece in np.array_split(np.array(losses), min(CURVE_POINTS, len(losses)))]
    return tuple(round(mean, 5) if math.isfinite(mean) else None for mean in means)


def _peak_memory_mb() -> float:
    """Peak memory of this process so far in MB: on a GPU what torch allocated, else the resident set."""
    return torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_available() else peak_resident_mb()
