"""The operator and its adjoint as custom ops of torch, with what autograd, torch.compile and torch.export need."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch.autograd import forward_ad

from .. import _inputs, _structured
from .._check import Ensemble, Mode
from ..adjoint import Read, default_digits
from ..projector import Projector
from ._camera import camera_of, seed_of
from ._dtypes import BY_NAME
from ._packing import ADVICE, packed

_WRAP = 2**64


def signed(seed: int) -> int:
    """Return a seed of 0 to 2**64 - 1 as the 64-bit signed integer that an op's arguments may be."""
    return seed - _WRAP if seed >= _WRAP // 2 else seed


# Spelled out, as versions of torch before 2.6 cannot read it from annotations that are strings.
_SCHEMA = """
    (Tensor x, int n_outputs, int seed, str mode, int row_start, int n_anchor, str camera, Tensor? noise,
    ScalarType dtype, int? threads, int? digits, str ensemble="gaussian") -> Tensor
""".strip()
_ADJOINT_SCHEMA = """
    (Tensor y, int n_inputs, int seed, str mode, int row_start, int n_anchor, ScalarType dtype, int? threads) -> Tensor
""".strip()


@torch.library.custom_op("opuproj::project", mutates_args=(), schema=_SCHEMA)
def project(
    x: torch.Tensor,
    n_outputs: int,
    seed: int,
    mode: str,
    row_start: int,
    n_anchor: int,
    camera: str,
    noise: torch.Tensor | None,
    dtype: torch.dtype,
    threads: int | None,
    digits: int | None,
    ensemble: str = "gaussian",
) -> torch.Tensor:
    """Project vectors of shape (..., n_inputs) on rows row_start to row_start + n_outputs - 1.

    They are of -1, 0 and 1, or of real numbers that are taken in so many digits, or as they are for the ensemble
    ``"structured"``.
    """
    operator = Projector(
        x.shape[-1],
        max(1, row_start + n_outputs),
        seed=seed % _WRAP,
        mode=cast(Mode, mode),
        ensemble=cast(Ensemble, ensemble),
        n_anchor=n_anchor,
        camera=camera_of(camera),
        dtype=dtype,
        threads=threads,
    ).rows(row_start, row_start + n_outputs)
    if ensemble == "structured":
        return cast(torch.Tensor, operator._apply(_structured.source("x", x, digits), None, None, False))
    if digits is not None:
        return cast(torch.Tensor, operator(x, digits=digits, noise_seed=seed_of(noise)))
    if x.device.type == "cpu":
        source = _inputs.source("x", x)
        source.advice = ADVICE
        return cast(torch.Tensor, operator._apply(source, seed_of(noise), None, False))
    return torch.from_numpy(operator(packed(x), noise_seed=seed_of(noise))).to(x.device)


@project.register_fake
def _(
    x: torch.Tensor,
    n_outputs: int,
    seed: int,
    mode: str,
    row_start: int,
    n_anchor: int,
    camera: str,
    noise: torch.Tensor | None,
    dtype: torch.dtype,
    threads: int | None,
    digits: int | None,
    ensemble: str = "gaussian",
) -> torch.Tensor:
    return x.new_empty((*x.shape[:-1], n_outputs), dtype=dtype)


@torch.library.custom_op("opuproj::adjoint", mutates_args=(), schema=_ADJOINT_SCHEMA)
def adjoint(
    y: torch.Tensor,
    n_inputs: int,
    seed: int,
    mode: str,
    row_start: int,
    n_anchor: int,
    dtype: torch.dtype,
    threads: int | None,
) -> torch.Tensor:
    """Return Rᵗy for "linear" and Re(Tᴴy) for "complex", for y of shape (..., n_outputs) on rows from row_start on."""
    operator = Projector(
        n_inputs,
        max(1, row_start + y.shape[-1]),
        seed=seed % _WRAP,
        mode=cast(Mode, mode),
        n_anchor=n_anchor,
        dtype=dtype,
        threads=threads,
    ).rows(row_start, row_start + y.shape[-1])
    read: Read = "linear" if mode == "linear" else "real"
    return cast(torch.Tensor, operator.H._apply(y, read, None, None, False)).to(dtype)


