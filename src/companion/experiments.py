"""The paper's experiments as lists of trials. A notebook turns its parameters into one of these, and nothing else."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path

from companion import models, tasks
from companion.errors import InvalidValue, UnknownName
from companion.layers import block, inverse, paper_permutation, prefix, suffix
from companion.paths import data_folder
from companion.protocols import protocol
from companion.trial import POOLINGS, PRECISIONS, Trial

Kept = Mapping[str, Sequence[int] | str]  # protocol → numbers of layers that stay pretrained, or "all"
DIRECTIONS = {"suffix": suffix, "prefix": prefix}


@dataclass(frozen=True)
class Settings:
    """What the trials of one experiment share, as a notebook's parameters cell states it.

    ``train_sizes`` are numbers of training examples, or ``"full"`` for the whole training split. Raises
    :class:`UnknownName` or :class:`InvalidValue` for anything no trial could have.
    """

    model: str
    tasks: Sequence[str]
    train_sizes: Sequence[int | str]
    seeds: Sequence[int]
    learning_rate: float
    batch_size: int
    epochs: int
    max_length: int
    precision: str = PRECISIONS[0]
    data_dir: str = ""

    def __post_init__(self) -> None:
        for name in ("tasks", "train_sizes", "seeds"):
            check_list(name, getattr(self, name))
        for name in ("model", "data_dir"):
            if not isinstance(getattr(self, name), str):
                raise InvalidValue(f"parameter {name!r} is {getattr(self, name)!r}", "give a text")
        for name in self.tasks:
            tasks.task(name)

    @property
    def folder(self) -> Path | None:
        """The local GLUE folder, if any."""
        return data_folder(self.data_dir)


def check_list(name: str, values: object) -> None:
    """Stop with :class:`InvalidValue` unless ``values`` is a list with something in it."""
    if isinstance(values, str) or not isinstance(values, Sequence) or not values:
        raise InvalidValue(f"parameter {name!r} is {values!r}", "give a list with at least one value")


def base_trials(settings: Settings, pool: str = tasks.PUBLISHED) -> Iterator[Trial]:
    """The intact model's trial for every task, train size and seed: what every intervention is compared with."""
    weights, layers = models.weights_of(settings.model), models.depth(settings.model)
    for name in settings.tasks:
        data = tasks.load(name, settings.folder, pool)
        for size in settings.train_sizes:
            size = len(data.train) if size == "full" else size
            if type(size) is not int:
                raise InvalidValue(f"train size {size!r} is not possible", "give whole numbers or 'full'")
            tasks.check_size(data, size)
            for seed in settings.seeds:
                yield Trial(
                    model=settings.model,
                    weights=weights,
                    layers=layers,
                    task=name,
                    data=data.fingerprint,
                    train_size=size,
                    seed=seed,
                    learning_rate=settings.learning_rate,
                    batch_size=settings.batch_size,
                    epochs=settings.epochs,
                    max_length=settings.max_length,
                    precision=settings.precision,
                )


def progressive(settings: Settings, *, directions: Sequence[str], preserved_layers: Kept) -> list[Trial]:
    """Progressive reinitialization (paper, figure 1): fewer and fewer layers keep their pretrained weights.

    ``directions``: ``suffix`` redraws from the top down, ``prefix`` from the bottom up. ``preserved_layers`` maps a
    protocol's name to the numbers of layers that stay pretrained, or to ``"all"`` for 0…L. The intact model and the
    fully reinitialized one belong to both directions and appear once.
    """
    check_list("directions", directions)
    for direction in directions:
        if direction not in tuple(DIRECTIONS):
            raise UnknownName("direction", direction, tuple(DIRECTIONS))
    layers = models.depth(settings.model)
    return _varied(
        settings,
        [
            {"protocol": name, "reinitialized": DIRECTIONS[direction](kept, layers)}
            for name, counts in _by_protocol(preserved_layers, layers)
            for direction in directions
            for kept in counts
        ],
    )


def data_scaling(settings: Settings, *, preserved_layers: Kept) -> list[Trial]:
    """Score against train size for chosen numbers of preserved layers (suffix), at every train size of the settings."""
    return progressive(settings, directions=["suffix"], preserved_layers=preserved_layers)


def small_data(settings: Settings, *, preserved_layers: Kept) -> list[Trial]:
    """Every trial at a small train size, many seeds (paper, figure 4): a distribution, not a mean."""
    return progressive(settings, directions=["suffix"], preserved_layers=preserved_layers)


