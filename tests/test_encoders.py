"""Texts laid end to end against transformers' own padded computation: outputs, gradients and dropout."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from conftest import bert_config
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel, BertModel, DistilBertConfig, ModernBertConfig, RobertaConfig

from companion import encoders, finetune
from companion.encoders import Batch

WORDS = bert_config().vocab_size
SMALL = {"vocab_size": WORDS, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
OTHERS = {
    "roberta": RobertaConfig(**SMALL, intermediate_size=32, max_position_embeddings=66, type_vocab_size=1),
    "distilbert": DistilBertConfig(vocab_size=WORDS, dim=16, n_layers=2, n_heads=2, hidden_dim=32, dropout=0.0),
    "modernbert": ModernBertConfig(**SMALL, intermediate_size=32, pad_token_id=0, reference_compile=False),
}


def a_batch(lengths: list[int], seed: int = 0, pad: int = 0) -> Batch:
    drawn = torch.Generator().manual_seed(seed)
    tokens = torch.randint(5, WORDS, (sum(lengths),), generator=drawn)
    types = torch.randint(0, 2, (sum(lengths),), generator=drawn)
    return Batch({"input_ids": tokens, "token_type_ids": types}, np.array(lengths), pad)


@pytest.fixture(scope="module")
def bert() -> BertModel:
    torch.manual_seed(0)
    network = BertModel(bert_config(initializer_range=0.3)).eval()
    with torch.no_grad():  # biases start at zero, which would hide a mistake about them
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.3)
    return network


def test_padded_grid_of_two_texts():
    batch = Batch({"input_ids": torch.tensor([2, 9, 3, 2, 3])}, np.array([3, 2]), pad=7)
    padded = batch.padded()
    assert padded["input_ids"].tolist() == [[2, 9, 3], [2, 3, 7]]
    assert padded["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch.positions.tolist() == [0, 1, 2, 0, 1]
    assert batch.first.tolist() == [0, 3]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=7), st.integers(0, 2**16))
def test_end_to_end_equals_padded_for_any_lengths(bert, lengths, seed):
    batch = a_batch(lengths, seed)
    with torch.no_grad():
        assert torch.allclose(encoders.pooled(bert, batch), bert(**batch.padded()).pooler_output, atol=2e-5)


def test_gradients_equal_those_of_the_padded_network(bert):
    batch, direction = a_batch([4, 17, 1, 9]), torch.randn(4, bert.config.hidden_size)
    gradients = []
    for run in (encoders.pooled, lambda network, batch: network(**batch.padded()).pooler_output):
        network = copy.deepcopy(bert)
        (run(network, batch) * direction).sum().backward()
        gradients.append({name: p.grad for name, p in network.named_parameters()})
    for name, expected in gradients[1].items():
        assert torch.allclose(gradients[0][name], expected, atol=1e-4 * max(1.0, float(expected.abs().max()))), name


def test_a_network_without_pooler_gives_its_first_token(bert):
    network = copy.deepcopy(bert)
    network.pooler = None
    batch = a_batch([3, 8])
    with torch.no_grad():
        expected = network(**batch.padded()).last_hidden_state[:, 0]
        assert torch.allclose(encoders.pooled(network, batch), expected, atol=2e-5)


@pytest.mark.parametrize("name", OTHERS)
def test_other_architectures_run_padded(name):
    torch.manual_seed(1)
    network = AutoModel.from_config(OTHERS[name]).eval()
    batch = a_batch([5, 12])
    batch = Batch({"input_ids": batch.inputs["input_ids"]}, batch.lengths, network.config.pad_token_id)
    with torch.no_grad():
        together = encoders.pooled(network, batch)
        alone = [network(input_ids=ids[None]) for ids in batch.inputs["input_ids"].split(batch.lengths.tolist())]
    expected = [getattr(o, "pooler_output", None) for o in alone]
    expected = [o.last_hidden_state[:, 0] if p is None else p for o, p in zip(alone, expected, strict=True)]
    assert torch.allclose(together, torch.cat(expected), atol=1e-4)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(rate):
    torch.manual_seed(0)
    ones = torch.ones(1001, 999)
    dropped = encoders._dropout(ones, torch.nn.Dropout(rate))
    assert float((dropped == 0).float().mean()) == pytest.approx(rate, abs=0.002)
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / (1 - rate)])
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.01)


def test_dropout_is_off_in_evaluation():
    values = torch.randn(3, 5)
    assert encoders._dropout(values, torch.nn.Dropout(0.5).eval()) is values


def test_scores_with_dropout_spread_like_those_of_the_padded_network(bert):
    """Not the same draws, the same distribution: mean and standard deviation of one output over many passes."""
    network = copy.deepcopy(bert).train()
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.2
    network.encoder.layer[0].attention.self.dropout.p = 0.2
    batch, direction = a_batch([6, 11]), torch.randn(2, bert.config.hidden_size, generator=torch.Generator())
    torch.manual_seed(0)
    with torch.no_grad():
        ours = torch.stack([(encoders.pooled(network, batch) * direction).sum() for _ in range(1500)])
        theirs = torch.stack([(network(**batch.padded()).pooler_output * direction).sum() for _ in range(1500)])
    error = float(theirs.std()) * (2 / 1500) ** 0.5
    assert abs(float(ours.mean() - theirs.mean())) < 4 * error
    assert float(ours.std()) == pytest.approx(float(theirs.std()), rel=0.1)


def test_every_dropout_of_the_network_is_asked_once_and_in_order(bert, monkeypatch):
    network, asked = copy.deepcopy(bert).train(), []
    modules = [module for module in network.modules() if isinstance(module, torch.nn.Dropout)]
    for number, module in enumerate(modules, start=1):
        module.p = number / 100
    monkeypatch.setattr(encoders, "_kept", lambda values, p: asked.append(p) or torch.ones_like(values))
    encoders.pooled(network, a_batch([3, 5]))
    assert asked == [module.p for module in modules]
    assert len(asked) == 1 + 3 * bert.config.num_hidden_layers


def test_a_pass_on_another_device_waits_for_nothing_and_leaves_nothing_on_the_host(bert):
    """The device ``meta`` has shapes and no values: it stops who asks for one, as a GPU would make them wait."""
    meta, ids = torch.device("meta"), np.arange(5, 14, dtype=np.int32)
    classifier = finetune.Classifier(copy.deepcopy(bert), torch.Generator(), 0.02).to(meta).train()
    texts = finetune.Texts({"input_ids": ids, "token_type_ids": ids % 2}, np.array([4, 5]), np.array([0, 1]))
    batch, labels = finetune.collate(texts, np.array([1, 0]), 0, meta)
    torch.nn.functional.cross_entropy(classifier(batch), labels).backward()
    torch.nn.utils.clip_grad_norm_(classifier.parameters(), 1.0)
    assert all(p.grad.is_meta for p in classifier.parameters())
    for hidden in encoders.hidden_states(classifier.encoder, batch):
        assert all(encoders.pool(hidden, batch, pooling).shape == (2, 32) for pooling in ("first", "mean"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5])
def test_factors_of_dropout_are_the_generators_bits_against_a_threshold(rate, dtype):
    """By way of truth values, which is how scores were made before; an odd count leaves half of the last draw."""
    values = torch.empty(7, 5, dtype=dtype)
    torch.manual_seed(3)
    bits = torch.empty(18, dtype=torch.int64).random_(-(2**63), None).view(torch.int32)[:35].view(7, 5)
    after = torch.rand(1)
    torch.manual_seed(3)
    kept = encoders._kept(values, rate)
    assert torch.equal(kept, (bits >= round((rate - 0.5) * 2**32)).to(dtype) * (1 / (1 - rate)))
    assert torch.equal(torch.rand(1), after)
    assert 0 < int((kept == 0).sum()) < 35


@given(seed=st.integers(0, 2**32 - 1), heads=st.integers(1, 4), rows=st.integers(1, 6), places=st.integers(1, 6))
def test_attention_with_dropout_has_the_outputs_and_gradients_of_pytorchs_own_operations(seed, heads, rows, places):
    torch.manual_seed(seed)
    weights, values = torch.rand(heads, rows, places), torch.randn(heads, places, 3)
    direction = torch.randn(heads, rows, 3)
    module = torch.nn.Dropout(0.3)
    found = []
    for attend in (encoders._attend, lambda w, v, module: torch.bmm(w * encoders._kept(w, module.p), v)):
        inputs = [tensor.clone().requires_grad_() for tensor in (weights, values)]
        torch.manual_seed(seed)
        output = attend(*inputs, module)
        (output * direction).sum().backward()
        found.append([output, *(tensor.grad for tensor in inputs)])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*found, strict=True))
