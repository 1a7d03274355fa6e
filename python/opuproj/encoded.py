"""Real numbers as digits -1, 0 and 1, which an optical processing unit can show one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from . import _check, _config, _core, _inputs, _memory, _rows, _sparse
from ._batch import Batch
from .ternary import TernaryBatch

_ADVICE = "encode fewer vectors at a time"
_PURPOSE = "encoding"
TERNARY_BASE, BINARY_BASE = 3, 2
MAX_DIGITS = 20
MAX_PLANES = 15


def encode(x: Any, *, digits: int | None = None, planes: int | None = None) -> EncodedBatch:
    r"""Encode real numbers in few ternary digits, or in bit planes with a sign, and pack them.

    A vector becomes x ≈ s m, with integers m = Σ base\ :sup:`d-1-k` t_k of d digits t_k of -1, 0 and 1, the highest
    first:

    - `digits`: balanced ternary (base 3), m up to M = (3\ :sup:`d` - 1)/2;
    - `planes`: bits of the magnitude, all with the number's sign (base 2), m up to M = 2\ :sup:`d` - 1, as LightOn's
      separated bit planes.

    s = max\|x\|/M is each vector's own, so that no element is off by more than max\|x\|/(2M).

    Parameters
    ----------
    x : array_like of shape (..., n_inputs)
        Real numbers, from the same libraries as in :func:`opuproj.pack`. Of a sparse matrix only what it stores is
        encoded, but its digits take 2 bits an element, zeros included; ``project(x, ..., digits=...)`` spares these.
    digits : int, optional
        d, from 1 to 20; 5 by default, which are off by max\|x\|/242 at most.
    planes : int, optional
        d, from 1 to 15. Give either `digits` or `planes`.

    Returns
    -------
    EncodedBatch
        Of the shape of `x`.

    Raises
    ------
    ValueError
        If `x` holds NaN or an infinity (saying where), or `digits` or `planes` is out of range.
    TypeError
        If `x` does not hold real numbers, or both `digits` and `planes` are given.
    MemoryError
        If the batch cannot be allocated.

    See Also
    --------
    project : takes `digits` as well, and encodes on the way.

    Notes
    -----
    Without a camera, digits are added up to int8 before they are multiplied, up to 5 of base 3 and 7 of base 2 at a
    time (fewer for more than 177,477 nonzeros a vector, whose sums might not fit 32 bits, and with AVX2): they cost one
    projection, not d, of exactly the integers m, whose sums are exact before they are scaled. In front of a camera each
    digit is photographed by itself, in d times as many frames, and the results are added up.

    Examples
    --------
    >>> import numpy as np
    >>> import opuproj
    >>> x = np.random.default_rng(0).standard_normal((3, 1000))
    >>> batch = opuproj.encode(x, digits=5)
    >>> batch
    EncodedBatch(shape=(3, 1000), 5 digits of base 3)
    >>> bool((abs(batch.to_numpy() - x).max(axis=1) <= abs(x).max(axis=1) / 242).all())
    True
    """
    source = _source("x", x, digits, planes)
    return EncodedBatch._of(source.pack(), source.shape)


class EncodedBatch(Batch):
    """An immutable batch of real vectors of shape (..., n_inputs), in digits of 2 bits each.

    :func:`opuproj.encode` makes one. :func:`opuproj.project` and a :class:`opuproj.Projector` take one in place of an
    array.

    Examples
    --------
    >>> import opuproj
    >>> batch = opuproj.encode([4.0, -2.0, 1.0, 0.2], digits=2)
    >>> [digit.to_numpy().tolist() for digit in batch.digits]
    [[1, -1, 0, 0], [1, 1, 1, 0]]
    >>> batch.to_numpy()
    array([ 4., -2.,  1.,  0.])
    """

    __slots__ = ()

    _packed: _core.Encoded
    _name = "an EncodedBatch"
    _made_by = "opuproj.encode"

    @property
    def base(self) -> int:
        """What a digit is worth relative to the next one: 3 or 2."""
        return self._packed.base

    @property
    def n_digits(self) -> int:
        """How many digits there are."""
        return self._packed.n_digits

    @property
    def scale(self) -> NDArray[np.float64]:
        """What the integers of each vector are multiplied by: an array of the shape without its last axis."""
        return self._packed.scales().reshape(self._shape[:-1])

    @property
    def digits(self) -> tuple[TernaryBatch, ...]:
        """Each digit of all vectors, the highest first."""
        return tuple(TernaryBatch._of(self._packed.digit(k), self._shape) for k in range(self.n_digits))

    @property
    def nbytes(self) -> int:
        """The bytes of memory that the digits take."""
        return self._packed.nbytes

    def to_numpy(self, dtype: DTypeLike = np.float64) -> NDArray[Any]:
        """Return the numbers that the digits stand for.

        Parameters
        ----------
        dtype : dtype, default float64
            A floating-point dtype.

        Returns
        -------
        ndarray of shape (..., n_inputs)

        Raises
        ------
        TypeError
            If the dtype is not one of floating point.
        MemoryError
            If the array cannot be allocated.
        """
        target = np.dtype(dtype)
        if target.kind != "f":
            raise TypeError(f"dtype is {target}, but must be a floating-point dtype")
        out = _memory.allocate("a decoded batch", self._shape, target, _ADVICE)
        rows, scale = out.reshape(self._packed.n_rows, self.n_inputs), self._packed.scales()[:, None]
        digits = [self._packed.digit(k) for k in range(self.n_digits)]
        for part in _rows.parts(*rows.shape):
            piece = np.zeros(rows[part].shape)
            one = np.empty(piece.shape, np.int8)
            for digit in digits:
                digit.unpack_into(one, part[0].start, part[1].start)
                piece *= self.base
                piece += one
            rows[part] = piece * scale[part[0]]
        return out

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("an EncodedBatch is packed: making an array of it always copies")
        return self.to_numpy(np.float64 if dtype is None else dtype)

    def __repr__(self) -> str:
        return f"EncodedBatch(shape={self._shape}, {self.n_digits} digits of base {self.base})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.base, self.digits, self._packed.scales())


class EncodingSource(_rows.Rows):
    """Rows of real numbers that are encoded on their way to a projection, as `_rows.Source` packs ternary ones."""

    def __init__(self, source: _rows.RealRows, base: int, n_digits: int) -> None:
        super().__init__(source.name, source.shape)
        self._source, self._base, self._n_digits = source, base, n_digits

    def wrap(self, result: NDArray[Any]) -> Any:
        """Return a result in the array's own library, on its own device."""
        return self._source.wrap(result)

    def memory(self) -> tuple[NDArray[Any], ...]:
        """Return the arrays that numbers are read from."""
        return self._source.memory()

    def block_rows(self) -> int:
        """Return how many rows to encode at a time so that a projection stays within its working memory."""
        # Twice: parts are put together.
        return self.share(2 * self._n_digits * _rows.packed_bytes(self.n_rows, self.n_inputs))

    def pack(self) -> _core.Encoded:
        """Encode all rows."""
        return next(self.packed_blocks(max(1, self.n_rows)))

    def packed_blocks(self, block_rows: int) -> Iterator[_core.Encoded]:
        """Yield all rows encoded, at most `block_rows` at a time; no rows give one empty block."""
        parts: list[_core.Encoded] = []
        done, n_rows = 0, 0
        size = 2 * self._n_digits * _rows.packed_bytes(min(block_rows, self.n_rows), self.n_inputs)
        _memory.reserve(f"{self.name}, encoded,", (min(block_rows, self.n_rows), self.n_inputs), size, _ADVICE)
        for piece in self._source.real_pieces():
            for start in range(0, len(piece), block_rows):
                part = piece[start : start + block_rows]
                largest = _rows.largest(self._source, part, done, _PURPOSE)
                done += len(part)
                if n_rows + len(part) > block_rows:
                    yield _core.Encoded.concatenate(parts)
                    parts, n_rows = [], 0
                parts.append(_core.encode(part, largest, self._base, self._n_digits, _config.isa()))
                n_rows += len(part)
        if not parts:
            parts = [_core.encode(np.empty((0, self.n_inputs)), np.empty(0), self._base, self._n_digits, None)]
        yield parts[0] if len(parts) == 1 else _core.Encoded.concatenate(parts)


