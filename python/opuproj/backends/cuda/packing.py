"""The calls `pack`, `ternarize` and `encode` for tensors on a GPU, whose batches stay there."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ...inputs.rows import RELATIVE, DigitRows, Threshold
from ...inputs.tensors import DeviceRows
from . import _packing
from ._fields import Bytes, Planes
from .packed import DeviceEncoded, DevicePacked, Place


def pack(place: Place, rows: DeviceRows) -> DevicePacked:
    """Pack rows of -1, 0 and 1."""
    found = _packing.batch(place.gpu, place.values, rows, _matrix(rows), 0, None)
    assert isinstance(found.vectors, Planes)
    return DevicePacked(place, found.vectors, found.bad_rows)


def ternarize(
    place: Place, rows: DeviceRows, threshold: Threshold | NDArray[np.float64] | torch.Tensor
) -> DevicePacked:
    """Pack 1 above each row's threshold and -1 below its negative."""
    x = _matrix(rows)
    relative = isinstance(threshold, Threshold) and threshold.relative is not None
    if isinstance(threshold, Threshold):
        thresholds = _thresholds(place, rows, x, threshold)
    elif isinstance(threshold, torch.Tensor):
        thresholds = threshold.to(x.device, torch.float64)  # a rule of the user may leave them on the CPU
    else:
        thresholds = torch.from_numpy(threshold).to(x.device)
    found = _packing.ternarized(place.gpu, x, thresholds)
    assert isinstance(found.vectors, Planes)
    if not relative:  # else the largest magnitudes show what is not finite
        _watch(place, rows, found.bad, "a number")
    return DevicePacked(place, found.vectors, found.bad_rows | thresholds.isnan())


def largest(place: Place, rows: DeviceRows) -> torch.Tensor:
    """Return the largest of all magnitudes, a number of float64; NaN if a number is not finite."""
    levels = _levels(place, rows, _matrix(rows))
    return torch.cat([levels, levels.new_zeros(1)]).amax()


def encode(place: Place, rows: DigitRows) -> DeviceEncoded:
    """Round rows of real numbers to digits."""
    source = rows.rows
    assert isinstance(source, DeviceRows)
    found = _packing.batch(place.gpu, place.values, source, _matrix(source), 0, (rows.base, rows.n_digits))
    assert isinstance(found.vectors, Bytes)
    assert found.scales is not None
    return DeviceEncoded(place, found.vectors, found.weights, found.scales, found.bad_rows, rows.base, rows.n_digits)


def _thresholds(place: Place, rows: DeviceRows, x: torch.Tensor, threshold: Threshold) -> torch.Tensor:
    """Return the threshold of each row as float64, rounded to the precision of the rows."""
    level = threshold.level
    if threshold.relative is None:
        number = float(rows.in_precision(np.array([level], np.float64))[0])
        return torch.full((rows.n_rows,), number, dtype=torch.float64, device=x.device)
    levels = _levels(place, rows, x) if level is None else level.expand(rows.n_rows)
    factor = float(rows.in_precision(np.array([float(threshold.relative)]))[0])
    found: torch.Tensor = factor * levels
    return found.to(rows.array.dtype).to(torch.float64) if rows.floating else found


def _levels(place: Place, rows: DeviceRows, x: torch.Tensor) -> torch.Tensor:
    levels, bad = _packing.largest(place.gpu, _packing.floats(x))
    _watch(place, rows, bad, f"finite for {RELATIVE}")
    return levels


def _watch(place: Place, rows: DeviceRows, bad: torch.Tensor | None, must_be: str) -> None:
    assert bad is not None
    place.values.watch(
        bad,
        rows,
        must_be,
        captured=place.gpu.capturing(),
        width=rows.n_inputs,
        place_of=lambda row, column: (row, column),
    )


def _matrix(rows: DeviceRows) -> torch.Tensor:
    x: torch.Tensor = rows.array.reshape(rows.n_rows, rows.n_inputs)
    return x
