"""The Transformer of diffusion.py: from a noisy image and its time to the noise in it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from common.climate.networks import EncoderLayer
from common.fashion.data import SIDE

PATCH = 4
PLACES = (SIDE // PATCH) ** 2
TIME_FEATURES = 64


@dataclass(frozen=True)
class Sizes:
    """The sizes of the Transformer: width, layers, attention heads, hidden units of a perceptron over the width."""

    width: int = 96
    layers: int = 4
    heads: int = 4
    expansion: int = 2


class Denoiser(nn.Module):
    """A diffusion Transformer (Peebles and Xie, 2023): each patch of 4 × 4 pixels is a token and returns its noise.

    Each layer and the head read the time by a linear map of their own, from features that are not trained. So a layer
    shares no parameter with another layer, and feedback can train each of them alone.
    """

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.embedding = nn.Linear(PATCH**2, sizes.width)
        self.positions = nn.Parameter(torch.randn(PLACES, sizes.width))
        self.layers = nn.ModuleList(Layer(sizes) for _ in range(sizes.layers))
        self.norm = Modulated(sizes.width)
        self.head = nn.Linear(sizes.width, PATCH**2)

    def forward(self, images: Tensor, times: Tensor) -> Tensor:
        """(rows, 28, 28) and (rows,), the times from 0 to 1, to the noise of shape (rows, 28, 28)."""
        features = time_features(times)
        tokens = self.embedding(cut(images)) + self.positions
        for layer in self.layers:
            tokens = layer(tokens, features)
        return join(self.head(self.norm(tokens, features)))


class Layer(EncoderLayer):
    """Attention among all patches and a perceptron at each, both after a norm whose scale and shift follow the time."""

    def __init__(self, sizes: Sizes):
        super().__init__(sizes.width, sizes.heads, sizes.expansion)
        self.attention_norm = Modulated(sizes.width)
        self.perceptron_norm = Modulated(sizes.width)
        self.perceptron = self.perceptron[1:]

    def forward(self, stream: Tensor, features: Tensor) -> Tensor:  # type: ignore[override]
        """(rows, patches, width) and the features of the times to the same shape."""
        stream = stream + self.attention(self.attention_norm(stream, features))
        out: Tensor = stream + self.perceptron(self.perceptron_norm(stream, features))
        return out


class Modulated(nn.Module):
    """A layer norm whose scale and shift are a linear map of the time's features, which starts as 1 and 0."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(TIME_FEATURES, 2 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """(rows, patches, width) to the same shape."""
        scale, shift = self.modulation(features)[:, None].chunk(2, dim=-1)
        out: Tensor = self.norm(x) * (1 + scale) + shift
        return out


def time_features(times: Tensor) -> Tensor:
    """Sines and cosines of the times (0 to 1) at TIME_FEATURES / 2 frequencies, as in DDPM of times up to 1000."""
    count = TIME_FEATURES // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(count, device=times.device) / count)
    angles = 1000 * times[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def cut(images: Tensor) -> Tensor:
    """(rows, 28, 28) to (rows, patches, pixels of a patch)."""
    return F.pixel_unshuffle(images[:, None], PATCH).flatten(2).transpose(1, 2)


def join(patches: Tensor) -> Tensor:
    """(rows, patches, pixels of a patch) to (rows, 28, 28)."""
    return F.pixel_shuffle(patches.transpose(1, 2).unflatten(2, (SIDE // PATCH, SIDE // PATCH)), PATCH)[:, 0]
