"""How often the matrices of method "fitted" are fitted, and how long a fit counts."""

from __future__ import annotations

from dataclasses import dataclass

from .. import _check


@dataclass(frozen=True)
class Fitting:
    """When method ``"fitted"`` fits its matrices.

    Parameters
    ----------
    every : int, default 20
        One pass in so many is a pass by backpropagation, to whose gradients the matrices are fitted. At least 2.
    memory : float, default 3.0
        The number of such passes that a fit remembers. Each pass weighs 1 - 1/`memory` as much as the next one. At
        least 1; with 1, a fit forgets all passes before the latest.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or not a number.
    """

    every: int = 20
    memory: float = 3.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "every", _check.integer("every", self.every, 2, 2**63 - 1))
        object.__setattr__(self, "memory", _check.real("memory", self.memory, low=1.0))
