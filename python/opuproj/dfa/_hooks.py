"""The forward hooks that detach the graph at the end of each block and capture the gradient at the output."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol, cast

import torch

from ..torch._autograd import transformed
from . import _calls, _module_hooks, _tensors
from ._pass import FEEDING, BlockOutput, CaptureOutputGradient, GradientsCallback, InjectFeedback, Method, Pass

_STEPS_FIRST = (
    "its axis 0 counts steps, but feedback assumes that axis 0 of every block's output counts examples. Name the axis "
    "of the examples with batch_dim=, or use batch_first=True"
)


class Callbacks(Protocol):
    """What the hooks call in a forward pass, and the nodes of the graph in a backward pass."""

    blocks: tuple[str, ...]

    @property
    def is_pipelined(self) -> bool:
        """Whether each rank of a process group has a part of the model."""

    @property
    def where(self) -> str:
        """Where the error is taken, for messages."""

    def current_method(self) -> Method:
        """Return the training method of a pass that begins now."""

    def new_pass(self) -> Pass | None:
        """Return a new pass, or None if it needs no error."""

    def feeds_all(self, name: str) -> bool:
        """Whether all outputs of a block receive feedback, not only the first."""

    def record_pass(self, current: Pass) -> None:
        """Record for a diagnosis that a pass reached the module where the error is taken."""

    def await_error(self, current: Pass, output: torch.Tensor | None) -> None:
        """Register a pass whose error will come. `output` is where the error is taken, or None on other ranks."""

    def accept_error(self, current: Pass, error: torch.Tensor) -> None:
        """Receive the error of a pass from its backward pass."""

    def feedback_of(self, current: Pass, name: str) -> list[torch.Tensor]:
        """Return the feedback of a block, one tensor for each of its outputs that receives some."""

    def fit_block(self, current: Pass, name: str, gradients: Sequence[torch.Tensor | None]) -> None:
        """Fit a block's matrix to the gradients of its outputs in a pass by backpropagation."""

    def warn_of_missed_gradient(self, gradient: torch.Tensor) -> None:
        """Warn if the gradient at another output of the model is nonzero, since it is no part of the error."""


