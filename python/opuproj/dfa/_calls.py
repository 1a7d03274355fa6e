"""The active calls of models with feedback in this thread or task, the innermost last (a context variable)."""

from __future__ import annotations

import sys
import threading
from contextvars import ContextVar
from dataclasses import dataclass
from types import FrameType

import torch

from ._pass import Pass

# torch calls a module's hooks from frames of this file, which last as long as the module's call.
_CALLS = "torch/nn/modules/module.py"


@dataclass(frozen=True)
class ModelCall:
    """A call of a model. It has no pass if no error is wanted for it."""

    owner: object
    current: Pass | None
    thread: int
    frame: FrameType | None

    def is_active(self) -> bool:
        """Whether the call still runs. An interrupted call runs no hook at its end, so its frame decides."""
        # Another thread may run in a copy of the context, and does not have this frame.
        if self.frame is None or self.thread != threading.get_ident():
            return True
        frame: FrameType | None = sys._getframe()
        while frame is not None:
            if frame is self.frame:
                return True
            frame = frame.f_back
        return False


_calls: ContextVar[tuple[ModelCall, ...]] = ContextVar("opuproj.dfa: active forward passes", default=())


def begin(owner: object, current: Pass | None) -> None:
    """Begin a call of the model whose hooks are `owner`."""
    outer = (call for call in _calls.get() if call.is_active())
    _calls.set((*outer, ModelCall(owner, current, threading.get_ident(), _frame())))


def find(owner: object) -> ModelCall | None:
    """Return the innermost active call of the model, or None."""
    found = _last(owner)
    return found if found is not None and found.is_active() else None


def current_pass(owner: object) -> Pass | None:
    """Return the pass of the innermost active call, or None if no error is wanted for it."""
    call = find(owner)
    return None if call is None else call.current


def end(owner: object) -> None:
    """End the innermost call of the model."""
    found = _last(owner)
    _calls.set(tuple(call for call in _calls.get() if call is not found))


def in_backward() -> bool:
    """Whether autograd runs a backward pass in this thread."""
    return backward_number() != -1


def backward_number() -> int:
    """Return the number of the backward pass that runs in this thread, or -1."""
    return int(torch._C._current_graph_task_id())


def _last(owner: object) -> ModelCall | None:
    return next((call for call in reversed(_calls.get()) if call.owner is owner), None)


def _frame() -> FrameType | None:
    frame: FrameType | None = sys._getframe()
    while frame is not None and not frame.f_code.co_filename.replace("\\", "/").endswith(_CALLS):
        frame = frame.f_back
    return frame
