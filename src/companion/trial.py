"""A trial: one fine-tuning run or one probe. Everything that can change its score is in it, and nothing else."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any

from companion.errors import InvalidValue
from companion.layers import MOST_LAYERS, check_layers, check_permutation, inverse
from companion.protocols import DESCRIBED, PROBING, RATES, REDRAWING, VERSION, protocol, relevant

POOLINGS = ("first", "mean")
PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class Trial:
    """Model, task, what is done to the layers, hyperparameters and seed; its canonical JSON is hashed to its id.

    ``weights`` and ``data`` identify contents (hash prefixes), so a retrained model or another copy of a data set
    never passes for the old one. ``reinitialized`` holds 0-based layer indices; ``permutation`` orders all layers;
    ``random_rate`` multiplies the learning rate of redrawn layers. With ``probe_layer`` k nothing is fine-tuned: a
    classifier reads the frozen model after its first k layers (0: the embeddings), at the ``pooling`` of each text's
    tokens, for the task's labels or, as a ``control``, for random labels of words. A logistic probe takes no gradient
    steps: its learning rate, batch size and epochs are None. ``precision`` is that of matrix products in fine-tuning.
    Fields that cannot matter are reset, so equal trials are equal objects. Raises :class:`InvalidValue` or
    :class:`UnknownName` for values no trial can have.
    """

    model: str
    weights: str
    layers: int
    task: str
    data: str
    train_size: int
    seed: int
    learning_rate: float | None
    batch_size: int | None
    epochs: int | None
    max_length: int = 128
    reinitialized: tuple[int, ...] = ()
    permutation: tuple[int, ...] = ()
    protocol: str = DESCRIBED.name
    keep_layernorm: bool = False
    random_rate: float = 1.0
    probe_layer: int | None = None
    pooling: str = "first"
    control: bool = False
    precision: str = PRECISIONS[0]

    def __post_init__(self) -> None:
        for name in ("model", "weights", "task", "data", "protocol"):
            _check(isinstance(getattr(self, name), str), name, self, "a text")
        for name in ("keep_layernorm", "control"):
            _check(type(getattr(self, name)) is bool, name, self, "true or false")
        for name in ("reinitialized", "permutation"):
            _check(_whole_numbers(getattr(self, name)), name, self, "a tuple of whole numbers")
        steps = () if self.logistic else ("batch_size", "epochs")
        for name in ("train_size", "max_length", "layers", *steps):
            _check(_whole(getattr(self, name), 1), name, self, "a positive whole number")
        _check(self.layers <= MOST_LAYERS, "layers", self, f"at most {MOST_LAYERS}")
        _check(_whole(self.seed, 0), "seed", self, "a whole number from 0 up")
        _check(self.logistic or _number(self.learning_rate, 1), "learning_rate", self, "a number above 0 and up to 1")
        _check(_number(self.random_rate, 1000), "random_rate", self, "a number above 0 and up to 1000")
        for name, known in (("pooling", POOLINGS), ("precision", PRECISIONS)):
            _check(getattr(self, name) in known, name, self, " or ".join(known))
        self._check_layers()
        self._reset_what_cannot_matter()

    def _reset_what_cannot_matter(self) -> None:
        reset: dict[str, Any] = {"reinitialized": tuple(sorted(set(self.reinitialized)))}
        if self.permutation == tuple(range(self.layers)):
            reset["permutation"] = ()
        if not self.reinitialized:
            reset |= {"keep_layernorm": False, "random_rate": 1.0}
        if self.probe_layer is None:
            reset |= {"pooling": "first", "control": False}
        else:
            reset["precision"] = PRECISIONS[0]
        for name, value in reset.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "protocol", relevant(str(self.protocol), self._influences()))
        for name in ("learning_rate", "random_rate"):
            if isinstance(getattr(self, name), int):
                object.__setattr__(self, name, float(getattr(self, name)))
        if self.logistic:
            for name in ("learning_rate", "batch_size", "epochs"):
                object.__setattr__(self, name, None)

    def _influences(self) -> frozenset[str]:
        """Which fields of a protocol can change this trial's score."""
        applies = {
            REDRAWING: bool(self.reinitialized),
            RATES: self.random_rate != 1.0,
            PROBING: self.probe_layer is not None,
        }
        return frozenset(name for name, applied in applies.items() if applied)

    def _check_layers(self) -> None:
        check_layers(self.reinitialized, self.layers, repr(self.model))
        if self.permutation:
            check_permutation(self.permutation, self.layers, repr(self.model))
        if self.probe_layer is None:
            return
        if type(self.probe_layer) is not int or not 0 <= self.probe_layer <= self.layers:
            raise InvalidValue(
                f"probe layer {self.probe_layer!r} does not exist in {self.model!r}, which has {self.layers} layers",
                f"choose from 0 (the embeddings) to {self.layers}",
            )
        if self.reinitialized or self.permutation:
            raise InvalidValue("a probe reads the intact model", "leave out what is done to the layers")
        if self.pooling != "first" and not self.logistic:
            raise InvalidValue(
                f"a probe of protocol {self.protocol!r} reads the pooled first token", "leave out pooling"
            )

    @property
    def logistic(self) -> bool:
        """Whether this is a probe without gradient steps."""
        return self.probe_layer is not None and protocol(self.protocol).probe == "logistic"

    @property
    def group(self) -> Trial:
        """Equal for trials to be run together: probes that differ in layer, pooling or labels alone."""
        return self if self.probe_layer is None else replace(self, probe_layer=0, pooling="first", control=False)

    @property
    def id(self) -> str:
        """16 hex digits, equal exactly when two trials mean the same run."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()[:16]

    def canonical(self) -> str:
        """JSON with sorted keys. Optional fields at their default are left out, so new options keep old ids."""
        required = {f.name for f in fields(self) if f.default is MISSING}
        defaults = {f.name: f.default for f in fields(self)}
        kept = {k: v for k, v in asdict(self).items() if k in required or v != defaults[k]}
        if self._influences():
            kept["protocol"] = f"{self.protocol}/{VERSION}"
        return json.dumps(kept, sort_keys=True)

    @property
    def kind(self) -> str:
        """What is done to the layers: intact, permuted, probe, or what is redrawn of them.

        That is all, a suffix, a prefix, a block, the inverse of a block, or other layers.
        """
        chosen = self.reinitialized
        if self.probe_layer is not None:
            return "probe"
        if self.permutation:
            return "permuted"
        if not chosen:
            return "intact"
        if len(chosen) == self.layers:
            return "all"
        if chosen != tuple(range(chosen[0], chosen[-1] + 1)):
            kept = inverse(chosen, self.layers)
            return "inverse" if kept == tuple(range(kept[0], kept[-1] + 1)) else "layers"
        if chosen[-1] == self.layers - 1:
            return "suffix"
        return "prefix" if chosen[0] == 0 else "block"

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Trial:
        """The inverse of ``dataclasses.asdict`` after a round trip through JSON; unknown keys are an error."""
        if not isinstance(values, dict):
            raise InvalidValue(f"a trial cannot be built from {values!r}", "give a mapping of its fields")
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown:
            raise InvalidValue(f"a trial has no field {sorted(unknown, key=str)[0]!r}", "remove it")
        lists = {k: tuple(v) for k, v in values.items() if isinstance(v, list)}
        try:
            return cls(**{**values, **lists})
        except TypeError as error:
            raise InvalidValue(f"a trial cannot be built ({error})", "give every required field") from error


def _whole(value: object, least: int) -> bool:
    """Whether it is a whole number from ``least`` to the largest that a table holds."""
    return type(value) is int and least <= value < 2**63


def _whole_numbers(values: object) -> bool:
    return isinstance(values, tuple) and len(values) <= MOST_LAYERS and all(type(i) is int for i in values)


def _number(value: object, most: float) -> bool:
    """Whether it is a number above 0 and up to ``most``."""
    return type(value) in (int, float) and math.isfinite(value) and 0 < value <= most


def _check(good: bool, name: str, trial: Trial, wanted: str) -> None:
    if not good:
        raise InvalidValue(f"{name.replace('_', ' ')} {getattr(trial, name)!r} is not possible", f"give {wanted}")
