"""Checks of arguments. Each returns the value in the form that the package uses, or raises an error that names it."""

from __future__ import annotations

import math
import operator
import secrets
from functools import cache
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from . import _core

Mode = Literal["intensity", "linear", "complex", "real"]
"""What a projection returns: |Tx|², Rx, Tx or Gx."""

MODES: tuple[Mode, ...] = ("intensity", "linear", "complex", "real")

Ensemble = Literal["gaussian", "structured"]
"""The distribution of T: independent entries, or three rounds of signs and Walsh-Hadamard transforms."""

ENSEMBLES: tuple[Ensemble, ...] = ("gaussian", "structured")

MAX_SIZE = 2**63 - 1
MAX_SEED = 2**64 - 1
MAX_THREADS = 4096

_LEVELS = {"uint8": 8, "uint16": 16}
_COMPLEX_OF = {"float32": "complex64", "float64": "complex128", "complex64": "complex64", "complex128": "complex128"}


def integer(name: str, value: object, low: int, high: int) -> int:
    """Return `value` as an int from `low` to `high`. NumPy integers are accepted, booleans are not."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {value}, but must be an integer")
    try:
        number = operator.index(cast(Any, value))
    except TypeError:
        raise TypeError(f"{name} is {value!r}, but must be an integer") from None
    if not low <= number <= high:
        top = {MAX_SIZE: "2**63 - 1", MAX_SEED: "2**64 - 1"}.get(high, str(high))
        raise ValueError(f"{name} is {number}, but must be from {low} to {top}")
    return number


def real(
    name: str,
    value: object,
    *,
    low: float = 0.0,
    high: float = math.inf,
    above: float | None = None,
    infinite: bool = False,
) -> float:
    """Return `value` as a float from `low` to `high`, or above a bound; infinity only if it is allowed."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} is {value!r}, but must be a number")
    try:
        number = float(value)
    except OverflowError:  # an integer larger than every float
        number = math.inf if value > 0 else -math.inf
    if infinite and number == math.inf:
        return number
    fits = low <= number <= high if above is None else above < number  # False for nan
    if not fits or math.isinf(number):
        bound = f"from {low:g} to {high:g}" if above is None and high < math.inf else "at least 0 and finite"
        bound = f"above {above:g} and finite" if above is not None else bound
        raise ValueError(f"{name} is {number}, but must be {bound}{', or inf' if infinite else ''}")
    return number


def size(name: str, value: object) -> int:
    return integer(name, value, 1, MAX_SIZE)


def seed(value: object) -> int:
    return integer("seed", value, 0, MAX_SEED)


def n_anchor(value: object) -> int:
    return integer("n_anchor", value, 1, _core.MAX_ANCHOR)


def noise_seed(value: object) -> int:
    """Return the seed of a call's noise; None gives a new random one."""
    return secrets.randbits(64) if value is None else integer("noise_seed", value, 0, MAX_SEED)


def threads(value: object) -> int | None:
    return None if value is None else integer("threads", value, 1, MAX_THREADS)


def mode(value: object) -> Mode:
    if not isinstance(value, str) or value not in MODES:
        raise ValueError(f"mode is {value!r}, but must be one of {', '.join(map(repr, MODES))}")
    return value


def ensemble(value: object) -> Ensemble:
    if not isinstance(value, str) or value not in ENSEMBLES:
        raise ValueError(f"ensemble is {value!r}, but must be one of {', '.join(map(repr, ENSEMBLES))}")
    return value


def dtype(value: Any, mode: Mode, camera: Any = None) -> np.dtype[Any]:
    """Return the NumPy dtype of the results, from anything that NumPy or torch accepts as a dtype."""
    name = _dtype_name(value)
    if name in _LEVELS and mode == "intensity":
        return _levels(name, camera)
    if mode == "complex":
        if name in _COMPLEX_OF:
            return np.dtype(_COMPLEX_OF[name])
        raise ValueError(
            f"dtype is {name}, but mode 'complex' gives complex64 (float32 means the same) or complex128 (float64)"
        )
    if name in ("float32", "float64"):
        return np.dtype(name)
    hint = "; only mode 'complex' gives complex numbers" if name in _COMPLEX_OF else ""
    raise ValueError(f"dtype is {name}, but mode {mode!r} gives float32 or float64{hint}")


