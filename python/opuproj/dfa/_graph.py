"""Walks through the graph that autograd recorded for a tensor."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch


def leaves(tensor: torch.Tensor, stop: Iterable[torch.Tensor] = ()) -> list[torch.Tensor]:
    """Return the leaves that a tensor's gradient reaches without passing through a tensor of `stop`."""
    found = nodes(tensor, {end.grad_fn for end in stop})
    return [node.variable for node in found if hasattr(node, "variable")]


def nodes(tensor: torch.Tensor, stop: set[Any]) -> list[Any]:
    """Return the nodes of a tensor's graph. The walk does not enter the nodes of `stop`."""
    seen, left = set(stop), [tensor.grad_fn]
    found = []
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        found.append(node)
        left += [following for following, _ in node.next_functions]
    return found
