"""Rules for the thresholds of ternary rounding: elements above the threshold survive, others become 0."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, Protocol, cast, runtime_checkable

import torch

from .._check import integer

_GOLDEN = (math.sqrt(5) - 1) / 2
_LARGEST = sys.float_info.max


@runtime_checkable
class Rule(Protocol):
    """A rule for thresholds. Elements survive if their magnitude is greater than their vector's threshold."""

    def thresholds(self, e: torch.Tensor) -> torch.Tensor:
        """Return the threshold of each vector, of shape (n, 1), for e of shape (n, n_inputs)."""
        ...


@runtime_checkable
class PlacedRule(Rule, Protocol):
    """A rule whose thresholds also depend on a place: a number from 0 to less than 1 for each vector.

    :mod:`opuproj.dfa` spreads the places evenly over vectors, forward passes and ranks. So a vector's result, averaged
    over all places, does not depend on the batch size.
    """

    def placed(self, e: torch.Tensor, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the threshold of each vector for its place, and the average number of survivors over all places.

        Both have shape (n, 1), like `places`, whose dtype is float64.
        """
        ...


@dataclass(frozen=True)
class Fixed:
    """A fixed threshold, in the unit of the errors.

    Attributes
    ----------
    threshold : float
        Not negative. A loss that is averaged over a batch makes the errors smaller by the batch size.
    """

    threshold: float

    def __post_init__(self) -> None:
        _number("threshold", self.threshold, math.inf)

    def thresholds(self, e: torch.Tensor) -> torch.Tensor:
        """Return the threshold for every vector."""
        return e.new_full((e.shape[0], 1), min(float(self.threshold), torch.finfo(e.dtype).max))


@dataclass(frozen=True)
class RowMax:
    """A threshold relative to the largest magnitude of each vector.

    Attributes
    ----------
    fraction : float
        From 0 to less than 1. In every nonzero vector, at least one element survives.
    """

    fraction: float

    def __post_init__(self) -> None:
        _number("fraction", self.fraction, 1)

    def thresholds(self, e: torch.Tensor) -> torch.Tensor:
        """Return `fraction` times the largest magnitude of each vector."""
        return _below(e.abs().amax(dim=1, keepdim=True), self.fraction)


@dataclass(frozen=True)
class RowStd:
    """A threshold relative to the root mean square of each vector, which is its standard deviation about 0.

    Attributes
    ----------
    factor : float
        Not negative. In a Gaussian vector, half of the elements survive a factor of 0.67, and a tenth a factor of 1.64.
    """

    factor: float

    def __post_init__(self) -> None:
        _number("factor", self.factor, math.inf)

    def thresholds(self, e: torch.Tensor) -> torch.Tensor:
        """Return `factor` times the root mean square of each vector."""
        return self.factor / math.sqrt(e.shape[1]) * norm(e)


@dataclass(frozen=True)
class BatchMax:
    """One threshold for all vectors, relative to the largest magnitude among them.

    No element survives in a vector whose errors are all below the threshold. The rule is like a fixed threshold, but it
    has no unit: it depends neither on the batch size nor on a factor of the loss.

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
        largest = torch.cat([e.abs().amax(dim=1), e.new_zeros(1)]).amax()
        return _below(largest, self.fraction).expand(e.shape[0], 1)


@dataclass(frozen=True)
class Dither:
    """Thresholds spread evenly from 0 to a multiple of the root mean square of all elements, one for each vector.

    On average over vectors, t is then proportional to the error, clipped at that multiple: the frequency with which an
    element survives represents its magnitude. A single threshold only shows whether an element is larger. The threshold
    of vector i is the fractional part of (i + 1/2)·0.618… (the golden ratio's) times the largest threshold, without
    random numbers. Use the rule with ``norm="batch"``: a factor for each vector would cancel its effect. It is a
    :class:`PlacedRule`: direct feedback shifts the fractional parts from pass to pass, so that averages over small
    batches are right too.

    Attributes
    ----------
    factor : float or "auto"
        The largest threshold in units of the root mean square of the batch: greater than 0. It clips the errors. With
        ``"auto"``, each batch determines its largest threshold: the root mean square of the vectors' largest
        magnitudes, in which each vector counts by its squared norm. That suits errors over few or many classes, and
        dense ones.

    References
    ----------
    L. G. Roberts, "Picture coding using pseudo-random noise", IRE Transactions on Information Theory 8, 145, 1962, on
    the effect of dither on coarse quantization.
    """

    factor: float | Literal["auto"]

    def __post_init__(self) -> None:
        if isinstance(self.factor, str):
            if self.factor != "auto":
                raise ValueError(f'factor is {self.factor!r}, but must be a number or "auto"')
            return
        _number("factor", self.factor, math.inf)
        if self.factor == 0:
            raise ValueError("factor is 0, but must be greater: it is the largest of the thresholds")

    def thresholds(self, e: torch.Tensor) -> torch.Tensor:
        """Return a fraction of the largest threshold for each vector."""
        spread = ((torch.arange(e.shape[0], dtype=torch.float64, device=e.device) + 0.5) * _GOLDEN).frac()
        return spread[:, None] * self._largest(e)

    def placed(self, e: torch.Tensor, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a fraction of the largest threshold for each vector, and the sum of its magnitudes in that unit.

        Each magnitude is clipped at the largest threshold. In that unit it is the fraction of places at which its
        element survives.
        """
        largest = self._largest(e)
        unit = torch.where(largest > 0, largest, 1.0)
        size = e.abs()
        if e.dtype != torch.float64 and (e.device.type != "cpu" or not 1e-30 < float(unit) < 1e30):
            # float32 cannot divide by every unit. On a GPU nothing may wait to know it.
            power = torch.where(unit < 1e-30, 2.0**100, torch.where(unit > 1e30, 2.0**-100, 1.0))
            size, unit = size.mul_(power), unit * power
        return places * largest, size.div_(unit).clamp_(max=1).sum(1, True, dtype=torch.float64)

    def _largest(self, e: torch.Tensor) -> torch.Tensor:
        norms = norm(e)
        norm_of_batch = norm_of_all(norms)
        if isinstance(self.factor, str):
            maxima = torch.linalg.vector_norm(e, ord=math.inf, dim=1, keepdim=True)
            return norm_of_all(norms / torch.where(norm_of_batch > 0, norm_of_batch, 1.0) * maxima)
        root_mean_square = norm_of_batch / (e.shape[1] * torch.ones_like(norms).sum().clamp(min=1)).sqrt()
        return self.factor * root_mean_square


@dataclass(frozen=True)
class TopK:
    """A threshold that keeps the k elements of largest magnitude of each vector.

    If the k-th largest magnitude equals the next one, neither survives, so the result does not depend on the order of
    equal elements.

    Attributes
    ----------
    k : int
        At least 1. Vectors of k elements or fewer keep all nonzero elements.
    """

    k: int

    def __post_init__(self) -> None:
        integer("k", self.k, 1, 2**63 - 1)

    def thresholds(self, e: torch.Tensor) -> torch.Tensor:
        """Return the magnitude of rank k + 1 of each vector."""
        if self.k >= e.shape[1]:
            return e.new_zeros(e.shape[0], 1)
        return e.abs().topk(self.k + 1, dim=1).values[:, -1:]


def norm(e: torch.Tensor) -> torch.Tensor:
    """Return the norm of each vector, of shape (n, 1), as float64, without overflow or underflow."""
    if e.dtype != torch.float64:
        return torch.linalg.vector_norm(e, dim=1, keepdim=True, dtype=torch.float64)
    largest = e.abs().amax(dim=1, keepdim=True)
    unit = torch.where(largest > 0, largest, 1.0)
    return torch.linalg.vector_norm(e / unit, dim=1, keepdim=True) * unit


def norm_of_all(norms: torch.Tensor) -> torch.Tensor:
    """Return the joint norm of all vectors, a scalar, from the norm of each; 0 without vectors."""
    return norm(torch.cat([norms, norms.new_zeros(1, 1)]).T)[0, 0]


def _below(largest: torch.Tensor, fraction: float) -> torch.Tensor:
    """Return a fraction of the largest magnitude, rounded below that magnitude so that the largest element survives."""
    return torch.minimum(fraction * largest, largest.nextafter(torch.zeros_like(largest)))


def _number(name: str, value: Any, below: float) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is {value!r}, but must be a number")
    number = cast(Any, value)  # Real has no comparisons for a type checker
    if not 0 <= number < below or number > _LARGEST:
        bound = "finite and not negative" if below == math.inf else f"at least 0 and less than {below}"
        raise ValueError(f"{name} is {value}, but must be {bound}")
