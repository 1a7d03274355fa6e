"""Errors about values: a kernel records the place of the first bad value, and a later call raises the error."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ...inputs.rows import Rows
from ...inputs.tensors import DeviceRows
from ._words import NOT_YET, Word, Words

# A word is the complement of a place, which is negative, or this, or NOT_YET.
_NONE = 0


@dataclass
class _Pending:
    # What the GPU has written: the complement of the place of the first bad value, or 0.
    word: Word
    rows: Rows
    # None for a graph, which is replayed with other values in the same memory.
    tensor: weakref.ref[torch.Tensor] | None
    must_be: str
    kept: bool  # whether a graph may write the word again
    width: int
    place_of: Callable[[int, int], tuple[int, int]]

    def raise_error(self, place: int) -> None:
        row, column = self.place_of(*divmod(place, self.width))
        tensor = None if self.tensor is None else self.tensor()
        if tensor is None:  # its memory is free, or holds other values
            raise ValueError(f"{self.rows.position(row, column)} is not {self.must_be}")
        value = tensor.reshape(self.rows.n_rows, self.rows.n_inputs)[row, column].item()
        if value != value:
            value = "NaN"
        raise ValueError(f"{self.rows.position(row, column)} is {value}, but must be {self.must_be}")


class Values:
    """The checks of values that have not been read yet."""

    def __init__(self) -> None:
        self._pending: deque[_Pending] = deque()
        self._words = Words()
        self._lock = threading.Lock()

    def watch(
        self,
        bad: torch.Tensor,
        rows: DeviceRows,
        must_be: str,
        *,
        captured: bool,
        width: int,
        place_of: Callable[[int, int], tuple[int, int]],
    ) -> None:
        """Copy the complement of the place of the first bad value, or 0, to the host when the GPU has found it.

        The place counts along rows of `width` values; `place_of` turns its row and column into those of `rows`.
        """
        named = Rows(rows.name, rows.shape)  # without the tensor, whose memory must not be kept
        given = None if captured else weakref.ref(rows.given)
        with self._lock:
            word = self._words.take(bad.device.type == "cuda", captured=captured)
            word.tensor.copy_(bad, non_blocking=True)
            self._pending.append(_Pending(word, named, given, must_be, captured, width, place_of))

    def raise_found(self, *, every: bool = False) -> None:
        """Raise ValueError about the first bad value found. `every` also reads the words of graphs, after a wait."""
        with self._lock:
            for pending in list(self._pending):
                if pending.kept and not every:
                    continue
                word = pending.word.value
                if word == NOT_YET:
                    if pending.kept:  # the graph was not replayed since its last error
                        continue
                    return
                if not pending.kept:
                    self._pending.remove(pending)
                    self._words.give_back(pending.word)
                elif word != _NONE:
                    pending.word.clear()  # an error is raised once
                if word != _NONE:
                    pending.raise_error(~word)
