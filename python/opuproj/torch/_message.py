"""Messages with packed vectors, which one rank sends to the others."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import torch

from .. import _core
from .._device_batch import moved
from ..backends import Packed
from ._dtypes import BY_NAME, name_of

# Leading axes, packed vectors (None if they have no elements), and the factors of ternarized vectors (else None).
Vectors: TypeAlias = tuple[tuple[int, ...], Packed | None, torch.Tensor | None]


def described(vectors: Vectors) -> dict[str, Any]:
    """Return the header of a message: plain numbers and names."""
    leading, _, factors = vectors
    return {"leading": leading, "factors": None if factors is None else name_of(factors.dtype)}


def as_bytes(vectors: Vectors) -> bytes:
    """Return the body of a message: the bits of packed vectors, then their factors.

    If the vectors are on a GPU, this waits for it, and raises ValueError if a value was not allowed.
    """
    _, packed, factors = vectors
    assert packed is not None, "a layer has an input"
    bits: bytes = moved(packed, "cpu").to_bytes()
    return bits + (b"" if factors is None else factors.cpu().numpy().tobytes())


def from_bytes(message: dict[str, Any], data: memoryview) -> Vectors:
    """Return the vectors of a message from another rank."""
    leading, factors = tuple(message["leading"]), None
    if message["factors"] is not None:
        factors = torch.empty(math.prod(leading), 1, dtype=BY_NAME[message["factors"]])
        data, rest = data[: len(data) - factors.nbytes], data[len(data) - factors.nbytes :]
        factors.numpy()[:] = np.frombuffer(rest, factors.numpy().dtype)[:, None]
    return leading, _core.Packed.from_bytes(bytes(data)), factors
