"""Counts of projections, and their time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .._device_batch import DeviceBatch
from ..ternary import TernaryBatch


@dataclass
class Statistics:
    """Counts of what was projected since the feedback was attached.

    Attributes
    ----------
    projections : int
        Errors projected: one for each backward pass, for all blocks together.
    vectors : int
        Vectors projected.
    elements, nonzeros : int
        Elements of these vectors, and how many were nonzero after being made ternary (``"odfa"`` only).
    seconds : float
        The time spent on making errors ternary, projecting and scaling (s). For a model on a GPU, the time in which
        the host gives the GPU this work.
    """

    projections: int = 0
    vectors: int = 0
    elements: int = 0
    nonzeros: int = 0
    seconds: float = 0.0


@dataclass
class NonzeroCounts:
    """Counts nonzeros of ternary errors. Counts on a GPU stay there until they are taken, so that no pass waits.

    A replayed CUDA graph adds to them too.
    """

    _host: int = 0
    _on_devices: dict[str, Any] = field(default_factory=dict)

    def add(self, batch: TernaryBatch) -> None:
        """Count the nonzeros of a batch."""
        packed = batch._packed
        if not isinstance(packed, DeviceBatch):
            self._host += batch.nnz
            return
        count = packed.nonzeros().sum()
        total = self._on_devices.get(packed.device)
        if total is None:
            total = self._on_devices[packed.device] = count.new_zeros(())
        total.add_(count)  # in place, as a CUDA graph needs it

    def take(self) -> int:
        """Return the sum of all counts since the last time, and begin again at 0."""
        total = self._host + sum(int(count) for count in self._on_devices.values())
        self._host = 0
        for count in self._on_devices.values():
            count.zero_()
        return total
