"""Interventions against an independent reading of what they should do, written with plain state dicts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from conftest import bert_config
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn
from transformers import BertModel

from companion import interventions, protocols
from companion.errors import CompanionError, InvalidValue, UnknownArchitecture, UnknownName
from companion.layers import block, inverse, paper_permutation, prefix, suffix
from companion.protocols import DESCRIBED, PROTOCOLS, RELEASED, protocol

LAYERS, SIGMA = 4, 0.02
BOTH = pytest.mark.parametrize("chosen", [DESCRIBED, RELEASED], ids=lambda p: p.name)


def fresh_bert(width=32) -> BertModel:
    """A BERT whose biases and norms are not at the values a reset gives them."""
    torch.manual_seed(1)
    network = BertModel(bert_config(hidden_size=width, intermediate_size=2 * width))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return network


def snapshot(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def redraw(network: BertModel, which, chosen=DESCRIBED, seed=0, **options) -> dict[str, torch.Tensor]:
    interventions.reinitialize(network.encoder.layer, which, protocol=chosen, sigma=SIGMA, seed=seed, **options)
    return network.state_dict()


def part(name: str) -> str:
    """What a BERT parameter is, read off its name."""
    if not name.startswith("encoder.layer."):
        return "outside"
    kind = "norm" if "LayerNorm" in name else "linear"
    return f"{kind} {name.rpartition('.')[2]}"


def layer_of(name: str) -> int:
    return int(name.split(".")[2]) if name.startswith("encoder.layer.") else -1


# --- which parameters change ----------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("keep_layernorm", [False, True])
@given(which=st.sets(st.integers(0, LAYERS - 1)))
def test_exactly_the_named_parameters_change(chosen, keep_layernorm, which):
    network = fresh_bert()
    before = snapshot(network)
    after = redraw(network, which, chosen, keep_layernorm=keep_layernorm)
    changing = {"linear weight"}
    if not keep_layernorm:
        changing |= {"norm weight", "norm bias"}
    if chosen is DESCRIBED:
        changing |= {"linear bias"}
    for name, old in before.items():
        should_change = layer_of(name) in which and part(name) in changing
        assert torch.equal(after[name], old) != should_change, name


@BOTH
def test_norms_and_biases_become_what_the_protocol_says(chosen):
    network = fresh_bert()
    before = snapshot(network)
    for name, new in redraw(network, [1, 3], chosen).items():
        if layer_of(name) not in (1, 3):
            continue
        if part(name) == "norm weight":
            assert torch.equal(new, torch.ones_like(new))
        elif part(name) == "norm bias":
            assert not new.any()
        elif part(name) == "linear bias":
            assert torch.equal(new, before[name] if chosen is RELEASED else torch.zeros_like(new))


def test_embeddings_and_pooler_stay_even_when_every_layer_is_redrawn():
    network = fresh_bert()
    before = snapshot(network)
    after = redraw(network, range(LAYERS))
    outside = [name for name in before if name.startswith(("embeddings.", "pooler."))]
    assert len(outside) == 7
    assert all(torch.equal(before[name], after[name]) for name in outside)


# --- what values are drawn ------------------------------------------------------------------------------------------


def weights_of_layer(state: dict[str, torch.Tensor], layer: int) -> np.ndarray:
    chosen = [v for k, v in state.items() if layer_of(k) == layer and part(k) == "linear weight"]
    return torch.cat([value.flatten() for value in chosen]).numpy()


def test_described_weights_are_a_normal_truncated_at_two_sigma():
    drawn = weights_of_layer(redraw(fresh_bert(width=96), [2]), 2)
    assert np.abs(drawn).max() <= 2 * SIGMA
    assert drawn.std() == pytest.approx(0.8796 * SIGMA, rel=0.01)
    assert abs(drawn.mean()) < 0.01 * SIGMA
    assert stats.kstest(drawn, stats.truncnorm(-2, 2, scale=SIGMA).cdf).pvalue > 0.001


def test_released_weights_are_what_the_scripts_call_of_scipy_gives():
    drawn = weights_of_layer(redraw(fresh_bert(width=96), [2], RELEASED), 2)
    assert np.abs(drawn).max() <= 2 * SIGMA**2 * (1 + 1e-6)
    assert drawn.std() == pytest.approx(2 * SIGMA**2 / np.sqrt(3), rel=0.01)  # 0.000462: nearly uniform
    as_scripted = stats.truncnorm(-2 * SIGMA, 2 * SIGMA, scale=SIGMA)
    assert stats.kstest(drawn, as_scripted.cdf).pvalue > 0.001


def test_two_linear_maps_of_one_layer_do_not_get_the_same_values():
    state = redraw(fresh_bert(), [0])
    query, key = (state[f"encoder.layer.0.attention.self.{name}.weight"] for name in ("query", "key"))
    assert not torch.equal(query, key)


# --- pairing --------------------------------------------------------------------------------------------------------


@given(first=st.sets(st.integers(0, LAYERS - 1)), second=st.sets(st.integers(0, LAYERS - 1)), seed=st.integers(0, 99))
def test_a_layer_gets_the_same_values_whichever_others_are_redrawn(first, second, seed):
    one, other = (redraw(fresh_bert(), which, DESCRIBED, seed) for which in (first, second))
    for name in one:
        if layer_of(name) in first & second:
            assert torch.equal(one[name], other[name]), name


def test_layers_and_seeds_get_values_of_their_own():
    state, other_seed = redraw(fresh_bert(), range(LAYERS)), redraw(fresh_bert(), range(LAYERS), seed=1)
    drawn = [weights_of_layer(state, i) for i in range(LAYERS)] + [weights_of_layer(other_seed, 0)]
    assert len({values.tobytes() for values in drawn}) == LAYERS + 1


def test_drawing_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    layers = nn.ModuleList([nn.Linear(2, 2)])
    torch.manual_seed(5)
    interventions.reinitialize(layers, [0], protocol=DESCRIBED, sigma=SIGMA, seed=0)
    assert torch.equal(torch.rand(3), expected)


# --- what cannot be redrawn -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [[LAYERS], [-1], [0, 99]])
def test_a_layer_that_does_not_exist_is_an_error_and_nothing_changes(which):
    network = fresh_bert()
    before = snapshot(network)
    with pytest.raises(
        InvalidValue, match="does not exist in the model, which has 4 layers; choose layers from 0 to 3"
    ):
        redraw(network, which)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_a_layer_with_other_weights_than_linear_and_norm_is_an_error():
    layers = nn.ModuleList([nn.Sequential(nn.Linear(2, 2), nn.Conv1d(2, 2, 1))])
    with pytest.raises(UnknownArchitecture, match="layer 0 contains a Conv1d"):
        interventions.reinitialize(layers, [0], protocol=DESCRIBED, sigma=SIGMA, seed=0)


# --- permutation ----------------------------------------------------------------------------------------------------


@given(order=st.permutations(range(LAYERS)))
def test_permuting_and_permuting_back_is_the_identity(order):
    layers = nn.ModuleList(nn.Identity() for _ in range(LAYERS))
    before = list(layers)
    interventions.permute(layers, order)
    assert [before.index(layer) for layer in layers] == order
    interventions.permute(layers, np.argsort(order).tolist())
    assert list(layers) == before


def test_permutation_moves_weights_and_nothing_else():
    network = fresh_bert()
    before = snapshot(network)
    interventions.permute(network.encoder.layer, [2, 0, 3, 1])
    after = network.state_dict()
    for name, old in before.items():
        if layer_of(name) == -1:
            assert torch.equal(after[name], old)
        else:
            moved = name.replace(f".{layer_of(name)}.", f".{[2, 0, 3, 1].index(layer_of(name))}.", 1)
            assert torch.equal(after[moved], old)


@pytest.mark.parametrize("order", [[0, 1, 2], [0, 0, 1, 2], [1, 2, 3, 4], []])
def test_what_is_no_permutation_is_an_error(order):
    with pytest.raises(InvalidValue, match="does not order the 4 layers of the model; name each"):
        interventions.permute(nn.ModuleList(nn.Identity() for _ in range(LAYERS)), order)


def test_paper_permutations_are_numpys():
    # RandomState(1).permutation(12), stable by NumPy's promise for the legacy generator
    assert paper_permutation(1, 12) == (2, 3, 4, 10, 1, 6, 0, 7, 11, 9, 8, 5)
    assert len({paper_permutation(s, 12) for s in range(1, 11)}) == 10


# --- sets of layers -------------------------------------------------------------------------------------------------


def test_suffix_and_prefix_by_hand():
    assert suffix(8, 12) == (8, 9, 10, 11)
    assert suffix(12, 12) == prefix(12, 12) == ()
    assert prefix(8, 12) == (0, 1, 2, 3)
    assert suffix(0, 3) == prefix(0, 3) == (0, 1, 2)


@given(layers=st.integers(1, 24), data=st.data())
def test_suffix_and_prefix_keep_as_many_layers_as_asked(layers, data):
    kept = data.draw(st.integers(0, layers))
    below, above = suffix(kept, layers), prefix(kept, layers)
    assert set(range(layers)) - set(below) == set(range(kept))
    assert set(range(layers)) - set(above) == set(range(layers - kept, layers))


@pytest.mark.parametrize("kept", [-1, 13])
@pytest.mark.parametrize("direction", [suffix, prefix])
def test_more_or_fewer_layers_than_there_are_cannot_be_kept(direction, kept):
    with pytest.raises(InvalidValue, match=f"{kept} preserved layers"):
        direction(kept, 12)


def test_block_and_inverse_by_hand():
    assert block(2, 3, 12) == (2, 3, 4)
    assert inverse((2, 3, 4), 6) == (0, 1, 5)
    assert inverse((), 2) == (0, 1)


@pytest.mark.parametrize(("start", "width"), [(10, 3), (-1, 2), (0, 0), (0, 13)])
def test_a_block_beyond_the_layers_does_not_exist(start, width):
    with pytest.raises(InvalidValue, match=f"a block of {width} layers from layer {start} on does not exist"):
        block(start, width, 12)


# --- protocols: every field alone ------------------------------------------------------------------------------------


def test_protocols_are_found_by_name():
    assert [protocol(name) for name in ("described", "released")] == [DESCRIBED, RELEASED]
    assert all(protocol(name) == known and known.name == name for name, known in PROTOCOLS.items())
    with pytest.raises(UnknownName, match="unknown protocol 'paper'; choose one of: described, released"):
        protocol("paper")


def test_every_field_separates_described_from_released_and_can_be_chosen_alone():
    for field, (_, choices) in protocols.CHOICES.items():
        assert getattr(DESCRIBED, field) != getattr(RELEASED, field)
        for value in choices:
            if field in ("probe_dropout", "probe_reload") and value:
                continue  # have no meaning without a trained head
            chosen = protocol(f"described+{field}={str(value).lower()}")
            assert dataclasses.replace(DESCRIBED, **{field: value}) == chosen
            assert protocol(chosen.name) == chosen


@given(values=st.fixed_dictionaries({name: st.sampled_from(c) for name, (_, c) in protocols.CHOICES.items()}))
def test_a_protocol_is_found_again_by_its_name(values):
    if values["probe"] == "logistic":
        values |= {"probe_dropout": False, "probe_reload": False}
    chosen = protocols.Protocol(**values)
    assert protocol(chosen.name) == chosen


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("described+paint=red", "unknown protocol field 'paint'"),
        ("described+weights=huge", "unknown value of protocol field 'weights': 'huge'; choose one of: truncated, tiny"),
        ("described+weights=tiny+weights=normal", "has the field 'weights' twice; give it one value."),
        ("described+probe_dropout=true", "probe_dropout and probe_reload have no meaning"),
        ("", "unknown protocol ''"),
    ],
)
def test_a_wrong_protocol_is_an_error(name, sentence):
    with pytest.raises(CompanionError, match=sentence):
        protocol(name)


def test_fields_that_cannot_matter_do_not_tell_trials_apart():
    redrawing, probing = frozenset([protocols.REDRAWING]), frozenset([protocols.PROBING])
    assert protocols.relevant("released", frozenset()) == "described"
    assert protocols.relevant("released+probe_reload=false", redrawing) == "released"
    assert protocols.relevant("described+weights=tiny+biases=kept+draws=in-sequence", redrawing) == "released"
    assert protocols.relevant("described+weights=normal", probing) == "described"
    assert protocols.relevant("described+weights=normal", redrawing) == "normal"


@pytest.mark.parametrize(
    ("weights", "spread"), [("truncated", 0.8796), ("tiny", 2 * SIGMA / np.sqrt(3)), ("normal", 1.0)]
)
def test_spread_of_new_weights_in_units_of_sigma(weights, spread):
    drawn = weights_of_layer(redraw(fresh_bert(width=96), [1], protocol(f"described+weights={weights}")), 1)
    assert drawn.std() / SIGMA == pytest.approx(spread, rel=0.01)


def test_shuffled_weights_are_the_same_numbers_in_another_order():
    network = fresh_bert()
    before = snapshot(network)
    after = redraw(network, [2], protocol("described+weights=shuffled+biases=shuffled"))
    for name, old in before.items():
        if layer_of(name) == 2 and part(name).startswith("linear"):
            assert not torch.equal(after[name], old)
            assert torch.equal(after[name].flatten().sort().values, old.flatten().sort().values)


def test_biases_alone_can_be_kept():
    network = fresh_bert()
    before = snapshot(network)
    after = redraw(network, [0], protocol("described+biases=kept"))
    biases = [name for name in before if layer_of(name) == 0 and part(name) == "linear bias"]
    assert len(biases) == 6
    assert all(torch.equal(after[name], before[name]) for name in biases)
    assert np.abs(weights_of_layer(after, 0)).max() > 1.5 * SIGMA


def test_draws_in_sequence_make_a_layers_values_depend_on_which_others_are_redrawn():
    alone, together = (redraw(fresh_bert(), which, RELEASED) for which in ([3], [2, 3]))
    assert not np.array_equal(weights_of_layer(alone, 3), weights_of_layer(together, 3))
    assert np.array_equal(weights_of_layer(alone, 3), weights_of_layer(together, 2))


def test_shuffling_draws_from_the_layers_own_stream_and_keeps_no_row_together():
    networks, name = [fresh_bert() for _ in range(3)], "encoder.layer.2.output.dense.weight"
    before = networks[0].state_dict()[name].clone()
    one, again, other = (
        redraw(network, [2], protocol("shuffled"), seed)[name]
        for network, seed in zip(networks, (0, 0, 1), strict=True)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    rows, old = one.sort(dim=1).values, before.sort(dim=1).values
    assert not (rows[:, None] == old[None]).all(-1).any()
