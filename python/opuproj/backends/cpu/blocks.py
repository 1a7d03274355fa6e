"""Rows in blocks that the compiled core takes, after all values have been looked at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol, TypeAlias, cast

from ... import _core
from ..._check import Ensemble
from ...inputs.rows import ArrayRows, DigitRows, FloatRows, PackedRows, PlaneRows, Rows
from ...inputs.sparse import SparseRows
from .dense import Dense, Digits, Floats, OnDevice
from .sparse import Compact, Sparse, SparseDigits

Block: TypeAlias = _core.Packed | _core.Encoded | _core.Floats | Compact


class Form(Protocol):
    """How rows of one kind become packed or encoded ones."""

    def block_rows(self, rows: Any) -> int:
        """Return how many rows to take at a time so that a projection stays within its working memory."""

    def whole(self, rows: Any) -> _core.Packed | _core.Encoded:
        """Return all rows."""

    def blocks(self, rows: Any, block_rows: int) -> Iterator[_core.Packed | _core.Encoded]:
        """Yield all rows, at most `block_rows` at a time; no rows give one empty block."""


class SparseForm(Form, Protocol):
    """How rows that store no zeros become packed or encoded ones, over the columns that they use."""

    def check(self, rows: Any) -> None:
        """Look at every value, or raise ValueError at the first bad one."""

    def most_entries(self, rows: Any) -> int:
        """Return the most entries that a vector has."""

    def compact_blocks(self, rows: Any) -> Iterator[Compact]:
        """Yield all rows, a bounded number at a time; no rows give one empty block."""


class Packed:
    """Rows that are packed or encoded already."""

    def block_rows(self, rows: PackedRows[Any]) -> int:
        return rows.block_rows()

    def whole(self, rows: PackedRows[Any]) -> _core.Packed | _core.Encoded:
        return rows.whole()  # type: ignore[no-any-return]

    def blocks(self, rows: PackedRows[Any], block_rows: int) -> Iterator[_core.Packed | _core.Encoded]:
        return rows.blocks(block_rows)


_DENSE, _ON_DEVICE, _PACKED, _DIGITS, _SPARSE, _SPARSE_DIGITS = (
    Dense(),
    OnDevice(),
    Packed(),
    Digits(),
    Sparse(),
    SparseDigits(),
)


def form_of(rows: Rows) -> Form:
    """Return how rows become packed or encoded ones."""
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
    """Return rows in blocks, after all of them have been looked at."""
    if isinstance(rows, FloatRows):
        floats = Floats(rows)
        floats.check()
        return floats.blocks()
    form = form_of(rows)
    if ensemble == "gaussian" and (form is _SPARSE or form is _SPARSE_DIGITS):
        return _compact_blocks(rows, cast(SparseForm, form))
    step = form.block_rows(rows)
    if step >= rows.n_rows:
        whole = (form.whole(rows),)
        if rows.n_inputs > _core.MAX_NONZEROS:  # asked here as well, to save small calls a function call
            _check_nonzeros(rows, whole, ensemble)
        return whole
    _check_nonzeros(rows, form.blocks(rows, step), ensemble)
    return form.blocks(rows, step)


def _compact_blocks(rows: Rows, form: SparseForm) -> Iterable[Block]:
    form.check(rows)
    if form.most_entries(rows) > _core.MAX_NONZEROS:
        _check_nonzeros(rows, (block.batch for block in form.compact_blocks(rows)), "gaussian")
    return form.compact_blocks(rows)


def check_values(rows: Rows) -> None:
    """Look at all values, as a projection of the Gaussian ensemble does; raise ValueError at the first bad one."""
    form = form_of(rows)
    _check_nonzeros(rows, form.blocks(rows, form.block_rows(rows)), "gaussian")


def _check_nonzeros(rows: Rows, blocks: Iterable[_core.Packed | _core.Encoded], ensemble: Ensemble) -> None:
    """Go through all blocks, which checks every value, and refuse a vector of too many nonzeros."""
    for block in blocks:
        if rows.n_inputs > _core.MAX_NONZEROS and ensemble == "gaussian":
            most = max(int(digit.row_nnz().max(initial=0)) for digit in digits_of(block))
            if most > _core.MAX_NONZEROS:
                raise ValueError(
                    f"{rows.name} has a vector of {most} nonzeros, but may have {_core.MAX_NONZEROS} at most: "
                    "up to there, sums of entries are exact in 32 bits"
                )
        del block  # before the next one is made


def digits_of(block: _core.Packed | _core.Encoded) -> Iterator[_core.Packed]:
    """Yield the ternary batches that a block is made of, the highest digit first."""
    if isinstance(block, _core.Packed):
        yield block
    else:
        yield from map(block.digit, range(block.n_digits))
