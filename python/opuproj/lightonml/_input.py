"""Checks the shapes and values of a user's vectors, and packs them into a ternary batch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _check, _memory
from ..packing import pack
from ..ternary import TernaryBatch


@dataclass(frozen=True)
class Traits:
    """The result of a fit: the features of a vector, in one dimension or two, and whether they are packed bits."""

    n_features: tuple[int, ...]
    packed: bool

    @property
    def size(self) -> int:
        """The number of features of a vector."""
        return math.prod(self.n_features)

    @property
    def axes(self) -> int:
        """The number of an array's last axes that form one vector."""
        return 1 if self.packed else len(self.n_features)


def declared(n_features: Any, packed: bool) -> Traits:
    """Return the traits for the given numbers of features."""
    numbers = n_features if isinstance(n_features, (tuple, list, np.ndarray)) else (n_features,)
    if len(numbers) not in (1, 2):
        raise ValueError(f"n_features is {n_features!r}, but must be one number, or two for 2-D features")
    return Traits(tuple(_check.size("n_features", number) for number in numbers), bool(packed))


def observed(X: Any, packed: bool, two_d: bool, n_features: Any) -> Traits:
    """Return the traits of an example. A packed example needs `n_features`, which its bytes do not determine."""
    shape = shape_of(X)
    if n_features is not None and not packed:
        raise AssertionError(
            f"n_features is {n_features!r}, but together with X it can only be specified with packed input"
        )
    if not packed:
        if len(shape) < 1 + two_d:
            raise AssertionError(f"X has shape {shape}, but 2-D features need at least two axes")
        return declared(shape[-2:] if two_d else shape[-1:], packed)
    _check_bits(X)
    if n_features is None:
        if two_d:
            raise ValueError("n_features is None, but must be (height, width) for packed input of 2-D features")
        return Traits((8 * shape[-1],), True)
    traits = declared(n_features, packed)
    _check_bytes(shape, traits)
    return traits


def to_numpy(X: Any) -> tuple[NDArray[Any], bool]:
    """Return X as a NumPy array, and whether it was a torch tensor."""
    if type(X).__name__ == "Tensor" and hasattr(X, "detach"):
        X = X.detach().cpu()
        return (X.float() if X.is_floating_point() and X.element_size() < 4 else X).numpy(), True
    return np.asarray(X), False


def shape_of(X: Any) -> tuple[int, ...]:
    """Return the shape of X, which may be a list. Raise ValueError for a single number."""
    shape = tuple(X.shape) if hasattr(X, "shape") else np.shape(X)
    if not shape:
        raise ValueError("X is a single number, but must be a vector, or a batch of them")
    return shape


def batch_of(X: NDArray[Any], traits: Traits, ternary: bool) -> TernaryBatch:
    """Check the shape and the values of X, and pack its vectors. The result has shape (..., traits.size)."""
    lead = shape_of(X)[: -traits.axes]
    if len(X.shape) < traits.axes or len(lead) > 2:
        raise ValueError(f"X has shape {X.shape}, but {_wanted(traits)} with at most two axes of vectors before them")
    if traits.packed:
        _check_bits(X)
        _check_bytes(X.shape, traits)
        try:
            return TernaryBatch.from_planes(X, np.broadcast_to(np.uint8(0), X.shape), traits.size)
        except ValueError as error:
            raise ValueError(f"X, packed, does not hold {traits.size} features a vector: {error}") from None
    if X.shape[len(lead) :] != traits.n_features:
        raise ValueError(f"X has shape {X.shape}, but {_wanted(traits)}, as fitted")
    flat = X.reshape(*lead, traits.size)
    if X.dtype.kind != "b":
        _check_values(flat, X.shape, ternary)
    return pack(flat)


def _wanted(traits: Traits) -> str:
    if traits.packed:
        return f"its last axis must have {-(-traits.size // 8)} bytes"
    return f"its last {'two axes' if traits.axes == 2 else 'axis'} must be {', '.join(map(str, traits.n_features))}"


def _check_bits(X: Any) -> None:
    dtype = str(X.dtype if hasattr(X, "dtype") else np.asarray(X).dtype)
    if dtype not in ("uint8", "torch.uint8"):
        raise ValueError(f"X has dtype {dtype}, but bit-packed input must be uint8, as numpy.packbits gives")


def _check_bytes(shape: tuple[int, ...], traits: Traits) -> None:
    if shape[-1] != -(-traits.size // 8):
        raise ValueError(f"X has shape {shape}, packed, but {traits.size} features take {-(-traits.size // 8)} bytes")


def _check_values(flat: NDArray[Any], shape: tuple[int, ...], ternary: bool) -> None:
    if flat.dtype.kind not in "iuf":
        raise TypeError(f"X has dtype {flat.dtype}, but must hold numbers")
    values = flat.reshape(-1)
    step = _memory.PIECE_BYTES // values.itemsize
    for start in range(0, values.size, step):  # comparing all at once would take several times its memory
        piece = values[start : start + step]
        good = (piece == 0) | (piece == 1)
        if ternary:
            good |= piece == -1
        if not good.all():
            place = start + int(np.argmin(good))
            index = ", ".join(str(int(i)) for i in np.unravel_index(place, shape))
            allowed = "-1, 0 or 1" if ternary else "0 or 1"
            raise ValueError(
                f"X[{index}] is {values[place]}, but the input must be binary - contain only {allowed}; "
                "the encoders of opuproj.lightonml.encoding.base make it so"
            )
