"""Functions that make packed batches from arrays: `pack` (ternary values), `ternarize` and `encode` (real numbers)."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from .backends import Served, named
from .encoded import EncodedBatch
from .inputs.arrays import array_rows, digit_rows
from .inputs.rows import Threshold
from .ternary import TernaryBatch


def pack(x: Any, *, device: Any = None) -> TernaryBatch:
    """Pack values of -1, 0 and 1 into 2 bits each.

    Parameters
    ----------
    x : array_like of shape (..., n_inputs)
        A NumPy array of any integer, bool or real floating-point dtype and any strides; anything that
        :func:`numpy.asarray` accepts; a torch tensor on any device; an array of any library that follows the array API
        standard or supports DLPack; or a scipy.sparse matrix, whose duplicate entries are added up. A TernaryBatch is
        returned unchanged, or moved to `device`.
    device : str or torch.device, optional
        The device that packs `x` and holds the batch: ``"cpu"``, ``"cuda"`` (the current GPU) or one such as
        ``"cuda:1"``. By default, the GPU that holds `x`, if one does, and else the CPU.

    Returns
    -------
    TernaryBatch
        A batch of the shape of `x`.

    Raises
    ------
    ValueError
        If a value is not -1, 0 or 1 (the message names it and its place), or `x` has no inputs, or `device` is wrong.
    TypeError
        If `x` does not hold real numbers.
    RuntimeError
        If `device` cannot be used. The message says why.
    MemoryError
        If the batch cannot be allocated.

    See Also
    --------
    ternarize : Rounds other values to -1, 0 and 1.

    Examples
    --------
    >>> import numpy as np
    >>> import opuproj
    >>> batch = opuproj.pack(np.eye(3))
    >>> batch.shape, batch.nnz
    ((3, 3), 3)
    """
    name = _name_of(device)
    if isinstance(x, TernaryBatch):
        return x if name is None else x.to(name)
    rows = array_rows("x", x, device=name)
    with Served(rows) as backend:
        return TernaryBatch._of(backend.pack(rows), rows.shape)


def ternarize(
    e: Any,
    threshold: float | None = None,
    *,
    relative: float | None = None,
    scale: Literal["row", "global"] = "row",
    device: Any = None,
) -> TernaryBatch:
    r"""Round real numbers to -1, 0 and 1 with a threshold t, and pack them.

    An element becomes 1 where e > t, -1 where e < -t, and 0 elsewhere. So ties (\|e\| = t) and zeros become 0 for every
    t. Thresholds are computed and compared in the dtype of `e`, as in ``np.where(e > t, 1, np.where(e < -t, -1, 0))``.

    Parameters
    ----------
    e : array_like of shape (..., n_inputs)
        Real numbers, from the same libraries as in :func:`pack`.
    threshold : float, optional
        The value of t: finite and not negative.
    relative : float, optional
        t as a fraction of the largest \|e\|, from 0 to less than 1. A row of zeros becomes zeros. Give either
        `threshold` or `relative`.
    scale : {"row", "global"}
        Whether `relative` refers to the largest \|e\| of each vector (``"row"``) or of all vectors (``"global"``).
    device : str or torch.device, optional
        The device that rounds and packs `e` and holds the batch, as in :func:`pack`.

    Returns
    -------
    TernaryBatch
        A batch of the shape of `e`.

    Raises
    ------
    ValueError
        If `e` holds NaN, or an infinity with `relative` (the message says where); or if `threshold`, `relative`,
        `scale` or `device` is out of range.
    TypeError
        If `e` does not hold real numbers, or if both or neither of `threshold` and `relative` are given.
    RuntimeError
        If `device` cannot be used. The message says why.

    Notes
    -----
    longdouble values, and integers beyond 2**53, are first rounded to float64. Torch tensors are detached: gradients do
    not flow through.

    Optical training projects errors that were rounded in this way [1]_. The threshold determines how many elements are
    nonzero, and whether training works at all. Tune it like a learning rate.

    References
    ----------
    .. [1] Z. Wang, K. Müller, M. Filipovich et al., "Streamlined optical training of large-scale modern deep learning
       architectures with direct feedback alignment", PNAS, 2026. arXiv:2409.12965.

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
    rule = checked_threshold(threshold, relative, scale)
    if isinstance(e, TernaryBatch):
        raise TypeError("e is a TernaryBatch, but must hold real numbers")
    rows = array_rows("e", e, device=_name_of(device))

    with Served(rows) as backend:
        if rule.level is None and scale == "global":
            rule = rule._replace(level=backend.largest(rows))
        return TernaryBatch._of(backend.ternarize(rows, rule), rows.shape)


