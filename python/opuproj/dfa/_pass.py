"""One forward pass: the ends of its blocks, and the nodes of the graph through which their feedback comes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from ._error import Error
from ._method import Method

ErrorCallback = Callable[["Pass", torch.Tensor], None]
FeedbackCallback = Callable[["Pass", str], list[torch.Tensor]]


@dataclass
class BlockOutput:
    """What a block returned.

    Attributes
    ----------
    shapes, dtypes, devices : tuple
        Of the outputs that are fed.
    outputs : tuple of Tensor
        These outputs with the graph behind them, up to the end of the block before; empty if none needs a gradient, or
        once they have their node.
    behind : tuple of Tensor
        The same before backward hooks of the block had their node, which joins all outputs, put in.
    unfed : tuple of Tensor
        The other outputs that need gradients, until the parameters behind them have been looked up.
    token : Tensor or None
        What :class:`InjectFeedback` returned, until it has been given to :class:`CaptureOutputGradient`.
    """

    shapes: tuple[torch.Size, ...]
    dtypes: tuple[torch.dtype, ...]
    devices: tuple[torch.device, ...]
    tensors: tuple[torch.Tensor, ...] = ()
    before_hooks: tuple[torch.Tensor, ...] = ()
    unfed: tuple[torch.Tensor, ...] = ()
    token: torch.Tensor | None = None


@dataclass
class Pass:
    """What is known of a forward pass while it runs, and what its backward pass needs."""

    method: Method
    # In the order in which the blocks ran.
    blocks: dict[str, BlockOutput] = field(default_factory=dict)
    # Those that need gradients, in the same order.
    trainable: tuple[str, ...] = ()
    # A module that ran and whose axis 0 counts steps.
    steps_first: str | None = None
    output_reached: bool = False
    backward_reached: bool = False
    # Which one it is, of those that errors are wanted for: assigned in the forward pass.
    number: int = -1
    # The error, from when it is taken until all blocks are fed; the feedback that is computed and not fetched yet.
    error: Error | None = None
    fed: set[str] = field(default_factory=set)
    ready: dict[str, list[torch.Tensor]] = field(default_factory=dict)
    lock: Any = field(default_factory=threading.Lock)
    record: Record | None = None

    def forget_graph(self) -> None:
        """Let go of the graph, which holds the activations; a diagnosis keeps it."""
        for end in self.blocks.values():
            end.before_hooks, end.unfed, end.token = (), (), None
            if self.record is None:
                end.tensors = ()


@dataclass
class Record:
    """What a diagnosis keeps of its pass.

    Attributes
    ----------
    exact : bool
        Whether the camera is left out.
    error : Tensor or None
        The gradient at the output.
    fed : dict of str to list of Tensor
        The feedback that each block's node gave.
    """

    exact: bool
    error: torch.Tensor | None = None
    fed: dict[str, list[torch.Tensor]] = field(default_factory=dict)


class InjectFeedback(torch.autograd.Function):
    """The node at a block's end: forwards, an empty token; backwards, the block's feedback.

    It is made when the block ends. So the autograd engine, which goes through nodes from the latest to the earliest,
    reaches it after everything later and before everything in the block: the feedback of a block is computed when the
    later blocks are done with theirs.
    """

    @staticmethod
    def forward(ctx: Any, callback: FeedbackCallback, current: Pass, name: str, *outputs: torch.Tensor) -> torch.Tensor:
        """Return a token for :class:`CaptureOutputGradient`."""
        ctx.callback, ctx.current, ctx.block = callback, current, name
        return outputs[0].new_empty(0)

    @staticmethod
    def backward(ctx: Any, token: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        """Return the feedback of each of the block's outputs."""
        _refuse_double_backward()
        return None, None, None, *ctx.callback(ctx.current, ctx.block)


class CaptureOutputGradient(torch.autograd.Function):
    """The identity on the output; backwards, it takes the error, and lets the blocks' nodes run.

    All tokens are inputs of this one node, so that a single backward pass goes through the top, this node, and then one
    block after the other, each of which frees its activations as it is left. Hooks, clipping, accumulation and data
    parallelism see an ordinary backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any, callback: ErrorCallback, current: Pass, output: torch.Tensor, *tokens: torch.Tensor
    ) -> torch.Tensor:
        """Return a copy of the output: it may be changed in place later."""
        ctx.callback, ctx.current, ctx.tokens = callback, current, [(token.dtype, token.device) for token in tokens]
        return output.clone()

    @staticmethod
    def backward(ctx: Any, error: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        """Pass the error on to what made the output."""
        _refuse_double_backward()
        ctx.callback(ctx.current, error)
        tokens = (torch.empty(0, dtype=dtype, device=device) for dtype, device in ctx.tokens)
        return None, None, error if ctx.needs_input_grad[2] else None, *tokens


def _refuse_double_backward() -> None:
    # Autograd runs a backward pass with gradients enabled only where it is to be differentiated itself.
    if torch.is_grad_enabled():
        raise RuntimeError(
            "create_graph=True asks for a gradient of the gradients, but the feedback of blocks has none: set "
            "feedback.method = 'bp' for losses on gradients, such as a gradient penalty"
        )
