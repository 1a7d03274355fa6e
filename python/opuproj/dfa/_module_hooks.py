"""Users' backward hooks of a block. They must see its feedback, so their nodes are set before it is detached."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.utils.hooks import BackwardHook

from . import _tensors

_NODE = "BackwardHookFunctionBackward"


def applied(block: torch.nn.Module, args: Any, output: Any) -> Any:
    """Return a block's output with the graph nodes that call its backward hooks, full and others.

    `args` are the block's arguments as its forward hooks get them. torch would add such nodes afterwards, which has no
    effect on a detached output.
    """
    full, others = block._get_backward_hooks()
    before = block._get_backward_pre_hooks()
    if full or before:
        output = _full(block, full, before, args, output)
    for hook in others:
        node = _tensors.floating(output)[0].grad_fn
        if node is not None:
            node.register_hook(partial(hook, block))
    return output


def _full(block: torch.nn.Module, full: list[Any], before: list[Any], args: Any, output: Any) -> Any:
    node = next(
        (arg.grad_fn for arg in args if isinstance(arg, torch.Tensor) and arg.grad_fn is not None and _wraps(arg)), None
    )
    hook = BackwardHook(block, full, before)
    hook.n_inputs = len(args)
    hook.input_tensors_index = [i for i, arg in enumerate(args) if isinstance(arg, torch.Tensor)]
    if node is not None:
        hook._set_user_hook(node)
        return hook.setup_output_hook(output)
    # The block's inputs need no gradient, usually because they are detached: the hooks are called at the output.
    output = hook.setup_output_hook(output)
    outputs = [output] if isinstance(output, torch.Tensor) else list(output) if isinstance(output, tuple) else []
    end = next((t for t in outputs if isinstance(t, torch.Tensor) and t.grad_fn is not None and _wraps(t)), None)

    def call(gradients: tuple[Any, ...], _: Any) -> None:
        hook.grad_outputs = None
        places = iter(gradients)
        packed = tuple(next(places) if isinstance(t, torch.Tensor) else None for t in outputs)
        for user_hook in full:
            user_hook(block, (None,) * len(args), packed)

    if end is not None:
        end.grad_fn.register_hook(call)
    return output


def _wraps(tensor: torch.Tensor) -> bool:
    return tensor.grad_fn is not None and tensor.grad_fn.name() == _NODE
