"""The tensors in what a module returns: finding, replacing and detaching them."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils import _pytree as pytree

_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size)


def floating(output: Any) -> list[torch.Tensor]:
    """Return the floating-point tensors of a tensor, tuple, list, dict or registered container of them."""
    return [leaf for leaf in pytree.tree_leaves(output) if _floating(leaf)]


def replaced(output: Any, tensor: torch.Tensor, old: torch.Tensor) -> Any:
    """Return a module's output with one tensor in place of another."""
    leaves, structure = pytree.tree_flatten(output)
    return pytree.tree_unflatten([tensor if leaf is old else leaf for leaf in leaves], structure)


def detached(output: Any, name: str) -> Any:
    """Return a block's output with all of its tensors detached.

    Raises TypeError for an object that may contain other tensors.
    """
    leaves, structure = pytree.tree_flatten(output)
    for leaf in leaves:
        if not isinstance(leaf, (torch.Tensor, *_PLAIN)):
            raise TypeError(
                f"block {name!r} returns {type(leaf).__name__}, which may contain tensors that cannot be detached; it "
                "must return tensors, or tuples, lists or dicts of them"
            )
    return pytree.tree_unflatten(
        [leaf.detach() if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves], structure
    )


def _floating(leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor) and leaf.is_floating_point()
