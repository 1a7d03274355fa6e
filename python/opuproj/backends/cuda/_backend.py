"""The class `Cuda`: which calls the GPU computes, and which go through the host."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ... import _core
from ..._spec import Spec
from ...inputs.rows import ArrayRows, DigitRows, FloatRows, PackedRows, Rows, Threshold, unchanged
from ...inputs.tensors import DeviceRows
from .. import Backend, IntegerFields, Packed, Read, Request, backend
from . import _device, adjoint, matrix, packing, partial, projection, structured, unread
from ._gpu import Gpu, Hardware
from ._values import Values
from .packed import DeviceEncoded, DevicePacked, Place, placed

SCRATCH_VARIABLE = "OPUPROJ_GPU_SCRATCH"
_DEFAULT_SCRATCH = 1536
_MIB = 1 << 20
# The most numbers of a vector that is multiplied: kernels count them with 32 bits.
LONGEST = 1 << 30


class Cuda(Backend):
    """The CUDA backend. Calls that it does not compute itself go to the CPU backend, as docs/gpu.md lists."""

    name = "cuda"

    def __init__(
        self,
        gpu_of: Callable[[torch.device], Gpu] | None = None,
        device_of: Callable[[str], torch.device] | None = None,
    ) -> None:
        self._gpu_of = _hardware if gpu_of is None else gpu_of
        self._device_of = _numbered if device_of is None else device_of
        self._values = Values()
        self._host = backend("cpu")

    def variants(self) -> Sequence[str]:
        return ("cuda",)

    @contextmanager
    def using(self, variant: str) -> Iterator[None]:
        yield

    def project(self, spec: Spec, rows: Rows, out: Any, request: Request) -> Any:
        device = _device_of(rows)
        if device is None or _too_long(spec):
            return self._through_host(spec, rows, out, request)
        compute = structured.project if spec.ensemble == "structured" else projection.project
        return compute(self._ready(device), self._values, spec, rows, out, request, scratch_bytes())

    def unread(self, spec: Spec, rows: Rows) -> unread.Unread | None:
        batch = rows.batch if isinstance(rows, PackedRows) else None
        real = spec.mode in ("linear", "real") and spec.ensemble == "gaussian" and spec.camera is None
        if not real or not isinstance(batch, DevicePacked) or _too_long(spec):
            return None
        with torch.no_grad():
            return unread.unread(self._ready(batch.bad_rows.device), spec, batch, scratch_bytes())

    def _through_host(self, spec: Spec, rows: Rows, out: Any, request: Request) -> Any:
        if not isinstance(rows, PackedRows):
            return self._host.project(spec, rows, out, request)
        result = self._host.project(spec, PackedRows(rows.name, rows.batch.host(), rows.shape), out, request)
        return result if out is not None else torch.from_numpy(result).to(rows.batch.bad_rows.device)

    def _ready(self, device: torch.device) -> Gpu:
        """Return a GPU, after an error that an earlier call found."""
        gpu = self._gpu_of(device)
        if not gpu.capturing():
            self._values.raise_found()
        return gpu

    def adjoint(
        self, spec: Spec, rows: ArrayRows, read: Read, *, conjugated: bool, n_digits: int, out: Any, request: Request
    ) -> Any:
        options: dict[str, Any] = {"conjugated": conjugated, "n_digits": n_digits, "out": out, "request": request}
        if not isinstance(rows, DeviceRows) or spec.components * spec.n_outputs > LONGEST:
            return self._host.adjoint(spec, rows, read, **options)
        gpu = self._ready(rows.array.device)
        return adjoint.adjoint(gpu, self._values, spec, rows, read, **options, scratch=scratch_bytes())

    def capturing(self, rows: Rows) -> bool:
        device = _device_of(rows)
        return device is not None and self._gpu_of(device).capturing()

    def capturable(self, spec: Spec) -> bool:
        return not _too_long(spec)

    def synchronize(self) -> None:
        for index in _device.opened():  # others would get a context
            torch.cuda.synchronize(index)
        self._values.raise_found(every=True)

    # Packing

    def pack(self, rows: Rows) -> DevicePacked:
        assert isinstance(rows, DeviceRows)
        return packing.pack(self._place(rows), rows)

    def ternarize(self, rows: ArrayRows, threshold: Threshold | NDArray[np.float64] | torch.Tensor) -> DevicePacked:
        assert isinstance(rows, DeviceRows)
        return packing.ternarize(self._place(rows), rows, threshold)

    def largest(self, rows: ArrayRows) -> torch.Tensor:
        assert isinstance(rows, DeviceRows)
        return packing.largest(self._place(rows), rows)

    def encode(self, rows: DigitRows) -> DeviceEncoded:
        assert isinstance(rows.rows, DeviceRows)
        return packing.encode(self._place(rows.rows), rows)

    def _place(self, rows: DeviceRows) -> Place:
        if rows.n_inputs > LONGEST:
            raise ValueError(
                f"{rows.name} has shape {rows.shape}, but a batch on a GPU can have vectors of {LONGEST} numbers at "
                "most: move it to the CPU"
            )
        return Place(self._ready(rows.array.device), self._values, rows.device, rows.result_wrapper(), rows.session)

    def entries(
        self,
        spec: Spec,
        rows: range | NDArray[np.int64],
        columns: range | NDArray[np.int64],
        request: Request,
        device: str,
    ) -> torch.Tensor:
        where = self._device_of(device)
        if _too_long(spec) if spec.ensemble == "structured" else matrix.far_apart(columns):
            return torch.from_numpy(self._host.entries(spec, rows, columns, request, "cpu")).to(where)
        place = Place(self._ready(where), self._values, where.type, unchanged)
        return matrix.entries(place, spec, rows, columns, where, scratch_bytes())

    def moved(self, batch: _core.Packed | _core.Encoded, name: str) -> DevicePacked | DeviceEncoded:
        """Return a copy of a batch of the compiled core in the memory of the GPU of this name."""
        device = self._device_of(name)
        return placed(Place(self._ready(device), self._values, name.partition(":")[0], unchanged), batch, device)

    # Through the host

    def check(self, rows: Rows) -> None:
        self._host.check(rows)

    # Fields

    def fields(self, spec: Spec, batch: Packed, column_start: int, out: IntegerFields, request: Request) -> None:
        if isinstance(batch, DevicePacked) and isinstance(out, torch.Tensor):
            partial.fields(spec, batch, column_start, out, scratch_bytes())
            return
        whole = batch.host() if isinstance(batch, DevicePacked) else batch
        self._host.fields(spec, whole, column_start, out, request)

    def read_fields(self, spec: Spec, whole: IntegerFields, out: Any, request: Request) -> None:
        if isinstance(whole, torch.Tensor):
            partial.read_fields(self._gpu_of(whole.device), spec, whole, out)
            return
        self._host.read_fields(spec, whole, out, request)


def _too_long(spec: Spec) -> bool:
    if spec.ensemble == "structured":
        return structured.bits_of(spec.n_inputs) > structured.LONGEST
    return spec.n_inputs > LONGEST


def scratch_bytes() -> int:
    """Return the most scratch memory that a call may take, from ``OPUPROJ_GPU_SCRATCH`` (in MiB)."""
    text = os.environ.get(SCRATCH_VARIABLE)
    if text is None:
        return _DEFAULT_SCRATCH * _MIB
    try:
        mebibytes = int(text)
    except ValueError:
        mebibytes = 0
    if not 16 <= mebibytes <= 1 << 20:
        raise ValueError(f"{SCRATCH_VARIABLE} is {text!r}, but must be a number of MiB from 16 to 1048576")
    return mebibytes * _MIB


def _device_of(rows: Rows) -> torch.device | None:
    """Return the GPU of an input, or None if it is on none."""
    if isinstance(rows, PackedRows):
        packed: torch.device = rows.batch.bad_rows.device
        return packed
    source = rows.rows if isinstance(rows, (DigitRows, FloatRows)) else rows
    return source.array.device if isinstance(source, DeviceRows) else None


def _numbered(name: str) -> torch.device:
    """Return the device of this name; "cuda" is the current one."""
    device = torch.device(name)
    return torch.device("cuda", torch.cuda.current_device()) if name == "cuda" else device


@cache
def _hardware_at(index: int, process: int) -> Gpu:
    return Hardware(index)


def _hardware(device: torch.device) -> Gpu:
    return _hardware_at(torch.cuda.current_device() if device.index is None else device.index, os.getpid())
