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
from ...inputs.rows import ArrayRows, DigitRows, FloatRows, Rows, Threshold
from ...inputs.tensors import DeviceRows
from .. import Backend, IntegerFields, Read, Request, backend
from . import adjoint, projection, structured
from ._gpu import Gpu, Hardware
from ._values import Values

SCRATCH_VARIABLE = "OPUPROJ_GPU_SCRATCH"
_DEFAULT_SCRATCH = 1536
_MIB = 1 << 20


class Cuda(Backend):
    """The CUDA backend. Calls that it does not compute itself go to the CPU backend, as docs/gpu.md lists."""

    name = "cuda"

    def __init__(self, gpu_of: Callable[[torch.device], Gpu] | None = None) -> None:
        self._gpu_of = _hardware if gpu_of is None else gpu_of
        self._values = Values()
        self._host = backend("cpu")

    def variants(self) -> Sequence[str]:
        return ("cuda",)

    @contextmanager
    def using(self, variant: str) -> Iterator[None]:
        yield

    def project(self, spec: Spec, rows: Rows, out: Any, request: Request) -> Any:
        source = rows.rows if isinstance(rows, (DigitRows, FloatRows)) else rows
        exposed = spec.noisy and isinstance(rows, DigitRows)  # digit by digit
        too_long = spec.ensemble == "structured" and structured.bits_of(spec.n_inputs) > structured.LONGEST
        if not isinstance(source, DeviceRows) or exposed or too_long:
            return self._host.project(spec, rows, out, request)
        if spec.ensemble == "structured":
            return structured.project(self._ready(source), self._values, spec, source, out, request, scratch_bytes())
        return projection.project(self._ready(source), self._values, spec, rows, out, request, scratch_bytes())

    def _ready(self, rows: DeviceRows) -> Gpu:
        """Return the GPU of the rows, after an error that an earlier call found."""
        gpu = self._gpu_of(rows.array.device)
        if not gpu.capturing():
            self._values.raise_found()
        return gpu

    def adjoint(
        self, spec: Spec, rows: ArrayRows, read: Read, *, conjugated: bool, n_digits: int, out: Any, request: Request
    ) -> Any:
        options: dict[str, Any] = {"conjugated": conjugated, "n_digits": n_digits, "out": out, "request": request}
        if not isinstance(rows, DeviceRows):
            return self._host.adjoint(spec, rows, read, **options)
        gpu = self._ready(rows)
        return adjoint.adjoint(gpu, self._values, spec, rows, read, **options, scratch=scratch_bytes())

    def synchronize(self) -> None:
        if torch.cuda.is_initialized():
            for index in range(torch.cuda.device_count()):
                torch.cuda.synchronize(index)
        self._values.raise_found(every=True)

    # Through the host

    def pack(self, rows: Rows) -> _core.Packed:
        return self._host.pack(rows)

    def ternarize(self, rows: ArrayRows, threshold: Threshold | NDArray[np.float64]) -> _core.Packed:
        return self._host.ternarize(rows, threshold)

    def largest(self, rows: ArrayRows) -> float:
        return self._host.largest(rows)

    def encode(self, rows: DigitRows) -> _core.Encoded:
        return self._host.encode(rows)

    def check(self, rows: Rows) -> None:
        self._host.check(rows)

    def entries(
        self, spec: Spec, rows: range | NDArray[np.int64], columns: range | NDArray[np.int64], request: Request
    ) -> NDArray[Any]:
        return self._host.entries(spec, rows, columns, request)

    def fields(self, spec: Spec, batch: _core.Packed, column_start: int, out: IntegerFields, request: Request) -> None:
        self._host.fields(spec, batch, column_start, out, request)

    def read_fields(self, spec: Spec, whole: IntegerFields, out: NDArray[Any], request: Request) -> None:
        self._host.read_fields(spec, whole, out, request)


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


@cache
def _hardware_at(index: int, process: int) -> Gpu:
    return Hardware(index)


def _hardware(device: torch.device) -> Gpu:
    return _hardware_at(torch.cuda.current_device() if device.index is None else device.index, os.getpid())
