"""The networks of climate_vit.py: from a year's forcings to its temperature at every point of the map."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from common.climate.data import Climate


@dataclass(frozen=True)
class Network:
    """A model and its parts for direct feedback alignment.

    Attributes
    ----------
    model
        Called with the forcings, scalars and maps, it returns a flat map.
    blocks
        The blocks that receive feedback, from input to output.
    top
        The layers above the last block, with their true gradient.
    output
        The module where the error is taken; None for the model's output.
    batch_axes
        The number of leading axes of the error and of the blocks' outputs that count errors.
    """

    model: nn.Module
    blocks: list[nn.Module]
    top: list[nn.Module]
    output: nn.Module | None
    batch_axes: int


@dataclass(frozen=True)
class Sizes:
    """The sizes of both networks.

    Attributes
    ----------
    vit_width, vit_layers, vit_heads, vit_expansion
        The Transformer: width, encoder layers, attention heads, hidden units of a layer's perceptron over the width.
    mlp_widths
        Hidden units of the fully connected network, layer by layer.
    """

    vit_width: int = 96
    vit_layers: int = 4
    vit_heads: int = 4
    vit_expansion: int = 2
    mlp_widths: tuple[int, ...] = (512, 512, 512)


SMALL = Sizes()
# arXiv:2409.12965 states 200 million parameters, 134 million of them with direct feedback, and 1.3 billion in four
# layers that become narrower. On its maps, these have 202 million, of which 134 million are the weights of the layers'
# perceptrons, and 1.29 billion.
PAPER = Sizes(vit_width=1024, vit_layers=16, vit_heads=16, vit_expansion=4, mlp_widths=(16384, 12288, 7168))


def make(kind: str, data: Climate, sizes: Sizes = SMALL) -> Network:
    """Return a new "vit" or "mlp" that fits the data."""
    channels, (height, breadth) = data.maps.shape[1], data.normal.shape
    if kind == "mlp":
        mlp = Perceptron(data.scalars.shape[1] + channels * height * breadth, sizes.mlp_widths, height * breadth)
        return Network(mlp, list(mlp.layers), [mlp.head], None, 1)
    # ClimateBench: 8 × 12 patches of 12 × 12. North America: 5 × 7 of 8 × 7; the last patches exceed the map.
    patch = (12, 12) if height * breadth > 5000 else (8, 7)
    vit = VisionTransformer(data.scalars.shape[1] + channels, (height, breadth), patch, sizes)
    # All patches share one head, and each patch has its own error, so each patch receives its own feedback.
    return Network(vit, list(vit.layers), [vit.norm, vit.head], vit.head, 2)


class Perceptron(nn.Module):
    """A fully connected network from a vector of all forcings to a vector of all points of the map."""

    def __init__(self, n_inputs: int, hidden: tuple[int, ...], n_outputs: int):
        super().__init__()
        widths = [n_inputs, *hidden]
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(a, b), nn.Tanh()) for a, b in pairwise(widths))
        self.head = nn.Linear(widths[-1], n_outputs)
        nn.init.zeros_(self.head.bias)

    def forward(self, scalars: Tensor, maps: Tensor) -> Tensor:
        """Turn forcings into a flat map."""
        hidden = torch.cat([scalars, maps.flatten(1)], dim=1)
        for layer in self.layers:
            hidden = layer(hidden)
        flat: Tensor = self.head(hidden)
        return flat


class VisionTransformer(nn.Module):
    """Forcings are channels of a map, which is cut into patches. Each patch is a token and returns its points.

    A forcing without a place is constant on its channel. Then only the learned position distinguishes the patches.
    """

    def __init__(self, channels: int, shape: tuple[int, int], patch: tuple[int, int], sizes: Sizes):
        super().__init__()
        width = sizes.vit_width
        self.shape, self.patch = shape, patch
        self.grid = (math.ceil(shape[0] / patch[0]), math.ceil(shape[1] / patch[1]))
        n_points = patch[0] * patch[1]
        self.embedding = nn.Linear(channels * n_points, width)
        self.positions = nn.Parameter(torch.randn(self.grid[0] * self.grid[1], width))
        self.layers = nn.ModuleList(
            EncoderLayer(width, sizes.vit_heads, sizes.vit_expansion) for _ in range(sizes.vit_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, n_points)

    def forward(self, scalars: Tensor, maps: Tensor) -> Tensor:
        """Turn forcings into a flat map."""
        everywhere = scalars[:, :, None, None].expand(-1, -1, *self.shape)
        tokens = self.embedding(self.cut(torch.cat([everywhere, maps], dim=1))) + self.positions
        for layer in self.layers:
            tokens = layer(tokens)
        return self.join(self.head(self.norm(tokens))).flatten(1)

    def cut(self, maps: Tensor) -> Tensor:
        """(rows, channels, latitudes, longitudes) to (rows, patches, numbers of a patch); 0 where there is no map."""
        (rows, columns), (height, breadth) = self.grid, self.patch
        padded = F.pad(maps, (0, columns * breadth - self.shape[1], 0, rows * height - self.shape[0]))
        patches = padded.unflatten(3, (columns, breadth)).unflatten(2, (rows, height))
        return patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)

    def join(self, patches: Tensor) -> Tensor:
        """(rows, patches, points of a patch) to (rows, latitudes, longitudes)."""
        split = patches.unflatten(2, self.patch).unflatten(1, self.grid)
        whole = split.permute(0, 1, 3, 2, 4).flatten(3, 4).flatten(1, 2)
        return whole[:, : self.shape[0], : self.shape[1]]


class EncoderLayer(nn.Module):
    """Attention among all patches, then a perceptron at each; both add to the stream of vectors."""

    def __init__(self, width: int, n_heads: int, expansion: int):
        super().__init__()
        self.n_heads = n_heads
        self.attention_norm = nn.LayerNorm(width)
        self.attention_input = nn.Linear(width, 3 * width)
        self.attention_output = nn.Linear(width, width)
        self.perceptron = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width)
        )

    def forward(self, stream: Tensor) -> Tensor:
        """(rows, patches, width) to the same shape."""
        stream = stream + self.attention(self.attention_norm(stream))
        out: Tensor = stream + self.perceptron(stream)
        return out

    def attention(self, x: Tensor) -> Tensor:
        """(rows, patches, width) to the same shape."""
        query, key, value = self.attention_input(x).unflatten(-1, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.attention_output(mixed.transpose(1, 2).flatten(-2))
        return out
