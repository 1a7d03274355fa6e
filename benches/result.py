"""One measured ratio, what it must be, and how figures are written."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """One measured ratio and what it must be."""

    figure: str  # what opuproj reached, in the field's units
    against: str  # what it is compared with
    ratio: float
    required: float
    aim: float | None = None
    at_most: bool = False  # the ratio must not exceed `required`, instead of reaching it

    @property
    def reached(self) -> bool:
        """Whether the requirement is met."""
        return self.ratio <= self.required if self.at_most else self.ratio >= self.required


def rate(per_second: float, unit: str) -> str:
    """A rate in thousands of millions, the scale of everything measured here: 21.3 G components/s."""
    return f"{per_second / 1e9:.3g} G {unit}"


def duration(of_seconds: float) -> str:
    """A time in the unit that reads best."""
    if of_seconds >= 1:
        return f"{of_seconds:.2f} s"
    if of_seconds >= 1e-3:
        return f"{of_seconds * 1e3:.3g} ms"
    return f"{of_seconds * 1e6:.3g} µs"


def size(n_bytes: float) -> str:
    """A number of bytes in the unit that reads best."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 999.5:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"
