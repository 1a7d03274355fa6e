"""The hooks that cut a model at the ends of its blocks."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any, Protocol, cast

import torch

from ..torch._autograd import transformed
from . import _current, _module_hooks, _tensors
from ._method import Method
from ._pass import End, FeedBlock, Pass, TakeError

_STEPS_FIRST = (
    "its axis 0 counts steps, but feedback takes axis 0 of every block's output to count examples. Say with batch_dim= "
    "which axis does, or use batch_first=True"
)


class Listener(Protocol):
    """Whom the hooks of a model tell what happens in its forward passes."""

    blocks: tuple[str, ...]

    @property
    def is_spread(self) -> bool:
        """Whether the model is spread over ranks."""

    @property
    def where(self) -> str:
        """Where the error is taken, for messages."""

    def current_method(self) -> Method:
        """Return how a pass that begins now is trained."""

    def begin(self) -> Pass | None:
        """Return a new pass, or None if no error is wanted for it."""

    def feeds_all(self, name: str) -> bool:
        """Whether all outputs of a block are fed, not only the first."""

    def reached(self, current: Pass) -> None:
        """Take note that a pass came to where its error is taken."""

    def expect(self, current: Pass, output: torch.Tensor | None) -> None:
        """Take in a pass whose error is to come, at `output` if that is on this rank."""

    def take(self, current: Pass, error: torch.Tensor) -> None:
        """Take the error of a pass."""

    def feed(self, current: Pass, name: str) -> list[torch.Tensor]:
        """Return the feedback of a block."""

    def missed(self, gradient: torch.Tensor) -> None:
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

    def __init__(self, owner: object, listener: Listener) -> None:
        self.owner, self.removed = owner, False
        self._listener = listener
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
        model.register_forward_pre_hook(self.begin)
        for name, block in blocks.items():
            block.register_forward_hook(partial(self.cut, name))
        if output is not None:
            output.register_forward_hook(self.tap)
        for name, module in sequence_first.items():
            module.register_forward_hook(partial(self.refuse_sequence_first, name))
        model.register_forward_hook(self.end_of_part if output is None else self.end)
        model.register_forward_hook(self.forget, always_call=True)
        others = [] if output is None else [output]
        self._modules = [model, *self._blocks, *others, *sequence_first.values()]
        _forget_compiled()

    def remove(self) -> None:
        """Take these hooks off: not by handles, which copies of a model do not have."""
        self.removed = True
        for module in self._modules:
            for registered in (module._forward_pre_hooks, module._forward_hooks):
                for number in [number for number, hook in registered.items() if _hooks_of(hook) is self]:
                    del registered[number]
                    module._forward_hooks_always_called.pop(number, None)

    @torch._disable_dynamo
    def begin(self, model: torch.nn.Module, args: Any) -> None:
        """Begin a call, with a pass if anybody wants its error."""
        # A checkpoint may compute the whole model again; ranks that share a model must count its passes alike.
        if self.removed or (self._listener.is_spread and _current.in_backward()):
            return
        current = self._listener.begin() if torch.is_grad_enabled() else None
        self._arrange()
        _current.begin(self, current)
        if current is not None and transformed():
            raise RuntimeError(
                "a model with feedback attached ran inside of a transform of torch.func (grad, jacrev, vmap, …), but "
                "feedback needs loss.backward(): set feedback.method = 'bp', or remove() the feedback"
            )

    def _arrange(self) -> None:
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
        if hooks and not self._taps(next(iter(hooks.values()))):
            number = next((number for number, hook in hooks.items() if self._taps(hook)), None)
            if number is not None:
                hooks.move_to_end(number, last=False)

    def _taps(self, hook: Any) -> bool:
        return _hooks_of(hook) is self and getattr(hook, "__name__", "") == "tap"

    @torch._disable_dynamo
    def cut(self, name: str, block: torch.nn.Module, args: Any, output: Any) -> Any:
        """Cut the graph at a block's end, and keep what is behind."""
        if self.removed:
            return None
        call = _current.find(self)
        current = None if call is None else call.current
        if not torch.is_grad_enabled():
            if current is not None and not _trainable(block) and not current.tapped:
                current.blocks.setdefault(name, self._end_of(name, _tensors.floating(output)))
            elif current is not None:
                raise RuntimeError(
                    f"block {name!r} ran without gradients while the model ran with them, so it cannot be trained; for "
                    "activation checkpointing use use_reentrant=False, and freeze what is not to be trained"
                )
            return None
        if current is None:
            if self._listener.current_method() == "bp":
                return None
            # A checkpoint around the block must see the same graph as before.
            if call is None and _current.in_backward():
                return _tensors.cut(output, name)
            raise RuntimeError(f"block {name!r} was called on its own: feedback needs the whole model's forward pass")
        if current.tapped:
            raise RuntimeError(
                f"block {name!r} ran after {self._listener.where}, where the error is taken, so no error could "
                "reach it: leave it out of blocks, or take the error later"
            )
        if name in current.blocks:
            raise RuntimeError(f"block {name!r} ran twice in one forward pass: attach its parts, or what is around it")
        return self._ended(current, name, block, args, output)

    def _ended(self, current: Pass, name: str, block: torch.nn.Module, args: Any, output: Any) -> Any:
        outputs = _tensors.floating(output)
        end = current.blocks[name] = self._end_of(name, outputs)
        fed = outputs[: len(end.shapes)]
        needed = any(tensor.requires_grad for tensor in fed)
        feeding = current.method in ("odfa", "dfa")
        if feeding and current.steps_first is not None and any(tensor.ndim >= 3 for tensor in fed):
            raise ValueError(
                f"module {current.steps_first} ran before block {name!r}, whose output has {fed[0].ndim} axes: "
                f"{_STEPS_FIRST}"
            )
        if needed:
            end.behind = tuple(tensor for tensor in fed if tensor.requires_grad)
            end.unfed = tuple(tensor for tensor in outputs[len(fed) :] if tensor.requires_grad)
            if feeding:
                output = _module_hooks.applied(block, args, output)
                fed = _tensors.floating(output)[: len(fed)]
            end.outputs = tuple(fed)
        if not needed and _trainable(block):
            raise RuntimeError(
                f"block {name!r} has parameters to train, but its output depends on none: feedback cannot train it"
            )
        if current.method == "bp" and needed:
            return None
        if needed and current.method != "shallow":
            end.token = FeedBlock.apply(self._listener.feed, current, name, *fed)
        return _tensors.cut(output, name)

    def _end_of(self, name: str, outputs: list[torch.Tensor]) -> End:
        """Return what a block returned, of which nothing needs a gradient yet."""
        if not outputs:
            raise TypeError(f"block {name!r} returned no floating-point tensor, so there is nothing to feed")
        fed = outputs if self._listener.feeds_all(name) else outputs[:1]
        return End(
            tuple(tensor.shape for tensor in fed),
            tuple(tensor.dtype for tensor in fed),
            tuple(tensor.device for tensor in fed),
        )

    @torch._disable_dynamo
    def refuse_sequence_first(self, name: str, module: torch.nn.Module, args: Any, output: Any) -> None:
        """Refuse a module whose axis 0 counts steps where axis 0 is taken to count vectors."""
        call = _current.find(self)
        current = None if call is None else call.current
        if current is None or current.tapped or current.method not in ("odfa", "dfa"):
            return
        current.steps_first = f"{name!r}, a {type(module).__name__} with batch_first=False,"
        if current.blocks:
            raise ValueError(
                f"module {current.steps_first} ran after block {next(iter(current.blocks))!r}: {_STEPS_FIRST}"
            )

    @torch._disable_dynamo
    def tap(self, module: torch.nn.Module, args: Any, output: Any) -> Any:
        """Put the node in the output that takes the error."""
        call = _current.find(self)
        current = None if call is None else call.current
        if current is None or not torch.is_grad_enabled():
            return None
        where = self._listener.where
        if current.tapped:
            raise RuntimeError(f"{where} ran twice in one forward pass, but the error can be taken only once")
        missing = [name for name in self._listener.blocks if name not in current.blocks]
        if missing:
            raise RuntimeError(f"block {missing[0]!r} was not reached before {where}, where the error is taken")
        current.tapped = True
        outputs = _tensors.floating(output)
        if not outputs:
            raise TypeError(f"{where} is not a floating-point tensor, so it has no error")
        current.trainable = tuple(name for name, end in current.blocks.items() if end.outputs)
        self._listener.reached(current)
        if current.method in ("bp", "shallow"):
            current.forget_graph()
            return None
        self._listener.expect(current, outputs[0])
        tokens = (current.blocks[name].token for name in current.trainable)
        fed = cast(torch.Tensor, TakeError.apply(self._listener.take, current, outputs[0], *tokens))
        current.forget_graph()
        for other in outputs[1:]:
            if other.requires_grad:
                fed_apart = other.view_as(other)  # of which only what happens after the model is noticed
                fed_apart.register_hook(self._listener.missed)
                output = _tensors.replaced(output, fed_apart, other)
        return _tensors.replaced(output, fed, outputs[0])

    @torch._disable_dynamo
    def end(self, model: torch.nn.Module, args: Any, output: Any) -> None:
        """See that the error of a pass was taken."""
        call = _current.find(self)
        if call is not None and call.current is not None and not call.current.tapped:
            raise RuntimeError(f"{self._listener.where}, where the error is taken, was not reached")

    @torch._disable_dynamo
    def end_of_part(self, model: torch.nn.Module, args: Any, output: Any) -> None:
        """Keep a pass of a part of the model, on a rank without a loss, until its error comes."""
        call = _current.find(self)
        current = None if call is None else call.current
        if current is None or _current.in_backward():
            return
        missing = [name for name in self._listener.blocks if name not in current.blocks]
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
        current.trainable = tuple(name for name, end in current.blocks.items() if end.outputs)
        self._listener.expect(current, None)

    @torch._disable_dynamo
    def forget(self, model: torch.nn.Module, args: Any, output: Any) -> None:
        """Leave a call, also one that raised."""
        _current.end(self)


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


def _forget_compiled() -> None:
    # Code that was compiled before would go on without these hooks: torch.compile does not look for new ones.
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
