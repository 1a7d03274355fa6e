"""Projections by the structured ensemble on a GPU: fast transforms of some vectors and blocks of rows at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch

from ... import _progress
from ..._spec import Spec
from ...inputs.rows import FloatRows, PackedRows, Rows
from ...inputs.tensors import DeviceRows
from .. import Request
from . import _packing, _readout
from ._gpu import TABLE_BYTES, TABLE_STRIDE, Gpu, grid_for
from ._results import result_for
from ._values import Values

# The shortest transform, and the longest that the kernels can do, as powers of two.
_SHORTEST, LONGEST = 8, 34
# The most vectors that one launch transforms: more only takes memory.
_MOST_VECTORS = 16
_MODES = {"complex": 0, "intensity": 1, "linear": 2, "real": 3}
_FLOAT32, _FLOAT64, _PLANES = np.int32(0), np.int32(1), np.int32(2)
_FILE = "structured.cu"
# Shared memory of a transform, for each thread, and of the signs, for each warp.
_BYTES_A_THREAD, _SIGN_BYTES = 132, 512


class _Split(NamedTuple):
    """How the bits of an element's index are divided: along rows, between, and across rows."""

    along: int
    middle: int
    across: int


def bits_of(n_inputs: int) -> int:
    """Return the power of two to which vectors of this length are padded."""
    return max(_SHORTEST, (n_inputs - 1).bit_length())


@cache
def _split(bits: int) -> _Split:
    if bits <= 14:
        return _Split(bits, 0, 0)
    if bits <= 20:
        return _Split(10, 0, bits - 10)
    if bits <= 24:
        return _Split(bits - 10, 0, 10)
    return _Split(10, 10, bits - 20) if bits <= 30 else _Split(bits - 20, 10, 10)


