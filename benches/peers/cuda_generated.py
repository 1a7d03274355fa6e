"""A real Gaussian matrix that a GPU generates while it multiplies, as opuproj does on a CPU.

It has never run on an NVIDIA GPU. Tests check its arithmetic in Triton's interpreter.
"""

from __future__ import annotations

from typing import Any

from benches.inputs import Ternary
from benches.peers.cuda_stored import check_device
from benches.peers.generated import GeneratedPeer
from benches.timing import Work

# The tile of a program: vectors, outputs in each of four groups, and inputs per step.
TILE = (64, 32, 32)


class CudaGenerated(GeneratedPeer):
    """A Triton kernel: tiles of Gaussians by Philox4x32-10 in registers, rounded to float16, multiplied, never stored.

    Sums are float32. The matrix is generated again for every 64 vectors, so four times for a batch of 256. Copies
    between host and GPU are not counted. The time ends when the GPU is done.
    """

    name = "CUDA float16, generated"
    needs = ("torch", "triton")
    device = "cuda"

    def __init__(self, n_inputs: int, n_outputs: int, seed: int = 0):
        super().__init__(n_inputs, n_outputs)
        self.seed = seed

    @classmethod
    def check(cls, n_inputs: int, n_outputs: int) -> None:
        super().check(n_inputs, n_outputs)
        check_device(0)

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
