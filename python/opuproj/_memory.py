"""Limits on memory: the sizes of pieces and blocks, and errors for allocations that cannot fit."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Arrays are copied and converted in pieces of a few rows, and Ctrl-C works between two pieces.
PIECE_BYTES = 1 << 22
# Packed rows that a projection holds at a time: a quarter of the 64 MiB that it may use beyond inputs and outputs.
# malloc may keep the memory of the previous block, and the sums of a stripe take as much again.
BLOCK_BYTES = 1 << 24
# Smaller allocations are not checked: the check would take longer than it is worth.
_SMALL = 1 << 26


def allocate(what: str, shape: tuple[int, ...], dtype: np.dtype[Any], advice: str) -> NDArray[Any]:
    """Return an uninitialised array, or raise MemoryError with its purpose, its size in bytes, and the remedy."""
    reserve(what, shape, math.prod(shape) * dtype.itemsize, advice)
    try:
        return np.empty(shape, dtype)
    except (MemoryError, ValueError):  # ValueError: more elements than NumPy can count
        raise _refusal(what, shape, math.prod(shape) * dtype.itemsize, advice) from None


def reserve(what: str, shape: tuple[int, ...], n_bytes: int, advice: str) -> None:
    """Raise MemoryError if `n_bytes` cannot fit in memory."""
    if not fits(n_bytes):
        raise _refusal(what, shape, n_bytes, advice)


def fits(n_bytes: int) -> bool:
    """Whether `n_bytes` fit in the available memory."""
    # Linux grants more memory than exists and later kills a process that uses it, so success of malloc proves nothing.
    return n_bytes <= _SMALL or n_bytes <= available()


def _refusal(what: str, shape: tuple[int, ...], n_bytes: int, advice: str) -> MemoryError:
    return MemoryError(
        f"{what} of shape {shape} takes {n_bytes:,} bytes ({readable(n_bytes)}), which cannot be allocated; {advice}"
    )


def readable(n_bytes: float) -> str:
    """Return a number of bytes in a readable unit, such as 16 TB."""
    for unit in ("bytes", "kB", "MB", "GB", "TB", "PB"):
        if n_bytes < 999.5:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.0f} EB"


def available() -> float:
    """Return the bytes that this process can still use, within the limits of its control groups; inf if unknown."""
    return min(_of_machine(), _of_cgroup())


def _of_machine() -> float:
    if sys.platform != "linux":
        import psutil

        return float(psutil.virtual_memory().available + psutil.swap_memory().free)
    fields = _fields("/proc/meminfo")
    if "MemAvailable:" not in fields:
        return math.inf
    return 1024.0 * (fields["MemAvailable:"] + fields.get("SwapFree:", 0))


def _of_cgroup() -> float:
    try:
        groups = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return math.inf
    rooms = [math.inf]
    for _, controllers, path in groups:
        if controllers == "":
            base, limit, usage = "/sys/fs/cgroup", "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            base, limit, usage = "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        # Each parent group also sets a limit. In a container, the group's own path is often not mounted, and its files
        # are at the root.
        group = PurePosixPath("/", path)
        for folder in (f"{base}{part}" for part in (group, *group.parents)):
            most, used = _number(f"{folder}/{limit}"), _number(f"{folder}/{usage}")
            if most is not None and used is not None:
                # Clean page cache counts as used, but the kernel frees it on demand.
                rooms.append(most - used + _fields(f"{folder}/memory.stat").get("inactive_file", 0))
    return min(rooms)


def _fields(path: str) -> dict[str, int]:
    try:
        lines = [line.split() for line in Path(path).read_text().splitlines()]
    except OSError:
        return {}
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}


def _number(path: str) -> int | None:
    try:
        text = Path(path).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None  # "max" means no limit


def packed_bytes(n_rows: int, n_inputs: int) -> int:
    """Return the bytes of n_rows packed rows: two planes of 64-bit words."""
    return n_rows * -(-n_inputs // 64) * 16


def rows_within(n_rows: int, n_bytes: int) -> int:
    """Return how many of n_rows to process at a time within BLOCK_BYTES, if all rows take `n_bytes`."""
    n_blocks = -(-n_bytes // BLOCK_BYTES)
    return max(1, n_rows if n_blocks <= 1 else -(-n_rows // n_blocks))


def parts(n_rows: int, n_columns: int) -> Iterator[tuple[slice, slice]]:
    """Yield the slices of parts of an array of this shape, in order, of at most PIECE_BYTES elements each.

    Columns begin at multiples of PIECE_BYTES, and therefore at a whole word of packed rows.
    """
    width = min(n_columns, PIECE_BYTES)
    step = max(1, PIECE_BYTES // (width or 1))
    for row in range(0, n_rows, step):
        for column in range(0, n_columns, width or 1):
            yield slice(row, min(row + step, n_rows)), slice(column, min(column + width, n_columns))


def pieces(x: Any) -> Iterator[Any]:
    """Yield all rows of an array or tensor of shape (..., n) in order, as 2-D arrays of at most about PIECE_BYTES.

    It iterates over the axes. So it copies at most one piece for any strides; a reshape could copy the whole array.
    """
    n = x.shape[-1]
    if x.ndim <= 2:
        rows = x if x.ndim == 2 else x[None]
        step = max(1, PIECE_BYTES // (n * x.itemsize))
        if len(rows) <= step:
            if len(rows):
                yield rows
            return
        for start in range(0, len(rows), step):
            yield rows[start : start + step]
        return
    step = PIECE_BYTES // (math.prod(x.shape[1:]) * x.itemsize or 1)
    if step == 0:
        for part in x:
            yield from pieces(part)
        return
    for start in range(0, x.shape[0], step):
        yield x[start : start + step].reshape(-1, n)
