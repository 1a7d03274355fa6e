"""The kernel of |Tx|², and the distance of a finite number of features from it.

E[|(Tx)_i|² |(Ty)_i|²] = ‖x‖²‖y‖² + (x·y)² for every T of independent entries with E[T] = E[T²] = 0, E[|T|²] = 1 and a
Gaussian's fourth moment. All quantities are divided by ‖x‖²‖y‖², so the kernel is 1 + ρ with ρ = (x·y)²/(‖x‖²‖y‖²).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import opuproj
from numpy.typing import NDArray

Array = NDArray[np.float64]
_ROWS = 1024


def cosine_squares(x: NDArray[Any], y: NDArray[Any]) -> Array:
    """Return (x·y)²/(‖x‖²‖y‖²) for every pair, of shape (n, m).

    Parameters
    ----------
    x, y
        Ternary vectors, of shapes (n, n_inputs) and (m, n_inputs), none of them all 0.
    """
    # Exact in float32: integers far below 2²⁴.
    products = (x.astype(np.float32) @ y.astype(np.float32).T).astype(np.float64)
    squares: Array = products**2 / np.outer(_norms(x), _norms(y))
    return squares


def gram_variance(cosine_square: Array) -> Array:
    r"""Return the variance of \|a\|²\|b\|² for complex Gaussians a and b of variance 1 and this squared correlation.

    E[\|a\|⁴\|b\|⁴] = 4 (1 + 4ρ + ρ²), so the variance is 3 + 14ρ + 3ρ². The Gram matrix of D features, each divided by
    ‖x‖², has independent terms: its entries have this variance divided by D.
    """
    variance: Array = 3 + 14 * cosine_square + 3 * cosine_square**2
    return variance


def grams(
    x: NDArray[Any],
    n_train: int,
    counts: list[int],
    *,
    seed: int,
    device: str = "cpu",
    progress: Callable[[int], object] = lambda _: None,
) -> Iterator[tuple[int, Array, Array]]:
    r"""Yield Gram matrices of the first D features \|Tx\|²/‖x‖², averaged over the features, for every D in `counts`.

    The features are computed a thousand at a time from their own rows of T and added to the sum, so that they need
    little memory.

    Parameters
    ----------
    x
        Binary vectors, of shape (n, n_inputs).
    n_train
        The number of training vectors, which come first.
    counts
        Numbers of features, ascending.
    seed
        Seed of T.
    device
        The device that projects.
    progress
        Called with the number of features done.

    Yields
    ------
    tuple
        For every D, in turn: D and the matrices of shapes (n_train, n_train) and (n − n_train, n_train).
    """
    operator = opuproj.Projector(x.shape[1], counts[-1], seed=seed, mode="intensity", device=device)
    scale = _norms(x).astype(np.float32)[:, None]
    batch = opuproj.pack(x)
    total = np.zeros((len(x), n_train))
    done = 0
    for count in counts:
        while done < count:
            stop = min(done + _ROWS, count)
            features = operator[done:stop](batch) / scale
            total += features @ features[:n_train].T
            progress(stop - done)
            done = stop
        yield count, total[:n_train] / count, total[n_train:] / count


def _norms(x: NDArray[Any]) -> Array:
    """Return ‖x‖² of ternary vectors, the number of nonzeros."""
    norms: Array = np.count_nonzero(x, axis=1).astype(np.float64)
    return norms
