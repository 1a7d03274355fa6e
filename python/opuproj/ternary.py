"""`TernaryBatch`: ternary vectors, packed to 2 bits an element."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator, Sequence
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from . import _check, _core, _memory
from ._batch import Batch

BitOrder = Literal["big", "little"]

_ADVICE = "unpack fewer rows at a time"
_PLANES_ADVICE = "pass C-contiguous planes, or fewer vectors at a time"


class TernaryBatch(Batch):
    """An immutable batch of vectors of -1, 0 and 1, of shape (..., n_inputs), in 2 bits an element.

    :func:`opuproj.pack` and :func:`opuproj.ternarize` make one from an array, :meth:`from_planes` from packed bits, and
    :meth:`load` from a file. :func:`opuproj.project` and :class:`opuproj.Projector` accept one in place of an array.
    Vectors that are projected more than once then need to be packed only once.

    Indexing works as in NumPy on all axes but the last: with integers, slices, integer arrays and masks.

    Examples
    --------
    >>> import numpy as np
    >>> import opuproj
    >>> batch = opuproj.pack(np.array([[1, 0, -1], [0, 0, 1]]))
    >>> batch
    TernaryBatch(shape=(2, 3), nnz=3)
    >>> batch[0].to_numpy()
    array([ 1,  0, -1], dtype=int8)
    """

    __slots__ = ()

    _name = "a TernaryBatch"
    _made_by = "opuproj.pack, opuproj.ternarize, from_planes or load"

    # Sizes

    @property
    def nbytes(self) -> int:
        """The memory it uses in bytes: two bits an element, with each vector padded to 128 bits."""
        return int(self._packed.nbytes)

    @property
    def nnz(self) -> int:
        """The number of elements that are not 0."""
        return int(self._packed.row_nnz().sum())

    @property
    def nnz_per_row(self) -> NDArray[np.int64]:
        """The number of nonzeros of each vector: an array of shape ``shape[:-1]``."""
        counts: NDArray[np.int64] = self._packed.row_nnz().reshape(self._shape[:-1])
        return counts

    def __repr__(self) -> str:
        return f"TernaryBatch(shape={self._shape}, nnz={self.nnz})"

    # Conversion to and from arrays

    def to_numpy(self, dtype: DTypeLike = np.int8) -> NDArray[Any]:
        """Return the elements as an array.

        Parameters
        ----------
        dtype : dtype, default int8
            Any integer, bool, real or complex dtype that can hold all elements.

        Returns
        -------
        ndarray of shape (..., n_inputs)

        Raises
        ------
        ValueError
            If an element is -1 and the dtype cannot hold -1.
        MemoryError
            If the array cannot be allocated.
        """
        target = np.dtype(dtype)
        if target.kind not in "biufc":
            raise TypeError(f"dtype is {target}, but must be a dtype of numbers")
        packed = self._host
        out = _memory.allocate("an unpacked batch", self._shape, target, _ADVICE)
        rows = out.reshape(packed.n_rows, self.n_inputs)
        if target == np.int8:
            packed.unpack_into(rows, 0, 0)
            return out
        for part, piece in _pieces(packed):
            if target.kind in "bu" and piece.min() < 0:
                raise ValueError(f"dtype is {target}, but the batch holds -1, which {target} cannot hold")
            rows[part] = piece
        return out

    def to_torch(self) -> Any:
        """Return the elements as a torch tensor of int8, on the device of the batch.

        Returns
        -------
        Tensor of shape (..., n_inputs)

        Raises
        ------
        ValueError
            If the batch was made on a GPU from a value that is not allowed.
        """
        return self._tensor(lambda: self.to_numpy())

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("a TernaryBatch is packed: converting it to an array always copies")
        return self.to_numpy(np.int8 if dtype is None else dtype)

    def planes(self, bitorder: BitOrder = "big") -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return bit planes of the elements that are 1 and of those that are -1, laid out as by :func:`numpy.packbits`.

        Parameters
        ----------
        bitorder : {"big", "little"}
            Whether the first of eight elements is the highest bit of a byte (``"big"``) or the lowest.

        Returns
        -------
        positive, negative : ndarray of uint8, each of shape (..., ceil(n_inputs / 8))
            Equal to ``np.packbits(x == 1, axis=-1, bitorder=bitorder)`` and the same for ``x == -1``.

        Examples
        --------
        >>> import opuproj
        >>> opuproj.pack([1, 0, -1, 1]).planes()
        (array([144], dtype=uint8), array([32], dtype=uint8))
        """
        shape = (*self._shape[:-1], -(-self.n_inputs // 8))
        positive, negative = self._host.planes(_msb_first(bitorder))
        return positive.reshape(shape), negative.reshape(shape)

    @staticmethod
    def from_planes(
        positive: ArrayLike, negative: ArrayLike, n_inputs: int | None = None, bitorder: BitOrder = "big"
    ) -> TernaryBatch:
        """Make a batch from bit planes, as :meth:`planes` or :func:`numpy.packbits` along the last axis returns them.

        Parameters
        ----------
        positive, negative : array_like of uint8, each of shape (..., ceil(n_inputs / 8))
            The bits of the elements that are 1, and of those that are -1. No bit may be set in both planes, or beyond
            `n_inputs`.
        n_inputs : int, optional
            The length of each vector. By default, 8 per byte.
        bitorder : {"big", "little"}
            Whether the first of eight elements is the highest bit of a byte (``"big"``) or the lowest.

        Raises
        ------
        TypeError, ValueError
            If the planes do not meet these conditions.

        Examples
        --------
        >>> import numpy as np
        >>> import opuproj
        >>> x = np.array([[1, 0, 0, -1, 1], [0, -1, 0, 0, 0]])
        >>> batch = opuproj.TernaryBatch.from_planes(np.packbits(x == 1, axis=-1), np.packbits(x == -1, axis=-1), 5)
        >>> np.array_equal(batch.to_numpy(), x)
        True
        """
        msb_first = _msb_first(bitorder)
        plane = [_plane(name, bits) for name, bits in (("positive", positive), ("negative", negative))]
        shape = plane[0].shape
        if plane[1].shape != shape:
            raise ValueError(f"negative has shape {plane[1].shape}, but must have positive's shape {shape}")
        n = 8 * shape[-1] if n_inputs is None else _check.size("n_inputs", n_inputs)
        if shape[-1] != -(-n // 8):
            raise ValueError(f"positive has {shape[-1]} bytes a vector, but n_inputs = {n} takes {-(-n // 8)}")
        rows = [_as_rows(name, bits) for name, bits in zip(("positive", "negative"), plane, strict=True)]
        _refuse_bad_bits(rows[0], rows[1], n, bitorder)
        packed = _core.Packed.from_planes(rows[0], rows[1], n, msb_first)
        return TernaryBatch._of(packed, (*shape[:-1], n))

    # Indexing, reshaping, joining

    def __getitem__(self, index: Any) -> TernaryBatch:
        if self.ndim == 1:
            raise IndexError("a TernaryBatch of one axis cannot be indexed: its elements are packed; see to_numpy")
        inner, n_rows = self._shape[1:-1], math.prod(self._shape[1:-1])
        if isinstance(index, (int, slice)) and not isinstance(index, bool):
            # The common case. Its cost does not grow with the batch.
            chosen = range(self._shape[0])[index]
            if isinstance(chosen, range):
                first = np.arange(chosen.start, chosen.stop, chosen.step, dtype=np.int64)
                leading: tuple[int, ...] = (len(first), *inner)
            else:
                first, leading = np.array([chosen], dtype=np.int64), inner
            rows = first if n_rows == 1 else (first[:, None] * n_rows + np.arange(n_rows)).reshape(-1)
        else:
            if index is Ellipsis or (isinstance(index, tuple) and any(part is Ellipsis for part in index)):
                raise IndexError("a TernaryBatch cannot be indexed with '...': its last axis is packed; see to_numpy")
            numbers = np.arange(self._packed.n_rows, dtype=np.int64).reshape(self._shape[:-1])
            try:
                chosen_rows = numbers[index]
            except IndexError as error:
                raise IndexError(
                    f"{error} (a TernaryBatch of shape {self._shape} is indexed on its first {self.ndim - 1} axes; "
                    "the last is packed, see to_numpy)"
                ) from None
            rows, leading = np.ravel(chosen_rows), np.shape(chosen_rows)
        return TernaryBatch._of(self._packed.take(rows), (*leading, self.n_inputs))

    def __iter__(self) -> Iterator[TernaryBatch]:
        return (self[i] for i in range(len(self)))

    def reshape(self, *shape: int | tuple[int, ...]) -> TernaryBatch:
        """Return the same vectors with other leading axes, without a copy.

        Parameters
        ----------
        *shape : int or tuple of int
            The new shape. Its last number must be ``n_inputs``, and one of the others may be -1.

        Raises
        ------
        ValueError
            If the shape does not fit the vectors.
        """
        wanted = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple) else shape
        sizes = [_check.integer("shape", size, -1, _check.MAX_SIZE) for size in cast("tuple[int, ...]", wanted)]
        if not sizes or sizes[-1] != self.n_inputs:
            raise ValueError(f"shape is {tuple(sizes)}, but its last number must be n_inputs, which is {self.n_inputs}")
        n_rows, known = self._packed.n_rows, math.prod(size for size in sizes[:-1] if size != -1)
        if sizes.count(-1) == 1 and known > 0:
            sizes[sizes.index(-1)] = n_rows // known
        if -1 in sizes or math.prod(sizes[:-1]) != n_rows:
            raise ValueError(f"shape is {tuple(wanted)}, which does not hold the {n_rows} vectors of {self._shape}")
        return TernaryBatch._of(self._packed, tuple(sizes))

    @staticmethod
    def concatenate(batches: Sequence[TernaryBatch]) -> TernaryBatch:
        """Join batches along the first axis.

        Parameters
        ----------
        batches : sequence of TernaryBatch, each of shape (n, ..., n_inputs)
            At least one batch. All axes but the first must be equal.

        Raises
        ------
        TypeError, ValueError
            If the batches do not meet these conditions.

        Examples
        --------
        >>> import opuproj
        >>> a, b = opuproj.pack([[1, 0]]), opuproj.pack([[0, -1], [1, 1]])
        >>> opuproj.TernaryBatch.concatenate([a, b]).shape
        (3, 2)
        """
        try:
            parts = list(batches)
        except TypeError:
            raise TypeError(f"batches is {batches!r}, but must be a sequence of TernaryBatch") from None
        if not parts:
            raise ValueError("batches is empty, but must hold at least one TernaryBatch")
        for i, part in enumerate(parts):
            if not isinstance(part, TernaryBatch):
                raise TypeError(f"batches[{i}] is a {type(part).__name__}, but must be a TernaryBatch")
            if part.ndim == 1:
                raise ValueError(f"batches[{i}] is a single vector; use .reshape(1, {part.n_inputs})")
            if part.device != parts[0].device:
                raise ValueError(
                    f"batches[{i}] is on the device {part.device!r}, but must be on that of batches[0], which is "
                    f"{parts[0].device!r}: use .to"
                )
            if part.shape[1:] != parts[0].shape[1:]:
                raise ValueError(
                    f"batches[{i}] has shape {part.shape}, but all axes after the first must be as in batches[0], "
                    f"whose shape is {parts[0].shape}"
                )
        shape = (sum(part.shape[0] for part in parts), *parts[0].shape[1:])
        return TernaryBatch._of(type(parts[0]._packed).concatenate([part._packed for part in parts]), shape)

    # Files

    def save(self, path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> None:
        """Write the batch to a file. The file gets its name only when it is complete.

        Parameters
        ----------
        path : path-like
            The name of the file. An existing file is replaced.

        Raises
        ------
        OSError
            If the file cannot be written.
        ValueError
            If `path` is a device or a named pipe, which is not replaced.

        Notes
        -----
        The file contains, in little-endian order:

        - the bytes ``OPUTERN2``;
        - the number of axes and the length of each axis, in 64 bits each;
        - the bits of the elements that are 1, then the bits of those that are -1. The first element is the lowest bit
          of a byte, and zeros pad each vector to a multiple of 64 bits;
        - the checksums (``zlib.crc32``) of the header and of each of the two bit planes, in 32 bits each.

        :meth:`load` and the commands detect any single damaged byte.

        Examples
        --------
        >>> import os, tempfile
        >>> import opuproj
        >>> batch = opuproj.pack([[1, 0, -1]])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "x.ternary")
        ...     batch.save(path)
        ...     opuproj.TernaryBatch.load(path) == batch
        True
        """
        name = os.fsdecode(path)
        if os.path.exists(name) and not (os.path.isfile(name) or os.path.isdir(name)):
            raise ValueError(f"path is {name!r}, which is a device or a pipe: pass the name of a file")
        self._host.save(name, list(self._shape))

    @staticmethod
    def load(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> TernaryBatch:
        """Read a batch that :meth:`save` wrote.

        Parameters
        ----------
        path : path-like

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If it is not such a file, or if it is damaged. Files of an earlier version have no checksums: they are read,
            but damage to their elements may not be detected.
        MemoryError
            If the batch cannot be allocated.
        """
        name = os.fsdecode(path)
        status = os.stat(name)
        # Opening a pipe would block. Something without a size cannot be checked against its header.
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise ValueError(f"path is {name!r}, which is not a regular file")
        if not _memory.fits(status.st_size):
            raise MemoryError(
                f"the batch in {name!r} takes {_memory.readable(status.st_size)}, which cannot be allocated; "
                "use the command opuproj project, which reads a file a part at a time"
            )
        packed, shape = _core.Packed.load(name)
        return TernaryBatch._of(packed, tuple(shape))

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._host.to_bytes(), self._shape)


def _restore(data: bytes, shape: tuple[int, ...]) -> TernaryBatch:
    packed = _core.Packed.from_bytes(data)
    shape = tuple(_check.integer("shape", size, 0, _check.MAX_SIZE) for size in shape)
    if (math.prod(shape[:-1]), shape[-1]) != (packed.n_rows, packed.n_inputs):
        raise ValueError(f"the shape {shape} does not fit the packed batch of {packed.n_rows} rows")
    return TernaryBatch._of(packed, shape)


def _pieces(packed: _core.Packed) -> Iterator[tuple[tuple[slice, slice], NDArray[np.int8]]]:
    """Yield all elements in pieces, each with its slices of rows and columns. Ctrl-C works between two pieces."""
    for part in _memory.parts(packed.n_rows, packed.n_inputs):
        rows, columns = part
        piece = np.empty((rows.stop - rows.start, columns.stop - columns.start), np.int8)
        packed.unpack_into(piece, rows.start, columns.start)
        yield part, piece


def _msb_first(bitorder: str) -> bool:
    if bitorder not in ("big", "little"):
        raise ValueError(f"bitorder is {bitorder!r}, but must be 'big' or 'little'")
    return bitorder == "big"


def _plane(name: str, bits: ArrayLike) -> NDArray[np.uint8]:
    array = np.asarray(bits)
    if array.dtype != np.uint8:
        raise TypeError(f"{name} has dtype {array.dtype}, but must have dtype uint8, as np.packbits gives")
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ValueError(f"{name} has shape {array.shape}, but must have shape (..., bytes of a vector)")
    return array


def _as_rows(name: str, bits: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a plane as contiguous rows. If a copy is needed, it is made in pieces."""
    n_rows = math.prod(bits.shape[:-1])
    if bits.flags.c_contiguous:
        return bits.reshape(n_rows, bits.shape[-1])
    out = _memory.allocate(f"a contiguous copy of {name}", (n_rows, bits.shape[-1]), bits.dtype, _PLANES_ADVICE)
    done = 0
    for piece in _memory.pieces(bits):
        out[done : done + len(piece)] = piece
        done += len(piece)
    return out


def _refuse_bad_bits(positive: NDArray[np.uint8], negative: NDArray[np.uint8], n: int, bitorder: BitOrder) -> None:
    """Raise ValueError if a bit is set in both planes or beyond the inputs. The message says where."""
    for part in _memory.parts(*positive.shape):
        both = positive[part] & negative[part]
        if both.any():
            row, byte = (int(i) for i in np.argwhere(both)[0])
            bit = int(np.flatnonzero(np.unpackbits(both[row, byte], bitorder=bitorder))[0])
            row, byte = part[0].start + row, part[1].start + byte
            raise ValueError(f"positive and negative are both set at vector {row}, input {8 * byte + bit}")
    if n % 8:
        used = int(np.packbits(np.ones(n % 8, np.uint8), bitorder=bitorder)[0])
        stray = np.flatnonzero((positive[:, -1] | negative[:, -1]) & (255 - used))
        if len(stray):
            raise ValueError(f"vector {int(stray[0])} has bits set beyond its {n} inputs, where all must be 0")
