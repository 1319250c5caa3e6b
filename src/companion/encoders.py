"""A batch of texts → the vector a classifier reads: the pooled first token, computed without waste.

BERT runs on the texts of a batch laid end to end, without padding: every linear map, LayerNorm and dropout sees the
rows of real tokens only, attention alone is computed text by text. In the last layer only first tokens are computed
beyond keys and values, as nothing else of it is read. Both change no score, only the time it takes. The network's own
modules and parameters are used, so whatever was done to its layers holds here. Other architectures run as
transformers runs them, padded to the longest text of the batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import nn
from transformers import BertModel

from companion.linear import by_onednn, linear

VECTOR = 16  # numbers that a processor's widest registers hold


@dataclass(frozen=True, eq=False)
class Batch:
    """Texts laid end to end: ``inputs[name]`` (tokens,) for ``input_ids`` and such, ``lengths`` (texts,) in tokens.

    Inputs are on the device that computes. Lengths, and where tokens lie by them, are known to the host, so that it
    never has to wait for a GPU to tell them. ``pad`` is the token id that padding has where an architecture needs it.
    """

    inputs: dict[str, torch.Tensor]
    lengths: np.ndarray
    pad: int

    @cached_property
    def real(self) -> np.ndarray:
        """Which places of the padded grid (texts × length of the longest text) hold a token."""
        return np.arange(self.lengths.max()) < self.lengths[:, None]

    @cached_property
    def tokens(self) -> np.ndarray:
        """The token (its row in ``inputs``) at each place of the padded grid; any token where there is none."""
        return (self.real.ravel().cumsum() - 1).clip(0).reshape(self.real.shape)

    @cached_property
    def positions(self) -> torch.Tensor:
        """The position of each token (tokens,) in its text, from 0."""
        return self.to_device(self.real.nonzero()[1])

    @cached_property
    def first(self) -> torch.Tensor:
        """The row of each text's first token (texts,)."""
        return self.to_device(self.lengths.cumsum() - self.lengths)

    def to_device(self, values: np.ndarray) -> torch.Tensor:
        """The values where the inputs are."""
        return to_device(values, self.inputs["input_ids"].device)

    def padded(self) -> dict[str, torch.Tensor]:
        """The inputs as transformers takes them, each texts × longest text, with the attention mask."""
        tokens, real = self.to_device(self.tokens), self.to_device(self.real)
        filled = {
            name: values[tokens].masked_fill(~real, self.pad if name == "input_ids" else 0)
            for name, values in self.inputs.items()
        }
        return {**filled, "attention_mask": real.long()}


def to_device(values: np.ndarray, device: torch.device) -> torch.Tensor:
    """An array as a tensor on the device, not waited for: of pageable memory CUDA has made its own copy when the call
    returns (CUDA runtime API, "API synchronization behavior").
    """
    return torch.from_numpy(values).to(device, non_blocking=True)


def is_plain_bert(network: nn.Module) -> bool:
    """Whether it is a BERT encoder, whose texts are laid end to end."""
    return isinstance(network, BertModel) and not network.config.is_decoder


def uses_onednn(network: nn.Module) -> bool:
    """Whether oneDNN multiplies the network's matrices in fp32 on this machine, given rows enough."""
    return is_plain_bert(network) and any(by_onednn(layer) for layer in network.encoder.modules())


def pooled(network: nn.Module, batch: Batch) -> torch.Tensor:
    """The network's pooled output for each text (texts × width), or its first token where it has no pooler."""
    if is_plain_bert(network):
        return _packed_bert(network, batch)
    encoded = network(**batch.padded())
    found = getattr(encoded, "pooler_output", None)
    return encoded.last_hidden_state[:, 0] if found is None else found


