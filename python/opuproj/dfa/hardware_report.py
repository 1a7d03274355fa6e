"""The cost of a training's projections on an optical processing unit, compared with their time here."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ..camera import Camera
from ..hardware import Cost, Generation, checked_generation, cost, format_quantity


@dataclass
class Projected:
    """Counts of projections for a report.

    Attributes
    ----------
    ternary : Counter
        The number of ternary errors for each (elements of an error, rows of T, camera). The device projects these.
    seconds : float
        Their time here (s).
    floats : int
        The number of float errors, which no device projects.
    """

    ternary: Counter[tuple[int, int, Camera | None]] = field(default_factory=Counter)
    seconds: float = 0.0
    floats: int = 0


@dataclass(frozen=True)
class HardwareReport:
    """The result of :meth:`Feedback.hardware_report`. ``print`` shows it as text.

    Attributes
    ----------
    generation : Generation
        The device.
    vectors : int
        The number of ternary errors projected.
    cost : Cost
        Their cost on the device.
    seconds : float
        Their time here (s). It includes making errors ternary and scaling the result, which the device leaves to its
        host.
    left_out : int
        The number of float errors (method ``"dfa"``), which the device cannot project.
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
            lines.append(f"left out: {self.left_out:,} float errors (method 'dfa'), which the hardware cannot project")
        return "\n".join(lines)


def report(projected: Projected, n_anchor: int, generation: Generation) -> HardwareReport:
    """Compute :meth:`Feedback.hardware_report`."""
    generation = checked_generation(generation)
    if not projected.ternary and not projected.floats:
        raise RuntimeError(
            "no error has been projected since the feedback was attached, so there is nothing to report: run the model "
            "forward and backward with method 'odfa' first"
        )
    costs = [
        cost(vectors, n_inputs, n_rows, mode="linear", camera=camera, n_anchor=n_anchor, generation=generation)
        for (n_inputs, n_rows, camera), vectors in projected.ternary.items()
    ]
    total = sum(costs[1:], costs[0]) if costs else Cost(0, 0.0, 0.0, 0.0, 0)
    return HardwareReport(generation, projected.ternary.total(), total, projected.seconds, projected.floats)
