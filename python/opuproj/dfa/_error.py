"""An error on its way from the output to the blocks."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..camera import Camera
from ..encoded import EncodedBatch
from ..ternary import TernaryBatch


@dataclass(frozen=True)
class TernaryError:
    """An error e ≈ a t of shape (n, n_inputs): t packed, a of shape (n, 1), and the seed of the camera's noise."""

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
        The error itself, on the CPU, with 0 for vectors that are not finite.
    finite : Tensor of shape (n, 1)
        Which vectors are finite.
    encoded : tuple of EncodedBatch
        What the numbers are the sum of; empty for a structured matrix, which takes them as they are.
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
    """An error as it is projected.

    Attributes
    ----------
    number : int
        Which forward pass it is of, among those that errors were wanted for.
    shape : tuple of int
        Its shape at the model's output.
    scale : float
        What the feedback is multiplied by, for a gradient scaler.
    content : TernaryError or FloatError
        Made ternary (``"odfa"``), or as it is (``"dfa"``).
    camera : Camera or None
        What its projection is recovered through.
    """

    number: int
    shape: tuple[int, ...]
    scale: float
    content: TernaryError | FloatError
    camera: Camera | None
