"""Which layers: sets of layers by what they leave, orders of all layers, both as text. Layers are counted from 0."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np

from companion.errors import InvalidValue

MOST_LAYERS = 10_000  # far above any model's; what a file says beyond it would fill memory with layer numbers


def suffix(preserved: int, layers: int) -> tuple[int, ...]:
    """The layers to redraw so that only the first ``preserved`` keep pretrained weights (the paper's figure 1)."""
    _check_preserved(preserved, layers)
    return tuple(range(preserved, layers))


def prefix(preserved: int, layers: int) -> tuple[int, ...]:
    """The layers to redraw so that only the last ``preserved`` keep pretrained weights."""
    _check_preserved(preserved, layers)
    return tuple(range(layers - preserved))


def block(start: int, width: int, layers: int) -> tuple[int, ...]:
    """``width`` neighboring layers from ``start`` on (the paper's figure 2, width 3; figure 5, width 1)."""
    if width < 1 or start < 0 or start + width > layers:
        raise InvalidValue(
            f"a block of {width} layers from layer {start} on does not exist in a model of {layers} layers",
            f"choose a width from 1 to {layers} and a start from 0 to {layers} minus the width",
        )
    return tuple(range(start, start + width))


def inverse(which: Collection[int], layers: int) -> tuple[int, ...]:
    """All other layers: redrawing them keeps only ``which`` (the paper's figure 2, inverse)."""
    return tuple(i for i in range(layers) if i not in which)


def paper_permutation(seed: int, layers: int) -> tuple[int, ...]:
    """The released scripts' permutation number ``seed``: ``RandomState(seed).permutation(layers)``."""
    return tuple(int(i) for i in np.random.RandomState(seed).permutation(layers))


def check_layers(reinitialized: Iterable[int], layers: int, model: str = "the model") -> None:
    """Stop with :class:`InvalidValue` unless all indices lie in 0…layers-1."""
    if outside := [i for i in reinitialized if not 0 <= i < layers]:
        raise InvalidValue(
            f"layer {outside[0]} does not exist in {model}, which has {layers} layers",
            f"choose layers from 0 to {layers - 1}",
        )


def check_permutation(permutation: Iterable[int], layers: int, model: str = "the model") -> None:
    """Stop with :class:`InvalidValue` unless ``permutation`` orders all of the layers."""
    if sorted(permutation) != list(range(layers)):
        raise InvalidValue(
            f"permutation {list(permutation)} does not order the {layers} layers of {model}",
            f"name each layer from 0 to {layers - 1} exactly once",
        )


def _check_preserved(preserved: int, layers: int) -> None:
    if not 0 <= preserved <= layers:
        raise InvalidValue(
            f"{preserved} preserved layers do not exist in a model of {layers} layers", f"choose from 0 to {layers}"
        )


def format_layers(layers: tuple[int, ...]) -> str:
    """Compact text for layer indices: ``(0, 8, 9, 10)`` → ``"0,8-10"``."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ",".join(str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs)


def changes_in_words(redrawn: tuple[int, ...], permutation: tuple[int, ...], depth: int) -> str:
    """What is done to ``depth`` layers, counted from 1 as in figures: ``(0, 2, 3), (), 4`` → layers 1,3 to 4 random."""
    if permutation:
        return "order from the bottom " + " ".join(str(i + 1) for i in permutation)
    if not redrawn:
        return "every layer pretrained"
    if len(redrawn) == depth:
        return "every layer random"
    which = format_layers(tuple(i + 1 for i in redrawn)).replace("-", " to ")
    return f"layer{'s' if len(redrawn) > 1 else ''} {which} random"


def parse_layers(text: str) -> tuple[int, ...]:
    """The inverse of :func:`format_layers`; raises :class:`InvalidValue` for anything that names no layer."""
    layers: list[int] = []
    try:
        for part in text.split(","):
            first, dash, last = part.strip().partition("-")
            run = range(int(first), int(last if dash else first) + 1)
            if not run or run[-1] >= MOST_LAYERS:
                raise ValueError
            layers.extend(run)
    except ValueError:
        raise InvalidValue(
            f"{text!r} names no layers", "write 0-based layers and ranges such as 8-11 or 0,2,5-7"
        ) from None
    return tuple(sorted(set(layers)))
