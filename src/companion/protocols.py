"""The two readings of the paper's method, as data.

``described`` is what the method section leads a reader to build; ``released`` is what the authors' scripts do. Every
difference is one named field. Changing what a field means needs a new ``version``, which is part of every trial's id,
so that old results never pass for new ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from companion.errors import UnknownName


@dataclass(frozen=True)
class Protocol:
    """How a layer is reinitialized. σ is the model's own ``initializer_range`` (0.02 for BERT).

    ``tiny_weights``: False draws weights from N(0, σ²) truncated at ±2σ, BERT's own initializer (standard deviation
    0.88σ). True reproduces ``truncnorm(-2σ, 2σ, scale=σ)`` of the released scripts: SciPy takes those bounds in units
    of σ, so weights lie within ±2σ² (±0.0008 for BERT, standard deviation 0.00046).

    ``keep_biases``: False sets the biases of linear maps to zero; True leaves them pretrained, as the scripts do.
    """

    name: str
    version: int
    tiny_weights: bool
    keep_biases: bool

    def weight_bound(self, sigma: float) -> float:
        """The largest absolute weight a reinitialized linear map can have."""
        return 2 * sigma * sigma if self.tiny_weights else 2 * sigma


DESCRIBED = Protocol("described", version=1, tiny_weights=False, keep_biases=False)
RELEASED = Protocol("released", version=1, tiny_weights=True, keep_biases=True)
PROTOCOLS = {p.name: p for p in (DESCRIBED, RELEASED)}


def protocol(name: str) -> Protocol:
    """The protocol of that name, or :class:`UnknownName`."""
    if name not in PROTOCOLS:
        raise UnknownName("protocol", name, tuple(PROTOCOLS))
    return PROTOCOLS[name]
