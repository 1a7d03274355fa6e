"""Encoders whose features are bits of numbers: of their representation in memory, or in base two."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._input import to_numpy
from ._base import BaseTransformer, matrix, preserve_type, refuse_nan


class ConcatenatedBitPlanEncoder(BaseTransformer):
    """Encode each integer as some of its bits, which become features.

    Parameters
    ----------
    n_bits : int, default 8
        The number of bits to keep of each number.
    starting_bit : int, default 0
        The number of bits to skip before those. The order is from the lowest byte to the highest, and in each byte from
        the most to the least significant bit.

    Raises
    ------
    ValueError
        If `n_bits` is not positive, or `starting_bit` negative.

    Examples
    --------
    >>> import numpy as np
    >>> from opuproj.lightonml.encoding.base import ConcatenatedBitPlanEncoder
    >>> ConcatenatedBitPlanEncoder(n_bits=4).transform(np.array([[0b1100_0000, 0b0101_0000]], np.uint8))
    array([[1, 1, 0, 0, 0, 1, 0, 1]], dtype=uint8)
    """

    def __init__(self, n_bits: int = 8, starting_bit: int = 0) -> None:
        if n_bits <= 0:
            raise ValueError(f"n_bits is {n_bits}, but must be a positive integer")
        if starting_bit < 0:
            raise ValueError(f"starting_bit is {starting_bit}, but must be 0 or a positive integer")
        self.n_bits = n_bits
        self.starting_bit = starting_bit

    @preserve_type
    def transform(self, X: Any) -> Any:
        """Encode.

        Parameters
        ----------
        X : array_like of integers of shape (n_samples, n_features)

        Returns
        -------
        ndarray of uint8 of shape (n_samples, n_features * n_bits)
            All bits of the first feature, then all of the second, and so on.

        Raises
        ------
        ValueError
            If the numbers of X have fewer than n_bits + starting_bit bits.
        TypeError
            If X does not hold integers.
        """
        n_samples, n_features = matrix(X)
        if X.dtype.kind not in "biu":
            raise TypeError(f"X has dtype {X.dtype}, but must hold integers: their bits are encoded")
        width = 8 * X.dtype.itemsize
        if self.n_bits + self.starting_bit > width:
            raise ValueError(
                f"n_bits + starting_bit is {self.n_bits} + {self.starting_bit}, but must be at most {width}, "
                f"the bits of {X.dtype}"
            )
        low_first = np.ascontiguousarray(X, dtype=X.dtype.newbyteorder("<"))
        bits = np.unpackbits(low_first[..., None].view(np.uint8), axis=2)
        kept = bits[:, :, self.starting_bit : self.starting_bit + self.n_bits]
        return kept.reshape(n_samples, self.n_bits * n_features)


class Float32Encoder(BaseTransformer):
    """Encode the bits of float32 numbers as vectors: all signs form one vector, all first exponent bits the next.

    Parameters
    ----------
    sign_bit : bool, default True
        Whether to keep the sign.
    exp_bits : int, default 8
        The number of exponent bits to keep, the most significant first, from 0 to 8.
    mantissa_bits : int, default 23
        The number of mantissa bits to keep, the most significant first, from 0 to 23.

    Attributes
    ----------
    n_bits : int
        The number of bits that are kept.
    indices : list of int
        The positions of these bits, counted from the sign.

    Raises
    ------
    ValueError
        If a number of bits is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from opuproj.lightonml.encoding.base import Float32Encoder
    >>> Float32Encoder(sign_bit=True, exp_bits=1, mantissa_bits=0).transform(np.array([[-4, 0.5]], np.float32))
    array([[1, 0],
           [1, 0]], dtype=uint8)
    """

    def __init__(self, sign_bit: bool = True, exp_bits: int = 8, mantissa_bits: int = 23) -> None:
        for name, value, most in (("exp_bits", exp_bits, 8), ("mantissa_bits", mantissa_bits, 23)):
            if not 0 <= value <= most:
                raise ValueError(f"{name} is {value}, but must be in the range [0, {most}]")
        self.sign_bit = sign_bit
        self.exp_bits = exp_bits
        self.mantissa_bits = mantissa_bits
        self.indices = [0] * bool(sign_bit) + [*range(1, 1 + exp_bits), *range(9, 9 + mantissa_bits)]
        self.n_bits = len(self.indices)

    @preserve_type
    def transform(self, X: Any) -> Any:
        """Encode.

        Parameters
        ----------
        X : array_like of float32 of shape (n_samples, n_features)

        Returns
        -------
        ndarray of uint8 of shape (n_samples * n_bits, n_features)
            All vectors of the first sample, then all of the second, and so on.

        Raises
        ------
        TypeError
            If X is not of float32.
        """
        n_samples, n_features = matrix(X)
        return self._bits(X).transpose(0, 2, 1).reshape(n_samples * self.n_bits, n_features)

    def _bits(self, X: NDArray[Any]) -> NDArray[np.uint8]:
        if X.dtype != np.float32:
            raise TypeError(
                f"X has dtype {X.dtype}, but must be float32, whose bits are encoded: use X.astype('float32')"
            )
        sign_first = np.ascontiguousarray(X, dtype=">f4")[..., None].view(np.uint8)
        return np.unpackbits(sign_first, axis=2)[:, :, self.indices]


class ConcatenatedFloat32Encoder(Float32Encoder):
    """Encode the bits of float32 numbers as features.

    Parameters
    ----------
    sign_bit, exp_bits, mantissa_bits
        As for :class:`Float32Encoder`. The attributes are the same, too.

    Examples
    --------
    >>> import numpy as np
    >>> from opuproj.lightonml.encoding.base import ConcatenatedFloat32Encoder
    >>> ConcatenatedFloat32Encoder(exp_bits=1, mantissa_bits=0).transform(np.array([[-4, 0.5]], np.float32))
    array([[1, 1, 0, 0]], dtype=uint8)
    """

    @preserve_type
    def transform(self, X: Any) -> Any:
        """Encode.

        Parameters
        ----------
        X : array_like of float32 of shape (n_samples, n_features)

        Returns
        -------
        ndarray of uint8 of shape (n_samples, n_features * n_bits)
            All bits of the first feature, then all of the second, and so on.

        Raises
        ------
        TypeError
            If X is not of float32.
        """
        n_samples, n_features = matrix(X)
        return self._bits(X).reshape(n_samples, n_features * self.n_bits)


class SequentialBaseTwoEncoder(BaseTransformer):
    """Encode grey levels in base two. Each bit is repeated by its weight, so similar levels have similar codes.

    Parameters
    ----------
    n_gray_levels : int, default 16
        The number of levels to which numbers are rounded: a power of two, up to 256.

    Attributes
    ----------
    n_bits : int
        The base-2 logarithm of `n_gray_levels`.
    offset, scale : float
        The smallest number that :meth:`fit` found, and its distance to the largest one.

    Raises
    ------
    AssertionError
        If `n_gray_levels` is not such a number.

    Examples
    --------
    >>> import numpy as np
    >>> from opuproj.lightonml.encoding.base import SequentialBaseTwoEncoder
    >>> SequentialBaseTwoEncoder(8).fit_transform(np.array([[0.0, 5.0, 7.0]]))
    array([[0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1]],
          dtype=uint8)
    """

    offset: Any
    scale: Any

    def __init__(self, n_gray_levels: int = 16) -> None:
        valid = type(n_gray_levels) is int and 1 <= n_gray_levels <= 256 and n_gray_levels & (n_gray_levels - 1) == 0
        if not valid:
            raise AssertionError(f"n_gray_levels is {n_gray_levels!r}, but must be an integer power of 2 up to 256")
        self.n_gray_levels = n_gray_levels
        self.n_bits = n_gray_levels.bit_length() - 1
        self.offset = None
        self.scale = None

    def fit(self, X: Any, y: Any = None) -> SequentialBaseTwoEncoder:
        """Find the range of the numbers in X, which must be finite."""
        array, _ = to_numpy(X)
        low, high = array.min().astype(np.float64), array.max().astype(np.float64)
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError("X holds NaN or infinities, but must be finite")
        self.offset, self.scale = low, high - low
        return self

    def normalize(self, X: Any) -> Any:
        """Return the level of each number, as uint8. Numbers outside the range of fit get the first or the last level.

        Raises
        ------
        AssertionError
            If nothing was fitted.
        ValueError
            If X holds NaN.
        """
        if self.offset is None:
            raise AssertionError("You have to call fit on the training data before calling transform.")
        # If all numbers of fit were equal, larger numbers get the last level.
        scale = self.scale or np.finfo(np.float64).tiny
        X = np.asarray(X)
        refuse_nan(X)
        with np.errstate(over="ignore"):
            levels = np.rint((self.n_gray_levels - 1) * (X.astype(np.float64) - self.offset) / scale)
        return np.clip(levels, 0, self.n_gray_levels - 1).astype(np.uint8)

    @preserve_type
    def transform(self, X: Any) -> Any:
        """Encode.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of uint8 of shape (n_samples, n_features * (n_gray_levels - 1))

        Raises
        ------
        AssertionError
            If nothing was fitted.
        ValueError
            If X holds NaN.
        """
        n_samples, n_features = matrix(X)
        bits = np.unpackbits(self.normalize(X)[..., None], axis=2)[:, :, 8 - self.n_bits :]
        weights = 2 ** np.arange(self.n_bits)[::-1]
        return np.repeat(bits, weights, axis=2).reshape(n_samples, n_features * (self.n_gray_levels - 1))
