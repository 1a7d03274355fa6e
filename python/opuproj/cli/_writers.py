"""Writers of tiles: to a .npy file in any order, or to a pipe in order."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from ._files import reserve_space
from ._plan import Tile


class Writer(Protocol):
    """The interface for writing a result tile by tile."""

    def create(self) -> None:
        """Create the file."""

    def reopen(self) -> None:
        """Open the file of an earlier run."""

    def write(self, tile: Tile, values: NDArray[Any]) -> None:
        """Write a tile."""

    def sync(self) -> None:
        """Wait until everything written is on disk."""

    def close(self) -> None:
        """Close the file."""


class NpyWriter:
    """A .npy file of its final size, into which tiles are written. The result is the same file as from `numpy.save`."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._path, self._shape, self._dtype = path, shape, dtype
        self._file: Any = None
        self._offset = 0

    def create(self) -> None:
        """Write the header; reserve space for the data if the file system can, to notice a full disk early."""
        self._file = self._path.open("wb+", buffering=0)
        self._offset = write_header(self._file, self._shape, self._dtype)
        size = self._size()
        if not reserve_space(self._file, size, self._path):
            self._file.truncate(size)

    def reopen(self) -> None:
        """Open the existing file, and check its size."""
        self._file = self._path.open("rb+", buffering=0)
        with open(os.devnull, "wb") as nowhere:
            self._offset = write_header(nowhere, self._shape, self._dtype)
        if os.fstat(self._file.fileno()).st_size != self._size():
            raise ValueError(f"{self._path} has another size than when it was begun: --restart deletes it")

    def _size(self) -> int:
        return self._offset + math.prod(self._shape) * self._dtype.itemsize

    def write(self, tile: Tile, values: NDArray[Any]) -> None:
        """Write a tile. It uses no memory map, with which a full disk would kill the process."""
        n_outputs, itemsize = self._shape[-1], self._dtype.itemsize
        if values.shape[1] == n_outputs:
            self._write_at(tile.top * n_outputs * itemsize, values)
            return
        for row, part in enumerate(values, tile.top):
            self._write_at((row * n_outputs + tile.left) * itemsize, part)

    def _write_at(self, place: int, values: NDArray[Any]) -> None:
        self._file.seek(self._offset + place)
        write_all(self._file, values)

    def sync(self) -> None:
        """Wait until everything written is on disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class PipeWriter:
    """A .npy file that is written to a pipe."""

    def __init__(self, file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._file, self._shape, self._dtype = file, shape, dtype

    def create(self) -> None:
        """Write the header."""
        write_header(self._file, self._shape, self._dtype)

    def reopen(self) -> None:
        """Raise ValueError, because a pipe cannot be written again."""
        raise ValueError("a pipe cannot be continued")

    def write(self, tile: Tile, values: NDArray[Any]) -> None:
        """Write a tile. Tiles must come in order."""
        write_all(self._file, values)

    def sync(self) -> None:
        """Flush the buffer."""
        self._file.flush()

    def close(self) -> None:
        """Do nothing: the caller owns the pipe."""


def write_header(file: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Write the header that `numpy.save` writes; return its length."""
    description = np.lib.format.dtype_to_descr(dtype)
    header = {"descr": description, "fortran_order": False, "shape": shape}
    counted = _Counted(file)
    np.lib.format.write_array_header_1_0(counted, header)
    return counted.n_bytes


class _Counted:
    """A file that counts the bytes written to it."""

    def __init__(self, file: Any) -> None:
        self._file, self.n_bytes = file, 0

    def write(self, data: bytes) -> int:
        write_all(self._file, data)
        self.n_bytes += len(data)
        return len(data)


def write_all(file: Any, data: Any) -> None:
    """Write all bytes, even if the system accepts only part of them at a time."""
    left = memoryview(data).cast("B")
    while len(left):
        left = left[file.write(left) :]
