"""What was projected, and how long it took."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Statistics:
    """What was projected since the feedback was attached.

    Attributes
    ----------
    projections : int
        Errors taken: one a backward pass, for all blocks together.
    vectors : int
        Vectors projected.
    elements, nonzeros : int
        Elements of these vectors, and how many of them were not 0 after they were made ternary (``"odfa"`` only).
    seconds : float
        The time that making them ternary, projecting and scaling took.
    """

    projections: int = 0
    vectors: int = 0
    elements: int = 0
    nonzeros: int = 0
    seconds: float = 0.0
