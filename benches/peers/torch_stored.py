"""A real Gaussian matrix stored by PyTorch, in float32 or bfloat16: what most programs for random projections do."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from benches.inputs import Ternary
from benches.peers.base import Peer
from benches.timing import Work


class TorchStored(Peer):
    """`torch.mm` with a stored matrix, into an existing result; x and the result have the matrix's dtype."""

    needs = ("torch",)
    dtype: ClassVar[str]
    item_bytes: ClassVar[int]

    def __init__(self, matrix: Any):
        self.stored = matrix  # a tensor of shape (n_outputs, n_inputs)

    @classmethod
    def stored_bytes(cls, n_inputs: int, n_outputs: int) -> int:
        return cls.item_bytes * n_inputs * n_outputs

    @classmethod
    def build(cls, n_inputs: int, n_outputs: int) -> TorchStored:
        """Draw the entries in float32, which is fastest for `torch.randn`, and convert them."""
        import torch

        matrix = torch.randn(n_outputs, n_inputs, generator=torch.Generator().manual_seed(0))
        return cls(matrix.to(getattr(torch, cls.dtype)))

    def first(self, n_inputs: int, n_outputs: int) -> TorchStored:
        return type(self)(self.stored[:n_outputs])

    def multiply(self, x: Ternary) -> Work:
        import torch

        batch = torch.from_numpy(x).to(self.stored.dtype)
        transposed = self.stored.t()
        result = torch.empty(len(x), len(self.stored), dtype=self.stored.dtype)
        return lambda: torch.mm(batch, transposed, out=result)

    def matrix(self) -> NDArray[np.float64]:
        matrix: NDArray[np.float64] = self.stored.double().numpy()
        return matrix


class TorchFloat32(TorchStored):
    """Four bytes per entry."""

    name = "torch float32, stored"
    dtype, item_bytes = "float32", 4


class TorchBfloat16(TorchStored):
    """Two bytes per entry, and a result of the same precision."""

    name = "torch bfloat16, stored"
    dtype, item_bytes = "bfloat16", 2
