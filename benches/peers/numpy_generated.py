"""Gaussian rows that NumPy draws while it multiplies them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benches.inputs import Ternary
from benches.peers.generated import BLOCK_ENTRIES, GeneratedPeer
from benches.timing import Work


class NumpyGenerated(GeneratedPeer):
    """A block of float32 rows from a seeded SFC64, NumPy's fastest, multiplied and overwritten by the next.

    NumPy draws on one thread; the products use as many as its BLAS does.
    """

    name = "NumPy float32, generated"

    def multiply(self, x: Ternary) -> Work:
        n_outputs = self.shape[0]
        batch = x.astype(np.float32)
        result = np.empty((len(x), n_outputs), dtype=np.float32)

        def run() -> NDArray[np.float32]:
            for start, rows in self._blocks():
                result[:, start : start + len(rows)] = batch @ rows.T
            return result

        return run

    def matrix(self) -> NDArray[np.float64]:
        return np.concatenate([rows.astype(np.float64) for _, rows in self._blocks()])

    def _blocks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield all rows, one block at a time in the same memory, with the number of its first row."""
        n_outputs, n_inputs = self.shape
        rng = np.random.Generator(np.random.SFC64(0))
        step = max(1, BLOCK_ENTRIES // n_inputs)
        block = np.empty((min(step, n_outputs), n_inputs), dtype=np.float32)
        for start in range(0, n_outputs, step):
            rows = block[: n_outputs - start]
            rng.standard_normal(out=rows, dtype=np.float32)
            yield start, rows
