"""A real matrix of int8 stored by PyTorch: the smallest matrix that a CPU library multiplies exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benches.inputs import Ternary
from benches.peers.base import Peer
from benches.timing import Work


class TorchInt8(Peer):
    """`torch._int_mm`, PyTorch's int8 product, into an existing int32 result; scaling it is not counted."""

    name = "torch int8, stored"
    needs = ("torch",)

    def __init__(self, matrix: Any):
        self.stored = matrix

    @classmethod
    def stored_bytes(cls, n_inputs: int, n_outputs: int) -> int:
        return n_inputs * n_outputs

    @classmethod
    def build(cls, n_inputs: int, n_outputs: int) -> TorchInt8:
        """Draw Gaussians of σ = 32, like opuproj's entries, and round them, a few rows at a time."""
        import torch

        generator = torch.Generator().manual_seed(0)
        matrix = torch.empty(n_outputs, n_inputs, dtype=torch.int8)
        for part in matrix.split(max(1, (1 << 22) // n_inputs)):
            drawn = torch.randn(part.shape, generator=generator)
            part.copy_(drawn.mul_(32).round_().clamp_(-127, 127))
        return cls(matrix)

    def first(self, n_inputs: int, n_outputs: int) -> TorchInt8:
        return type(self)(self.stored[:n_outputs])

    def multiply(self, x: Ternary) -> Work:
        import torch

        batch = torch.from_numpy(x)
        transposed = self.stored.t()
        result = torch.empty(len(x), len(self.stored), dtype=torch.int32)
        return lambda: torch._int_mm(batch, transposed, out=result)

    def matrix(self) -> NDArray[np.float64]:
        matrix: NDArray[np.float64] = self.stored.double().numpy()
        return matrix
