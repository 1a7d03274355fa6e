"""Converts rows to the blocks that the compiled core accepts, after a check of all values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol, TypeAlias, cast

from ... import _core
from ..._check import Ensemble
from ...inputs.rows import ArrayRows, DigitRows, FloatRows, PackedRows, PlaneRows, Rows
from ...inputs.sparse import SparseRows
from .dense import DenseConverter, DeviceConverter, DigitConverter, FloatConverter
from .sparse import Compact, SparseConverter, SparseDigitConverter

Block: TypeAlias = _core.Packed | _core.Encoded | _core.Floats | Compact


class Converter(Protocol):
    """Converts rows of one kind to packed or encoded rows."""

    def block_rows(self, rows: Any) -> int:
        """Return how many rows to convert at a time so that a projection stays within its working memory."""

    def whole(self, rows: Any) -> _core.Packed | _core.Encoded:
        """Convert all rows."""

    def blocks(self, rows: Any, block_rows: int) -> Iterator[_core.Packed | _core.Encoded]:
        """Convert all rows, at most `block_rows` at a time; an input without rows gives one empty block."""


class CompactConverter(Converter, Protocol):
    """Converts sparse rows to packed or encoded rows over the columns that they use."""

    def check(self, rows: Any) -> None:
        """Check every value; raise ValueError at the first bad one."""

    def compact_blocks(self, rows: Any) -> Iterator[Compact]:
        """Convert all rows, a bounded number at a time; an input without rows gives one empty block."""


class PackedConverter:
    """Passes on rows that are packed or encoded already."""

    def block_rows(self, rows: PackedRows[Any]) -> int:
        return rows.block_rows()

    def whole(self, rows: PackedRows[Any]) -> _core.Packed | _core.Encoded:
        return rows.whole()  # type: ignore[no-any-return]

    def blocks(self, rows: PackedRows[Any], block_rows: int) -> Iterator[_core.Packed | _core.Encoded]:
        return rows.blocks(block_rows)


_DENSE, _ON_DEVICE, _PACKED, _DIGITS, _SPARSE, _SPARSE_DIGITS = (
    DenseConverter(),
    DeviceConverter(),
    PackedConverter(),
    DigitConverter(),
    SparseConverter(),
    SparseDigitConverter(),
)


def converter_of(rows: Rows) -> Converter:
    """Return the converter of these rows."""
    if type(rows) is ArrayRows:  # the common case first
        return _DENSE
    if isinstance(rows, DigitRows):
        return _SPARSE_DIGITS if isinstance(rows.rows, SparseRows) else _DIGITS
    if isinstance(rows, PackedRows):
        return _PACKED
    if isinstance(rows, SparseRows):
        return _SPARSE
    return _ON_DEVICE if isinstance(rows, PlaneRows) else _DENSE


def blocks_of(rows: Rows, ensemble: Ensemble) -> Iterable[Block]:
    """Check all rows, and return them in blocks."""
    if isinstance(rows, FloatRows):
        floats = FloatConverter(rows)
        floats.check()
        return floats.blocks()
    converter = converter_of(rows)
    if ensemble == "gaussian" and (converter is _SPARSE or converter is _SPARSE_DIGITS):
        return _compact_blocks(rows, cast(CompactConverter, converter))
    step = converter.block_rows(rows)
    if step >= rows.n_rows:
        return (converter.whole(rows),)
    _check_all(converter.blocks(rows, step))
    return converter.blocks(rows, step)


def _compact_blocks(rows: Rows, converter: CompactConverter) -> Iterable[Block]:
    converter.check(rows)
    return converter.compact_blocks(rows)


def check_values(rows: Rows) -> None:
    """Check all values, as a projection of the Gaussian ensemble does; raise ValueError at the first bad one."""
    converter = converter_of(rows)
    _check_all(converter.blocks(rows, converter.block_rows(rows)))


def _check_all(blocks: Iterable[_core.Packed | _core.Encoded]) -> None:
    """Make all blocks, one after the other, which checks every value."""
    for block in blocks:
        del block  # free its memory before the next one is made


def digits_of(block: _core.Packed | _core.Encoded) -> Iterator[_core.Packed]:
    """Yield the ternary batches of a block, the highest digit first."""
    if isinstance(block, _core.Packed):
        yield block
    else:
        yield from map(block.digit, range(block.n_digits))
