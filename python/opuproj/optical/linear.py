"""A linear layer computed by light: non-negative parts apart, few bits, Poisson counts at the detectors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from .._check import integer, real, size

__all__ = ["OpticalLinear"]

_MOST_BITS = 24
# From this mean on, counts are quantiles of a normal variable.
_FEW = 10.0


class OpticalLinear(nn.Module):
    """A linear layer y = W x + b whose product is computed as an optical accelerator would, after [1]_.

    Light has no sign, so x = x⁺ - x⁻ and W = W⁺ - W⁻ are shown as non-negative parts, in four products:

    1. Modulators. A magnitude u is shown as s q(u/s), where q rounds to the nearest of the levels 0, 1/(2^b - 1), …, 1
       and clips to at most 1. For weights, s is the largest magnitude of W. For activations, s is the calibrated range,
       or without calibration the largest magnitude of the vector. With `levels`, q rounds to the nearest of these.
    2. Detectors. Let r₁ … r₄ be W⁺x⁺, W⁻x⁻, W⁺x⁻ and W⁻x⁺ after rounding. Each detector counts
       k ~ Poisson(g r) photons and gives k/g, with one gain g = N M / Σ r for each vector, where the sum is over its M
       outputs and four products. So a dot product, which consists of its four products, gets `photons` = N photons on
       average over the outputs of a vector. Its variance is Σ r / g, with this output's four products. Means of 10
       photons and more are drawn as quantiles of a normal variable, in less than half the time: four terms of an
       expansion in 1/√mean, rounded down [2]_. Their distribution differs from Poisson's by at most 0.0006 in total
       variation.
    3. Converters. Each reading is rounded to `output_bits` bits and clipped to the calibrated range of readings, or
       without calibration to the largest reading of the vector.
    4. Electronics add r₁ + r₂ - r₃ - r₄ and the bias.

    Gradients are those of the exact product W x + b (straight-through), so the layer can be trained. Noise comes from
    torch's default generator of the device: ``torch.manual_seed`` repeats it. The paper's own rounding was not
    available; where it differs, results differ.

    Parameters
    ----------
    in_features, out_features : int
        The shape of the layer.
    bias : bool, default True
        Whether there is a bias.
    weight_bits, activation_bits, output_bits : int or None, default 8
        Bits of the magnitudes of weights, of activations and of readings, from 1 to 24. None does not round.
    photons : float or None, default None
        Photons detected for a dot product, on average over the outputs of a vector; above 0. None has no shot noise.
    levels : sequence of float, optional
        The levels that a pixel of the modulators can show, from 0 to 1, in increasing order, with 0 as the first and 1
        as the last. They replace uniform levels of weights and activations, whose bits must then be None.

    Attributes
    ----------
    weight : Tensor, shape (out_features, in_features)
    bias : Tensor, shape (out_features,), or None
    input_range, reading_range : Tensor, shape ()
        Calibrated ranges; 0 stands for the range of each vector.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type. The message names it.

    References
    ----------
    .. [1] M. Anderson, S.-Y. Ma, T. Wang, L. Wright, P. McMahon, "Optical Transformers", Transactions on Machine
       Learning Research, 2024. arXiv:2302.10360.
    .. [2] M. Giles, "Algorithm 955: approximation of the inverse Poisson cumulative distribution function", ACM
       Transactions on Mathematical Software. doi:10.1145/2699466.
    """

    input_range: Tensor
    reading_range: Tensor
    levels: Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        weight_bits: int | None = 8,
        activation_bits: int | None = 8,
        output_bits: int | None = 8,
        photons: float | None = None,
        levels: Sequence[float] | None = None,
    ):
        super().__init__()
        self.in_features, self.out_features = size("in_features", in_features), size("out_features", out_features)
        self.weight_bits = _bits("weight_bits", weight_bits)
        self.activation_bits = _bits("activation_bits", activation_bits)
        self.output_bits = _bits("output_bits", output_bits)
        self.photons = photons
        if levels is not None and (weight_bits is not None or activation_bits is not None):
            raise ValueError("levels replace bits: pass weight_bits=None and activation_bits=None")
        self.register_buffer("levels", None if levels is None else _checked_levels(levels))
        self.register_buffer("input_range", torch.zeros(()))
        self.register_buffer("reading_range", torch.zeros(()))
        # nn.Linear draws the initial parameters, as it does for any other layer.
        start = nn.Linear(self.in_features, self.out_features, bias)
        self.weight, self.bias = start.weight, start.bias

    @property
    def photons(self) -> float | None:
        """Photons detected for a dot product, or None."""
        return self._photons

    @photons.setter
    def photons(self, value: float | None) -> None:
        self._photons = None if value is None else real("photons", value, above=0.0)

    def forward(self, x: Tensor) -> Tensor:
        """Return y of shape (..., out_features) for x of shape (..., in_features)."""
        with torch.no_grad():
            y = self.readout(self.readings(x)).to(x.dtype)
        if torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad):
            exact = F.linear(x, self.weight.to(x.dtype))
            y = y + (exact - exact.detach())
        return y if self.bias is None else y + self.bias.to(x.dtype)

    def readings(self, x: Tensor) -> Tensor:
        """Return what the detectors read, before the converters: W⁺x⁺, W⁻x⁻, W⁺x⁻ and W⁻x⁺ with shot noise.

        Parameters
        ----------
        x : Tensor, shape (..., in_features)

        Returns
        -------
        Tensor, shape (4, ..., out_features)
        """
        if x.shape[-1:] != (self.in_features,):
            raise ValueError(
                f"x has shape {tuple(x.shape)}, but its last axis must be in_features = {self.in_features}"
            )
        dtype = torch.promote_types(torch.promote_types(x.dtype, self.weight.dtype), torch.float32)
        x, weight = x.detach().to(dtype), self.weight.detach().to(dtype)
        x = self._shown(x, _range(self.input_range, x), self.activation_bits)
        weight = self._shown(weight, weight.abs().amax(), self.weight_bits)
        bright, dark = x.clamp(min=0), (-x).clamp_(min=0)
        plus, minus = weight.clamp(min=0), (-weight).clamp_(min=0)
        light = x.new_empty(4, *x.shape[:-1], self.out_features)
        pairs = ((bright, plus), (dark, minus), (dark, plus), (bright, minus))
        # Autocast would round the light to its own precision.
        with torch.autocast(x.device.type, enabled=False):
            for one, (value, part) in zip(light, pairs, strict=True):
                torch.matmul(value, part.T, out=one)
        if self.photons is None:
            return light
        # What one photon stands for. A vector of zeros sends none.
        unit = _nonzero(light.sum(dim=(0, -1), keepdim=True) / (self.photons * self.out_features))
        return _poisson(light.div_(unit)).mul_(unit)

    def readout(self, readings: Tensor) -> Tensor:
        """Return y without bias from readings of shape (4, ..., out_features): converters, then signs."""
        if self.output_bits is None:
            return readings[0] + readings[1] - readings[2] - readings[3]
        largest = readings.amax(dim=(0, -1), keepdim=True)
        full = torch.where(self.reading_range > 0, self.reading_range.to(readings.dtype), largest)
        top = 2**self.output_bits - 1
        codes = (readings * (top / _nonzero(full))).round_().clamp_(max=top)
        return (codes[0] + codes[1] - codes[2] - codes[3]).mul_(full[0] / top)

    def extra_repr(self) -> str:
        """Return the settings, for ``repr``."""
        sizes = f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        bits = f"bits={self.weight_bits}/{self.activation_bits}/{self.output_bits}"
        return f"{sizes}, {bits}, photons={self.photons}"

    def _shown(self, value: Tensor, scale: Tensor, bits: int | None) -> Tensor:
        if self.levels is not None:
            levels = self.levels.to(value.dtype)
            part = levels[torch.bucketize(value.abs() / _nonzero(scale), (levels[1:] + levels[:-1]) / 2)]
            return value.sign().mul_(scale).mul_(part)
        if bits is None:
            return value.clamp(-scale, scale)
        top = 2**bits - 1
        return (value * (top / _nonzero(scale))).round_().clamp_(-top, top).mul_(scale / top)


def _range(fixed: Tensor, x: Tensor) -> Tensor:
    return torch.where(fixed > 0, fixed.to(x.dtype), x.abs().amax(dim=-1, keepdim=True))


def _nonzero(scale: Tensor) -> Tensor:
    return torch.where(scale > 0, scale, 1)


def _poisson(rate: Tensor) -> Tensor:
    """Return Poisson-distributed counts, as the docstring of OpticalLinear says."""
    many = rate.clamp(min=_FEW)
    root = many.sqrt()
    z = torch.randn_like(rate)
    square = z.square()
    # Terms of order λ, √λ, 1 and 1/√λ of the quantile.
    counts = many.add_(1 / 3).addcmul_(root, z).add_(square, alpha=1 / 6)
    counts.addcdiv_(z.mul_(square.add_(2)), root, value=-1 / 72).floor_().clamp_(min=0)
    few = rate < _FEW
    return torch.where(few, torch.poisson(torch.where(few, rate, 0)), counts)


def _bits(name: str, value: int | None) -> int | None:
    return None if value is None else integer(name, value, 1, _MOST_BITS)


def _checked_levels(levels: Sequence[float]) -> Tensor:
    table = torch.as_tensor(levels, dtype=torch.float32)
    if table.ndim != 1 or len(table) < 2 or table[0] != 0 or table[-1] != 1 or not bool((table.diff() > 0).all()):
        raise ValueError(f"levels is {levels!r}, but must increase from 0 to 1, with at least two numbers")
    return table
