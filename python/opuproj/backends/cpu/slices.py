"""Projects vectors that are too long to be packed as a whole.

Vectors with few nonzeros are projected over the columns that they use. The others are packed slice by slice, and the
exact fields of the slices are added up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import _core, _memory
from ..._spec import Spec
from ...inputs.rows import ArrayRows, PlaneRows, Rows
from ...inputs.sparse import SparseRows
from .. import Request, backend
from . import dense, machine
from .sparse import Compact

# Vectors that are projected together: for each of their slices, T is generated once.
_VECTORS = 64
# Bytes of the fields that are added up at a time, and of those of a slice.
_FIELD_BYTES = 1 << 23
# The most nonzeros of vectors that are projected over the columns that they use: some 20 bytes each.
_FEW = 1 << 20

# Projects vectors over the columns that they use, as a projection of a sparse matrix does.
_ProjectCompact = Callable[[Compact, NDArray[Any], Callable[[float], None] | None], None]


def needed(spec: Spec, rows: Rows) -> bool:
    """Whether one packed vector takes more memory than a block may; only exact projections can be added up."""
    if rows.n_inputs <= 4 * _memory.BLOCK_BYTES:  # 2 bits an element
        return False
    numbers = isinstance(rows, ArrayRows) and not isinstance(rows, (PlaneRows, SparseRows))
    return numbers and spec.ensemble == "gaussian" and not spec.noisy


def project(
    spec: Spec,
    rows: ArrayRows,
    out: NDArray[Any],
    request: Request,
    advance: Callable[[float], None] | None,
    project_compact: _ProjectCompact,
) -> None:
    """Project all vectors into `out`, of shape (n_vectors, n_outputs). All values are checked before it is written."""
    groups = [(start, min(start + _VECTORS, rows.n_rows)) for start in range(0, rows.n_rows, _VECTORS)]
    if len(groups) > 1:  # the only group is checked before anything is written
        for start, stop in groups:
            for _ in _slices(rows, start, stop):
                pass
    for start, stop in groups:

        def report(fraction: float, start: int = start, stop: int = stop) -> None:
            if advance:
                advance((start + fraction * (stop - start)) / rows.n_rows)

        compact = _over_used_columns(rows, start, stop)
        if compact is None:
            _add_up(spec, rows, range(start, stop), out[start:stop], request, report)
        else:
            project_compact(compact, out[start:stop], report if advance else None)


def _over_used_columns(rows: ArrayRows, start: int, stop: int) -> Compact | None:
    """Check some vectors, and return them over the columns that they use; None if they have many nonzeros."""
    found: list[tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.int8]]] = []
    total = 0
    for column, batch in _slices(rows, start, stop):
        total += int(batch.row_nnz().sum())
        if total <= _FEW:  # the rest is only checked
            row, within, sign = _nonzeros(batch)
            found.append((row, column + within, sign))
    if total > _FEW:
        return None
    row, column_of, sign = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.argsort(row, kind="stable")  # the columns of a vector stay in order
    columns, position = np.unique(column_of[order], return_inverse=True)
    indptr = np.zeros(stop - start + 1, np.int64)
    np.cumsum(np.bincount(row, minlength=stop - start), out=indptr[1:])
    n_columns = max(1, len(columns))  # a packed batch has at least one element
    packed = _core.Packed.from_csr(indptr, position.reshape(-1).astype(np.int64), sign[order], n_columns)
    return Compact(packed, np.resize(columns, n_columns).astype(np.uint64))


def _nonzeros(batch: _core.Packed) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.int8]]:
    """Return the rows, the columns and the signs of the elements that are not 0, in order."""
    positive, negative = batch.planes(False)
    used = positive | negative
    row, byte = np.nonzero(used)
    k, bit = np.nonzero(np.unpackbits(used[row, byte][:, None], axis=1, bitorder="little"))
    row, byte = row[k], byte[k]
    sign = 1 - 2 * (negative[row, byte] >> bit.astype(np.uint8) & 1).astype(np.int8)
    return row, (8 * byte + bit).astype(np.int64), sign


def _add_up(
    spec: Spec,
    rows: ArrayRows,
    vectors: range,
    out: NDArray[Any],
    request: Request,
    report: Callable[[float], None],
) -> None:
    """Add up the fields of slices, for as many outputs at a time as memory allows."""
    width = max(1, _FIELD_BYTES // (8 * spec.components * len(vectors)))
    for first in range(0, spec.n_outputs, width):
        window = spec.rows(first, min(first + width, spec.n_outputs))
        fields = np.zeros((len(vectors), spec.components * window.n_outputs), np.int64)
        part = np.empty_like(fields)
        for column, batch in _slices(rows, vectors.start, vectors.stop):
            if batch.row_nnz().any():
                backend("cpu").fields(window, batch, column, part, request)
                fields += part
            done = (column + batch.n_inputs) / rows.n_inputs
            report((first + done * window.n_outputs) / spec.n_outputs)
        backend("cpu").read_fields(window, fields, out[:, first : first + window.n_outputs], request)


def _slices(rows: ArrayRows, start: int, stop: int) -> Iterator[tuple[int, _core.Packed]]:
    """Yield slices of some vectors, packed, and the index of the first element of each."""
    itemsize = getattr(rows.array, "itemsize", 8)
    in_half_a_block = 2 * _memory.BLOCK_BYTES // (stop - start)
    width = max(64, min(_memory.PIECE_BYTES // itemsize, in_half_a_block))
    vectors = [rows.array[tuple(np.unravel_index(row, rows.shape[:-1]))] for row in range(start, stop)]
    for column in range(0, rows.n_inputs, width):
        packer = _core.Packer(stop - start, min(width, rows.n_inputs - column), machine.isa())
        for row, vector in enumerate(vectors, start):
            dense.push(rows, packer, vector[None, column : column + width], row, column)
        yield column, packer.finish()
