"""The packed file of `TernaryBatch.save`: a header, two planes of bits, and checksums."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .. import _core, _memory
from ..inputs.rows import PackedRows
from ..ternary import TernaryBatch
from ._files import Replacement, reserve_space
from ._reader import MAX_AXES, FileReader

MAGIC = b"OPUTERN2"
# The previous version, which has no checksums.
OLD_MAGIC = b"OPUTERN1"
# The parts that have a checksum, in the order of the checksums at the end.
_PARTS = ("header", "plane of the +1", "plane of the -1")
_CHECKSUM_BYTES = 4


class PackedReader(FileReader):
    """A file of ternary vectors with two bits for each element."""

    kind = "a packed file"

    def __init__(self, path: str, file: BinaryIO) -> None:
        self._keep_open(path, file)
        header, shape = _header(path, file)
        super().__init__(path, shape, np.dtype(np.int8))
        self._words = -(-self.n_inputs // 64)
        self._offset = len(header)
        self._end = self._offset + 16 * self.n_rows * self._words
        self._unchecked = header.startswith(MAGIC)
        needed = self._end + (_CHECKSUM_BYTES * len(_PARTS) if self._unchecked else 0)
        if needed != self._status.st_size:
            raise ValueError(
                f"{path} is a damaged ternary batch: its shape needs {needed:,} bytes, but it has "
                f"{self._status.st_size:,}"
            )
        if self._unchecked:
            self._compare(0, zlib.crc32(header))

    def _check(self) -> None:
        """Compare both planes with their checksums before the first row is used."""
        if not self._unchecked:
            return
        half = 8 * self.n_rows * self._words
        for k in range(2):
            checksum, left = 0, half
            self._file.seek(self._offset + k * half)
            while left:
                piece = self._file.read(min(left, _memory.PIECE_BYTES))
                if not piece:
                    raise ValueError(f"{self.name} became shorter while it was read")
                checksum, left = zlib.crc32(piece, checksum), left - len(piece)
            self._compare(1 + k, checksum)
        self._unchecked = False

    def _compare(self, part: int, checksum: int) -> None:
        self._file.seek(self._end + _CHECKSUM_BYTES * part)
        if self._file.read(_CHECKSUM_BYTES) != checksum.to_bytes(_CHECKSUM_BYTES, "little"):
            raise ValueError(f"{self.name} is a damaged ternary batch: its {_PARTS[part]} has another checksum")

    def packed(self, start: int, stop: int) -> _core.Packed:
        """Return rows start to stop - 1, after checking that their bits are valid."""
        self._check()
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
            batch = TernaryBatch.from_planes(planes[0], planes[1], self.n_inputs, bitorder="little")
        except ValueError as error:
            raise self._damaged(start, stop, str(error)) from error
        packed: _core.Packed = batch._packed
        return packed

    def rows(self, start: int, stop: int, advice: str = "") -> PackedFileRows:
        return PackedFileRows(self, start, stop)

    def _damaged(self, start: int, stop: int, why: str) -> ValueError:
        return ValueError(f"{self.name} is a damaged ternary batch, in its vectors {start} to {stop - 1}: {why}")

    def read(self, start: int, stop: int) -> NDArray[Any]:
        out = np.empty((stop - start, self.n_inputs), np.int8)
        self.packed(start, stop).unpack_into(out, 0, 0)
        return out


class PackedFileRows(PackedRows[_core.Packed]):
    """Rows start to stop - 1 of a packed file, which are read a block at a time."""

    def __init__(self, reader: PackedReader, start: int, stop: int) -> None:
        super(PackedRows, self).__init__(reader.name, (stop - start, reader.n_inputs))
        self._reader, self._start = reader, start

    encoded = False

    def block_rows(self) -> int:
        return _memory.rows_within(self.n_rows, _memory.packed_bytes(self.n_rows, self.n_inputs))

    def whole(self) -> _core.Packed:
        return self._reader.packed(self._start, self._start + self.n_rows)

    def blocks(self, block_rows: int) -> Iterator[_core.Packed]:
        stop = self._start + self.n_rows
        for start in range(self._start, max(stop, self._start + 1), block_rows):
            yield self._reader.packed(start, min(start + block_rows, stop))


def _header(path: str, file: BinaryIO) -> tuple[bytes, tuple[int, ...]]:
    """Return the header and the shape in it."""
    head = file.read(16)
    n_axes = int.from_bytes(head[8:], "little")
    if len(head) < 16 or not 1 <= n_axes <= MAX_AXES:
        raise ValueError(f"{path} is not a packed ternary batch: its shape makes no sense")
    lengths = file.read(8 * n_axes)
    if len(lengths) < 8 * n_axes:
        raise ValueError(f"{path} is not a packed ternary batch: it ends too early")
    return head + lengths, tuple(int(length) for length in np.frombuffer(lengths, "<u8"))


def write_packed(path: Path, shape: tuple[int, ...], blocks: Iterator[_core.Packed]) -> None:
    """Write blocks of rows as one packed file, which gets its name when it is complete."""
    n_rows, words = math.prod(shape[:-1]), -(-shape[-1] // 64)
    header = MAGIC + np.array([len(shape), *shape], "<u8").tobytes()
    checksums = [zlib.crc32(header), 0, 0]
    with Replacement(path) as file:
        end = len(header) + 16 * words * n_rows
        reserve_space(file, end + _CHECKSUM_BYTES * len(checksums), path)
        file.write(header)
        done = 0
        for block in blocks:
            for k, bits in enumerate(block.planes(False)):
                rows = np.zeros((block.n_rows, 8 * words), np.uint8)
                rows[:, : bits.shape[1]] = bits
                file.seek(len(header) + 8 * words * (k * n_rows + done))
                data = rows.tobytes()
                file.write(data)
                # Blocks come in order, and so do the rows of each plane.
                checksums[1 + k] = zlib.crc32(data, checksums[1 + k])
            done += block.n_rows
        file.seek(end)
        file.write(np.array(checksums, "<u4").tobytes())
