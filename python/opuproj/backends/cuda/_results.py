"""The tensor that receives results on the GPU: a new one, or the one that the user passes as out=."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from ...inputs import foreign
from ...inputs.rows import Rows
from ...inputs.tensors import captured
from ..cpu import results as cpu_results


class Result:
    """Results of shape (n, k) in a tensor on the GPU, or in the CPU's memory, to which ranges of outputs are copied."""

    def __init__(self, given: Any, device: torch.Tensor | None, host: Any, dtype: torch.dtype) -> None:
        self.given, self._device, self._host, self._dtype = given, device, host, dtype

    @contextmanager
    def part(self, vectors: tuple[int, int], outputs: tuple[int, int]) -> Iterator[torch.Tensor]:
        """Give a tensor on the GPU for ranges (start, stop) of the vectors and of the outputs."""
        v, k = slice(*vectors), slice(*outputs)
        if self._device is not None:
            yield self._device[v, k]
            return
        host, where = self._host
        part = torch.empty((vectors[1] - vectors[0], outputs[1] - outputs[0]), dtype=self._dtype, device=where)
        yield part
        host[v, k] = part.cpu().numpy()


def result_for(shape: tuple[int, ...], dtype: np.dtype[Any], out: Any, x: torch.Tensor) -> Result:
    """Return the result of this shape, or raise before any work starts."""
    wanted: torch.dtype = getattr(torch, dtype.name)
    n = math.prod(shape[:-1])
    if out is None:
        new = torch.empty(shape, dtype=wanted, device=x.device)
        return Result(new, new.view(n, shape[-1]), None, wanted)
    shared = _shared(out)
    if isinstance(shared, torch.Tensor) and _on_gpu(shared):
        return Result(out, _device_view(shared, shape, wanted, x), None, wanted)
    if captured(x.device):
        raise RuntimeError(
            "out is in the memory of the host, to which a CUDA graph cannot copy results part by part: "
            "pass a tensor on the GPU, or no out"
        )
    array = cpu_results.allocated(shape, dtype, out, Rows("x", (0, 1)))
    return Result(out, None, (cpu_results.rows_of(array), x.device), wanted)


def _on_gpu(tensor: torch.Tensor) -> bool:
    return bool(tensor.device.type != "cpu")


def _shared(out: Any) -> Any:
    """Return a tensor that shares the memory of another library's array on a GPU; other objects unchanged."""
    if isinstance(out, (torch.Tensor, np.ndarray)) or not foreign.is_on_gpu(out):
        return out
    if foreign.is_jax(out):
        raise TypeError("out is a JAX array, which cannot be changed: leave out away, and use the result")
    return foreign.gpu_tensor("out", out, written=True)


def _device_view(out: torch.Tensor, shape: tuple[int, ...], dtype: torch.dtype, x: torch.Tensor) -> torch.Tensor:
    """Return the tensor of `out=` as (n, k); an error names what is wrong with it."""
    if out.device != x.device:
        raise ValueError(f"out is on the device {out.device}, but must be on that of x, {x.device}, or on the CPU")
    if tuple(out.shape) != shape:
        raise ValueError(f"out has shape {tuple(out.shape)}, but must have shape {shape}")
    if out.dtype != dtype:
        raise ValueError(f"out has dtype {out.dtype}, but must have dtype {dtype}")
    if out.requires_grad:
        raise ValueError("out requires grad, but results written in place have no gradient; pass out.detach()")
    if out.is_conj() or out.is_neg():
        raise ValueError("out is a conjugated or negated view, but must store its numbers directly")
    if out.untyped_storage().data_ptr() == x.untyped_storage().data_ptr() and _overlap(out, x):
        raise ValueError("out and x share memory, but results must not overwrite the vectors that they come from")
    k = shape[-1]
    try:
        flat = out.view(math.prod(shape[:-1]), k)
    except RuntimeError:
        flat = None
    if flat is None or (k > 1 and flat.stride(1) != 1) or (len(flat) > 1 and flat.stride(0) < k):
        raise ValueError(
            f"out has strides {out.stride()}, but each of its vectors must be contiguous, and they must be evenly "
            "spaced in memory, as in out=y[:, a:b]"
        )
    return flat


def _overlap(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Return whether the memory between the first and the last element of two tensors of one storage overlaps."""

    def span(t: torch.Tensor) -> tuple[int, int]:
        start = t.storage_offset() * t.element_size()
        last = sum((size - 1) * stride for size, stride in zip(t.shape, t.stride(), strict=True)) if t.numel() else -1
        return start, start + (last + 1) * t.element_size()

    (a0, a1), (b0, b1) = span(a), span(b)
    return a0 < b1 and b0 < a1
