"""Dtypes of results by their names, and how they follow from a precision."""

from __future__ import annotations

from typing import Any

import torch

from .. import _check

BY_NAME: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float64": torch.float64,
    "complex64": torch.complex64,
    "complex128": torch.complex128,
}


# What results are rounded to, from float32, where neither NumPy nor the core has it.
_HALVES: dict[str, torch.dtype] = {"float16": torch.float16, "bfloat16": torch.bfloat16}
_REAL: dict[torch.dtype, torch.dtype] = {
    **{dtype: dtype for dtype in (*_HALVES.values(), torch.float32, torch.float64)},
    torch.complex32: torch.float16,
    torch.complex64: torch.float32,
    torch.complex128: torch.float64,
}


def half_of(dtype: Any, mode: object) -> torch.dtype | None:
    """Return the float16 or bfloat16 that is meant by a constructor's `dtype`; None for anything else."""
    name = dtype if isinstance(dtype, str) and dtype in _HALVES else _check._dtype_name(dtype)
    if name in _HALVES and mode == "complex":
        raise ValueError(f"dtype is {name}, but mode 'complex' gives complex64 (float32 is taken for it) or complex128")
    return _HALVES.get(name)


def real_of(dtype: torch.dtype) -> torch.dtype:
    """Return the precision of a dtype as a real one, or raise ValueError if results cannot have it."""
    if dtype not in _REAL:
        names = ", ".join(map(name_of, (*_HALVES.values(), torch.float32, torch.float64)))
        raise ValueError(f"dtype is {name_of(dtype)}, but a Projection gives one of {names}, or complex numbers")
    return _REAL[dtype]


def computed(real: torch.dtype, mode: str) -> torch.dtype:
    """Return the dtype that the operator computes in, for results of a precision."""
    name = "float64" if real == torch.float64 else "float32"
    return BY_NAME[{"float32": "complex64", "float64": "complex128"}[name] if mode == "complex" else name]


def result(real: torch.dtype, mode: str) -> torch.dtype:
    """Return the dtype of results of a precision: complex ones are of single precision at least."""
    return computed(real, mode) if mode == "complex" else real


def name_of(dtype: torch.dtype) -> str:
    """Return a dtype's name."""
    return str(dtype).removeprefix("torch.")
