"""The operator as custom ops of torch, through which torch.compile and torch.export can trace.

Both ops have the same schema, the same fake implementation and the same results. One text argument, an encoded `Call`,
holds everything besides the tensors that determines the result. The device of x selects the backend, as for arrays.

The ops differ in what a CUDA graph may do with them. A graph may capture `opuproj::apply_on_device`, because nothing of
such a call goes through the host. It must not capture `opuproj::apply`, which has a tag that says so. Tags belong to an
op, so one op with two implementations would not do. `op_for` chooses.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NoReturn, cast

import numpy as np
import torch

from .._spec import Spec
from ..backends import Read, backend
from ..encoded import default_digits
from ..inputs.arrays import vectors
from ..inputs.tensors import captured
from ..projection import apply as _forward
from ..projection import apply_adjoint as _adjoint
from . import _dtypes, _state

# The end of the error about a value that is not ternary.
ADVICE = "give ternarize= or digits= for other values"

# noise: the seed of the camera's noise. seed: the seed tensor of another layer of a stack, which replaces the call's.
# Written out, because torch before 2.6 cannot derive a schema from annotations that are strings.
_SCHEMA = "(Tensor x, str call, Tensor? noise, Tensor? seed) -> Tensor"

# The tag of an op that no CUDA graph may capture. Older versions of torch have none; a capture then raises an error.
_UNSAFE = getattr(torch.Tag, "cudagraph_unsafe", None)


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


def _apply(x: torch.Tensor, call: str, noise: torch.Tensor | None, seed: torch.Tensor | None) -> torch.Tensor:
    """Multiply vectors of shape (..., n) by an operator or by its adjoint."""
    if (noise is not None or seed is not None) and captured(x.device):
        _refuse_capture(seed is not None)
    found = Call.decode(call)
    spec = found.spec if seed is None else found.spec.changed(seed=_state.seed_of(seed, found.fingerprint))
    if found.adjoint:
        read: Read = "real part" if spec.mode == "complex" else "real"
        return cast(torch.Tensor, _adjoint(spec, x, read, threads=found.threads)).to(found.dtype)
    rows = vectors(x, found.digits, spec.ensemble, ADVICE)
    noise_seed = None if noise is None else int(noise)
    return cast(torch.Tensor, _forward(spec, rows, threads=found.threads, noise_seed=noise_seed))


def _refuse_capture(seeds: bool) -> NoReturn:
    what = "the seeds of a stack of layers are" if seeds else "the seed of a camera's noise is"
    instead = "" if seeds else ", or use a layer without a camera"
    raise RuntimeError(
        f"{what} read on the CPU, which a CUDA graph cannot capture: call the layer outside of the graph{instead}"
    )


def _fake(x: torch.Tensor, call: str, noise: torch.Tensor | None, seed: torch.Tensor | None) -> torch.Tensor:
    found = Call.decode(call)
    return x.new_empty((*x.shape[:-1], found.width), dtype=found.dtype)


def _op(name: str, **options: Any) -> Any:
    """Return the op of a name."""
    op = torch.library.custom_op(f"opuproj::{name}", _apply, mutates_args=(), schema=_SCHEMA, **options)
    op.register_fake(_fake)
    return op


apply = _op("apply", **({} if _UNSAFE is None else {"tags": (_UNSAFE,)}))
"""The op of any call."""

apply_on_device = _op("apply_on_device")
"""The op of a call that a CUDA graph may capture."""


def op_for(x: torch.Tensor, call: str, noise: torch.Tensor | None, seed: torch.Tensor | None) -> Any:
    """Return the op for a call. The values of `noise` and `seed` are read on the host."""
    return apply_on_device if noise is None and seed is None and _capturable(x.device.type, call) else apply


# torch.compile runs this function instead of tracing it: it depends only on a call's text, and on this machine.
@torch.compiler.assume_constant_result
def _capturable(device: str, call: str) -> bool:
    spec = Call.decode(call).spec
    return not spec.noisy and backend(device).capturable(spec)
