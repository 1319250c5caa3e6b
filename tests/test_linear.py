"""Linear maps by oneDNN against float64, and when they are taken."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from companion import encoders, finetune, linear, models, provenance

has_operator = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
needs_onednn = pytest.mark.skipif(not has_operator, reason="this build of PyTorch is without oneDNN")


@pytest.fixture
def everywhere(monkeypatch):
    """oneDNN for every linear map, on whatever processor this is."""
    monkeypatch.setattr(linear, "ENOUGH", 0)
    monkeypatch.setattr(linear, "onednn_is_faster", lambda: True)


def an_amd_processor(monkeypatch, name="AMD EPYC", capability="AVX512"):
    monkeypatch.setattr(linear, "processor", lambda: name)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)


@pytest.fixture(autouse=True)
def _asked_anew():
    asked = linear.onednn_is_faster  # a test may put another in its place
    asked.cache_clear()
    yield
    asked.cache_clear()


@needs_onednn
@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(1, 50), st.integers(1, 50), st.booleans(), st.integers(0, 2**16))
def test_outputs_and_gradients_are_those_of_float64(rows, width_in, width_out, biased, seed):
    torch.manual_seed(seed)
    module = torch.nn.Linear(width_in, width_out, bias=biased)
    given_rows, given_gradient = torch.randn(rows, width_in, requires_grad=True), torch.randn(rows, width_out)
    output = linear._OneDNN.apply(given_rows, module.weight, module.bias)
    output.backward(given_gradient)

    x, w, g = (tensor.detach().double() for tensor in (given_rows, module.weight, given_gradient))
    expected = x @ w.T + (module.bias.detach().double() if biased else 0)
    assert torch.allclose(output.double(), expected, atol=1e-4)
    assert torch.allclose(given_rows.grad.double(), g @ w, atol=1e-4)
    assert torch.allclose(module.weight.grad.double(), g.T @ x, atol=1e-4)
    if biased:
        assert torch.allclose(module.bias.grad.double(), g.sum(0), atol=1e-4)


@needs_onednn
def test_a_gradient_that_is_laid_out_otherwise_is_multiplied_as_well(everywhere):
    """The gradient of a sum is one number, seen at every place."""
    module, rows = torch.nn.Linear(6, 5), torch.randn(7, 6)
    linear.linear(module, rows).sum().backward()
    assert torch.allclose(module.weight.grad, rows.sum(0).expand(5, 6), atol=1e-5)
    assert torch.equal(module.bias.grad, torch.full((5,), 7.0))


@pytest.fixture
def taken(monkeypatch) -> list[tuple]:
    """What is given to oneDNN, which multiplies nothing."""
    given_to_it = []
    monkeypatch.setattr(linear._OneDNN, "apply", lambda *arguments: given_to_it.append(arguments))
    return given_to_it


@pytest.mark.parametrize(
    ("name", "capability", "is_taken"),
    [("AMD EPYC", "AVX512", True), ("AMD EPYC", "AVX2", False), ("Intel(R) Xeon(R) Processor", "AVX512", False)],
)
def test_maps_are_taken_on_an_amd_processor_with_avx512(monkeypatch, name, capability, is_taken):
    an_amd_processor(monkeypatch, name, capability)
    assert linear.by_onednn(torch.nn.Linear(4, 3)) == is_taken


@pytest.mark.parametrize(("rows", "is_taken"), [(10, True), (9, False)])
def test_a_map_is_taken_for_enough_rows(monkeypatch, taken, rows, is_taken):
    an_amd_processor(monkeypatch)
    monkeypatch.setattr(linear, "ENOUGH", 10 * 4 * 3)
    linear.linear(torch.nn.Linear(4, 3), torch.ones(rows, 4))
    assert len(taken) == is_taken


def test_maps_that_are_not_plain_or_not_fp32_stay_with_pytorch(monkeypatch, taken):
    an_amd_processor(monkeypatch)
    monkeypatch.setattr(linear, "ENOUGH", 0)

    class Adapted(torch.nn.Linear):
        """A map with something added, as libraries for adapters make them."""

        def forward(self, rows):
            return super().forward(rows) + 1

    for module in (Adapted(400, 400), torch.nn.Linear(400, 400, dtype=torch.float64), torch.nn.Identity()):
        rows = torch.ones(2, 400, dtype=getattr(getattr(module, "weight", None), "dtype", torch.float32))
        assert torch.equal(linear.linear(module, rows), module(rows))
    with torch.autocast("cpu", torch.bfloat16):
        assert linear.linear(torch.nn.Linear(400, 400), torch.ones(2, 400)).dtype == torch.bfloat16
    assert taken == []
    linear.linear(torch.nn.Linear(400, 400), torch.ones(2, 400))
    assert len(taken) == 1


@needs_onednn
def test_an_encoder_by_onednn_gives_what_transformers_gives(tiny_bert, everywhere, monkeypatch):
    base, called = models.load(tiny_bert), []
    really = linear._product
    monkeypatch.setattr(linear, "_product", lambda *arguments: called.append(1) or really(*arguments))
    batch = encoders.Batch({"input_ids": torch.arange(5, 14)}, np.array([4, 5]), 0)
    with torch.no_grad():
        found, expected = encoders.pooled(base.network, batch), base.network(**batch.padded()).pooler_output
    assert torch.allclose(found, expected, atol=2e-5)
    assert len(called) == 6 * base.network.config.num_hidden_layers


def test_what_multiplied_is_named_with_the_processor(tiny_bert, plan_trial, monkeypatch):
    """Scores are equal to the last bit only where both are the same."""
    trial = plan_trial(model=tiny_bert)
    monkeypatch.setattr(linear, "onednn_is_faster", lambda: False)
    assert finetune.library(trial) == ""
    assert provenance.collect("")["processor"] == provenance.processor()
    monkeypatch.setattr(linear, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(finetune, "device", lambda: torch.device("cpu"))
    assert finetune.library(trial) == "oneDNN"
    assert finetune.library(plan_trial(model=tiny_bert, precision="bf16")) == ""
    assert provenance.collect("oneDNN")["processor"] == f"{provenance.processor()} with oneDNN"
    monkeypatch.setattr(finetune, "device", lambda: torch.device("cuda"))
    assert finetune.library(trial) == ""


@pytest.mark.parametrize("own", [None, "7"])
def test_few_compiled_kernels_are_kept_unless_the_user_says_otherwise(own):
    name = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
    environment = {key: value for key, value in os.environ.items() if key != name} | ({name: own} if own else {})
    command = [sys.executable, "-c", f"import os, companion.finetune; print(os.environ['{name}'])"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (own or "24")
