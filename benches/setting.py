"""The settings of a measurement, and the error if it cannot run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mode = Literal["intensity", "linear", "complex", "real"]


class UnavailableError(Exception):
    """This machine or environment lacks what a measurement needs; the message says what."""


@dataclass(frozen=True)
class Setting:
    """The instruction set, the number of threads, the longest call and the time for one comparison."""

    isa: str
    threads: int
    call_seconds: float = 1.5
    budget: float = 4.0
