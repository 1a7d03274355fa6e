"""Which elements of a vector survive when it is made ternary."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch

from .._check import integer

_GOLDEN = (math.sqrt(5) - 1) / 2


@runtime_checkable
class Rule(Protocol):
    """What decides which elements survive: those whose magnitude is greater than their vector's threshold."""

    def thresholds(self, e: torch.Tensor) -> torch.Tensor:
        """Return the threshold of each vector, of shape (n, 1), for e of shape (n, n_inputs)."""
        ...


@dataclass(frozen=True)
class Fixed:
    """A threshold in the unit of the errors themselves.

    Attributes
    ----------
    threshold : float
        Not negative. Mind that a loss averaged over a batch makes its errors that many times smaller.
    """

    threshold: float

    def __post_init__(self) -> None:
        _number("threshold", self.threshold, math.inf)

    def thresholds(self, e: torch.Tensor) -> torch.Tensor:
        """Return the threshold for every vector."""
        return e.new_full((len(e), 1), self.threshold)


@dataclass(frozen=True)
class RowMax:
    """A threshold relative to the largest magnitude of each vector.

    Attributes
    ----------
    fraction : float
        From 0 to less than 1. At least one element of every vector that is not 0 survives.
    """

    fraction: float

    def __post_init__(self) -> None:
        _number("fraction", self.fraction, 1)

    def thresholds(self, e: torch.Tensor) -> torch.Tensor:
        """Return `fraction` times the largest magnitude of each vector."""
        return self.fraction * e.abs().amax(dim=1, keepdim=True)


@dataclass(frozen=True)
class RowStd:
    """A threshold relative to the root mean square of each vector: its standard deviation about 0.

    Attributes
    ----------
    factor : float
        Not negative. Of a Gaussian vector, a factor of 0.67 lets one half of the elements through, 1.64 one tenth.
    """

    factor: float

    def __post_init__(self) -> None:
        _number("factor", self.factor, math.inf)

    def thresholds(self, e: torch.Tensor) -> torch.Tensor:
        """Return `factor` times the root mean square of each vector."""
        return self.factor * e.square().mean(dim=1, keepdim=True).sqrt()


@dataclass(frozen=True)
class BatchMax:
    """One threshold for all vectors, relative to the largest magnitude among them.

    Vectors whose errors are small beside the batch's largest are not heard at all. Like a fixed threshold, but free of
    the unit: neither the batch size nor a factor of the loss matters.

    Attributes
    ----------
    fraction : float
        From 0 to less than 1.
    """

    fraction: float

    def __post_init__(self) -> None:
        _number("fraction", self.fraction, 1)

    def thresholds(self, e: torch.Tensor) -> torch.Tensor:
        """Return `fraction` times the largest magnitude of all, for every vector."""
        largest = e.abs().amax() if e.numel() else e.new_zeros(())
        return (self.fraction * largest).expand(len(e), 1)


@dataclass(frozen=True)
class Dither:
    """Thresholds spread evenly from 0 to a multiple of the root mean square of all elements, another for each vector.

    On average over vectors, t is then proportional to the error clipped at that multiple: t tells how large an element
    is by how often it survives, where a single threshold only tells that it is larger. The i-th vector's threshold is
    the fractional part of (i + 1/2)·0.618… (the golden ratio's) times the largest: no random numbers are drawn. Use it
    with ``norm="batch"``, as a factor for each vector would undo it.

    Attributes
    ----------
    factor : float
        The largest threshold in units of the root mean square of the batch: greater than 0. Errors are clipped there.

    References
    ----------
    L. G. Roberts, "Picture coding using pseudo-random noise", IRE Transactions on Information Theory 8, 145, 1962, for
    what dither does to coarse quantization.
    """

    factor: float

    def __post_init__(self) -> None:
        _number("factor", self.factor, math.inf)
        if self.factor == 0:
            raise ValueError("factor is 0, but must be greater: thresholds are spread from 0 to it")

    def thresholds(self, e: torch.Tensor) -> torch.Tensor:
        """Return a share of the largest threshold for each vector."""
        spread = ((torch.arange(len(e), dtype=torch.float64, device=e.device) + 0.5) * _GOLDEN).frac()
        largest = self.factor * e.square().mean().sqrt() if e.numel() else e.new_zeros(())
        return spread.to(e.dtype)[:, None] * largest


@dataclass(frozen=True)
class TopK:
    """The k elements of largest magnitude of each vector.

    Where the k-th largest is as large as the next one, neither survives: the result does not depend on an order among
    equals.

    Attributes
    ----------
    k : int
        At least 1. Vectors of k elements or fewer keep all that are not 0.
    """

    k: int

    def __post_init__(self) -> None:
        integer("k", self.k, 1, 2**63 - 1)

    def thresholds(self, e: torch.Tensor) -> torch.Tensor:
        """Return the magnitude of rank k + 1 of each vector."""
        if self.k >= e.shape[1]:
            return e.new_zeros(len(e), 1)
        return e.abs().topk(self.k + 1, dim=1).values[:, -1:]


def _number(name: str, value: Any, below: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is {value!r}, but must be a number")
    if not 0 <= value < below:
        bound = "finite and not negative" if below == math.inf else f"at least 0 and less than {below}"
        raise ValueError(f"{name} is {value}, but must be {bound}")
