"""Projects the rows of a matrix in blocks of bounded size: ternary rows directly, other rows encoded in digits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _check, _memory
from .._spec import Spec
from ..inputs import sparse
from ..inputs.arrays import vectors
from ..packing import encode
from ..projection import apply

# With smaller blocks, T would be generated too often.
_FEWEST_ROWS = 16


def project_rows(spec: Spec, threads: int | None, X: Any, digits: int | None, noise_seed: int | None) -> NDArray[Any]:
    """Return the projections of all rows. Each projection, and whether its row is encoded, depends on that row only.

    Parameters
    ----------
    spec
        The operator.
    threads
        As in :class:`opuproj.Projector`.
    X
        ndarray or scipy.sparse CSR matrix of finite real numbers, of shape (n_rows, n_inputs), with at least one row.
    digits
        The number of digits of rows that are not ternary; None to refuse such rows.
    noise_seed
        The seed of the camera's noise, which then depends on this seed and the row's index in X. So each run of ternary
        or of other rows is a separate call of the operator. None for new noise.
    """
    if not isinstance(X, np.ndarray):
        X = sparse.canonical("X", X, X.shape)
    ternary = _ternary_rows(X)
    if digits is None and not ternary.all():
        raise ValueError(
            f"{_first_other(X, ternary)}, but must be -1, 0 or 1: digits is None; pass digits=5 for other values"
        )
    noisy = spec.noisy
    if spec.mode == "intensity" and noisy and not ternary.all():
        raise ValueError(
            f"{_first_other(X, ternary)}, but must be -1, 0 or 1 in front of a camera: it sees the digits of other "
            "numbers one after the other, not the intensity of their sum; make X binary, or use no camera"
        )
    # The noise depends on a row's index in X, so the rows of one call must be consecutive.
    apart = noisy and noise_seed is not None
    out = _memory.allocate("an output", (X.shape[0], spec.n_outputs), spec.dtype, "transform fewer rows at a time")
    for numbers in (np.flatnonzero(ternary), np.flatnonzero(~ternary)):
        encoded = None if len(numbers) and ternary[numbers[0]] else digits
        step = _rows_at_once(spec, X, encoded, whole=len(numbers) == X.shape[0])
        noise = _check.noise_seed(noise_seed) if noisy else None
        for run in _runs(numbers) if apart else [numbers]:
            for start in range(0, len(run), step):
                chosen = _as_slice(run[start : start + step])
                first = int(run[start]) if apart else start
                rows = X if len(run) == X.shape[0] <= step else X[chosen]  # SciPy copies any selection
                if encoded is not None and isinstance(rows, np.ndarray):  # without a first pass that checks values
                    part = vectors(encode(rows, digits=encoded), None, spec.ensemble)
                else:
                    part = vectors(rows, encoded, spec.ensemble)
                if isinstance(chosen, slice):
                    apply(spec, part, threads=threads, noise_seed=noise, out=out[chosen], first_vector=first)
                else:
                    out[chosen] = apply(spec, part, threads=threads, noise_seed=noise, first_vector=first)
    return out


def _ternary_rows(X: Any) -> NDArray[np.bool_]:
    """Return which rows hold only -1, 0 and 1."""
    ternary = np.ones(X.shape[0], dtype=np.bool_)
    if isinstance(X, np.ndarray):
        step = max(1, _memory.PIECE_BYTES // (X.shape[1] * X.itemsize))
        for start in range(0, len(X), step):
            ternary[start : start + step] = ~_other(X[start : start + step]).any(axis=1)
    else:
        entries = np.flatnonzero(_other(X.data))
        ternary[np.searchsorted(X.indptr, entries, side="right") - 1] = False
    return ternary


def _other(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where values are not -1, 0 or 1."""
    return np.asarray((values != 0) & (values != 1) & (values != -1))


def _first_other(X: Any, ternary: NDArray[np.bool_]) -> str:
    """Return `X[3, 17] is 0.5` for the first value that is not ternary."""
    row = int(np.argmin(ternary))
    if isinstance(X, np.ndarray):
        values, columns = X[row], np.arange(X.shape[1])
    else:
        _, columns, values = sparse.compressed(X, row, row + 1)
    place = int(np.argmax(_other(values)))
    return f"X[{row}, {columns[place]}] is {values[place].item()}"


def _runs(numbers: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Split ascending numbers into runs of consecutive numbers."""
    return np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)


def _rows_at_once(spec: Spec, X: Any, digits: int | None, *, whole: bool) -> int:
    """Return the number of rows in a block that bounds the temporary memory."""
    dense = isinstance(X, np.ndarray)
    if whole and (digits is None or not dense):
        return max(1, int(X.shape[0]))  # the operator itself bounds its memory
    n_bytes: int = (digits or 1) * _memory.packed_bytes(1, X.shape[1]) if dense else 0
    if not whole:  # selected rows are copied, and so are their results
        n_bytes += spec.n_outputs * spec.dtype.itemsize
        n_bytes += X.shape[1] * X.itemsize if dense else 16 * X.nnz // X.shape[0]
    return max(_FEWEST_ROWS, _memory.BLOCK_BYTES // n_bytes)


def _as_slice(numbers: NDArray[np.int64]) -> Any:
    """Return ascending numbers as a slice if they are consecutive, which avoids a copy."""
    first, last = int(numbers[0]), int(numbers[-1])
    return slice(first, last + 1) if last - first + 1 == len(numbers) else numbers
