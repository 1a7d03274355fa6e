"""The rows of scipy.sparse matrices and arrays, which store no zeros."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .. import _memory
from .rows import ArrayRows

# The index pointers of the rows, the columns and the values of the entries.
Entries: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]

# The attributes in which SciPy's formats store values and positions.
_COMPONENTS = ("data", "indices", "indptr", "offsets", "row", "col")


class SparseRows(ArrayRows):
    """Rows of a scipy.sparse matrix or array of any format; duplicate entries are added up."""

    def __init__(self, name: str, array: Any) -> None:
        super().__init__(name, array)
        self._csr: Any = None

    def memory(self) -> tuple[NDArray[Any], ...]:
        components = (*(getattr(self.array, name, None) for name in _COMPONENTS), *getattr(self.array, "coords", ()))
        return tuple(component for component in components if isinstance(component, np.ndarray))

    def canonical(self) -> Any:
        """Return the rows in canonical CSR."""
        if self._csr is None:
            self._csr = canonical(self.name, self.array, (self.n_rows, self.n_inputs))
        return self._csr

    def ternary(self) -> Any:
        """Return the rows in canonical CSR, or raise ValueError at the first value that is not -1, 0 or 1."""
        rows = self.canonical()
        data = rows.data
        bad = np.flatnonzero((data != 0) & (data != 1) & (data != -1)) if data.dtype.kind != "b" else data[:0]
        if len(bad):
            self.refuse(*place(rows, int(bad[0])), data[bad[0]].item())
        return rows

    def floats(self) -> Any:
        """Return the rows in canonical CSR of float32 or float64."""
        rows = self.canonical()
        with np.errstate(over="ignore"):
            return rows.astype(np.float32 if rows.dtype == np.float32 else np.float64, copy=False)

    def finite(self, purpose: str) -> Any:
        """Return the rows as `floats` does; raise ValueError at NaN and infinity."""
        csr = self.floats()
        bad = np.flatnonzero(~np.isfinite(csr.data))
        if len(bad):
            # As for dense rows: the first row with such a value, and its first NaN if it has one.
            row, _ = place(csr, int(bad[0]))
            first = int(csr.indptr[row])
            values = csr.data[first : csr.indptr[row + 1]]
            missing = np.isnan(values)
            entry = int(np.flatnonzero(missing if missing.any() else np.isinf(values))[0])
            found = "NaN" if missing.any() else values[entry].item()
            where = self.position(*place(csr, first + entry))
            raise ValueError(f"{where} is {found}, but must be finite for {purpose}")
        return csr

    def largest(self, purpose: str) -> NDArray[np.float64]:
        """Return the largest magnitude of each row; raise ValueError at NaN and infinity."""
        csr = self.finite(purpose)
        found, filled = np.zeros(self.n_rows), np.diff(csr.indptr) > 0
        if filled.any():
            found[filled] = np.maximum.reduceat(np.abs(csr.data), csr.indptr[:-1][filled])
        return found

    def real_pieces(self) -> Iterator[NDArray[Any]]:
        csr = self.canonical()
        narrow, wide = (np.complex64, np.complex128) if csr.dtype.kind == "c" else (np.float32, np.float64)
        dtype = np.dtype(narrow if csr.dtype == narrow else wide)
        step = max(1, _memory.PIECE_BYTES // (self.n_inputs * dtype.itemsize))
        for start in range(0, self.n_rows, step):
            yield csr[start : start + step].astype(dtype).toarray()


def compressed(csr: Any, start: int, stop: int) -> Entries:
    """Return rows of a canonical CSR matrix in the form that the core accepts: index pointers, columns, values."""
    first, last = int(csr.indptr[start]), int(csr.indptr[stop])
    indices = csr.indices[first:last].astype(np.int64, copy=False)
    return csr.indptr[start : stop + 1].astype(np.int64) - first, indices, csr.data[first:last]


def place(csr: Any, entry: int) -> tuple[int, int]:
    """Return the row and the column of an entry of a CSR matrix."""
    return int(np.searchsorted(csr.indptr, entry, side="right")) - 1, int(csr.indices[entry])


def canonical(name: str, x: Any, shape: tuple[int, int]) -> Any:
    """Return a sparse matrix as CSR of this shape, with sorted columns and duplicates added up; `x` is not changed.

    The values equal those of ``x.toarray()``, except that sums of integers do not overflow a narrow dtype.
    """
    if is_compressed(x):
        x = without_spare_room(name, x)
    if x.ndim == 2 and x.format in ("csr", "csc"):
        rows = x.tocsr()
    else:
        coo = x.tocoo(copy=False).reshape(shape)
        coo = type(coo)((coo.data, (coo.row, coo.col)), shape=shape)
        coo.has_canonical_format = True  # keeps SciPy from adding duplicates up in their own dtype
        rows = coo.tocsr()
    ordered = rows if rows.has_sorted_indices else rows.sorted_indices()
    return ordered if ordered.has_canonical_format else _added_up(rows)


def is_compressed(x: Any) -> bool:
    """Whether this is a sparse matrix of a compressed format, in which index pointers mark the end of the entries."""
    sparse = sys.modules.get("scipy.sparse")
    return sparse is not None and sparse.issparse(x) and x.format in ("csr", "csc", "bsr")


def without_spare_room(name: str, x: Any) -> Any:
    """Return a compressed matrix of only the entries that its index pointers reach; SciPy ignores all others.

    SciPy checks again whether the columns are sorted: its cached answer may be older than the last change.
    """
    try:
        n = int(x.indptr[-1])
        used = type(x)((x.data[:n], x.indices[:n], x.indptr), shape=x.shape)
        used.check_format(full_check=True)
    except ValueError as error:
        raise ValueError(f"{name} is not a valid {x.format.upper()} matrix: {error}") from None
    return used


def _added_up(rows: Any) -> Any:
    """Return CSR rows with sorted columns. Duplicates are added up in the order in which they are stored."""
    major = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
    order = np.lexsort((rows.indices, major))
    major, minor, data = major[order], rows.indices[order], rows.data[order]
    new = np.append(True, (major[1:] != major[:-1]) | (minor[1:] != minor[:-1]))
    sums = np.zeros(int(new.sum()), np.result_type(data, np.int64) if data.dtype.kind in "iu" else data.dtype)
    np.add.at(sums, np.cumsum(new) - 1, data)
    indptr = np.append(0, np.cumsum(np.bincount(major[new], minlength=rows.shape[0])))
    return type(rows)((sums, minor[new], indptr), shape=rows.shape)
