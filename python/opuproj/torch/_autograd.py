"""Gradients of the custom ops, and the ops under the transforms of torch.func."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np
import torch
from torch.autograd import forward_ad

from ..adjoint import default_digits
from . import _operator
from ._dtypes import BY_NAME

# Where the arguments of `project` and `adjoint` have what may differ between the calls that torch.vmap makes one.
_NOISE = 7
_MEMBER = -2


def project(*arguments: Any) -> Any:
    """Call the op of that name; inside of a transform of torch.func, which takes no op's own gradient, a Function."""
    refuse_tangent(arguments[0])
    if not transformed():
        return _operator.project(*arguments)
    return (_TracedProject if torch.compiler.is_compiling() else _Project).apply(*arguments)


def adjoint(*arguments: Any) -> Any:
    """Call the op of that name, as `project` does."""
    refuse_tangent(arguments[0])
    if not transformed():
        return _operator.adjoint(*arguments)
    return (_TracedAdjoint if torch.compiler.is_compiling() else _Adjoint).apply(*arguments)


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
    x, _, seed, mode, row_start, n_anchor, _, _, dtype, threads, digits, ctx.ensemble, member, ctx.kin = inputs
    ctx.save_for_backward(x if mode == "intensity" else None, member)
    ctx.x = x.shape[-1], x.dtype
    ctx.matrix, ctx.dtype, ctx.threads, ctx.digits = (seed, row_start, n_anchor), dtype, threads, digits
    ctx.mode, ctx.n_arguments = mode, len(inputs)


