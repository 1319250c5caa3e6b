"""What the experiments do to the layers, for pages: pictures drawn from the planned trials, and what reinitialization
makes of one layer's numbers. Each function returns a part of a page, as Markdown or HTML.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from companion import diagrams, profiles, protocols
from companion.coverage import markdown
from companion.trial import Trial

PROFILE, TASK, SIZE = "pocket", "pocket-cola", 100  # whose grids the pictures show; data do not change a picture


def planned(experiment: str) -> list[Trial]:
    """The trials of an experiment's published grid for one task, size, seed and the described protocol where it can."""
    from companion.experiments import plan

    parameters = profiles.load(PROFILE).experiments[experiment]
    return plan(experiment, {**parameters, "tasks": [TASK], "train_sizes": [SIZE], "data_dir": ""})


def _one_each(trials: list[Trial], label: Callable[[Trial], int], kinds: tuple[str, ...]) -> dict[str, Trial]:
    """Label → the first trial that has it, of these kinds, in the order of labels."""
    found: dict[int, Trial] = {}
    for trial in trials:
        if trial.kind in kinds:
            found.setdefault(label(trial), trial)
    return {str(number): found[number] for number in sorted(found)}


def _kept(trial: Trial) -> int:
    return trial.layers - len(trial.reinitialized)


def stacks_progressive() -> str:
    """Both directions of progressive reinitialization, as the published grid runs them."""
    trials = planned("progressive")
    parts = []
    for kind, end in (("suffix", "first"), ("prefix", "last")):
        parts.append(
            diagrams.stacks(
                _one_each(trials, _kept, (kind, "all", "intact")),
                name=f"progressive-{kind}",
                x_title="pretrained layers preserved",
                caption=f"Progressive reinitialization, {kind}: the {end} k layers keep their pretrained weights.",
            )
        )
    return "\n".join(parts)


def stacks_localized() -> str:
    """Blocks and their inverse."""
    trials = planned("localized")
    width = profiles.load(PROFILE).experiments["localized"]["width"]
    blocks = [trial for trial in trials if len(trial.reinitialized) == width]
    rest = [trial for trial in trials if _kept(trial) == width]
    kinds = ("block", "prefix", "suffix", "inverse", "layers")

    def first_kept(trial: Trial) -> int:
        return min(set(range(trial.layers)) - set(trial.reinitialized)) + 1

    return "\n".join(
        diagrams.stacks(
            _one_each(chosen, label, kinds),
            name=f"localized-{name}",
            x_title=f"first layer of the block of {width}",
            caption=caption,
        )
        for chosen, label, name, caption in (
            (blocks, lambda t: t.reinitialized[0] + 1, "block", "Localized reinitialization: one block is random."),
            (rest, first_kept, "inverse", "The inverse: one block keeps its pretrained weights, alone."),
        )
    )


def stacks_single() -> str:
    """One layer at a time."""
    trials = [trial for trial in planned("single_layer") if trial.reinitialized]
    return diagrams.stacks(
        _one_each(trials, lambda t: t.reinitialized[0] + 1, ("block", "prefix", "suffix")),
        name="single-layer",
        x_title="random layer",
        caption="One layer at a time: every other layer keeps its pretrained weights.",
    )


def stacks_permutation() -> str:
    """The permutations of the released scripts; numbers are pretrained layers."""
    permuted = [trial for trial in dict.fromkeys(planned("permutation")) if trial.permutation]
    orders = list(dict.fromkeys(trial.permutation for trial in permuted))
    number = {order: i + 1 for i, order in enumerate(orders)}
    return diagrams.stacks(
        _one_each(permuted, lambda t: number[t.permutation], ("permuted",)),
        name="permutation",
        x_title="permutation",
        caption="Permutations: a number says which pretrained layer stands in that place.",
    )


def stacks_probing() -> str:
    """What a probe reads."""
    return diagrams.stacks(
        _one_each(planned("probing"), lambda t: t.probe_layer, ("probe",)),
        name="probing",
        x_title="frozen pretrained layers below the probe",
        caption="Probing: a classifier reads the topmost frozen layer. Nothing above it is used, nothing below moves.",
    )


