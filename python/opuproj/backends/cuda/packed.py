"""Packed batches in the memory of a GPU, in place of those of the compiled core."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ... import _core
from ..._device_batch import DeviceBatch
from . import _packing
from ._fields import Bytes, Planes
from ._gpu import Gpu, used_here
from ._values import Values


@dataclass(frozen=True)
class Place:
    """The GPU of a batch, the checks of values that it has not reported yet, and the library of results."""

    gpu: Gpu
    values: Values
    device_type: str
    # Returns a tensor on the GPU in the library of the arrays from which the batch was made.
    wrap: Callable[[torch.Tensor], Any]
    # Returns the context in which the batch must be read, or None if any will do.
    session: Callable[[], AbstractContextManager[None]] | None = None

    def check(self, bad_rows: torch.Tensor) -> None:
        """Wait for the GPU, and raise ValueError about the first bad value that this or an earlier call found."""
        if self.gpu.capturing():
            raise RuntimeError("a packed batch on a GPU cannot be copied to the host while a CUDA graph is captured")
        self.gpu.wait()
        self.values.raise_found()
        bad = torch.nonzero(bad_rows)
        if len(bad):  # its error was raised before
            raise ValueError(f"vector {int(bad[0])} of this batch was made from a value that is not allowed")


class _OnGpu(DeviceBatch):
    """What batches of both kinds have in common."""

    place: Place
    vectors: Any
    # Not 0 for vectors with a bad value, whose results are NaN: uint8, (n_rows,).
    bad_rows: torch.Tensor

    @property
    def device_type(self) -> str:
        return self.place.device_type

    @property
    def session(self) -> Callable[[], AbstractContextManager[None]] | None:
        return self.place.session

    @property
    def device(self) -> str:
        return str(self.bad_rows.device)

    @property
    def n_rows(self) -> int:
        return len(self.bad_rows)

    @property
    def n_inputs(self) -> int:
        return int(self.vectors.n_inputs)

    def wrap(self, result: Any) -> Any:
        """Return a result in the library of the arrays from which the batch was made."""
        return self.place.wrap(result) if isinstance(result, torch.Tensor) else result


@dataclass(frozen=True, eq=False)
class DevicePacked(_OnGpu):
    """Ternary vectors on a GPU, as two bit planes."""

    place: Place
    vectors: Planes
    bad_rows: torch.Tensor

    @property
    def nbytes(self) -> int:
        return int(self.vectors.positive.nbytes + self.vectors.negative.nbytes)

    def batch(self, start: int, stop: int) -> _packing.Batch:
        """Return rows start to stop - 1 in the form that is multiplied."""
        planes = self.vectors
        used_here(planes.positive, planes.negative, planes.counts, planes.used, self.bad_rows)
        part = replace(
            planes,
            positive=planes.positive[start:stop],
            negative=planes.negative[start:stop],
            counts=planes.counts[start:stop],
        )
        return _packing.Batch(part, (1,), None, None, self.bad_rows[start:stop])

    def tensor(self) -> torch.Tensor:
        """Return the elements as int8, (n_rows, n_inputs)."""
        self.place.check(self.bad_rows)
        return _packing.unpacked(self.place.gpu, self.vectors)

    def host(self) -> _core.Packed:
        """Return a copy in the CPU's memory."""
        self.place.check(self.bad_rows)
        n_bytes = -(-self.n_inputs // 8)
        planes = (plane.cpu().numpy() for plane in (self.vectors.positive, self.vectors.negative))
        positive, negative = (np.ascontiguousarray(plane.view(np.uint8)[:, :n_bytes]) for plane in planes)
        return _core.Packed.from_planes(positive, negative, self.n_inputs, False)

    def nonzeros(self) -> torch.Tensor:
        return self.vectors.counts

    def row_nnz(self) -> NDArray[np.int64]:
        self.place.check(self.bad_rows)
        counts: NDArray[np.int64] = self.vectors.counts.cpu().numpy().astype(np.int64)
        return counts

    def take(self, rows: NDArray[np.int64]) -> DevicePacked:
        index = torch.from_numpy(rows).to(self.bad_rows.device)
        planes = _packing.surveyed(
            self.place.gpu, self.vectors.positive[index], self.vectors.negative[index], self.n_inputs
        )
        return DevicePacked(self.place, planes, self.bad_rows[index])

    @staticmethod
    def concatenate(parts: Sequence[DevicePacked]) -> DevicePacked:
        planes = [part.vectors for part in parts]
        used = planes[0].used
        for part in planes[1:]:
            used = used | part.used
        whole = Planes(
            torch.cat([part.positive for part in planes]),
            torch.cat([part.negative for part in planes]),
            torch.cat([part.counts for part in planes]),
            used,
            planes[0].n_inputs,
        )
        return DevicePacked(parts[0].place, whole, torch.cat([part.bad_rows for part in parts]))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, DevicePacked) and other.device == self.device:
            mine, others = self.vectors, other.vectors
            same = torch.equal(mine.positive, others.positive) and torch.equal(mine.negative, others.negative)
            self.place.check(self.bad_rows)
            return mine.n_inputs == others.n_inputs and same
        return bool(self.host() == (other.host() if isinstance(other, DevicePacked) else other))

    __hash__ = None  # type: ignore[assignment]  # compared by content, as the core's


