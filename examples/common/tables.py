"""Tables in Markdown of what was measured, with what was not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from common import runs

NOT_YET = "not measured yet"
NOT_MEASURED = "not measured"


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def mean(values: Sequence[float | None], factor: float, how: str, unit: str = "") -> str:
    """Return the mean of numbers times a factor, or that there is none: energy and memory of a CPU."""
    known = [value for value in values if value is not None]
    return f"{factor * runs.mean_and_error(known)[0]:{how}}{unit}" if known else NOT_MEASURED


def plus_minus(values: Sequence[float], how: str) -> str:
    """Return the mean of numbers, and its standard error if there are several."""
    centre, error = runs.mean_and_error(values)
    return f"{centre:{how}}" + (f" ± {error:{how.lstrip('+')}}" if len(values) > 1 else "")
