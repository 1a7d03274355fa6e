"""The transmission matrix in plain NumPy, written from its definition alone: slow, short and independent of the core.

T[i, j] = (g(re) + 1j * g(im)) / sqrt(2048), where re and im are two bytes of the ARS4x32-7 block whose counter is
(i // 8, j) and whose key is (seed, 0). G[i, j] = g(byte) / 32, where byte is number i % 16 of the block whose counter
is (i // 16, j). Everything here is exact integer arithmetic; the scale is left to the caller.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# 128 equally likely magnitudes of a Gaussian with standard deviation 32: mean square exactly 1024.
# fmt: off
MAGNITUDES = np.array([
    0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6, 6, 7, 7, 7,
    8, 8, 8, 9, 9, 9, 10, 10, 10, 11, 11, 11, 12, 12, 12, 13, 13, 13, 14, 14, 14, 15, 15, 15,
    16, 16, 17, 17, 17, 18, 18, 18, 19, 19, 19, 20, 20, 21, 21, 21, 22, 22, 23, 23, 23, 24, 24, 25,
    25, 25, 26, 26, 27, 27, 28, 28, 29, 29, 30, 30, 31, 31, 32, 32, 33, 33, 34, 34, 35, 35, 36, 37,
    37, 38, 39, 39, 40, 40, 41, 42, 43, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 52, 54, 56, 57, 59,
    61, 63, 65, 67, 71, 71, 76, 100,
], dtype=np.int64)
# fmt: on
GAUSSIAN = np.concatenate([MAGNITUDES, -MAGNITUDES])  # indexed by a byte: bit 7 is the sign
SCALE = np.sqrt(2048.0)
WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
MASK = 2**64 - 1


def _aes_tables() -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """AES's S-box, and its round table (SubBytes, then MixColumns of one byte), from their definition in GF(2^8)."""
    power, log, value = [0] * 255, [0] * 256, 1
    for exponent in range(255):
        power[exponent], log[value] = value, exponent
        value ^= (value << 1) ^ (0x11B if value & 0x80 else 0)  # times 3, a generator of the field
    sbox = np.zeros(256, np.uint32)
    for byte in range(256):
        inverse = power[-log[byte] % 255] if byte else 0
        rotations = [((inverse << k) | (inverse >> (8 - k))) & 255 for k in range(5)]
        sbox[byte] = rotations[0] ^ rotations[1] ^ rotations[2] ^ rotations[3] ^ rotations[4] ^ 0x63
    double = ((sbox << np.uint32(1)) ^ np.where(sbox & 0x80, 0x11B, 0)).astype(np.uint32) & np.uint32(255)
    column = double | sbox << np.uint32(8) | sbox << np.uint32(16) | (double ^ sbox) << np.uint32(24)
    return sbox, column.astype(np.uint32)


SBOX, ROUND = _aes_tables()
ROTATED = [(ROUND << np.uint32(8 * k) | ROUND >> np.uint32((32 - 8 * k) % 32)).astype(np.uint32) for k in range(4)]


def ars4x32(counter: NDArray[np.uint64], key: tuple[int, int], n_rounds: int = 7) -> NDArray[np.uint8]:
    """Random123's ARS4x32 of counters (n, 2) of 64-bit words, low word first, as bytes (n, 16)."""
    state = np.ascontiguousarray(counter, dtype="<u8").view("<u4").astype(np.uint32)
    for r in range(n_rounds + 1):
        words = [(key[i] + r * WEYL[i]) & MASK for i in (0, 1)]
        round_key = np.array(words, dtype="<u8").view("<u4").astype(np.uint32)
        if r > 0:
            byte = [[state[:, (i + k) % 4] >> np.uint32(8 * k) & np.uint32(255) for k in range(4)] for i in range(4)]
            if r < n_rounds:
                columns = [ROTATED[0][b[0]] ^ ROTATED[1][b[1]] ^ ROTATED[2][b[2]] ^ ROTATED[3][b[3]] for b in byte]
            else:  # the last round of AES mixes no columns
                shifted = [[SBOX[b[k]] << np.uint32(8 * k) for k in range(4)] for b in byte]
                columns = [s[0] | s[1] | s[2] | s[3] for s in shifted]
            state = np.stack(columns, axis=1)
        state = state ^ round_key
    return np.ascontiguousarray(state, dtype="<u4").view(np.uint8)