class SparseEncodingSource(EncodingSource):
    """Rows of a sparse matrix, of which only what is stored is encoded: the zeros have zero digits."""

    _source: _sparse.SparseSource

    def block_rows(self) -> int:
        """Return how many rows to encode at a time so that a projection stays within its working memory."""
        # An entry's column is copied twice at 64 bits, and its value once.
        entries = 24 * int(self._source.canonical().nnz)
        return self.share(max(self._n_digits * _rows.packed_bytes(self.n_rows, self.n_inputs), entries))

    def check(self) -> None:
        """Look at every value: raise ValueError at the first that is not finite."""
        self._source.finite(_PURPOSE)

    def most_entries(self) -> int:
        """Return the most entries that a vector has."""
        return self._source.most_entries()

    def compact_blocks(self) -> Iterator[_sparse.Compact]:
        """Yield all rows encoded, a bounded number at a time, over the columns that they use."""
        for columns, entries in _sparse.compact(self._source.finite(_PURPOSE), self._n_digits):
            batch = _core.encode_sparse(*entries, len(columns), self._base, self._n_digits, _config.isa())
            yield _sparse.Compact(batch, columns)

    def pack(self) -> _core.Encoded:
        """Encode all rows, a block at a time, zeros included."""
        parts = list(self.packed_blocks(self.block_rows()))
        return parts[0] if len(parts) == 1 else _core.Encoded.concatenate(parts)

    def packed_blocks(self, block_rows: int) -> Iterator[_core.Encoded]:
        """Yield all rows encoded, `block_rows` at a time (the last may be shorter; no rows give one empty block)."""
        csr = self._source.finite(_PURPOSE)
        for start in range(0, max(1, self.n_rows), block_rows):
            stop = min(start + block_rows, self.n_rows)
            size = self._n_digits * _rows.packed_bytes(stop - start, self.n_inputs)
            _memory.reserve(f"{self.name}, encoded,", (stop - start, self.n_inputs), size, _ADVICE)
            entries = _sparse.compressed(csr, start, stop)
            yield _core.encode_sparse(*entries, self.n_inputs, self._base, self._n_digits, _config.isa())


