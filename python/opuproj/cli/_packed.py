"""The packed file of `TernaryBatch.save`, read and written a few rows at a time: a header and two planes of bits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..ternary import TernaryBatch
from ._files import Replacement, reserved
from ._reader import MAX_AXES, FileReader

MAGIC = b"OPUTERN1"


class PackedReader(FileReader):
    """A file of ternary vectors in two bits an element."""

    kind = "a packed file"

    def __init__(self, path: str, file: BinaryIO) -> None:
        self._hold(path, file)
        shape = _shape(path, file)
        super().__init__(path, shape, np.dtype(np.int8))
        self._words = -(-self.n_inputs // 64)
        self._offset = 16 + 8 * len(shape)
        needed = self._offset + 16 * self.n_rows * self._words
        if needed != self._status.st_size:
            raise ValueError(
                f"{path} is a damaged ternary batch: its shape asks for {needed:,} bytes, but it has "
                f"{self._status.st_size:,}"
            )

    def packed(self, start: int, stop: int) -> _core.Packed:
        """Return rows start to stop - 1, having checked that their bits make sense."""
        used = -(-self.n_inputs // 8)
        planes = []
        for k in range(2):
            n_bytes = 8 * self._words * (stop - start)
            self._file.seek(self._offset + 8 * self._words * (k * self.n_rows + start))
            data = self._file.read(n_bytes)
            if len(data) < n_bytes:
                raise ValueError(f"{self.name} became shorter while it was read")
            rows = np.frombuffer(data, np.uint8).reshape(stop - start, 8 * self._words)
            if rows[:, used:].any():
                raise self._damaged(start, stop, f"bits are set beyond the {self.n_inputs} inputs")
            planes.append(np.ascontiguousarray(rows[:, :used]))
        try:
            return TernaryBatch.from_planes(planes[0], planes[1], self.n_inputs, bitorder="little")._packed
        except ValueError as error:
            raise self._damaged(start, stop, str(error)) from error

    def _damaged(self, start: int, stop: int, why: str) -> ValueError:
        return ValueError(f"{self.name} is a damaged ternary batch, in its vectors {start} to {stop - 1}: {why}")

    def read(self, start: int, stop: int) -> NDArray[Any]:
        out = np.empty((stop - start, self.n_inputs), np.int8)
        self.packed(start, stop).unpack_into(out)
        return out


def _shape(path: str, file: BinaryIO) -> tuple[int, ...]:
    """Return the shape that the header tells."""
    head = file.read(16)
    n_axes = int.from_bytes(head[8:], "little")
    if len(head) < 16 or not 1 <= n_axes <= MAX_AXES:
        raise ValueError(f"{path} is no packed ternary batch: its shape makes no sense")
    lengths = file.read(8 * n_axes)
    if len(lengths) < 8 * n_axes:
        raise ValueError(f"{path} is no packed ternary batch: it ends too early")
    return tuple(int(length) for length in np.frombuffer(lengths, "<u8"))


def write_packed(path: Path, shape: tuple[int, ...], blocks: Iterator[_core.Packed]) -> None:
    """Write blocks of rows as one packed file, which appears under its name when it is complete."""
    n_rows, words = math.prod(shape[:-1]), -(-shape[-1] // 64)
    header = MAGIC + np.array([len(shape), *shape], "<u8").tobytes()
    with Replacement(path) as file:
        reserved(file, len(header) + 16 * words * n_rows, path)
        file.write(header)
        done = 0
        for block in blocks:
            for k, bits in enumerate(block.planes(False)):
                rows = np.zeros((block.n_rows, 8 * words), np.uint8)
                rows[:, : bits.shape[1]] = bits
                file.seek(len(header) + 8 * words * (k * n_rows + done))
                file.write(rows.tobytes())
            done += block.n_rows
