"""A real Gaussian matrix stored on an NVIDIA GPU. It has never run on one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benches.inputs import Ternary
from benches.peers.base import Peer
from benches.result import size
from benches.setting import UnavailableError
from benches.timing import Work


def check_device(needed: int) -> None:
    """Raise UnavailableError if PyTorch finds no CUDA device, or one with too little memory."""
    import torch

    if not torch.cuda.is_available():
        raise UnavailableError("PyTorch sees no CUDA device")
    available, _ = torch.cuda.mem_get_info()
    if needed > available:
        raise UnavailableError(f"it takes {size(needed)} on the GPU, which has {size(available)}")


class CudaStored(Peer):
    """`torch.mm` in float16 (tensor cores), x and result on the GPU, until the GPU is done.

    Copies between host and GPU are not counted.
    """

    name = "CUDA float16, stored"
    needs = ("torch",)

    def __init__(self, matrix: Any):
        self.stored = matrix

    @classmethod
    def check(cls, n_inputs: int, n_outputs: int) -> None:
        super().check(0, 0)
        check_device(2 * cls.stored_bytes(n_inputs, n_outputs))

    @classmethod
    def stored_bytes(cls, n_inputs: int, n_outputs: int) -> int:
        return 2 * n_inputs * n_outputs

    @classmethod
    def build(cls, n_inputs: int, n_outputs: int) -> CudaStored:
        import torch

        generator = torch.Generator("cuda").manual_seed(0)
        return cls(torch.randn(n_outputs, n_inputs, dtype=torch.float16, device="cuda", generator=generator))

    def multiply(self, x: Ternary) -> Work:
        import torch

        batch = torch.from_numpy(x).to("cuda", torch.float16)
        transposed = self.stored.t()
        result = torch.empty(len(x), len(self.stored), dtype=torch.float16, device="cuda")

        def run() -> Any:
            torch.mm(batch, transposed, out=result)
            torch.cuda.synchronize()
            return result

        return run

    def matrix(self) -> NDArray[np.float64]:
        matrix: NDArray[np.float64] = self.stored.double().cpu().numpy()
        return matrix
