"""What the classes of packed batches need of a batch in the memory of a device."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

# Functions that copy a batch of the compiled core to a device, by the type of the device.
_MOVERS: dict[str, Callable[[Any, str], DeviceBatch]] = {}


# Not an abstract base class, because isinstance() would be slower, which shows in small calls.
class DeviceBatch:
    """A packed batch in the memory of a device, with the methods of one of the compiled core's.

    A method that returns NumPy arrays waits for the device, and raises ValueError if a value was not allowed.
    """

    @property
    def device_type(self) -> str:
        """The type of the device, which selects the backend."""
        raise NotImplementedError

    @property
    def session(self) -> Callable[[], AbstractContextManager[None]] | None:
        """Returns the context in which the batch must be read, or None if any will do."""
        raise NotImplementedError

    @property
    def device(self) -> str:
        """The device's name, such as ``"cuda:0"``."""
        raise NotImplementedError

    def wrap(self, result: Any) -> Any:
        """Return a result in the library of the arrays from which the batch was made."""
        raise NotImplementedError

    def host(self) -> Any:
        """Return a copy of the compiled core's class."""
        raise NotImplementedError

    def nonzeros(self) -> Any:
        """Return the number of nonzeros of each vector as a tensor on the device, which is not waited for."""
        raise NotImplementedError

    def tensor(self) -> Any:
        """Return the numbers as a tensor on the device."""
        raise NotImplementedError


def register_mover(device_type: str, move: Callable[[Any, str], DeviceBatch]) -> None:
    """Register the function that copies a batch of the compiled core to devices of a type."""
    _MOVERS[device_type] = move


def moved(packed: Any, device: str) -> Any:
    """Return a batch on a device such as ``"cpu"`` or ``"cuda:1"``; the same batch if it is there already."""
    kind = device.partition(":")[0]
    if kind == "cpu":
        return packed.host() if isinstance(packed, DeviceBatch) else packed
    if kind not in _MOVERS:
        raise ValueError(f"device is {device!r}, but must be 'cpu', 'cuda' or one such as 'cuda:1'")
    if isinstance(packed, DeviceBatch):
        if device in (packed.device, packed.device_type):
            return packed
        packed = packed.host()
    return _MOVERS[kind](packed, device)
