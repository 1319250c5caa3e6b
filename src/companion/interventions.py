"""What is done to a pretrained encoder's layers before fine-tuning: reinitialize some, or permute all.

Both change a stack of layers (``torch.nn.ModuleList``) in place. Embeddings and pooler are never touched (as in the
released scripts): with every layer reinitialized the pretrained word embeddings are still there. Layers are counted
from 0; layers that the model does not have are :class:`InvalidValue`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import nn

from companion.errors import UnknownArchitecture
from companion.layers import check_layers, check_permutation
from companion.protocols import Protocol
from companion.seeds import stream


@torch.no_grad()
def reinitialize(
    layers: nn.ModuleList,
    which: Collection[int],
    *,
    protocol: Protocol,
    sigma: float,
    seed: int,
    keep_layernorm: bool = False,
) -> None:
    """Replace the weights of the layers in ``which`` by random ones.

    Linear weights and biases become what ``protocol`` says (its σ is ``sigma``), LayerNorm becomes γ = 1, β = 0 unless
    ``keep_layernorm`` (appendix control). With draws per layer, layer ``i`` draws from its own stream of ``seed``, so
    its new weights do not depend on which other layers are redrawn. Raises :class:`UnknownArchitecture` for a layer
    with weights that are neither of a linear map nor of LayerNorm.
    """
    check_layers(which, len(layers))
    in_sequence = stream(seed, "reinitialize")
    for index in sorted(which):
        generator = in_sequence if protocol.draws == "in-sequence" else stream(seed, f"reinitialize/{index}")
        for module in layers[index].modules():
            if isinstance(module, nn.Linear):
                _redraw(module, protocol, sigma, generator)
            elif "Norm" in type(module).__name__:
                if not keep_layernorm:
                    _reset_norm(module)
            elif list(module.parameters(recurse=False)):
                raise UnknownArchitecture(
                    f"layer {index} contains a {type(module).__name__} with weights of its own",
                    "use an encoder whose layers are made of linear maps and LayerNorm",
                )


def _redraw(module: nn.Linear, protocol: Protocol, sigma: float, generator: torch.Generator) -> None:
    """New weights and biases for one linear map."""
    if protocol.weights == "shuffled":
        _shuffle(module.weight, generator)
    else:
        fresh = torch.empty(module.weight.shape)
        if protocol.weights == "normal":
            fresh.normal_(0.0, sigma, generator=generator)
        else:
            bound = 2 * sigma * (sigma if protocol.weights == "tiny" else 1)
            nn.init.trunc_normal_(fresh, std=sigma, a=-bound, b=bound, generator=generator)
        module.weight.copy_(fresh)
    if module.bias is not None and protocol.biases == "zero":
        module.bias.zero_()
    elif module.bias is not None and protocol.biases == "shuffled":
        _shuffle(module.bias, generator)


def _shuffle(parameter: torch.Tensor, generator: torch.Generator) -> None:
    order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
    parameter.copy_(parameter.flatten()[order].view(parameter.shape))


def _reset_norm(module: nn.Module) -> None:
    """γ = 1 and, where there is one, β = 0."""
    for name, parameter in module.named_parameters(recurse=False):
        parameter.fill_(1.0 if name == "weight" else 0.0)


def permute(layers: nn.ModuleList, permutation: Sequence[int]) -> None:
    """Reorder the stack: position ``p`` receives pretrained layer ``permutation[p]``."""
    check_permutation(permutation, len(layers))
    for position, layer in enumerate([layers[i] for i in permutation]):
        layers[position] = layer
