"""Rows of a file as a source of vectors, which are checked, packed or encoded in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import _core, _memory
from ..inputs.rows import ArrayRows, PackedRows
from ._packed import PackedReader
from ._reader import Reader


class FileRows(ArrayRows):
    """Rows start to stop - 1 of a file of numbers."""

    def __init__(self, reader: Reader, start: int, stop: int, advice: str) -> None:
        # This array gives only the shape and the precision. It has no values and takes no memory.
        super().__init__(reader.name, np.broadcast_to(np.empty((), reader.dtype), (stop - start, reader.n_inputs)))
        self.advice = advice
        self._reader, self._start = reader, start

    def small(self) -> bool:
        return False  # there is no array to pack at once

    def pieces(self) -> Iterator[Any]:
        return self._reader.pieces(self._start, self._start + self.n_rows)

    def position(self, row: int, column: int) -> str:
        leading = np.unravel_index(self._start + row, self._reader.shape[:-1]) if len(self._reader.shape) > 1 else ()
        return f"{self.name}[{', '.join(map(str, [*leading, column]))}]"


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


def file_rows(reader: Reader, start: int, stop: int, advice: str = "") -> FileRows | PackedFileRows:
    """Return rows of a file; `advice` ends the error message about a value that is not ternary."""
    if isinstance(reader, PackedReader):
        return PackedFileRows(reader, start, stop)
    return FileRows(reader, start, stop, advice)
