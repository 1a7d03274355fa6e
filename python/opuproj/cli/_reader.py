"""The base classes of readers, which read rows from files of vectors on request."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .. import _memory
from ..inputs.arrays import check_shape
from ..inputs.rows import ArrayRows, Rows

MAX_AXES = 32


class Reader:
    """An array of shape (..., n_inputs) in a file, whose rows are read on request.

    Attributes
    ----------
    name : str
        Its name in messages.
    kind : str
        The kind of file, in words.
    shape : tuple of int
    dtype : dtype
        The dtype of the stored elements; int8 for a packed batch.
    seekable : bool
        Whether rows can be read again.
    """

    kind = "an array"
    seekable = True

    def __init__(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        checked_header(name, shape, dtype)
        self.name, self.shape, self.dtype = name, shape, dtype
        self.n_inputs = shape[-1]
        self.n_rows: int = math.prod(shape[:-1])
        self.row_bytes = self.n_inputs * dtype.itemsize

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows start to stop - 1 as an array of shape (stop - start, n_inputs)."""
        raise NotImplementedError

    def pieces(self, start: int, stop: int) -> Iterator[NDArray[Any]]:
        """Yield the rows from start to stop in order, in pieces of :meth:`step` rows."""
        step = self.step()
        while start < stop:
            end = min(stop, (start // step + 1) * step)
            yield self.read(start, end)
            start = end

    def rows(self, start: int, stop: int, advice: str = "") -> Rows:
        """Return rows start to stop - 1 in the form that backends accept.

        `advice` ends the error message about a value that is not ternary.
        """
        return FileRows(self, start, stop, advice)

    def step(self) -> int:
        """Return the number of rows to read at a time."""
        return max(1, _memory.PIECE_BYTES // self.row_bytes)

    def identity(self) -> dict[str, Any]:
        """Return values that change when the file changes."""
        raise NotImplementedError

    def refuse_change(self) -> None:
        """Raise ValueError if the file changed after it was opened."""

    def close(self) -> None:
        """Close the file."""


class FileRows(ArrayRows):
    """Rows start to stop - 1 of a file of numbers."""

    def __init__(self, reader: Reader, start: int, stop: int, advice: str = "") -> None:
        # This array gives only the shape and the precision. It has no values and takes no memory.
        super().__init__(reader.name, np.broadcast_to(np.empty((), reader.dtype), (stop - start, reader.n_inputs)))
        self.advice = advice
        self._reader, self._start = reader, start

    def small(self) -> bool:
        return False  # there is no array to pack at once

    def pieces(self) -> Iterator[Any]:
        return self._reader.pieces(self._start, self._start + self.n_rows)

    def position(self, row: int, column: int) -> str:
        leading = np.unravel_index(self._start + row, self._reader.shape[:-1]) if len(self._reader.shape) > 1 else ()
        return f"{self.name}[{', '.join(map(str, [*leading, column]))}]"


class FileReader(Reader):
    """An array in a regular file, which stays open while it is read."""

    _path: str
    _file: BinaryIO
    _status: os.stat_result

    def _keep_open(self, path: str, file: BinaryIO) -> None:
        self._path, self._file, self._status = path, file, os.fstat(file.fileno())

    def identity(self) -> dict[str, Any]:
        return _identity(self._path, self._status)

    def refuse_change(self) -> None:
        if _identity(self._path, os.fstat(self._file.fileno())) != _identity(self._path, self._status):
            raise ValueError(f"{self.name} changed while it was read, so the result was deleted: run the command again")

    def close(self) -> None:
        self._file.close()


def checked_header(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise an error for an array that does not hold vectors of numbers, before memory of its size is allocated."""
    if dtype.hasobject:
        raise ValueError(
            f"{name} holds Python objects, which are not unpickled because that can run code: save numbers"
        )
    if dtype.kind not in "biuf":
        raise TypeError(f"{name} has dtype {dtype}, but must hold integers, booleans or real floating-point numbers")
    if len(shape) > MAX_AXES:
        raise ValueError(f"{name} has {len(shape)} axes, but may have at most {MAX_AXES}")
    check_shape(name, shape)
    size = math.prod(length or 1 for length in shape) * dtype.itemsize
    if any(length < 0 or isinstance(length, bool) for length in shape) or size >= 2**63:
        raise ValueError(f"{name} claims the shape {shape}, which makes no sense")


def _identity(path: str, status: os.stat_result) -> dict[str, Any]:
    """Return values that change when a file changes."""
    return {"path": os.path.realpath(path), "bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