def project(
    gpu: Gpu, values: Values, spec: Spec, rows: Rows, out: Any, request: Request, scratch: int
) -> torch.Tensor | np.ndarray[Any, Any]:
    """Return the results of all vectors, of real numbers or packed, as :meth:`Backend.project` says."""
    where, numbers_of = _source(rows)
    result = result_for((*rows.shape[:-1], spec.n_outputs), spec.dtype, out, where)
    if rows.n_rows == 0 or spec.n_outputs == 0:
        return result.given
    with torch.no_grad(), _progress.reported(request.progress, rows.n_rows * spec.n_outputs) as advance:
        numbers = numbers_of(gpu, values)
        device = where.device
        transform = _Transform(gpu, bits_of(rows.n_inputs), device)
        block_results = transform.n * (2 if spec.mode == "real" else 1)
        first, last = spec.row_start // block_results, -(-spec.row_stop // block_results)
        vectors = max(1, min(_MOST_VECTORS, rows.n_rows, scratch // (16 * transform.n)))
        step = max(1, min(last - first, (scratch // (4 * transform.n) - vectors) // (2 * vectors + 1)))
        for block in range(first, last, step):
            blocks = min(step, last - block)
            start = max(spec.row_start, block * block_results)
            stop = min(spec.row_stop, (block + blocks) * block_results)
            window = spec.rows(start - spec.row_start, stop - spec.row_start)
            signs = transform.signs(spec.seed, 0, 1), transform.signs(spec.seed, 1 + 4 * block, 4 * blocks)
            phases = _phases(gpu, window, device) if spec.mode == "linear" else None
            for v in range(0, rows.n_rows, vectors):
                group = (v, min(rows.n_rows, v + vectors))
                source = numbers.of(*group)
                with result.part(group, (start - spec.row_start, stop - spec.row_start)) as results:
                    transform.project(source, signs, blocks, results, start - block * block_results, spec.mode, phases)
            if advance is not None:
                gpu.wait()
                advance((stop - spec.row_start) / spec.n_outputs)
    return result.given


class _Numbers(NamedTuple):
    """Vectors: rows of float32 or float64, or the bit planes of ternary ones."""

    x: torch.Tensor  # numbers, or the plane of 1
    negative: torch.Tensor | None
    largest: torch.Tensor  # the largest magnitude of each row, NaN if its results must be NaN
    n_inputs: int
    kind: np.int32

    def of(self, start: int, stop: int) -> _Numbers:
        """Return vectors number start to stop - 1."""
        negative = None if self.negative is None else self.negative[start:stop]
        return self._replace(x=self.x[start:stop], negative=negative, largest=self.largest[start:stop])


def _source(rows: Rows) -> tuple[torch.Tensor, Callable[[Gpu, Values], _Numbers]]:
    """Return a tensor of the input, which shows its device, and a function that returns the vectors."""
    if isinstance(rows, PackedRows):
        return rows.batch.bad_rows, lambda gpu, values: _of_planes(rows.batch)
    source = rows.rows if isinstance(rows, FloatRows) else rows
    assert isinstance(source, DeviceRows)
    return source.array, lambda gpu, values: _of_floats(gpu, values, source)


def _of_floats(gpu: Gpu, values: Values, rows: DeviceRows) -> _Numbers:
    x = _packing.floats(rows.array.reshape(rows.n_rows, rows.n_inputs))
    if x.dtype not in (torch.float32, torch.float64):
        x = x.to(torch.float32)
    largest, bad = _packing.largest(gpu, x)
    values.watch(
        bad,
        rows,
        "finite for a projection",
        captured=gpu.capturing(),
        width=rows.n_inputs,
        place_of=lambda row, column: (row, column),
    )
    return _Numbers(x, None, largest, rows.n_inputs, _FLOAT64 if x.dtype == torch.float64 else _FLOAT32)


def _of_planes(batch: Any) -> _Numbers:
    planes = batch.vectors
    largest = torch.ones(batch.n_rows, dtype=torch.float64, device=batch.bad_rows.device)
    largest.masked_fill_(batch.bad_rows.bool(), torch.nan)
    return _Numbers(planes.positive, planes.negative, largest, planes.n_inputs, _PLANES)


class _Transform:
    """The passes for one length of vectors."""

    def __init__(self, gpu: Gpu, bits: int, device: torch.device) -> None:
        self._gpu, self._bits, self._split, self._device = gpu, bits, _split(bits), device
        self.n = 1 << bits
        self._macros = (f"LOG2_N={bits}",)

    def _launch(self, kernel: str, threads: int, tasks: int, shared: int, arguments: tuple[Any, ...]) -> None:
        grid = grid_for(self._gpu, tasks, 1, 4)
        self._gpu.launch(_FILE, kernel, grid, threads, shared, arguments, self._macros)

    def signs(self, seed: int, first: int, count: int) -> torch.Tensor:
        """Return the signs of some diagonals, a bit each."""
        out = torch.empty(count * self.n // 32, dtype=torch.int32, device=self._device)
        arguments = (out, np.uint64(seed), np.uint64(first), np.int64(count), TABLE_STRIDE)
        tasks = -(-count * self.n // (4096 * 16))
        self._launch("signs", 512, min(tasks, self._gpu.multiprocessors), TABLE_BYTES + 16 * _SIGN_BYTES, arguments)
        return out

    def project(
        self,
        source: _Numbers,
        signs: tuple[torch.Tensor, torch.Tensor],
        blocks: int,
        results: torch.Tensor,
        skip: int,
        mode: str,
        phases: torch.Tensor | None,
    ) -> None:
        """Write the results of some blocks, from number `skip` on."""
        x = source.x
        double = results.dtype in (torch.float64, torch.complex128)
        read = (
            results, np.int64(results.stride(0)), np.int64(skip), np.int64(results.shape[1]), phases,
            np.int32(_MODES[mode]), np.int32(double),
        )  # fmt: skip
        numbers = (
            x, source.negative, np.int64(x.stride(0)), np.int64(source.n_inputs), source.largest, source.kind
        )  # fmt: skip
        d1, d = signs
        vectors, along, across = len(x), self._split.along, self._split.across
        threads = max(256, 1 << (along - 5))
        shared, groups = _BYTES_A_THREAD * threads, threads >> (along - 5)
        if not across:
            chunk = max(1, min(blocks, vectors * blocks // (8 * self._gpu.multiprocessors * groups)))
            counts = (np.int32(vectors), np.int32(blocks), np.int32(chunk))
            tasks = -(-vectors * -(-blocks // chunk) // groups)
            self._launch("whole", threads, tasks, shared, (*read, *numbers, d1, d, *counts))
            return
        first = torch.empty(vectors * self.n, dtype=torch.float32, device=x.device)
        data = torch.empty(vectors * 2 * blocks * self.n, dtype=torch.float32, device=x.device)
        n_vectors, parts = np.int64(vectors), np.int64(2 * blocks)
        row_tasks = -(-(vectors << (self._bits - along)) // groups)
        cross, columns = _cross_threads(across), 16 if across == 10 else 256 >> (across - 5)
        cross_tasks = vectors * (1 << (self._bits - across)) // columns
        self._launch("first_pass", threads, row_tasks, shared, (first, *numbers, d1, n_vectors))
        self._middle(first, vectors, up=True)
        self._launch("second_pass", cross, cross_tasks, _BYTES_A_THREAD * cross, (data, first, d, n_vectors, parts))
        self._middle(data, vectors * 2 * blocks, up=False)
        self._launch("third_pass", threads, row_tasks * 2 * blocks, shared, (data, d, n_vectors, parts))
        self._middle(data, vectors * 2 * blocks, up=True)
        last = (*read, data, source.largest, n_vectors, np.int64(blocks))
        self._launch("last_pass", cross, cross_tasks * blocks, _BYTES_A_THREAD * cross, last)

    def _middle(self, data: torch.Tensor, count: int, *, up: bool) -> None:
        middle = self._split.middle
        if not middle:
            return
        threads, columns = _cross_threads(middle), 16 if middle == 10 else 256 >> (middle - 5)
        tasks = count * (1 << (self._bits - middle)) // columns
        arguments = (data, np.int64(count), np.int32(up))
        self._launch("middle_pass", threads, tasks, _BYTES_A_THREAD * threads, arguments)


def _cross_threads(bits: int) -> int:
    return 512 if bits == 10 else 256


def _phases(gpu: Gpu, spec: Spec, device: torch.device) -> torch.Tensor:
    """Return cosine and sine of the anchor's field at each row, as float32."""
    field = _readout.anchor_field(gpu, spec, device)
    out = torch.empty(2 * spec.n_outputs, dtype=torch.float32, device=device)
    grid = grid_for(gpu, spec.n_outputs, 256, 8)
    macros = (f"LOG2_N={bits_of(spec.n_inputs)}",)
    gpu.launch(_FILE, "phases", grid, 256, 0, (out, field, np.int64(spec.n_outputs)), macros)
    return out
