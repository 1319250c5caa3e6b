"""What a curve figure shows: which trials of the tidy table, where each stands on the x axis, to which line it belongs.

One function per experiment: tidy table → :class:`View`. Nothing is computed here but places and labels; means and
intervals are :mod:`companion.stats`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from companion import stats
from companion.comparisons import plain
from companion.errors import InvalidValue, TableUnavailable, UnknownName
from companion.layers import block, format_layers, inverse, parse_layers

DIRECTIONS = ("suffix", "prefix")
FEWEST_PLACES = 3  # a line through two would draw a shape that nothing was measured of
CONTROL = ", random labels"  # ends the name of a control probe's line
POOLED = {"first": "first token", "mean": "mean of tokens"}
SETTING = ["model", "layers", "task", "metric"]
SAME_RUN = ["model", "task", "train_size", "epochs"]


def _plainly(series: str, x: int) -> str:
    return f"{series}, {x}"


@dataclass(frozen=True, eq=False)
class View:
    """Rows of the tidy table with two columns more: ``x`` (a number) and ``series`` (the name of a line).

    ``members`` orders the lines, ``menus`` are the columns of which a reader chooses one value at a time, ``reference``
    holds trials drawn as a horizontal line (the intact model, where it has no place on the x axis), ``strip`` says
    whether redrawn layers are shown below the axis, ``ordered`` whether a line joins neighbors on the x axis,
    ``named`` how a sentence names a point: from its series and x.
    """

    trials: pd.DataFrame
    x_title: str
    series_title: str
    members: tuple[str, ...]
    menus: tuple[str, ...]
    text: str
    ticks: tuple[int, ...] = ()
    reference: pd.DataFrame = field(default_factory=pd.DataFrame)
    strip: bool = True
    logarithmic: bool = False
    ordered: bool = True
    named: Callable[[str, int], str] = _plainly

    @cached_property
    def means(self) -> pd.DataFrame:
        """A row per point: setting, menus, series and x, then n, mean, low, high (95 % t-interval) and diverged."""
        return stats.summarize(self.trials, [*SETTING, *(m for m in self.menus if m != "task"), "series", "x"])

    @cached_property
    def reference_means(self) -> pd.DataFrame:
        """The same for the horizontal line."""
        if self.reference.empty:
            return pd.DataFrame(columns=[*self.means.columns])
        return stats.summarize(self.reference, [*SETTING, *(m for m in self.menus if m != "task")])

    @property
    def drawn_means(self) -> pd.DataFrame:
        """Every mean in the picture: the points, and without an x those of the horizontal line, as series "intact"."""
        if self.reference.empty:
            return self.means
        return pd.concat([self.means, self.reference_means.assign(series="intact")], ignore_index=True)

    @cached_property
    def joins(self) -> bool:
        """Whether lines are drawn: where neighbors have an order, and some line has as many places as that takes."""
        places = self.trials.groupby([*self.menus, "series"])["x"].nunique()
        return self.ordered and int(places.max()) >= FEWEST_PLACES

    @property
    def redrawn(self) -> dict[str, dict[int, tuple[int, ...]]]:
        """Line → the redrawn layers (0-based) at each x; under one name, "", if no two lines differ at any x."""
        tuned = self.trials[self.trials["kind"] != "probe"]  # a probe redraws nothing, and leaves out what is above it
        places = tuned.loc[tuned["series"].isin(self.members), ["series", "x", "reinitialized"]].drop_duplicates()
        if not places.drop_duplicates(["x", "reinitialized"])["x"].duplicated().any():
            return {"": _redrawn(places.drop_duplicates("x"))}
        return {name: _redrawn(places[places["series"] == name]) for name in self.members}


def _redrawn(places: pd.DataFrame) -> dict[int, tuple[int, ...]]:
    rows = places.sort_values("x")
    layers = [parse_layers(which) if which else () for which in rows["reinitialized"]]
    return dict(zip(rows["x"].astype(int), layers, strict=True))


def progressive(table: pd.DataFrame, direction: str) -> View:
    """Score against layers preserved, redrawn from the last layer down ("suffix") or from the first up ("prefix").

    Both curves begin at every layer random and end at none. An intact trial redraws nothing, so it is repeated for
    each protocol that its task and train size have.
    """
    if direction not in DIRECTIONS:
        raise UnknownName("direction", direction, DIRECTIONS)
    rows = _with_intact(plain(table), [direction, "all"], ["protocol"])
    where = "last" if direction == "suffix" else "first"
    return _by_preserved(
        rows,
        rows["train_size"].map("{:,}".format),
        [f"{size:,}" for size in sorted(rows["train_size"].unique())],
        "training examples",
        ("task", "protocol"),
        f"when the {where} layers are replaced by random ones, one line for each number of training examples",
    )


def data_scaling(table: pd.DataFrame) -> View:
    """Score against the number of training examples, a line for each number of layers preserved (suffix)."""
    rows = _with_intact(plain(table), ["suffix", "all"], ["protocol"])
    kept = sorted(rows["preserved_layers"].unique(), reverse=True)
    sizes = tuple(sorted(int(size) for size in rows["train_size"].unique()))
    return View(
        rows.assign(x=rows["train_size"], series=rows["preserved_layers"].map(_layers)),
        "training examples",
        "pretrained layers preserved",
        tuple(map(_layers, kept)),
        ("task", "protocol"),
        "against the number of training examples, one line for each number of first layers that stay pretrained",
        sizes,
        strip=False,
        logarithmic=True,
    )


def _layers(count: int) -> str:
    return f"{count} layer{'' if count == 1 else 's'}"


def localized(table: pd.DataFrame, width: int) -> View:
    """Score against the first layer of a block of ``width``: the block random, or all layers but the block random."""
    depth = _depth(table)
    if not 1 <= width <= depth:
        raise InvalidValue(f"a block of {width} layers does not exist in a model of {depth}", f"choose 1 to {depth}")
    names = ("the block random", "all but the block random")
    places = []
    for start in range(depth - width + 1):
        random = block(start, width, depth)
        sets = random, inverse(random, depth)
        places += [(start + 1, name, format_layers(which)) for name, which in zip(names, sets, strict=True)]
    return _at_places(
        table,
        places,
        f"first layer of the block of {width}",
        names,
        f"against the place of a block of {width} neighboring layers that alone is random, or alone stays pretrained",
        lambda series, x: f"{_block(x, width)} {'random' if series == names[0] else 'kept alone'}",
    )


def _block(first: int, width: int) -> str:
    return f"layer {first}" if width == 1 else f"layers {first}–{first + width - 1}"


def single_layer(table: pd.DataFrame) -> View:
    """Score against the one layer that is random."""
    name = "one layer random"
    places = [(i + 1, name, str(i)) for i in range(_depth(table))]
    text = "against the one layer that is replaced by a random one"
    return _at_places(table, places, "random layer", (name,), text, lambda _, x: f"{_block(x, 1)} random")


def permutation(table: pd.DataFrame, orders: dict[int, tuple[int, ...]]) -> View:
    """Score of the permuted model for each permutation: its number → its order of layers."""
    numbers = {",".join(map(str, order)): number for number, order in orders.items()}
    rows = table[(table["kind"] == "permuted") & table["permutation"].isin(list(numbers))]
    rows = _required(rows, "permutation")
    return View(
        rows.assign(x=rows["permutation"].map(numbers), series="layers permuted"),
        "permutation (seed of RandomState)",
        "order of layers",
        ("layers permuted",),
        ("task", "train_size"),
        "for each of several permutations of all pretrained layers before fine-tuning",
        tuple(sorted(numbers.values())),
        _reference(table, rows, []),
        strip=False,
        ordered=False,
        named=lambda _, x: f"permutation {x}",
    )


def learning_rate(table: pd.DataFrame) -> View:
    """Score against layers preserved (suffix), a line for each factor on the random layers' learning rate."""
    usual = table[~table["keep_layernorm"]]
    rows = _with_intact(usual, ["suffix", "all"], ["protocol", "random_rate"])
    factors = sorted(rows["random_rate"].unique())
    return _by_preserved(
        rows,
        rows["random_rate"].map("× {:g}".format),
        [f"× {factor:g}" for factor in factors],
        "learning rate of random layers",
        ("task", "train_size", "protocol"),
        "when the last layers are random, one line for each factor on the learning rate of the random layers",
    )


