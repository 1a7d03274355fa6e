"""What a caller gives as x: which kind of input it is, and its rows in blocks, once all of them have been looked at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from . import _core, _inputs, _rows, _structured, encoded
from ._check import Ensemble
from ._sparse import Compact, SparseSource
from .ternary import TernaryBatch

PackableSource: TypeAlias = _rows.Source | _rows.PackedSource | encoded.EncodingSource | encoded.EncodedSource
Source: TypeAlias = PackableSource | _structured.FloatSource
Block: TypeAlias = _core.Packed | _core.Encoded | _core.Floats | Compact

_ADVICE = "use opuproj.ternarize, or digits=, for other values"


def source(x: Any, digits: int | None, ensemble: Ensemble, advice: str = _ADVICE) -> Source:
    """Return `x` as rows on their way to an operator; `advice` ends the error about a value that is not ternary."""
    if ensemble == "structured":
        return _structured.source("x", x, digits)
    if digits is not None or isinstance(x, encoded.EncodedBatch):
        return encoded.source("x", x, digits)
    if isinstance(x, TernaryBatch):
        return _rows.PackedSource("x", x._packed, x.shape)
    rows = _inputs.source("x", x)
    rows.advice = advice
    return rows


def blocks(rows: Source, ensemble: Ensemble) -> Iterable[Block]:
    """Return rows in blocks, after all of them have been looked at."""
    if isinstance(rows, _structured.FloatSource):
        rows.check()
        return rows.blocks()
    if ensemble == "gaussian" and isinstance(rows, (SparseSource, encoded.SparseEncodingSource)):
        rows.check()
        if rows.most_entries() > _core.MAX_NONZEROS:
            check_nonzeros(rows, (block.batch for block in rows.compact_blocks()), ensemble)
        return rows.compact_blocks()
    step = rows.block_rows()
    if step >= rows.n_rows:
        whole = (rows.pack(),)
        if rows.n_inputs > _core.MAX_NONZEROS:  # asked here, too, to spare small calls one
            check_nonzeros(rows, whole, ensemble)
        return whole
    check_nonzeros(rows, rows.packed_blocks(step), ensemble)
    return rows.packed_blocks(step)


def check_nonzeros(
    rows: PackableSource,
    blocks: Iterable[_core.Packed | _core.Encoded],
    ensemble: Ensemble,
) -> None:
    """Go through all blocks, whose making checks every value, and refuse a vector of too many nonzeros."""
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
