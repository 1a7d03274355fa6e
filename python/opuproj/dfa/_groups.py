"""How many blocks get their feedback from one projection."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from ._pass import BlockOutput

# On the CPU, 8 blocks, or a quarter of all blocks if that is more, but at most half of all; in deep networks, a call
# for each block would take longer than the projection itself. Their feedback takes at most 8 MiB.
_BLOCKS, _BYTES = 8, 8 << 20
# On a GPU, half of all blocks, for each launch fills tables before it makes entries. What is computed takes at most
# this part of the memory of the parameters and of the blocks' outputs, so that it adds little to the peak.
_GPU_SHARE = 16


def most_blocks(n_blocks: int, *, on_gpu: bool) -> int:
    """Return the most blocks of a group, from the number of blocks that receive feedback."""
    half = n_blocks // 2
    return max(1, half if on_gpu else min(half, max(_BLOCKS, n_blocks // 4)))


def most_bytes(used: int, *, on_gpu: bool) -> int:
    """Return the most memory that a group's projection may take; a single block may take more.

    `used` is the memory of the parameters and of the blocks' outputs.
    """
    return max(_BYTES, used // _GPU_SHARE) if on_gpu else _BYTES


def output_bytes(outputs: Iterable[BlockOutput]) -> int:
    """Return the memory of the outputs of blocks that receive feedback."""
    found = 0
    for end in outputs:
        found += sum(math.prod(shape) * dtype.itemsize for shape, dtype in zip(end.shapes, end.dtypes, strict=True))
    return found


def parameter_bytes(model: torch.nn.Module) -> int:
    """Return the memory of a model's parameters."""
    return sum(p.numel() * p.element_size() for p in model.parameters())
