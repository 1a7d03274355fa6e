"""The output array: a new one, or the one that the user passes as out=."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import _memory, _overlap
from ...inputs.rows import Rows

_ADVICE = "ask for fewer outputs at a time with rows=, or pass a memory-mapped array (np.memmap) as out="


def allocated(shape: tuple[int, ...], dtype: np.dtype[Any], out: Any, rows: Rows) -> NDArray[Any]:
    """Return the array that receives the results, or raise before any work starts."""
    if out is None:
        return _memory.allocate("an output", shape, dtype, _ADVICE)
    return _given(out, shape, dtype, rows)


def _given(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], rows: Rows) -> NDArray[Any]:
    """Return the NumPy array that shares memory with `out`; an error names what is wrong with `out`.

    It must not share memory with the `rows` from which results are computed.
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(out, torch.Tensor):
        if out.device.type != "cpu" or out.layout != torch.strided:
            raise ValueError(f"out is a {out.layout} tensor on {out.device}, but must be a dense tensor on the CPU")
        if out.requires_grad:
            raise ValueError("out requires grad, but results written in place have no gradient; pass out.detach()")
        if out.dtype in (torch.bfloat16, torch.complex32):  # NumPy lacks both
            raise ValueError(f"out has dtype {out.dtype}, but must have dtype {dtype}")
        if out.is_conj() or out.is_neg():  # NumPy lacks such views
            raise ValueError("out is a conjugated or negated view, but must store its numbers directly")
        array: NDArray[Any] = out.numpy()
    elif isinstance(out, np.ndarray) and not isinstance(out, np.ma.MaskedArray):
        array = out
    else:
        raise TypeError(f"out is a {type(out).__name__}, but must be a NumPy array or a torch tensor on the CPU")
    if array.shape != shape:
        raise ValueError(f"out has shape {array.shape}, but must have shape {shape}")
    if array.dtype != dtype:
        raise ValueError(f"out has dtype {array.dtype}, but must have dtype {dtype}")
    if not array.flags.writeable:
        raise ValueError("out is read-only, but must be writable")
    _overlap.refuse(rows.name, rows.memory(), array)
    return array


def rows_of(out: NDArray[Any]) -> NDArray[Any]:
    """Return an array of shape (..., k) as a view of shape (n, k); raise ValueError if no such view exists."""
    k = out.shape[-1]
    n = math.prod(out.shape[:-1])
    if not out.flags.c_contiguous:
        axes = [(size, stride) for size, stride in zip(out.shape[:-1], out.strides[:-1], strict=True) if size > 1]
        even = all(axes[i][1] == axes[i + 1][0] * axes[i + 1][1] for i in range(len(axes) - 1))
        apart = not axes or axes[-1][1] >= k * out.itemsize
        if not (even and apart and (k < 2 or out.strides[-1] == out.itemsize) and out.flags.aligned):
            raise ValueError(
                f"out has strides {out.strides}, but each of its vectors must be contiguous, and they must be evenly "
                "spaced in memory, as in out=y[:, a:b]"
            )
    return out.reshape(n, k)
