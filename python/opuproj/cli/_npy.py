"""Readers of arrays that NumPy saved: .npy, the members of .npz, and .npy from a pipe."""

from __future__ import annotations

import os
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .. import _memory
from ._reader import FileReader, Reader

_TOO_LONG = "its vectors are too long for this machine"


class NpyReader(FileReader):
    """A .npy file."""

    kind = "a .npy file"

    def __init__(self, path: str, file: BinaryIO) -> None:
        shape, fortran, dtype = npy_header(path, file)
        super().__init__(path, shape, dtype)
        self._keep_open(path, file)
        self._offset = file.tell()
        self._needed = self._offset + self.n_rows * self.row_bytes
        if self._needed > self._status.st_size:
            raise ValueError(
                f"{path} ends too early: its header promises {self._needed - self._offset:,} bytes of data, but there "
                f"are {self._status.st_size - self._offset:,}"
            )
        # In Fortran order, a row's elements are not adjacent. A memory map gathers them.
        self._scattered: Any = None
        if fortran and len(shape) > 1 and self.n_rows:
            self._scattered = np.memmap(path, dtype, "r", self._offset, shape, order="F")

    def read(self, start: int, stop: int) -> NDArray[Any]:
        if os.fstat(self._file.fileno()).st_size < self._needed:
            raise ValueError(f"{self.name} became shorter while it was read")
        if self._scattered is not None:
            places = np.unravel_index(np.arange(start, stop), self.shape[:-1])
            return np.ascontiguousarray(self._scattered[places])
        self._file.seek(self._offset + start * self.row_bytes)
        return rows_from(self.name, self._file, stop - start, self.n_inputs, self.dtype)

    def close(self) -> None:
        self._scattered = None
        super().close()


class NpzReader(FileReader):
    """A member of a .npz file, compressed or not, which is read sequentially."""

    kind = "a .npz file's member"

    def __init__(self, path: str, file: BinaryIO, member: str | None) -> None:
        self._keep_open(path, file)
        with archive_errors(path):
            self._zip = zipfile.ZipFile(file)
            self.members = [name.removesuffix(".npy") for name in self._zip.namelist() if name.endswith(".npy")]
        self.member = self._chosen(path, member)
        self._info = self._zip.getinfo(f"{self.member}.npy")
        name = f"{path}[{self.member}]"
        self._stream = self._opened(name)
        with archive_errors(name):
            shape, fortran, dtype = npy_header(name, self._stream)
        super().__init__(name, shape, dtype)
        self._offset = self._stream.tell()
        needed = self._offset + self.n_rows * self.row_bytes
        if needed > self._info.file_size:
            raise ValueError(
                f"{name} ends too early: its header promises {needed - self._offset:,} bytes of data, but there are "
                f"{self._info.file_size - self._offset:,}"
            )
        refuse_fortran(name, fortran, shape)
        self._next = 0

    def _chosen(self, path: str, member: str | None) -> str:
        names = ", ".join(self.members) or "none"
        if member is not None:
            if member not in self.members:
                raise ValueError(f"member is {member!r}, but {path} has {names}")
            return member
        if len(self.members) != 1:
            raise ValueError(f"{path} has {len(self.members)} arrays ({names}): choose one with --member")
        return self.members[0]

    def _opened(self, name: str) -> BinaryIO:
        with archive_errors(name):
            return self._zip.open(self._info)  # type: ignore[return-value]

    def read(self, start: int, stop: int) -> NDArray[Any]:
        with archive_errors(self.name):
            if start < self._next:
                self._stream.close()
                self._stream, self._next = self._opened(self.name), 0
                self._stream.read(self._offset)
            left = (start - self._next) * self.row_bytes
            while left > 0:
                passed = len(self._stream.read(min(left, _memory.PIECE_BYTES)))
                if passed == 0:
                    break
                left -= passed
            rows = rows_from(self.name, self._stream, stop - start, self.n_inputs, self.dtype)
            if stop == self.n_rows:
                self._stream.read(1)  # reading to the end compares the checksum
        self._next = stop
        return rows

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "member": self.member}

    def close(self) -> None:
        self._stream.close()
        self._zip.close()
        super().close()


class PipeReader(Reader):
    """A .npy file from a pipe, which can be read only once."""

    kind = "a .npy file in a pipe"
    seekable = False

    def __init__(self, name: str, file: BinaryIO) -> None:
        shape, fortran, dtype = npy_header(name, file)
        super().__init__(name, shape, dtype)
        refuse_fortran(name, fortran, shape)
        self._file, self._next = file, 0

    def read(self, start: int, stop: int) -> NDArray[Any]:
        if start != self._next:
            raise ValueError(f"{self.name} is a pipe, which cannot be read twice: write it to a file first")
        self._next = stop
        return rows_from(self.name, self._file, stop - start, self.n_inputs, self.dtype)

    def identity(self) -> dict[str, Any]:
        return {"pipe": True}

    def close(self) -> None:
        self._file.close()


@contextmanager
def archive_errors(name: str) -> Iterator[None]:
    """Turn errors about a damaged archive into a ValueError that names it."""
    try:
        yield
    # RuntimeError: it is encrypted; NotImplementedError: Python does not support its compression method.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, OverflowError) as error:
        raise ValueError(f"{name} cannot be read: {error}") from error


def npy_header(name: str, file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of a .npy file; return shape, order and dtype."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            version = np.lib.format.read_magic(file)
            if version == (1, 0):
                return np.lib.format.read_array_header_1_0(file)
            if version == (2, 0):
                return np.lib.format.read_array_header_2_0(file)
    except OSError:
        raise
    except Exception as error:  # the header is a Python literal, and its parsers raise many kinds of exceptions
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"{name} is not a readable .npy file: {reason}") from error
    raise ValueError(f"{name} is a .npy file of version {version[0]}.{version[1]}, but must be of version 1.0 or 2.0")


def rows_from(name: str, file: BinaryIO, n_rows: int, n_inputs: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Read exactly the next n_rows rows."""
    n_bytes = n_rows * n_inputs * dtype.itemsize
    _memory.reserve(f"a part of {name}", (n_rows, n_inputs), n_bytes, _TOO_LONG)
    data = bytearray()
    while len(data) < n_bytes:  # grows with the data, not with the size in the header
        part = file.read(min(n_bytes - len(data), _memory.PIECE_BYTES))
        if not part:
            raise ValueError(f"{name} ends too early: its next rows have {len(data):,} of {n_bytes:,} bytes")
        data += part
    return np.frombuffer(data, dtype).reshape(n_rows, n_inputs)


def refuse_fortran(name: str, fortran: bool, shape: tuple[int, ...]) -> None:
    """Raise ValueError for Fortran order, in which no row is complete before the end of the file."""
    if fortran and sum(size > 1 for size in shape) > 1:
        raise ValueError(
            f"{name} is in Fortran order, so its rows cannot be read one after the other: "
            "save np.ascontiguousarray of it, or save it as a separate .npy file"
        )
