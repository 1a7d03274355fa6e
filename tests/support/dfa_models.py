"""Small models and losses for the tests of direct feedback alignment."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
F = torch.nn.functional
nn = torch.nn

N_CLASSES = 10


def mlp(*widths: int, n_classes: int = N_CLASSES, seed: int = 0) -> Any:
    """A fully connected network 20 → widths → n_classes; its blocks are hidden.0, hidden.1, …, its top is `top`."""
    torch.manual_seed(seed)
    layers, before = [], 20
    for width in widths:
        layers.append(nn.Sequential(nn.Linear(before, width), nn.Tanh()))
        before = width
    return MLP(nn.ModuleList(layers), nn.Linear(before, n_classes))


class MLP(nn.Module):
    def __init__(self, hidden: Any, top: Any) -> None:
        super().__init__()
        self.hidden, self.top = hidden, top

    def forward(self, x: Any) -> Any:
        for block in self.hidden:
            x = block(x)
        return self.top(x)


class Convolutional(nn.Module):
    """Two convolutions, then a linear layer over all that is left of an 8 × 8 image."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2))
        self.second = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Tanh())
        self.top = nn.Linear(6 * 16, N_CLASSES)

    def forward(self, x: Any) -> Any:
        return self.top(self.second(self.first(x)).flatten(1))


class Layer(nn.Module):
    """A Transformer layer that returns a tuple, its attention weights second."""

    def __init__(self, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(width), nn.MultiheadAttention(width, 2, batch_first=True)
        self.drop, self.mix = nn.Dropout(dropout), nn.Linear(width, width)

    def forward(self, x: Any) -> Any:
        h = self.norm(x)
        attended, weights = self.attention(h, h, h)
        return x + self.drop(torch.tanh(self.mix(attended))), weights


class Language(nn.Module):
    """Tokens to logits, with an embedding below the blocks and a norm and a vocabulary above them."""

    def __init__(self, n_layers: int = 3, width: int = 8, vocabulary: int = 12, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.embedding = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(Layer(width, dropout) for _ in range(n_layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary)

    def forward(self, tokens: Any) -> Any:
        x = self.embedding(tokens)
        for layer in self.layers:
            x, _ = layer(x)
        return self.head(self.norm(x))


def examples(n: int = 6, seed: int = 0) -> tuple[Any, Any]:
    """Inputs and classes for `mlp`."""
    random = torch.Generator().manual_seed(seed)
    return torch.randn(n, 20, generator=random), torch.randint(N_CLASSES, (n,), generator=random)


def images(n: int = 5) -> tuple[Any, Any]:
    random = torch.Generator().manual_seed(3)
    return torch.randn(n, 1, 8, 8, generator=random), torch.randint(N_CLASSES, (n,), generator=random)


def sentences(n: int = 4, length: int = 5, vocabulary: int = 12) -> tuple[Any, Any]:
    random = torch.Generator().manual_seed(4)
    tokens = torch.randint(vocabulary, (n, length + 1), generator=random)
    return tokens[:, :-1], tokens[:, 1:]


def gradients(model: Any) -> dict[str, Any]:
    return {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}


def language_loss(model: Any, tokens: Any, following: Any) -> Any:
    return F.cross_entropy(model(tokens).flatten(0, 1), following.flatten())
