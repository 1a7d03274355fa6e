"""Finds the library of an input, and checks that it holds vectors of numbers.

The module does not import torch or SciPy by itself: an object of theirs exists only if the program has imported them
already. It recognises other libraries by the array API standard or by DLPack.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from .. import _check, _memory
from .._check import Ensemble
from ..encoded import BINARY_BASE, MAX_DIGITS, MAX_PLANES, TERNARY_BASE, EncodedBatch
from ..ternary import TernaryBatch
from .devices import on_device, packed_rows
from .foreign import ForeignRows, gpu_tensor, is_on_gpu, on_host
from .rows import ArrayRows, DigitRows, FloatRows, PlaneRows, Rows
from .sparse import SparseRows

_ADVICE = "use opuproj.ternarize, or digits=, for other values"
_STRUCTURED = "ensemble is 'structured', which uses real numbers without digits"


def vectors(x: Any, digits: int | None, ensemble: Ensemble, advice: str = _ADVICE, device: str | None = None) -> Rows:
    """Return `x` as rows for an operator, on a device if one is named.

    `advice` ends the error about a value that is not ternary.
    """
    if ensemble == "structured":
        return _for_transforms("x", x, digits, device)
    if isinstance(x, EncodedBatch):
        if digits is not None:
            raise ValueError(f"digits is {digits!r}, but x is encoded already")
        return packed_rows("x", x, device)
    if digits is not None:
        return digit_rows("x", x, digits=digits, device=device)
    if isinstance(x, TernaryBatch):
        return packed_rows("x", x, device)
    rows = array_rows("x", x, device=device)
    rows.advice = advice
    return rows


def digit_rows(
    name: str, x: Any, *, digits: int | None = None, planes: int | None = None, device: str | None = None
) -> DigitRows:
    """Return real numbers as rows that a backend rounds to digits of base 3, or to planes of base 2."""
    if digits is not None and planes is not None:
        raise TypeError(f"encode takes either digits or planes, but got digits={digits!r} and planes={planes!r}")
    if planes is not None:
        base, n_digits = BINARY_BASE, _check.integer("planes", planes, 1, MAX_PLANES)
    else:
        base, n_digits = TERNARY_BASE, _check.integer("digits", 5 if digits is None else digits, 1, MAX_DIGITS)
    if isinstance(x, (TernaryBatch, EncodedBatch)):
        raise TypeError(f"{name} is a {type(x).__name__}, but must hold real numbers")
    return DigitRows(array_rows(name, x, device=device), base, n_digits)


def _for_transforms(name: str, x: Any, digits: int | None, device: str | None) -> Rows:
    """Return `x` as ternary rows if its dtype and values show that it is ternary, else as rows of float32.

    The values of a tensor on another device are not read here, because that would wait for the device.
    """
    if digits is not None:
        raise ValueError(f"digits is {digits!r}, but {_STRUCTURED}: omit digits=")
    if isinstance(x, EncodedBatch):
        raise TypeError(f"{name} is an EncodedBatch, but {_STRUCTURED}: pass the original numbers")
    if isinstance(x, TernaryBatch):
        return packed_rows(name, x, device)
    rows = array_rows(name, x, device=device)
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


def array_rows(
    name: str, x: Any, *, complex_too: bool = False, fewest: int = 1, device: str | None = None
) -> ArrayRows:
    """Return `x` as rows, on a device if one is named; raise TypeError or ValueError if it does not hold vectors.

    `fewest` is the smallest length of a vector: 0 only if the caller handles empty vectors, which cannot be packed.
    """
    rows = _rows_of(name, x, complex_too, fewest)
    return rows if device is None else on_device(rows, device)


def _rows_of(name: str, x: Any, complex_too: bool, fewest: int) -> ArrayRows:
    if type(x) is not np.ndarray:
        torch, sparse = sys.modules.get("torch"), sys.modules.get("scipy.sparse")
        if torch is not None and isinstance(x, torch.Tensor):
            return _from_torch(name, x, complex_too, fewest)
        if sparse is not None and sparse.issparse(x):
            check_array(name, x, complex_too, fewest)
            return SparseRows(name, x)
        if isinstance(x, np.ma.MaskedArray):
            raise TypeError(f"{name} is a masked array; choose values for the masked elements, as in {name}.filled(0)")
        on_gpu = not isinstance(x, np.ndarray) and is_on_gpu(x)
        if on_gpu or (not isinstance(x, np.ndarray) and hasattr(type(x), "__dlpack__")):
            tensor = gpu_tensor(name, x) if on_gpu else None
            if tensor is not None:
                _check_tensor(name, tensor, complex_too, fewest)
                return _of_gpu(name, tensor, x)
            array = on_host(name, x)
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
    from .tensors import tensor_rows

    _check_tensor(name, x, complex_too, fewest)
    return tensor_rows(name, x)


def _of_gpu(name: str, tensor: Any, x: Any) -> ArrayRows:
    from .tensors import SharedRows

    return SharedRows(name, tensor, x)


def _check_tensor(name: str, x: Any, complex_too: bool, fewest: int) -> None:
    import torch

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
