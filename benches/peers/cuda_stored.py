"""A real Gaussian matrix stored on an NVIDIA GPU, in three floating-point dtypes."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from benches.peers.cuda import CudaPeer


class CudaStored(CudaPeer):
    """`torch.mm` with a matrix that the GPU drew; x is converted to its dtype, which the result has too."""

    needs = ("torch",)
    dtype: ClassVar[str]
    item_bytes: ClassVar[int]

    def __init__(self, matrix: Any):
        self.stored = matrix  # a tensor of shape (n_outputs, n_inputs)

    @classmethod
    def stored_bytes(cls, n_inputs: int, n_outputs: int) -> int:
        return cls.item_bytes * n_inputs * n_outputs

    @classmethod
    def build(cls, n_inputs: int, n_outputs: int) -> CudaStored:
        import torch

        torch.set_float32_matmul_precision("highest")  # TF32 off, which is torch's default
        generator, dtype = torch.Generator(cls.device).manual_seed(0), getattr(torch, cls.dtype)
        built = cls(torch.randn(n_outputs, n_inputs, dtype=dtype, device=cls.device, generator=generator))
        cls.wait()
        return built

    def product(self, x: Any) -> Any:
        import torch

        return torch.mm(x.to(self.stored.dtype), self.stored.t())

    def matrix(self) -> NDArray[np.float64]:
        matrix: NDArray[np.float64] = self.stored.double().cpu().numpy()
        return matrix


class CudaFloat32(CudaStored):
    """Four bytes per entry, multiplied in full precision: without TF32."""

    name = "CUDA float32, stored"
    dtype, item_bytes = "float32", 4


class CudaFloat16(CudaStored):
    """Two bytes per entry, multiplied by tensor cores."""

    name = "CUDA float16, stored"
    dtype, item_bytes = "float16", 2


class CudaBfloat16(CudaStored):
    """Two bytes per entry, multiplied by tensor cores."""

    name = "CUDA bfloat16, stored"
    dtype, item_bytes = "bfloat16", 2
