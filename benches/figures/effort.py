"""The time for measuring a picture."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """Seconds that one call may last, seconds for the rounds of a point, and the share of the points."""

    call_seconds: float
    budget: float
    every: int = 1  # measure one point in so many

    def of(self, points: tuple[int, ...]) -> tuple[int, ...]:
        """Return every `every`-th point, including the last one."""
        return tuple(sorted({*points[:: self.every], points[-1]}))


THOROUGH = Effort(call_seconds=120.0, budget=10.0)
QUICK = Effort(call_seconds=0.3, budget=0.3, every=3)
