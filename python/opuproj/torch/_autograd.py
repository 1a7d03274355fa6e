"""Gradients of the custom op, and the op under the transforms of torch.func."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import torch
from torch.autograd import forward_ad

from . import _ops
from ._ops import Call


def apply(x: torch.Tensor, call: str, noise: torch.Tensor | None, member: torch.Tensor | None) -> torch.Tensor:
    """Call the op of that name; inside of a transform of torch.func, which takes no op's own gradient, a Function."""
    refuse_tangent(x)
    if not transformed():
        return _ops.apply(x, call, noise, member)
    function = _TracedApply if torch.compiler.is_compiling() else _Apply
    result: torch.Tensor = function.apply(x, call, noise, member)
    return result


def refuse_tangent(x: torch.Tensor) -> None:
    """Raise NotImplementedError if x is a dual number of forward-mode AD, whose derivative would silently be 0."""
    if forward_ad._current_level >= 0 and _has_tangent(x):
        _refuse_forward()


def _refuse_forward(*_: Any) -> NoReturn:
    raise NotImplementedError(
        "a projection has no forward-mode derivative: use torch.autograd.functional.jvp or jacobian, or "
        "torch.func.vjp or jacrev, which go back (for a Hessian, jacrev of jacrev)"
    )


def _has_tangent(x: torch.Tensor) -> bool:
    """Say whether x is a dual number, or one within the wrappers of transforms inside of the derivative."""
    functorch = torch._C._functorch
    if not functorch.is_batchedtensor(x) and forward_ad.unpack_dual(x).tangent is not None:
        return True
    return functorch.is_functorch_wrapped_tensor(x) and _has_tangent(functorch.get_unwrapped(x))


# Run, not traced, while torch.compile traces: not every version of torch knows what this gives.
@torch.compiler.assume_constant_result
def transformed() -> bool:
    """Say whether this runs inside of a transform of torch.func."""
    return bool(torch._C._are_functorch_transforms_active())


# Gradients


def _remember(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    x, ctx.call, _, member = inputs
    ctx.x = x.shape[-1], x.dtype
    ctx.save_for_backward(x if _needs_x(ctx.call) else None, member)


def _gradient(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    """Return the gradient of x: for a projection from that of the exact Rx, Tx or |Tx|², whatever camera read it."""
    (n, dtype), (x, member) = ctx.x, ctx.saved_tensors
    double = torch.float64 in (dtype, gradient.real.dtype)
    back, field = _backward_calls(ctx.call, double)
    if field is not None:
        gradient = 2 * gradient * apply(x, field, None, member)
    if gradient.shape[-1] == 0:
        found = gradient.real.new_zeros((*gradient.shape[:-1], n))
    else:
        gradient, wrong = _finite(gradient)
        found = apply(gradient, back, None, member)
        found = found.masked_fill_(wrong, torch.nan)
    return found.to(dtype) if dtype.is_complex else found.real.to(dtype), None, None, None


# Run, not traced, while torch.compile traces: calls are plain text.


@torch.compiler.assume_constant_result
def _needs_x(call: str) -> bool:
    """Return whether the gradient depends on x: that of an intensity does."""
    return Call.decode(call).spec.mode == "intensity"


@torch.compiler.assume_constant_result
def _backward_calls(call: str, double: bool) -> tuple[str, str | None]:
    """Return the call that carries a gradient back and, for an intensity, the call that gives the field."""
    found = Call.decode(call)
    if found.spec.ensemble == "structured":
        raise NotImplementedError("no gradient flows through a projection of the ensemble 'structured'")
    field = found.field(double=double).encode() if found.spec.mode == "intensity" else None
    return found.backward(double=double).encode(), field


_ops.apply.register_autograd(_gradient, setup_context=_remember)


def _finite(gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a gradient with 0 for vectors that are not finite, and which those are.

    What is made of them becomes NaN, where a gradient scaler looks for it.
    """
    wrong = ~gradient.isfinite().all(-1, keepdim=True)
    return gradient.masked_fill(wrong, 0), wrong


# Transforms of torch.func

_Rule = Callable[..., tuple[torch.Tensor, int | None]]


def _vmap_rule(call: Callable[..., Any]) -> _Rule:
    """Return the rule by which torch.vmap makes one call of `call` out of many."""

    def rule(
        info: Any,
        in_dims: tuple[int | None, ...],
        x: torch.Tensor,
        text: str,
        noise: torch.Tensor | None,
        member: torch.Tensor | None,
    ) -> tuple[torch.Tensor, int | None]:
        axis = in_dims[2]
        if noise is None or axis is None:  # with a noise: randomness="same", one and the same in every call
            return _all_calls(call, info.batch_size, in_dims, (x, text, noise, member), apart=noise is not None)
        # randomness="different": the noise of one seed differs from vector to vector, so one will do for all calls.
        if in_dims[0] is None:
            x = x.expand(info.batch_size, *x.shape)
        dims = (in_dims[0] or 0, *in_dims[1:])
        return _all_calls(call, info.batch_size, dims, (x, text, noise.select(axis, 0), member), apart=False)

    return rule


def _all_calls(
    call: Callable[..., Any], n: int, in_dims: tuple[int | None, ...], arguments: tuple[Any, ...], apart: bool
) -> tuple[torch.Tensor, int | None]:
    """Return the results of n calls, and their axis (None for one that all share).

    Vectors of all calls are those of one, unless the calls have matrices of their own or must be `apart`.
    """
    x, text, noise, member = arguments
    if in_dims[0] is not None:
        x = x.movedim(in_dims[0], 0)
    members = None if in_dims[3] is None else member.movedim(in_dims[3], 0)
    if members is not None and _alike(members):
        member, members = members[0], None
    if members is None and not apart:
        return call(x, text, noise, member), None if in_dims[0] is None else 0
    calls: Iterator[Any] = (
        call(x if in_dims[0] is None else x[i], text, noise, member if members is None else members[i])
        for i in range(n)
    )
    return torch.stack([*calls]), 0


def _alike(members: torch.Tensor) -> bool:
    """Return whether all are known to be the same: inside of further transforms, or in a trace, that is unknown."""
    plain = type(members) is torch.Tensor and not torch._C._functorch.is_functorch_wrapped_tensor(members)
    return plain and not members.is_meta and bool((members == members[0]).all())


class _TracedApply(torch.autograd.Function):
    @staticmethod
    def forward(*arguments: Any) -> Any:
        return _ops.apply(*arguments)

    setup_context = staticmethod(_remember)
    backward = staticmethod(_gradient)
    vmap = staticmethod(_vmap_rule(apply))


class _Apply(_TracedApply):
    jvp = staticmethod(_refuse_forward)  # which torch.compile does not take


if hasattr(_ops.apply, "register_vmap"):  # torch 2.5 and later
    _ops.apply.register_vmap(_vmap_rule(_ops.apply))
