"""Converts dense numbers to what the compiled core accepts: packed rows, encoded rows or float32 rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import _core, _memory
from ...inputs.rows import RELATIVE, ArrayRows, DigitRows, FloatRows, PlaneRows, Rows, Threshold
from . import machine

_PACKABLE = frozenset(np.dtype(code) for code in "?bBhHiIlLqQfd")
PROJECT_FEWER = "projecting fewer vectors at a time needs less"
ENCODE_FEWER = "encode fewer vectors at a time"
ENCODING = "encoding"
# Float32 vectors that a projection holds at a time: half of the memory that it may use beyond inputs and outputs.
FLOAT_BYTES = 1 << 25
# The elements of a tensor that its own device packs at a time.
DEVICE_ELEMENTS = 1 << 26


class DenseConverter:
    """Converts the rows of an array to packed rows."""

    def block_rows(self, rows: ArrayRows) -> int:
        """Return how many rows to pack at a time so that a projection stays within its working memory."""
        n_bytes = rows.n_rows * -(-rows.n_inputs // 64) * 16  # as packed_bytes, whose call a small projection notices
        return rows.n_rows or 1 if n_bytes <= _memory.BLOCK_BYTES else _memory.rows_within(rows.n_rows, n_bytes)

    def whole(self, rows: ArrayRows) -> _core.Packed:
        """Return all rows packed."""
        if rows.small():  # the common case, without a loop, and without asking for memory: it takes at most 64 MiB
            packer = _core.Packer(rows.n_rows, rows.n_inputs, machine.isa())
            push(rows, packer, rows.array.reshape(rows.n_rows, rows.n_inputs), 0)
            return packer.finish()
        return next(self.blocks(rows, max(1, rows.n_rows)))

    def blocks(self, rows: ArrayRows, block_rows: int) -> Iterator[_core.Packed]:
        """Yield all rows packed, `block_rows` at a time (the last block may be shorter; without rows, one empty block).

        Raises ValueError at the first value that is not -1, 0 or 1.
        """
        done, size, filled = 0, min(block_rows, rows.n_rows), 0
        packer = _packer(rows, size)
        for piece in rows.pieces():
            rest = piece
            while len(rest):
                part, rest = rest[: size - filled], rest[size - filled :]
                push(rows, packer, part, done + filled)
                filled += len(part)
                if filled == size and done + size < rows.n_rows:
                    yield packer.finish()
                    done, size, filled = done + size, min(block_rows, rows.n_rows - done - size), 0
                    packer = _packer(rows, size)
        yield packer.finish()


def ternarized(rows: ArrayRows, threshold: Threshold | NDArray[np.float64]) -> _core.Packed:
    """Pack rows against their thresholds, as :meth:`Backend.ternarize` says."""
    packer = _packer(rows, rows.n_rows)
    done = 0
    for piece in rows.real_pieces():
        if not isinstance(threshold, Threshold):
            levels = threshold[done : done + len(piece)]
        else:
            level = threshold.level
            found = largest(rows, piece, done, RELATIVE) if level is None else np.full(len(piece), level)
            levels = threshold.of(rows, found)
        bad = packer.push_ternarized(piece, levels)
        if bad is not None:
            raise ValueError(f"{rows.position(done + bad[0], bad[1])} is NaN, but must be a number")
        done += len(piece)
    return packer.finish()


def largest_of_all(rows: ArrayRows) -> float:
    """Return the largest magnitude of all numbers."""
    found, done = 0.0, 0
    for piece in rows.real_pieces():
        found = max(found, float(largest(rows, piece, done, RELATIVE).max(initial=0.0)))
        done += len(piece)
    return found


def _packer(rows: ArrayRows, n_rows: int) -> _core.Packer:
    n_bytes = _memory.packed_bytes(n_rows, rows.n_inputs)
    if not _memory.fits(n_bytes):
        _memory.reserve(f"{rows.name}, packed,", (n_rows, rows.n_inputs), n_bytes, PROJECT_FEWER)
    return _core.Packer(n_rows, rows.n_inputs, machine.isa())


def push(rows: ArrayRows, packer: _core.Packer, piece: Any, row: int, column: int = 0) -> None:
    """Pack a piece whose first number is at `row` and `column`; raise ValueError at a value that is not ternary."""
    bad = packer.push(_packable(rows.to_numpy(piece)))
    if bad is not None:
        rows.refuse(row + bad[0], column + bad[1], piece[bad[0]][bad[1]].item())


def _packable(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype in _PACKABLE:
        return array
    if array.dtype.itemsize == 2:
        with np.errstate(invalid="ignore"):  # the packer reports NaN and its place
            return array.astype(np.float32)
    # longdouble: a conversion would round 1 + 1e-18 to 1
    small = np.where(array == 1, 1, np.where(array == -1, -1, np.where(array == 0, 0, 2)))
    return small.astype(np.int8)


class DeviceConverter:
    """Converts the rows of a tensor to packed rows; the tensor's own device packs them."""

    def block_rows(self, rows: PlaneRows) -> int:
        """Return how many rows to pack at a time so that a projection stays within its working memory."""
        return _memory.rows_within(rows.n_rows, _memory.packed_bytes(rows.n_rows, rows.n_inputs))

    def whole(self, rows: PlaneRows) -> _core.Packed:
        """Return all rows packed."""
        # Temporary arrays on the device take several bytes an element.
        parts = list(self.blocks(rows, max(1, DEVICE_ELEMENTS // rows.n_inputs)))
        return parts[0] if len(parts) == 1 else _core.Packed.concatenate(parts)

    def blocks(self, rows: PlaneRows, block_rows: int) -> Iterator[_core.Packed]:
        """Yield all rows packed, `block_rows` at a time; without rows, one empty block."""
        for start in range(0, max(1, rows.n_rows), block_rows):
            yield self._packed(rows, *rows.planes(start, min(start + block_rows, rows.n_rows)))

    def ternarized(self, rows: PlaneRows, thresholds: NDArray[np.float64]) -> _core.Packed:
        """Return 1 above each row's threshold and -1 below its negative."""
        return self._packed(rows, *rows.planes_above(thresholds))

    def _packed(self, rows: PlaneRows, positive: NDArray[np.uint8], negative: NDArray[np.uint8]) -> _core.Packed:
        return _core.Packed.from_planes(positive, negative, rows.n_inputs, False)


class DigitConverter:
    """Converts rows of real numbers to encoded rows."""

    def block_rows(self, rows: DigitRows) -> int:
        """Return how many rows to encode at a time so that a projection stays within its working memory."""
        # The factor 2: concatenation copies the parts.
        n_bytes = 2 * rows.n_digits * _memory.packed_bytes(rows.n_rows, rows.n_inputs)
        return _memory.rows_within(rows.n_rows, n_bytes)

    def whole(self, rows: DigitRows) -> _core.Encoded:
        """Return all rows encoded."""
        return next(self.blocks(rows, max(1, rows.n_rows)))

    def blocks(self, rows: DigitRows, block_rows: int) -> Iterator[_core.Encoded]:
        """Yield all rows encoded, at most `block_rows` at a time; without rows, one empty block."""
        isa = machine.isa()
        parts: list[_core.Encoded] = []
        done, n_rows = 0, 0
        shape = (min(block_rows, rows.n_rows), rows.n_inputs)
        _memory.reserve(f"{rows.name}, encoded,", shape, 2 * rows.n_digits * _memory.packed_bytes(*shape), ENCODE_FEWER)
        for piece in rows.rows.real_pieces():
            for start in range(0, len(piece), block_rows):
                part = piece[start : start + block_rows]
                scale = largest(rows.rows, part, done, ENCODING)
                done += len(part)
                if n_rows + len(part) > block_rows:
                    yield _core.Encoded.concatenate(parts)
                    parts, n_rows = [], 0
                parts.append(_core.encode(part, scale, rows.base, rows.n_digits, isa))
                n_rows += len(part)
        if not parts:
            parts = [_core.encode(np.empty((0, rows.n_inputs)), np.empty(0), rows.base, rows.n_digits, None)]
        yield parts[0] if len(parts) == 1 else _core.Encoded.concatenate(parts)


class FloatConverter:
    """Converts rows of real numbers to float32, with each row scaled by a power of two."""

    def __init__(self, rows: FloatRows) -> None:
        self._rows = rows
        self._largest: list[NDArray[np.float64]] = []

    def check(self) -> None:
        """Check all numbers; raise ValueError at the first that is not finite."""
        done = 0
        for piece in self._rows.rows.real_pieces():
            self._largest.append(largest(self._rows.rows, piece, done, "a projection"))
            done += len(piece)

    def blocks(self) -> Iterator[_core.Floats]:
        """Yield all rows, a bounded number at a time. Call `check` first."""
        rows = self._rows
        step = max(1, FLOAT_BYTES // (4 * rows.n_inputs))
        done, block = 0, self._new(min(step, rows.n_rows))
        for piece, scale in zip(rows.rows.real_pieces(), self._largest, strict=True):
            start = 0
            while start < len(piece):
                stop = start + min(len(piece) - start, step - block.n_rows)
                block.push(np.ascontiguousarray(piece[start:stop]), np.ascontiguousarray(scale[start:stop]))
                done, start = done + stop - start, stop
                if block.n_rows == step and done < rows.n_rows:
                    yield block
                    block = self._new(min(step, rows.n_rows - done))
        yield block

    def _new(self, n_rows: int) -> _core.Floats:
        rows = self._rows
        _memory.reserve(f"{rows.name}, in float32,", (n_rows, rows.n_inputs), 4 * n_rows * rows.n_inputs, PROJECT_FEWER)
        return _core.Floats(n_rows, rows.n_inputs)


def largest(rows: Rows, piece: NDArray[Any], done: int, purpose: str) -> NDArray[np.float64]:
    """Return the largest magnitude of each row of a piece whose first row is `done`; raise at NaN and infinity."""
    found = _core.row_max_abs(piece, machine.isa())
    if not np.isfinite(found).all():
        row = int(np.flatnonzero(~np.isfinite(found))[0])
        wrong = np.isnan(piece[row]) if np.isnan(found[row]) else np.isinf(piece[row])
        column = int(np.flatnonzero(wrong)[0])
        value = "NaN" if np.isnan(found[row]) else piece[row, column].item()
        raise ValueError(f"{rows.position(done + row, column)} is {value}, but must be finite for {purpose}")
    return found
