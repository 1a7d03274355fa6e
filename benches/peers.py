"""What one would use instead: a random matrix stored in memory and multiplied by PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benches.timing import Work

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class Stored:
    """A real Gaussian matrix of shape (n_outputs, n_inputs) in one of `DTYPES`."""

    matrix: torch.Tensor

    @classmethod
    def build(cls, n_outputs: int, n_inputs: int, dtype: str = "float32") -> Stored:
        """Draw the entries in float32, as `torch.randn` does best, and convert."""
        import torch

        matrix = torch.randn(n_outputs, n_inputs, generator=torch.Generator().manual_seed(0))
        return cls(matrix.to(getattr(torch, dtype)))

    def multiply(self, x: NDArray[np.int8]) -> Work:
        """The product for a batch x, already of the matrix's dtype, into a result that already exists."""
        import torch

        batch = torch.from_numpy(x).to(self.matrix.dtype)
        transposed = self.matrix.t()
        result = torch.empty(len(x), len(self.matrix), dtype=self.matrix.dtype)
        return lambda: torch.mm(batch, transposed, out=result)


def use_threads(threads: int) -> None:
    """Threads that PyTorch computes with."""
    import torch

    torch.set_num_threads(threads)


@lru_cache(maxsize=1)
def stored_pair(n_outputs: int, n_inputs: int) -> dict[str, Stored]:
    """The same matrix in every one of `DTYPES`; kept, since it takes seconds to build."""
    import torch

    first = Stored.build(n_outputs, n_inputs)
    return {dtype: Stored(first.matrix.to(getattr(torch, dtype))) for dtype in DTYPES}
