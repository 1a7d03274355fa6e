"""Ternary inputs of the benchmarks, the same in every run."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ternary = NDArray[np.int8]


def dense(batch: int, n_inputs: int) -> Ternary:
    """Return vectors of −1 and 1, which need every column of T."""
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 2, size=(batch, n_inputs), dtype=np.int8)
    return 2 * bits - 1


def sparse(batch: int, n_inputs: int, density: float) -> Ternary:
    """Return rows with the same number of nonzeros, at random places with random signs."""
    rng = np.random.default_rng(2)
    nonzeros = max(1, round(density * n_inputs))
    x = np.zeros((batch, n_inputs), dtype=np.int8)
    for row in x:
        row[rng.choice(n_inputs, nonzeros, replace=False)] = rng.choice(np.array([-1, 1], dtype=np.int8), nonzeros)
    return x


def token_errors(batch: int, vocabulary: int) -> Ternary:
    """Return ternary errors of tokens: +1 at the right token, −1 at two others, as of one-hot minus softmax."""
    rng = np.random.default_rng(3)
    x = np.zeros((batch, vocabulary), dtype=np.int8)
    for row in x:
        right, *wrong = rng.choice(vocabulary, 3, replace=False)
        row[right] = 1
        row[wrong] = -1
    return x
