"""The order in which a large result is computed: blocks of vectors, and in each block tiles of outputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .. import _memory

# Generating T takes the same time for one vector as for many. Far more vectors than these save no more time.
_MAX_ROWS = 4096
_CHUNK_ROWS = 256
TILE_BYTES = 1 << 25
# Multiply-adds of a tile, which take some seconds: a stop loses the tile that is being computed. Below 16 vectors,
# generating T determines the time.
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
        """The number of tiles."""
        return -(-self.n_rows // self.rows) * -(-self.n_outputs // self.columns)

    @property
    def chunk_rows(self) -> int:
        """The number of rows of chunks, such that chunks fill a block exactly."""
        return _CHUNK_ROWS if self.rows % _CHUNK_ROWS == 0 else self.rows

    def blocks(self, first_tile: int) -> Iterator[tuple[int, int, Iterator[Tile]]]:
        """Yield (start, stop, tiles) of each block of vectors, from `first_tile` on."""
        across = -(-self.n_outputs // self.columns)
        for number in range(first_tile // across if across else 0, -(-self.n_rows // self.rows) if across else 0):
            yield (
                number * self.rows,
                min((number + 1) * self.rows, self.n_rows),
                self._tiles(number, across, first_tile),
            )

    def _tiles(self, block: int, across: int, first_tile: int) -> Iterator[Tile]:
        """Yield the tiles of a block. With a pipe there may be more than fit into memory."""
        top, bottom = block * self.rows, min((block + 1) * self.rows, self.n_rows)
        for number in range(max(first_tile, block * across), (block + 1) * across):
            left = (number - block * across) * self.columns
            yield Tile(number, top, bottom, left, min(left + self.columns, self.n_outputs))

    def computed(self, n_tiles: int) -> int:
        """Return the number of elements in the first `n_tiles` tiles."""
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
    """Choose a plan that keeps one block of inputs and one tile of results in memory.

    Parameters
    ----------
    n_rows, n_outputs : int
        The shape of the result.
    itemsize : int
        Bytes of an element of the result.
    n_inputs : int
        The length of a vector.
    row_bytes : int
        Bytes of a packed or encoded vector.
    batch_rows : int, optional
        The number of vectors in a block.
    in_order : bool
        Whether the result is written sequentially, that is, in whole vectors.
    """
    if batch_rows is not None:
        rows = min(batch_rows, max(1, n_rows))
    else:
        most = max(1, min(_MAX_ROWS, _memory.BLOCK_BYTES // row_bytes))
        rows = max(1, -(-n_rows // max(1, -(-n_rows // most))))
        if rows > _CHUNK_ROWS:  # whole chunks, rounded up but not beyond `most`
            rows = min(-(-rows // _CHUNK_ROWS), most // _CHUNK_ROWS) * _CHUNK_ROWS
    if in_order and batch_rows is None:
        rows = max(1, min(rows, TILE_BYTES // max(1, n_outputs * itemsize)))
    columns = min(TILE_BYTES // (rows * itemsize), _TILE_WORK // (max(rows, _MIN_ROWS) * n_inputs))
    columns = n_outputs if in_order and rows > 1 else max(64, columns // 64 * 64)
    return Plan(n_rows, n_outputs, rows, max(1, min(columns, n_outputs)))
