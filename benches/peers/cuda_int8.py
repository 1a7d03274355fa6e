"""A real matrix of int8 stored on an NVIDIA GPU: the smallest matrix that its libraries multiply exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benches.peers.cuda import CudaPeer

# On a GPU `torch._int_mm` takes more than 16 vectors, and lengths that are multiples of 8.
MULTIPLE, FEWEST = 8, 24
# The Gaussians drawn at a time: 256 MiB of float32.
DRAWN = 1 << 26
SIGMA = 32


class CudaInt8(CudaPeer):
    """`torch._int_mm`, and its int32 result made float32 and scaled. The matrix and x are padded with zeros as it asks.

    Padding is paid for: a single vector costs as much as 24.
    """

    name = "CUDA int8, stored"
    needs = ("torch",)

    def __init__(self, matrix: Any, n_inputs: int, n_outputs: int):
        self.stored = matrix  # padded
        self.shape = n_outputs, n_inputs

    @classmethod
    def stored_bytes(cls, n_inputs: int, n_outputs: int) -> int:
        return _padded(n_inputs) * _padded(n_outputs)

    @classmethod
    def build(cls, n_inputs: int, n_outputs: int) -> CudaInt8:
        """Draw Gaussians of σ = 32, like opuproj's entries, and round them, some rows at a time."""
        import torch

        generator = torch.Generator(cls.device).manual_seed(0)
        matrix = torch.zeros(_padded(n_outputs), _padded(n_inputs), dtype=torch.int8, device=cls.device)
        for part in matrix[:n_outputs, :n_inputs].split(max(1, DRAWN // n_inputs)):
            drawn = torch.randn(part.shape, device=cls.device, generator=generator)
            part.copy_(drawn.mul_(SIGMA).round_().clamp_(-127, 127))
        cls.wait()
        return cls(matrix, n_inputs, n_outputs)

    def product(self, x: Any) -> Any:
        import torch

        padded = max(FEWEST, _padded(len(x))), self.stored.shape[1]
        batch = x
        if padded != tuple(x.shape):
            batch = x.new_zeros(padded)
            batch[: len(x), : x.shape[1]] = x
        sums = torch._int_mm(batch, self.stored.t())
        return sums[: len(x), : self.shape[0]] * (1 / SIGMA)

    def matrix(self) -> NDArray[np.float64]:
        n_outputs, n_inputs = self.shape
        matrix: NDArray[np.float64] = self.stored[:n_outputs, :n_inputs].double().cpu().numpy() / SIGMA
        return matrix


def _padded(n: int) -> int:
    return -(-n // MULTIPLE) * MULTIPLE
