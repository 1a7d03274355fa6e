"""Counts of projections, and their time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Statistics:
    """Counts of what was projected since the feedback was attached.

    Attributes
    ----------
    projections : int
        Errors projected: one for each backward pass, for all blocks together.
    vectors : int
        Vectors projected.
    elements, nonzeros : int
        Elements of these vectors, and how many were nonzero after being made ternary (``"odfa"`` only).
    seconds : float
        The time spent on making errors ternary, projecting and scaling (s).
    """

    projections: int = 0
    vectors: int = 0
    elements: int = 0
    nonzeros: int = 0
    seconds: float = 0.0
