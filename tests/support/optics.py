"""The whole optical chain in plain NumPy: field, intensities, detector, recovery. Independent of the core."""

from __future__ import annotations

import math

import numpy as np
import oracle
from numpy.typing import NDArray
from opuproj import Camera

UNIT = 2048.0


def anchor_fields(seed: int, n_anchor: int, n_anchors: int, rows: range) -> NDArray[np.complex128]:
    """√2048 times the fields of anchors that light the last columns one after the other, (n_anchors, len(rows))."""
    re, im = oracle.entries(
        seed, rows, np.array([oracle.MASK - k for k in range(n_anchors * n_anchor)], dtype=np.uint64)
    )
    field: NDArray[np.complex128] = (re + 1j * im).reshape(len(rows), n_anchors, n_anchor).sum(axis=2).T
    return field


def detect(
    intensity: NDArray[np.float64], camera: Camera, mean: NDArray[np.float64], random: np.random.Generator | None
) -> NDArray[np.float64]:
    """What a camera reads, with NumPy's random numbers, or none where it makes no noise."""
    readings = []
    for _ in range(camera.frames):
        value = intensity * (1 / mean)
        if random is not None and math.isfinite(camera.photons):
            value = random.poisson(value * camera.photons) / camera.photons
        if random is not None and camera.read_noise:
            value = value + random.normal(0, camera.read_noise, value.shape)
        value = np.clip(value, 0, camera.full_scale)
        unit = mean
        if camera.bits is not None:
            levels = 2**camera.bits - 1
            value = np.rint(value * (levels / camera.full_scale))
            unit = mean * camera.full_scale / levels
        readings.append(value)
    return np.mean(readings, axis=0) * unit


def see(
    seed: int,
    x: NDArray[np.int8],
    rows: range,
    mode: str,
    camera: Camera,
    n_anchor: int,
    random: np.random.Generator | None = None,
) -> NDArray[np.float64] | NDArray[np.complex128]:
    """What opuproj.project returns for x of shape (n, n_inputs) in front of a camera, in double precision."""
    lit = [np.count_nonzero(x == sign, axis=1)[:, None] for sign in (1, -1)]
    p, q = (np.asarray(parts[0] + 1j * parts[1]) for parts in (oracle.field(seed, x == sign, rows) for sign in (1, -1)))

    def read(field: NDArray[np.complex128], brightest: NDArray[np.int64]) -> NDArray[np.float64]:
        mean = np.full(brightest.shape, camera.exposure) if camera.exposure else brightest.astype(np.float64)
        return detect((field.real**2 + field.imag**2) / UNIT, camera, mean, random)

    if mode == "intensity":
        return read(p - q, lit[0] + lit[1])
    brightest = np.maximum(*lit) + n_anchor
    plain_p, plain_q = read(p, brightest), read(q, brightest)
    anchors = anchor_fields(seed, n_anchor, 1 if mode == "linear" else camera.anchors, rows)
    products = np.array([(read(p + r, brightest) - plain_p - (read(q + r, brightest) - plain_q)) / 2 for r in anchors])
    power = np.abs(anchors) ** 2 / UNIT
    if mode == "linear":
        lit_pixels = (power[0] > 0) & (power[0] >= camera.dark_floor * n_anchor)
        safe = np.where(lit_pixels, power[0], 1.0)
        return np.where(lit_pixels, products[0] * np.sqrt(2 / safe), 0.0)
    result = np.zeros(p.shape, np.complex128)
    for i in range(len(rows)):
        matrix = np.stack([anchors[:, i].real, anchors[:, i].imag], axis=1) / math.sqrt(UNIT)
        if np.linalg.eigvalsh(matrix.T @ matrix)[0] < camera.dark_floor * n_anchor * camera.anchors / 2:
            continue
        solution = np.linalg.lstsq(matrix, products[:, :, i], rcond=None)[0]
        result[:, i] = solution[0] + 1j * solution[1]
    return result
