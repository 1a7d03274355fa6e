"""A watch on optimizers: a step without feedback is a mistake that nothing else would show."""

from __future__ import annotations

import weakref
from typing import Any, Protocol

from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle


class Watcher(Protocol):
    """Who wants to know before a step."""

    def _before_step(self, optimizer: Optimizer) -> None: ...


def watch(watcher: Watcher) -> RemovableHandle:
    """Have a watcher told of each step of any optimizer before it."""
    reference = weakref.ref(watcher)

    def before_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        alive = reference()
        if alive is not None:
            alive._before_step(optimizer)

    handle = register_optimizer_step_pre_hook(before_step)
    weakref.finalize(watcher, handle.remove)
    return handle
