"""The operator and its adjoint as custom ops of torch, which torch.compile and torch.export trace through."""

from __future__ import annotations

from typing import cast

import torch

from .. import _inputs, _structured
from .._check import Ensemble, Mode
from ..adjoint import Read
from ..projector import Projector
from . import _camera, _state
from ._packing import ADVICE, packed

_WRAP = 2**64


def signed(seed: int) -> int:
    """Return a seed of 0 to 2**64 - 1 as the 64-bit signed integer that an op's arguments may be."""
    return seed - _WRAP if seed >= _WRAP // 2 else seed


def _seed(seed: int, member: torch.Tensor | None, kin: int) -> int:
    return seed % _WRAP if member is None else _state.seed_of(member, kin)


# Spelled out, as versions of torch before 2.6 cannot read it from annotations that are strings.
# member: the seed of another layer, in place of `seed`; kin: what that must have in common with this one (see _state).
_SCHEMA = """
    (Tensor x, int n_outputs, int seed, str mode, int row_start, int n_anchor, str camera, Tensor? noise,
    ScalarType dtype, int? threads, int? digits, str ensemble="gaussian", Tensor? member=None, int kin=0) -> Tensor
""".strip()
_ADJOINT_SCHEMA = """
    (Tensor y, int n_inputs, int seed, str mode, int row_start, int n_anchor, ScalarType dtype, int? threads,
    Tensor? member=None, int kin=0) -> Tensor
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
    member: torch.Tensor | None = None,
    kin: int = 0,
) -> torch.Tensor:
    """Project vectors of shape (..., n_inputs) on rows row_start to row_start + n_outputs - 1.

    They are of -1, 0 and 1, or of real numbers that are taken in so many digits, or as they are for the ensemble
    ``"structured"``.
    """
    operator = Projector(
        x.shape[-1],
        max(1, row_start + n_outputs),
        seed=_seed(seed, member, kin),
        mode=cast(Mode, mode),
        ensemble=cast(Ensemble, ensemble),
        n_anchor=n_anchor,
        camera=_camera.camera_of(camera),
        dtype=dtype,
        threads=threads,
    ).rows(row_start, row_start + n_outputs)
    if ensemble == "structured":
        return cast(torch.Tensor, operator._apply(_structured.source("x", x, digits), None, None, False))
    if digits is not None:
        return cast(torch.Tensor, operator(x, digits=digits, noise_seed=_camera.seed_of(noise)))
    if x.device.type == "cpu":
        source = _inputs.source("x", x)
        source.advice = ADVICE
        return cast(torch.Tensor, operator._apply(source, _camera.seed_of(noise), None, False))
    return torch.from_numpy(operator(packed(x), noise_seed=_camera.seed_of(noise))).to(x.device)


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
    member: torch.Tensor | None = None,
    kin: int = 0,
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
    member: torch.Tensor | None = None,
    kin: int = 0,
) -> torch.Tensor:
    """Return Rᵗy for "linear" and Re(Tᴴy) for "complex", for y of shape (..., n_outputs) on rows from row_start on."""
    operator = Projector(
        n_inputs,
        max(1, row_start + y.shape[-1]),
        seed=_seed(seed, member, kin),
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
    member: torch.Tensor | None = None,
    kin: int = 0,
) -> torch.Tensor:
    return y.new_empty((*y.shape[:-1], n_inputs), dtype=dtype)
