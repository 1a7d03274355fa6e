"""Rows of a file as a source of vectors, which are checked, packed or encoded in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import _core, _rows
from ._packed import PackedReader
from ._reader import Reader


class FileSource(_rows.Source):
    """Rows start to stop - 1 of a file of numbers."""

    def __init__(self, reader: Reader, start: int, stop: int, advice: str) -> None:
        # This array gives only the shape and the precision. It has no values and takes no memory.
        super().__init__(reader.name, np.broadcast_to(np.empty((), reader.dtype), (stop - start, reader.n_inputs)))
        self.advice = advice
        self._reader, self._start = reader, start

    def _pieces(self) -> Iterator[Any]:
        return self._reader.pieces(self._start, self._start + self.n_rows)

    def pack(self) -> _core.Packed:
        return next(self.packed_blocks(max(1, self.n_rows)))

    def position(self, row: int, column: int) -> str:
        leading = np.unravel_index(self._start + row, self._reader.shape[:-1]) if len(self._reader.shape) > 1 else ()
        return f"{self.name}[{', '.join(map(str, [*leading, column]))}]"


class PackedFileSource(FileSource):
    """Rows start to stop - 1 of a packed file."""

    def __init__(self, reader: PackedReader, start: int, stop: int) -> None:
        super().__init__(reader, start, stop, "")
        self._file = reader

    def packed_blocks(self, block_rows: int) -> Iterator[_core.Packed]:
        stop = self._start + self.n_rows
        for start in range(self._start, max(stop, self._start + 1), block_rows):
            yield self._file.packed(start, min(start + block_rows, stop))


def file_source(reader: Reader, start: int, stop: int, advice: str) -> FileSource:
    """Return rows of a file as a source. `advice` ends the error message about a value that is not ternary."""
    if isinstance(reader, PackedReader):
        return PackedFileSource(reader, start, stop)
    return FileSource(reader, start, stop, advice)
