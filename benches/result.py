"""A measured ratio, and the format of figures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """A measured ratio with the two figures that it compares."""

    figure: str  # the figure of opuproj, with its unit
    against: str  # the figure of the comparison
    ratio: float


def rate(per_second: float, unit: str) -> str:
    """Format a rate in thousands of millions: 21.3 G components/s."""
    return f"{per_second / 1e9:.3g} G {unit}"


def duration(of_seconds: float) -> str:
    """Format a time in a suitable unit."""
    if of_seconds >= 1:
        return f"{of_seconds:.2f} s"
    if of_seconds >= 1e-3:
        return f"{of_seconds * 1e3:.3g} ms"
    return f"{of_seconds * 1e6:.3g} µs"


def size(n_bytes: float) -> str:
    """Format a number of bytes in a suitable unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 999.5:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"