class EncodedSource(_rows.Rows):
    """Rows that are encoded already."""

    def __init__(self, name: str, batch: EncodedBatch) -> None:
        super().__init__(name, batch.shape)
        self._encoded = batch._packed

    def block_rows(self) -> int:
        """Return the number of all rows: there is nothing left to encode."""
        return max(1, self.n_rows)

    def pack(self) -> _core.Encoded:
        """Return the rows."""
        return self._encoded

    def packed_blocks(self, block_rows: int) -> Iterator[_core.Encoded]:
        """Yield the rows in one block."""
        yield self._encoded


def source(name: str, x: Any, digits: int | None) -> EncodingSource | EncodedSource:
    """Return real numbers as a source of encoded ones; `digits` is None for those that are encoded already."""
    if isinstance(x, EncodedBatch):
        if digits is not None:
            raise ValueError(f"digits is {digits!r}, but {name} is encoded already")
        return EncodedSource(name, x)
    return _source(name, x, digits, None)


def _source(name: str, x: Any, digits: int | None, planes: int | None) -> EncodingSource:
    if digits is not None and planes is not None:
        raise TypeError(f"encode takes either digits or planes, but got digits={digits!r} and planes={planes!r}")
    if planes is not None:
        base, n_digits = BINARY_BASE, _check.integer("planes", planes, 1, MAX_PLANES)
    else:
        base, n_digits = TERNARY_BASE, _check.integer("digits", 5 if digits is None else digits, 1, MAX_DIGITS)
    if isinstance(x, (TernaryBatch, EncodedBatch)):
        raise TypeError(f"{name} is a {type(x).__name__}, but must hold real numbers")
    array = _inputs.source(name, x)
    kind = SparseEncodingSource if isinstance(array, _sparse.SparseSource) else EncodingSource
    return kind(array, base, n_digits)


def _restore(base: int, digits: tuple[TernaryBatch, ...], scales: NDArray[np.float64]) -> EncodedBatch:
    if any(digit.shape != digits[0].shape for digit in digits):
        raise ValueError(f"the digits have shapes {[digit.shape for digit in digits]}, but must have one shape")
    encoded = _core.Encoded(base, [digit._packed for digit in digits], scales)
    return EncodedBatch._of(encoded, digits[0].shape)
