"""The readings of the paper's method, as data.

``described`` is what the method section leads a reader to build; ``released`` is what the authors' scripts do. Every
difference between them is one named field, and each can be chosen alone: ``described+weights=tiny`` is ``described``
but for the spread of new weights. ``normal`` and ``shuffled`` name two more ways of drawing weights. Changing what a
value means needs a new ``VERSION``, which is part of the id of every trial that a protocol can influence, so that old
results never pass for new ones.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields, replace

from companion.errors import InvalidValue, UnknownName

VERSION = 2

# Which trials a field can influence: with redrawn layers, with another rate for redrawn layers, or probes.
REDRAWING, RATES, PROBING = "redrawing", "rates", "probing"
CHOICES: dict[str, tuple[str, tuple[object, ...]]] = {
    "weights": (REDRAWING, ("truncated", "tiny", "normal", "shuffled")),
    "biases": (REDRAWING, ("zero", "kept", "shuffled")),
    "draws": (REDRAWING, ("per-layer", "in-sequence")),
    "others_rate": (RATES, (1.0, 2.5)),
    "last_layer_learns": (RATES, (True, False)),
    "probe": (PROBING, ("logistic", "head")),
    "probe_dropout": (PROBING, (False, True)),
    "probe_reload": (PROBING, (False, True)),
}

# What each field decides, in a sentence for people; the docstring below says what the values are.
ABOUT = {
    "weights": "how the weights of redrawn linear maps are drawn",
    "biases": "what becomes of their biases",
    "draws": "whether a layer's new values depend on which other layers are redrawn",
    "others_rate": "factor on the learning rate of everything that is not redrawn",
    "last_layer_learns": "whether the last layer is in the optimizer at all",
    "probe": "what reads the frozen layers",
    "probe_dropout": "whether dropout stays active in the frozen layers while the probe trains",
    "probe_reload": "whether the probe is scored on a model of full depth whose upper layers are freshly random",
}


@dataclass(frozen=True)
class Protocol:
    """How layers are redrawn, learning rates set and probes trained. σ is the model's ``initializer_range``.

    ``weights`` of redrawn linear maps: ``truncated``, N(0, σ²) cut at ±2σ, BERT's own initializer (standard deviation
    0.88σ); ``tiny``, the scripts' ``truncnorm(-2σ, 2σ, scale=σ)``, whose bounds SciPy takes in units of σ, so that all
    lie within ±2σ² (±0.0008 for BERT, standard deviation 0.00046); ``normal``, N(0, σ²); ``shuffled``, the pretrained
    entries of each map in random order, which keeps their mean and variance (Raghu et al., arXiv 1902.07208).
    ``biases`` of redrawn linear maps: ``zero``; ``kept`` as pretrained, as in the scripts; or ``shuffled``.
    ``draws``: ``per-layer``, new values of a layer do not depend on which others are redrawn; ``in-sequence``, one
    stream for all redrawn layers, as in the scripts: the same layer gets other values when the first redrawn one moves.

    With another learning rate on redrawn layers (the paper's appendix), ``others_rate`` multiplies the rate of all
    other parameters (the scripts leave them at a default of 2.5 times the baseline's rate), and without
    ``last_layer_learns`` the last layer never moves (the scripts' groups loop over ``range(11)``).

    ``probe``: ``logistic``, a regularized logistic regression on hidden states; ``head``, a classifier on the frozen
    pretrained pooler, trained by the trial's own steps. ``probe_dropout`` keeps dropout active in the frozen layers
    while it trains; ``probe_reload`` scores it on a model of full depth whose upper layers are freshly random, as the
    scripts' final evaluation does. Both need ``head``.
    """

    weights: str = "truncated"
    biases: str = "zero"
    draws: str = "per-layer"
    others_rate: float = 1.0
    last_layer_learns: bool = True
    probe: str = "logistic"
    probe_dropout: bool = False
    probe_reload: bool = False

    def __post_init__(self) -> None:
        if self.probe == "logistic" and (self.probe_dropout or self.probe_reload):
            raise InvalidValue("probe_dropout and probe_reload have no meaning for probe=logistic", "add +probe=head")

    @property
    def name(self) -> str:
        """The name of the closest protocol in PROTOCOLS, with the fields that differ from it if there are any."""
        by_name = {name: self._differences(known) for name, known in PROTOCOLS.items()}
        closest = min(by_name, key=lambda name: len(by_name[name]))  # of equally close ones the first
        return closest + "".join(f"+{field}={text_of(value)}" for field, value in by_name[closest].items())

    def _differences(self, other: Protocol) -> dict[str, object]:
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != getattr(other, f.name)}


DESCRIBED = Protocol()
RELEASED = Protocol("tiny", "kept", "in-sequence", 2.5, False, "head", True, True)
PROTOCOLS = {
    "described": DESCRIBED,
    "released": RELEASED,
    "normal": Protocol(weights="normal"),
    "shuffled": Protocol(weights="shuffled", biases="shuffled"),
}


def protocol(name: str) -> Protocol:
    """The protocol of that name, such as ``released`` or ``described+weights=tiny+biases=kept``.

    Raises :class:`UnknownName` for an unknown protocol, field or value, :class:`InvalidValue` for a field that is there
    twice and for fields that exclude each other.
    """
    base, *changes = str(name).split("+")
    if base not in PROTOCOLS:
        raise UnknownName("protocol", base, tuple(PROTOCOLS))
    values: dict[str, object] = {}
    for change in changes:
        field, _, text = change.partition("=")
        if field not in CHOICES:
            raise UnknownName("protocol field", field, tuple(CHOICES))
        if field in values:
            raise InvalidValue(f"protocol {str(name)!r} has the field {field!r} twice", "give it one value")
        known = {text_of(value): value for value in CHOICES[field][1]}
        if text not in known:
            raise UnknownName(f"value of protocol field {field!r}:", text, tuple(known))
        values[field] = known[text]
    return replace(PROTOCOLS[base], **values)


def text_of(value: object) -> str:
    """A value of a field as it is written in a protocol's name."""
    return str(value).lower()


@functools.lru_cache(maxsize=1024)
def relevant(name: str, influences: frozenset[str]) -> str:
    """The protocol with every field reset that cannot influence such a trial: equal trials have one name.

    ``influences`` is a subset of REDRAWING, RATES, PROBING. Where several names fit what remains, the first of
    PROTOCOLS is taken: ``described`` where nothing remains.
    """
    chosen = protocol(name)
    kept = {field for field, (influence, _) in CHOICES.items() if influence in influences}
    for known in PROTOCOLS.values():
        if all(getattr(chosen, field) == getattr(known, field) for field in kept):
            return known.name
    return replace(DESCRIBED, **{field: getattr(chosen, field) for field in kept}).name