def _levels(name: str, camera: Any) -> np.dtype[Any]:
    """Return the dtype of a camera's own integers, or raise if the camera does not give integers."""
    if camera is None or camera.bits is None:
        raise ValueError(f"dtype is {name}, but only a camera with finite bits gives integers: pass camera=")
    if camera.frames > 1:
        raise ValueError(f"dtype is {name}, but the mean of {camera.frames} frames is not an integer: pass float32")
    if camera.bits > _LEVELS[name]:
        raise ValueError(f"dtype is {name}, but a camera of {camera.bits} bits needs uint16")
    return np.dtype(name)


def _dtype_name(value: Any) -> str:
    if value is None:  # NumPy would read None as float64
        return "float32"
    if type(value).__module__ == "torch":
        return str(value).removeprefix("torch.")
    try:
        given = np.dtype(value)
    except (TypeError, ValueError):
        raise TypeError(f"dtype is {value!r}, but must be a floating-point dtype") from None
    return _numpy_name(given)


@cache
def _numpy_name(given: np.dtype[Any]) -> str:
    # Cached: NumPy builds the name at each access, which takes as long as all other checks together.
    return given.name if given.isnative else f"{given.name} in the other byte order"


def row_range(rows: Any, n_outputs: int) -> tuple[int, int]:
    """Return (start, stop) of rows given as a pair, a slice or a range. They must lie in 0..n_outputs."""
    if isinstance(rows, range):
        start, stop, step = rows.start, max(rows.start, rows.stop), rows.step
    elif isinstance(rows, slice):
        # Not slice.indices(), which silently clips rows that do not exist.
        start, stop, step = (
            default if value is None else integer("rows", value, -MAX_SIZE, MAX_SIZE)
            for value, default in zip((rows.start, rows.stop, rows.step), (0, n_outputs, 1), strict=True)
        )
        start, stop = (value + n_outputs if value < 0 else value for value in (start, stop))
    elif isinstance(rows, (tuple, list)) and len(rows) == 2:
        start, stop = (integer("rows", value, -MAX_SIZE, MAX_SIZE) for value in rows)
        step = 1
    else:
        raise TypeError(f"rows is {rows!r}, but must be a pair (start, stop), a slice or a range")
    if step != 1:
        raise ValueError(f"rows has step {step}, but must be contiguous (step 1)")
    if not 0 <= start <= stop <= n_outputs:
        raise ValueError(
            f"rows is {start} to {stop}, but must satisfy 0 <= start <= stop <= n_outputs, which is {n_outputs}"
        )
    return start, stop


def picked(name: str, index: Any, n: int) -> range | NDArray[np.int64]:
    """Return the indices, of 0..n, that a slice, a range or a sequence of integers selects. None selects all."""
    if index is None:
        return range(n)
    if isinstance(index, slice):
        return range(n)[index]
    if isinstance(index, range):
        if len(index) and (min(index[0], index[-1]) < 0 or max(index[0], index[-1]) >= n):
            raise IndexError(f"{name} is {index}, but must lie in 0 to {n - 1}")
        return index
    numbers = np.asarray(index)
    if numbers.size == 0 and numbers.ndim == 1:
        return range(0)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        raise TypeError(f"{name} is {index!r}, but must be a slice, a range or a sequence of integers")
    outside = np.flatnonzero((numbers < -n) | (numbers >= n))
    if len(outside):
        raise IndexError(f"{name} holds {numbers[outside[0]]}, but must lie in {-n} to {n - 1}")
    signed: NDArray[np.int64] = numbers.astype(np.int64)
    return np.where(signed < 0, signed + n, signed)
