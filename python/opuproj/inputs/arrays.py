"""Finds the library of an input, and checks that it holds vectors of numbers.

The module does not import torch or SciPy by itself: an object of theirs exists only if the program has imported them
already. It recognises other libraries by the array API standard or by DLPack.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _check, _memory
from .._check import Ensemble
from ..encoded import BINARY_BASE, MAX_DIGITS, MAX_PLANES, TERNARY_BASE, EncodedBatch
from ..ternary import TernaryBatch
from .rows import ArrayRows, DigitRows, FloatRows, PackedRows, PlaneRows, Rows
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
    """Return `x` as ternary rows if its dtype and values show that it is ternary, else as rows of float32.

    The values of a tensor on another device are not read here, because that would wait for the device.
    """
    if digits is not None:
        raise ValueError(f"digits is {digits!r}, but {_STRUCTURED}: omit digits=")
    if isinstance(x, EncodedBatch):
        raise TypeError(f"{name} is an EncodedBatch, but {_STRUCTURED}: pass the original numbers")
    if isinstance(x, TernaryBatch):
        return PackedRows(name, x._packed, x.shape)
    rows = array_rows(name, x)
    return rows if not isinstance(rows, PlaneRows) and _is_ternary(rows) else FloatRows(rows)


def _is_ternary(rows: ArrayRows) -> bool:
    """Return whether these are integers (or a sparse matrix of any dtype), and all of them -1, 0 or 1."""
    if isinstance(rows, SparseRows):
        data = rows.canonical().data
        return bool(((data == 0) | (data == 1) | (data == -1)).all()) if data.dtype.kind != "b" else True
    if rows.floating:
        return False
    small = (piece[part] for piece in map(rows.to_numpy, rows.pieces()) for part in _memory.parts(*np.shape(piece)))
    return all(int(part.min()) >= -1 and int(part.max()) <= 1 for part in small)


def array_rows(name: str, x: Any, *, complex_too: bool = False, fewest: int = 1) -> ArrayRows:
    """Return `x` as rows; raise TypeError or ValueError, with its name, if it does not hold vectors of numbers.

    `fewest` is the smallest length of a vector: 0 only if the caller handles empty vectors, which cannot be packed.
    """
    if type(x) is not np.ndarray:
        torch, sparse = sys.modules.get("torch"), sys.modules.get("scipy.sparse")
        if torch is not None and isinstance(x, torch.Tensor):
            return _from_torch(name, x, complex_too, fewest)
        if sparse is not None and sparse.issparse(x):
            check_array(name, x, complex_too, fewest)
            return SparseRows(name, x)
        if isinstance(x, np.ma.MaskedArray):
            raise TypeError(f"{name} is a masked array; choose values for the masked elements, as in {name}.filled(0)")
        if hasattr(type(x), "__dlpack__") and not isinstance(x, np.ndarray):
            array = _on_host(name, x)
            # NumPy does not treat the bfloat16 of other libraries as a number.
            plain = array.astype(np.float32) if array.dtype.name == "bfloat16" else array
            check_array(name, plain, complex_too, fewest)
            return ForeignRows(name, plain, x, array.dtype)
        try:
            x = np.asarray(x)
        except ValueError as error:
            raise ValueError(f"{name} cannot be converted to an array: {error}") from None
    check_array(name, x, complex_too, fewest)
    return ArrayRows(name, x)


def check_array(name: str, x: Any, complex_too: bool = False, fewest: int = 1) -> None:
    """Raise an error if an array, of any library with NumPy's dtypes, does not hold vectors of numbers."""
    if x.dtype.kind not in ("biufc" if complex_too else "biuf"):
        raise TypeError(_wrong_dtype(name, x, complex_too))
    check_shape(name, x.shape, fewest)


def check_shape(name: str, shape: tuple[int, ...], fewest: int = 1) -> None:
    """Raise ValueError if a shape is not the shape of vectors."""
    if len(shape) == 0:
        raise ValueError(f"{name} is a single number, but must have shape (..., n_inputs)")
    if shape[-1] < fewest:
        raise ValueError(f"{name} has shape {tuple(shape)}, but needs at least one input: its last axis is empty")


def _wrong_dtype(name: str, x: Any, complex_too: bool) -> str:
    floats = "floating-point numbers, real or complex" if complex_too else "real floating-point numbers"
    return f"{name} has dtype {x.dtype}, but must hold integers, booleans or {floats}"


def _from_torch(name: str, x: Any, complex_too: bool, fewest: int) -> ArrayRows:
    import torch

    from .tensors import tensor_rows

    if x.layout != torch.strided:
        raise TypeError(
            f"{name} is a torch tensor of layout {x.layout}, but must be strided: pass a scipy.sparse matrix of its "
            f"indices and values, which stays sparse, or {name}.to_dense() if that fits in memory"
        )
    if x.is_meta:
        raise TypeError(f"{name} is a torch tensor on the device 'meta', which holds no values")
    check_shape(name, tuple(x.shape), fewest)
    if (x.is_complex() and not complex_too) or x.is_quantized:
        raise TypeError(_wrong_dtype(name, x, complex_too))
    return tensor_rows(name, x)


class ForeignRows(ArrayRows):
    """Rows of another library's array. NumPy reads the values; results return to that library if possible."""

    def __init__(self, name: str, array: NDArray[Any], foreign: Any, dtype: np.dtype[Any]) -> None:
        super().__init__(name, array)
        self._dtype = dtype
        self._namespace = foreign.__array_namespace__() if hasattr(type(foreign), "__array_namespace__") else None
        self._device = getattr(foreign, "device", None)

    def in_precision(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        if self._dtype == self.array.dtype:
            return super().in_precision(values)
        return values.astype(self._dtype).astype(np.float64)

    def wrap(self, result: NDArray[Any]) -> Any:
        if self._namespace is None:
            return result
        # Some libraries lack complex numbers or double precision. JAX would silently round.
        try:
            wrapped = self._namespace.asarray(result, device=self._device)
        except (RuntimeError, TypeError, ValueError):
            return result
        return wrapped if str(wrapped.dtype).rpartition(".")[2] == result.dtype.name else result


def _on_host(name: str, x: Any) -> NDArray[Any]:
    """Convert an array that supports DLPack to a NumPy array, without a copy if it is in the CPU's memory."""
    errors = []
    # NumPy before 2.1 has no device=. Some libraries support the array interface better than DLPack.
    for convert in (np.from_dlpack, lambda x: np.from_dlpack(x, device="cpu"), np.asarray):
        try:
            array: NDArray[Any] = convert(x)
        except (BufferError, RuntimeError, TypeError, ValueError) as error:
            errors.append(error)
        else:
            return array
    raise TypeError(
        f"{name} is of type {type(x).__name__}, which NumPy cannot read ({errors[0]}): move it to the CPU, and to a "
        "dtype that NumPy has"
    )
