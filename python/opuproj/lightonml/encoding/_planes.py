"""Bit planes: an encoder of real numbers as binary vectors, and decoders that combine their projections.

The linear projection of Σ 2⁻ⁱ bᵢ is Σ 2⁻ⁱ Rbᵢ, so projections of bit planes add up to the projection of real numbers.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import _check
from ._base import BaseTransformer, matrix, preserve_type


class SeparatedBitPlanEncoder(BaseTransformer):
    """Encode real numbers as bit planes: each bit is a vector, with separate vectors for negative numbers.

    With it and :class:`SeparatedBitPlanDecoder`, :meth:`opuproj.lightonml.OPU.linear_transform` projects real numbers,
    rounded to a few bits.

    Parameters
    ----------
    precision : int, default 6
        The number of bits of a number, from 1 to 8.

    Raises
    ------
    ValueError
        If `precision` is not in that range.
    RuntimeError
        If arguments of lightonml 1.3 are given.

    Warns
    -----
    UserWarning
        If `precision` exceeds 6. More bits did not improve results on the hardware; they do in this simulation.

    Examples
    --------
    >>> import numpy as np
    >>> from opuproj.lightonml.encoding.base import SeparatedBitPlanDecoder, SeparatedBitPlanEncoder
    >>> encoder = SeparatedBitPlanEncoder(precision=2)
    >>> planes = encoder.transform(np.array([[3.0, 1.0, -2.0]]))
    >>> planes
    array([[1, 0, 0],
           [1, 1, 0],
           [0, 0, 1],
           [0, 0, 1]], dtype=uint8)
    >>> SeparatedBitPlanDecoder(**encoder.get_params()).transform(planes)
    array([[ 3.,  1., -2.]])
    """

    def __init__(self, precision: int = 6, **kwargs: Any) -> None:
        if "n_bits" in kwargs or "starting_bit" in kwargs:
            raise RuntimeError(
                "n_bits and starting_bit are arguments of lightonml 1.3: pass precision to SeparatedBitPlanEncoder"
            )
        if kwargs:
            raise TypeError(f"{min(kwargs)} is not an argument of SeparatedBitPlanEncoder")
        self.precision = _check.integer("precision", precision, 1, 8)
        if precision > 6:
            warnings.warn(
                f"You are using precision={precision}. Values greater than 6 rarely result in a performance increase.",
                UserWarning,
                stacklevel=2,
            )
        self.magnitude: tuple[float | None, float | None] = None, None

    @preserve_type
    def transform(self, X: Any) -> Any:
        """Encode X, and keep its largest numbers for :meth:`get_params`.

        Parameters
        ----------
        X : array_like of real numbers of shape (n_samples, ...)

        Returns
        -------
        ndarray of uint8 of shape (sides * n_samples * precision, ...)
            All planes of the first sample, the most significant first, then all of the second, and so on. If there are
            positive and negative numbers, all planes of positive numbers precede those of negative numbers. As in
            lightonml, signed integers whose range ends at 0 get planes for both signs.

        Raises
        ------
        ValueError
            If X is empty, has no axis of samples, or holds NaN or infinities.
        """
        if X.ndim < 2 or X.size == 0:
            raise ValueError(f"X has shape {X.shape}, but must have shape (n_samples, n_features), and not be empty")
        if X.dtype.kind not in "biuf":
            raise TypeError(f"X has dtype {X.dtype}, but must hold real numbers")
        low, high = X.min().item(), X.max().item()
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError("X holds NaN or infinities, but must be finite")
        if X.dtype.kind == "f":
            positive, negative = max(high, 0.0), max(-low, 0.0)
        else:
            positive, negative = self._reach(int(high)), self._reach(-int(low)) if X.dtype.kind == "i" else 0.0
        # The planes have weights 1, 1/2, 1/4, …, whose sum is a little less than 2.
        top = 2 * (1 - 0.5**self.precision)
        self.magnitude = positive / top, negative / top
        sides = [(X, positive)] if negative == 0 else [(-X.astype(np.float64), negative)]
        if positive != 0 and negative != 0:
            sides.insert(0, (X, positive))
        return np.concatenate([self._planes(side, reach) for side, reach in sides])

    def _reach(self, largest: int) -> float:
        """Return the value of all planes together for integers: a shift, so the planes are the integers' own bits."""
        if largest < 0:  # 0 gets planes, because programs rely on lightonml's number of planes
            return 0.0
        return float((2**self.precision - 1) * 2.0 ** (largest.bit_length() - self.precision))

    def _planes(self, X: NDArray[Any], reach: float) -> NDArray[np.uint8]:
        share = np.clip(X.astype(np.float64) / (reach or 1.0), 0, 1)
        levels = (share * (2**self.precision - 1) + 0.5).astype(np.uint8)
        planes = np.unpackbits(levels[:, None], axis=1)[:, -self.precision :]
        return planes.reshape(-1, *X.shape[1:])

    def get_params(self) -> dict[str, Any]:
        """Return the arguments of the decoder for the last transform."""
        return {"precision": self.precision, "magnitude_p": self.magnitude[0], "magnitude_n": self.magnitude[1]}


