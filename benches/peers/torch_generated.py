"""Gaussian rows that PyTorch draws while it multiplies them: what one writes first when the matrix does not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benches.inputs import Ternary
from benches.peers.base import Peer
from benches.timing import Work

BLOCK_ENTRIES = 1 << 20  # 4 MiB of float32, which stay in a second- or third-level cache until they are multiplied


class TorchGenerated(Peer):
    """A block of rows from a seeded generator, multiplied and overwritten by the next; every product draws all anew.

    The generator is PyTorch's on the CPU, which draws on one thread; the products use all.
    """

    name = "torch float32, generated"
    needs = ("torch",)
    generates = True

    def __init__(self, n_inputs: int, n_outputs: int):
        self.shape = n_outputs, n_inputs

    @classmethod
    def stored_bytes(cls, n_inputs: int, n_outputs: int) -> int:
        return 0

    @classmethod
    def build(cls, n_inputs: int, n_outputs: int) -> TorchGenerated:
        return cls(n_inputs, n_outputs)

    def multiply(self, x: Ternary) -> Work:
        import torch

        n_outputs, n_inputs = self.shape
        batch = torch.from_numpy(x).to(torch.float32)
        result = torch.empty(len(x), n_outputs)
        step = max(1, BLOCK_ENTRIES // n_inputs)
        block = torch.empty(min(step, n_outputs), n_inputs)
        generator = torch.Generator()

        def run() -> Any:
            generator.manual_seed(0)
            for start in range(0, n_outputs, step):
                rows = block[: n_outputs - start]
                rows.normal_(generator=generator)
                result[:, start : start + step] = batch @ rows.t()
            return result

        return run

    def matrix(self) -> NDArray[np.float64]:
        identity: Ternary = np.eye(self.shape[1], dtype=np.int8)
        drawn: NDArray[np.float64] = np.asarray(self.multiply(identity)(), dtype=np.float64).T
        return drawn
