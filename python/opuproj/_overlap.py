"""Detects whether `out` overlaps the input, in memory or in a mapped file."""

from __future__ import annotations

import os
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# NumPy stops after this many steps and then reports a possible overlap. Arrays of evenly spaced rows need few steps.
_MAX_WORK: Any = 10_000  # Any, because NumPy's type stubs do not allow this value
# Added to offsets in a file, because NumPy does not accept the address 0.
_NOT_NULL = 1 << 20


def refuse(name: str, memory: Iterable[NDArray[Any]], out: NDArray[Any]) -> None:
    """Raise ValueError if `out` may share memory or a mapped file with an array from which `name` is read.

    A batch of several blocks is read while results are written, so an overlap would corrupt later blocks.
    """
    for array in memory:
        if np.may_share_memory(array, out, max_work=_MAX_WORK) or _same_bytes_of_a_file(array, out):
            raise ValueError(
                f"out overlaps {name} in memory, but {name} is still read while results are written: pass another out, "
                f"or a copy of {name}"
            )


def array_at(address: int, shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> NDArray[Any]:
    """Return an array at an address, for comparison only: its elements must not be read."""
    interface = {
        "version": 3,
        "data": (address, True),
        "shape": shape,
        "strides": strides,
        "typestr": f"|V{itemsize}",
    }
    return np.asarray(SimpleNamespace(__array_interface__=interface))


class _Place(NamedTuple):
    file: tuple[int, int]
    # An array whose address is the offset in the file.
    array: NDArray[Any]
    private: bool


def _same_bytes_of_a_file(array: NDArray[Any], out: NDArray[Any]) -> bool:
    """Whether both are views of np.memmap that map the same bytes of one file at two addresses."""
    target = _place(out)
    if target is None or target.private:  # writes to a private mapping do not reach the file
        return False
    place = _place(array)
    return (
        place is not None
        and place.file == target.file
        and np.may_share_memory(place.array, target.array, max_work=_MAX_WORK)
    )


def _place(array: NDArray[Any]) -> _Place | None:
    root: Any = array
    while isinstance(root.base, np.ndarray):
        root = root.base
    if not isinstance(root, np.memmap) or root.filename is None:
        return None
    try:
        status = os.stat(root.filename)
    except OSError:  # deleted: a second mapping cannot be detected
        return None
    address = array.__array_interface__["data"][0] - root.__array_interface__["data"][0] + root.offset + _NOT_NULL
    moved = array_at(address, array.shape, array.strides, array.itemsize)
    return _Place((status.st_dev, status.st_ino), moved, root.mode == "c")
