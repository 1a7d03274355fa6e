"""One forward pass: the outputs of its blocks, and the graph nodes that inject their feedback."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch

from ._error import Error
from ._fitted import Fit
from ._projection import Projection

Method = Literal["odfa", "dfa", "fitted", "bp", "shallow"]
METHODS: tuple[Method, ...] = ("odfa", "dfa", "fitted", "bp", "shallow")
# The methods that give feedback to the blocks.
FEEDING: tuple[Method, ...] = ("odfa", "dfa", "fitted")

ErrorCallback = Callable[["Pass", torch.Tensor], None]
FeedbackCallback = Callable[["Pass", str], list[torch.Tensor]]
GradientsCallback = Callable[["Pass", str, Sequence[torch.Tensor | None]], None]


@dataclass
class BlockOutput:
    """What a block returned.

    Attributes
    ----------
    shapes, dtypes, devices : tuple
        Those of the outputs that receive feedback.
    outputs : tuple of Tensor
        These outputs with their graph, which ends at the block before. Empty if none needs a gradient, or once
        they have their node.
    behind : tuple of Tensor
        The same outputs without the node of the block's backward hooks, which connects all outputs with each other.
    unfed : tuple of Tensor
        The other outputs that need gradients, until their parameters have been looked up.
    token : Tensor or None
        The token from :class:`InjectFeedback`, until :class:`CaptureOutputGradient` gets it.
    """

    shapes: tuple[torch.Size, ...]
    dtypes: tuple[torch.dtype, ...]
    devices: tuple[torch.device, ...]
    tensors: tuple[torch.Tensor, ...] = ()
    before_hooks: tuple[torch.Tensor, ...] = ()
    unfed: tuple[torch.Tensor, ...] = ()
    token: torch.Tensor | None = None


class Waiting(NamedTuple):
    """A projection of an error, and the columns of it from which a block will read its feedback."""

    error: Error
    projection: Projection
    rows: range


@dataclass
class Pass:
    """The state of a forward pass, which its backward pass needs."""

    method: Method
    # Whether it is a pass by backpropagation, to which method "fitted" fits its matrices.
    fits: bool = False
    # In the order in which the blocks ran.
    blocks: dict[str, BlockOutput] = field(default_factory=dict)
    # The blocks that need gradients, in the same order.
    trainable: tuple[str, ...] = ()
    # A module that ran and whose axis 0 counts steps, described for messages.
    steps_first: str | None = None
    output_reached: bool = False
    backward_reached: bool = False
    # Its number among the passes that need an error, assigned in the forward pass.
    number: int = -1
    # The error, until all blocks have their feedback; and the projections from which blocks have not read theirs yet.
    error: Error | None = None
    fed: set[str] = field(default_factory=set)
    ready: dict[str, Waiting] = field(default_factory=dict)
    lock: Any = field(default_factory=threading.Lock)
    fit: Fit | None = None
    record: Record | None = None

    def forget_graph(self) -> None:
        """Drop references to the graph, which holds the activations. A diagnosis keeps them."""
        for end in self.blocks.values():
            end.before_hooks, end.unfed, end.token = (), (), None
            if self.record is None:
                end.tensors = ()


@dataclass
class Record:
    """What a diagnosis records of its pass.

    Attributes
    ----------
    exact : bool
        Whether the error is projected without the camera.
    error : Tensor or None
        The gradient at the output.
    fed : dict of str to list of Tensor
        The feedback that each block's node returned.
    """

    exact: bool
    error: torch.Tensor | None = None
    fed: dict[str, list[torch.Tensor]] = field(default_factory=dict)


class InjectFeedback(torch.autograd.Function):
    """The node at a block's output. It returns an empty token forwards, and the block's feedback backwards.

    The node is made when the block returns. The autograd engine runs nodes from the latest to the earliest, so it runs
    this node after all later layers and before those in the block. So a block's feedback is computed only when the
    later blocks have finished their backward pass.
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
    """The identity on the output. In the backward pass it receives the error and starts the blocks' nodes.

    All tokens are inputs of this one node. So one backward pass goes through the layers above the blocks, this node,
    and then one block after the other, and each block frees its activations when it is done. Hooks, clipping,
    accumulation and data parallelism work as in an ordinary backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any, callback: ErrorCallback, current: Pass, output: torch.Tensor, *tokens: torch.Tensor
    ) -> torch.Tensor:
        """Return a copy of the output, which the caller may change in place later."""
        ctx.callback, ctx.current, ctx.tokens = callback, current, [(token.dtype, token.device) for token in tokens]
        return output.clone()

    @staticmethod
    def backward(ctx: Any, error: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        """Give the error to the callback, and pass it on to the layers that computed the output."""
        _refuse_double_backward()
        ctx.callback(ctx.current, error)
        tokens = (torch.empty(0, dtype=dtype, device=device) for dtype, device in ctx.tokens)
        return None, None, error if ctx.needs_input_grad[2] else None, *tokens


def _refuse_double_backward() -> None:
    # Autograd enables gradients in a backward pass only for create_graph=True.
    if torch.is_grad_enabled():
        raise RuntimeError(
            "create_graph=True asks for a gradient of the gradients, but the feedback of blocks has none: set "
            "feedback.method = 'bp' for losses on gradients, such as a gradient penalty"
        )
