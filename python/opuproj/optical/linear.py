"""A linear layer computed by light: non-negative parts apart, few bits, Poisson counts at the detectors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from .._check import integer, real, size

__all__ = ["OpticalLinear"]

_MOST_BITS = 24


class OpticalLinear(nn.Module):
    """A linear layer y = W x + b whose product is computed as an optical accelerator would, after [1]_.

    Light has no sign, so x = x⁺ - x⁻ and W = W⁺ - W⁻ are shown as non-negative parts, in four products:

    1. Modulators. A magnitude u is shown as s q(u/s), where q rounds to the nearest of the levels 0, 1/(2^b - 1), …, 1
       and clips to at most 1. For weights, s is the largest magnitude of W. For activations, s is the calibrated range,
       or without calibration the largest magnitude of the vector. With `levels`, q rounds to the nearest of these.
    2. Detectors. Let r₁ … r₄ be W⁺x⁺, W⁻x⁻, W⁺x⁻ and W⁻x⁺ after rounding. Each detector counts
       k ~ Poisson(g r) photons and gives k/g, with one gain g = N M / Σ r for each vector, where the sum is over its M
       outputs and four products. So a dot product, which consists of its four products, gets `photons` = N photons on
       average over the outputs of a vector. Its variance is Σ r / g, with this output's four products.
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
        scale = _range(self.input_range, x)
        x = self._shown(x, scale, self.activation_bits)
        weight = self._shown(weight, weight.abs().amax(), self.weight_bits)
        bright, dark = x.clamp(min=0), (-x).clamp(min=0)
        plus, minus = weight.clamp(min=0), (-weight).clamp(min=0)
        exact = torch.stack(
            (F.linear(bright, plus), F.linear(dark, minus), F.linear(dark, plus), F.linear(bright, minus))
        )
        if self.photons is None:
            return exact
        total = exact.sum(dim=(0, -1), keepdim=True)
        gain = self.photons * self.out_features / total
        # A vector of zeros sends no light.
        counts = torch.poisson(torch.where(total > 0, exact * gain, 0))
        return torch.where(total > 0, counts / gain, 0)

    def readout(self, readings: Tensor) -> Tensor:
        """Return y without bias from readings of shape (4, ..., out_features): converters, then signs."""
        if self.output_bits is not None:
            largest = readings.amax(dim=(0, -1), keepdim=True)
            full = torch.where(self.reading_range > 0, self.reading_range.to(readings.dtype), largest)
            readings = full * _uniform(readings / _nonzero(full), self.output_bits)
        return readings[0] + readings[1] - readings[2] - readings[3]

    def extra_repr(self) -> str:
        """Return the settings, for ``repr``."""
        sizes = f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        bits = f"bits={self.weight_bits}/{self.activation_bits}/{self.output_bits}"
        return f"{sizes}, {bits}, photons={self.photons}"

    def _shown(self, value: Tensor, scale: Tensor, bits: int | None) -> Tensor:
        part = value.abs() / _nonzero(scale)
        if self.levels is not None:
            levels = self.levels.to(part.dtype)
            part = levels[torch.bucketize(part, (levels[1:] + levels[:-1]) / 2)]
        elif bits is not None:
            part = _uniform(part, bits)
        else:
            part = part.clamp(max=1)
        return value.sign() * scale * part


def _range(fixed: Tensor, x: Tensor) -> Tensor:
    return torch.where(fixed > 0, fixed.to(x.dtype), x.abs().amax(dim=-1, keepdim=True))


def _nonzero(scale: Tensor) -> Tensor:
    return torch.where(scale > 0, scale, 1)


def _uniform(part: Tensor, bits: int) -> Tensor:
    top = 2**bits - 1
    return (part.clamp(max=1) * top).round() / top


def _bits(name: str, value: int | None) -> int | None:
    return None if value is None else integer(name, value, 1, _MOST_BITS)


def _checked_levels(levels: Sequence[float]) -> Tensor:
    table = torch.as_tensor(levels, dtype=torch.float32)
    if table.ndim != 1 or len(table) < 2 or table[0] != 0 or table[-1] != 1 or not bool((table.diff() > 0).all()):
        raise ValueError(f"levels is {levels!r}, but must increase from 0 to 1, with at least two numbers")
    return table