def localized(
    settings: Settings, *, width: int, starts: Sequence[int] | str, variants: Sequence[str], protocols: Sequence[str]
) -> list[Trial]:
    """Localized reinitialization (paper, figure 2): ``width`` neighboring layers from each start redrawn (variant
    ``block``), or all layers but those (``inverse``); and the intact and the fully redrawn model to compare with."""
    layers = models.depth(settings.model)
    if type(width) is not int or not 1 <= width <= layers:
        raise InvalidValue(f"parameter 'width' is {width!r}", f"give a whole number from 1 to {layers}")
    starts = _numbers("starts", starts, range(layers - width + 1))
    check_names("variants", variants, ("block", "inverse"))
    blocks = [block(start, width, layers) for start in starts]
    chosen = {"block": blocks, "inverse": [inverse(b, layers) for b in blocks]}
    sets = [(), *(which for variant in variants for which in chosen[variant]), tuple(range(layers))]
    return _redrawn(settings, sets, protocols)


def single_layer(settings: Settings, *, which: Sequence[int] | str, protocols: Sequence[str]) -> list[Trial]:
    """One layer redrawn at a time (paper, figure 5), 0-based or ``"all"``; and the intact model."""
    layers = models.depth(settings.model)
    return _redrawn(settings, [(), *((i,) for i in _numbers("which", which, range(layers)))], protocols)


def permutation(settings: Settings, *, permutations: Sequence[int]) -> list[Trial]:
    """All layers permuted before fine-tuning (paper, figure 3): numbers of ``RandomState(s).permutation(L)``, all of
    them with the same fine-tuning seeds; and the intact model."""
    layers = models.depth(settings.model)
    check_list("permutations", permutations)
    if wrong := [s for s in permutations if type(s) is not int or not 0 <= s < 2**32]:
        raise InvalidValue(f"permutation {wrong[0]!r} is not possible", "give whole numbers from 0 to 4294967295")
    orders = [paper_permutation(s, layers) for s in permutations]
    return _varied(settings, [{"permutation": order} for order in ((), *orders)])


def learning_rate(settings: Settings, *, preserved_layers: Kept, random_rates: Sequence[float]) -> list[Trial]:
    """A larger learning rate on redrawn layers (paper, figure 6): each factor of ``random_rates`` times the rate."""
    layers = models.depth(settings.model)
    check_list("random_rates", random_rates)
    return _varied(
        settings,
        [
            {"protocol": name, "reinitialized": suffix(kept, layers), "random_rate": factor}
            for name, counts in _by_protocol(preserved_layers, layers)
            for kept in counts
            for factor in random_rates
        ],
    )


def layernorm(settings: Settings, *, preserved_layers: Kept) -> list[Trial]:
    """LayerNorm of redrawn layers reset or kept as pretrained (paper, figure 7)."""
    layers = models.depth(settings.model)
    return _varied(
        settings,
        [
            {"protocol": name, "reinitialized": suffix(kept, layers), "keep_layernorm": keep}
            for name, counts in _by_protocol(preserved_layers, layers)
            for kept in counts
            for keep in (False, True)
        ],
    )


def initialization(settings: Settings, *, preserved_layers: Kept, epochs_factors: Sequence[int]) -> list[Trial]:
    """What the way of drawing new weights does, and whether more steps undo it (this companion's own experiment).

    Each protocol of ``preserved_layers`` is run for each factor of ``epochs_factors`` times the settings' epochs: a
    model that scores at chance after few steps and well after more was not trained, rather than unable to transfer.
    """
    layers = models.depth(settings.model)
    if type(settings.epochs) is not int:
        raise InvalidValue(f"epochs {settings.epochs!r} is not possible", "give a positive whole number")
    check_list("epochs_factors", epochs_factors)
    if wrong := [f for f in epochs_factors if type(f) is not int or f < 1]:
        raise InvalidValue(f"epochs factor {wrong[0]!r} is not possible", "give whole numbers from 1 up")
    return _varied(
        settings,
        [
            {"protocol": name, "reinitialized": suffix(kept, layers), "epochs": settings.epochs * factor}
            for name, counts in _by_protocol(preserved_layers, layers)
            for kept in counts
            for factor in epochs_factors
        ],
    )