def encode(x: Any, *, digits: int | None = None, planes: int | None = None, device: Any = None) -> EncodedBatch:
    r"""Encode real numbers in a few ternary digits, or in signed bit planes, and pack them.

    A vector becomes x ≈ s m with integers m = Σ base\ :sup:`d-1-k` t_k. The d digits t_k are -1, 0 or 1, the highest
    first:

    - `digits`: balanced ternary (base 3), with \|m\| up to M = (3\ :sup:`d` - 1)/2;
    - `planes`: the bits of the magnitude, each with the number's sign (base 2), with \|m\| up to M = 2\ :sup:`d` - 1.
      These are LightOn's separated bit planes.

    Each vector has its own s = max\|x\|/M, so the error of an element is at most max\|x\|/(2M).

    Parameters
    ----------
    x : array_like of shape (..., n_inputs)
        Real numbers, from the same libraries as in :func:`opuproj.pack`. Only the stored entries of a sparse matrix are
        encoded, but the batch takes 2 bits per digit for every element, zeros included. ``project(x, ..., digits=...)``
        avoids this memory.
    digits : int, optional
        d, from 1 to 20. The default 5 gives an error of at most max\|x\|/242.
    planes : int, optional
        d, from 1 to 15. Give either `digits` or `planes`.
    device : str or torch.device, optional
        The device that encodes `x` and holds the batch, as in :func:`pack`.

    Returns
    -------
    EncodedBatch
        A batch of the shape of `x`.

    Raises
    ------
    ValueError
        If `x` holds NaN or an infinity (the message says where), or `digits`, `planes` or `device` is out of range.
    TypeError
        If `x` does not hold real numbers, or both `digits` and `planes` are given.
    RuntimeError
        If `device` cannot be used. The message says why.
    MemoryError
        If the batch cannot be allocated.

    See Also
    --------
    project : With `digits`, encodes and projects in one call.

    Notes
    -----
    Without a camera, up to 5 digits of base 3 or 7 of base 2 are combined into int8 and multiplied at once. They cost
    one projection instead of d. (With AVX2, fewer digits are combined.) The sums over the integers m are exact before
    they are scaled. A camera exposes each digit separately, in d times as many frames, and the results are added up.

    Examples
    --------
    >>> import numpy as np
    >>> import opuproj
    >>> x = np.random.default_rng(0).standard_normal((3, 1000))
    >>> batch = opuproj.encode(x, digits=5)
    >>> batch
    EncodedBatch(shape=(3, 1000), 5 digits of base 3)
    >>> bool((abs(batch.to_numpy() - x).max(axis=1) <= abs(x).max(axis=1) / 242).all())
    True
    """
    rows = digit_rows("x", x, digits=digits, planes=planes, device=_name_of(device))
    with Served(rows) as backend:
        return EncodedBatch._of(backend.encode(rows), rows.shape)


def _name_of(device: Any) -> str | None:
    """Return the name of the device that a user chose, if any, or raise an error that names it."""
    return None if device is None else named(device)[0]


def checked_threshold(threshold: Any, relative: Any, scale: str) -> Threshold:
    """Return the threshold that the arguments of :func:`ternarize` define; an error names the wrong argument."""
    if (threshold is None) == (relative is None):
        given = "neither" if threshold is None else "both"
        raise TypeError(f"ternarize takes either threshold or relative, but got {given}")
    if scale not in ("row", "global"):
        raise ValueError(f"scale is {scale!r}, but must be 'row' or 'global'")
    name, value = ("relative", relative) if threshold is None else ("threshold", threshold)
    try:
        if isinstance(value, (str, bytes, bool, np.bool_)):  # float() would accept these
            raise TypeError
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {value!r}, but must be a number") from None
    if threshold is None:
        if not 0 <= number < 1:
            raise ValueError(f"relative is {number}, but must be at least 0 and less than 1")
        return Threshold(None, relative)
    if not 0 <= number < math.inf:
        raise ValueError(f"threshold is {number}, but must be finite and not negative")
    return Threshold(number, None)
