"""The operator as a custom op of torch, with what torch.compile and torch.export need to see of it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import cast

import torch

from .. import _core, _inputs, _structured
from .._check import Ensemble, Mode
from ..camera import Camera, imperfect
from ..projector import Projector
from ..ternary import TernaryBatch

_DTYPES = {torch.float32: "float32", torch.float64: "float64", torch.complex64: "complex64"}
_DTYPES[torch.complex128] = "complex128"
_WRAP = 2**64
_ADVICE = "give ternarize= for other values"


def signed(seed: int) -> int:
    """Return a seed of 0 to 2**64 - 1 as the 64-bit signed integer that an op's arguments may be."""
    return seed - _WRAP if seed >= _WRAP // 2 else seed


# Spelled out, as versions of torch before 2.6 cannot read it from annotations that are strings.
_SCHEMA = """
    (Tensor x, int n_outputs, int seed, str mode, int row_start, int n_anchor, str camera, Tensor? noise,
    ScalarType dtype, int? threads, str ensemble="gaussian") -> Tensor
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
    ensemble: str = "gaussian",
) -> torch.Tensor:
    """Project vectors of shape (..., n_inputs) on rows row_start to row_start + n_outputs - 1.

    They are of -1, 0 and 1 for the ensemble ``"gaussian"``, of any real numbers for ``"structured"``.
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
        return cast(torch.Tensor, operator._apply(_structured.source("x", x, None), None, None, False))
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
    ensemble: str = "gaussian",
) -> torch.Tensor:
    return x.new_empty((*x.shape[:-1], n_outputs), dtype=dtype)


def _no_gradient(context: object, gradient: torch.Tensor) -> None:
    raise NotImplementedError("a Projection has no gradient with respect to its input: pass x.detach()")


project.register_autograd(_no_gradient)


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