class Hooks:
    """The forward hooks of a model that has feedback.

    Attributes
    ----------
    owner : object
        The owner that :func:`owners` returns.
    removed : bool
        Whether the hooks were removed. Compiled code may still call them.
    """

    def __init__(self, owner: object, callbacks: Callbacks) -> None:
        self.owner, self.removed = owner, False
        self._callbacks = callbacks
        self._modules: list[torch.nn.Module] = []
        self._blocks: list[torch.nn.Module] = []
        self._output: torch.nn.Module | None = None

    def register(
        self,
        model: torch.nn.Module,
        blocks: dict[str, torch.nn.Module],
        output: torch.nn.Module | None,
        sequence_first: dict[str, torch.nn.Module],
    ) -> None:
        """Register the hooks. `output` is None on a rank where no error is taken.

        A module of `sequence_first` raises an error if it runs after a block.
        """
        self._blocks, self._output = list(blocks.values()), output
        model.register_forward_pre_hook(self.begin_call)
        for name, block in blocks.items():
            block.register_forward_hook(partial(self.detach_block, name))
        if output is not None:
            output.register_forward_hook(self.capture_error)
        for name, module in sequence_first.items():
            module.register_forward_hook(partial(self.refuse_sequence_first, name))
        model.register_forward_hook(self.end_part if output is None else self.check_output_reached)
        model.register_forward_hook(self.end_call, always_call=True)
        others = [] if output is None else [output]
        self._modules = [model, *self._blocks, *others, *sequence_first.values()]
        _reset_compiled()

    def remove(self) -> None:
        """Remove these hooks. Copies of a model have no handles, so the hooks are searched for."""
        self.removed = True
        for module in self._modules:
            for registered in (module._forward_pre_hooks, module._forward_hooks):
                for number in [number for number, hook in registered.items() if _hooks_of(hook) is self]:
                    del registered[number]
                    module._forward_hooks_always_called.pop(number, None)

    @torch._disable_dynamo
    def begin_call(self, model: torch.nn.Module, args: Any) -> None:
        """Begin a call of the model, with a pass if it needs an error."""
        # A checkpoint may compute the whole model again. Ranks that share a model must count the same passes.
        if self.removed or (self._callbacks.is_pipelined and _calls.in_backward()):
            return
        current = self._callbacks.new_pass() if torch.is_grad_enabled() else None
        self._order_hooks()
        _calls.begin(self, current)
        if current is not None and transformed():
            raise RuntimeError(
                "a model with feedback ran inside a transform of torch.func (grad, jacrev, vmap, …), but feedback "
                "needs loss.backward(): set feedback.method = 'bp', or remove() the feedback"
            )

    def _order_hooks(self) -> None:
        """Move the hooks of blocks after the users' forward hooks, and the hook of the output before them.

        So a user's hook sees a block's output before it is detached, and a loss that a hook computes from the model's
        output contributes to the error. The order of registration does not matter.
        """
        for block in self._blocks:
            hooks = cast(Any, block._forward_hooks)
            if hooks and _hooks_of(hooks[next(reversed(hooks))]) is not self:
                for number in [number for number, hook in hooks.items() if _hooks_of(hook) is self]:
                    hooks.move_to_end(number)
        hooks = None if self._output is None else cast(Any, self._output._forward_hooks)
        if hooks and not self._captures_error(next(iter(hooks.values()))):
            number = next((number for number, hook in hooks.items() if self._captures_error(hook)), None)
            if number is not None:
                hooks.move_to_end(number, last=False)

    def _captures_error(self, hook: Any) -> bool:
        return _hooks_of(hook) is self and getattr(hook, "__name__", "") == "capture_error"

    @torch._disable_dynamo
    def detach_block(self, name: str, block: torch.nn.Module, args: Any, output: Any) -> Any:
        """Detach a block's output, and keep its graph for the feedback."""
        if self.removed:
            return None
        current = _calls.current_pass(self)
        if not torch.is_grad_enabled():
            if current is not None and not _trainable(block) and not current.output_reached:
                current.blocks.setdefault(name, self._block_output(name, _tensors.floating(output)))
            elif current is not None:
                raise RuntimeError(
                    f"block {name!r} ran without gradients while the model ran with them, so it cannot be trained. For "
                    "activation checkpointing pass use_reentrant=False; set requires_grad=False on blocks to freeze"
                )
            return None
        if current is None:
            if self._callbacks.current_method() == "bp":
                return None
            # A checkpoint around the block must see the same graph as before.
            if _calls.find(self) is None and _calls.in_backward():
                return _tensors.detached(output, name)
            raise RuntimeError(
                f"block {name!r} was called on its own, but feedback needs a forward pass of the whole model"
            )
        if current.output_reached:
            raise RuntimeError(
                f"block {name!r} ran after {self._callbacks.where}, where the error is taken, so it gets no feedback: "
                "leave it out of blocks, or name a later module with output="
            )
        if name in current.blocks:
            raise RuntimeError(
                f"block {name!r} ran twice in one forward pass: attach its parts, or the module around it"
            )
        return self._detach(current, name, block, args, output)

    def _detach(self, current: Pass, name: str, block: torch.nn.Module, args: Any, output: Any) -> Any:
        outputs = _tensors.floating(output)
        end = current.blocks[name] = self._block_output(name, outputs)
        fed = outputs[: len(end.shapes)]
        needed = any(tensor.requires_grad for tensor in fed)
        feeding = current.method in FEEDING
        if feeding and current.steps_first is not None and any(tensor.ndim >= 3 for tensor in fed):
            raise ValueError(
                f"module {current.steps_first} ran before block {name!r}, whose output has {fed[0].ndim} axes: "
                f"{_STEPS_FIRST}"
            )
        if needed:
            end.before_hooks = tuple(tensor for tensor in fed if tensor.requires_grad)
            end.unfed = tuple(tensor for tensor in outputs[len(fed) :] if tensor.requires_grad)
            if current.fits:
                output, fed = _observed(self._callbacks.fit_block, current, name, output, fed)
            elif feeding:
                output = _module_hooks.applied(block, args, output)
                fed = _tensors.floating(output)[: len(fed)]
            end.tensors = tuple(fed)
        if not needed and _trainable(block):
            raise RuntimeError(
                f"block {name!r} has trainable parameters, but its output depends on none of them, so feedback cannot "
                "train it: freeze them, or leave it out of blocks"
            )
        if current.method == "bp" and needed:
            return None
        if current.fits and needed:
            return output
        if needed and current.method != "shallow":
            end.token = InjectFeedback.apply(self._callbacks.feedback_of, current, name, *fed)
        return _tensors.detached(output, name)

    def _block_output(self, name: str, outputs: list[torch.Tensor]) -> BlockOutput:
        """Describe what a block returned, without its graph."""
        if not outputs:
            raise TypeError(f"block {name!r} returned no floating-point tensor, so it can receive no feedback")
        fed = outputs if self._callbacks.feeds_all(name) else outputs[:1]
        return BlockOutput(
            tuple(tensor.shape for tensor in fed),
            tuple(tensor.dtype for tensor in fed),
            tuple(tensor.device for tensor in fed),
        )

    @torch._disable_dynamo
    def refuse_sequence_first(self, name: str, module: torch.nn.Module, args: Any, output: Any) -> None:
        """Raise ValueError if a module whose axis 0 counts steps runs after a block."""
        current = _calls.current_pass(self)
        if current is None or current.output_reached or current.method not in FEEDING:
            return
        current.steps_first = f"{name!r}, a {type(module).__name__} with batch_first=False,"
        if current.blocks:
            raise ValueError(
                f"module {current.steps_first} ran after block {next(iter(current.blocks))!r}: {_STEPS_FIRST}"
            )

    @torch._disable_dynamo
    def capture_error(self, module: torch.nn.Module, args: Any, output: Any) -> Any:
        """Put the node into the output that captures its gradient, the error."""
        current = _calls.current_pass(self)
        if current is None or not torch.is_grad_enabled():
            return None
        where = self._callbacks.where
        if current.output_reached:
            raise RuntimeError(f"{where} was computed twice in one forward pass, but the error can be taken only once")
        missing = [name for name in self._callbacks.blocks if name not in current.blocks]
        if missing:
            raise RuntimeError(f"block {missing[0]!r} was not reached before {where}, where the error is taken")
        current.output_reached = True
        outputs = _tensors.floating(output)
        if not outputs:
            raise TypeError(f"{where} is not a floating-point tensor, so it has no error")
        current.trainable = tuple(name for name, end in current.blocks.items() if end.tensors)
        self._callbacks.record_pass(current)
        if current.method in ("bp", "shallow"):
            current.forget_graph()
            return None
        self._callbacks.await_error(current, outputs[0])
        tokens = () if current.fits else (current.blocks[name].token for name in current.trainable)
        accept = self._callbacks.accept_error
        captured = cast(torch.Tensor, CaptureOutputGradient.apply(accept, current, outputs[0], *tokens))
        current.forget_graph()
        for other in outputs[1:]:
            if other.requires_grad:
                watched = other.view_as(other)  # a gradient from inside the model does not call the hook
                watched.register_hook(self._callbacks.warn_of_missed_gradient)
                output = _tensors.replaced(output, watched, other)
        return _tensors.replaced(output, captured, outputs[0])

    @torch._disable_dynamo
    def check_output_reached(self, model: torch.nn.Module, args: Any, output: Any) -> None:
        """Raise RuntimeError if a pass did not reach the module where the error is taken."""
        current = _calls.current_pass(self)
        if current is not None and not current.output_reached:
            raise RuntimeError(f"{self._callbacks.where}, where the error is taken, was not reached")

    @torch._disable_dynamo
    def end_part(self, model: torch.nn.Module, args: Any, output: Any) -> None:
        """Keep the pass of a rank without a loss until its error comes."""
        current = _calls.current_pass(self)
        if current is None or _calls.in_backward():
            return
        missing = [name for name in self._callbacks.blocks if name not in current.blocks]
        if missing:
            raise RuntimeError(f"block {missing[0]!r} was not reached in this rank's part of the model")
        outputs = _tensors.floating(output)
        if outputs and outputs[0].requires_grad:
            raise RuntimeError(
                "layers after the last block of this rank's part of the model have trainable parameters, but they get "
                "no gradient here: move them to the rank of the next block"
            )
        if current.method == "shallow":
            return
        current.trainable = tuple(name for name, end in current.blocks.items() if end.tensors)
        self._callbacks.await_error(current, None)

    @torch._disable_dynamo
    def end_call(self, model: torch.nn.Module, args: Any, output: Any) -> None:
        """End a call, also one that raised."""
        _calls.end(self)


