"""A watch on optimizers: a step without feedback is a mistake that nothing else would show."""

from __future__ import annotations

import weakref
from functools import cache
from typing import Any, Protocol

from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook


class StepObserver(Protocol):
    """Who wants to know before a step."""

    def _before_step(self, optimizer: Optimizer) -> None: ...


# Of all who watch, so that torch has one hook that stays: it goes through its hooks at every step, and must not find
# one taken away by the garbage collector meanwhile.
_observers: weakref.WeakSet[StepObserver] = weakref.WeakSet()


def observe(observer: StepObserver) -> None:
    """Have a observer told of each step of any optimizer before it, as long as it lives."""
    _register()
    _observers.add(observer)


def stop_observing(observer: StepObserver) -> None:
    """Tell the observer no longer."""
    _observers.discard(observer)


@cache
def _register() -> None:
    register_optimizer_step_pre_hook(_before_step)


def _before_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    for observer in list(_observers):
        observer._before_step(optimizer)
