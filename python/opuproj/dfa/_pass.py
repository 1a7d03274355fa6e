"""One forward pass: the ends of its blocks, and the node of the graph through which their feedback comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.autograd.function import once_differentiable

Feed = Callable[["Pass", torch.Tensor], list[torch.Tensor]]


@dataclass
class Pass:
    """What is known of a forward pass while it runs, and what its backward pass needs."""

    method: str
    shapes: dict[str, torch.Size] = field(default_factory=dict)
    dtypes: dict[str, torch.dtype] = field(default_factory=dict)
    devices: dict[str, torch.device] = field(default_factory=dict)
    # Ends of blocks with the graph behind them, up to the end of the block before; emptied once they have their node.
    ends: dict[str, torch.Tensor] = field(default_factory=dict)
    trainable: tuple[str, ...] = ()
    tapped: bool = False
    delivered: bool = False
    # Which one it is, of those that errors are wanted for: assigned in the forward pass.
    number: int = -1
    # For diagnosis: ends stay, and the error is kept.
    recorded: bool = False
    error: torch.Tensor | None = None


class Deliver(torch.autograd.Function):
    """The identity on the output; backwards, it also gives the end of every block its feedback.

    All ends are inputs of this one node, so that a single backward pass goes through the top, this node, and then the
    blocks, each of which frees its activations as it is left: nothing runs inside of anything else, and hooks,
    clipping, accumulation and data parallelism see an ordinary backward pass.
    """

    @staticmethod
    def forward(ctx: Any, feed: Feed, current: Pass, output: torch.Tensor, *ends: torch.Tensor) -> torch.Tensor:
        """Return a copy of the output: it may be changed in place later."""
        ctx.feed, ctx.current = feed, current
        return output.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, error: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Pass the error on to what made the output, and its projections to the blocks."""
        fed = ctx.feed(ctx.current, error)
        return None, None, error if ctx.needs_input_grad[2] else None, *fed