def components(seed: int, block: NDArray, byte: NDArray, columns: range | NDArray) -> NDArray[np.int64]:
    """g of one byte of each of these row blocks, at these columns: (len(block), len(columns))."""
    column = np.array(list(columns), dtype=np.uint64)
    once, where = np.unique(block, return_inverse=True)
    counter = np.empty((len(once), len(column), 2), np.uint64)
    counter[..., 0], counter[..., 1] = once[:, None], column
    random = ars4x32(counter.reshape(-1, 2), (seed, 0)).reshape(len(once), len(column), 16)
    return GAUSSIAN[random[where.reshape(-1), :, byte.astype(np.intp)]]


def entries(seed: int, rows: range | NDArray, columns: range | NDArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """sqrt(2048) * T at these rows and columns: integer real and imaginary parts, each (len(rows), len(columns))."""
    row = np.array(list(rows), dtype=np.uint64)
    block, byte = np.tile(row // np.uint64(8), 2), row % np.uint64(8) * np.uint64(2)
    both = components(seed, block, np.concatenate([byte, byte + np.uint64(1)]), columns)
    return both[: len(row)], both[len(row) :]


def real_entries(seed: int, rows: range | NDArray, columns: range | NDArray) -> NDArray[np.int64]:
    """32 * G at these rows and columns: integers, (len(rows), len(columns))."""
    row = np.array(list(rows), dtype=np.uint64)
    return components(seed, row // np.uint64(16), row % np.uint64(16), columns)


def field(seed: int, x: NDArray, rows: range) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """sqrt(2048) * T x for x of shape (..., n): exact integers, each (..., len(rows))."""
    x = np.asarray(x, dtype=np.int64)
    active = np.flatnonzero(x.reshape(-1, x.shape[-1]).any(axis=0))
    re, im = entries(seed, rows, active)
    return x[..., active] @ re.T, x[..., active] @ im.T


def real_field(seed: int, x: NDArray, rows: range) -> NDArray[np.int64]:
    """32 * G x for x of shape (..., n): exact integers of shape (..., len(rows))."""
    x = np.asarray(x, dtype=np.int64)
    active = np.flatnonzero(x.reshape(-1, x.shape[-1]).any(axis=0))
    return x[..., active] @ real_entries(seed, rows, active).T


def anchor_field(seed: int, n_anchor: int, rows: range) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """sqrt(2048) * r, the field of an anchor that lights the last `n_anchor` of 2**64 columns."""
    columns = np.array([MASK - k for k in range(n_anchor)], dtype=np.uint64)
    re, im = entries(seed, rows, columns)
    return re.sum(axis=1), im.sum(axis=1)


def project(seed: int, x: NDArray, rows: range, mode: str, n_anchor: int = 64) -> NDArray:
    """What opuproj.project computes, in double precision."""
    if mode == "real":
        return real_field(seed, x, rows) / 32.0
    re, im = field(seed, x, rows)
    if mode == "complex":
        return (re + 1j * im) / SCALE
    if mode == "intensity":
        return (re * re + im * im) / 2048.0
    anchor_re, anchor_im = anchor_field(seed, n_anchor, rows)
    modulus = np.hypot(anchor_re.astype(float), anchor_im.astype(float))
    dark = modulus == 0  # conj(r) / |r| is taken as 1 there
    real = np.where(dark, re, (anchor_re * re + anchor_im * im) / np.where(dark, 1, modulus))
    return np.sqrt(2.0) * real / SCALE
