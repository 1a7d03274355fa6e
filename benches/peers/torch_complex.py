"""A complex Gaussian matrix stored by PyTorch, as T is, if it fits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benches.inputs import Ternary
from benches.peers.base import Peer
from benches.timing import Work


class TorchComplex64(Peer):
    """A stored complex64 matrix, multiplied as the real matrix of twice the columns that it is in memory.

    x is real, so this gives the same numbers as a complex product with half the work. The field is measured; its
    intensity would take another pass over the result.
    """

    name = "torch complex64, stored"
    modes = ("complex",)
    needs = ("torch",)

    def __init__(self, matrix: Any):
        self.stored = matrix  # of shape (n_inputs, n_outputs)

    @classmethod
    def stored_bytes(cls, n_inputs: int, n_outputs: int) -> int:
        return 8 * n_inputs * n_outputs

    @classmethod
    def build(cls, n_inputs: int, n_outputs: int) -> TorchComplex64:
        """Draw entries of E|t|² = 1, as `torch.randn` makes them."""
        import torch

        generator = torch.Generator().manual_seed(0)
        return cls(torch.randn(n_inputs, n_outputs, dtype=torch.complex64, generator=generator))

    def multiply(self, x: Ternary) -> Work:
        import torch

        batch = torch.from_numpy(x).to(torch.float32)
        result = torch.empty(len(x), self.stored.shape[1], dtype=torch.complex64)
        parts = torch.view_as_real(self.stored).flatten(1)
        filled = torch.view_as_real(result).flatten(1)

        def run() -> Any:
            torch.mm(batch, parts, out=filled)
            return result

        return run

    def matrix(self) -> NDArray[np.complex128]:
        matrix: NDArray[np.complex128] = self.stored.t().numpy().astype(np.complex128)
        return matrix