@dataclass(frozen=True, eq=False)
class DeviceEncoded(_OnGpu):
    """Real vectors on a GPU in ternary digits, of which one int8 number holds several, with one scale a vector."""

    place: Place
    vectors: Bytes
    weights: tuple[int, ...]
    factors: torch.Tensor  # float64, (n_rows,)
    bad_rows: torch.Tensor
    base: int
    n_digits: int

    @property
    def nbytes(self) -> int:
        return int(self.vectors.x.nbytes)

    def batch(self, start: int, stop: int) -> _packing.Batch:
        """Return rows start to stop - 1 in the form that is multiplied."""
        n_parts = len(self.weights)
        used_here(self.vectors.x, self.factors, self.bad_rows)
        part = Bytes(self.vectors.x[start * n_parts : stop * n_parts], self.n_inputs)
        return _packing.Batch(part, self.weights, self.factors[start:stop], None, self.bad_rows[start:stop])

    def scales(self) -> NDArray[np.float64]:
        self.place.check(self.bad_rows)
        scales: NDArray[np.float64] = self.factors.cpu().numpy()
        return scales

    def digit(self, k: int) -> DevicePacked:
        """Return digit k of all vectors, counted from the highest."""
        planes = _packing.digit(self.place.gpu, self.vectors, len(self.weights), self.base, self.n_digits - 1 - k)
        return DevicePacked(self.place, planes, self.bad_rows)

    def tensor(self) -> torch.Tensor:
        """Return the numbers that the digits represent, as float64."""
        parts = self.vectors.x.view(self.n_rows, len(self.weights), self.vectors.x.shape[1])[:, :, : self.n_inputs]
        numbers = torch.zeros((self.n_rows, self.n_inputs), dtype=torch.float64, device=parts.device)
        for part, weight in enumerate(self.weights):  # sums of integers below 2**53
            numbers += weight * parts[:, part].to(torch.float64)
        numbers *= self.factors[:, None]
        return numbers.masked_fill_(self.bad_rows.bool()[:, None], torch.nan)

    def host(self) -> _core.Encoded:
        """Return a copy in the CPU's memory."""
        digits = [self.digit(k).host() for k in range(self.n_digits)]
        return _core.Encoded(self.base, digits, self.scales())

    def __eq__(self, other: object) -> bool:
        return bool(self.host() == (other.host() if isinstance(other, DeviceEncoded) else other))

    __hash__ = None  # type: ignore[assignment]  # compared by content, as the core's


def placed(place: Place, batch: Any, device: torch.device) -> DevicePacked | DeviceEncoded:
    """Return a copy of a batch of the core in the memory of a GPU."""
    if isinstance(batch, _core.Encoded):
        digits = [_planes(place, batch.digit(k), device) for k in range(batch.n_digits)]
        vectors, weights = _packing.joined(place.gpu, digits, batch.base)
        return DeviceEncoded(
            place, vectors, weights, torch.from_numpy(batch.scales()).to(device), _none_bad(batch.n_rows, device),
            batch.base, batch.n_digits,
        )  # fmt: skip
    return DevicePacked(place, _planes(place, batch, device), _none_bad(batch.n_rows, device))


def _none_bad(n_rows: int, device: torch.device) -> torch.Tensor:
    return torch.zeros(n_rows, dtype=torch.uint8, device=device)


def _planes(place: Place, batch: _core.Packed, device: torch.device) -> Planes:
    words = 2 * -(-batch.n_inputs // 64)

    def words_of(plane: NDArray[np.uint8]) -> torch.Tensor:
        padded = np.zeros((batch.n_rows, 4 * words), np.uint8)
        padded[:, : plane.shape[1]] = plane
        return torch.from_numpy(padded.view(np.int32)).to(device)

    positive, negative = batch.planes(False)
    return _packing.surveyed(place.gpu, words_of(positive), words_of(negative), batch.n_inputs)
