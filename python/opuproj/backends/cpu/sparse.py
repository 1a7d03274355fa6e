"""Converts sparse matrices to packed or encoded rows over the columns that they use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from ... import _core, _memory
from ...inputs.rows import RELATIVE, DigitRows, Threshold
from ...inputs.sparse import Entries, SparseRows, compressed, place
from . import machine
from .dense import ENCODE_FEWER, ENCODING, PROJECT_FEWER


class Compact(NamedTuple):
    """Packed or encoded vectors over the columns that any of them uses, so that memory depends on the nonzeros only."""

    batch: _core.Packed | _core.Encoded
    columns: NDArray[np.uint64]

    @property
    def n_rows(self) -> int:
        return self.batch.n_rows


class SparseConverter:
    """Converts the rows of a sparse matrix to packed rows."""

    def block_rows(self, rows: SparseRows) -> int:
        """Return how many rows to pack at a time so that a projection stays within its working memory."""
        index_bytes = 8 * int(rows.ternary().nnz)  # the core needs 64-bit indices; SciPy mostly has 32-bit ones
        n_bytes = max(_memory.packed_bytes(rows.n_rows, rows.n_inputs), 2 * index_bytes)
        return _memory.rows_within(rows.n_rows, n_bytes)

    def whole(self, rows: SparseRows) -> _core.Packed:
        """Return all rows packed."""
        return next(self.blocks(rows, max(1, rows.n_rows)))

    def blocks(self, rows: SparseRows, block_rows: int) -> Iterator[_core.Packed]:
        """Yield all rows packed, `block_rows` at a time; without rows, one empty block."""
        csr = rows.ternary()
        for start in range(0, max(1, rows.n_rows), block_rows):
            stop = min(start + block_rows, rows.n_rows)
            _reserve(rows, stop - start, 1, "packed", PROJECT_FEWER)
            indptr, indices, data = compressed(csr, start, stop)
            yield _core.Packed.from_csr(indptr, indices, data.astype(np.int8, copy=False), rows.n_inputs)

    def check(self, rows: SparseRows) -> None:
        """Check every value; raise ValueError at the first that is not -1, 0 or 1."""
        rows.ternary()

    def compact_blocks(self, rows: SparseRows) -> Iterator[Compact]:
        """Yield all rows packed, a bounded number at a time; without rows, one empty block."""
        for columns, (indptr, indices, data) in _compact(rows.ternary(), 1):
            signs = data.astype(np.int8, copy=False)
            yield Compact(_core.Packed.from_csr(indptr, indices, signs, len(columns)), columns)


class SparseDigitConverter:
    """Converts the rows of a sparse matrix to encoded rows; only stored entries are encoded."""

    def block_rows(self, rows: DigitRows) -> int:
        """Return how many rows to encode at a time so that a projection stays within its working memory."""
        # An entry's column is copied twice as 64 bits, and its value once.
        entries = 24 * int(_numbers(rows).canonical().nnz)
        n_bytes = max(rows.n_digits * _memory.packed_bytes(rows.n_rows, rows.n_inputs), entries)
        return _memory.rows_within(rows.n_rows, n_bytes)

    def whole(self, rows: DigitRows) -> _core.Encoded:
        """Return all rows encoded, zeros included; in blocks, because entries need temporary memory."""
        parts = list(self.blocks(rows, self.block_rows(rows)))
        return parts[0] if len(parts) == 1 else _core.Encoded.concatenate(parts)

    def blocks(self, rows: DigitRows, block_rows: int) -> Iterator[_core.Encoded]:
        """Yield all rows encoded, `block_rows` at a time (the last may be shorter; without rows, one empty block)."""
        csr = _numbers(rows).finite(ENCODING)
        for start in range(0, max(1, rows.n_rows), block_rows):
            stop = min(start + block_rows, rows.n_rows)
            _reserve(_numbers(rows), stop - start, rows.n_digits, "encoded", ENCODE_FEWER)
            entries = compressed(csr, start, stop)
            yield _core.encode_sparse(*entries, rows.n_inputs, rows.base, rows.n_digits, machine.isa())

    def check(self, rows: DigitRows) -> None:
        """Check every value; raise ValueError at the first that is not finite."""
        _numbers(rows).finite(ENCODING)

    def compact_blocks(self, rows: DigitRows) -> Iterator[Compact]:
        """Yield all rows encoded, a bounded number at a time, over the columns that they use."""
        isa = machine.isa()
        for columns, entries in _compact(_numbers(rows).finite(ENCODING), rows.n_digits):
            batch = _core.encode_sparse(*entries, len(columns), rows.base, rows.n_digits, isa)
            yield Compact(batch, columns)


def ternarized(rows: SparseRows, threshold: Threshold | NDArray[np.float64]) -> _core.Packed:
    """Pack rows against their thresholds, as :meth:`Backend.ternarize` says."""
    if isinstance(threshold, Threshold):
        level = threshold.level
        levels = rows.largest(RELATIVE) if level is None else np.full(rows.n_rows, level)
        threshold = threshold.of(rows, levels)
    csr = rows.floats()
    missing = np.flatnonzero(np.isnan(csr.data))
    if len(missing):
        raise ValueError(f"{rows.position(*place(csr, int(missing[0])))} is NaN, but must be a number")
    _reserve(rows, rows.n_rows, 1, "packed", PROJECT_FEWER)
    indptr, indices, data = compressed(csr, 0, rows.n_rows)
    levels = np.repeat(threshold, np.diff(indptr))
    signs = (data > levels).astype(np.int8) - (data < -levels)
    return _core.Packed.from_csr(indptr, indices, signs, rows.n_inputs)


def _numbers(rows: DigitRows) -> SparseRows:
    """Return the sparse rows whose numbers are rounded to digits."""
    return cast(SparseRows, rows.rows)


def largest_of_all(rows: SparseRows) -> float:
    """Return the largest magnitude of all numbers."""
    return float(rows.largest(RELATIVE).max(initial=0.0))


def _reserve(rows: SparseRows, n_rows: int, n_planes: int, how: str, advice: str) -> None:
    shape = (n_rows, rows.n_inputs)
    _memory.reserve(f"{rows.name}, {how},", shape, n_planes * _memory.packed_bytes(*shape), advice)


def _compact(csr: Any, n_planes: int) -> Iterator[tuple[NDArray[np.uint64], Entries]]:
    """Yield a canonical CSR matrix in blocks of rows: the columns that a block uses, and its entries, renumbered.

    `n_planes` copies of a packed block stay within a projection's working memory.
    """
    step = _compact_rows(csr, n_planes)
    for start in range(0, max(1, csr.shape[0]), step):
        indptr, indices, data = compressed(csr, start, min(start + step, csr.shape[0]))
        if csr.shape[1] <= 8 * len(indices):  # cheaper than sorting the indices
            used = np.zeros(csr.shape[1], np.bool_)
            used[indices] = True
            columns, indices = np.flatnonzero(used), (np.cumsum(used) - 1)[indices]
        else:
            columns, indices = np.unique(indices, return_inverse=True)
        if len(columns) == 0:  # a vector has at least one input
            columns = np.zeros(1, np.int64)
        yield columns.astype(np.uint64), (indptr, indices, data)


def _compact_rows(csr: Any, n_planes: int) -> int:
    n_rows, n_inputs = map(int, csr.shape)
    n_blocks = 1
    while True:
        step = max(1, -(-n_rows // n_blocks))
        ends = csr.indptr[np.minimum(np.arange(0, n_rows + step, step), n_rows)]
        most = int(np.diff(ends).max(initial=0))
        # Temporarily, an entry's place takes three 64-bit numbers, and its value one.
        if step == 1 or n_planes * _memory.packed_bytes(step, min(most, n_inputs)) + 32 * most <= _memory.BLOCK_BYTES:
            return step
        n_blocks *= 2
