"""Gaussian rows that PyTorch draws while it multiplies: the usual first attempt if the matrix does not fit."""

from __future__ import annotations

from typing import Any

from benches.inputs import Ternary
from benches.peers.generated import BLOCK_ENTRIES, GeneratedPeer
from benches.timing import Work


class TorchGenerated(GeneratedPeer):
    """A block of rows from a seeded generator, multiplied and overwritten by the next; every product draws all again.

    The generator is PyTorch's on the CPU, which draws on one thread; the products use all.
    """

    name = "torch float32, generated"
    needs = ("torch",)

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
