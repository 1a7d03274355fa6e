"""The operator and its adjoint as custom ops of torch, with what autograd, torch.compile and torch.export need."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, cast

import numpy as np
import torch
from torch.autograd import forward_ad

from .. import _core, _inputs, _structured
from .._check import Ensemble, Mode
from ..adjoint import Read, default_digits
from ..camera import Camera, imperfect
from ..projector import Projector
from ..ternary import TernaryBatch

_DTYPES = {torch.float32: "float32", torch.float64: "float64", torch.complex64: "complex64"}
_DTYPES[torch.complex128] = "complex128"
_WRAP = 2**64
_ADVICE = "give ternarize= or digits= for other values"


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


def text_of(camera: Camera | None) -> str:
    """Return a camera as text, which an operator of torch can take; without one, no text."""
    return "" if camera is None else json.dumps(asdict(camera))


def camera_of(text: str) -> Camera | None:
    """Return the camera that a text stands for."""
    return Camera(**json.loads(text)) if text else None


def noise_for(camera: Camera | None) -> torch.Tensor | None:
    """Draw a seed for a camera's noise from torch's generator, as dropout does: it can be set, saved and resumed."""
    if not imperfect(camera):
        return None
    return torch.randint(2**63 - 1, (), dtype=torch.int64, device="cpu")


def seed_of(noise: torch.Tensor | None) -> int | None:
    """Return a drawn seed as a number."""
    return None if noise is None else int(noise)


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
        dtype=_DTYPES[dtype],
        threads=threads,
    ).rows(row_start, row_start + n_outputs)
    if ensemble == "structured":
        return cast(torch.Tensor, operator._apply(_structured.source("x", x, digits), None, None, False))
    if digits is not None:
        return cast(torch.Tensor, operator(x, digits=digits, noise_seed=seed_of(noise)))
    if x.device.type == "cpu":
        source = _inputs.source("x", x)
        source.advice = _ADVICE
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
        dtype=_DTYPES[dtype],
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
        finite = _finite(gradient)
        gradient = torch.where(finite, gradient, 0)
        found = adjoint(gradient, n_inputs, seed, mode, row_start, n_anchor, real, threads)
        found = torch.where(finite, found, torch.nan)
    return found.to(x_dtype), *(11 * (None,))


project.register_autograd(_gradient, setup_context=_remember)


def _remember_adjoint(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    y, _, *ctx.matrix, ctx.dtype, ctx.threads = inputs
    ctx.y = y.shape[-1], y.dtype


def _gradient_of_adjoint(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    seed, mode, row_start, n_anchor = ctx.matrix
    n_outputs, dtype = ctx.y
    double = ctx.dtype == torch.float64
    kind = {"linear": torch.float32, "complex": torch.complex64}[mode]
    kind = {torch.float32: torch.float64, torch.complex64: torch.complex128}[kind] if double else kind
    digits = default_digits(np.dtype(_DTYPES[kind]))
    finite = _finite(gradient)
    gradient = torch.where(finite, gradient, 0)
    y = project(gradient, n_outputs, seed, mode, row_start, n_anchor, "", None, kind, ctx.threads, digits)
    y = torch.where(finite, y, torch.nan)
    return (y.to(dtype) if dtype.is_complex else y.real.to(dtype)), *(7 * (None,))


adjoint.register_autograd(_gradient_of_adjoint, setup_context=_remember_adjoint)


def refuse_tangent(x: torch.Tensor) -> None:
    """Raise NotImplementedError if x is a dual number of forward-mode AD, whose derivative would silently be 0."""
    if forward_ad._current_level >= 0 and forward_ad.unpack_dual(x).tangent is not None:
        raise NotImplementedError(
            "a projection has no forward-mode derivative: use torch.autograd.functional.jvp or jacobian, which go back"
        )


def _finite(gradient: torch.Tensor) -> torch.Tensor:
    """Say which vectors are finite: others have NaN for a gradient, where a gradient scaler looks for it."""
    return gradient.isfinite().all(-1, keepdim=True)


def packed(x: torch.Tensor) -> TernaryBatch:
    """Pack a tensor on its own device and bring only the bits, two an element, to the CPU."""
    rows = x.detach().reshape(-1, x.shape[-1])
    positive = rows == 1
    negative = rows == -1 if rows.dtype.is_signed else torch.zeros_like(positive)
    wrong = ~(positive | negative | (rows == 0))
    if bool(wrong.any()):
        index = torch.nonzero(wrong.reshape(x.shape))[0].tolist()
        place = f"x[{', '.join(map(str, index))}]"
        raise ValueError(f"{place} is {x[tuple(index)].item()}, but must be -1, 0 or 1; {_ADVICE}")
    planes = bits(positive).cpu().numpy(), bits(negative).cpu().numpy()
    return TernaryBatch._of(_core.Packed.from_planes(planes[0], planes[1], x.shape[-1], False), tuple(x.shape))


def bits(plane: torch.Tensor) -> torch.Tensor:
    """Return booleans of shape (n, k) as bytes of shape (n, ceil(k / 8)), least significant bit first."""
    n, k = plane.shape
    padded = torch.nn.functional.pad(plane.to(torch.uint8), (0, -k % 8)).reshape(n, -(-k // 8), 8)
    weights = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8, device=plane.device)
    return (padded * weights).sum(dim=2, dtype=torch.uint8)