def layernorm(table: pd.DataFrame) -> View:
    """Score against layers preserved (suffix), LayerNorm of the random layers reset or kept as pretrained."""
    usual = table[table["random_rate"] == 1.0]
    rows = _with_intact(usual, ["suffix", "all"], ["protocol", "keep_layernorm"])
    names = {False: "reset", True: "kept"}
    return _by_preserved(
        rows,
        rows["keep_layernorm"].map(names),
        list(names.values()),
        "LayerNorm of random layers",
        ("task", "train_size", "protocol"),
        "when the last layers are random, with LayerNorm of the random layers reset or kept as pretrained",
    )


def initialization(table: pd.DataFrame) -> View:
    """Score against layers preserved (suffix), a line for each way of drawing new weights; epochs chosen by menu."""
    rows = _with_intact(plain(table), ["suffix", "all"], ["protocol"])
    found = set(rows["protocol"])
    names = [name for name in ("described", "released") if name in found]
    return _by_preserved(
        rows,
        rows["protocol"],
        [*names, *sorted(found - set(names))],
        "new weights",
        ("task", "train_size", "epochs"),
        "when the last layers are random, one line for each way of drawing the new weights",
    )


def probing(table: pd.DataFrame) -> View:
    """Score of probes against the number of frozen layers they read, a line for each kind of probe."""
    rows = _required(table[table["kind"] == "probe"], "probing")
    kind = rows["pooling"].map(POOLED).where(rows["learning_rate"].isna(), rows["protocol"])
    kind = kind + rows["control"].map({True: CONTROL, False: ""})
    order = [*POOLED.values(), *(name + CONTROL for name in POOLED.values())]
    found = set(kind)
    return View(
        rows.assign(x=rows["probe_layer"], series=kind),
        "frozen pretrained layers below the probe",
        "probe",
        tuple([name for name in order if name in found] + sorted(found - set(order))),
        ("task", "train_size"),
        "of probes against the number of frozen layers that they read, one line for each kind of probe",
        tuple(range(_depth(table) + 1)),
        strip=False,
    )


