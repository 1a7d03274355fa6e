"""How near samples are to real images: a Fréchet distance of their principal components."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

COMPONENTS = 16
# Training images that define the principal components.
BASIS_IMAGES = 5000


def frechet(some: NDArray[Any], others: NDArray[Any], basis: NDArray[Any]) -> float:
    """Return the Fréchet distance of two sets of images, each taken as a Gaussian distribution.

    The distance is |μ₁ − μ₂|² + tr(C₁ + C₂ − 2 (C₁C₂)^½), as of the usual Fréchet inception distance. The features are
    not those of a trained network but the first 16 principal components of the pixels of `basis`. So it compares shapes
    and their variety, and does not see fine detail.

    Parameters
    ----------
    some, others
        Images, of shape (rows, 28, 28).
    basis
        Images that define the principal components, of the same shape.
    """
    rows = basis[:BASIS_IMAGES].reshape(-1, basis[0].size).astype(np.float64)
    _, vectors = np.linalg.eigh(np.cov(rows.T))
    found = [images.reshape(len(images), -1) @ vectors[:, -COMPONENTS:] for images in (some, others)]
    means = [features.mean(0) for features in found]
    first, second = (np.cov(features.T) for features in found)
    # The eigenvalues of C₁C₂ are those of a positive matrix, up to rounding.
    root = np.sqrt(np.linalg.eigvals(first @ second).real.clip(0)).sum()
    return float(((means[0] - means[1]) ** 2).sum() + np.trace(first) + np.trace(second) - 2 * root)
