"""Passages of plays, each with the number of its play: text to classify."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common import plays


@dataclass(frozen=True)
class Passages:
    """Texts with their classes, for training and for testing.

    Attributes
    ----------
    titles
        The titles of the classes.
    """

    train_x: list[str]
    train_y: NDArray[np.int64]
    test_x: list[str]
    test_y: NDArray[np.int64]
    titles: list[str]


def load(n_words: int, works: list[plays.Work]) -> Passages:
    """Cut works into passages of equal numbers of words, and keep every fifth passage for testing.

    The names of speakers are removed, because they would identify the play.
    """
    texts, classes = [], []
    for number, work in enumerate(works):
        words = " ".join(line.partition(": ")[2] for line in work.text.splitlines()).split()
        for start in range(0, len(words) - n_words + 1, n_words):
            texts.append(" ".join(words[start : start + n_words]))
            classes.append(number)
    y = np.array(classes)
    test = np.arange(len(texts)) % 5 == 4
    train_x, test_x = ([texts[i] for i in np.flatnonzero(part)] for part in (~test, test))
    return Passages(train_x, y[~test], test_x, y[test], [work.title for work in works])
