"""The error signal: the gradient at the model's output, in the form in which it is projected."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from .._device_batch import DeviceBatch
from ..backends import backend_for
from ..camera import Camera
from ..encoded import MAX_DIGITS, EncodedBatch
from ..inputs.arrays import array_rows
from ..inputs.rows import ArrayRows
from ..packing import encode
from ..ternary import TernaryBatch

# One product takes five digits, so these take three products.
_DIGITS = 15
# The relative error that the digits of a float32 error may cause in its feedback.
_PRECISION = 2e-6


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
        The error itself, on the GPU where it was computed, else on the CPU. Vectors that are not finite are 0.
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


def float_error(e: torch.Tensor, *, encoded: bool) -> FloatError:
    """Return an error of shape (n, n_inputs), encoded in digits unless the matrix takes floats directly."""
    e = e.detach().to(torch.float64 if e.dtype == torch.float64 else torch.float32)
    if not has_backend(e):
        e = e.cpu()
    finite = e.isfinite().all(dim=1, keepdim=True)
    numbers = torch.where(finite, e, 0.0)
    return FloatError(numbers, finite, _encoded(numbers) if encoded else ())


def digits_for(n_inputs: int) -> int:
    """Return the number of digits that keep the feedback of a float32 error within 2e-6 of its norm.

    With d digits and M = (3^d - 1) / 2, the rounding error of an element is uniform and at most max|e| / 2M. So the
    feedback's error is √n / (2√3 M) max|e|, and max|e| is at most the norm of e.
    """
    largest = (3**_DIGITS - 1) / 2
    return _DIGITS if math.sqrt(n_inputs) / (2 * math.sqrt(3) * largest) <= _PRECISION else MAX_DIGITS


def _encoded(numbers: torch.Tensor) -> tuple[EncodedBatch, ...]:
    if numbers.dtype == torch.float32:
        return (encode(numbers, digits=digits_for(numbers.shape[1])),)
    value = encode(numbers, digits=MAX_DIGITS)
    remainder = numbers - value.to_torch()
    return value, encode(remainder, digits=_DIGITS)


def moved(error: Error, device: torch.device) -> Error:
    """Return an error that was received from another rank on the device of its blocks, if that computes projections."""
    content = error.content
    if not has_backend(torch.empty((0, 1), device=device)):
        return error
    if isinstance(content, TernaryError):
        content = replace(content, batch=content.batch.to(device), factors=content.factors.to(device))
    else:
        content = float_error(content.numbers.to(device), encoded=bool(content.encoded))
    return replace(error, content=content)


def has_backend(e: torch.Tensor) -> bool:
    """Return whether the device of a tensor computes projections itself."""
    return backend_for(_rows(e)).name != "cpu"


def is_captured(e: torch.Tensor) -> bool:
    """Return whether the stream of a tensor is captured into a CUDA graph, which replays what its device does."""
    rows = _rows(e)
    return backend_for(rows).capturing(rows)


def is_on_gpu(error: Error) -> bool:
    """Return whether a GPU computes the projections of an error."""
    content = error.content
    if isinstance(content, TernaryError):
        return isinstance(content.batch._packed, DeviceBatch)
    return has_backend(content.numbers)


def _rows(e: torch.Tensor) -> ArrayRows:
    return array_rows("the error", e.reshape(1, -1), fewest=0)
