"""Gradients of the custom ops, and their behaviour under the transforms of torch.func."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import torch
from torch.autograd import forward_ad

from ..inputs.tensors import captured
from . import _ops
from ._ops import Call


def apply(x: torch.Tensor, call: str, noise: torch.Tensor | None, seed: torch.Tensor | None) -> torch.Tensor:
    """Call an op. Transforms of torch.func do not use an op's own gradient, so within them a Function calls it."""
    refuse_tangent(x)
    if not transformed():
        return _ops.op_for(x, call, noise, seed)(x, call, noise, seed)  # type: ignore[no-any-return]
    function = _TracedApply if torch.compiler.is_compiling() else _Apply
    result: torch.Tensor = function.apply(x, call, noise, seed)
    return result


def refuse_tangent(x: torch.Tensor) -> None:
    """Raise NotImplementedError if x is a dual number of forward-mode AD; its derivative would silently be 0."""
    if forward_ad._current_level >= 0 and _has_tangent(x):
        _refuse_forward()


def _refuse_forward(*_: Any) -> NoReturn:
    raise NotImplementedError(
        "a projection has no forward-mode derivative: use torch.autograd.functional.jvp or jacobian, or "
        "torch.func.vjp or jacrev, which use reverse mode (for a Hessian, jacrev of jacrev)"
    )


def _has_tangent(x: torch.Tensor) -> bool:
    """Return whether x is a dual number, possibly inside the wrappers of other transforms."""
    functorch = torch._C._functorch
    if not functorch.is_batchedtensor(x) and forward_ad.unpack_dual(x).tangent is not None:
        return True
    return functorch.is_functorch_wrapped_tensor(x) and _has_tangent(functorch.get_unwrapped(x))


# torch.compile runs this function instead of tracing it, because some versions of torch cannot trace it.
@torch.compiler.assume_constant_result
def transformed() -> bool:
    """Return whether this code runs within a transform of torch.func."""
    return bool(torch._C._are_functorch_transforms_active())


# Gradients


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    x, ctx.call, _, seed = inputs
    ctx.x = x.shape[-1], x.dtype
    ctx.save_for_backward(x if _needs_x(ctx.call) else None, seed)


def _gradient(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    """Return the gradient of x. For a projection it is that of the exact Rx, Gx, Tx or |Tx|², whatever the camera."""
    (n, dtype), (x, seed) = ctx.x, ctx.saved_tensors
    double = torch.float64 in (dtype, gradient.real.dtype)
    back, field = _backward_calls(ctx.call, double)
    if field is not None:
        gradient = 2 * gradient * apply(x, field, None, seed)
    if gradient.shape[-1] == 0:
        found = gradient.real.new_zeros((*gradient.shape[:-1], n))
    else:
        gradient, wrong = _finite(gradient)
        found = apply(gradient, back, None, seed)
        found = found.masked_fill_(wrong, torch.nan)
    return found.to(dtype) if dtype.is_complex else found.real.to(dtype), None, None, None


# torch.compile runs these functions instead of tracing them: they depend only on a call's text.


@torch.compiler.assume_constant_result
def _needs_x(call: str) -> bool:
    """Return whether the gradient depends on x, as that of an intensity does."""
    return Call.decode(call).spec.mode == "intensity"


@torch.compiler.assume_constant_result
def _backward_calls(call: str, double: bool) -> tuple[str, str | None]:
    """Return the call that propagates a gradient back and, for an intensity, the call that computes the field."""
    found = Call.decode(call)
    if found.spec.ensemble == "structured":
        raise NotImplementedError("a projection of the ensemble 'structured' has no gradient: use ensemble 'gaussian'")
    field = found.field(double=double).encode() if found.spec.mode == "intensity" else None
    return found.backward(double=double).encode(), field


for _op in (_ops.apply, _ops.apply_on_device):
    _op.register_autograd(_gradient, setup_context=_setup_context)


def _finite(gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a gradient with 0 in place of vectors that are not finite, and a mask of those vectors.

    The caller sets their results to NaN, so that a gradient scaler finds it.
    """
    wrong = ~gradient.isfinite().all(-1, keepdim=True)
    return gradient.masked_fill(wrong, 0), wrong


# Transforms of torch.func

_Rule = Callable[..., tuple[torch.Tensor, int | None]]


def _vmap_rule(call: Callable[..., Any]) -> _Rule:
    """Return the rule with which torch.vmap combines many calls of `call`."""

    def rule(
        info: Any,
        in_dims: tuple[int | None, ...],
        x: torch.Tensor,
        text: str,
        noise: torch.Tensor | None,
        seed: torch.Tensor | None,
    ) -> tuple[torch.Tensor, int | None]:
        axis = in_dims[2]
        if noise is None or axis is None:  # with noise and randomness="same", each call has the same noise
            return _all_calls(call, info.batch_size, in_dims, (x, text, noise, seed), separate=noise is not None)
        # randomness="different": one seed gives each vector other noise, so one seed is enough for all calls.
        if in_dims[0] is None:
            x = x.expand(info.batch_size, *x.shape)
        dims = (in_dims[0] or 0, *in_dims[1:])
        return _all_calls(call, info.batch_size, dims, (x, text, noise.select(axis, 0), seed), separate=False)

    return rule


def _all_calls(
    call: Callable[..., Any], n: int, in_dims: tuple[int | None, ...], arguments: tuple[Any, ...], separate: bool
) -> tuple[torch.Tensor, int | None]:
    """Return the results of n calls, and the axis of the calls (None if they share one result).

    All vectors go through a single call, unless the calls have different matrices or must be `separate`.
    """
    x, text, noise, seed = arguments
    if in_dims[0] is not None:
        x = x.movedim(in_dims[0], 0)
    seeds = None if in_dims[3] is None else seed.movedim(in_dims[3], 0)
    if seeds is not None and _all_equal(seeds):
        seed, seeds = seeds[0], None
    if seeds is None and not separate:
        return call(x, text, noise, seed), None if in_dims[0] is None else 0
    calls: Iterator[Any] = (
        call(x if in_dims[0] is None else x[i], text, noise, seed if seeds is None else seeds[i]) for i in range(n)
    )
    return torch.stack([*calls]), 0


def _all_equal(seeds: torch.Tensor) -> bool:
    """Return whether all are known to be equal. Within further transforms, or in a trace, this is unknown.

    Within the capture of a CUDA graph too, because the values cannot be read.
    """
    plain = type(seeds) is torch.Tensor and not torch._C._functorch.is_functorch_wrapped_tensor(seeds)
    return plain and not seeds.is_meta and not captured(seeds.device) and bool((seeds == seeds[0]).all())


class _TracedApply(torch.autograd.Function):
    @staticmethod
    def forward(*arguments: Any) -> Any:
        return _ops.op_for(*arguments)(*arguments)

    setup_context = staticmethod(_setup_context)
    backward = staticmethod(_gradient)
    vmap = staticmethod(_vmap_rule(apply))


class _Apply(_TracedApply):
    jvp = staticmethod(_refuse_forward)  # separate, because torch.compile does not accept it


for _op in (_ops.apply, _ops.apply_on_device):
    if hasattr(_op, "register_vmap"):  # torch 2.5 and later
        _op.register_vmap(_vmap_rule(_op))
