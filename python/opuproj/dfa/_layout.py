"""How errors and blocks meet: which axes they share, and which rows of T each block gets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

Shape = Sequence[int]


@dataclass(frozen=True)
class Layout:
    """The axes that count vectors, and the blocks' widths: the rows of T, shared out in the order of the blocks.

    Attributes
    ----------
    batch_axes : int
        How many leading axes of the error and of every block's output count vectors. What is left of the error, as one
        vector, is projected; what is left of a block's output, as one vector, is fed.
    widths : tuple of int
        The length of each block's vector.
    """

    batch_axes: int
    widths: tuple[int, ...]

    @property
    def rows(self) -> list[range]:
        """The rows of T that each block has."""
        return [range(stop - width, stop) for stop, width in zip(accumulate(self.widths), self.widths, strict=True)]

    @property
    def n_rows(self) -> int:
        """The number of rows of T for all blocks."""
        return sum(self.widths)

    @staticmethod
    def of(error: Shape, blocks: dict[str, Shape], batch_axes: int | None) -> Layout:
        """Return the layout of an error and the blocks' outputs of these shapes, or raise ValueError.

        Unless it is given, batch_axes is 2 where the error has exactly three axes (batch, position, feature) and every
        block's output has the same first two; else it is 1, the batch.
        """
        if len(error) == 0:
            raise ValueError(
                "the error is a single number, but needs a batch axis: if the model returns its loss, let output= name "
                "the module whose output goes into it"
            )
        if batch_axes is None:
            sequences = len(error) == 3 and all(
                len(s) >= 3 and tuple(s[:2]) == tuple(error[:2]) for s in blocks.values()
            )
            batch_axes = 2 if sequences else 1
        if len(error) < batch_axes:
            raise ValueError(f"the error has shape {tuple(error)}, but batch_axes is {batch_axes}")
        return Layout(batch_axes, tuple(_width(name, s, error, batch_axes) for name, s in blocks.items()))

    def fits(self, error: Shape, blocks: dict[str, Shape]) -> None:
        """Raise ValueError if the shapes of a later pass do not fit the rows that the first one was given."""
        for (name, shape), width in zip(blocks.items(), self.widths, strict=True):
            now = _width(name, shape, error, self.batch_axes)
            if now != width:
                raise ValueError(
                    f"block {name!r} returned shape {tuple(shape)}, so {now} elements a vector, but its rows of T were "
                    f"given to it at the first pass for {width}: attach again for other shapes"
                )


def _width(name: str, shape: Shape, error: Shape, batch_axes: int) -> int:
    if tuple(shape[:batch_axes]) != tuple(error[:batch_axes]):
        raise ValueError(
            f"block {name!r} returned shape {tuple(shape)} and the error has shape {tuple(error)}: their first "
            f"{'axis' if batch_axes == 1 else f'{batch_axes} axes'} must be equal, for each vector to get its own error"
        )
    return math.prod(shape[batch_axes:])
