"""The classes of rows: an input's shape, its numbers in pieces, and the conversion of results to its library."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Generic, NamedTuple, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from .. import _memory
from .._device_batch import DeviceBatch

P = TypeVar("P")

# The operation that an error about NaN or an infinity names.
RELATIVE = "a relative threshold"

_DOUBLE = frozenset(("float64", "complex128", "longdouble", "clongdouble"))


class Rows:
    """The rows of an input of shape (..., n_inputs), called `name` in errors."""

    # The type of the device that holds the numbers, as in torch.
    device = "cpu"
    # Whether a call must not return before the device has checked the numbers, so that it raises their errors.
    sent = False
    # Returns the context in which the numbers must be read, or None if any will do.
    session: Callable[[], AbstractContextManager[None]] | None = None

    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        self.name, self.shape = name, shape
        self.n_inputs = shape[-1]
        self.n_rows: int = math.prod(shape[:-1])

    def wrap(self, result: NDArray[Any]) -> Any:
        """Return a result in the rows' library, on the rows' device."""
        return result

    def result_wrapper(self) -> Callable[[Any], Any]:
        """Return a function that does what `wrap` does, and that does not keep the numbers in memory."""
        return unchanged

    def memory(self) -> tuple[NDArray[Any], ...]:
        """Return arrays that cover all memory that will still be read. They are for comparison only."""
        return ()

    def position(self, row: int, column: int) -> str:
        """Return text such as `x[3, 17]` for a position in the 2-D view of the rows."""
        index = [*np.unravel_index(row, self.shape[:-1]), column] if len(self.shape) > 1 else [column]
        return f"{self.name}[{', '.join(map(str, index))}]"


def unchanged(result: Any) -> Any:
    """Return a result in the library in which it is."""
    return result


# Not an abstract base class, because isinstance() would be slower, which shows in small calls.
class NumberRows(Rows):
    """Rows of numbers, which can be read repeatedly; subclasses define `real_pieces`."""

    def real_pieces(self) -> Iterator[NDArray[Any]]:
        """Yield all rows as 2-D C-contiguous float32 or float64; only longdouble and integers beyond 2**53 are rounded.

        Complex rows, where they are accepted, become complex64 or complex128.
        """
        raise NotImplementedError


class ArrayRows(NumberRows):
    """Rows of a NumPy array of shape (..., n_inputs); subclasses read other kinds of arrays."""

    # The end of the error about a value that is not ternary.
    advice = "use opuproj.ternarize for other values"

    def __init__(self, name: str, array: Any) -> None:
        super().__init__(name, tuple(array.shape))
        self.array = array

    def memory(self) -> tuple[NDArray[Any], ...]:
        return (self.array,)

    @property
    def dtype_name(self) -> str:
        """The name of the dtype of the numbers."""
        return str(self.array.dtype).removeprefix("torch.")

    @property
    def double(self) -> bool:
        """Whether the numbers are of double precision or longer."""
        return self.dtype_name in _DOUBLE

    @property
    def floating(self) -> bool:
        """Whether the dtype is a real floating-point dtype."""
        return bool(self.array.dtype.kind == "f")

    def to_numpy(self, piece: Any) -> NDArray[Any]:
        """Return a piece as a C-contiguous NumPy array in the machine's byte order."""
        array = np.ascontiguousarray(piece)
        flags, dtype = array.flags, array.dtype
        if flags.aligned and dtype.isnative:
            return array
        return array.astype(dtype.newbyteorder("="))

    def in_precision(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Round values to the precision of the array's own dtype."""
        if self.array.dtype.kind != "f" or self.array.dtype.itemsize > 8:
            return values
        with np.errstate(over="ignore"):
            return values.astype(self.array.dtype).astype(np.float64)

    def small(self) -> bool:
        """Whether all rows are one piece."""
        return bool(0 < self.n_rows * self.n_inputs * self.array.itemsize <= _memory.PIECE_BYTES)

    def pieces(self) -> Iterator[Any]:
        """Yield all rows in order, as 2-D arrays of their library."""
        return _memory.pieces(self.array)

    def real_pieces(self) -> Iterator[NDArray[Any]]:
        for piece in self.pieces():
            array = self.to_numpy(piece)
            if array.dtype.kind == "c":
                yield array.astype(np.complex64 if array.dtype.itemsize <= 8 else np.complex128, copy=False)
                continue
            narrow = array.dtype.itemsize <= (4 if array.dtype.kind == "f" else 2)
            with np.errstate(invalid="ignore", over="ignore"):  # the next step reports such values and their place
                floats = array.astype(np.float32 if narrow else np.float64, copy=False)
            yield floats

    def refuse(self, row: int, column: int, value: Any) -> NoReturn:
        """Raise ValueError about a value that is not ternary."""
        place = self.position(row, column)
        if value != value:
            raise ValueError(f"{place} is NaN, but must be -1, 0 or 1")
        raise ValueError(f"{place} is {value}, but must be -1, 0 or 1; {self.advice}")


class PlaneRows(ArrayRows):
    """Rows that are packed on another device, because their numbers are not in the CPU's memory."""

    def planes(self, start: int, stop: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return bit planes of the elements 1 and of the elements -1 of rows start to stop - 1; raise at other values.

        Each plane holds bytes, of shape (stop - start, ceil(n_inputs / 8)), with the first element in the lowest bit.
        """
        raise NotImplementedError

    def planes_above(self, thresholds: NDArray[np.float64]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return bit planes of elements above their row's threshold and of elements below its negative, as `planes`."""
        raise NotImplementedError


class PackedRows(Rows, Generic[P]):
    """Rows of a batch that is packed or encoded already, by the compiled core or by a device."""

    def __init__(
        self, name: str, batch: P, shape: tuple[int, ...], wrapper: Callable[[Any], Any] | None = None
    ) -> None:
        super().__init__(name, shape)
        self.batch: P = batch
        self._wrapper = wrapper
        if isinstance(batch, DeviceBatch):
            self.device, self.session = batch.device_type, batch.session
            self._wrapper = batch.wrap if wrapper is None else wrapper

    @property
    def encoded(self) -> bool:
        """Whether the batch holds real numbers in digits."""
        return hasattr(self.batch, "digit")

    def wrap(self, result: Any) -> Any:
        return result if self._wrapper is None else self._wrapper(result)

    # Subclasses that read a file have none.
    _wrapper: Callable[[Any], Any] | None = None

    def block_rows(self) -> int:
        """Return how many rows to process at a time: all, because they are packed already."""
        return max(1, self.n_rows)

    def whole(self) -> P:
        """Return all rows."""
        return self.batch

    def blocks(self, block_rows: int) -> Iterator[P]:
        """Yield the rows, in one block."""
        yield self.batch


class _WrappedRows(Rows):
    """Rows of numbers, together with a rule for their conversion."""

    def __init__(self, rows: NumberRows) -> None:
        super().__init__(rows.name, rows.shape)
        self.rows = rows
        self.device, self.sent, self.session = rows.device, rows.sent, rows.session

    def wrap(self, result: NDArray[Any]) -> Any:
        return self.rows.wrap(result)

    def memory(self) -> tuple[NDArray[Any], ...]:
        return self.rows.memory()


class DigitRows(_WrappedRows):
    """Rows of real numbers that are rounded to `n_digits` digits of -1, 0 and 1 of a base."""

    def __init__(self, rows: NumberRows, base: int, n_digits: int) -> None:
        super().__init__(rows)
        self.base, self.n_digits = base, n_digits


class FloatRows(_WrappedRows):
    """Rows of real numbers that are rounded to float32."""


class Threshold(NamedTuple):
    """The threshold of each vector: `level`, or `relative` times a level, by default the vector's own largest |e|."""

    # A backend's `largest` may give a number that is on its device.
    level: Any
    relative: float | None

    def of(self, rows: ArrayRows, levels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the thresholds for these levels, rounded as the library of the rows would round them."""
        if self.relative is None:
            return rows.in_precision(levels)
        # Round the factor once, and the product once.
        return rows.in_precision(rows.in_precision(np.array([float(self.relative)])) * levels)
