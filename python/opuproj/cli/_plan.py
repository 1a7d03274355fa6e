"""In which order a large result is computed: blocks of vectors, and for each of them tiles of outputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .. import _memory

# T costs the same to generate for one vector as for many: far beyond this number, more no longer pay.
_MAX_ROWS = 4096
_CHUNK_ROWS = 256
TILE_BYTES = 1 << 25
# Multiply-adds of a tile, seconds of work: what is under way when it is stopped is lost. Below 16 vectors the generator
# sets the time.
_TILE_WORK = 1 << 39
_MIN_ROWS = 16


@dataclass(frozen=True)
class Tile:
    """Outputs left to right - 1 of vectors top to bottom - 1."""

    number: int
    top: int
    bottom: int
    left: int
    right: int


@dataclass(frozen=True)
class Plan:
    """The tiles of a result of shape (n_rows, n_outputs), each of `rows` by `columns` or less at the edges."""

    n_rows: int
    n_outputs: int
    rows: int
    columns: int

    @property
    def n_tiles(self) -> int:
        """How many there are."""
        return -(-self.n_rows // self.rows) * -(-self.n_outputs // self.columns)

    @property
    def chunk_rows(self) -> int:
        """Rows of chunks that fill a block exactly."""
        return _CHUNK_ROWS if self.rows % _CHUNK_ROWS == 0 else self.rows

    def blocks(self, first_tile: int) -> Iterator[tuple[int, int, Iterator[Tile]]]:
        """Yield (start, stop) of each block of vectors, with the tiles of it from `first_tile` on."""
        across = -(-self.n_outputs // self.columns)
        for number in range(first_tile // across if across else 0, -(-self.n_rows // self.rows) if across else 0):
            yield (
                number * self.rows,
                min((number + 1) * self.rows, self.n_rows),
                self._tiles(number, across, first_tile),
            )

    def _tiles(self, block: int, across: int, first_tile: int) -> Iterator[Tile]:
        """Yield the tiles of a block, one at a time: down a pipe there may be more than fit in memory."""
        top, bottom = block * self.rows, min((block + 1) * self.rows, self.n_rows)
        for number in range(max(first_tile, block * across), (block + 1) * across):
            left = (number - block * across) * self.columns
            yield Tile(number, top, bottom, left, min(left + self.columns, self.n_outputs))

    def computed(self, n_tiles: int) -> int:
        """Return how many numbers of the result the first tiles are."""
        across = -(-self.n_outputs // self.columns)
        if not across:
            return 0
        blocks, rest = divmod(n_tiles, across)
        done = min(blocks * self.rows, self.n_rows)
        height = min(self.rows, self.n_rows - done)
        return done * self.n_outputs + height * min(rest * self.columns, self.n_outputs)


def plan(
    n_rows: int, n_outputs: int, itemsize: int, *, n_inputs: int, row_bytes: int, batch_rows: int | None, in_order: bool
) -> Plan:
    """Choose a plan that holds as much in memory as a projection does: one block of inputs, one tile of results.

    Parameters
    ----------
    n_rows, n_outputs : int
        The shape of the result.
    itemsize : int
        Bytes of an element of it.
    n_inputs : int
        The length of a vector.
    row_bytes : int
        Bytes that a vector takes, packed or encoded.
    batch_rows : int, optional
        Vectors in a block.
    in_order : bool
        Whether the result must come in the order of its bytes, that is, whole vectors at a time.
    """
    if batch_rows is not None:
        rows = min(batch_rows, max(1, n_rows))
    else:
        most = max(1, min(_MAX_ROWS, _memory.BLOCK_BYTES // row_bytes))
        rows = max(1, -(-n_rows // max(1, -(-n_rows // most))))
        if rows > _CHUNK_ROWS:  # whole chunks of rows: rounding up stays below `most`, or down from it
            rows = min(-(-rows // _CHUNK_ROWS), most // _CHUNK_ROWS) * _CHUNK_ROWS
    if in_order and batch_rows is None:
        rows = max(1, min(rows, TILE_BYTES // max(1, n_outputs * itemsize)))
    columns = min(TILE_BYTES // (rows * itemsize), _TILE_WORK // (max(rows, _MIN_ROWS) * n_inputs))
    columns = n_outputs if in_order and rows > 1 else max(64, columns // 64 * 64)
    return Plan(n_rows, n_outputs, rows, max(1, min(columns, n_outputs)))
