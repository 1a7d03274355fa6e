"""Panels of T and fields by the CUDA kernels, run on the CPU, against the definition in plain NumPy."""

from __future__ import annotations

from typing import Any

import gpu_standin
import numpy as np
import oracle
import pytest
from helpers import ternary

NULL = np.uint64(0)
STRIDE = np.uint32(128)
# Seeds, first row blocks and first columns: ordinary ones, and ones whose counters carry from one word to the next.
PLACES = [(0, 0, 0), (7, 250, 2**32 - 64), (2**64 - 1, 2**32 - 3, 2**40), (2**63 + 5, 2**57 - 9, 2**62)]


def launch(kernel: str, *arguments: Any, file: str = "projection.cu", grid: int = 2, threads: int = 64) -> None:
    gpu_standin.launch(file, kernel, grid, threads, *arguments)


def components(seed: int, first_block: int, n_blocks: int, columns: np.ndarray) -> np.ndarray:
    """All components of some row blocks, (16 n_blocks, n_columns)."""
    rows = np.arange(16 * first_block, 16 * (first_block + n_blocks), dtype=np.uint64)
    return oracle.real_entries(seed, rows, columns)


def planes(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """The bit planes of ternary vectors, and the number of 32-bit words of a row."""
    words = 2 * -(-x.shape[1] // 64)
    both = []
    for value in (1, -1):
        bits = np.zeros((len(x), 4 * words), np.uint8)
        packed = np.packbits(x == value, axis=1, bitorder="little")
        bits[:, : packed.shape[1]] = packed
        both.append(bits.view(np.uint32))
    return both[0], both[1], words


@pytest.mark.parametrize(("seed", "block", "column"), PLACES)
@pytest.mark.parametrize("count", [None, 1, 130, 256])
def test_panel(seed: int, block: int, column: int, count: int | None) -> None:
    n, blocks, start = 256, 9, 5
    offsets = np.sort(np.random.default_rng(3).choice(100_000, start + n, replace=False)).astype(np.uint32)
    for columns in (offsets, NULL):
        out = np.full((16 * blocks, n), 113, np.int8)
        valid = n if count is None else count
        limit: Any = NULL if count is None else np.array([start + count], np.int32)
        launch(
            "panel", out, np.int64(n), np.uint64(seed), np.uint64(block), np.int32(blocks), np.uint64(column), columns,
            np.int32(start), np.int32(n), limit, NULL, np.int32(0), np.int32(4), STRIDE,
        )  # fmt: skip
        listed = np.arange(start, start + n) if columns is NULL else offsets[start:]
        wanted = np.uint64(column) + listed.astype(np.uint64)
        assert np.array_equal(out[:, :valid], components(seed, block, blocks, wanted[:valid]))
        assert (out[:, -(-valid // 128) * 128 :] == 113).all()


@pytest.mark.parametrize(("seed", "block", "column"), [*PLACES, (5, 3, 253)])
@pytest.mark.parametrize(("blocks", "n"), [(1, 1), (33, 6), (40, 300)])
def test_transposed_panel(seed: int, block: int, column: int, blocks: int, n: int) -> None:
    out = np.full((n + 1, 16 * blocks), 113, np.int8)
    launch(
        "transposed_panel", out, np.int64(16 * blocks), np.uint64(seed), np.uint64(block), np.int32(blocks),
        np.uint64(column), np.int32(n), np.int32(64), STRIDE,
    )  # fmt: skip
    columns = np.uint64(column) + np.arange(n, dtype=np.uint64)
    assert np.array_equal(out[:n], components(seed, block, blocks, columns).T)
    assert (out[n] == 113).all()


@pytest.mark.parametrize(("seed", "block", "column"), PLACES)
@pytest.mark.parametrize(("kernel", "vectors"), [("field_8", 1), ("field_8", 8), ("field_16", 13), ("field_32", 31)])
@pytest.mark.parametrize(("n", "slices"), [(1, 1), (63, 1), (330, 1), (330, 3)])
def test_field(seed: int, block: int, column: int, kernel: str, vectors: int, n: int, slices: int) -> None:
    blocks, x = 5, ternary(vectors, n, seed=n)
    x[:, 32:64] = 0
    positive, negative, words = planes(x)
    matrix = components(seed, block, blocks, np.uint64(column) + np.arange(n, dtype=np.uint64))
    slice_ = -(-32 * words // (16 * slices)) * 16
    for split in (0, 1):
        count = vectors // (1 + split) * (1 + split)
        fields = np.full((count, 16 * blocks), 0 if slices > 1 else 77, np.int32)
        launch(
            kernel, fields, np.int64(16 * blocks), np.uint64(seed), np.uint64(block), np.int32(blocks),
            np.uint64(column), np.int32(32 * words), positive, negative, np.int32(words), np.int32(count),
            np.int32(split), np.int32(slice_), np.int32(slices), NULL, np.int32(0), STRIDE,
        )  # fmt: skip
        parts = np.stack([x == 1, x == -1], axis=1).reshape(-1, n)[:count] if split else x
        assert np.array_equal(fields, parts.astype(np.int64) @ matrix.T)


@pytest.mark.parametrize(("seed", "block", "column"), PLACES)
@pytest.mark.parametrize(("kernel", "vectors"), [("field_bytes_8", 3), ("field_bytes_16", 16), ("field_bytes_32", 20)])
def test_field_of_listed_columns(seed: int, block: int, column: int, kernel: str, vectors: int) -> None:
    blocks, n = 10, 200
    random = np.random.default_rng(n)
    x = np.zeros((vectors, 256), np.int8)
    offsets = np.sort(random.choice(2**31, n, replace=False)).astype(np.uint32)
    for columns, count in ((offsets, n), (offsets, 33), (offsets, 0), (NULL, n)):
        x[:] = 0
        x[:, :count] = random.integers(-121, 122, (vectors, count))
        fields = np.full((vectors, 16 * blocks), 77, np.int32)
        launch(
            kernel, fields, np.int64(16 * blocks), np.uint64(seed), np.uint64(block), np.int32(blocks),
            np.uint64(column), columns, np.int32(n), np.array([count], np.int32), x, np.int64(256),
            np.int32(vectors), np.int32(256), np.int32(1), NULL, np.int32(0), STRIDE,
        )  # fmt: skip
        wanted = np.uint64(column) + (np.arange(n) if columns is NULL else offsets).astype(np.uint64)
        matrix = components(seed, block, blocks, wanted[:count])
        assert np.array_equal(fields, x[:, :count].astype(np.int64) @ matrix.T)


@pytest.mark.parametrize(("seed", "block", "column"), PLACES)
@pytest.mark.parametrize("split", [0, 1])
def test_field_of_lists(seed: int, block: int, column: int, split: int) -> None:
    n, rows, blocks, capacity = 1100, 6, 37, 40
    x = ternary(rows, n, density=0.02)
    x[0], x[1, 1:] = 0, 0
    x[1, 0] = 1
    positive, negative, words = planes(x)
    parts = np.stack([x == 1, x == -1], axis=1).reshape(-1, n).astype(np.int64) if split else x.astype(np.int64)
    counts = np.count_nonzero(parts, axis=1).astype(np.int32)
    assert counts.max() <= capacity
    lists, found = np.full((len(parts), capacity), 2**32 - 1, np.uint32), np.full(len(parts), 77, np.int32)
    launch(
        "lists", lists, found, np.int32(capacity), positive, negative, np.int32(words), np.int32(len(parts)),
        np.int32(split), file="packing.cu",
    )  # fmt: skip
    assert np.array_equal(found, counts)
    fields = np.full((len(parts), 16 * blocks), 77, np.int32)
    launch(
        "field_lists", fields, np.int64(16 * blocks), np.uint64(seed), np.uint64(block), np.int32(blocks),
        np.uint64(column), lists, np.int32(capacity), counts, np.int32(len(parts)), NULL, np.int32(0), STRIDE,
    )  # fmt: skip
    used = np.flatnonzero(x.any(axis=0))
    matrix = components(seed, block, blocks, np.uint64(column) + used.astype(np.uint64))
    assert np.array_equal(fields, parts[:, used] @ matrix.T)


def test_the_field_of_an_anchor() -> None:
    field = np.full(16 * 20, 77, np.int32)
    launch(
        "field_of_ones", field, np.uint64(9), np.uint64(3), np.int32(20), np.uint64(2**64 - 33), np.int32(33), STRIDE
    )  # fmt: skip
    re, im = oracle.anchor_field(9, 33, range(24, 184))
    assert np.array_equal(field, np.stack([re, im], axis=1).reshape(-1))
