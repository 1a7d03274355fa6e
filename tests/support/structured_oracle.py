"""The structured matrix in plain NumPy, written from its definition alone: float32, its stages in their order."""

from __future__ import annotations

import numpy as np
import oracle
from numpy.typing import NDArray

STREAM = 1
SMALLEST = 256


def length(n_inputs: int) -> int:
    """The power of two that vectors are padded to."""
    n = SMALLEST
    while n < n_inputs:
        n *= 2
    return n


def signs(seed: int, diagonal: int, n: int) -> NDArray[np.float32]:
    """A diagonal: element j is -1 where bit j % 128 of the block of counter (j // 128, diagonal) is set."""
    counter = np.empty((n // 128, 2), np.uint64)
    counter[:, 0], counter[:, 1] = np.arange(n // 128), diagonal
    bits = np.unpackbits(oracle.ars4x32(counter, (seed, STREAM)), axis=1, bitorder="little")
    return np.where(bits.reshape(-1), -1, 1).astype(np.float32)


def transform(v: NDArray[np.float32], up: bool) -> NDArray[np.float32]:
    """The unnormalised Walsh-Hadamard transform along the last axis: strides 1, 2, 4, ... (up) or n/2, n/4, ..., 1."""
    n = v.shape[-1]
    strides = [1 << k for k in range(n.bit_length() - 1)]
    for stride in strides if up else reversed(strides):
        pairs = v.reshape(*v.shape[:-1], n // (2 * stride), 2, stride)
        a, b = pairs[..., 0, :], pairs[..., 1, :]
        v = np.stack([a + b, a - b], axis=-2).reshape(v.shape)
    assert v.dtype == np.float32
    return v


def scaled(x: NDArray) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Vectors in float32, times the powers of two that are returned: the largest magnitude of each is 1 to 2."""
    largest = np.abs(x).max(axis=-1, keepdims=True, initial=0)
    exponent = np.where(largest == 0, 0, np.clip(np.frexp(largest)[1] - 1, -960, 1000))
    y = np.ldexp(x.astype(np.float64), -exponent).astype(np.float32)
    y[np.abs(y) < np.float32(2.0**-100)] = 0
    return y, np.ldexp(1.0, exponent)


def transforms(seed: int, x: NDArray, rows: range) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
    """S x over the scales that are returned, real part and imaginary part, for x of shape (..., n_inputs)."""
    x, scale = scaled(np.asarray(x, dtype=np.float64))
    n = length(x.shape[-1])
    padded = np.zeros((*x.shape[:-1], n), np.float32)
    padded[..., : x.shape[-1]] = x
    u = transform(padded * signs(seed, 0, n), up=True)
    blocks = []
    for block in range(rows.start // n, -(-rows.stop // n)):
        parts = []
        for part in (0, 1):
            second, third = (signs(seed, 1 + 4 * block + 2 * part + k, n) for k in (0, 1))
            parts.append(transform(transform(u * second, up=False) * third, up=True).astype(np.float64))
        blocks.append(parts[0] + 1j * parts[1])
    first = rows.start // n * n
    return np.concatenate(blocks, axis=-1)[..., rows.start - first : rows.stop - first], scale / n


def project(seed: int, x: NDArray, rows: range, mode: str, n_anchor: int = 64) -> NDArray:
    """What opuproj.project computes with ensemble="structured", in double precision after the transforms."""
    if mode == "real":  # rows 2k and 2k + 1 are the two parts of row k
        v, scale = transforms(seed, x, range(rows.start // 2, -(-rows.stop // 2)))
        both = np.stack([v.real * scale + 0, v.imag * scale + 0], axis=-1).reshape(*v.shape[:-1], -1)
        return both[..., rows.start % 2 :][..., : len(rows)]
    v, scale = transforms(seed, x, rows)
    if mode == "intensity":
        return (v.real * v.real + v.imag * v.imag) * scale * (scale / 2)
    s_re, s_im = v.real * scale, v.imag * scale
    if mode == "complex":
        result = np.empty(v.shape, np.complex128)
        result.real, result.imag = s_re * np.sqrt(0.5) + 0, s_im * np.sqrt(0.5) + 0
        return result
    re, im = (part.astype(np.float64) for part in oracle.anchor_field(seed, n_anchor, rows))
    re = np.where((re == 0) & (im == 0), 1.0, re)
    modulus = np.sqrt(re * re + im * im)
    cos, sin = (part.astype(np.float32).astype(np.float64) for part in (re / modulus, im / modulus))
    return s_re * cos + s_im * sin + 0
