"""How a command ends that does not succeed."""

from __future__ import annotations

REFUSED, BROKEN_PIPE, INTERRUPTED, TERMINATED = 1, 141, 130, 143


class Terminated(BaseException):
    """The process was asked to end."""


class Unfinished(Exception):  # noqa: N818 - it tells of a state, its cause of the error
    """What stopped a command is the cause; this says what is left of its work."""

    def __init__(self, kept: str, advice: str) -> None:
        super().__init__(f"{kept}: the same command {advice}")
