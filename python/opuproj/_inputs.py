"""What a user passes as x or e: which library it comes from, and whether it holds vectors of numbers.

Neither torch nor SciPy is imported here: an object of theirs can only exist if somebody else has imported them. Other
libraries are known by what the array API standard says of their arrays, or by DLPack.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._rows import ForeignSource, Source, TorchSource
from ._sparse import SparseSource


def source(name: str, x: Any, *, complex_too: bool = False, fewest: int = 1) -> Source:
    """Return `x` as a Source, or raise TypeError or ValueError naming it if it holds no vectors of numbers.

    Vectors of no numbers have no rows to be packed: `fewest` is 0 only where the caller sees to them.
    """
    if type(x) is not np.ndarray:
        torch, sparse = sys.modules.get("torch"), sys.modules.get("scipy.sparse")
        if torch is not None and isinstance(x, torch.Tensor):
            return _from_torch(name, x, complex_too, fewest)
        if sparse is not None and sparse.issparse(x):
            check_array(name, x, complex_too, fewest)
            return SparseSource(name, x)
        if isinstance(x, np.ma.MaskedArray):
            raise TypeError(f"{name} is a masked array; say what masked elements are, as in {name}.filled(0)")
        if hasattr(type(x), "__dlpack__") and not isinstance(x, np.ndarray):
            array = _on_host(name, x)
            # NumPy counts the bfloat16 of other libraries as no number.
            plain = array.astype(np.float32) if array.dtype.name == "bfloat16" else array
            check_array(name, plain, complex_too, fewest)
            return ForeignSource(name, plain, x, array.dtype)
        try:
            x = np.asarray(x)
        except ValueError as error:
            raise ValueError(f"{name} cannot be made into an array: {error}") from None
    check_array(name, x, complex_too, fewest)
    return Source(name, x)


def check_array(name: str, x: Any, complex_too: bool = False, fewest: int = 1) -> None:
    """Refuse an array, of any library with NumPy's dtypes, that holds no vectors of numbers."""
    if x.dtype.kind not in ("biufc" if complex_too else "biuf"):
        raise TypeError(_wrong_dtype(name, x, complex_too))
    check_shape(name, x.shape, fewest)


def _wrong_dtype(name: str, x: Any, complex_too: bool) -> str:
    floats = "floating-point numbers, real or complex" if complex_too else "real floating-point numbers"
    return f"{name} has dtype {x.dtype}, but must hold integers, booleans or {floats}"


def _on_host(name: str, x: Any) -> NDArray[Any]:
    """Return an array that speaks DLPack as one of NumPy: the same memory if that is the CPU's, a copy otherwise."""
    errors = []
    # NumPy before 2.1 knows no device=, and some libraries say more by an array interface than by DLPack.
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


def _from_torch(name: str, x: Any, complex_too: bool, fewest: int) -> Source:
    import torch

    if x.layout != torch.strided:
        raise TypeError(
            f"{name} is a torch tensor of layout {x.layout}, but must be strided: make a scipy.sparse matrix of its "
            f"indices and values, which stays sparse, or pass {name}.to_dense() if that fits into memory"
        )
    if x.is_meta:
        raise TypeError(f"{name} is a torch tensor on the device 'meta', which holds no values")
    check_shape(name, tuple(x.shape), fewest)
    if (x.is_complex() and not complex_too) or x.is_quantized:
        raise TypeError(_wrong_dtype(name, x, complex_too))
    return TorchSource(name, x.detach())


def check_shape(name: str, shape: tuple[int, ...], fewest: int = 1) -> None:
    if len(shape) == 0:
        raise ValueError(f"{name} is a single number, but must have shape (..., n_inputs)")
    if shape[-1] < fewest:
        raise ValueError(f"{name} has shape {tuple(shape)}, but needs at least one input: its last axis is empty")
