"""The CPU backend. Only this folder calls the compute functions of the compiled core.

`projection.py` computes projections and entries, and `adjoint.py` adjoints, both block by block. `blocks.py` turns rows
into the blocks that the core accepts, with the converters of `dense.py` and `sparse.py`. `slices.py` projects vectors
that are too long for a block. `machine.py` chooses the instruction set and the number of threads, and `results.py`
allocates or checks the output. The backend serves arrays in the CPU's memory, and tensors of devices that have no
backend of their own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import _core
from ..._spec import Spec
from ...inputs.rows import ArrayRows, DigitRows, PlaneRows, Rows, Threshold
from ...inputs.sparse import SparseRows
from .. import Backend, IntegerFields, Request, register
from . import adjoint, dense, machine, projection, sparse
from .blocks import check_values, converter_of


class Cpu(Backend):
    """The CPU backend. It uses the best instruction set of the machine, or the one that ``OPUPROJ_ISA`` names."""

    name = "cpu"

    def variants(self) -> Sequence[str]:
        return [name for name, found in _core.instruction_sets() if found]

    @contextmanager
    def using(self, variant: str) -> Iterator[None]:
        before = os.environ.get(machine.ISA_VARIABLE)
        os.environ[machine.ISA_VARIABLE] = variant
        try:
            yield
        finally:
            if before is None:
                del os.environ[machine.ISA_VARIABLE]
            else:
                os.environ[machine.ISA_VARIABLE] = before

    def pack(self, rows: Rows) -> _core.Packed:
        return converter_of(rows).whole(rows)  # type: ignore[return-value]  # digits are encoded

    def ternarize(self, rows: ArrayRows, threshold: Threshold | Any) -> _core.Packed:
        if not isinstance(threshold, (Threshold, np.ndarray)):  # a tensor, on the device of the rows
            threshold = threshold.cpu().double().numpy()
        if type(rows) is ArrayRows:  # the common case first
            return dense.ternarized(rows, threshold)
        if isinstance(rows, SparseRows):
            return sparse.ternarized(rows, threshold)
        if isinstance(rows, PlaneRows) and not isinstance(threshold, Threshold):
            return dense.DeviceConverter().ternarized(rows, threshold)
        return dense.ternarized(rows, threshold)

    def largest(self, rows: ArrayRows) -> float:
        if isinstance(rows, SparseRows):
            return sparse.largest_of_all(rows)
        return dense.largest_of_all(rows)

    def encode(self, rows: DigitRows) -> _core.Encoded:
        return converter_of(rows).whole(rows)  # type: ignore[return-value]  # ternary rows are packed

    def check(self, rows: Rows) -> None:
        check_values(rows)

    project = staticmethod(projection.project)
    adjoint = staticmethod(adjoint.adjoint)
    entries = staticmethod(projection.entries)

    def fields(self, spec: Spec, batch: _core.Packed, column_start: int, out: IntegerFields, request: Request) -> None:
        _core.fields(
            batch,
            out,
            seed=spec.seed,
            mode=spec.mode,
            row_start=spec.row_start,
            column_start=column_start,
            threads=machine.n_threads(request.threads),
            isa=machine.isa(),
        )

    def read_fields(self, spec: Spec, whole: IntegerFields, out: NDArray[Any], request: Request) -> None:
        _core.read_fields(
            whole,
            out,
            seed=spec.seed,
            mode=spec.mode,
            row_start=spec.row_start,
            n_anchor=spec.n_anchor,
            threads=machine.n_threads(request.threads),
            isa=machine.isa(),
        )


register("cpu", Cpu())
