"""A watch on optimizers: a step without feedback is a mistake that nothing else would show."""

from __future__ import annotations

import weakref
from typing import Any, Protocol

from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle


class Watcher(Protocol):
    """Who wants to know before a step."""

    def _before_step(self, parameters: set[int]) -> None: ...


def watch(watcher: Watcher) -> RemovableHandle:
    """Have a watcher told, before each step of any optimizer, which parameters (by id) it is going to change."""
    reference = weakref.ref(watcher)

    def before_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        alive = reference()
        if alive is not None:
            alive._before_step({id(p) for group in optimizer.param_groups for p in group["params"]})

    handle = register_optimizer_step_pre_hook(before_step)
    weakref.finalize(watcher, handle.remove)
    return handle
