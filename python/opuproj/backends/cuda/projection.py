"""Projections of tensors on a GPU: pack, make exact fields of a range of rows, and read them out, range by range."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from ... import _progress
from ..._spec import Spec
from ...inputs.rows import DigitRows, PackedRows, Rows
from ...inputs.tensors import DeviceRows
from .. import Request
from . import _packing, _readout
from ._fields import BLOCK, MOST_VECTORS, Bytes, FieldMaker, Planes
from ._gpu import Gpu
from ._results import Result, result_for
from ._values import Values
from .packed import DeviceEncoded

# The work of one launch, in entries of T times vectors. A long projection can be interrupted between two launches.
_LAUNCH_WORK = 1 << 42


def project(
    gpu: Gpu, values: Values, spec: Spec, rows: Rows, out: Any, request: Request, scratch: int
) -> torch.Tensor | np.ndarray[Any, Any]:
    """Return the results of all vectors, as :meth:`Backend.project` says."""
    x = _where(rows)
    result = result_for((*rows.shape[:-1], spec.n_outputs), spec.dtype, out, x)
    if rows.n_rows == 0 or spec.n_outputs == 0:
        return result.given
    with torch.no_grad(), _progress.reported(request.progress, rows.n_rows * spec.n_outputs) as advance:
        digits = _exposed_digits(rows) if spec.noisy else None
        step = _rows_at_once(rows, scratch, digits)
        for first in range(0, rows.n_rows, step):
            last = min(rows.n_rows, first + step)

            def report(fraction: float, first: int = first, last: int = last) -> None:
                gpu.wait()  # so that the bar shows work that is done
                if advance is not None:
                    advance((first + (last - first) * fraction) / rows.n_rows)

            batch = _converted(gpu, values, rows, first, last)
            noise = (request.noise_seed, request.first_vector + first)
            reported = report if advance is not None else None
            group = (first, last)
            _project(gpu, spec, batch, digits, noise, request.column_start, result, group, scratch, reported)
    return result.given


def _exposed_digits(rows: Rows) -> tuple[int, int] | None:
    """Return the base and the number of the digits of an input, or None if it is ternary."""
    encoded = rows.batch if isinstance(rows, PackedRows) and rows.encoded else rows
    return (encoded.base, encoded.n_digits) if isinstance(encoded, (DigitRows, DeviceEncoded)) else None


def _where(rows: Rows) -> torch.Tensor:
    """Return a tensor of the input, which shows its device."""
    if isinstance(rows, PackedRows):
        tensor: torch.Tensor = rows.batch.bad_rows
        return tensor
    source = rows.rows if isinstance(rows, DigitRows) else rows
    assert isinstance(source, DeviceRows)
    return source.array


def _converted(gpu: Gpu, values: Values, rows: Rows, first: int, last: int) -> _packing.Batch:
    """Return vectors number first to last - 1 of an input in the form that is multiplied."""
    if isinstance(rows, PackedRows):
        batch: _packing.Batch = rows.batch.batch(first, last)
        return batch
    source, digits = (rows.rows, (rows.base, rows.n_digits)) if isinstance(rows, DigitRows) else (rows, None)
    assert isinstance(source, DeviceRows)
    numbers = source.array.reshape(rows.n_rows, rows.n_inputs)[first:last]
    return _packing.batch(gpu, values, source, numbers, first, digits)


def _project(
    gpu: Gpu,
    spec: Spec,
    batch: _packing.Batch,
    digits: tuple[int, int] | None,
    noise: tuple[int, int],
    column_start: int,
    result: Result,
    group: tuple[int, int],
    scratch: int,
    report: Callable[[float], None] | None,
) -> None:
    """Project vectors number group[0] to group[1] - 1 of the input.

    `digits`: the base and the number of the digits that a camera sees one after the other. `noise`: the noise seed, and
    its first vector.
    """
    vectors, lit = batch.vectors, None
    if spec.noisy:
        if isinstance(vectors, Bytes):
            assert digits is not None
            vectors = _packing.digits(gpu, vectors, len(batch.weights), *digits)
        vectors.split = spec.mode != "intensity"
        lit = _readout.lit_pixels(gpu, vectors) if vectors.split else vectors.counts
    maker = FieldMaker(gpu, spec.seed, vectors, scratch, column_start)
    for start, stop in ranges(spec, maker, vectors):
        part = spec.rows(start, stop)
        first_block = part.row_start // part.block_rows
        blocks = -(-part.row_stop // part.block_rows) - first_block
        fields = maker.fields(first_block, blocks)
        with result.part(group, (start, stop)) as results:
            if lit is None:
                _readout.read(gpu, part, fields, batch, first_block, blocks, results)
            else:
                anchors = _readout.camera_anchors(gpu, part, first_block, blocks, results.device)
                exposed = (gpu, part, fields, batch, lit, first_block, anchors, results)
                seed, first_vector = noise
                if digits is None:
                    _readout.measure(*exposed, noise_seed=seed, first_vector=first_vector)
                else:
                    base, _ = digits
                    _readout.measure_digits(*exposed, base=base, noise_seed=seed, first_vector=first_vector)
        if report is not None:
            report(stop / spec.n_outputs)


def _rows_at_once(rows: Rows, scratch: int, exposed_digits: tuple[int, int] | None) -> int:
    """Return how many vectors to convert at a time, so that the converted ones take a quarter of the scratch memory."""
    most, n_bytes = MOST_VECTORS, 0.0
    if exposed_digits is not None:
        _, n_digits = exposed_digits
        most, n_bytes = max(1, most // n_digits), rows.n_inputs * n_digits / 4
    if isinstance(rows, DigitRows):
        n_bytes += rows.n_inputs * -(-rows.n_digits // 5)
    elif not isinstance(rows, PackedRows):
        n_bytes += rows.n_inputs / 4
    return max(1, min(most, int(scratch // 4 / n_bytes) // 32 * 32 or 1)) if n_bytes else most


def ranges(spec: Spec, maker: FieldMaker, vectors: Planes | Bytes) -> Iterator[tuple[int, int]]:
    """Divide the outputs into ranges that end where row blocks end."""
    work = max(1, vectors.n_inputs * vectors.n_vectors * BLOCK)
    blocks = max(1, min(maker.blocks_at_once, _LAUNCH_WORK // work))
    start = 0
    while start < spec.n_outputs:
        row = spec.row_start + start
        stop = min(spec.n_outputs, (row // spec.block_rows + blocks) * spec.block_rows - spec.row_start)
        yield start, stop
        start = stop
