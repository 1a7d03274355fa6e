"""A rewrite of lightonml's simulated OPU, because the package can no longer be installed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benches.inputs import Ternary
from benches.peers.base import Peer
from benches.timing import Work


class LightonmlSimulated(Peer):
    """|xM|² for a stored complex64 M of shape (n_inputs, n_outputs), entries from the Mersenne Twister of a seed.

    As in lightonml 1.4.3, real and imaginary parts are drawn in float64 with a variance of 1/n_inputs and made float32;
    x is a matrix of integers. Every product converts it to complex numbers and allocates the result. The simulated
    device accepts bits only; the −1 in x here costs no additional time.
    """

    name = "lightonml's simulated OPU"
    modes = ("intensity",)

    def __init__(self, transmission: NDArray[np.complex64]):
        self.transmission = transmission

    @classmethod
    def stored_bytes(cls, n_inputs: int, n_outputs: int) -> int:
        return 8 * n_inputs * n_outputs

    @classmethod
    def build(cls, n_inputs: int, n_outputs: int) -> LightonmlSimulated:
        """Draw the two parts one after the other."""
        twister = np.random.RandomState(0)
        parts = [
            twister.normal(scale=n_inputs**-0.5, size=(n_inputs, n_outputs)).astype(np.float32) for _ in ("re", "im")
        ]
        return cls(parts[0] + 1j * parts[1])

    def multiply(self, x: Ternary) -> Work:
        def run() -> NDArray[np.float32]:
            intensity: NDArray[np.float32] = np.abs(np.dot(x, self.transmission)) ** 2
            return intensity

        return run

    def matrix(self) -> NDArray[np.complex128]:
        """M transposed; the result is the square of the product's magnitude."""
        matrix: NDArray[np.complex128] = self.transmission.T.astype(np.complex128)
        return matrix
