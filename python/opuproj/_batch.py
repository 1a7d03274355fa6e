"""The base class of packed batches."""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn, TypeVar

B = TypeVar("B", bound="Batch")


class Batch:
    """An immutable batch of vectors of shape (..., n_inputs), stored by the compiled core."""

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

    def __len__(self) -> int:
        if self.ndim == 1:
            raise TypeError(f"{self._name} of one axis is a single vector: it has no length; see n_inputs")
        return self._shape[0]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        return bool(self._shape == other._shape and self._packed == other._packed)

    __hash__ = None  # type: ignore[assignment]  # compared by content, as arrays are

    def __copy__(self: B) -> B:
        return self

    def __deepcopy__(self: B, memo: object) -> B:
        return self
