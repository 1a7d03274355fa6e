"""Opens a file of vectors. Its first bytes determine its kind."""

from __future__ import annotations

import os
import stat
import sys
from typing import BinaryIO

from ._npy import NpyReader, NpzReader, PipeReader
from ._packed import MAGIC, OLD_MAGIC, PackedReader
from ._reader import Reader
from ._zarr import ZarrReader

NPY, ZIP, EMPTY_ZIP = b"\x93NUMPY", b"PK\x03\x04", b"PK\x05\x06"


def open_input(path: str, member: str | None = None) -> Reader:
    """Open a file of vectors. Its first bytes, not its name, determine its kind.

    Parameters
    ----------
    path : str
        A .npy, .npz or packed file, a Zarr array, or "-" for a .npy file on standard input.
    member : str, optional
        The name of the array in a .npz file; required if it has several.

    Raises
    ------
    ValueError, TypeError, OSError
        If it is none of these, is damaged, or does not hold vectors of numbers.
    """
    if os.path.isdir(path):
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
    magic = file.read(8)
    file.seek(0)
    if magic[:4] in (ZIP, EMPTY_ZIP):
        return NpzReader(path, file, member)
    refuse_member(path, member)
    if magic[:6] == NPY:
        return NpyReader(path, file)
    if magic in (MAGIC, OLD_MAGIC):
        return PackedReader(path, file)
    what = f"it begins with {magic!r}" if magic else "it is empty"
    raise ValueError(f"{path} is not a .npy, .npz or packed file, nor a Zarr array: {what}")


def refuse_member(path: str, member: str | None) -> None:
    """Raise ValueError if a member is named in a file that has no members."""
    if member is not None:
        raise ValueError(f"member is {member!r}, but {path} is not a .npz file and has no members")
