"""The random matrix whose rows the blocks share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .._check import Ensemble
from ..projector import Projector


@dataclass(frozen=True)
class Matrix:
    """The parameters of the matrix, for errors of any length, and the threads that multiply by it."""

    seed: int
    ensemble: Ensemble
    n_anchor: int
    threads: int | None

    def operator(self, n_inputs: int, n_rows: int, dtype: Any) -> Projector:
        """Return the operator with the rows of all blocks, for errors of n_inputs elements."""
        return Projector(
            n_inputs,
            n_rows,
            seed=self.seed,
            mode="linear",
            ensemble=self.ensemble,
            n_anchor=self.n_anchor,
            dtype=dtype,
            threads=self.threads,
        )
