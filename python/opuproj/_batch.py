"""The base class of packed batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NoReturn, TypeVar

from ._device_batch import DeviceBatch, moved

B = TypeVar("B", bound="Batch")


class Batch:
    """An immutable batch of vectors of shape (..., n_inputs), stored by the compiled core or on a device."""

    __slots__ = ("_packed", "_shape")

    _packed: Any
    _shape: tuple[int, ...]
    # Parts of error messages: the class with its article, and the functions that make one.
    _name: ClassVar[str]
    _made_by: ClassVar[str]

    def __init__(self, *args: object, **kwargs: object) -> None:
        raise TypeError(f"make {self._name} with {self._made_by}")

    @classmethod
    def _of(cls: type[B], packed: Any, shape: tuple[int, ...]) -> B:
        batch = object.__new__(cls)
        object.__setattr__(batch, "_packed", packed)
        object.__setattr__(batch, "_shape", shape)
        return batch

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{self._name} is immutable")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the equivalent array: (..., n_inputs)."""
        return self._shape

    @property
    def ndim(self) -> int:
        """The number of axes, at least 1."""
        return len(self._shape)

    @property
    def n_inputs(self) -> int:
        """The length of each vector."""
        return self._shape[-1]

    # Devices

    @property
    def device(self) -> str:
        """Where the batch is stored: ``"cpu"``, or a GPU such as ``"cuda:0"``."""
        return self._packed.device if isinstance(self._packed, DeviceBatch) else "cpu"

    def to(self: B, device: Any) -> B:
        """Return the batch in the memory of a device; the same batch if it is there already.

        Parameters
        ----------
        device : str or torch.device
            ``"cpu"``, ``"cuda"`` (the current GPU, or the batch's own) or one such as ``"cuda:1"``.

        Raises
        ------
        ValueError
            If `device` is not one of these, or if the batch was made on a GPU from a value that is not allowed.
        RuntimeError
            If the GPU cannot be used. The message says why.

        Notes
        -----
        Projections of a batch on a GPU are computed there. They are tensors on that GPU, or arrays of the library from
        which the batch was made.
        """
        packed = moved(self._packed, str(device))
        return self if packed is self._packed else self._of(packed, self._shape)

    def _tensor(self, to_numpy: Callable[[], Any]) -> Any:
        """Return the numbers as a tensor on the batch's device."""
        if isinstance(self._packed, DeviceBatch):
            return self._packed.tensor().reshape(self._shape)
        import torch

        return torch.from_numpy(to_numpy())

    @property
    def _host(self) -> Any:
        """The batch of the compiled core: a copy if the batch is on a device."""
        return moved(self._packed, "cpu")

    def __len__(self) -> int:
        if self.ndim == 1:
            raise TypeError(f"{self._name} of one axis is a single vector: it has no length; see n_inputs")
        return self._shape[0]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        if self._shape != other._shape:
            return False
        mine, others = self._packed, other._packed
        if type(mine) is not type(others):
            mine, others = self._host, other._host
        return bool(mine == others)

    __hash__ = None  # type: ignore[assignment]  # compared by content, as arrays are

    def __copy__(self: B) -> B:
        return self

    def __deepcopy__(self: B, memo: object) -> B:
        return self
