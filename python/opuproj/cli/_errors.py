"""The exit codes and exceptions of commands that fail."""

from __future__ import annotations

REFUSED, BROKEN_PIPE, INTERRUPTED, TERMINATED = 1, 141, 130, 143


class Terminated(BaseException):
    """The process received SIGTERM."""


class Unfinished(Exception):  # noqa: N818 - describes a state; its cause is the error
    """A command stopped with part of its work saved. Its cause is the exception that stopped it."""

    def __init__(self, kept: str, advice: str) -> None:
        super().__init__(f"{kept}: the same command {advice}")
