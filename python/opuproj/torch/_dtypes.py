"""Dtypes of results: their names, and the rules by which they follow from a precision."""

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


# Dtypes that neither NumPy nor the core supports. Results are rounded to them from float32.
_HALVES: dict[str, torch.dtype] = {"float16": torch.float16, "bfloat16": torch.bfloat16}
_REAL: dict[torch.dtype, torch.dtype] = {
    **{dtype: dtype for dtype in (*_HALVES.values(), torch.float32, torch.float64)},
    torch.complex32: torch.float16,
    torch.complex64: torch.float32,
    torch.complex128: torch.float64,
}


def half_of(dtype: Any, mode: object) -> torch.dtype | None:
    """Return float16 or bfloat16 if a constructor's `dtype` means one of them, else None."""
    name = dtype if isinstance(dtype, str) and dtype in _HALVES else _check._dtype_name(dtype)
    if name in _HALVES and mode == "complex":
        raise ValueError(f"dtype is {name}, but mode 'complex' gives complex64 (float32 means the same) or complex128")
    return _HALVES.get(name)


def real_of(dtype: torch.dtype) -> torch.dtype:
    """Return the real dtype of the same precision; raise ValueError if results cannot have that precision."""
    if dtype not in _REAL:
        names = ", ".join(map(name_of, (*_HALVES.values(), torch.float32, torch.float64)))
        raise ValueError(f"dtype is {name_of(dtype)}, but a Projection gives one of {names}, or complex numbers")
    return _REAL[dtype]


def computed(real: torch.dtype, mode: str) -> torch.dtype:
    """Return the dtype in which the operator computes results of a precision."""
    name = "float64" if real == torch.float64 else "float32"
    return BY_NAME[{"float32": "complex64", "float64": "complex128"}[name] if mode == "complex" else name]


def result(real: torch.dtype, mode: str) -> torch.dtype:
    """Return the dtype of results of a precision; complex results have at least single precision."""
    return computed(real, mode) if mode == "complex" else real


def name_of(dtype: torch.dtype) -> str:
    """Return a dtype's name."""
    return str(dtype).removeprefix("torch.")