class SeparatedBitPlanDecoder(BaseTransformer):
    """Add up projections of bit planes to projections of the numbers that :class:`SeparatedBitPlanEncoder` encoded.

    Parameters
    ----------
    precision : int
        The number of planes of a number.
    magnitude_p, magnitude_n : float, default 1 and 0
        The value of a bit in the first plane of positive and of negative numbers. 0 if there are none.
    decoding_decay : float, default 0.5
        The weight of each plane relative to the previous one.

    Raises
    ------
    ValueError, TypeError
        If `precision` is not a positive integer.

    Notes
    -----
    Pass the class as ``decoder_cls``. It then gets the result of the encoder's ``get_params`` as arguments.
    """

    def __init__(
        self, precision: int, magnitude_p: float = 1, magnitude_n: float = 0, decoding_decay: float = 0.5
    ) -> None:
        self.precision = _check.size("precision", precision)
        self.magnitude_p = magnitude_p
        self.magnitude_n = magnitude_n
        self.decoding_decay = decoding_decay

    @preserve_type
    def transform(self, X: Any) -> Any:
        """Decode X.

        Parameters
        ----------
        X : array_like of shape (sides * n_samples * precision, n_components)

        Returns
        -------
        ndarray of float64 of shape (n_samples, n_components)

        Raises
        ------
        ValueError
            If the number of rows of X does not fit.
        """
        both = self.magnitude_p > 0 and self.magnitude_n > 0
        planes = _by_plane(X, self.precision, 2 if both else 1)
        added = _weighted(planes, self.decoding_decay)
        if both:
            positive, negative = np.split(added, 2)
            return positive * self.magnitude_p - negative * self.magnitude_n
        return added * (self.magnitude_p if self.magnitude_n <= 0 else -self.magnitude_n)


class MixingBitPlanDecoder(BaseTransformer):
    """Add up rows of bits with decaying weights. It is lightonml 1.3's decoder, which many programs still use.

    Parameters
    ----------
    n_bits : int, default 8
        The number of rows that form one result.
    decoding_decay : float, default 0.5
        The weight of each row relative to the previous one.

    Raises
    ------
    ValueError, TypeError
        If `n_bits` is not a positive integer.
    """

    def __init__(self, n_bits: int = 8, decoding_decay: float = 0.5) -> None:
        self.n_bits = _check.size("n_bits", n_bits)
        self.decoding_decay = decoding_decay

    @preserve_type
    def transform(self, X: Any) -> Any:
        """Decode X.

        Parameters
        ----------
        X : array_like of shape (n_samples * n_bits, n_components)

        Returns
        -------
        ndarray of float32 of shape (n_samples, n_components)

        Raises
        ------
        ValueError
            If the number of rows of X does not fit.
        """
        return _weighted(_by_plane(X, self.n_bits, 1), self.decoding_decay).astype(np.float32)


class ConcatenatingBitPlanDecoder(BaseTransformer):
    """Weight rows of bits by decaying factors, and concatenate them as features.

    Parameters
    ----------
    n_bits : int, default 8
        The number of rows that form one result.
    decoding_decay : float, default 0.5
        The factor of each row relative to that of the previous one.

    Raises
    ------
    ValueError, TypeError
        If `n_bits` is not a positive integer.
    """

    def __init__(self, n_bits: int = 8, decoding_decay: float = 0.5) -> None:
        self.n_bits = _check.size("n_bits", n_bits)
        self.decoding_decay = decoding_decay

    @preserve_type
    def transform(self, X: Any) -> Any:
        """Decode X.

        Parameters
        ----------
        X : array_like of shape (n_samples * n_bits, n_components)

        Returns
        -------
        ndarray of float32 of shape (n_samples, n_bits * n_components)

        Raises
        ------
        ValueError
            If the number of rows of X does not fit.
        """
        planes = _by_plane(X, self.n_bits, 1)
        weights = (self.decoding_decay ** np.arange(self.n_bits))[:, None]
        return (planes * weights).reshape(len(planes), -1).astype(np.float32)


def _by_plane(X: NDArray[Any], n_planes: int, sides: int) -> NDArray[Any]:
    """Return X with an axis for planes."""
    n_rows, n_components = matrix(X)
    if n_rows % (n_planes * sides):
        raise ValueError(
            f"X has {n_rows} rows, but must have a multiple of {n_planes * sides}: check that you used the "
            "same number of bits in encoder and decoder"
        )
    return X.reshape(-1, n_planes, n_components)


def _weighted(planes: NDArray[Any], decay: float) -> NDArray[np.float64]:
    """Return the weighted sum of planes in float64. It adds one plane at a time, to save memory."""
    total = np.zeros((planes.shape[0], planes.shape[2]))
    for i in range(planes.shape[1]):
        total += planes[:, i] * np.float64(decay**i)
    return total
