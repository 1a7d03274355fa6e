"""The error signal: the gradient at the model's output, in the form in which it is projected."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..camera import Camera
from ..encoded import EncodedBatch
from ..ternary import TernaryBatch


@dataclass(frozen=True)
class TernaryError:
    """A ternary error e ≈ a t of shape (n, n_inputs).

    Attributes
    ----------
    batch : TernaryBatch
        t, packed.
    factors : Tensor of shape (n, 1)
        a.
    noise_seed : int or None
        The seed of the camera's noise.
    """

    batch: TernaryBatch
    factors: torch.Tensor
    noise_seed: int | None

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, n_inputs)."""
        return self.batch.shape

    @property
    def dtype(self) -> torch.dtype:
        """float32, or float64 for an error of float64."""
        return self.factors.dtype


@dataclass(frozen=True)
class FloatError:
    """An error of shape (n, n_inputs) in float32 or float64.

    Attributes
    ----------
    numbers : Tensor
        The error itself, on the CPU. Vectors that are not finite are 0.
    finite : Tensor of shape (n, 1)
        Which vectors are finite.
    encoded : tuple of EncodedBatch
        Batches of digits whose sum is `numbers`. Empty for a structured matrix, which takes floats directly.
    """

    numbers: torch.Tensor
    finite: torch.Tensor
    encoded: tuple[EncodedBatch, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, n_inputs)."""
        return tuple(self.numbers.shape)

    @property
    def dtype(self) -> torch.dtype:
        """float32 or float64."""
        return self.numbers.dtype


@dataclass(frozen=True)
class Error:
    """The error of one forward pass, ready to be projected.

    Attributes
    ----------
    number : int
        The number of its forward pass, counting only passes that need an error.
    shape : tuple of int
        Its shape at the model's output.
    scale : float
        The gradient scaler's scale, by which the feedback is multiplied.
    content : TernaryError or FloatError
        The ternary error for ``"odfa"``, the floats for ``"dfa"``.
    camera : Camera or None
        The camera from whose frames the projection is recovered.
    """

    number: int
    shape: tuple[int, ...]
    scale: float
    content: TernaryError | FloatError
    camera: Camera | None
