"""Exact entries of an operator's matrix: the windows of it that somebody wants to see."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import _config, _core, _memory, _structured

if TYPE_CHECKING:
    from .projector import Projector

_ADVICE = "the operator exists so that its matrix need not: ask for fewer rows and columns"
_TILE = (64, 4096)
# Of the structured ensemble's rows, which are computed in blocks and of which not all may be wanted.
_BLOCK_BYTES = 1 << 23


def entries(operator: Projector, rows: Any, columns: Any) -> NDArray[Any]:
    """Return the entries at some rows and columns of an operator, as :meth:`Projector.matrix` does."""
    dtype = operator.dtype if operator.mode != "intensity" else np.result_type(operator.dtype, np.complex64)
    picked = [_picked("rows", rows, operator.n_outputs), _picked("columns", columns, operator.n_inputs)]
    shape = (len(picked[0]), len(picked[1]))
    _memory.reserve("a window", shape, math.prod(shape) * dtype.itemsize + 8 * sum(shape), _ADVICE)
    out = _memory.allocate("a window", shape, dtype, _ADVICE)
    # A range is only spelled out now that it is known to fit.
    index = [np.array(numbers, dtype=np.uint64) for numbers in picked]
    index[0] += np.uint64(operator.row_start)
    if operator.ensemble == "structured":
        _of_transforms(operator, index[0], index[1], out)
    else:
        _generated(operator, index[0], index[1], out)
    return out


def _generated(operator: Projector, rows: NDArray[np.uint64], columns: NDArray[np.uint64], out: NDArray[Any]) -> None:
    """Write entries as the generator makes them, tile by tile, so that Ctrl-C works between two of them."""
    isa = _config.isa()
    for i in range(0, len(rows), _TILE[0]):
        for j in range(0, len(columns), _TILE[1]):
            _core.entries(
                rows[i : i + _TILE[0]],
                columns[j : j + _TILE[1]],
                out[i : i + _TILE[0], j : j + _TILE[1]],
                seed=operator.seed,
                mode=operator.mode,
                n_anchor=operator.n_anchor,
                isa=isa,
            )


def _of_transforms(
    operator: Projector, rows: NDArray[np.uint64], columns: NDArray[np.uint64], out: NDArray[Any]
) -> None:
    """Write entries of the structured matrix: projected unit vectors, a block of rows at a time."""
    if out.size == 0:
        return
    n = _structured.length(operator.n_inputs)
    mode = "linear" if operator.mode == "linear" else "complex"
    block = rows // np.uint64(n)
    for b in np.unique(block):
        here = np.flatnonzero(block == b)
        first, last = int(rows[here].min()), int(rows[here].max())
        part = operator._changed(n_outputs=last + 1 - first, row_start=first, mode=mode, dtype=out.dtype)
        picked = (rows[here] - np.uint64(first)).astype(np.intp)
        step = max(1, _BLOCK_BYTES // max(part.n_outputs * out.itemsize, operator.n_inputs // 4 + 1))
        for start in range(0, len(columns), step):
            units = _structured.unit_vectors(columns[start : start + step].astype(np.int64), operator.n_inputs)
            out[here, start : start + step] = part(units)[:, picked].T


def _picked(name: str, index: Any, n: int) -> range | NDArray[np.int64]:
    """Return the numbers that an index picks of 0..n."""
    if index is None:
        return range(n)
    if isinstance(index, slice):
        return range(n)[index]
    if isinstance(index, range):
        if len(index) and (min(index[0], index[-1]) < 0 or max(index[0], index[-1]) >= n):
            raise IndexError(f"{name} is {index}, but must lie in 0 to {n - 1}")
        return index
    numbers = np.asarray(index)
    if numbers.size == 0 and numbers.ndim == 1:
        return range(0)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        raise TypeError(f"{name} is {index!r}, but must be a slice, a range or a sequence of integers")
    outside = np.flatnonzero((numbers < -n) | (numbers >= n))
    if len(outside):
        raise IndexError(f"{name} holds {numbers[outside[0]]}, but must lie in {-n} to {n - 1}")
    signed: NDArray[np.int64] = numbers.astype(np.int64)
    return np.where(signed < 0, signed + n, signed)
