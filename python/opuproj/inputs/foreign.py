"""The rows of arrays of other libraries, which support DLPack or the array interfaces of NumPy and CUDA."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .rows import ArrayRows

# Types of devices in DLPack: CUDA, and CUDA's managed memory.
_CUDA, _CUDA_MANAGED = 2, 13


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

    def result_wrapper(self) -> Callable[[Any], Any]:
        return partial(_in_namespace, namespace=self._namespace, device=self._device)

    def wrap(self, result: NDArray[Any]) -> Any:
        return _in_namespace(result, self._namespace, self._device)


def _in_namespace(result: Any, namespace: Any, device: Any) -> Any:
    """Return a result as an array of an array library, or as a NumPy array if the library cannot hold it."""
    array: NDArray[Any] = result if isinstance(result, np.ndarray) else result.cpu().numpy()
    if namespace is None:
        return array
    # Some libraries lack complex numbers or double precision. JAX would silently round.
    try:
        wrapped = namespace.asarray(array, device=device)
    except (RuntimeError, TypeError, ValueError):
        return array
    return wrapped if str(wrapped.dtype).rpartition(".")[2] == array.dtype.name else array


def on_host(name: str, x: Any) -> NDArray[Any]:
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


# Arrays in the memory of a GPU


def is_on_gpu(x: Any) -> bool:
    """Return whether an array of another library is in the memory of an NVIDIA GPU."""
    kind = type(x)
    if hasattr(kind, "__dlpack_device__"):
        return int(x.__dlpack_device__()[0]) in (_CUDA, _CUDA_MANAGED)
    return hasattr(kind, "__cuda_array_interface__")


def gpu_tensor(x: Any) -> Any:
    """Return a torch tensor that shares the memory of an array on a GPU, or None if torch is missing or has no CUDA."""
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    if hasattr(type(x), "__dlpack__"):
        return torch.from_dlpack(x)
    torch.cuda.synchronize()  # this interface does not say which stream writes the array
    return torch.as_tensor(x, device="cuda")


def result_wrapper(x: Any) -> Callable[[Any], Any]:
    """Return a function that returns a tensor on a GPU in the library of x, or unchanged if that cannot hold it."""
    if hasattr(type(x), "__array_namespace__"):
        return partial(_shared, library=x.__array_namespace__())
    return partial(_shared, library=sys.modules.get(_library(x)))


def session(x: Any, device: Any) -> Callable[[], AbstractContextManager[None]]:
    """Return a context for calls that read x: CuPy's stream, or one that waits for the GPU in the end.

    CuPy gives memory back to its pool in the order of its stream, so x must be read on that stream. The streams of
    other libraries are unknown. They may use the memory again as soon as x is gone, so a call must be complete by then.
    """
    if _library(x) == "cupy":
        return partial(_on_stream_of_cupy, device)
    return partial(_until_done, device)


def _library(x: Any) -> str:
    return type(x).__module__.partition(".")[0]


def _shared(tensor: Any, library: Any) -> Any:
    """Return a tensor as an array of a library that shares its memory."""
    if isinstance(tensor, np.ndarray) or library is None:
        return tensor
    if library.__name__ == "numba":
        return library.cuda.as_cuda_array(tensor)
    try:
        wrapped = library.from_dlpack(tensor)
    except (AttributeError, BufferError, RuntimeError, TypeError, ValueError):
        return tensor
    # JAX without 64-bit types would silently round.
    return wrapped if str(wrapped.dtype).rpartition(".")[2] == str(tensor.dtype).rpartition(".")[2] else tensor


@contextmanager
def _on_stream_of_cupy(device: Any) -> Iterator[None]:
    import torch

    cupy: Any = sys.modules["cupy"]
    with torch.cuda.device(device), cupy.cuda.Device(device.index):
        stream = torch.cuda.ExternalStream(cupy.cuda.get_current_stream().ptr, device)
        with torch.cuda.stream(stream):
            yield


@contextmanager
def _until_done(device: Any) -> Iterator[None]:
    import torch

    try:
        yield
    finally:
        torch.cuda.current_stream(device).synchronize()
