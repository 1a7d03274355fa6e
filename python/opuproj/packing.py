"""From arrays to packed ternary batches: values that are ternary already, and real ones against a threshold."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from . import _core, _inputs, _rows
from ._sparse import SparseSource
from .ternary import TernaryBatch

_PURPOSE = "a relative threshold"


def pack(x: Any) -> TernaryBatch:
    """Pack values of -1, 0 and 1 into 2 bits each.

    Parameters
    ----------
    x : array_like of shape (..., n_inputs)
        A NumPy array of any integer, bool or real floating-point dtype and any strides; anything that
        :func:`numpy.asarray` takes; a torch tensor on any device; an array of any library of the array API standard, or
        that speaks DLPack; or a scipy.sparse matrix, whose explicit duplicates
        count as their sum. A TernaryBatch is returned as it is.

    Returns
    -------
    TernaryBatch
        Of the shape of `x`.

    Raises
    ------
    ValueError
        If a value is not -1, 0 or 1 (saying which, and where), or `x` has no inputs.
    TypeError
        If `x` does not hold real numbers.
    MemoryError
        If the batch cannot be allocated.

    See Also
    --------
    ternarize : for other values.

    Examples
    --------
    >>> import numpy as np
    >>> import opuproj
    >>> batch = opuproj.pack(np.eye(3))
    >>> batch.shape, batch.nnz
    ((3, 3), 3)
    """
    if isinstance(x, TernaryBatch):
        return x
    source = _inputs.source("x", x)
    return TernaryBatch._of(source.pack(), source.shape)


def ternarize(
    e: Any, threshold: float | None = None, *, relative: float | None = None, scale: Literal["row", "global"] = "row"
) -> TernaryBatch:
    r"""Round real numbers to -1, 0 and 1 by a threshold t, and pack them.

    An element becomes 1 where e > t, -1 where e < -t, and 0 elsewhere: so a tie (\|e\| = t) gives 0, and so does zero,
    whatever t is. Thresholds are computed and compared in the dtype of `e`, as
    ``np.where(e > t, 1, np.where(e < -t, -1, 0))`` does.

    Parameters
    ----------
    e : array_like of shape (..., n_inputs)
        Real numbers, from the same libraries as in :func:`pack`.
    threshold : float, optional
        t itself: finite and not negative.
    relative : float, optional
        t as a fraction of the largest \|e\|, from 0 to less than 1. A row of zeros gives zeros. Give either `threshold`
        or `relative`.
    scale : {"row", "global"}
        Whether `relative` refers to the largest \|e\| of each vector, or to that of all of `e`.

    Returns
    -------
    TernaryBatch
        Of the shape of `e`.

    Raises
    ------
    ValueError
        If `e` holds NaN (saying where), or an infinity with `relative`; or if `threshold`, `relative` or `scale` is not
        as said above.
    TypeError
        If `e` does not hold real numbers, or not exactly one of `threshold` and `relative` is given.

    Notes
    -----
    Values of longdouble are rounded to float64 first, and so are integers beyond 2**53. Gradients do not flow through:
    a torch tensor is detached.

    Training with an optical processing unit sends errors that were rounded in this way [1]_. The threshold decides how
    many elements survive, and with it whether training works at all: search it as one does a learning rate.

    References
    ----------
    .. [1] Z. Wang, K. Müller, M. Filipovich et al., "Optical training of large-scale Transformers and deep neural
       networks with direct feedback alignment", arXiv:2409.12965, 2024.

    Examples
    --------
    >>> import numpy as np
    >>> import opuproj
    >>> e = np.array([[0.5, -0.2, 0.0], [0.1, -0.3, 0.3]])
    >>> opuproj.ternarize(e, 0.2).to_numpy()
    array([[ 1,  0,  0],
           [ 0, -1,  1]], dtype=int8)
    >>> opuproj.ternarize(e, relative=0.25).to_numpy()
    array([[ 1, -1,  0],
           [ 1, -1,  1]], dtype=int8)
    """
    fixed = fixed_threshold(threshold, relative, scale)
    if isinstance(e, TernaryBatch):
        raise TypeError("e is a TernaryBatch, but must hold real numbers")
    source = _inputs.source("e", e)
    largest = largest_of(source) if fixed is None and scale == "global" else None
    return TernaryBatch._of(ternarized(source, fixed, relative, largest), source.shape)


def ternarized(source: _rows.Source, fixed: float | None, relative: Any, largest: float | None) -> _core.Packed:
    """Pack the rows of a source against a fixed threshold, or one relative to `largest` or to each row's own.

    Raises ValueError at the first value that has no place on either side of it.
    """
    if fixed is None:
        fixed = largest
    if isinstance(source, SparseSource):
        levels = source.largest(_PURPOSE) if fixed is None else np.full(source.n_rows, fixed)
        return source.ternarized(_thresholds(source, levels, relative))
    packer = _rows.new_packer(source.name, source.n_rows, source.n_inputs)
    done = 0
    for piece in source.real_pieces():
        levels = _rows.largest(source, piece, done, _PURPOSE) if fixed is None else np.full(len(piece), fixed)
        bad = packer.push_ternarized(piece, _thresholds(source, levels, relative))
        if bad is not None:
            raise ValueError(f"{source.position(done + bad[0], bad[1])} is NaN, but must be a number")
        done += len(piece)
    return packer.finish()


def _thresholds(source: _rows.Source, levels: NDArray[np.float64], relative: Any) -> NDArray[np.float64]:
    """Return the thresholds of rows in the precision of their values."""
    if relative is None:
        return source.in_precision(levels)
    # One rounding of the factor and one of the product: what the library of e would compute.
    return source.in_precision(source.in_precision(np.array([float(relative)])) * levels)


def fixed_threshold(threshold: Any, relative: Any, scale: str) -> float | None:
    """Check how the threshold is given; return it where it is a fixed number."""
    if (threshold is None) == (relative is None):
        given = "neither" if threshold is None else "both"
        raise TypeError(f"ternarize takes either threshold or relative, but got {given}")
    if scale not in ("row", "global"):
        raise ValueError(f"scale is {scale!r}, but must be 'row' or 'global'")
    name, value = ("relative", relative) if threshold is None else ("threshold", threshold)
    try:
        if isinstance(value, (str, bytes, bool, np.bool_)):  # of which Python would make a float
            raise TypeError
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {value!r}, but must be a number") from None
    if threshold is None:
        if not 0 <= number < 1:
            raise ValueError(f"relative is {number}, but must be at least 0 and less than 1")
        return None
    if not 0 <= number < math.inf:
        raise ValueError(f"threshold is {number}, but must be finite and not negative")
    return number


def largest_of(source: _rows.Source) -> float:
    """Return the largest |e| of all."""
    if isinstance(source, SparseSource):
        return float(source.largest(_PURPOSE).max(initial=0.0))
    largest, done = 0.0, 0
    for piece in source.real_pieces():
        largest = max(largest, float(_rows.largest(source, piece, done, _PURPOSE).max(initial=0.0)))
        done += len(piece)
    return largest
