"""Timing in turn, in one run, so that a change of load affects both sides of a ratio equally."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import TypeVar

Work = Callable[[], object]
Clock = Callable[[], float]
Made = TypeVar("Made")


def seconds(work: Work, calls: int = 1, clock: Clock = perf_counter) -> float:
    """Return the seconds of one call, as the mean of several in a row."""
    start = clock()
    for _ in range(calls):
        work()
    return (clock() - start) / calls


def timed(make: Callable[[], Made]) -> tuple[Made, float]:
    """Return the result of a call and its seconds."""
    start = perf_counter()
    made = make()
    return made, perf_counter() - start


@dataclass(frozen=True)
class Rounds:
    """The seconds of each work in every round."""

    seconds: Mapping[str, list[float]]

    def median(self, name: str) -> float:
        """Median seconds of one call."""
        return median(self.seconds[name])

    def ratio(self, above: str, below: str) -> float:
        """Median over the rounds of one work's seconds over another's."""
        return self.median_of(lambda took: took[above] / took[below])

    def median_of(self, figure: Callable[[Mapping[str, float]], float]) -> float:
        """Median over the rounds of a figure computed from one round's seconds."""
        rounds = zip(*self.seconds.values(), strict=True)
        return median(figure(dict(zip(self.seconds, took, strict=True))) for took in rounds)


def alternate(
    works: Mapping[str, Work],
    *,
    budget: float = 20.0,
    least: int = 3,
    most: int = 15,
    shortest: float = 0.05,
    clock: Clock = perf_counter,
) -> Rounds:
    """Time the works in turn, round after round, after one unmeasured call of each.

    Works shorter than `shortest` seconds are called several times per measurement. Rounds end after `budget` seconds,
    but there are at least `least` rounds. For works of one thread `clock` may be `time.process_time`, which does not
    count other programs.
    """
    calls = {name: max(1, round(shortest / max(seconds(work), 1e-9))) for name, work in works.items()}
    measured: dict[str, list[float]] = {name: [] for name in works}
    start = perf_counter()
    for done in range(most):
        if done >= least and perf_counter() - start > budget:
            break
        for name, work in works.items():
            measured[name].append(seconds(work, calls[name], clock))
    return Rounds(measured)
