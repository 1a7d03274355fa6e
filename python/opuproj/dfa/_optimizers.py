"""Observes the steps of all optimizers, to find steps that no feedback came before."""

from __future__ import annotations

import weakref
from functools import cache
from typing import Any, Protocol

from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook


class StepObserver(Protocol):
    """An object that is called before each step of any optimizer."""

    def _before_step(self, optimizer: Optimizer) -> None: ...


# One hook of torch serves all observers and is never removed: torch iterates over its hooks at each step, and the
# garbage collector must not remove one meanwhile.
_observers: weakref.WeakSet[StepObserver] = weakref.WeakSet()


def observe(observer: StepObserver) -> None:
    """Call an observer before each step of any optimizer, as long as it exists."""
    _register()
    _observers.add(observer)


def stop_observing(observer: StepObserver) -> None:
    """Stop calling an observer."""
    _observers.discard(observer)


@cache
def _register() -> None:
    register_optimizer_step_pre_hook(_before_step)


def _before_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    for observer in list(_observers):
        observer._before_step(optimizer)