def hidden_states(network: nn.Module, batch: Batch) -> Iterator[torch.Tensor]:
    """The tokens' rows (tokens × width) after the embeddings and after each layer: layers + 1 of them, one by one."""
    if is_plain_bert(network):
        hidden, grid = _embed(network.embeddings, batch), HeadGrid(batch, network.config.num_attention_heads)
        yield hidden
        for layer in network.encoder.layer:
            hidden = _layer(layer, hidden, hidden, grid)
            yield hidden
    else:
        for padded in network(**batch.padded(), output_hidden_states=True).hidden_states:
            yield padded[batch.to_device(batch.real)]


def pool(hidden: torch.Tensor, batch: Batch, pooling: str) -> torch.Tensor:
    """Rows of tokens → rows of texts (texts × width): the ``first`` token's, or the ``mean`` over all tokens."""
    if pooling == "first":
        return hidden[batch.first]
    tokens, real, lengths = (batch.to_device(values) for values in (batch.tokens, batch.real, batch.lengths))
    return (hidden[tokens] * real[..., None]).sum(1) / lengths[:, None]


def _packed_bert(network: BertModel, batch: Batch) -> torch.Tensor:
    hidden, grid = _embed(network.embeddings, batch), HeadGrid(batch, network.config.num_attention_heads)
    *lower, last = network.encoder.layer
    for layer in lower:
        hidden = _layer(layer, hidden, hidden, grid)
    first = _layer(last, hidden, hidden.index_select(0, batch.first), grid)
    return first if network.pooler is None else network.pooler(first[:, None])


def _embed(embeddings: nn.Module, batch: Batch) -> torch.Tensor:
    """Word, position and segment embeddings (tokens × width)."""
    types = batch.inputs.get("token_type_ids", torch.zeros_like(batch.positions))
    summed = embeddings.word_embeddings(batch.inputs["input_ids"]) + embeddings.token_type_embeddings(types)
    summed = summed + embeddings.position_embeddings(batch.positions)
    return _dropout(embeddings.LayerNorm(summed), embeddings.dropout)


def _layer(layer: nn.Module, hidden: torch.Tensor, asking: torch.Tensor, grid: HeadGrid) -> torch.Tensor:
    """One BERT layer: ``asking`` (rows × width) attends to ``hidden`` (tokens × width) → rows × width.

    The rows that ask are all tokens, or one token of each text.
    """
    attention = layer.attention.self
    every = asking is hidden
    queries = linear(attention.query, asking)
    queries = grid.spread(queries) if every else queries.view(len(grid.mask), 1, grid.size(queries))
    keys, values = (grid.spread(linear(module, hidden)) for module in (attention.key, attention.value))
    weights = torch.baddbmm(grid.mask, queries, keys.transpose(1, 2), alpha=attention.scaling).softmax(-1)
    context = _attend(weights, values, attention.dropout)
    context = grid.gather(context) if every else context.view(asking.shape)
    attended = _add(layer.attention.output, context, asking)
    inner = layer.intermediate.intermediate_act_fn(linear(layer.intermediate.dense, attended))
    return _add(layer.output, inner, attended)


