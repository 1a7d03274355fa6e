"""Whether results would be written over the numbers that they are computed from."""

from __future__ import annotations

import os
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# NumPy gives up after so many steps, and then says that two arrays may overlap. Arrays of evenly spaced rows take few.
_MAX_WORK: Any = 10_000  # of which NumPy's types do not know
# Added to places in a file: NumPy does not take an address of 0.
_NOT_NULL = 1 << 20


def refuse(name: str, memory: Iterable[NDArray[Any]], out: NDArray[Any]) -> None:
    """Raise ValueError if `out` may share memory, or a file that is mapped, with an array that `name` is read from.

    A batch of several blocks is read while results are written, so that it would be overwritten before it is read.
    """
    for array in memory:
        if np.may_share_memory(array, out, max_work=_MAX_WORK) or _same_bytes_of_a_file(array, out):
            raise ValueError(
                f"out overlaps {name} in memory, but {name} is still read while results are written: pass another out, "
                f"or a copy of {name}"
            )


def at(address: int, shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> NDArray[Any]:
    """Return an array of what lies at an address, to be compared with others and never to be read."""
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
    # At the place in the file in place of an address.
    array: NDArray[Any]
    private: bool


def _same_bytes_of_a_file(array: NDArray[Any], out: NDArray[Any]) -> bool:
    """Whether both are of np.memmap and see the same bytes of one file, which lie at two addresses."""
    target = _place(out)
    if target is None or target.private:  # what is written to a private mapping never gets to the file
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
    except OSError:  # deleted: no second mapping can be told
        return None
    address = array.__array_interface__["data"][0] - root.__array_interface__["data"][0] + root.offset + _NOT_NULL
    moved = at(address, array.shape, array.strides, array.itemsize)
    return _Place((status.st_dev, status.st_ino), moved, root.mode == "c")
