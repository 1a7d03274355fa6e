"""The base class of peers without a stored matrix: every product generates the matrix again."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from benches.inputs import Ternary
from benches.peers.base import Peer

P = TypeVar("P", bound="GeneratedPeer")

# The entries drawn at a time: 4 MiB of float32, which stay in the second- or third-level cache until they are
# multiplied.
BLOCK_ENTRIES = 1 << 20


class GeneratedPeer(Peer):
    """A matrix of which only the shape is stored between products."""

    def __init__(self, n_inputs: int, n_outputs: int):
        self.shape = n_outputs, n_inputs

    @classmethod
    def stored_bytes(cls, n_inputs: int, n_outputs: int) -> int:
        return 0

    @classmethod
    def build(cls: type[P], n_inputs: int, n_outputs: int) -> P:
        return cls(n_inputs, n_outputs)

    def first(self, n_inputs: int, n_outputs: int) -> Peer:
        return self.build(n_inputs, n_outputs)

    def matrix(self) -> NDArray[np.float64]:
        """The products of unit vectors."""
        identity: Ternary = np.eye(self.shape[1], dtype=np.int8)
        product: Any = self.multiply(identity)()
        on_host = product if isinstance(product, np.ndarray) else product.cpu()
        entries: NDArray[np.float64] = np.asarray(on_host, dtype=np.float64).T
        return entries
