"""`EncodedBatch`: real vectors as digits -1, 0 and 1, which an optical processing unit can display one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from . import _core, _memory
from ._batch import Batch
from .ternary import TernaryBatch

_ADVICE = "decode fewer vectors at a time"
TERNARY_BASE, BINARY_BASE = 3, 2
MAX_DIGITS = 20
MAX_PLANES = 15
_DOUBLE = ("float64", "complex128")


def default_digits(dtype: np.dtype[Any]) -> int:
    """Return the default number of digits: the error is at most 2e-5 relative, or 3e-10 for double precision."""
    return 20 if dtype.name in _DOUBLE else 10


class EncodedBatch(Batch):
    """An immutable batch of real vectors of shape (..., n_inputs), in digits of 2 bits each.

    :func:`opuproj.encode` makes one. :func:`opuproj.project` and :class:`opuproj.Projector` accept one in place of an
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

    _name = "an EncodedBatch"
    _made_by = "opuproj.encode"

    @property
    def base(self) -> int:
        """The base of the digits: 3 or 2."""
        return int(self._packed.base)

    @property
    def n_digits(self) -> int:
        """The number of digits of each element."""
        return int(self._packed.n_digits)

    @property
    def scale(self) -> NDArray[np.float64]:
        """The factor that multiplies the integers of each vector: an array of shape ``shape[:-1]``."""
        scales: NDArray[np.float64] = self._packed.scales().reshape(self._shape[:-1])
        return scales

    @property
    def digits(self) -> tuple[TernaryBatch, ...]:
        """One batch per digit, the highest digit first."""
        return tuple(TernaryBatch._of(self._packed.digit(k), self._shape) for k in range(self.n_digits))

    @property
    def nbytes(self) -> int:
        """The memory of the digits in bytes."""
        return int(self._packed.nbytes)

    def to_numpy(self, dtype: DTypeLike = np.float64) -> NDArray[Any]:
        """Return the numbers that the digits represent.

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
            If the dtype is not a floating-point dtype.
        MemoryError
            If the array cannot be allocated.
        """
        target = np.dtype(dtype)
        if target.kind != "f":
            raise TypeError(f"dtype is {target}, but must be a floating-point dtype")
        out = _memory.allocate("a decoded batch", self._shape, target, _ADVICE)
        packed = self._host
        rows, scale = out.reshape(packed.n_rows, self.n_inputs), packed.scales()[:, None]
        digits = [packed.digit(k) for k in range(self.n_digits)]
        for part in _memory.parts(*rows.shape):
            piece = np.zeros(rows[part].shape)
            one = np.empty(piece.shape, np.int8)
            for digit in digits:
                digit.unpack_into(one, part[0].start, part[1].start)
                piece *= self.base
                piece += one
            rows[part] = piece * scale[part[0]]
        return out

    def to_torch(self) -> Any:
        """Return the numbers that the digits represent as a torch tensor of float64, on the device of the batch.

        On a GPU, a vector made from a number that is not finite is NaN.

        Returns
        -------
        Tensor of shape (..., n_inputs)
        """
        return self._tensor(lambda: self.to_numpy())

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("an EncodedBatch is packed: converting it to an array always copies")
        return self.to_numpy(np.float64 if dtype is None else dtype)

    def __repr__(self) -> str:
        return f"EncodedBatch(shape={self._shape}, {self.n_digits} digits of base {self.base})"

    def __reduce__(self) -> tuple[Any, ...]:
        digits = tuple(digit.to("cpu") for digit in self.digits)
        return _restore, (self.base, digits, self._packed.scales())


def _restore(base: int, digits: tuple[TernaryBatch, ...], scales: NDArray[np.float64]) -> EncodedBatch:
    if any(digit.shape != digits[0].shape for digit in digits):
        raise ValueError(f"the digits have shapes {[digit.shape for digit in digits]}, but must have one shape")
    encoded = _core.Encoded(base, [digit._packed for digit in digits], scales)
    return EncodedBatch._of(encoded, digits[0].shape)
