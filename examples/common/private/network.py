"""A network trained on clipped, noisy projections of the error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from opuproj import dfa
from torch import nn

from common import devices
from common.private.privacy import NoisyLayer

CLIP = 1.0  # of projected errors, and of the error at the output
# Per vector: a rule or norm of the whole batch would make one example depend on another.
TERNARY = dfa.Ternarize(dfa.RowMax(0.25), norm="row")


class _Detection(torch.autograd.Function):
    """The identity in the forward pass; in the backward pass it clips each vector's norm and adds Gaussian noise."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, clip: float, noise: float) -> torch.Tensor:
        ctx.clip, ctx.noise = clip, noise
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, feedback: torch.Tensor) -> tuple[torch.Tensor, None, None]:  # type: ignore[override]
        if math.isfinite(ctx.clip):
            feedback = feedback * (ctx.clip / feedback.norm(dim=1, keepdim=True).clamp_min(ctx.clip))
        if ctx.noise:
            feedback = feedback + ctx.noise * torch.randn_like(feedback)
        return feedback, None, None


class Detection(nn.Module):
    """The detector behind a random projection, which clips an error and adds noise.

    Parameters
    ----------
    clip
        The largest norm of an error after clipping; infinite for no clipping.
    noise
        The standard deviation of the noise added to each of its elements.
    """

    def __init__(self, clip: float, noise: float):
        super().__init__()
        self.clip, self.noise = clip, noise

    def forward(self, x: torch.Tensor) -> Any:
        """Return x."""
        return _Detection.apply(x, self.clip, self.noise)


class Shorten(nn.Module):
    """Vectors no longer than √(their length): where an element is 1 on average, or less."""

    def forward(self, x: torch.Tensor) -> Any:
        """Return x, what is longer scaled down."""
        most = math.sqrt(x.shape[1])
        return x * (most / x.norm(dim=1, keepdim=True).clamp_min(most))


class PrivateNetwork:
    """Layers of tanh without offsets, with direct feedback, and the sums of gradients that a step may use.

    The norm of a layer's input is at most the square root of its length, by :class:`Shorten` for the first layer and by
    tanh for the others.

    Parameters
    ----------
    widths
        Widths of the input, the hidden layers and the output.
    method
        "odfa", or "shallow", which trains only the last layer, so that only this layer needs noise.
    multiplier
        Standard deviation of the dark frames' noise over the largest norm of an example's contribution to all layers;
        0 for no noise at all.
    snr
        Norm of a clipped projection over that of the noise on it.
    clipped
        Whether errors are clipped.
    seed
        Seed of weights, feedback and noise.
    device
        The device of the model. The noise on a GPU has other values than on the CPU.
    """

    def __init__(
        self,
        widths: Sequence[int],
        method: dfa.Method,
        multiplier: float,
        snr: float,
        *,
        clipped: bool,
        seed: int,
        device: devices.Device = devices.CPU,
    ):
        torch.manual_seed(seed)
        clip = CLIP if clipped else math.inf
        hidden, top = list(pairwise(widths[:-1])), widths[-2:]
        noises = [CLIP / (snr * math.sqrt(above)) if multiplier else 0.0 for _, above in hidden]
        blocks = [
            nn.Sequential(nn.Linear(below, above, bias=False), nn.Tanh(), Detection(clip, noise))
            for (below, above), noise in zip(hidden, noises, strict=True)
        ]
        last = nn.Sequential(nn.Linear(*top, bias=False), Detection(clip, 0.0))
        self.model = nn.Sequential(Shorten(), *blocks, last).to(device.name)
        self.device = device
        self.feedback = dfa.attach(self.model, blocks, method=method, ternarize=TERNARY, seed=seed)
        device.compiled(self.model)
        trained = [*zip(blocks, hidden, noises, strict=True)] if method != "shallow" else []
        trained.append((last, (top[0], top[1]), 0.0))
        self.layers: list[NoisyLayer] = []
        self.weights: list[Any] = []
        for block, (below, above), noise in trained:
            floor = multiplier * math.sqrt(len(trained)) * CLIP * math.sqrt(below)
            self.weights.append(block[0].weight)
            if multiplier:
                self.layers.append(NoisyLayer(above, CLIP, math.sqrt(below), noise, floor))

    def sums(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Write the noisy sums over a batch, which are all that a step uses, to the weights' gradients."""
        self.model.zero_grad()
        with self.device.casting():
            loss = nn.functional.cross_entropy(self.model(x), y, reduction="sum")
        loss.backward()
        for weight, layer in zip(self.weights, self.layers, strict=bool(self.layers)):
            # The sum over the dark frames: a frame's noise, of deviation σ, times ϱ/σ at its input, in each column one.
            weight.grad.add_(torch.randn_like(weight), alpha=layer.floor)
