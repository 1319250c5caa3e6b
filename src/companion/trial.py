"""A trial: one fine-tuning run. Everything that can change its score is in it, and nothing else."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

from companion.errors import InvalidValue
from companion.protocols import DESCRIBED, protocol


@dataclass(frozen=True)
class Trial:
    """Model, task, what is done to the layers, hyperparameters and seed; its canonical JSON is hashed to its id.

    ``weights`` and ``data`` identify contents (hash prefixes), so a retrained model or another copy of a data set
    never passes for the old one. ``reinitialized`` holds 0-based layer indices; ``permutation`` orders all layers.
    Raises :class:`InvalidValue` or :class:`UnknownName` for values no trial can have.
    """

    model: str
    weights: str
    layers: int
    task: str
    data: str
    train_size: int
    seed: int
    learning_rate: float
    batch_size: int
    epochs: int
    max_length: int = 128
    reinitialized: tuple[int, ...] = ()
    permutation: tuple[int, ...] = ()
    protocol: str = DESCRIBED.name
    keep_layernorm: bool = False

    def __post_init__(self) -> None:
        for name in ("train_size", "batch_size", "epochs", "max_length", "layers"):
            _check(type(getattr(self, name)) is int and getattr(self, name) > 0, name, self, "a positive whole number")
        _check(type(self.seed) is int and self.seed >= 0, "seed", self, "a whole number from 0 up")
        number = isinstance(self.learning_rate, (int, float)) and math.isfinite(self.learning_rate)
        _check(number and 0 < self.learning_rate <= 1, "learning_rate", self, "a number above 0 and up to 1")
        protocol(self.protocol)
        layers = tuple(sorted(set(self.reinitialized)))
        if outside := [i for i in layers if not 0 <= i < self.layers]:
            raise InvalidValue(
                f"layer {outside[0]} does not exist in {self.model!r}, which has {self.layers} layers",
                f"choose layers from 0 to {self.layers - 1}",
            )
        if self.permutation and sorted(self.permutation) != list(range(self.layers)):
            raise InvalidValue(
                f"permutation {list(self.permutation)} does not order the {self.layers} layers of {self.model!r}",
                f"name each layer from 0 to {self.layers - 1} exactly once",
            )
        object.__setattr__(self, "learning_rate", float(self.learning_rate))
        object.__setattr__(self, "reinitialized", layers)
        if self.permutation == tuple(range(self.layers)):
            object.__setattr__(self, "permutation", ())
        if not layers:  # nothing is redrawn, so how it would be redrawn cannot matter
            object.__setattr__(self, "protocol", DESCRIBED.name)
            object.__setattr__(self, "keep_layernorm", False)

    @property
    def id(self) -> str:
        """16 hex digits, equal exactly when two trials mean the same run."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()[:16]

    def canonical(self) -> str:
        """JSON with sorted keys. Optional fields at their default are left out, so new options keep old ids."""
        required = {f.name for f in fields(self) if f.default is MISSING}
        defaults = {f.name: f.default for f in fields(self)}
        kept = {k: v for k, v in asdict(self).items() if k in required or v != defaults[k]}
        if self.reinitialized:
            kept["protocol"] = f"{self.protocol}/{protocol(self.protocol).version}"
        return json.dumps(kept, sort_keys=True)

    @property
    def kind(self) -> str:
        """What is done to the layers: intact, permuted, all, suffix, prefix, block or layers (any other set)."""
        chosen = self.reinitialized
        if self.permutation:
            return "permuted"
        if not chosen:
            return "intact"
        if len(chosen) == self.layers:
            return "all"
        if chosen != tuple(range(chosen[0], chosen[-1] + 1)):
            return "layers"
        if chosen[-1] == self.layers - 1:
            return "suffix"
        return "prefix" if chosen[0] == 0 else "block"

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Trial:
        """The inverse of ``dataclasses.asdict`` after a round trip through JSON; unknown keys are an error."""
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown:
            raise InvalidValue(f"a trial has no field {sorted(unknown)[0]!r}", "remove it")
        lists = {k: tuple(v) for k, v in values.items() if k in ("reinitialized", "permutation")}
        try:
            return cls(**{**values, **lists})
        except TypeError as error:
            raise InvalidValue(f"a trial cannot be built ({error})", "give every required field") from error


def _check(good: bool, name: str, trial: Trial, wanted: str) -> None:
    if not good:
        raise InvalidValue(f"{name.replace('_', ' ')} {getattr(trial, name)!r} is not possible", f"give {wanted}")


def format_layers(layers: tuple[int, ...]) -> str:
    """Compact text for layer indices: ``(0, 8, 9, 10)`` → ``"0,8-10"``."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ",".join(str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs)


def parse_layers(text: str) -> tuple[int, ...]:
    """The inverse of :func:`format_layers`; raises :class:`InvalidValue` for anything that names no layer."""
    layers: list[int] = []
    try:
        for part in text.split(","):
            first, dash, last = part.strip().partition("-")
            run = range(int(first), int(last if dash else first) + 1)
            if not run or run[-1] >= 10_000:
                raise ValueError
            layers.extend(run)
    except ValueError:
        raise InvalidValue(
            f"{text!r} names no layers", "write 0-based layers and ranges such as 8-11 or 0,2,5-7"
        ) from None
    return tuple(sorted(set(layers)))