def _add(output: nn.Module, rows: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    """What ends each half of a layer: linear map, dropout, the residual added, LayerNorm."""
    return output.LayerNorm(_dropout(linear(output.dense, rows), output.dropout) + residual)


def _attend(weights: torch.Tensor, values: torch.Tensor, module: nn.Dropout) -> torch.Tensor:
    """Sums of the values (heads × places × width) by attention weights (heads × rows × places) with dropout."""
    if not _is_ours(module, weights) or values.dtype != weights.dtype:  # in half precision torch casts the product
        return torch.bmm(_dropout(weights, module), values)
    return _Weighted.apply(weights, _kept(weights, module.p), values)


def _dropout(values: torch.Tensor, module: nn.Dropout) -> torch.Tensor:
    """Dropout; on a CPU our own, as PyTorch's takes more than twice the time."""
    return values * _kept(values, module.p) if _is_ours(module, values) else module(values)


def _is_ours(module: nn.Dropout, values: torch.Tensor) -> bool:
    return module.training and module.p > 0 and values.device.type == "cpu"


def _kept(values: torch.Tensor, p: float) -> torch.Tensor:
    """What dropout multiplies ``values`` by: 0 with probability ``p``, else 1 / (1 - p), from 32 random bits a number.

    Computed in place in integers, whose product with a float's bits is that float or zero: PyTorch's way from truth
    values to floats takes five times as long.
    """
    bits = torch.empty((values.numel() + 1) // 2, dtype=torch.int64).random_(-(2**63), None).view(torch.int32)
    kept = bits[: values.numel()].view(values.shape).ge_(round((p - 0.5) * 2**32))
    return kept.mul_(int(np.float32(1 / (1 - p)).view(np.int32))).view(torch.float32).to(values.dtype)


class _Weighted(torch.autograd.Function):
    """``bmm(weights * kept, values)``; for its gradient the product is computed again, being as large as a factor."""

    @staticmethod
    def forward(ctx, weights, kept, values):
        """Multiply."""
        ctx.save_for_backward(weights, kept, values)
        return torch.bmm(weights * kept, values)

    @staticmethod
    def backward(ctx, gradient):
        """The gradients that PyTorch computes, by the same operations."""
        weights, kept, values = ctx.saved_tensors
        of_values = torch.bmm((weights * kept).transpose(1, 2), gradient)
        return torch.bmm(gradient, values.transpose(1, 2)).mul_(kept), None, of_values


class HeadGrid:
    """Where attention finds the tokens of a batch: a grid (texts · heads) × places of rows, one per head.

    ``mask`` ((texts · heads) × 1 × places) is added to attention scores: 0 at tokens, -inf where there is none. The
    number of places is the longest text's length, rounded up to what PyTorch's softmax computes ten times faster.
    """

    def __init__(self, batch: Batch, heads: int) -> None:
        self.heads = heads
        beyond = ((0, 0), (0, -batch.real.shape[1] % VECTOR))
        real = np.pad(batch.real, beyond)[:, None].repeat(heads, axis=1)
        there = (np.pad(batch.tokens, beyond)[:, None] * heads + np.arange(heads)[:, None]).ravel()
        back = np.empty(batch.lengths.sum() * heads, dtype=np.int64)
        used = real.ravel().nonzero()[0]
        back[there[used]] = used
        self._there, self._back = batch.to_device(there), batch.to_device(back)
        self._real = batch.to_device(real.reshape(-1, 1).astype(np.float32))
        mask = np.where(real, 0, -np.inf).astype(np.float32)
        self.mask = batch.to_device(mask.reshape(-1, 1, real.shape[2]))

    def size(self, rows: torch.Tensor) -> int:
        """Width of one head."""
        return rows.shape[1] // self.heads

    def spread(self, rows: torch.Tensor) -> torch.Tensor:
        """tokens × width → (texts · heads) × places × head width; arbitrary where there is no token."""
        by_head = rows.view(-1, self.size(rows))
        return _Move.apply(by_head, self._there, self._back, None).view(len(self.mask), -1, by_head.shape[1])

    def gather(self, grid: torch.Tensor) -> torch.Tensor:
        """The inverse of :meth:`spread`."""
        return _Move.apply(grid.flatten(0, 1), self._back, self._there, self._real).view(-1, self.heads * grid.shape[2])


class _Move(torch.autograd.Function):
    """``rows[there]``, whose gradient is again a selection, ``gradient[back]``, as no row is used twice.

    PyTorch's own gradient of a selection adds row by row, which is slow. ``used`` (rows × 1) is 1 for rows that have a
    gradient, else 0.
    """

    @staticmethod
    def forward(ctx, rows, there, back, used):
        """Select."""
        ctx.back, ctx.used = back, used
        return rows.index_select(0, there)

    @staticmethod
    def backward(ctx, gradient):
        """Select the other way round."""
        selected = gradient.index_select(0, ctx.back)
        return (selected if ctx.used is None else selected.mul_(ctx.used)), None, None, None
