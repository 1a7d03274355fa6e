"""Two tasks on which direct feedback is weak: a network of convolutions on images, and a deep Transformer on text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from common import plays
from common.fashion import data as fashion
from common.gpt.model import GPT, Shape

# Channels of the convolutions' outputs, from the image on, and their strides.
CHANNELS, STRIDES = (1, 16, 32, 32, 64, 64), (1, 2, 1, 2, 1)
SHAPE = Shape(width=64, n_layers=8, n_heads=4, turn=False)


@dataclass(frozen=True)
class Data:
    """Examples to train on, to tune on, and to test on."""

    x: Tensor
    y: Tensor
    tuning_x: Tensor
    tuning_y: Tensor
    test_x: Tensor
    test_y: Tensor
    text: Tensor | None = None

    def to(self, device: str) -> Data:
        """Return the same on a device."""
        return Data(*(part if part is None else part.to(device) for part in self.__dict__.values()))


@dataclass(frozen=True)
class Task:
    """A task.

    Attributes
    ----------
    title, measure
        What it is, and what is measured on held-out examples.
    load
        Reads the data, in full or for a quick run, with a folder for what is slow to make.
    network
        Returns a new network, drawn by a seed, with the names of its blocks and of the module of the error.
    top
        The beginnings of the names of parameters above the blocks.
    batch_axes
        The leading axes that count errors.
    batch
        Examples of a step.
    epochs
        Passes over the training examples.
    score
        Returns the measure of logits and targets, summed over examples.
    larger
        Whether a larger measure is better.
    """

    title: str
    measure: str
    load: Callable[[bool, Path], Data]
    network: Callable[[Data, int], tuple[nn.Module, list[str], str | None]]
    top: tuple[str, ...]
    batch_axes: int
    batch: int
    epochs: int
    score: Callable[[Tensor, Tensor], float]
    larger: bool


def images(quick: bool, folder: Path) -> Data:
    """Return the first images of Fashion-MNIST to train on, the last 5,000 of the training images to tune on."""
    data = fashion.load()
    x, y = data.train_x.unflatten(1, (1, fashion.SIDE, fashion.SIDE)), data.train_y
    test_x = data.test_x.unflatten(1, (1, fashion.SIDE, fashion.SIDE))
    n, n_test = (2_000, 1_000) if quick else (8_000, 10_000)
    return Data(x[:n], y[:n], x[-5_000:], y[-5_000:], test_x[:n_test], data.test_y[:n_test])


def convolutions(data: Data, seed: int) -> tuple[nn.Module, list[str], str | None]:
    """Return five 3 × 3 convolutions, each with batch norm and ReLU, and a linear layer after the mean over places."""
    torch.manual_seed(seed)
    blocks = [
        nn.Sequential(
            nn.Conv2d(below, above, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(above), nn.ReLU()
        )
        for (below, above), stride in zip(pairwise(CHANNELS), STRIDES, strict=True)
    ]
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS[-1], fashion.CLASSES))
    return nn.Sequential(*blocks, head), [str(i) for i in range(len(blocks))], None


def texts(quick: bool, folder: Path) -> Data:
    """Return windows of plays. The held-out plays are for the test; the last windows of the others are for tuning."""
    corpus = plays.load(None, 1 if quick else 5, SHAPE.vocabulary, folder)
    x, y = plays.windows(corpus.training, SHAPE.context)
    test_x, test_y = plays.windows(corpus.validation, SHAPE.context)
    held, n_test = len(x) // 10, 256 if quick else 2_048
    some = torch.linspace(0, len(test_x) - 1, min(n_test, len(test_x))).long()
    return Data(x[:-held], y[:-held], x[-held:], y[-held:], test_x[some], test_y[some], corpus.training)


def transformer(data: Data, seed: int) -> tuple[nn.Module, list[str], str | None]:
    """Return a GPT of eight layers, of which each but the last is a block."""
    text = None if data.text is None else data.text.cpu()
    model = GPT(SHAPE).initialise(torch.Generator().manual_seed(seed), text)
    return model, [f"layers.{i}" for i in range(SHAPE.n_layers - 1)], "norm"


def right(logits: Tensor, y: Tensor) -> float:
    """Return 100 times the number of right classes: its mean is in percent."""
    return 100 * float((logits.argmax(-1) == y).sum())


def nats(logits: Tensor, y: Tensor) -> float:
    """Return the cross-entropy of the examples, each the mean over its tokens."""
    return float(cross_entropy(logits.flatten(0, -2), y.flatten())) * len(y)


TASKS: dict[str, Task] = {
    "images": Task(
        title="Five convolutions, Fashion-MNIST",
        measure="accuracy (%)",
        load=images,
        network=convolutions,
        top=("5.",),
        batch_axes=1,
        batch=64,
        epochs=5,
        score=right,
        larger=True,
    ),
    "text": Task(
        title="Transformer of eight layers, plays",
        measure="loss (nats)",
        load=texts,
        network=transformer,
        top=("layers.7.", "norm.", "head."),
        batch_axes=2,
        batch=32,
        epochs=2,
        score=nats,
        larger=False,
    ),
}


def measured(task: Task, model: Any, x: Tensor, y: Tensor) -> float:
    """Return the mean score of examples, with the model in evaluation mode."""
    model.eval()
    with torch.no_grad():
        total = sum(task.score(model(some), of) for some, of in zip(x.split(500), y.split(500), strict=True))
    model.train()
    return total / len(y)
