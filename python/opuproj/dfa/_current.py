"""The forward passes that are under way in this thread or task: context-local, the innermost last."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from dataclasses import dataclass

from ._pass import Pass


@dataclass(frozen=True)
class Call:
    """A call of a model; without a pass where no error is wanted."""

    owner: object
    current: Pass | None
    depth: int


_calls: ContextVar[tuple[Call, ...]] = ContextVar("opuproj.dfa: forward passes under way", default=())


def begin(owner: object, current: Pass | None) -> None:
    """Enter a call of the model whose hooks `owner` are."""
    depth = _depth()
    # An interrupted call leaves its entry behind; a call inside of another is deeper than that.
    outer = (call for call in _calls.get() if call.depth < depth)
    _calls.set((*outer, Call(owner, current, depth)))


def find(owner: object) -> Call | None:
    """Return the innermost call under way."""
    return next((call for call in reversed(_calls.get()) if call.owner is owner), None)


def end(owner: object) -> None:
    """Leave the innermost call."""
    found = find(owner)
    _calls.set(tuple(call for call in _calls.get() if call is not found))


def _depth() -> int:
    frame, depth = sys._getframe(), 0
    while frame is not None:
        depth, frame = depth + 1, frame.f_back  # type: ignore[assignment]
    return depth
