"""A real Gaussian matrix that a GPU generates while it multiplies it: opuproj's idea, on other hardware.

Written for whoever has an NVIDIA GPU: it has never run on one. Its arithmetic is tested in Triton's interpreter.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benches.inputs import Ternary
from benches.peers.base import Peer
from benches.peers.cuda_stored import check_device
from benches.timing import Work

# Of the tile that a program computes: vectors, outputs in each of four groups, and inputs a step.
TILE = (64, 32, 32)


class CudaGenerated(Peer):
    """A Triton kernel: tiles of Gaussians by Philox4x32-10 in registers, rounded to float16, multiplied, never stored.

    Sums are float32. Every 64 vectors have the matrix generated again, so a batch of 256 pays for it four times. Copies
    between host and GPU are not counted; the time ends when the GPU is done.
    """

    name = "CUDA float16, generated"
    needs = ("torch", "triton")
    generates = True
    device = "cuda"

    def __init__(self, n_inputs: int, n_outputs: int, seed: int = 0):
        self.shape, self.seed = (n_outputs, n_inputs), seed

    @classmethod
    def check(cls, n_inputs: int, n_outputs: int) -> None:
        super().check(n_inputs, n_outputs)
        check_device(0)

    @classmethod
    def stored_bytes(cls, n_inputs: int, n_outputs: int) -> int:
        return 0

    @classmethod
    def build(cls, n_inputs: int, n_outputs: int) -> CudaGenerated:
        return cls(n_inputs, n_outputs)

    def multiply(self, x: Ternary) -> Work:
        import torch

        from benches.peers._philox_kernel import project

        n_outputs = self.shape[0]
        batch = torch.from_numpy(x).to(self.device, torch.float16)
        result = torch.empty(len(x), n_outputs, dtype=torch.float32, device=self.device)
        vectors, outputs, _ = TILE
        grid = (-(-n_outputs // (4 * outputs)), -(-len(x) // vectors))

        def run() -> Any:
            project[grid](batch, result, self.seed, *batch.shape, n_outputs, *TILE)
            if self.device == "cuda":
                torch.cuda.synchronize()
            return result

        return run

    def matrix(self) -> NDArray[np.float64]:
        identity: Ternary = np.eye(self.shape[1], dtype=np.int8)
        product: Any = self.multiply(identity)()
        entries: NDArray[np.float64] = product.double().cpu().numpy().T
        return entries
