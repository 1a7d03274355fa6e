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
        # NumPy takes bfloat16 as float32.
        self.own_dtype = dtype
        self._namespace = foreign.__array_namespace__() if hasattr(type(foreign), "__array_namespace__") else None
        self._device = getattr(foreign, "device", None)

    def in_precision(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.own_dtype == self.array.dtype:
            return super().in_precision(values)
        return values.astype(self.own_dtype).astype(np.float64)

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
    """Return whether an array of another library is in the memory of one NVIDIA GPU."""
    kind = type(x)
    if hasattr(kind, "__dlpack_device__"):
        try:
            return int(x.__dlpack_device__()[0]) in (_CUDA, _CUDA_MANAGED)
        except (BufferError, RuntimeError, TypeError, ValueError):  # such as JAX's arrays on several devices
            return False
    return hasattr(kind, "__cuda_array_interface__")


def gpu_tensor(name: str, x: Any, *, written: bool = False) -> Any:
    """Return a torch tensor that shares the memory of an array on a GPU, or None if torch is missing or has no CUDA.

    A tensor has no negative strides, so an array with some is copied on its GPU, unless it will be written.
    """
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    try:
        return _shared_tensor(torch, x if written or not _is_reversed(x) else x.copy())
    except (AttributeError, BufferError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise TypeError(
            f"{name} is a {type(x).__name__} of {_library(x)} on a GPU, which torch cannot read ({error}): it must be "
            "writable, with a dtype and strides that torch has"
        ) from error


def _is_reversed(x: Any) -> bool:
    """Return whether an array has negative strides. JAX has none, and no interface for each dtype."""
    if is_jax(x) or not hasattr(type(x), "__cuda_array_interface__"):
        return False
    return any(stride < 0 for stride in x.__cuda_array_interface__.get("strides") or ())


def _shared_tensor(torch: Any, x: Any) -> Any:
    if hasattr(type(x), "__dlpack__") and int(x.__dlpack_device__()[0]) == _CUDA:
        return torch.from_dlpack(x)
    # torch does not read managed memory by DLPack.
    device = _number(torch, x)
    torch.cuda.synchronize(device)  # this interface need not say which stream writes the array
    return _by_interface(torch, x, device)


def _by_interface(torch: Any, x: Any, device: int) -> Any:
    """Return a tensor on a GPU that shares the memory of x if it is there, else a copy of x."""
    # With a number in `device`, some versions of torch would not ask CUDA where the memory is.
    with torch.cuda.device(device):
        return torch.as_tensor(x, device="cuda")


class _Byte:
    """A byte in the memory of a GPU."""

    def __init__(self, address: int) -> None:
        self.__cuda_array_interface__ = {"shape": (1,), "typestr": "|u1", "data": (address, False), "version": 2}


def _device_of(torch: Any, address: int) -> int:
    """Return the number of the GPU that holds an address, which the interface does not say."""
    current = torch.cuda.current_device()
    for device in sorted(range(torch.cuda.device_count()), key=lambda device: bool(device != current)):
        if _by_interface(torch, _Byte(address), device).data_ptr() == address:
            return device
    raise TypeError("no GPU holds its memory")


def result_wrapper(x: Any) -> Callable[[Any], Any]:
    """Return a function that returns a tensor on a GPU in the library of x, or unchanged if that cannot hold it."""
    if hasattr(type(x), "__array_namespace__"):
        return partial(_in_library, library=x.__array_namespace__())
    name = _library(x)
    return partial(_in_library, library=sys.modules.get("jax.numpy" if name == "jax" else name))


def session(x: Any, device: Any) -> Callable[[], AbstractContextManager[None]]:
    """Return a context for calls that read x: CuPy's stream, or one that waits for the GPU in the end.

    CuPy gives memory back to its pool in the order of its stream, so x must be read on that stream. The streams of
    other libraries are unknown. They may use the memory again as soon as x is gone, so a call must be complete by then.
    """
    return partial(_on_stream_of_cupy if is_cupy(x) else _until_done, device)


def settle(out: Any) -> None:
    """Let the library of `out` read what a call wrote there. Only CuPy tells on which stream it will read."""
    torch = sys.modules.get("torch")
    if torch is None or isinstance(out, (np.ndarray, torch.Tensor)) or not is_on_gpu(out):
        return
    stream = torch.cuda.current_stream(_number(torch, out))
    if not is_cupy(out) or stream.cuda_stream != _address_of_cupy(stream.device.index):
        stream.synchronize()


def _number(torch: Any, x: Any) -> int:
    """Return the number of the GPU that holds an array."""
    if hasattr(type(x), "__dlpack_device__"):
        return int(x.__dlpack_device__()[1])
    address = x.__cuda_array_interface__["data"][0]
    return _device_of(torch, address) if address else int(torch.cuda.current_device())


def is_cupy(x: Any) -> bool:
    """Return whether x is an array of CuPy."""
    return _library(x) == "cupy"


def is_jax(x: Any) -> bool:
    """Return whether x is an array of JAX."""
    return _library(x) == "jax"


def _library(x: Any) -> str:
    """Return the name of the library of an array, also of one whose class is derived from the library's."""
    names = [kind.__module__.partition(".")[0].replace("jaxlib", "jax") for kind in type(x).__mro__]
    return next((name for name in names if name in ("cupy", "jax", "numba")), names[0])


def _in_library(tensor: Any, library: Any) -> Any:
    """Return a tensor as an array of a library that shares its memory; unchanged if the library cannot hold it."""
    if isinstance(tensor, np.ndarray) or library is None:
        return tensor
    try:
        if library.__name__ == "numba":
            return library.cuda.as_cuda_array(tensor)
        wrapped = library.from_dlpack(tensor)
    except (AttributeError, BufferError, KeyError, RuntimeError, TypeError, ValueError):
        return tensor
    # JAX without 64-bit types would silently round.
    return wrapped if str(wrapped.dtype).rpartition(".")[2] == str(tensor.dtype).rpartition(".")[2] else tensor


@contextmanager
def _on_stream_of_cupy(device: Any) -> Iterator[None]:
    import torch

    cupy: Any = sys.modules["cupy"]
    with torch.cuda.device(device), cupy.cuda.Device(device.index):
        before, address = torch.cuda.current_stream(device), _address_of_cupy(device.index)
        # torch takes the address 0 for a request of a new stream.
        stream = torch.cuda.ExternalStream(address, device) if address else torch.cuda.default_stream(device)
        with torch.cuda.stream(stream):
            apart = stream != before and not torch.cuda.is_current_stream_capturing()
            if apart:  # out= may be a tensor, which torch's own stream has used
                stream.wait_stream(before)
            try:
                yield
            finally:
                if apart:
                    before.wait_stream(stream)


def _address_of_cupy(device: int) -> int:
    """Return the address of CuPy's current stream on a GPU: 0 for CUDA's default stream, which has two names."""
    cupy: Any = sys.modules["cupy"]
    with cupy.cuda.Device(device):
        address = int(cupy.cuda.get_current_stream().ptr)
    return 0 if address == 1 else address


@contextmanager
def _until_done(device: Any) -> Iterator[None]:
    import torch

    try:
        yield
    finally:
        torch.cuda.current_stream(device).synchronize()
