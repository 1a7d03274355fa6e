"""The hooks that cut a model at the ends of its blocks, and what they know of the forward pass that is under way."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch

from . import _tensors
from ._pass import Deliver, Pass

if TYPE_CHECKING:
    from .feedback import Feedback


class Hooks:
    """What happens in a forward pass of a model that has feedback; `current` is the pass that is under way."""

    def __init__(self, feedback: Feedback) -> None:
        self._feedback = feedback
        self._modules: list[torch.nn.Module] = []
        self.current: Pass | None = None

    def register(
        self, model: torch.nn.Module, blocks: dict[str, torch.nn.Module], output: torch.nn.Module | None
    ) -> None:
        """Put hooks on a model; `output` is None on a rank where no error is taken."""
        self._modules = [model, *blocks.values(), *([] if output is None else [output])]
        model.register_forward_pre_hook(self.begin)
        for name, block in blocks.items():
            block.register_forward_hook(partial(self.cut, name))
        if output is not None:
            output.register_forward_hook(self.tap)
        model.register_forward_hook(self.end_of_part if output is None else self.end)
        model.register_forward_hook(self.forget, always_call=True)

    def remove(self) -> None:
        """Take these hooks off: not by handles, which copies of a model do not have."""
        for module in self._modules:
            for registered in (module._forward_pre_hooks, module._forward_hooks):
                for number in [number for number, hook in registered.items() if _hooks_of(hook) is self]:
                    del registered[number]
                    module._forward_hooks_always_called.pop(number, None)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "current": None}  # a copy of the model has not begun

    @torch._disable_dynamo
    def begin(self, model: torch.nn.Module, args: Any) -> None:
        """Begin a pass, if anybody wants its error."""
        if _in_backward():  # a checkpoint computes again what it did not keep
            return
        self.current = None
        feedback, recorded = self._feedback, self._feedback._recording is not None
        if not feedback._removed and torch.is_grad_enabled() and (feedback.method != "bp" or recorded):
            self.current = Pass(feedback.method, recorded=recorded)

    @torch._disable_dynamo
    def cut(self, name: str, block: torch.nn.Module, args: Any, output: Any) -> Any:
        """Cut the graph at a block's end, and keep what is behind."""
        current = self.current
        if self._feedback._removed or (self._feedback.method == "bp" and current is None):
            return None
        if _in_backward():  # a checkpoint around the block must see the same graph as before
            return _tensors.cut(output, name)
        if not torch.is_grad_enabled():
            if current is not None and _trainable(block):
                raise RuntimeError(
                    f"block {name!r} ran without gradients while the model ran with them, so it cannot be trained; for "
                    "activation checkpointing use use_reentrant=False, and freeze what is not to be trained"
                )
            return None
        if current is None:
            raise RuntimeError(f"block {name!r} was called on its own: feedback needs the whole model's forward pass")
        if current.tapped:
            raise RuntimeError(
                f"block {name!r} ran after {self._feedback._where()}, where the error is taken, so no error could "
                "reach it: leave it out of blocks, or take the error later"
            )
        if name in current.shapes:
            raise RuntimeError(f"block {name!r} ran twice in one forward pass: attach its parts, or what is around it")
        end = _tensors.activation(output)
        if end is None:
            raise TypeError(f"block {name!r} returned no floating-point tensor, so there is nothing to feed")
        current.shapes[name], current.dtypes[name], current.devices[name] = end.shape, end.dtype, end.device
        if end.requires_grad:
            current.ends[name] = end
            if current.method == "bp":
                return None
        elif _trainable(block):
            raise RuntimeError(
                f"block {name!r} has parameters to train, but its output depends on none: feedback cannot train it"
            )
        return _tensors.cut(output, name)

    @torch._disable_dynamo
    def tap(self, module: torch.nn.Module, args: Any, output: Any) -> Any:
        """Put the node in the output through which all feedback comes."""
        current = self.current
        if current is None or _in_backward() or not torch.is_grad_enabled():
            return None
        where = self._feedback._where()
        if current.tapped:
            raise RuntimeError(f"{where} ran twice in one forward pass, but the error can be taken only once")
        missing = [name for name in self._feedback.blocks if name not in current.shapes]
        if missing:
            raise RuntimeError(f"block {missing[0]!r} was not reached before {where}, where the error is taken")
        current.tapped = True
        z = _tensors.activation(output)
        if z is None:
            raise TypeError(f"{where} is not a floating-point tensor, so it has no error")
        if current.recorded and self._feedback._recording is not None:
            self._feedback._recording.append(current)
        if current.method in ("bp", "shallow"):
            if not current.recorded:
                current.ends.clear()
            return None
        self._feedback._expect(current, z)
        fed = cast(torch.Tensor, Deliver.apply(self._feedback._feed, current, z, *current.ends.values()))
        if not current.recorded:
            current.ends = {}
        return _tensors.replaced(output, fed)

    @torch._disable_dynamo
    def end(self, model: torch.nn.Module, args: Any, output: Any) -> None:
        """End a pass, whose error must have been taken."""
        if _in_backward():
            return
        current, self.current = self.current, None
        if current is not None and not current.tapped:
            raise RuntimeError(f"{self._feedback._where()}, where the error is taken, was not reached")

    @torch._disable_dynamo
    def end_of_part(self, model: torch.nn.Module, args: Any, output: Any) -> None:
        """Keep a pass of a part of the model, on a rank without a loss, until its error comes."""
        if _in_backward():
            return
        current, self.current = self.current, None
        if current is None:
            return
        missing = [name for name in self._feedback.blocks if name not in current.shapes]
        if missing:
            raise RuntimeError(f"block {missing[0]!r} was not reached in this rank's part of the model")
        end = _tensors.activation(output)
        if end is not None and end.requires_grad:
            raise RuntimeError(
                "what comes after the last block of this rank's part of the model is to be trained, but no error comes "
                "there: it belongs to the rank of the next block"
            )
        if current.method == "shallow":
            return
        self._feedback._expect(current, None)

    @torch._disable_dynamo
    def forget(self, model: torch.nn.Module, args: Any, output: Any) -> None:
        """Let a pass go that raised and so was not ended."""
        if not _in_backward():
            self.current = None


def feedbacks(module: torch.nn.Module) -> list[Feedback]:
    """Return those that have hooks on a module and are not removed."""
    hooks = map(_hooks_of, [*module._forward_pre_hooks.values(), *module._forward_hooks.values()])
    return [h._feedback for h in hooks if h is not None and not h._feedback._removed]


def _hooks_of(hook: Any) -> Hooks | None:
    """Return whose a module's hook is, if it is one of these."""
    method = hook.func if isinstance(hook, partial) else hook
    hooks = getattr(method, "__self__", None)
    return hooks if isinstance(hooks, Hooks) else None


def _trainable(block: torch.nn.Module) -> bool:
    return any(p.requires_grad for p in block.parameters())


def _in_backward() -> bool:
    return bool(torch._C._current_graph_task_id() != -1)
