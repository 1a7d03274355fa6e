"""Words in the memory of the host, to which a GPU copies a number each."""

from __future__ import annotations

from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ._device import relaxed

NOT_YET = 1
"""The number in a word to which the GPU has copied nothing yet."""

# Words that are allocated at a time, and how many are kept free for calls that are captured into a CUDA graph.
_ALLOCATED, _RESERVE = 512, 128


class Word(NamedTuple):
    """One word. Both fields are the same memory."""

    tensor: torch.Tensor
    array: NDArray[np.int64]

    @property
    def value(self) -> int:
        """The number that the GPU has copied to it, or `NOT_YET`."""
        return int(self.array[0])

    def clear(self) -> None:
        """Set the word to `NOT_YET`."""
        self.array[0] = NOT_YET


class Words:
    """The words of one backend, which are used again and again.

    A graph writes its words at every replay, so they are of the host's memory. Memory of the GPU that is allocated
    during a capture belongs to the graph, and must be free when the capture ends.
    """

    def __init__(self) -> None:
        self._free: list[Word] = []

    def take(self, pinned: bool, *, captured: bool) -> Word:
        """Return a word that holds `NOT_YET`. Copies to pinned memory do not wait."""
        if len(self._free) <= (0 if captured else _RESERVE):
            self._add(pinned)
        word = self._free.pop()
        word.clear()
        return word

    def give_back(self, word: Word) -> None:
        """Let other calls use a word, to which nothing will be copied any more."""
        self._free.append(word)

    def _add(self, pinned: bool) -> None:
        # Other calls write to the words outside of the inference mode of this one.
        with relaxed() if pinned else nullcontext(), torch.inference_mode(False):
            tensors = torch.empty(_ALLOCATED, dtype=torch.int64, device="cpu", pin_memory=pinned)
            array = tensors.numpy()
            self._free.extend(Word(tensors[i : i + 1], array[i : i + 1]) for i in range(_ALLOCATED))
