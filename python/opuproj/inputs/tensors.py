"""The rows of dense torch tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .. import _overlap
from . import foreign
from .rows import ArrayRows, PlaneRows


class TensorRows(ArrayRows):
    """Rows of a dense torch tensor, on any device."""

    def __init__(self, name: str, array: torch.Tensor) -> None:
        super().__init__(name, array.detach())
        self.device = array.device.type

    def memory(self) -> tuple[NDArray[Any], ...]:
        x = self.array
        if x.device.type != "cpu" or x.numel() == 0:
            return ()
        size = x.element_size()  # not x.numpy(), which does not support all dtypes
        return (_overlap.array_at(x.data_ptr(), tuple(x.shape), tuple(size * step for step in x.stride()), size),)

    @property
    def floating(self) -> bool:
        return bool(self.array.dtype.is_floating_point)

    def to_numpy(self, piece: Any) -> NDArray[Any]:
        if self.device != "cpu" or self.array.device.type != "cpu":  # a user may choose to compute on the CPU
            self._refuse_capture()
        if piece.dtype.is_floating_point and piece.element_size() <= 2:
            piece = piece.to(torch.float32)  # NumPy lacks bfloat16
        if piece.dtype == torch.complex32:
            piece = piece.to(torch.complex64)
        array: NDArray[Any] = piece.cpu().contiguous().resolve_conj().resolve_neg().numpy()
        return array

    def in_precision(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        if not self.array.dtype.is_floating_point:
            return values
        rounded: NDArray[np.float64] = torch.from_numpy(values).to(self.array.dtype).to(torch.float64).numpy()
        return rounded

    def _refuse_capture(self) -> None:
        """Raise RuntimeError if a CUDA graph is captured, where a copy to the host would make CUDA fail."""
        if captured(self.array.device):
            raise RuntimeError(
                f"{self.name} is a CUDA tensor, but this call is computed on the CPU, which a CUDA graph cannot "
                "capture: call it outside of the graph (opuproj.show_config() says whether the GPU can be used)"
            )

    def wrap(self, result: Any) -> Any:
        if isinstance(result, torch.Tensor):  # from a backend that computes with tensors
            return result
        return torch.from_numpy(result).to(self.array.device)


class DeviceRows(TensorRows, PlaneRows):
    """Rows of a tensor that is not on the CPU. For the CPU backend, its own device packs them, 2 bits an element."""

    def __init__(self, name: str, array: torch.Tensor) -> None:
        super().__init__(name, array)
        # The user's own object: while it exists, an error that is found later can show the bad value.
        self.given = array

    def planes(self, start: int, stop: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        self._refuse_capture()
        rows = self._some(start, stop)
        positive = rows == 1
        negative = rows == -1 if rows.dtype.is_signed else torch.zeros_like(positive)
        wrong = ~(positive | negative | (rows == 0))
        if bool(wrong.any()):
            row, column = torch.nonzero(wrong)[0].tolist()
            self.refuse(start + row, column, rows[row, column].item())
        return _bits(positive), _bits(negative)

    def planes_above(self, thresholds: NDArray[np.float64]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        self._refuse_capture()
        rows = self._some(0, self.n_rows)
        t = torch.from_numpy(thresholds)[:, None]
        narrow = t.to(torch.float32)
        if bool((narrow == t).all()):  # some devices have no float64
            t = narrow
        t = t.to(rows.device)
        return _bits(rows > t), _bits(rows < -t)

    def _some(self, start: int, stop: int) -> torch.Tensor:
        return self.array.reshape(self.n_rows, self.n_inputs)[start:stop]


class SentRows(DeviceRows):
    """Rows of a tensor that was copied to a device for one call; results return to where the numbers came from."""

    sent = True

    def __init__(self, rows: ArrayRows, array: torch.Tensor, device: str, back: Callable[[Any], Any]) -> None:
        super().__init__(rows.name, array)
        self.advice, self.device, self._back = rows.advice, device, back

    def wrap(self, result: Any) -> Any:
        return self._back(result)

    def result_wrapper(self) -> Callable[[Any], Any]:
        return self._back


class SharedRows(DeviceRows):
    """Rows of another library's array on a GPU, as a tensor that shares its memory; results return to that library."""

    def __init__(self, name: str, array: torch.Tensor, x: Any) -> None:
        super().__init__(name, array)
        if foreign.is_cupy(x):
            self.given = x
        else:  # the session waits for the GPU, so the call can raise its own errors
            self.sent = True
        self._back, self.session = foreign.result_wrapper(x), foreign.session(x, array.device)

    def wrap(self, result: Any) -> Any:
        return self._back(super().wrap(result))

    def result_wrapper(self) -> Callable[[Any], Any]:
        return self._back


def copied(array: torch.Tensor, device: str) -> torch.Tensor:
    """Return a copy of a tensor on a GPU, or raise RuntimeError if there is no such GPU."""
    index, count = torch.device(device).index, torch.cuda.device_count()
    if index is not None and index >= count:
        raise RuntimeError(f"there is no {device}: this process has {count} GPU{'s' if count != 1 else ''}")
    return array.to(device)


def _bits(plane: torch.Tensor) -> NDArray[np.uint8]:
    """Pack booleans of shape (n, k) to bytes of shape (n, ceil(k / 8)), the first into the lowest bit."""
    n, k = plane.shape
    padded = torch.nn.functional.pad(plane.to(torch.uint8), (0, -k % 8)).reshape(n, -(-k // 8), 8)
    weights = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8, device=plane.device)
    packed: NDArray[np.uint8] = (padded * weights).sum(dim=2, dtype=torch.uint8).cpu().numpy()
    return packed


def captured(device: torch.device) -> bool:
    """Return whether the current stream of a device is captured into a CUDA graph, so that nothing may wait for it."""
    if device.type != "cuda":
        return False
    if device.index is None or device.index == torch.cuda.current_device():
        return bool(torch.cuda.is_current_stream_capturing())
    with torch.cuda.device(device):
        return bool(torch.cuda.is_current_stream_capturing())


def tensor_rows(name: str, x: torch.Tensor) -> TensorRows:
    """Return the rows of a tensor, in the class for its device."""
    return TensorRows(name, x) if x.device.type == "cpu" else DeviceRows(name, x)
