"""What the projections of a training would have cost on an optical processing unit, beside what they took here."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ..camera import Camera
from ..hardware import Cost, Generation, checked_generation, cost, format_quantity


@dataclass
class Projected:
    """What was projected: all that a report needs.

    Attributes
    ----------
    ternary : Counter
        Ternary errors by (elements of an error, rows of T, camera): the device shows these.
    seconds : float
        The time that these took here.
    floats : int
        Errors of floats, which no device shows.
    """

    ternary: Counter[tuple[int, int, Camera | None]] = field(default_factory=Counter)
    seconds: float = 0.0
    floats: int = 0


@dataclass(frozen=True)
class HardwareReport:
    """What :meth:`Feedback.hardware_report` found; print it.

    Attributes
    ----------
    generation : Generation
        The device.
    vectors : int
        Ternary errors projected.
    cost : Cost
        What they would have cost on the device.
    seconds : float
        What they took here (s), with making errors ternary and scaling the result: work that the device leaves to its
        host.
    left_out : int
        Errors projected as floats (method ``"dfa"``), which the device cannot show.
    """

    generation: Generation
    vectors: int
    cost: Cost
    seconds: float
    left_out: int

    def __str__(self) -> str:
        lines = [
            f"{self.vectors:,} ternary error{'' if self.vectors == 1 else 's'} projected",
            f"  on the {self.generation.name}: {self.cost}",
            f"  here: {format_quantity(self.seconds, 's')}, with making errors ternary and scaling",
        ]
        if self.left_out:
            lines.append(f"left out: {self.left_out:,} float errors (method 'dfa'), which the hardware does not take")
        return "\n".join(lines)


def report(projected: Projected, n_anchor: int, generation: Generation) -> HardwareReport:
    """Return what :meth:`Feedback.hardware_report` does."""
    generation = checked_generation(generation)
    if not projected.ternary and not projected.floats:
        raise RuntimeError(
            "there is nothing to report: no error has been projected since the feedback was attached; run the model "
            "forward and backward with method 'odfa' first"
        )
    costs = [
        cost(vectors, n_inputs, n_rows, mode="linear", camera=camera, n_anchor=n_anchor, generation=generation)
        for (n_inputs, n_rows, camera), vectors in projected.ternary.items()
    ]
    total = sum(costs[1:], costs[0]) if costs else Cost(0, 0.0, 0.0, 0.0, 0)
    return HardwareReport(generation, projected.ternary.total(), total, projected.seconds, projected.floats)