def probing(
    settings: Settings,
    *,
    probe_layers: Sequence[int] | str,
    poolings: Sequence[str],
    protocols: Sequence[str],
    control: bool,
    probe_epochs: int,
) -> list[Trial]:
    """Probes after each of the first k layers, frozen (paper, figure 1, dashed); ``probe_layers`` 0…L or ``"all"``.

    Logistic probes read each of ``poolings`` and, with ``control``, also learn random labels of words. Probes with a
    trained head (the released protocol) take ``probe_epochs`` and the settings' learning rate and batch size.
    """
    layers = models.depth(settings.model)
    numbers = _numbers("probe_layers", probe_layers, range(layers + 1))
    check_names("poolings", poolings, POOLINGS)
    check_list("protocols", protocols)
    if type(control) is not bool:
        raise InvalidValue(f"parameter 'control' is {control!r}", "give true or false")
    changes = []
    for name in protocols:
        logistic = protocol(name).probe == "logistic"
        for pooling in poolings if logistic else ("first",):
            for labels in (False, True) if control and logistic else (False,):
                changes += [
                    {"protocol": name, "probe_layer": k, "pooling": pooling, "control": labels, "epochs": probe_epochs}
                    for k in numbers
                ]
    return _varied(settings, changes)


def _varied(settings: Settings, changes: Sequence[Mapping[str, object]]) -> list[Trial]:
    """Every base trial with every change, each trial once."""
    return list(dict.fromkeys(replace(base, **change) for base in base_trials(settings) for change in changes))


def _redrawn(settings: Settings, sets: Sequence[tuple[int, ...]], protocols: Sequence[str]) -> list[Trial]:
    check_list("protocols", protocols)
    return _varied(settings, [{"protocol": name, "reinitialized": which} for name in protocols for which in sets])


def check_names(parameter: str, names: Sequence[str], known: Sequence[str]) -> None:
    """Stop unless ``names`` is a list of some of the ``known`` ones."""
    check_list(parameter, names)
    for name in names:
        if name not in tuple(known):
            raise UnknownName(f"value of parameter {parameter!r}:", name, known)


def _by_protocol(preserved_layers: Kept, layers: int) -> list[tuple[str, Sequence[int]]]:
    if not isinstance(preserved_layers, Mapping) or not preserved_layers:
        raise InvalidValue(
            f"parameter 'preserved_layers' is {preserved_layers!r}", "give a mapping such as {described: [0, 6, 12]}"
        )
    for name in preserved_layers:
        protocol(name)
    return [
        (name, _numbers(f"preserved_layers[{name}]", keep, range(layers + 1)))
        for name, keep in preserved_layers.items()
    ]


def _numbers(parameter: str, given: Sequence[int] | str, possible: range) -> Sequence[int]:
    """The numbers given, or all possible ones for ``"all"``; :class:`InvalidValue` names one that is not possible."""
    if given == "all":
        return possible
    check_list(parameter, given)
    if wrong := [k for k in given if type(k) is not int or k not in possible]:
        raise InvalidValue(
            f"{wrong[0]!r} in parameter {parameter!r} is not possible", f"give numbers from 0 to {possible[-1]}"
        )
    return given


def settings(parameters: Mapping[str, object]) -> Settings:
    """The settings among a notebook's parameters; :class:`InvalidValue` names one that is missing."""
    for field in fields(Settings):
        if field.default is MISSING and field.name not in parameters:
            raise InvalidValue(f"parameter {field.name!r} is missing", "give it in the profile or with -p")
    return Settings(**{f.name: parameters[f.name] for f in fields(Settings) if f.name in parameters})


EXPERIMENTS: dict[str, Callable[..., list[Trial]]] = {
    "progressive": progressive,
    "probing": probing,
    "data_scaling": data_scaling,
    "localized": localized,
    "single_layer": single_layer,
    "permutation": permutation,
    "learning_rate": learning_rate,
    "layernorm": layernorm,
    "small_data": small_data,
    "initialization": initialization,
}
# Each experiment's own notebook parameters, besides those of Settings.
PARAMETERS = {
    name: tuple(p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY)
    for name, function in EXPERIMENTS.items()
}


def plan(name: str, parameters: Mapping[str, object]) -> list[Trial]:
    """The trials of an experiment, from its notebook's parameters (those that say nothing of trials are passed over).

    Raises :class:`UnknownName` for an unknown experiment, :class:`InvalidValue` for a missing parameter.
    """
    given, own = arguments(name, parameters)
    return EXPERIMENTS[name](given, **own)


def arguments(name: str, parameters: Mapping[str, object]) -> tuple[Settings, dict[str, object]]:
    """What :func:`plan` gives an experiment: its settings and its own parameters. Raises as it does."""
    if name not in tuple(EXPERIMENTS):
        raise UnknownName("experiment", name, tuple(EXPERIMENTS))
    for own in PARAMETERS[name]:
        if own not in parameters:
            raise InvalidValue(f"parameter {own!r} is missing", "give it in the profile or with -p")
    return settings(parameters), {key: parameters[key] for key in PARAMETERS[name]}
