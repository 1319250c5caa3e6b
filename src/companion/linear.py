"""Linear maps on a CPU, by the faster of the two libraries that PyTorch brings.

PyTorch multiplies fp32 matrices by Intel's MKL, which on AMD's processors with AVX-512 computes at half of the rate
that oneDNN reaches there (``benchmarks/`` measures both; PyTorch itself uses oneDNN in half precision). The same sums
are added up in another order, so that scores may differ by rounding.
"""

from __future__ import annotations

import functools
import os

import torch
from torch import nn

from companion.provenance import processor

# Rows × weights. A kernel is compiled for each number of rows, in half a millisecond; of a smaller product too little
# time is saved, times the layers of a network that use it, before the next batch has another number of rows.
ENOUGH = 4_000_000
# oneDNN keeps a thousand kernels of half a megabyte or more each. A BERT's layer needs nine for a number of rows: maps
# of three shapes, three products each. The variables are read at oneDNN's first use; a user's own stay.
for _variable in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(_variable, "24")


def linear(module: nn.Linear, rows: torch.Tensor) -> torch.Tensor:
    """``module(rows)`` (rows × width out) for ``rows`` (rows × width in), up to rounding."""
    replaced = by_onednn(module) and rows.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if replaced and len(rows) * module.weight.numel() >= ENOUGH:
        return _OneDNN.apply(rows, module.weight, module.bias)
    return module(rows)


def by_onednn(module: nn.Module) -> bool:
    """Whether :func:`linear` takes oneDNN for this module in fp32, given rows enough."""
    return (
        type(module) is nn.Linear
        and module.weight.dtype == torch.float32
        and module.weight.device.type == "cpu"
        and onednn_is_faster()
    )


@functools.cache
def onednn_is_faster() -> bool:
    """Whether this is an AMD processor with AVX-512, on which MKL does not use it."""
    capability = torch.backends.cpu.get_cpu_capability()
    return torch.backends.mkldnn.is_available() and capability == "AVX512" and "AMD" in processor()


class _OneDNN(torch.autograd.Function):
    """rows · weightᵀ + bias and its three gradients, by oneDNN."""

    @staticmethod
    def forward(ctx, rows, weight, bias):
        """rows × width out."""
        ctx.save_for_backward(rows, weight)
        ctx.biased = bias is not None
        return _product(rows, weight, bias)

    @staticmethod
    def backward(ctx, gradient):
        """Gradients of the three arguments."""
        rows, weight = ctx.saved_tensors
        return _product(gradient, weight.t()), _product(gradient.t(), rows.t()), gradient.sum(0) if ctx.biased else None


def _product(a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """a · bᵀ + bias; the operator that PyTorch's compiler emits (there is no public one, and torch is pinned)."""
    return torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")
