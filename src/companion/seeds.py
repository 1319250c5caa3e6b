"""One seed, independent named streams of randomness.

A trial's seed fans out into streams such as ``subset``, ``head``, ``order``, ``dropout``, and one per reinitialized
layer. Trials that share a seed therefore share examples, classifier start and data order whatever is done to their
layers, and a layer that two interventions both redraw receives the same values: differences are paired by seed.
"""

from __future__ import annotations

import hashlib

import torch


def stream_seed(seed: int, name: str) -> int:
    """The 63-bit seed of a named stream: a hash, so that neighboring seeds are unrelated."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def stream(seed: int, name: str) -> torch.Generator:
    """A CPU generator for the named stream of a seed (CPU even on a GPU machine, so that draws are the same)."""
    return torch.Generator().manual_seed(stream_seed(seed, name))
