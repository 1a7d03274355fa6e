"""Checks of a program's numbers, which it prints, saves with the results and uses for its exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common import runs


@dataclass(frozen=True)
class Check:
    """A number with its limits from theory or a dense computation."""

    claim: str
    value: float
    low: float
    high: float

    @property
    def passed(self) -> bool:
        """Whether the value lies within its limits; NaN does not."""
        return self.low <= self.value <= self.high

    def __str__(self) -> str:
        """Write it as the program prints it."""
        return (
            f"CHECK {'passed' if self.passed else 'FAILED'}: {self.claim}: {self.value:.4g}, "
            f"must lie in {self.low:.4g} to {self.high:.4g}"
        )


class Checks:
    """All checks of a program, in the order in which they are made."""

    def __init__(self) -> None:
        self.made: list[Check] = []

    def within(self, claim: str, value: float, low: float, high: float) -> None:
        """Check that a value lies within limits, ends included."""
        self.made.append(Check(claim, float(value), float(low), float(high)))

    def plain(self) -> list[dict[str, Any]]:
        """Return the same for JSON."""
        return [{**asdict(check), "passed": check.passed} for check in self.made]

    def finish(self) -> None:
        """Print every check, and end the program with exit code 1 if one failed."""
        print()
        for check in self.made:
            print(check)
        if not all(check.passed for check in self.made):
            sys.exit(1)


def conclude(
    arguments: argparse.Namespace,
    results: dict[str, Any],
    checks: Checks,
    draw: Callable[[dict[str, Any], Path], None],
    report: Callable[[dict[str, Any]], None],
) -> None:
    """Save the results with the checks, draw and report them, and set the exit code by the checks."""
    results = {**results, "checks": checks.plain()}
    name = "quick" if arguments.quick else "results"
    runs.write_json(arguments.out / f"{name}.json", results)
    draw(results, arguments.out / f"{name}.png")
    report(results)
    print(f"\nResults and figure: {arguments.out}/{name}.*")
    checks.finish()
