"""Which axes of errors and block outputs count vectors, and which rows of T each block gets."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch

Shape = Sequence[int]
# The error's name among those of the blocks. No block has it, as no block is the model itself.
OUTPUT = ""


@dataclass(frozen=True)
class Axes:
    """The user's arguments about the axes that count vectors.

    Attributes
    ----------
    batch_axes : int or None
        The number of leading axes that count vectors.
    batch_dim : int, dict of str to int, or None
        The one axis that counts vectors, if it is not the first: of all tensors, or by names of blocks and OUTPUT.
    """

    batch_axes: int | None
    batch_dim: int | dict[str, int] | None

    @property
    def known(self) -> bool:
        """Whether the user named the axes."""
        return self.batch_dim is not None or (self.batch_axes is not None and self.batch_axes > 1)

    def batch_dims(self, error: Shape, blocks: Mapping[str, Sequence[Shape]]) -> dict[str, int]:
        """Return, for each block and the error, the first axis that counts vectors."""
        given = self.batch_dim
        if given is None:
            return dict.fromkeys((*blocks, OUTPUT), 0)
        if isinstance(given, dict):
            return {name: given.get(name, 0) for name in (*blocks, OUTPUT)}
        axes = {name: max((len(shape) for shape in shapes), default=0) for name, shapes in blocks.items()}
        axes[OUTPUT] = len(error)
        # A last state, and whatever is computed from it, has no axis of steps: there axis 0 counts vectors.
        return {name: given if n == max(axes.values()) else 0 for name, n in axes.items()}


@dataclass(frozen=True)
class Layout:
    """The axes that count vectors, and the blocks' widths. Blocks get consecutive rows of T in their order.

    Attributes
    ----------
    batch_axes : int
        The number of axes of the error and of every block's outputs that count vectors. The other axes of the error
        form the vector that is projected; those of a block's outputs form the vector that receives feedback.
    widths : tuple of int
        The length of each block's vector.
    batch_dims : tuple of int
        For each block, and last for the error, the axis that counts vectors; 0 if several do.
    """

    batch_axes: int
    widths: tuple[int, ...]
    batch_dims: tuple[int, ...]

    @property
    def rows(self) -> list[range]:
        """The rows of T of each block."""
        return [range(stop - width, stop) for stop, width in zip(accumulate(self.widths), self.widths, strict=True)]

    @property
    def n_rows(self) -> int:
        """The number of rows of T for all blocks."""
        return sum(self.widths)

    @staticmethod
    def of(error: Shape, blocks: Mapping[str, Sequence[Shape]], axes: Axes) -> Layout:
        """Return the layout of an error and the blocks' outputs of these shapes, or raise ValueError.

        If the user did not give batch_axes, it is 2 for an error of exactly three axes (batch, position, feature)
        whose first two every block's output shares, and 1 otherwise. For an error of three axes or more, a warning
        names the assumption.
        """
        if len(error) == 0:
            raise ValueError(
                "the error is a single number, but needs a batch axis: if the model returns its loss, name the module "
                "whose output goes into the loss with output="
            )
        dims = axes.batch_dims(error, blocks)
        batch_axes = axes.batch_axes
        if batch_axes is None and axes.batch_dim is not None:
            batch_axes = 1
        if batch_axes is None:
            batch_axes = _assumed(error, blocks)
        if len(error) < batch_axes:
            raise ValueError(f"the error has shape {tuple(error)}, but batch_axes is {batch_axes}")
        widths = tuple(_width(name, shapes, error, batch_axes, dims) for name, shapes in blocks.items())
        return Layout(batch_axes, widths, tuple(dims.values()))

    def check_shapes(
        self,
        error: Shape,
        blocks: Mapping[str, Sequence[Shape]],
        widths: Mapping[str, int],
        dims: Mapping[str, int],
        axes: Axes | None,
    ) -> None:
        """Raise ValueError if the shapes of a later pass differ from those for which rows were assigned.

        `widths` and `dims` are the layout's, by the names of these blocks and of the error. `axes` has the user's
        arguments; it is None on a rank that does not know the shapes of the whole model.
        """
        for name, dim in (dims if axes is None else axes.batch_dims(error, blocks)).items():
            if dim != dims[name]:
                what = f"block {name!r}" if name else "the error"
                raise ValueError(
                    f"axis {dims[name]} of {what} counted its vectors in the first pass, but now axis {dim} does: "
                    "attach again, and give batch_dim for each block by its name"
                )
        for name, shapes in blocks.items():
            now = _width(name, shapes, error, self.batch_axes, dims)
            if now != widths[name]:
                raise ValueError(
                    f"block {name!r} returned {_shapes_text(shapes)}, so {now} elements a vector, but at the first "
                    f"pass it got rows of T for {widths[name]}: attach again for other shapes"
                )


def as_vectors(tensor: torch.Tensor, batch_axes: int, dim: int) -> torch.Tensor:
    """Return a tensor as vectors, of shape (n, length)."""
    tensor = tensor.movedim(dim, 0)
    lead = tensor.shape[:batch_axes]
    return tensor.reshape(math.prod(lead), math.prod(tensor.shape[batch_axes:]))


def from_vectors(vectors: torch.Tensor, shape: Shape, dim: int) -> torch.Tensor:
    """Return vectors as a tensor of this shape: the inverse of :func:`as_vectors`."""
    if dim == 0:
        return vectors.reshape(tuple(shape))
    moved = [shape[dim], *shape[:dim], *shape[dim + 1 :]]
    return vectors.reshape(moved).movedim(0, dim)


def _assumed(error: Shape, blocks: Mapping[str, Sequence[Shape]]) -> int:
    """Guess how many leading axes count vectors; warn if the error has three axes or more."""
    if len(error) < 3:
        return 1
    lead = tuple(error[:2])
    outputs = [shape for shapes in blocks.values() for shape in shapes]
    sequences = len(error) == 3 and all(len(shape) >= 3 and tuple(shape[:2]) == lead for shape in outputs)
    if sequences:
        assumed = (
            f"each of {lead[0]} × {lead[1]} positions has an error of its own (batch_axes=2), as in (batch, position, "
            "feature); for (batch, channel, length) or other axes pass batch_axes=1"
        )
    else:
        assumed = (
            f"each of the {error[0]} elements of axis 0 has one error (batch_axes=1); if each position has an error of "
            "its own, pass batch_axes=2"
        )
    warnings.warn(
        f"the error has {len(error)} axes, {tuple(error)}: this assumes that {assumed}. Pass batch_axes or batch_dim "
        "to silence this warning",
        stacklevel=2,
    )
    return 2 if sequences else 1


def _width(name: str, shapes: Sequence[Shape], error: Shape, batch_axes: int, dims: Mapping[str, int]) -> int:
    for shape in shapes:
        for what, s, dim in ((f"block {name!r} returned", shape, dims[name]), ("the error has", error, dims[OUTPUT])):
            if len(s) <= dim:
                raise ValueError(f"{what} shape {tuple(s)}, but by batch_dim its axis {dim} counts the vectors")
        theirs = _vector_axes(shape, batch_axes, dims[name])
        if theirs != _vector_axes(error, batch_axes, dims[OUTPUT]):
            raise ValueError(
                f"block {name!r} returned shape {tuple(shape)} and the error has shape {tuple(error)}: "
                f"{_axes_text(batch_axes, dims[name], dims[OUTPUT])} must be equal, for each vector to get its own "
                "error. Where another axis counts the vectors, as in nn.LSTM or nn.Transformer with batch_first=False, "
                "name it with batch_dim= (or use batch_first=True)"
            )
    return sum(_vector_length(shape, batch_axes, dims[name]) for shape in shapes)


def _vector_axes(shape: Shape, batch_axes: int, dim: int) -> tuple[int, ...]:
    return (shape[dim],) if dim else tuple(shape[:batch_axes])


def _vector_length(shape: Shape, batch_axes: int, dim: int) -> int:
    return math.prod((*shape[:dim], *shape[dim + 1 :]) if dim else shape[batch_axes:])


def _axes_text(batch_axes: int, block: int, error: int) -> str:
    if block or error:
        return f"axis {block} of the block and axis {error} of the error"
    return "their first axis" if batch_axes == 1 else f"their first {batch_axes} axes"


def _shapes_text(shapes: Sequence[Shape]) -> str:
    return f"shape{'' if len(shapes) == 1 else 's'} {', '.join(str(tuple(shape)) for shape in shapes)}"
