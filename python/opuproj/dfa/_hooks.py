"""The hooks that cut a model at the ends of its blocks."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any, Protocol, cast

import torch

from ..torch._autograd import transformed
from . import _calls, _module_hooks, _tensors
from ._method import Method
from ._pass import BlockOutput, CaptureOutputGradient, InjectFeedback, Pass

_STEPS_FIRST = (
    "its axis 0 counts steps, but feedback takes axis 0 of every block's output to count examples. Say with batch_dim= "
    "which axis does, or use batch_first=True"
)


class Callbacks(Protocol):
    """Whom the hooks of a model tell what happens in its forward passes."""

    blocks: tuple[str, ...]

    @property
    def is_pipelined(self) -> bool:
        """Whether the model is spread over ranks."""

    @property
    def where(self) -> str:
        """Where the error is taken, for messages."""

    def current_method(self) -> Method:
        """Return how a pass that begins now is trained."""

    def new_pass(self) -> Pass | None:
        """Return a new pass, or None if no error is wanted for it."""

    def feeds_all(self, name: str) -> bool:
        """Whether all outputs of a block are fed, not only the first."""

    def record_pass(self, current: Pass) -> None:
        """Take note that a pass came to where its error is taken."""

    def await_error(self, current: Pass, output: torch.Tensor | None) -> None:
        """Take in a pass whose error is to come, at `output` if that is on this rank."""

    def accept_error(self, current: Pass, error: torch.Tensor) -> None:
        """Take the error of a pass."""

    def feedback_of(self, current: Pass, name: str) -> list[torch.Tensor]:
        """Return the feedback of a block."""

    def warn_of_missed_gradient(self, gradient: torch.Tensor) -> None:
        """Take note of a gradient at another output of the model than that where the error is taken."""


class Hooks:
    """What happens in a forward pass of a model that has feedback.

    Attributes
    ----------
    owner : object
        Whose hooks they are: what :func:`owners` finds.
    removed : bool
        Whether they are off the model. Compiled code may call them nevertheless.
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
        """Put hooks on a model; `output` is None on a rank where no error is taken.

        Modules of `sequence_first` are refused where they run after a block.
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
        """Take these hooks off: not by handles, which copies of a model do not have."""
        self.removed = True
        for module in self._modules:
            for registered in (module._forward_pre_hooks, module._forward_hooks):
                for number in [number for number, hook in registered.items() if _hooks_of(hook) is self]:
                    del registered[number]
                    module._forward_hooks_always_called.pop(number, None)

    @torch._disable_dynamo
    def begin_call(self, model: torch.nn.Module, args: Any) -> None:
        """Begin a call, with a pass if anybody wants its error."""
        # A checkpoint may compute the whole model again; ranks that share a model must count its passes alike.
        if self.removed or (self._callbacks.is_pipelined and _calls.in_backward()):
            return
        current = self._callbacks.new_pass() if torch.is_grad_enabled() else None
        self._order_hooks()
        _calls.begin(self, current)
        if current is not None and transformed():
            raise RuntimeError(
                "a model with feedback attached ran inside of a transform of torch.func (grad, jacrev, vmap, …), but "
                "feedback needs loss.backward(): set feedback.method = 'bp', or remove() the feedback"
            )

    def _order_hooks(self) -> None:
        """Have blocks cut after their other forward hooks ran, and the error taken before those of the output.

        So a loss that a hook makes of a block's output has its gradient there, and one of the model's output is part of
        the error, whenever the hook was registered.
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
        """Cut the graph at a block's end, and keep what is behind."""
        if self.removed:
            return None
        current = _calls.current_pass(self)
        if not torch.is_grad_enabled():
            if current is not None and not _trainable(block) and not current.output_reached:
                current.blocks.setdefault(name, self._block_output(name, _tensors.floating(output)))
            elif current is not None:
                raise RuntimeError(
                    f"block {name!r} ran without gradients while the model ran with them, so it cannot be trained; for "
                    "activation checkpointing use use_reentrant=False, and freeze what is not to be trained"
                )
            return None
        if current is None:
            if self._callbacks.current_method() == "bp":
                return None
            # A checkpoint around the block must see the same graph as before.
            if _calls.find(self) is None and _calls.in_backward():
                return _tensors.detached(output, name)
            raise RuntimeError(f"block {name!r} was called on its own: feedback needs the whole model's forward pass")
        if current.output_reached:
            raise RuntimeError(
                f"block {name!r} ran after {self._callbacks.where}, where the error is taken, so no error could "
                "reach it: leave it out of blocks, or take the error later"
            )
        if name in current.blocks:
            raise RuntimeError(f"block {name!r} ran twice in one forward pass: attach its parts, or what is around it")
        return self._detach(current, name, block, args, output)

    def _detach(self, current: Pass, name: str, block: torch.nn.Module, args: Any, output: Any) -> Any:
        outputs = _tensors.floating(output)
        end = current.blocks[name] = self._block_output(name, outputs)
        fed = outputs[: len(end.shapes)]
        needed = any(tensor.requires_grad for tensor in fed)
        feeding = current.method in ("odfa", "dfa")
        if feeding and current.steps_first is not None and any(tensor.ndim >= 3 for tensor in fed):
            raise ValueError(
                f"module {current.steps_first} ran before block {name!r}, whose output has {fed[0].ndim} axes: "
                f"{_STEPS_FIRST}"
            )
        if needed:
            end.before_hooks = tuple(tensor for tensor in fed if tensor.requires_grad)
            end.unfed = tuple(tensor for tensor in outputs[len(fed) :] if tensor.requires_grad)
            if feeding:
                output = _module_hooks.applied(block, args, output)
                fed = _tensors.floating(output)[: len(fed)]
            end.tensors = tuple(fed)
        if not needed and _trainable(block):
            raise RuntimeError(
                f"block {name!r} has parameters to train, but its output depends on none: feedback cannot train it"
            )
        if current.method == "bp" and needed:
            return None
        if needed and current.method != "shallow":
            end.token = InjectFeedback.apply(self._callbacks.feedback_of, current, name, *fed)
        return _tensors.detached(output, name)

    def _block_output(self, name: str, outputs: list[torch.Tensor]) -> BlockOutput:
        """Return what a block returned, of which nothing needs a gradient yet."""
        if not outputs:
            raise TypeError(f"block {name!r} returned no floating-point tensor, so there is nothing to feed")
        fed = outputs if self._callbacks.feeds_all(name) else outputs[:1]
        return BlockOutput(
            tuple(tensor.shape for tensor in fed),
            tuple(tensor.dtype for tensor in fed),
            tuple(tensor.device for tensor in fed),
        )

    @torch._disable_dynamo
    def refuse_sequence_first(self, name: str, module: torch.nn.Module, args: Any, output: Any) -> None:
        """Refuse a module whose axis 0 counts steps where axis 0 is taken to count vectors."""
        current = _calls.current_pass(self)
        if current is None or current.output_reached or current.method not in ("odfa", "dfa"):
            return
        current.steps_first = f"{name!r}, a {type(module).__name__} with batch_first=False,"
        if current.blocks:
            raise ValueError(
                f"module {current.steps_first} ran after block {next(iter(current.blocks))!r}: {_STEPS_FIRST}"
            )

    @torch._disable_dynamo
    def capture_error(self, module: torch.nn.Module, args: Any, output: Any) -> Any:
        """Put the node in the output that takes the error."""
        current = _calls.current_pass(self)
        if current is None or not torch.is_grad_enabled():
            return None
        where = self._callbacks.where
        if current.output_reached:
            raise RuntimeError(f"{where} ran twice in one forward pass, but the error can be taken only once")
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
        tokens = (current.blocks[name].token for name in current.trainable)
        accept = self._callbacks.accept_error
        captured = cast(torch.Tensor, CaptureOutputGradient.apply(accept, current, outputs[0], *tokens))
        current.forget_graph()
        for other in outputs[1:]:
            if other.requires_grad:
                watched = other.view_as(other)  # of which only what happens after the model is noticed
                watched.register_hook(self._callbacks.warn_of_missed_gradient)
                output = _tensors.replaced(output, watched, other)
        return _tensors.replaced(output, captured, outputs[0])

    @torch._disable_dynamo
    def check_output_reached(self, model: torch.nn.Module, args: Any, output: Any) -> None:
        """See that the error of a pass was taken."""
        current = _calls.current_pass(self)
        if current is not None and not current.output_reached:
            raise RuntimeError(f"{self._callbacks.where}, where the error is taken, was not reached")

    @torch._disable_dynamo
    def end_part(self, model: torch.nn.Module, args: Any, output: Any) -> None:
        """Keep a pass of a part of the model, on a rank without a loss, until its error comes."""
        current = _calls.current_pass(self)
        if current is None or _calls.in_backward():
            return
        missing = [name for name in self._callbacks.blocks if name not in current.blocks]
        if missing:
            raise RuntimeError(f"block {missing[0]!r} was not reached in this rank's part of the model")
        outputs = _tensors.floating(output)
        if outputs and outputs[0].requires_grad:
            raise RuntimeError(
                "what comes after the last block of this rank's part of the model is to be trained, but no error comes "
                "there: it belongs to the rank of the next block"
            )
        if current.method == "shallow":
            return
        current.trainable = tuple(name for name, end in current.blocks.items() if end.tensors)
        self._callbacks.await_error(current, None)

    @torch._disable_dynamo
    def end_call(self, model: torch.nn.Module, args: Any, output: Any) -> None:
        """Leave a call, also one that raised."""
        _calls.end(self)


def owners(module: torch.nn.Module) -> list[object]:
    """Return the owners of the hooks on a module."""
    hooks = map(_hooks_of, [*module._forward_pre_hooks.values(), *module._forward_hooks.values()])
    return [h.owner for h in hooks if h is not None and not h.removed]


def _hooks_of(hook: Any) -> Hooks | None:
    """Return whose a module's hook is, if it is one of these."""
    method = hook.func if isinstance(hook, partial) else hook
    hooks = getattr(method, "__self__", None)
    return hooks if isinstance(hooks, Hooks) else None


def _trainable(block: torch.nn.Module) -> bool:
    return any(p.requires_grad for p in block.parameters())


def _reset_compiled() -> None:
    # Code that was compiled before would go on without these hooks: torch.compile does not look for new ones.
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
