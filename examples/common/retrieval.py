"""Phase retrieval: a real image from the intensities |Tx|² alone, and the theoretical error of shot noise.

The amplitude flow of Wang, Giannakis and Eldar (IEEE Trans. Inf. Theory 64, 2018) minimizes Σᵢ (|tᵢ·x| − aᵢ)² for
measured amplitudes a by gradient steps: one projection and one adjoint each. It starts near the minimum, with the
leading eigenvector of Re(Tᴴ diag(a²) T) without its largest a² (Chen and Candès, Comm. Pure Appl. Math. 70, 2017).

Near the minimum this is least squares with the rows Re(conj(p)·t), where p is the phase of t·x. These have variance 1/2
orthogonal to x and mean square 1 along x. With noise of variance s² on each amplitude, the estimate's variance is s²
times the trace of the inverse of m such rows' Gram matrix, whose mean is (2(n − 1) + 1)/(m − n − 1) for Gaussian rows.
A pixel that counts photons, N at the mean intensity ‖x‖², has s = ‖x‖/(2√N) if it counts some of them. Hence

    relative error² = (2n − 1) / (4 N (m − n − 1)).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import opuproj
from numpy.typing import NDArray

Array = NDArray[np.float64]

DIGITS = 20
TRUNCATION = 9.0  # intensities above this multiple of their mean say little about the direction of x
STEP = 1.2


def photograph(side: int) -> Array:
    """Return the photograph of a temple that scientific Python carries, grey, of shape (side, side), from 0 to 1."""
    from sklearn.datasets import load_sample_image

    grey = load_sample_image("china.jpg")[:416, 112:528].mean(axis=2) / 255
    block = len(grey) // side
    cut = grey[: side * block, : side * block]
    small: Array = cut.reshape(side, block, side, block).mean(axis=(1, 3))
    return small


def operator(n: int, m: int, seed: int, device: str = "cpu") -> opuproj.Projector:
    """Return the medium that takes n pixels to m: in double precision, for the error to fall to where digits end."""
    return opuproj.Projector(n, m, seed=seed, mode="complex", dtype=np.complex128, device=device)


def spectral_start(op: opuproj.Projector, amplitudes: Array, iterations: int) -> Array:
    """Return vectors (..., n) near ±x for amplitudes (..., m), by the power method."""
    intensities = amplitudes**2
    mean = intensities.mean(axis=-1, keepdims=True)
    weights = np.where(intensities < TRUNCATION * mean, intensities / mean, 0)
    z = np.random.default_rng(0).standard_normal((*amplitudes.shape[:-1], op.n_inputs))
    for _ in range(iterations):
        z = op.H(weights * op(z, digits=DIGITS)).real
        z /= np.linalg.norm(z, axis=-1, keepdims=True)
    start: Array = z * np.sqrt(mean)
    return start


def amplitude_flow(op: opuproj.Projector, amplitudes: Array, start: Array, iterations: int) -> Iterator[Array]:
    """Yield the result of each step from the start."""
    z = start
    for _ in range(iterations):
        field = op(z, digits=DIGITS)
        modulus = np.abs(field)
        residual = field * (1 - amplitudes / np.where(modulus > 0, modulus, np.inf))
        z = z - STEP / op.n_outputs * op.H(residual).real
        yield z


def recovered(op: opuproj.Projector, amplitudes: Array, power_steps: int, steps: int) -> Array:
    """Return ±x (..., n) from amplitudes (..., m)."""
    *_, last = amplitude_flow(op, amplitudes, spectral_start(op, amplitudes, power_steps), steps)
    return last


def relative_error(z: Array, x: Array) -> Array:
    """Return ‖z ∓ x‖/‖x‖ of each vector, for the better of both signs, because intensities do not determine it."""
    away: Array = np.minimum(np.linalg.norm(z - x, axis=-1), np.linalg.norm(z + x, axis=-1)) / np.linalg.norm(x)
    return away


def counted(intensities: Array, photons: float, random: np.random.Generator) -> Array:
    """Return amplitudes from counts of photons, so many at the mean intensity, without the bias of a root."""
    unit = photons / intensities.mean()
    amplitudes: Array = np.sqrt((random.poisson(unit * intensities) + 0.25) / unit)
    return amplitudes


def shot_noise_error(n: int, m: int, photons: float) -> float:
    """Return the theoretical relative error of shot noise."""
    return math.sqrt((2 * n - 1) / (4 * photons * (m - n - 1)))
