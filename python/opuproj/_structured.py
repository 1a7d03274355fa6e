"""What goes through the structured matrix, which takes real numbers as they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core, _inputs, _memory, _rows
from ._sparse import SparseSource
from .encoded import EncodedBatch
from .ternary import TernaryBatch

# Vectors in float32 that a projection holds at a time, half of what it may use beyond inputs and outputs.
BLOCK_BYTES = 1 << 25
_SMALLEST = 256
_TO_PROJECT = "projecting on fewer threads (threads=) or fewer inputs needs less"
_WHY = "ensemble is 'structured', a fast sibling in software of the device's own matrix"


def source(name: str, x: Any, digits: int | None) -> _rows.Source | _rows.PackedSource | FloatSource:
    """Return `x` as ternary rows where that is plain from its dtype and values, else as rows of float32."""
    if digits is not None:
        raise ValueError(f"digits is {digits!r}, but {_WHY}: it takes real numbers as they are, without digits=")
    if isinstance(x, EncodedBatch):
        raise TypeError(f"{name} is an EncodedBatch, but {_WHY}: pass the real numbers as they are")
    if isinstance(x, TernaryBatch):
        return _rows.PackedSource(name, x._packed, x.shape)
    rows = _inputs.source(name, x)
    return rows if _is_ternary(rows) else FloatSource(rows)


def refuse_camera(camera: object) -> None:
    """Raise ValueError if there is a camera."""
    if camera is not None:
        raise ValueError(
            f"camera is {camera}, but {_WHY}: a camera only sees what that gives, so take ensemble 'gaussian' with it"
        )


def reserve(n_inputs: int, threads: int, anchor: bool) -> None:
    """Raise MemoryError if there is no room for the vectors that threads transform, and for an anchor's phases."""
    n_bytes = _core.structured_bytes(n_inputs)
    total = 2**63 if n_bytes is None else n_bytes * threads + 8 * length(n_inputs) * anchor
    _memory.reserve(f"transforms on {threads} threads,", (length(n_inputs),), total, _TO_PROJECT)


def length(n_inputs: int) -> int:
    """Return the power of two that vectors are padded to."""
    return max(_SMALLEST, 1 << (n_inputs - 1).bit_length())


def _is_ternary(rows: _rows.Source) -> bool:
    """Say whether these are integers (or a sparse matrix of any dtype) of -1, 0 and 1."""
    if isinstance(rows, SparseSource):
        data = rows.canonical().data
        return bool(((data == 0) | (data == 1) | (data == -1)).all()) if data.dtype.kind != "b" else True
    dtype = rows.array.dtype
    if dtype.is_floating_point if isinstance(rows, _rows.TorchSource) else dtype.kind == "f":
        return False
    pieces = map(rows.to_numpy, _rows.pieces(rows.array))
    small = (piece[part] for piece in pieces for part in _rows.parts(*piece.shape))
    return all(int(part.min()) >= -1 and int(part.max()) <= 1 for part in small)


class FloatSource(_rows.Rows):
    """Rows of real numbers on their way to float32, as `_rows.Source` packs ternary ones."""

    def __init__(self, rows: _rows.Source) -> None:
        super().__init__(rows.name, rows.shape)
        self._rows = rows
        self._largest: list[NDArray[np.float64]] = []

    def wrap(self, result: NDArray[Any]) -> Any:
        return self._rows.wrap(result)

    def memory(self) -> tuple[NDArray[Any], ...]:
        return self._rows.memory()

    def check(self) -> None:
        """Look at all numbers: raise ValueError at the first that is not finite."""
        done = 0
        for piece in self._rows.real_pieces():
            self._largest.append(_rows.largest(self._rows, piece, done, "a projection"))
            done += len(piece)

    def blocks(self) -> Iterator[_core.Floats]:
        """Yield all rows, a bounded number at a time; `check` has seen them."""
        step = max(1, BLOCK_BYTES // (4 * self.n_inputs))
        done, block = 0, self._new(min(step, self.n_rows))
        for piece, largest in zip(self._rows.real_pieces(), self._largest, strict=True):
            start = 0
            while start < len(piece):
                stop = start + min(len(piece) - start, step - block.n_rows)
                block.push(np.ascontiguousarray(piece[start:stop]), np.ascontiguousarray(largest[start:stop]))
                done, start = done + stop - start, stop
                if block.n_rows == step and done < self.n_rows:
                    yield block
                    block = self._new(min(step, self.n_rows - done))
        yield block

    def _new(self, n_rows: int) -> _core.Floats:
        shape = (n_rows, self.n_inputs)
        _memory.reserve(f"{self.name}, in float32,", shape, 4 * n_rows * self.n_inputs, _rows.TO_MATRIX)
        return _core.Floats(n_rows, self.n_inputs)


def unit_vectors(columns: NDArray[np.int64], n_inputs: int) -> TernaryBatch:
    """Return a batch of vectors that have a 1 in one column each."""
    n = len(columns)
    packed = _core.Packed.from_csr(np.arange(n + 1, dtype=np.int64), columns, np.ones(n, dtype=np.int8), n_inputs)
    return TernaryBatch._of(packed, (n, n_inputs))
