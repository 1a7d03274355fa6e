"""The operator as a custom op of torch, which torch.compile and torch.export trace through.

The op has one schema and one fake. One argument, an encoded `Call`, holds all that decides its result beside tensors.
The backend is chosen by the device of x, as for arrays.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import cast

import numpy as np
import torch

from .._spec import Spec
from ..backends import Read
from ..encoded import default_digits
from ..inputs.vectors import vectors
from ..projection import apply as _forward
from ..projection import apply_adjoint as _adjoint
from . import _dtypes, _state

# The end of the error about a value that is not ternary.
ADVICE = "give ternarize= or digits= for other values"

# noise: the seed of the camera's noise. member: the seed of another layer of a stack, in place of this one's.
# Spelled out, as versions of torch before 2.6 cannot read it from annotations that are strings.
_SCHEMA = "(Tensor x, str call, Tensor? noise, Tensor? member) -> Tensor"


@dataclass(frozen=True)
class Call:
    """What the op computes, beside its tensors.

    Attributes
    ----------
    spec : Spec
        The operator.
    adjoint : bool
        Whether x is multiplied by the adjoint: the result is then Rᵗx for mode ``"linear"``, Re(Tᴴx) for ``"complex"``.
    threads, digits : int or None
        As in :class:`Projection`.
    kin : int
        What another layer must have in common with this one to take its place (see _state).
    """

    spec: Spec
    adjoint: bool = False
    threads: int | None = None
    digits: int | None = None
    kin: int = 0

    def encode(self) -> str:
        """Return the call as text, which an op of torch takes."""
        return json.dumps([self.spec.encode(), self.adjoint, self.threads, self.digits, self.kin])

    @staticmethod
    def decode(text: str) -> Call:
        """Return the call that a text stands for."""
        return _decoded(text)

    @property
    def width(self) -> int:
        """The length of a result."""
        return self.spec.n_inputs if self.adjoint else self.spec.n_outputs

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of a result."""
        dtype = _dtypes.BY_NAME[self.spec.dtype.name]
        return _dtypes.real_of(dtype) if self.adjoint else dtype

    def field(self, *, double: bool) -> Call:
        """Return the call that gives the exact field Tx, in some precision."""
        return replace(self, spec=_exact(self.spec, "complex", double=double))

    def backward(self, *, double: bool) -> Call:
        """Return the call that carries a gradient back: by the adjoint, or by the projection from the adjoint."""
        mode = "linear" if self.spec.mode == "linear" else "complex"
        if not self.adjoint:
            return replace(self, spec=_exact(self.spec, mode, double=double), adjoint=True, digits=None)
        return replace(self, adjoint=False, digits=default_digits(self.spec.dtype))


def _exact(spec: Spec, mode: str, *, double: bool) -> Spec:
    """Return a specification without a camera, of a mode and a precision."""
    name = ("complex128" if double else "complex64") if mode == "complex" else "float64" if double else "float32"
    return spec.changed(mode=mode, camera=None, dtype=np.dtype(name))


@lru_cache(maxsize=256)
def _decoded(text: str) -> Call:
    spec, adjoint, threads, digits, kin = json.loads(text)
    return Call(Spec.decode(spec), adjoint, threads, digits, kin)


@torch.library.custom_op("opuproj::apply", mutates_args=(), schema=_SCHEMA)
def apply(x: torch.Tensor, call: str, noise: torch.Tensor | None, member: torch.Tensor | None) -> torch.Tensor:
    """Multiply vectors of shape (..., n) by an operator or by its adjoint."""
    found = Call.decode(call)
    spec = found.spec if member is None else found.spec.changed(seed=_state.seed_of(member, found.kin))
    if found.adjoint:
        read: Read = "linear" if spec.mode == "linear" else "real"
        return cast(torch.Tensor, _adjoint(spec, x, read, threads=found.threads)).to(found.dtype)
    rows = vectors(x, found.digits, spec.ensemble, ADVICE)
    noise_seed = None if noise is None else int(noise)
    return cast(torch.Tensor, _forward(spec, rows, threads=found.threads, noise_seed=noise_seed))


@apply.register_fake
def _(x: torch.Tensor, call: str, noise: torch.Tensor | None, member: torch.Tensor | None) -> torch.Tensor:
    found = Call.decode(call)
    return x.new_empty((*x.shape[:-1], found.width), dtype=found.dtype)
