"""The operator as a custom op of torch, through which torch.compile and torch.export can trace.

The op has one schema and one fake implementation. One text argument, an encoded `Call`, holds everything besides the
tensors that determines the result. The device of x selects the backend, as for arrays.
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
from ..inputs.arrays import vectors
from ..projection import apply as _forward
from ..projection import apply_adjoint as _adjoint
from . import _dtypes, _state

# The end of the error about a value that is not ternary.
ADVICE = "give ternarize= or digits= for other values"

# noise: the seed of the camera's noise. seed: the seed tensor of another layer of a stack, which replaces the call's.
# Written out, because torch before 2.6 cannot derive a schema from annotations that are strings.
_SCHEMA = "(Tensor x, str call, Tensor? noise, Tensor? seed) -> Tensor"


@dataclass(frozen=True)
class Call:
    """The computation of the op, without its tensors.

    Attributes
    ----------
    spec : Spec
        The operator.
    adjoint : bool
        Whether to multiply x by the adjoint: the result is then Rᵗx for mode ``"linear"``, Gᵗx for ``"real"`` and
        Re(Tᴴx) for ``"complex"``.
    threads, digits : int or None
        As in :class:`Projection`.
    fingerprint : int
        A checksum of the layer's settings. A layer that replaces this one must have the same (see _state).
    """

    spec: Spec
    adjoint: bool = False
    threads: int | None = None
    digits: int | None = None
    fingerprint: int = 0

    def encode(self) -> str:
        """Return the call as text, which a torch op accepts."""
        return json.dumps([self.spec.encode(), self.adjoint, self.threads, self.digits, self.fingerprint])

    @staticmethod
    def decode(text: str) -> Call:
        """Return the call that `encode` wrote as this text."""
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
        """Return the call that computes the exact field Tx in single or double precision."""
        return replace(self, spec=_exact(self.spec, "complex", double=double))

    def backward(self, *, double: bool) -> Call:
        """Return the call that propagates a gradient back: the adjoint of a projection, or the reverse."""
        mode = "complex" if self.spec.mode == "intensity" else self.spec.mode
        if not self.adjoint:
            return replace(self, spec=_exact(self.spec, mode, double=double), adjoint=True, digits=None)
        return replace(self, adjoint=False, digits=default_digits(self.spec.dtype))


def _exact(spec: Spec, mode: str, *, double: bool) -> Spec:
    """Return a specification without a camera, with a mode and a precision."""
    name = ("complex128" if double else "complex64") if mode == "complex" else "float64" if double else "float32"
    return spec.changed(mode=mode, camera=None, dtype=np.dtype(name))


@lru_cache(maxsize=256)
def _decoded(text: str) -> Call:
    spec, adjoint, threads, digits, fingerprint = json.loads(text)
    return Call(Spec.decode(spec), adjoint, threads, digits, fingerprint)


@torch.library.custom_op("opuproj::apply", mutates_args=(), schema=_SCHEMA)
def apply(x: torch.Tensor, call: str, noise: torch.Tensor | None, seed: torch.Tensor | None) -> torch.Tensor:
    """Multiply vectors of shape (..., n) by an operator or by its adjoint."""
    found = Call.decode(call)
    spec = found.spec if seed is None else found.spec.changed(seed=_state.seed_of(seed, found.fingerprint))
    if found.adjoint:
        read: Read = "real part" if spec.mode == "complex" else "real"
        return cast(torch.Tensor, _adjoint(spec, x, read, threads=found.threads)).to(found.dtype)
    rows = vectors(x, found.digits, spec.ensemble, ADVICE)
    noise_seed = None if noise is None else int(noise)
    return cast(torch.Tensor, _forward(spec, rows, threads=found.threads, noise_seed=noise_seed))


@apply.register_fake
def _(x: torch.Tensor, call: str, noise: torch.Tensor | None, seed: torch.Tensor | None) -> torch.Tensor:
    found = Call.decode(call)
    return x.new_empty((*x.shape[:-1], found.width), dtype=found.dtype)
