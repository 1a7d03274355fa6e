"""scikit-learn's GaussianRandomProjection."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benches.inputs import Ternary
from benches.peers.base import Peer
from benches.timing import Work


class SklearnGaussian(Peer):
    """`transform` of a dense float32 matrix of Gaussians of variance 1/n_outputs.

    scikit-learn allocates every result and checks x in every call. Both are counted.
    """

    name = "scikit-learn Gaussian, float32"
    needs = ("sklearn",)

    def __init__(self, fitted: Any):
        self.fitted = fitted

    @classmethod
    def stored_bytes(cls, n_inputs: int, n_outputs: int) -> int:
        return 4 * n_inputs * n_outputs

    @classmethod
    def build(cls, n_inputs: int, n_outputs: int) -> SklearnGaussian:
        from sklearn.random_projection import GaussianRandomProjection

        # The matrix has the dtype of the fitted data, of which only the shape matters otherwise.
        return cls(GaussianRandomProjection(n_outputs, random_state=0).fit(np.zeros((1, n_inputs), dtype=np.float32)))

    def multiply(self, x: Ternary) -> Work:
        batch = x.astype(np.float32)
        return lambda: self.fitted.transform(batch)

    def matrix(self) -> NDArray[np.float64]:
        matrix: NDArray[np.float64] = self.fitted.components_.astype(np.float64)
        return matrix
