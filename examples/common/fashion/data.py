"""Fashion-MNIST: 60,000 training and 10,000 test images of clothes, 28 × 28 pixels, ten classes.

Debian and Ubuntu have the package dataset-fashion-mnist. On other systems download the four .gz files from
https://github.com/zalandoresearch/fashion-mnist (MIT licence).
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

FOLDER = Path("/usr/share/datasets/fashion-mnist")
SIDE = 28
CLASSES = 10
# Magic numbers of IDX files of bytes: 0x0800 and the number of dimensions.
IMAGES, LABELS = 0x0803, 0x0801


@dataclass(frozen=True)
class Split:
    """Images as rows of standardised pixels (float32) and their classes, for training and for testing."""

    train_x: torch.Tensor
    train_y: torch.Tensor
    test_x: torch.Tensor
    test_y: torch.Tensor

    def first(self, n: int) -> Split:
        """Return the same with the first n training images only."""
        return Split(self.train_x[:n], self.train_y[:n], self.test_x, self.test_y)

    def to(self, device: str) -> Split:
        """Return the same on a device such as "cuda"."""
        parts = (self.train_x, self.train_y, self.test_x, self.test_y)
        return Split(*(part.to(device) for part in parts))

    def validation(self, n: int) -> Split:
        """Return a split whose "test" images are the last n for training, to be used for tuning."""
        return Split(self.train_x[:-n], self.train_y[:-n], self.train_x[-n:], self.train_y[-n:])


def load(folder: Path = FOLDER) -> Split:
    """Read the four files in `folder`; mean and deviation of a pixel are those of the training images."""
    train_x = _pixels(folder / "train-images-idx3-ubyte.gz")
    test_x = _pixels(folder / "t10k-images-idx3-ubyte.gz")
    mean, deviation = train_x.mean(), train_x.std()
    return Split(
        train_x=train_x.sub_(mean).div_(deviation),
        train_y=_classes(folder / "train-labels-idx1-ubyte.gz"),
        test_x=test_x.sub_(mean).div_(deviation),
        test_y=_classes(folder / "t10k-labels-idx1-ubyte.gz"),
    )


def _pixels(path: Path) -> Any:
    return torch.from_numpy(_read(path, IMAGES).reshape(-1, SIDE * SIDE).astype(np.float32))


def _classes(path: Path) -> Any:
    return torch.from_numpy(_read(path, LABELS).astype(np.int64))


def _read(path: Path, magic: int) -> NDArray[np.uint8]:
    if not path.is_file():
        raise FileNotFoundError(
            f"Fashion-MNIST is not at {path}: install it with `apt-get install dataset-fashion-mnist`, "
            "or tell the folder of its four .gz files with --data"
        )
    with gzip.open(path) as file:
        content = file.read()
    if int.from_bytes(content[:4], "big") != magic:
        raise ValueError(f"{path} is not what it should be: an IDX file that begins with 0x{magic:08x}")
    shape = np.frombuffer(content, dtype=">u4", count=magic & 0xFF, offset=4)
    return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * len(shape)).reshape(shape)