def stacks_overview() -> str:
    """One trial of each kind, side by side."""
    single = next(t for t in planned("single_layer") if t.kind == "block")
    progressive, localized = planned("progressive"), planned("localized")
    columns = {
        "intact": next(t for t in progressive if t.kind == "intact"),
        "suffix": next(t for t in progressive if t.kind == "suffix" and _kept(t) == 8),
        "prefix": next(t for t in progressive if t.kind == "prefix" and _kept(t) == 8),
        "block": next(t for t in localized if t.kind == "block"),
        "inverse": next(t for t in localized if t.kind == "inverse"),
        "single": single,
        "permuted": next(t for t in planned("permutation") if t.permutation),
    }
    return diagrams.stacks(
        columns,
        name="overview",
        x_title="",
        caption="One trial of each kind, as the code plans it. After this, every layer of every column is fine-tuned.",
    )


def anatomy() -> str:
    """The picture of an encoder: PocketBERT with a sentence of its own."""
    from companion import models
    from companion.pocket.generate import examples

    encoder = models.load("pocket-bert")
    sentence = min((row["sentence"] for row in examples(TASK)[1] if row["label"]), key=len)
    tokens = encoder.tokenizer.convert_ids_to_tokens(encoder.tokenizer(sentence)["input_ids"])
    config = encoder.network.config
    return diagrams.anatomy(tokens, config.num_hidden_layers, config.hidden_size, name="anatomy")


LAYER = 7  # 0-based; any layer would do


def _changed(protocol: str, keep_layernorm: bool = False) -> Mapping[str, Any]:
    """The parameters of PocketBERT's layer after reinitialization, by name."""
    from companion import interventions, models

    encoder = models.load("pocket-bert")
    network = copy.deepcopy(encoder.network)
    layers = models.encoder_layers(network)
    interventions.reinitialize(
        layers,
        [LAYER],
        protocol=protocols.protocol(protocol),
        sigma=encoder.sigma,
        seed=0,
        keep_layernorm=keep_layernorm,
    )
    return {name: parameter.detach() for name, parameter in layers[LAYER].named_parameters()}


def layer_parameters() -> str:
    """Every parameter of one layer, and what the protocols make of it: seen by doing it, not told."""
    from companion import models

    before = dict(models.load("pocket-bert").layers[LAYER].named_parameters())
    ways = {"described": _changed("described"), "released": _changed("released")}
    ways["LayerNorm kept"] = _changed("described", keep_layernorm=True)
    rows = []
    for name, parameter in before.items():
        row = {"parameter": f"`{name}`", "shape": " × ".join(map(str, parameter.shape))}
        rows.append(row | {way: _fate(parameter.detach(), after[name]) for way, after in ways.items()})
    return markdown(pd.DataFrame(rows))


def _fate(before: Any, after: Any) -> str:
    if (before == after).all():
        return "kept"
    if (after == after.flatten()[0]).all():
        return f"set to {after.flatten()[0].item():g}"
    return "redrawn"


def initializers() -> str:
    """For each protocol: the spread of new weights, and how far a layer of such weights moves its input."""
    import torch

    from companion import interventions, models
    from companion.executors import set_threads
    from companion.pocket.generate import examples

    set_threads()
    encoder = models.load("pocket-bert")
    texts = [row["sentence"] for row in examples(TASK)[1][:32]]
    inputs = encoder.tokenizer(texts, padding=True, return_tensors="pt")
    real = inputs["attention_mask"].bool()
    rows = []
    for name in ("pretrained", *protocols.PROTOCOLS):
        network = copy.deepcopy(encoder.network)
        layers = models.encoder_layers(network)
        if name != "pretrained":
            chosen = protocols.protocol(name)
            interventions.reinitialize(layers, range(len(layers)), protocol=chosen, sigma=encoder.sigma, seed=0)
        weights = torch.cat([p.detach().flatten() for p in layers[LAYER].parameters() if p.dim() == 2])
        with torch.no_grad():
            states = network(**inputs, output_hidden_states=True).hidden_states
        below, above = states[LAYER][real], states[LAYER + 1][real]
        moved = ((above - below).norm(dim=1) / below.norm(dim=1)).mean().item()
        rows.append(
            {
                "weights of every layer": name,
                "standard deviation": f"{weights.std().item():.2g}",
                "largest": f"{weights.abs().max().item():.2g}",
                f"how far layer {LAYER + 1} moves its input": f"{100 * moved:.2g} %",
            }
        )
    return markdown(pd.DataFrame(rows))
