"""How a measurement runs, and why one cannot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mode = Literal["intensity", "linear", "complex"]


class UnavailableError(Exception):
    """This machine or environment lacks what a measurement needs; the message says what."""


@dataclass(frozen=True)
class Setting:
    """On which instruction set, on how many threads, how long one call may last and how long one comparison takes."""

    isa: str
    threads: int
    call_seconds: float = 1.5
    budget: float = 4.0