def _observed(
    callback: GradientsCallback, current: Pass, name: str, output: Any, fed: list[torch.Tensor]
) -> tuple[Any, list[torch.Tensor]]:
    """Return a block's output and its tensors that receive feedback, whose gradients the callback gets."""
    # Views, so that a loss which a user's hook computes from the block's output contributes nothing.
    watched = [tensor.view_as(tensor) for tensor in fed]
    for view, tensor in zip(watched, fed, strict=True):
        output = _tensors.replaced(output, view, tensor)
    needed = [view for view in watched if view.requires_grad]
    places = [i for i, view in enumerate(watched) if view.requires_grad]

    def give(gradients: Sequence[torch.Tensor | None]) -> None:
        by_place = dict(zip(places, gradients, strict=True))
        callback(current, name, [by_place.get(i) for i in range(len(watched))])

    torch.autograd.graph.register_multi_grad_hook(needed, give)
    return output, watched


def owners(module: torch.nn.Module) -> list[object]:
    """Return the owners of the hooks on a module."""
    hooks = map(_hooks_of, [*module._forward_pre_hooks.values(), *module._forward_hooks.values()])
    return [h.owner for h in hooks if h is not None and not h.removed]


def _hooks_of(hook: Any) -> Hooks | None:
    """Return the Hooks whose method a module's hook is, or None."""
    method = hook.func if isinstance(hook, partial) else hook
    hooks = getattr(method, "__self__", None)
    return hooks if isinstance(hooks, Hooks) else None


def _trainable(block: torch.nn.Module) -> bool:
    return any(p.requires_grad for p in block.parameters())


def _reset_compiled() -> None:
    # torch.compile does not notice new hooks, so code that was compiled before would run without them.
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
