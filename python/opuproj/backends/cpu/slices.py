"""Projects vectors that are too long to be packed as a whole: the fields of slices of their elements add up exactly."""

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

# Vectors that are projected together: for each of their slices, T is generated once.
_VECTORS = 64
# Bytes of the fields that are added up at a time, and of those of a slice.
_FIELD_BYTES = 1 << 23


def needed(spec: Spec, rows: Rows) -> bool:
    """Whether one packed vector takes more memory than a block may; only exact projections can be added up."""
    if rows.n_inputs <= 4 * _memory.BLOCK_BYTES:  # 2 bits an element
        return False
    numbers = isinstance(rows, ArrayRows) and not isinstance(rows, (PlaneRows, SparseRows))
    return numbers and spec.ensemble == "gaussian" and not spec.noisy


def project(
    spec: Spec, rows: ArrayRows, out: NDArray[Any], request: Request, advance: Callable[[float], None] | None
) -> None:
    """Project all vectors into `out`, of shape (n_vectors, n_outputs). All values are checked before it is written."""
    for start in range(0, rows.n_rows, _VECTORS):
        for _ in _slices(rows, start, min(start + _VECTORS, rows.n_rows)):
            pass
    for start in range(0, rows.n_rows, _VECTORS):
        stop = min(start + _VECTORS, rows.n_rows)
        width = max(1, _FIELD_BYTES // (8 * spec.components * (stop - start)))
        for first in range(0, spec.n_outputs, width):
            window = spec.rows(first, min(first + width, spec.n_outputs))
            fields = np.zeros((stop - start, spec.components * window.n_outputs), np.int64)
            part = np.empty_like(fields)
            for column, batch in _slices(rows, start, stop):
                backend("cpu").fields(window, batch, column, part, request)
                fields += part
                if advance:
                    within = (first + (column + batch.n_inputs) / rows.n_inputs * window.n_outputs) / spec.n_outputs
                    advance((start + within * (stop - start)) / rows.n_rows)
            backend("cpu").read_fields(window, fields, out[start:stop, first : first + window.n_outputs], request)


def _slices(rows: ArrayRows, start: int, stop: int) -> Iterator[tuple[int, _core.Packed]]:
    """Yield slices of some vectors, packed, and the index of the first element of each."""
    itemsize = rows.array.itemsize if hasattr(rows.array, "itemsize") else 8
    width = max(64, _memory.PIECE_BYTES // (itemsize * (stop - start)))
    vectors = [rows.array[tuple(np.unravel_index(row, rows.shape[:-1]))] for row in range(start, stop)]
    for column in range(0, rows.n_inputs, width):
        packer = _core.Packer(stop - start, min(width, rows.n_inputs - column), machine.isa())
        for row, vector in enumerate(vectors, start):
            dense.push(rows, packer, vector[None, column : column + width], row, column)
        yield column, packer.finish()
