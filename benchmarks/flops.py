"""The useful arithmetic of a trial, in floating-point operations (a multiplication and an addition are two)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """A BERT encoder: layers, width, width of the feed-forward part."""

    layers: int
    width: int
    intermediate: int


def forward(shape: Shape, lengths: Iterable[int]) -> int:
    """Operations to classify texts of ``lengths`` tokens, when nothing is computed that no score depends on.

    With width d, feed-forward width f and a text of n tokens, a layer takes::

        linear maps   2 n (4 d² + 2 d f)      query, key, value and output are d × d, then d → f → d
        attention     4 n² d                  n² scores and as many weighted sums, over all heads together

    but the last layer, of which only the first token is read::

        linear maps   2 n (2 d²) + 2 (2 d² + 2 d f)      keys and values of all tokens, all else of one
        attention     4 n d

    The pooler adds 2 d², the classifier 4 d. Embeddings, LayerNorm, softmax, GELU and dropout count as nothing.
    """
    d, f = shape.width, shape.intermediate
    total = 0
    for n in lengths:
        layer = 2 * n * (4 * d * d + 2 * d * f) + 4 * n * n * d
        last = 2 * n * 2 * d * d + 2 * (2 * d * d + 2 * d * f) + 4 * n * d
        total += (shape.layers - 1) * layer + last + 2 * d * d + 4 * d
    return total


def trial(shape: Shape, train_lengths: Iterable[int], dev_lengths: Iterable[int], epochs: int) -> int:
    """Training takes three times the forward pass (gradients of weights, gradients of inputs), evaluation once."""
    return 3 * epochs * forward(shape, train_lengths) + forward(shape, dev_lengths)
