"""A real Gaussian matrix that a GPU generates while it multiplies, as opuproj does.

It has never run on an NVIDIA GPU. Tests check its arithmetic in Triton's interpreter.
"""

from __future__ import annotations

from typing import Any

from benches.peers.cuda import CudaPeer
from benches.peers.generated import GeneratedPeer

# The tile of a program: vectors, outputs in each of four groups, and inputs per step.
TILE = (64, 32, 32)


class CudaGenerated(CudaPeer, GeneratedPeer):
    """A Triton kernel: tiles of Gaussians by Philox4x32-10 in registers, rounded to float16, multiplied, never stored.

    x is converted to float16; sums and results are float32. The matrix is generated again for every 64 vectors, so
    four times for a batch of 256.
    """

    name = "CUDA float16, generated"
    needs = ("torch", "triton")

    def __init__(self, n_inputs: int, n_outputs: int, seed: int = 0):
        super().__init__(n_inputs, n_outputs)
        self.seed = seed

    def product(self, x: Any) -> Any:
        import torch

        from benches.peers._philox_kernel import project

        n_outputs = self.shape[0]
        batch = x.to(torch.float16)
        result = torch.empty(len(x), n_outputs, dtype=torch.float32, device=x.device)
        vectors, outputs, _ = TILE
        grid = (-(-n_outputs // (4 * outputs)), -(-len(x) // vectors))
        project[grid](batch, result, self.seed, *batch.shape, n_outputs, *TILE)
        return result
