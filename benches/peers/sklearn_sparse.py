"""scikit-learn's SparseRandomProjection, of the density that its authors recommend."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benches.inputs import Ternary
from benches.peers.base import Peer
from benches.timing import Work


class SklearnSparse(Peer):
    """`transform` by a sparse matrix of −s, 0 and s, of which one in √n_inputs is not 0 (Li, Hastie and Church, 2006).

    Its entries are far from Gaussian, so it preserves distances but not finer statistics. SciPy multiplies on one
    thread. The checks of x and the allocation of the result are counted.
    """

    name = "scikit-learn sparse, float32"
    needs = ("sklearn", "scipy")

    def __init__(self, fitted: Any):
        self.fitted = fitted

    @classmethod
    def stored_bytes(cls, n_inputs: int, n_outputs: int) -> int:
        """The expected value: a float32 and a 32-bit index per nonzero."""
        return round(8 * n_inputs * n_outputs / math.sqrt(n_inputs)) + 4 * (n_outputs + 1)

    @classmethod
    def build(cls, n_inputs: int, n_outputs: int) -> SklearnSparse:
        from sklearn.random_projection import SparseRandomProjection

        projection = SparseRandomProjection(n_outputs, random_state=0, dense_output=True)
        return cls(projection.fit(np.zeros((1, n_inputs), dtype=np.float32)))

    def multiply(self, x: Ternary) -> Work:
        batch = x.astype(np.float32)
        return lambda: self.fitted.transform(batch)

    def matrix(self) -> NDArray[np.float64]:
        matrix: NDArray[np.float64] = self.fitted.components_.toarray().astype(np.float64)
        return matrix
