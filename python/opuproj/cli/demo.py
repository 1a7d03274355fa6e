"""`opuproj demo`: classifies digits by optical features, tests the kernel of intensities, and projects at scale."""

from __future__ import annotations

import argparse
import sys
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _memory
from ..projection import project
from ..projector import Projector
from . import _arguments

_EXAMPLES = """\
  opuproj demo            # a few seconds
  opuproj demo --full     # the third part at 1,000,000 inputs and 2,000,000 outputs

The exit code is 1 if a result differs from theory."""

# The segments of a seven-segment display that are on for 0 to 9: top, upper left, upper right, middle, lower left,
# lower right, bottom.
_SEGMENTS = (
    "1110111",
    "0010010",
    "1011101",
    "1011011",
    "0111010",
    "1101011",
    "1101111",
    "1010010",
    "1111111",
    "1111011",
)
_PLACES = (
    (slice(1, 3), slice(3, 9)),
    (slice(2, 8), slice(2, 4)),
    (slice(2, 8), slice(8, 10)),
    (slice(7, 9), slice(3, 9)),
    (slice(8, 14), slice(2, 4)),
    (slice(8, 14), slice(8, 10)),
    (slice(13, 15), slice(3, 9)),
)
_HEIGHT, _WIDTH = 16, 12
_FLIPPED = 0.1


def add_parser(commands: Any) -> None:
    """Describe the command line."""
    parser = _arguments.add_command(commands, "demo", "demonstrate projections and compare them with theory", _EXAMPLES)
    parser.add_argument(
        "--full", action="store_true", help="run the third part at an OPU's full size (under a minute more)"
    )
    _arguments.add_threads(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Run the three parts."""
    classify(arguments.threads)
    kernel(arguments.threads)
    size = (1_000_000, 2_000_000) if arguments.full else (100_000, 200_000)
    at_scale(*size, arguments.threads)


def classify(threads: int | None) -> None:
    """Compare ridge classifiers on pixels and on intensities, for digits bright on dark or dark on bright."""
    x, labels = digits(2000)
    print(f"1. Ridge classifier for {len(x):,} digits of 16 × 12 pixels: shifted, noisy, half of them inverted")
    accuracy = _accuracy(x.astype(np.float64), labels)
    print(f"   {f'{x.shape[1]} pixels':<22}{accuracy:7.1%} correct: inverted images have the opposite sign")
    for n in (250, 1000):
        features = project(x, n, threads=threads).astype(np.float64)
        accuracy = _accuracy(features, labels)
        print(f"   {f'{n:,} features |Tx|²':<22}{accuracy:7.1%} correct: intensities do not depend on the sign")
    _require("accuracy on the features", accuracy > 0.85)


def digits(n: int) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """Return images of digits on a seven-segment display, as rows of -1 and 1, and their labels."""
    random = np.random.default_rng(0)
    drawn = np.full((10, _HEIGHT, _WIDTH), -1, np.int8)
    for image, segments in zip(drawn, _SEGMENTS, strict=True):
        for place, on in zip(_PLACES, segments, strict=True):
            if on == "1":
                image[place] = 1
    labels = random.integers(0, 10, n)
    moves = random.integers(-1, 2, (n, 2))
    images = np.stack([np.roll(drawn[k], (dy, dx), (0, 1)) for k, (dy, dx) in zip(labels, moves, strict=True)])
    images[random.random(images.shape) < _FLIPPED] *= -1
    images[random.random(n) < 0.5] *= -1
    return images.reshape(n, -1), labels


def _accuracy(features: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Train a ridge classifier on one half, and return its accuracy on the other."""
    half = len(features) // 2
    train, test = features[:half], features[half:]
    mean, deviation = train.mean(0), train.std(0) + 1e-9
    train, test = (train - mean) / deviation, (test - mean) / deviation
    targets = np.eye(10)[labels[:half]]
    weights = np.linalg.solve(train.T @ train + 10.0 * half**0.5 * np.eye(train.shape[1]), train.T @ (targets - 0.1))
    return float(((test @ weights).argmax(1) == labels[half:]).mean())


def kernel(threads: int | None) -> None:
    """Compare mean products of intensities with the theoretical kernel."""
    n_inputs, n_outputs = 1000, 200_000
    random = np.random.default_rng(1)
    first = random.integers(-1, 2, n_inputs).astype(np.int8)
    changed = [np.where(random.random(n_inputs) < part, -first, first) for part in (0.0, 0.1, 0.25, 0.5)]
    x = np.array([first, *changed], np.int8)
    y = project(x, n_outputs, dtype=np.float64, threads=threads)
    print(f"\n2. The kernel of intensities: mean of |Tx|²|Tz|² over {n_outputs:,} outputs, against ‖x‖²‖z‖² + (x·z)²")
    met = True
    norms = (x.astype(np.int64) ** 2).sum(1)
    for z, norm, seen in zip(x[1:], norms[1:], y[1:], strict=True):
        products = y[0] * seen / float(norms[0] * norm)
        cosine = float(first.astype(np.int64) @ z) / float(np.sqrt(norms[0] * norm))
        theory, error = 1 + cosine**2, products.std() / np.sqrt(n_outputs)
        off = (products.mean() - theory) / error
        met &= bool(abs(off) < 5)
        print(
            f"   cosine {cosine:5.2f}: measured {products.mean():.4f}, theory {theory:.4f}, {off:+.1f} standard errors"
        )
    _require("the kernel", met)


def at_scale(n_inputs: int, n_outputs: int, threads: int | None) -> None:
    """Project one sparse vector by a matrix that is too large to store."""
    random = np.random.default_rng(2)
    x = np.zeros(n_inputs, np.int8)
    nonzeros = n_inputs // 100
    x[random.choice(n_inputs, nonzeros, replace=False)] = random.choice(np.array([-1, 1], np.int8), nonzeros)
    op = Projector(n_inputs, n_outputs, mode="intensity", threads=threads)
    start = perf_counter()
    y = op(x, progress=sys.stderr is not None and sys.stderr.isatty())
    seconds = perf_counter() - start
    print(f"\n3. One vector of {n_inputs:,} inputs, 1 % of them nonzero, to {n_outputs:,} outputs in {seconds:.2f} s")
    mean, deviation = float(y.mean()) / nonzeros, float(y.std()) / nonzeros
    print(f"   mean |Tx|² / ‖x‖² {mean:.4f}, standard deviation {deviation:.4f}: both 1 for fully developed speckle")
    print(f"   a stored T would take {_memory.readable(8 * n_inputs * n_outputs)}")
    part = op[n_outputs - 3 :](x)
    print(f"   the last three outputs, computed alone: {' '.join(f'{value:.1f}' for value in part)}, the same bits")
    _require("the same bits", bool((part == y[-3:]).all()))
    _require("speckle", max(abs(mean - 1), abs(deviation - 1)) < 10 / n_outputs**0.5)


def _require(what: str, met: bool) -> None:
    if not met:
        raise RuntimeError(f"{what}: the result differs from theory")
