"""A random graph, and the theoretical errors of randomized linear algebra on its adjacency matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def geometric_graph(n: int, degree: float, *, seed: int) -> Array:
    """Return the adjacency matrix, of shape (n, n), of points in the unit square with edges between near ones.

    Such graphs have many triangles and singular values that decay, as social and road networks do.

    Parameters
    ----------
    n
        The number of vertices.
    degree
        The mean number of neighbours of a vertex far from the border.
    seed
        Seed of the points.
    """
    points = np.random.default_rng(seed).random((n, 2))
    squares = ((points[:, None] - points[None]) ** 2).sum(-1)
    adjacency: Array = (squares < degree / (np.pi * n)).astype(np.float64)
    np.fill_diagonal(adjacency, 0)
    return adjacency


def hutchinson_deviation(matrix: NDArray[Any]) -> float:
    """Return the standard deviation of rᵀBr for a symmetric B: √2 ‖B‖ (Frobenius), for r of Gaussian kurtosis.

    Its mean is trace(B). The mean of m such estimates deviates by √m times less (Hutchinson, 1990).
    """
    return float(np.sqrt(2) * np.linalg.norm(matrix))


def rangefinder_bound(singular_values: NDArray[Any], size: int) -> float:
    """Return a bound on the mean of ‖A − QQᵀA‖ (Frobenius), for Q from `size` Gaussian projections of A.

    √(1 + k/(p − 1)) (Σ_{j>k} σⱼ²)^½ for each k + p = size with p ≥ 2; the minimum over k (Halko, Martinsson, Tropp,
    2011, Theorem 10.5).

    Parameters
    ----------
    singular_values
        The singular values of A, descending.
    size
        The number of projections, at least 2.
    """
    tails = np.sqrt(np.append(np.cumsum((np.asarray(singular_values) ** 2)[::-1])[::-1], 0.0))
    k = np.arange(min(size - 1, len(tails)))
    return float((np.sqrt(1 + k / (size - k - 1)) * tails[k]).min())
