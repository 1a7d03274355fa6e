"""Returns a projection's x as rows: ternary numbers, real numbers in digits, or real numbers as float32."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _check, _memory
from .._check import Ensemble
from ..encoded import BINARY_BASE, MAX_DIGITS, MAX_PLANES, TERNARY_BASE, EncodedBatch
from ..ternary import TernaryBatch
from .arrays import array_rows
from .rows import ArrayRows, DigitRows, FloatRows, PackedRows, Rows
from .sparse import SparseRows

_ADVICE = "use opuproj.ternarize, or digits=, for other values"
_STRUCTURED = "ensemble is 'structured', which uses real numbers without digits"


def vectors(x: Any, digits: int | None, ensemble: Ensemble, advice: str = _ADVICE) -> Rows:
    """Return `x` as rows for an operator; `advice` ends the error about a value that is not ternary."""
    if ensemble == "structured":
        return _for_transforms("x", x, digits)
    if isinstance(x, EncodedBatch):
        if digits is not None:
            raise ValueError(f"digits is {digits!r}, but x is encoded already")
        return PackedRows("x", x._packed, x.shape)
    if digits is not None:
        return digit_rows("x", x, digits=digits)
    if isinstance(x, TernaryBatch):
        return PackedRows("x", x._packed, x.shape)
    rows = array_rows("x", x)
    rows.advice = advice
    return rows


def digit_rows(name: str, x: Any, *, digits: int | None = None, planes: int | None = None) -> DigitRows:
    """Return real numbers as rows that a backend rounds to digits of base 3, or to planes of base 2."""
    if digits is not None and planes is not None:
        raise TypeError(f"encode takes either digits or planes, but got digits={digits!r} and planes={planes!r}")
    if planes is not None:
        base, n_digits = BINARY_BASE, _check.integer("planes", planes, 1, MAX_PLANES)
    else:
        base, n_digits = TERNARY_BASE, _check.integer("digits", 5 if digits is None else digits, 1, MAX_DIGITS)
    if isinstance(x, (TernaryBatch, EncodedBatch)):
        raise TypeError(f"{name} is a {type(x).__name__}, but must hold real numbers")
    return DigitRows(array_rows(name, x), base, n_digits)


def _for_transforms(name: str, x: Any, digits: int | None) -> Rows:
    """Return `x` as ternary rows if its dtype and values show that it is ternary, else as rows of float32."""
    if digits is not None:
        raise ValueError(f"digits is {digits!r}, but {_STRUCTURED}: omit digits=")
    if isinstance(x, EncodedBatch):
        raise TypeError(f"{name} is an EncodedBatch, but {_STRUCTURED}: pass the original numbers")
    if isinstance(x, TernaryBatch):
        return PackedRows(name, x._packed, x.shape)
    rows = array_rows(name, x)
    return rows if _is_ternary(rows) else FloatRows(rows)


def _is_ternary(rows: ArrayRows) -> bool:
    """Return whether these are integers (or a sparse matrix of any dtype), and all of them -1, 0 or 1."""
    if isinstance(rows, SparseRows):
        data = rows.canonical().data
        return bool(((data == 0) | (data == 1) | (data == -1)).all()) if data.dtype.kind != "b" else True
    if rows.floating:
        return False
    small = (piece[part] for piece in map(rows.to_numpy, rows.pieces()) for part in _memory.parts(*np.shape(piece)))
    return all(int(part.min()) >= -1 and int(part.max()) <= 1 for part in small)
