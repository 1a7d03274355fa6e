"""Finds the library of an input, and checks that it holds vectors of numbers.

The module does not import torch or SciPy by itself: an object of theirs exists only if the program has imported them
already. It recognises other libraries by the array API standard or by DLPack.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .rows import ArrayRows
from .sparse import SparseRows


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
