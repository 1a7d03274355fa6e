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

_NONE, _NOT_YET = -1, -2


@dataclass
class _Pending:
    # -2 until the GPU has written it, then -1 or the place of the first bad value. On the host, except within a graph.
    word: torch.Tensor
    rows: Rows
    tensor: weakref.ref[torch.Tensor]
    must_be: str
    kept: bool  # whether a graph may write the word again
    width: int
    place_of: Callable[[int, int], tuple[int, int]]

    def raise_error(self, place: int) -> None:
        row, column = self.place_of(*divmod(place, self.width))
        tensor = self.tensor()
        if tensor is None:  # its memory is free
            raise ValueError(f"{self.rows.position(row, column)} is not {self.must_be}")
        value = tensor.reshape(self.rows.n_rows, self.rows.n_inputs)[row, column].item()
        if value != value:
            value = "NaN"
        raise ValueError(f"{self.rows.position(row, column)} is {value}, but must be {self.must_be}")


class Values:
    """The checks of values that have not been read yet."""

    def __init__(self) -> None:
        self._pending: deque[_Pending] = deque()
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
        """Copy the place of the first bad value, -1 if there is none, to the host when the GPU has found it.

        The place counts along rows of `width` values; `place_of` turns its row and column into those of `rows`.
        """
        if captured:  # memory of the host cannot be allocated now: `synchronize` reads the word from the GPU
            word = bad
        else:
            word = torch.full((1,), _NOT_YET, dtype=torch.int64, pin_memory=bad.device.type == "cuda")
            word.copy_(bad, non_blocking=True)
        named = Rows(rows.name, rows.shape)  # without the tensor, whose memory must not be kept
        pending = _Pending(word, named, weakref.ref(rows.given), must_be, captured, width, place_of)
        with self._lock:
            self._pending.append(pending)

    def raise_found(self, *, every: bool = False) -> None:
        """Raise ValueError about the first bad value found. `every` also reads the words of graphs, after a wait."""
        with self._lock:
            for pending in list(self._pending):
                if pending.kept and not every:
                    continue
                place = int(pending.word)
                if place == _NOT_YET:
                    return
                if not pending.kept:
                    self._pending.remove(pending)
                if place != _NONE:
                    pending.raise_error(place)
