"""What the ratio of a case must reach. It may depend on the instruction set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Requirement:
    """The bound of a case's ratio: one bound for all instruction sets, or a bound for each of some sets."""

    every: float | None = None
    of_isa: Mapping[str, float] = field(default_factory=dict)
    maximum: bool = False  # whether the bounds are maxima

    def on(self, isa: str) -> float | None:
        """Return the bound on this instruction set; None if it has no requirement."""
        return self.of_isa.get(isa, self.every)

    def text(self, isa: str) -> str:
        """Return the bound as the tables show it: that of this instruction set, or those of the others."""
        bound, sign = self.on(isa), "≤" if self.maximum else "≥"
        if bound is not None:
            return f"{sign} {bound:g}"
        return ", ".join(f"{sign} {bound:g} on {name}" for name, bound in self.of_isa.items())

    def verdict(self, ratio: float, isa: str) -> str:
        """Return whether a ratio meets the bound on this instruction set."""
        bound = self.on(isa)
        if bound is None:
            return NONE
        return MET if (ratio <= bound if self.maximum else ratio >= bound) else MISSED


MET, MISSED, NONE = "met", "not met", "no requirement"


def at_least(every: float | None = None, **of_isa: float) -> Requirement:
    """Return a minimum for all instruction sets, or a minimum for each instruction set that is named."""
    return Requirement(every, of_isa)


def at_most(every: float) -> Requirement:
    """Return a maximum for all instruction sets."""
    return Requirement(every, maximum=True)