def _gradient(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    """Return the gradient of a real x, from that of Rx, Tx or |Tx|²: of the exact one, whatever camera saw it."""
    if ctx.ensemble == "structured":
        raise NotImplementedError("no gradient flows through a projection of the ensemble 'structured'")
    (n_inputs, x_dtype), (seed, row_start, n_anchor), threads = ctx.x, ctx.matrix, ctx.threads
    double = torch.float64 in (x_dtype, gradient.real.dtype)
    real, mode = torch.float64 if double else torch.float32, ctx.mode
    x, member = ctx.saved_tensors
    if mode == "intensity":
        kind = torch.complex128 if double else torch.complex64
        none = (None, kind, threads, ctx.digits, "gaussian", member, ctx.kin)
        field = project(x, gradient.shape[-1], seed, "complex", row_start, n_anchor, "", *none)
        gradient, mode = 2 * gradient * field, "complex"
    if gradient.shape[-1] == 0:
        found = gradient.real.new_zeros((*gradient.shape[:-1], n_inputs))
    else:
        gradient, wrong = _finite(gradient)
        found = adjoint(gradient, n_inputs, seed, mode, row_start, n_anchor, real, threads, member, ctx.kin)
        found = found.masked_fill_(wrong, torch.nan)
    return found.to(x_dtype), *((ctx.n_arguments - 1) * (None,))


_operator.project.register_autograd(_gradient, setup_context=_remember)


def _remember_adjoint(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    y, _, *ctx.matrix, ctx.dtype, ctx.threads, member, ctx.kin = inputs
    ctx.save_for_backward(member)
    ctx.y, ctx.n_arguments = (y.shape[-1], y.dtype), len(inputs)


def _gradient_of_adjoint(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    seed, mode, row_start, n_anchor = ctx.matrix
    n_outputs, dtype = ctx.y
    (member,) = ctx.saved_tensors
    names = {"linear": ("float32", "float64"), "complex": ("complex64", "complex128")}[mode]
    name = names[ctx.dtype == torch.float64]
    rest = (BY_NAME[name], ctx.threads, default_digits(np.dtype(name)), "gaussian", member, ctx.kin)
    gradient, wrong = _finite(gradient)
    y = project(gradient, n_outputs, seed, mode, row_start, n_anchor, "", None, *rest)
    y = y.masked_fill(wrong, torch.nan)
    return (y.to(dtype) if dtype.is_complex else y.real.to(dtype)), *((ctx.n_arguments - 1) * (None,))


_operator.adjoint.register_autograd(_gradient_of_adjoint, setup_context=_remember_adjoint)


def _finite(gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a gradient with 0 for vectors that are not finite, and which those are.

    What is made of them becomes NaN, where a gradient scaler looks for it.
    """
    wrong = ~gradient.isfinite().all(-1, keepdim=True)
    return gradient.masked_fill(wrong, 0), wrong


# Transforms of torch.func

_Rule = Callable[..., tuple[torch.Tensor, int | None]]


def _project_rule(call: Callable[..., Any]) -> _Rule:
    """Return what torch.vmap asks of `project`, by way of `call`."""

    def rule(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[torch.Tensor, int | None]:
        noise, axis = arguments[_NOISE], in_dims[_NOISE]
        if noise is None or axis is None:  # with a noise: randomness="same", one and the same in every call
            return _all_calls(call, info.batch_size, in_dims, arguments, apart=noise is not None)
        # randomness="different": the noise of one seed differs from vector to vector, so one will do for all calls.
        x = arguments[0] if in_dims[0] is not None else arguments[0].expand(info.batch_size, *arguments[0].shape)
        arguments = (x, *arguments[1:_NOISE], noise.select(axis, 0), *arguments[_NOISE + 1 :])
        return _all_calls(call, info.batch_size, (in_dims[0] or 0, *in_dims[1:]), arguments, apart=False)

    return rule


def _adjoint_rule(call: Callable[..., Any]) -> _Rule:
    """Return what torch.vmap asks of `adjoint`, by way of `call`."""
    return lambda info, in_dims, *arguments: _all_calls(call, info.batch_size, in_dims, arguments, apart=False)


def _all_calls(
    call: Callable[..., Any], n: int, in_dims: tuple[int | None, ...], arguments: tuple[Any, ...], apart: bool
) -> tuple[torch.Tensor, int | None]:
    """Return the results of n calls, and their axis (None for one that all share).

    Vectors of all calls are those of one, unless the calls have matrices of their own or must be `apart`.
    """
    x, *rest, member, kin = arguments
    if in_dims[0] is not None:
        x = x.movedim(in_dims[0], 0)
    members = None if in_dims[_MEMBER] is None else member.movedim(in_dims[_MEMBER], 0)
    if members is not None and _alike(members):
        member, members = members[0], None
    if members is None and not apart:
        return call(x, *rest, member, kin), None if in_dims[0] is None else 0
    calls: Iterator[Any] = (
        call(x if in_dims[0] is None else x[i], *rest, member if members is None else members[i], kin) for i in range(n)
    )
    return torch.stack([*calls]), 0


def _alike(members: torch.Tensor) -> bool:
    """Say whether all are the same, so far as that can be seen: not inside of further transforms, nor in a trace."""
    plain = type(members) is torch.Tensor and not torch._C._functorch.is_functorch_wrapped_tensor(members)
    return plain and not members.is_meta and bool((members == members[0]).all())


class _TracedProject(torch.autograd.Function):
    @staticmethod
    def forward(*arguments: Any) -> Any:
        return _operator.project(*arguments)

    setup_context = staticmethod(_remember)
    backward = staticmethod(_gradient)
    vmap = staticmethod(_project_rule(project))


class _TracedAdjoint(torch.autograd.Function):
    @staticmethod
    def forward(*arguments: Any) -> Any:
        return _operator.adjoint(*arguments)

    setup_context = staticmethod(_remember_adjoint)
    backward = staticmethod(_gradient_of_adjoint)
    vmap = staticmethod(_adjoint_rule(adjoint))


class _Project(_TracedProject):
    jvp = staticmethod(_refuse_forward)  # which torch.compile does not take


class _Adjoint(_TracedAdjoint):
    jvp = staticmethod(_refuse_forward)


if hasattr(_operator.project, "register_vmap"):  # torch 2.5 and later
    _operator.project.register_vmap(_project_rule(_operator.project))
    _operator.adjoint.register_vmap(_adjoint_rule(_operator.adjoint))
