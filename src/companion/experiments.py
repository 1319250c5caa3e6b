"""The paper's experiments as lists of trials. A notebook turns its parameters into one of these, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path

from companion import interventions, models, tasks
from companion.errors import InvalidValue, UnknownName
from companion.paths import data_folder
from companion.protocols import protocol
from companion.trial import Trial

# Each experiment's own notebook parameters, besides those of Settings.
PARAMETERS = {"progressive": ("directions", "preserved_layers")}
EXPERIMENTS = tuple(PARAMETERS)
DIRECTIONS = {"suffix": interventions.suffix, "prefix": interventions.prefix}


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
                )


def progressive(
    settings: Settings, *, directions: Sequence[str], preserved_layers: Mapping[str, Sequence[int] | str]
) -> list[Trial]:
    """Progressive reinitialization (paper, figure 1): fewer and fewer layers keep their pretrained weights.

    ``directions``: ``suffix`` redraws from the top down, ``prefix`` from the bottom up. ``preserved_layers`` maps a
    protocol's name to the numbers of layers that stay pretrained, or to ``"all"`` for 0…L. The intact model and the
    fully reinitialized one belong to both directions and appear once.
    """
    check_list("directions", directions)
    for direction in directions:
        if direction not in tuple(DIRECTIONS):
            raise UnknownName("direction", direction, tuple(DIRECTIONS))
    if not isinstance(preserved_layers, Mapping) or not preserved_layers:
        raise InvalidValue(
            f"parameter 'preserved_layers' is {preserved_layers!r}", "give a mapping such as {described: [0, 6, 12]}"
        )
    layers = models.depth(settings.model)
    sets = dict.fromkeys(
        (name, DIRECTIONS[direction](kept, layers))
        for name, keep in preserved_layers.items()
        for direction in directions
        for kept in _counts(name, keep, layers)
    )
    trials = (
        replace(base, protocol=name, reinitialized=which) for base in base_trials(settings) for name, which in sets
    )
    return list(dict.fromkeys(trials))


def _counts(name: str, keep: Sequence[int] | str, layers: int) -> Sequence[int]:
    protocol(name)
    if keep == "all":
        return range(layers + 1)
    check_list(f"preserved_layers[{name}]", keep)
    if wrong := [k for k in keep if type(k) is not int]:
        raise InvalidValue(f"{wrong[0]!r} is not a number of layers", f"give whole numbers from 0 to {layers}")
    return keep


def settings(parameters: Mapping[str, object]) -> Settings:
    """The settings among a notebook's parameters; :class:`InvalidValue` names one that is missing."""
    for field in fields(Settings):
        if field.default is MISSING and field.name not in parameters:
            raise InvalidValue(f"parameter {field.name!r} is missing", "give it in the profile or with -p")
    return Settings(**{f.name: parameters[f.name] for f in fields(Settings) if f.name in parameters})


def plan(name: str, parameters: Mapping[str, object]) -> list[Trial]:
    """The trials of an experiment, from its notebook's parameters (those that say nothing of trials are passed over).

    Raises :class:`UnknownName` for an unknown experiment, :class:`InvalidValue` for a missing parameter.
    """
    if name not in EXPERIMENTS:
        raise UnknownName("experiment", name, EXPERIMENTS)
    for own in PARAMETERS[name]:
        if own not in parameters:
            raise InvalidValue(f"parameter {own!r} is missing", "give it in the profile or with -p")
    own = {key: parameters[key] for key in PARAMETERS[name]}
    return {"progressive": progressive}[name](settings(parameters), **own)
