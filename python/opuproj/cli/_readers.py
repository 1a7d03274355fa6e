"""Files of vectors, read a few rows at a time: .npy, the members of .npz, and .npy that arrives through a pipe."""

from __future__ import annotations

import math
import os
import stat
import sys
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .. import _inputs, _memory

NPY, ZIP, EMPTY_ZIP = b"\x93NUMPY", b"PK\x03\x04", b"PK\x05\x06"
MAX_AXES = 32
_TOO_LONG = "its vectors are too long for this machine"


class Reader:
    """An array of shape (..., n_inputs) in a file, as rows that are read when they are asked for.

    Attributes
    ----------
    name : str
        What messages call it.
    kind : str
        What it is, for people.
    shape : tuple of int
    dtype : dtype
        Of the elements as they are stored; that of a packed batch is int8, its elements as an array.
    rewinds : bool
        Whether rows can be read again.
    """

    kind = "an array"
    rewinds = True

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
        """Yield the rows from start to stop in order, as few at a time as suits the file."""
        step = self.step()
        while start < stop:
            end = min(stop, (start // step + 1) * step)
            yield self.read(start, end)
            start = end

    def step(self) -> int:
        """Return how many rows to read at a time."""
        return max(1, _inputs.PIECE_BYTES // self.row_bytes)

    def identity(self) -> dict[str, Any]:
        """Return what tells whether another run reads the same."""
        raise NotImplementedError

    def refuse_change(self) -> None:
        """Raise ValueError if the file is no longer what it was when it was opened."""

    def close(self) -> None:
        """Let go of the file."""


class FileReader(Reader):
    """An array in a regular file, which is open while it is read."""

    _path: str
    _file: BinaryIO
    _status: os.stat_result

    def _hold(self, path: str, file: BinaryIO) -> None:
        self._path, self._file, self._status = path, file, os.fstat(file.fileno())

    def identity(self) -> dict[str, Any]:
        return _identity(self._path, self._status)

    def refuse_change(self) -> None:
        if _identity(self._path, os.fstat(self._file.fileno())) != _identity(self._path, self._status):
            raise ValueError(f"{self.name} changed while it was read, so the result is of neither: nothing is kept")

    def close(self) -> None:
        self._file.close()


class NpyReader(FileReader):
    """A .npy file."""

    kind = "a .npy file"

    def __init__(self, path: str, file: BinaryIO) -> None:
        shape, fortran, dtype = npy_header(path, file)
        super().__init__(path, shape, dtype)
        self._hold(path, file)
        self._offset = file.tell()
        self._needed = self._offset + self.n_rows * self.row_bytes
        if self._needed > self._status.st_size:
            raise ValueError(
                f"{path} ends too early: its header promises {self._needed - self._offset:,} bytes of data, and there "
                f"are {self._status.st_size - self._offset:,}"
            )
        # Its rows lie scattered, which the file alone knows how to gather.
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
    """A member of a .npz file, compressed or not: it is read from its beginning to its end."""

    kind = "a .npz file's member"

    def __init__(self, path: str, file: BinaryIO, member: str | None) -> None:
        self._hold(path, file)
        with damage_named(path):
            self._zip = zipfile.ZipFile(file)
            self.members = [name.removesuffix(".npy") for name in self._zip.namelist() if name.endswith(".npy")]
        self.member = self._chosen(path, member)
        self._info = self._zip.getinfo(f"{self.member}.npy")
        name = f"{path}[{self.member}]"
        self._stream = self._opened(name)
        with damage_named(name):
            shape, fortran, dtype = npy_header(name, self._stream)
        super().__init__(name, shape, dtype)
        self._offset = self._stream.tell()
        needed = self._offset + self.n_rows * self.row_bytes
        if needed > self._info.file_size:
            raise ValueError(
                f"{name} ends too early: its header promises {needed - self._offset:,} bytes of data, and there are "
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
        with damage_named(name):
            return self._zip.open(self._info)  # type: ignore[return-value]

    def read(self, start: int, stop: int) -> NDArray[Any]:
        with damage_named(self.name):
            if start < self._next:
                self._stream.close()
                self._stream, self._next = self._opened(self.name), 0
                self._stream.read(self._offset)
            left = (start - self._next) * self.row_bytes
            while left > 0:
                passed = len(self._stream.read(min(left, _inputs.PIECE_BYTES)))
                if passed == 0:
                    break
                left -= passed
            rows = rows_from(self.name, self._stream, stop - start, self.n_inputs, self.dtype)
            if stop == self.n_rows:
                self._stream.read(1)  # its end has the checksum
        self._next = stop
        return rows

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "member": self.member}

    def close(self) -> None:
        self._stream.close()
        self._zip.close()
        super().close()


class PipeReader(Reader):
    """A .npy file that comes through a pipe, once."""

    kind = "a .npy file in a pipe"
    rewinds = False

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
def damage_named(name: str) -> Iterator[None]:
    """Turn what is raised over a damaged archive into a ValueError that names it."""
    try:
        yield
    # RuntimeError: it is encrypted; NotImplementedError: compressed by a method that Python does not know.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, OverflowError) as error:
        raise ValueError(f"{name} cannot be read: {error}") from error


def checked_header(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Refuse what holds no vectors of numbers, before anything of its size is allocated."""
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects, which would have to be unpickled: that is refused")
    if dtype.kind not in "biuf":
        raise TypeError(f"{name} has dtype {dtype}, but must hold integers, booleans or real floating-point numbers")
    if len(shape) > MAX_AXES:
        raise ValueError(f"{name} has {len(shape)} axes, but may have {MAX_AXES} at most")
    _inputs._check_shape(name, shape)
    size = math.prod(length or 1 for length in shape) * dtype.itemsize
    if any(length < 0 or isinstance(length, bool) for length in shape) or size >= 2**63:
        raise ValueError(f"{name} claims the shape {shape}, which makes no sense")


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
    except Exception as error:  # it is a Python literal: its parsers raise exceptions of many kinds over a hostile one
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"{name} is no .npy file that can be read: {reason}") from error
    raise ValueError(f"{name} is a .npy file of version {version[0]}.{version[1]}, which no array of numbers needs")


def rows_from(name: str, file: BinaryIO, n_rows: int, n_inputs: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Read rows that come next, and no byte more."""
    n_bytes = n_rows * n_inputs * dtype.itemsize
    _memory.reserve(f"a part of {name}", (n_rows, n_inputs), n_bytes, _TOO_LONG)
    data = bytearray()
    while len(data) < n_bytes:  # grows with what arrives, not with what a header claims
        part = file.read(min(n_bytes - len(data), _inputs.PIECE_BYTES))
        if not part:
            raise ValueError(f"{name} ends too early: {len(data):,} of {n_bytes:,} bytes of its next rows are there")
        data += part
    return np.frombuffer(data, dtype).reshape(n_rows, n_inputs)


def refuse_fortran(name: str, fortran: bool, shape: tuple[int, ...]) -> None:
    """Refuse rows that are only complete when all is read."""
    if fortran and sum(size > 1 for size in shape) > 1:
        raise ValueError(
            f"{name} is in Fortran order, so its rows cannot be read one after the other: "
            "save np.ascontiguousarray of it, or make it a .npy file of its own"
        )


def _identity(path: str, status: os.stat_result) -> dict[str, Any]:
    """Return what changes when a file does."""
    return {"path": os.path.realpath(path), "bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


def open_input(path: str, member: str | None = None) -> Reader:
    """Open what vectors are read from, whatever its name: its first bytes tell what it is.

    Parameters
    ----------
    path : str
        A .npy, .npz or packed file, a Zarr array, or "-" for a .npy file on standard input.
    member : str, optional
        Which array of a .npz file; needed if it has several.

    Raises
    ------
    ValueError, TypeError, OSError
        If it is none of these, is damaged, or holds no vectors of numbers.
    """
    if os.path.isdir(path):
        from ._zarr import ZarrReader

        refuse_member(path, member)
        return ZarrReader(path)
    if path == "-":
        refuse_member(path, member)
        if sys.stdin is None or sys.stdin.closed:
            raise ValueError("standard input is closed")
        return PipeReader("standard input", sys.stdin.buffer)
    file = open(path, "rb")  # noqa: SIM115 - closed by the reader
    try:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            refuse_member(path, member)
            return PipeReader(path, file)
        return _from_file(path, file, member)
    except BaseException:
        file.close()
        raise


def _from_file(path: str, file: BinaryIO, member: str | None) -> Reader:
    from ._packed import MAGIC, PackedReader

    magic = file.read(8)
    file.seek(0)
    if magic[:4] in (ZIP, EMPTY_ZIP):
        return NpzReader(path, file, member)
    refuse_member(path, member)
    if magic[:6] == NPY:
        return NpyReader(path, file)
    if magic == MAGIC:
        return PackedReader(path, file)
    what = f"it begins with {magic!r}" if magic else "it is empty"
    raise ValueError(f"{path} is no .npy, .npz or packed file, and no Zarr array: {what}")


def refuse_member(path: str, member: str | None) -> None:
    """Refuse the name of a member of what has none."""
    if member is not None:
        raise ValueError(f"member is {member!r}, but {path} is no .npz file, and has no members")
