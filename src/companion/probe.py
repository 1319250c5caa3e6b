"""Probes of a frozen encoder: classifiers that read it after its first k layers, all from one pass over the texts.

``described``: a logistic regression on standardized hidden states, its regularization chosen on a fifth of the training
subset. ``released``: what the paper's scripts do, field by field of the protocol (:mod:`companion.protocols`).
Networks and the scripts' heads run on a GPU if there is one; a logistic regression is fitted on the CPU.
"""

from __future__ import annotations

import copy
import functools
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional as F

from companion import encoders, interventions, models, tasks
from companion.errors import InvalidValue
from companion.finetune import (
    EVALUATION_TOKENS,
    Classifier,
    Outcome,
    Texts,
    by_length,
    collate,
    device,
    examples_in,
    outcome,
    own_dropout,
    prepare,
    tokenize,
)
from companion.layers import suffix
from companion.protocols import Protocol, protocol
from companion.seeds import stream, stream_seed
from companion.trial import POOLINGS, Trial

STRENGTHS = tuple(10.0**power for power in range(-4, 3))  # candidates for C, the inverse of the regularization


def probe(trials: Sequence[Trial], *, data_dir: Path | None = None) -> Iterator[Outcome]:
    """One outcome per trial, in order, for trials of one :data:`Trial.group`. Deterministic on one CPU machine.

    Raises what :func:`companion.finetune.finetune` raises, and :class:`InvalidValue` for trials of several groups.
    """
    if len({trial.group for trial in trials}) != 1:
        raise InvalidValue("these probes do not share model, task, size, seed and protocol", "run them in groups")
    return (_logistic if trials[0].logistic else _heads)(trials, data_dir)


# --- described: logistic regression on hidden states -----------------------------------------------------------------


def _logistic(trials: Sequence[Trial], data_dir: Path | None) -> Iterator[Outcome]:
    started = time.perf_counter()
    first = trials[0]
    data, base, train, dev = prepare(first, data_dir)
    rows = data.train.select(tasks.subset(data, first.train_size, first.seed))
    seen = features(base, train)
    held_out = _dev_features(base, data, first.max_length)
    shared = (time.perf_counter() - started) / len(trials)
    for trial in trials:
        started = time.perf_counter()
        labels = train.labels, dev.labels
        if trial.control:
            labels = tuple(tasks.control_labels(data, split, trial.seed) for split in (rows, data.dev))
        where = POOLINGS.index(trial.pooling), trial.probe_layer
        strength = choose_strength(seen[where], labels[0], trial.seed)
        fitted = fit(seen[where], labels[0], strength)
        seconds = shared + time.perf_counter() - started
        losses = [log_loss(labels[0], fitted.predict_proba(seen[where]), labels=[0, 1])]
        predictions = fitted.predict(held_out[where])
        yield outcome(data.task, labels[1], predictions, losses, trial.train_size, seconds, strength)


@torch.no_grad()
def features(base: models.Encoder, texts: Texts) -> np.ndarray:
    """Hidden states (poolings × (layers + 1) × texts × width) of the intact model, dropout off, from one pass.

    Raises :class:`InvalidValue` where a model gives numbers that are not finite.
    """
    where, network = device(), base.network.eval()
    if where.type != "cpu":
        network = copy.deepcopy(network).to(where)  # the loaded one is shared, and stays where it is
    depth, width = len(base.layers), network.config.hidden_size
    found = np.empty((len(POOLINGS), depth + 1, len(texts), width), dtype=np.float32)
    for rows in by_length(texts.lengths, EVALUATION_TOKENS):
        batch, _ = collate(texts, rows, base.tokenizer.pad_token_id, where)
        for layer, hidden in enumerate(encoders.hidden_states(network, batch)):
            for which, pooling in enumerate(POOLINGS):
                found[which, layer, rows] = encoders.pool(hidden, batch, pooling).cpu().numpy()
    if not np.isfinite(found).all():
        raise InvalidValue("the model's hidden states are not all finite numbers", "use weights without NaN in them")
    return found


@functools.lru_cache(maxsize=1)
def _dev_features(base: models.Encoder, data: tasks.TaskData, max_length: int) -> np.ndarray:
    """The dev split's features, kept for the next seed's probes."""
    return features(base, tokenize(base, data.task, data.dev, max_length))