@adjoint.register_fake
def _(
    y: torch.Tensor,
    n_inputs: int,
    seed: int,
    mode: str,
    row_start: int,
    n_anchor: int,
    dtype: torch.dtype,
    threads: int | None,
) -> torch.Tensor:
    return y.new_empty((*y.shape[:-1], n_inputs), dtype=dtype)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    x, _, seed, mode, row_start, n_anchor, _, _, dtype, threads, digits, ctx.ensemble = inputs
    ctx.save_for_backward(*((x,) if mode == "intensity" else ()))
    ctx.x = x.shape[-1], x.dtype
    ctx.matrix, ctx.dtype, ctx.threads, ctx.digits = (seed, row_start, n_anchor), dtype, threads, digits
    ctx.mode = mode


def _gradient(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    """Return the gradient of a real x, from that of Rx, Tx or |Tx|²: of the exact one, whatever camera saw it."""
    if ctx.ensemble == "structured":
        raise NotImplementedError("no gradient flows through a projection of the ensemble 'structured'")
    (n_inputs, x_dtype), (seed, row_start, n_anchor), threads = ctx.x, ctx.matrix, ctx.threads
    double = torch.float64 in (x_dtype, gradient.real.dtype)
    real, mode = torch.float64 if double else torch.float32, ctx.mode
    if mode == "intensity":
        (x,) = ctx.saved_tensors
        kind = torch.complex128 if double else torch.complex64
        none = (None, kind, threads, ctx.digits)
        field = project(x, gradient.shape[-1], seed, "complex", row_start, n_anchor, "", *none)
        gradient, mode = 2 * gradient * field, "complex"
    if gradient.shape[-1] == 0:
        found = gradient.real.new_zeros((*gradient.shape[:-1], n_inputs))
    else:
        gradient, wrong = _finite(gradient)
        found = adjoint(gradient, n_inputs, seed, mode, row_start, n_anchor, real, threads)
        found = found.masked_fill_(wrong, torch.nan)
    return found.to(x_dtype), *(11 * (None,))


project.register_autograd(_gradient, setup_context=_remember)


def _remember_adjoint(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    y, _, *ctx.matrix, ctx.dtype, ctx.threads = inputs
    ctx.y = y.shape[-1], y.dtype


def _gradient_of_adjoint(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    seed, mode, row_start, n_anchor = ctx.matrix
    n_outputs, dtype = ctx.y
    names = {"linear": ("float32", "float64"), "complex": ("complex64", "complex128")}[mode]
    name = names[ctx.dtype == torch.float64]
    kind, digits = BY_NAME[name], default_digits(np.dtype(name))
    gradient, wrong = _finite(gradient)
    y = project(gradient, n_outputs, seed, mode, row_start, n_anchor, "", None, kind, ctx.threads, digits)
    y = y.masked_fill(wrong, torch.nan)
    return (y.to(dtype) if dtype.is_complex else y.real.to(dtype)), *(7 * (None,))


adjoint.register_autograd(_gradient_of_adjoint, setup_context=_remember_adjoint)


def refuse_tangent(x: torch.Tensor) -> None:
    """Raise NotImplementedError if x is a dual number of forward-mode AD, whose derivative would silently be 0."""
    if forward_ad._current_level >= 0 and forward_ad.unpack_dual(x).tangent is not None:
        raise NotImplementedError(
            "a projection has no forward-mode derivative: use torch.autograd.functional.jvp or jacobian, which go back"
        )


def _finite(gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a gradient with 0 for vectors that are not finite, and which those are.

    What is made of them becomes NaN, where a gradient scaler looks for it.
    """
    wrong = ~gradient.isfinite().all(-1, keepdim=True)
    return gradient.masked_fill(wrong, 0), wrong
