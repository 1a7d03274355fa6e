"""The rows of an input, on their way to the packer a piece at a time.

A piece is a few rows, about 4 MiB: nothing larger is ever copied or converted, and Ctrl-C works between two pieces.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _config, _core, _memory, _overlap

PIECE_BYTES = 1 << 22
# Packed rows that a projection holds at a time, a quarter of the 64 MiB it may use beyond inputs and outputs:
# malloc may keep the space of the block before, and the sums of a stripe take as much again.
BLOCK_BYTES = 1 << 24

_PACKABLE = frozenset(np.dtype(code) for code in "?bBhHiIlLqQfd")
TO_MATRIX = "projecting fewer vectors at a time needs less"


class Rows:
    """Rows on their way to the core, whatever they are: those of a shape (..., n_inputs)."""

    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        self.name, self.shape = name, shape
        self.n_inputs = shape[-1]
        self.n_rows: int = math.prod(shape[:-1])

    def wrap(self, result: NDArray[Any]) -> Any:
        """Return a result in the rows' own library, on their own device."""
        return result

    def memory(self) -> tuple[NDArray[Any], ...]:
        """Return arrays in whose memory all that is still to be read lies; they are for comparison, not for reading."""
        return ()

    def position(self, row: int, column: int) -> str:
        """Return `x[3, 17]` for a place in the 2-D view of the rows."""
        index = [*np.unravel_index(row, self.shape[:-1]), column] if len(self.shape) > 1 else [column]
        return f"{self.name}[{', '.join(map(str, index))}]"

    def share(self, n_bytes: int) -> int:
        """Return how many rows to take at a time, if all of them take `n_bytes`, to stay within BLOCK_BYTES."""
        n_blocks = -(-n_bytes // BLOCK_BYTES)
        return max(1, self.n_rows if n_blocks <= 1 else -(-self.n_rows // n_blocks))


class RealRows(Rows, ABC):
    """Rows of numbers that can be read, any number of times."""

    @abstractmethod
    def real_pieces(self) -> Iterator[NDArray[Any]]:
        """Yield all rows as 2-D C-contiguous float32 or float64; exact but for longdouble and integers beyond 2**53.

        Complex ones, where they are taken, come as complex64 or complex128.
        """


class Source(RealRows):
    """Rows of ternary or real numbers in an array of shape (..., n_inputs); here one of NumPy."""

    # What an error about a value that is not ternary says at its end.
    advice = "use opuproj.ternarize for other values"

    def __init__(self, name: str, array: Any) -> None:
        super().__init__(name, tuple(array.shape))
        self.array = array

    def memory(self) -> tuple[NDArray[Any], ...]:
        return (self.array,)

    def to_numpy(self, piece: Any) -> NDArray[Any]:
        """Return a piece as a C-contiguous NumPy array in the machine's byte order."""
        array = np.ascontiguousarray(piece)
        flags, dtype = array.flags, array.dtype
        if flags.aligned and dtype.isnative:
            return array
        return array.astype(dtype.newbyteorder("="))

    def in_precision(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Round values to the precision of the array's own dtype."""
        if self.array.dtype.kind != "f" or self.array.dtype.itemsize > 8:
            return values
        with np.errstate(over="ignore"):
            return values.astype(self.array.dtype).astype(np.float64)

    def pack(self) -> _core.Packed:
        """Pack all rows."""
        if self._one_piece():
            packer = new_packer(self.name, self.n_rows, self.n_inputs)
            self._push(packer, self.array.reshape(self.n_rows, self.n_inputs), 0)
            return packer.finish()
        return next(self.packed_blocks(max(1, self.n_rows)))

    def _one_piece(self) -> bool:
        """Whether there is one piece: small calls are spared what is for more."""
        return bool(0 < self.n_rows * self.n_inputs * self.array.itemsize <= PIECE_BYTES)

    def block_rows(self) -> int:
        """Return how many rows to pack at a time so that a projection stays within its working memory."""
        return self.share(packed_bytes(self.n_rows, self.n_inputs))

    def packed_blocks(self, block_rows: int) -> Iterator[_core.Packed]:
        """Yield all rows packed, `block_rows` at a time (the last may be shorter; no rows give one empty block).

        Raises ValueError at the first value that is not -1, 0 or 1.
        """
        done, size, filled = 0, min(block_rows, self.n_rows), 0
        packer = new_packer(self.name, size, self.n_inputs)
        for piece in self._pieces():
            rest = piece
            while len(rest):
                part, rest = rest[: size - filled], rest[size - filled :]
                self._push(packer, part, done + filled)
                filled += len(part)
                if filled == size and done + size < self.n_rows:
                    yield packer.finish()
                    done, size, filled = done + size, min(block_rows, self.n_rows - done - size), 0
                    packer = new_packer(self.name, size, self.n_inputs)
        yield packer.finish()

    def _pieces(self) -> Iterator[Any]:
        """Yield all rows in order, as 2-D arrays of the source's library."""
        return pieces(self.array)

    def _push(self, packer: _core.Packer, piece: Any, row: int) -> None:
        """Pack a piece that begins at this row of the source."""
        bad = packer.push(self._packable(piece))
        if bad is not None:
            self._refuse(row + bad[0], bad[1], piece[bad[0]][bad[1]].item())

    def _packable(self, piece: Any) -> NDArray[Any]:
        array = self.to_numpy(piece)
        if array.dtype in _PACKABLE:
            return array
        if array.dtype.itemsize == 2:
            with np.errstate(invalid="ignore"):  # NaN is refused by what comes next, which says where it is
                return array.astype(np.float32)
        # longdouble: a conversion would round 1 + 1e-18 to 1
        small = np.where(array == 1, 1, np.where(array == -1, -1, np.where(array == 0, 0, 2)))
        return small.astype(np.int8)

    def real_pieces(self) -> Iterator[NDArray[Any]]:
        for piece in self._pieces():
            array = self.to_numpy(piece)
            if array.dtype.kind == "c":
                yield array.astype(np.complex64 if array.dtype.itemsize <= 8 else np.complex128, copy=False)
                continue
            narrow = array.dtype.itemsize <= (4 if array.dtype.kind == "f" else 2)
            with np.errstate(invalid="ignore", over="ignore"):  # refused by what comes next, which says where
                floats = array.astype(np.float32 if narrow else np.float64, copy=False)
            yield floats

    def _refuse(self, row: int, column: int, value: Any) -> None:
        place = self.position(row, column)
        if value != value:
            raise ValueError(f"{place} is NaN, but must be -1, 0 or 1")
        raise ValueError(f"{place} is {value}, but must be -1, 0 or 1; {self.advice}")


class TorchSource(Source):
    """Rows in a dense torch tensor, on any device."""

    def memory(self) -> tuple[NDArray[Any], ...]:
        x = self.array
        if x.device.type != "cpu" or x.numel() == 0:
            return ()
        size = x.element_size()  # not as x.numpy(), which does not know all dtypes
        return (_overlap.at(x.data_ptr(), tuple(x.shape), tuple(size * step for step in x.stride()), size),)

    def to_numpy(self, piece: Any) -> NDArray[Any]:
        import torch

        if piece.dtype.is_floating_point and piece.element_size() <= 2:
            piece = piece.to(torch.float32)  # NumPy has no bfloat16
        if piece.dtype == torch.complex32:
            piece = piece.to(torch.complex64)
        array: NDArray[Any] = piece.cpu().contiguous().resolve_conj().resolve_neg().numpy()
        return array

    def in_precision(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        if not self.array.dtype.is_floating_point:
            return values
        import torch

        rounded: NDArray[np.float64] = torch.from_numpy(values).to(self.array.dtype).to(torch.float64).numpy()
        return rounded

    def wrap(self, result: NDArray[Any]) -> Any:
        import torch

        return torch.from_numpy(result).to(self.array.device)


class ForeignSource(Source):
    """Rows in an array of another library, which the array API standard or DLPack makes readable."""

    def __init__(self, name: str, array: NDArray[Any], foreign: Any, dtype: np.dtype[Any]) -> None:
        super().__init__(name, array)
        self._dtype = dtype
        self._namespace = foreign.__array_namespace__() if hasattr(type(foreign), "__array_namespace__") else None
        self._device = getattr(foreign, "device", None)

    def in_precision(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        if self._dtype == self.array.dtype:
            return super().in_precision(values)
        return values.astype(self._dtype).astype(np.float64)

    def wrap(self, result: NDArray[Any]) -> Any:
        if self._namespace is None:
            return result
        # Not every library has complex numbers, or double precision; JAX without it would round.
        try:
            wrapped = self._namespace.asarray(result, device=self._device)
        except (RuntimeError, TypeError, ValueError):
            return result
        return wrapped if str(wrapped.dtype).rpartition(".")[2] == result.dtype.name else result


class PackedSource(Rows):
    """Rows that are packed already."""

    def __init__(self, name: str, packed: _core.Packed, shape: tuple[int, ...]) -> None:
        super().__init__(name, shape)
        self._packed = packed

    def block_rows(self) -> int:
        """Return the number of all rows: there is nothing left to pack."""
        return max(1, self.n_rows)

    def pack(self) -> _core.Packed:
        """Return the rows."""
        return self._packed

    def packed_blocks(self, block_rows: int) -> Iterator[_core.Packed]:
        """Yield the rows in one block."""
        yield self._packed


def largest(source: Rows, piece: NDArray[Any], done: int, purpose: str) -> NDArray[np.float64]:
    """Return the largest magnitude of each row of a piece, having refused NaN and infinities."""
    found = _core.row_max_abs(piece, _config.isa())
    if not np.isfinite(found).all():
        row = int(np.flatnonzero(~np.isfinite(found))[0])
        wrong = np.isnan(piece[row]) if np.isnan(found[row]) else np.isinf(piece[row])
        column = int(np.flatnonzero(wrong)[0])
        value = "NaN" if np.isnan(found[row]) else piece[row, column].item()
        raise ValueError(f"{source.position(done + row, column)} is {value}, but must be finite for {purpose}")
    return found


def packed_bytes(n_rows: int, n_inputs: int) -> int:
    """Return the bytes of n_rows packed rows: two planes of 64-bit words."""
    return n_rows * -(-n_inputs // 64) * 16


def new_packer(name: str, n_rows: int, n_inputs: int) -> _core.Packer:
    n_bytes = packed_bytes(n_rows, n_inputs)
    if not _memory.fits(n_bytes):
        _memory.reserve(f"{name}, packed,", (n_rows, n_inputs), n_bytes, TO_MATRIX)
    return _core.Packer(n_rows, n_inputs, _config.isa())


def parts(n_rows: int, n_columns: int) -> Iterator[tuple[slice, slice]]:
    """Yield where the parts of an array of this shape lie, of at most PIECE_BYTES elements, in order.

    Columns begin at multiples of PIECE_BYTES, and so with a whole word of packed rows.
    """
    width = min(n_columns, PIECE_BYTES)
    step = max(1, PIECE_BYTES // (width or 1))
    for row in range(0, n_rows, step):
        for column in range(0, n_columns, width or 1):
            yield slice(row, min(row + step, n_rows)), slice(column, min(column + width, n_columns))


def pieces(x: Any) -> Iterator[Any]:
    """Yield all rows of an array or tensor of shape (..., n) in order, as 2-D arrays of at most about PIECE_BYTES.

    Walking the axes, rather than reshaping the whole, copies at most one piece, whatever the strides.
    """
    n = x.shape[-1]
    if x.ndim <= 2:
        rows = x if x.ndim == 2 else x[None]
        step = max(1, PIECE_BYTES // (n * x.itemsize))
        if len(rows) <= step:
            if len(rows):
                yield rows
            return
        for start in range(0, len(rows), step):
            yield rows[start : start + step]
        return
    step = PIECE_BYTES // (math.prod(x.shape[1:]) * x.itemsize or 1)
    if step == 0:
        for part in x:
            yield from pieces(part)
        return
    for start in range(0, x.shape[0], step):
        yield x[start : start + step].reshape(-1, n)