def choose_strength(rows: np.ndarray, labels: np.ndarray, seed: int) -> float:
    """The C of STRENGTHS with the smallest log loss on a held-out fifth (at least one) of the training rows."""
    order = torch.randperm(len(rows), generator=stream(seed, "probe")).numpy()
    held, kept = np.split(order, [max(1, len(rows) // 5)])
    if not len(kept):
        return 1.0
    losses = [
        log_loss(labels[held], fit(rows[kept], labels[kept], c).predict_proba(rows[held]), labels=[0, 1])
        for c in STRENGTHS
    ]
    return STRENGTHS[int(np.argmin(losses))]


class _Fitted:
    """Standardization and a logistic regression; the one class there is, where training rows have only one."""

    def __init__(self, rows: np.ndarray, labels: np.ndarray, strength: float) -> None:
        self._only = int(labels[0]) if len(set(labels.tolist())) == 1 else None
        self._scale = StandardScaler().fit(rows)
        self._model = LogisticRegression(C=strength, max_iter=300)
        if self._only is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # weak regularization on separable rows
                self._model.fit(self._scale.transform(rows), labels)

    def predict_proba(self, rows: np.ndarray) -> np.ndarray:
        """Probabilities (n × 2)."""
        if self._only is not None:
            return np.eye(2)[np.full(len(rows), self._only)]
        return self._model.predict_proba(self._scale.transform(rows))

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Classes (n,)."""
        return self.predict_proba(rows).argmax(1)


def fit(rows: np.ndarray, labels: np.ndarray, strength: float) -> _Fitted:
    """An L2-regularized logistic regression on standardized rows (n × width) and labels 0 and 1 (n,)."""
    return _Fitted(rows, labels, strength)


# --- released: a head on the frozen pooler, trained by gradient steps ------------------------------------------------


def _heads(trials: Sequence[Trial], data_dir: Path | None) -> Iterator[Outcome]:
    """All layers' heads at once: they share each pass (and its dropout), and nothing else."""
    started = time.perf_counter()
    first, chosen = trials[0], protocol(trials[0].protocol)
    data, base, train, dev = prepare(first, data_dir)
    if any(trial.control for trial in trials):
        raise InvalidValue(f"protocol {first.protocol!r} has no control task", "leave out the control")
    network, pad = copy.deepcopy(base.network).to(device()), base.tokenizer.pad_token_id
    layers = [trial.probe_layer for trial in trials]
    heads = [Classifier(network, stream(first.seed, "head"), base.sigma).to(device()) for _ in layers]
    losses = _train_heads(network, heads, layers, train, first, pad, chosen)
    shared = (time.perf_counter() - started) / len(trials)
    network.eval()
    for trial, head, course in zip(trials, heads, losses, strict=True):
        started = time.perf_counter()
        scored = _reloaded(base, trial).to(device()) if chosen.probe_reload else network
        depth = len(base.layers) if chosen.probe_reload else trial.probe_layer
        predictions = _predict(scored, head, dev, depth, pad)
        seconds = shared + time.perf_counter() - started
        yield outcome(data.task, dev.labels, predictions, course, examples_in(len(course), trial), seconds)


def _train_heads(
    network: nn.Module,
    heads: list[Classifier],
    layers: list[int],
    train: Texts,
    trial: Trial,
    pad: int,
    chosen: Protocol,
) -> list[list[float]]:
    """Train each head on the pooled first token after its layer; the losses of every step, per head."""
    total = -(-len(train) // trial.batch_size) * trial.epochs
    order = stream(trial.seed, "order")
    optimizers = [
        torch.optim.AdamW(h.head.parameters(), trial.learning_rate, eps=1e-8, weight_decay=0.0) for h in heads
    ]
    schedules = [torch.optim.lr_scheduler.LambdaLR(o, lambda step: 1 - step / total) for o in optimizers]
    losses: list[list[float]] = [[] for _ in heads]
    network.train(chosen.probe_dropout)
    with own_dropout(trial):
        for _ in range(trial.epochs):
            for rows in torch.randperm(len(train), generator=order).split(trial.batch_size):
                batch, labels = collate(train, rows.numpy(), pad, heads[0].head.weight.device)
                with torch.no_grad():
                    pooled = _pooled_after(network, batch, layers)
                kept = heads[0].dropout(torch.ones_like(pooled[0]))  # one mask, whichever heads train together
                for head, optimizer, schedule, course, states in zip(
                    heads, optimizers, schedules, losses, pooled, strict=True
                ):
                    loss = F.cross_entropy(head.head(states * kept), labels)
                    optimizer.zero_grad()
                    loss.backward()
                    nn.utils.clip_grad_norm_(head.head.parameters(), 1.0)
                    optimizer.step()
                    schedule.step()
                    course.append(float(loss.detach()))
    return losses


def _pooled_after(network: nn.Module, batch: encoders.Batch, layers: Sequence[int]) -> list[torch.Tensor]:
    """The pretrained pooler's output (texts × width) where it reads the network after each of ``layers``."""
    states = [encoders.pool(hidden, batch, "first") for hidden in encoders.hidden_states(network, batch)]
    pooler = getattr(network, "pooler", None)
    return [states[k] if pooler is None else pooler(states[k][:, None]) for k in layers]


def _reloaded(base: models.Encoder, trial: Trial) -> nn.Module:
    """The model the scripts score: saved with k layers and loaded at full depth, its upper layers freshly random."""
    network = copy.deepcopy(base.network).eval()
    interventions.reinitialize(
        models.encoder_layers(network),
        suffix(trial.probe_layer, trial.layers),
        protocol=Protocol(weights="normal"),
        sigma=base.sigma,
        seed=stream_seed(trial.seed, "reload"),
    )
    return network


@torch.no_grad()
def _predict(network: nn.Module, head: Classifier, texts: Texts, depth: int, pad: int) -> np.ndarray:
    predictions = np.zeros(len(texts), dtype=np.int64)
    for rows in by_length(texts.lengths, EVALUATION_TOKENS):
        batch, _ = collate(texts, rows, pad, head.head.weight.device)
        (pooled,) = _pooled_after(network, batch, [depth])
        predictions[rows] = head.head(pooled).argmax(-1).cpu().numpy()
    return predictions