def small_data(table: pd.DataFrame, size: int | None = None) -> View:
    """Every trial at one train size, or the smallest where it has none, against layers preserved (suffix)."""
    size = size if size in set(table["train_size"]) else table["train_size"].min()
    return progressive(table[table["train_size"] == size], "suffix")


def transfer_and_probing(table: pd.DataFrame) -> View:
    """What layers are worth beside what can be read off them: suffix curves by train size, and probing curves.

    Fine-tuned models by the described protocol; logistic probes of the largest train size that has any, on real
    labels: of the first token, which the paper's probes and a fine-tuned classifier read, and of all tokens' mean.
    """
    tuned = progressive(table[table["protocol"] == "described"], "suffix").trials
    places = tuned.groupby("train_size")["x"].transform("nunique")
    tuned = tuned[places >= FEWEST_PLACES]
    logistic = (table["kind"] == "probe") & ~table["control"] & table["learning_rate"].isna()
    probes = _required(table[logistic], "probing")
    probes = probes[probes["train_size"] == probes["train_size"].max()]
    names = [f"{size:,}" for size in sorted(tuned["train_size"].unique())]
    read = {p: f"{probes['train_size'].max():,}, probe of {said}" for p, said in POOLED.items()}
    lines = [
        tuned.assign(series=tuned["train_size"].map("{:,}".format)),
        probes.assign(x=probes["probe_layer"], series=probes["pooling"].map(read)),
    ]
    depth = _depth(table)
    return View(
        pd.concat(lines, ignore_index=True),
        "pretrained layers kept",
        "training examples",
        (*names, *(name for pooling, name in read.items() if pooling in set(probes["pooling"]))),
        ("task",),
        f"against the number of first layers kept, 0 to {depth}: of models whose layers above them are random before "
        "fine-tuning, one line for each number of training examples, and of probes of the frozen layers",
        tuple(range(depth + 1)),
    )


def _required(rows: pd.DataFrame, what: str, hint: str = "") -> pd.DataFrame:
    if rows.empty:
        raise TableUnavailable(f"the table has no {what} trials", "run them with `companion run`" + hint)
    return rows


def _with_intact(table: pd.DataFrame, kinds: Sequence[str], varying: list[str]) -> pd.DataFrame:
    """Trials of these kinds, and the intact ones repeated for each value of the ``varying`` columns among them."""
    fewer = f", with preserved_layers below {_depth(table)}"
    redrawn = _required(table[table["kind"].isin(kinds)], kinds[0], fewer)
    return pd.concat([redrawn, _reference(table, redrawn, varying)], ignore_index=True)


def _reference(table: pd.DataFrame, rows: pd.DataFrame, varying: list[str]) -> pd.DataFrame:
    wanted = rows[[*SAME_RUN, *varying]].drop_duplicates()
    intact = table[table["kind"] == "intact"].drop(columns=varying).merge(wanted, on=SAME_RUN)
    return intact[list(table.columns)]


def _by_preserved(
    rows: pd.DataFrame, series: pd.Series, members: list[str], title: str, menus: tuple[str, ...], text: str
) -> View:
    depth, several = _depth(rows), len(members) > 1
    return View(
        rows.assign(x=rows["preserved_layers"], series=series),
        "pretrained layers preserved",
        title,
        tuple(members),
        menus,
        f"against the number of pretrained layers preserved, 0 to {depth}, {text}",
        tuple(range(depth + 1)),
        named=lambda name, x: (f"{title} {name}, " if several else "") + f"{_layers(x)} preserved",
    )


def _at_places(
    table: pd.DataFrame,
    places: list[tuple[int, str, str]],
    title: str,
    names: tuple[str, ...],
    text: str,
    named: Callable[[str, int], str],
) -> View:
    """Trials at named places: (x, series, redrawn layers as text); the intact model is the reference."""
    frame = pd.DataFrame(places, columns=["x", "series", "reinitialized"])
    rows = plain(table).merge(frame, on="reinitialized")
    rows = _required(rows, "matching")
    return View(
        rows,
        title,
        "random",
        tuple(name for name in names if name in set(rows["series"])),
        ("task", "train_size", "protocol"),
        text,
        tuple(sorted(frame["x"].unique().tolist())),
        _reference(table, rows, ["protocol"]),
        named=named,
    )


def _depth(table: pd.DataFrame) -> int:
    if table.empty:
        raise TableUnavailable("the table has no trials", "run them with `companion run`")
    return int(table["layers"].max())
