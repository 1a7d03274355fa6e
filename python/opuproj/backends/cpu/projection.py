"""Projections, block by block, and exact entries of the matrix for small windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from ... import _core, _memory, _progress
from ..._spec import Spec
from ...inputs.rows import ArrayRows, PackedRows, Rows
from .. import Request
from . import machine, results, slices
from .blocks import Block, blocks_of, digits_of
from .sparse import Compact

# Receives the fraction of the work that is done.
Advance: TypeAlias = Callable[[float], None]

# Results of one digit, read by a camera, that are held at a time.
_EXPOSURE_BYTES = 1 << 23
# The shortest transform of the structured ensemble.
_SHORTEST = 256
_THREADS_ADVICE = "projecting on fewer threads (threads=) or fewer inputs needs less"
_WINDOW_ADVICE = "ask for fewer rows and columns: the operator itself needs no memory for its matrix"
_WINDOW_TILE = (64, 4096)
# Memory for entries of the structured ensemble, whose rows are computed in whole blocks.
_WINDOW_BYTES = 1 << 23


def project(spec: Spec, rows: Rows, out: Any, request: Request) -> NDArray[Any]:
    """Return the results of all vectors, as :meth:`Backend.project` says."""
    result = results.allocated((*rows.shape[:-1], spec.n_outputs), spec.dtype, out, rows)
    flat = results.rows_of(result)
    isa, threads = machine.isa(), machine.n_threads(request.threads)
    if spec.ensemble == "structured":
        _reserve_transforms(spec.n_inputs, threads, spec.mode == "linear")
    if slices.needed(spec, rows):
        long = cast(ArrayRows, rows)

        def compact(block: Compact, out: NDArray[Any], advance: Advance | None) -> None:
            _run(spec, (block,), out, request, isa, threads, advance)

        if not request.progress:
            slices.project(spec, long, flat, request, None, compact)
        else:
            with _progress.shown(request.progress, flat.size) as advance:
                slices.project(spec, long, flat, request, advance, compact)
        return result
    blocks = blocks_of(rows, spec.ensemble)
    if flat.size == 0:
        pass
    elif not request.progress:
        _run(spec, blocks, flat, request, isa, threads, None)
    else:
        with _progress.shown(request.progress, flat.size) as advance:
            _run(spec, blocks, flat, request, isa, threads, advance)
    return result


def _run(
    spec: Spec,
    blocks: Iterable[Block],
    out: NDArray[Any],
    request: Request,
    isa: str | None,
    threads: int,
    advance: Advance | None,
) -> None:
    """Project blocks of vectors into `out`, of shape (n_vectors, n_outputs), which is not empty."""
    done, n = 0, len(out)
    for block in blocks:
        size = block.n_rows
        rows, report = out, advance
        if size != n:
            rows = out[done : done + size]
            report = advance and _progress.part_of(advance, done / n, size / n)
        batch, columns = block if isinstance(block, Compact) else (block, None)
        if isinstance(batch, _core.Floats) or (spec.ensemble == "structured" and isinstance(batch, _core.Packed)):
            _core.project_structured(
                batch,
                rows,
                seed=spec.seed,
                mode=spec.mode,
                row_start=spec.row_start,
                n_anchor=spec.n_anchor,
                threads=threads,
                isa=isa,
                on_progress=report,
            )
        else:
            first = request.first_vector + done
            if isinstance(batch, _core.Packed) or not spec.noisy:
                _multiply(spec, batch, columns, rows, request, first, isa, threads, report)
            else:
                _expose_digits(spec, batch, columns, rows, request, first, isa, threads, report)
        done += size
        del block, batch, columns  # free their memory before the next block is made


def _multiply(
    spec: Spec,
    batch: _core.Packed | _core.Encoded,
    columns: NDArray[np.uint64] | None,
    out: NDArray[Any],
    request: Request,
    first_vector: int,
    isa: str | None,
    threads: int,
    advance: Advance | None,
) -> None:
    _core.project(
        batch,
        out,
        seed=spec.seed,
        mode=spec.mode,
        row_start=spec.row_start,
        n_anchor=spec.n_anchor,
        camera=spec.camera,
        noise_seed=request.noise_seed,
        first_vector=first_vector,
        threads=threads,
        isa=isa,
        on_progress=advance,
        columns=columns,
        column_start=request.column_start,
    )


def _expose_digits(
    spec: Spec,
    batch: _core.Encoded,
    columns: NDArray[np.uint64] | None,
    out: NDArray[Any],
    request: Request,
    first_vector: int,
    isa: str | None,
    threads: int,
    advance: Advance | None,
) -> None:
    """Add up the camera's results of each digit."""
    digits = list(digits_of(batch))
    n_outputs = out.shape[1]
    width = max(1, _EXPOSURE_BYTES // (len(out) * out.itemsize or 1))
    for start in range(0, n_outputs, width):
        part = out[:, start : start + width]
        window = spec.rows(start, start + part.shape[1])
        one = np.empty_like(part, order="C")
        share = part.shape[1] / n_outputs / len(digits)
        for k, digit in enumerate(digits):
            first = first_vector + (k << 40)  # gives each digit noise of its own
            report = advance and _progress.part_of(advance, start / n_outputs + k * share, share)
            _multiply(window, digit, columns, one, request, first, isa, threads, report)
            if k == 0:
                part[...] = one
            else:
                part *= batch.base
                part += one
        part *= batch.scales()[:, None]


def _padded(n_inputs: int) -> int:
    """Return the power of two to which vectors are padded."""
    return max(_SHORTEST, 1 << (n_inputs - 1).bit_length())


def _reserve_transforms(n_inputs: int, threads: int, anchor: bool) -> None:
    """Raise MemoryError if the vectors that threads transform, and an anchor's phases, cannot fit in memory."""
    n_bytes = _core.structured_bytes(n_inputs)
    total = 2**63 if n_bytes is None else n_bytes * threads + 8 * _padded(n_inputs) * anchor
    _memory.reserve(f"transforms on {threads} threads,", (_padded(n_inputs),), total, _THREADS_ADVICE)


# Entries


def entries(
    spec: Spec, rows: range | NDArray[np.int64], columns: range | NDArray[np.int64], request: Request, device: str
) -> NDArray[Any]:
    """Return entries, as :meth:`Backend.entries` says."""
    dtype = spec.dtype if spec.mode != "intensity" else np.result_type(spec.dtype, np.complex64)
    shape = (len(rows), len(columns))
    _memory.reserve("a window", shape, math.prod(shape) * dtype.itemsize + 8 * sum(shape), _WINDOW_ADVICE)
    out = _memory.allocate("a window", shape, dtype, _WINDOW_ADVICE)
    # Converted only here, because only now it is known that the arrays fit in memory.
    index = [np.array(numbers, dtype=np.uint64) for numbers in (rows, columns)]
    index[0] += np.uint64(spec.row_start)
    if spec.ensemble == "structured":
        _structured_entries(spec, index[0], index[1], out, request)
    else:
        _gaussian_entries(spec, index[0], index[1], out)
    return out


def _gaussian_entries(spec: Spec, rows: NDArray[np.uint64], columns: NDArray[np.uint64], out: NDArray[Any]) -> None:
    """Write entries of the Gaussian matrix, tile by tile. Ctrl-C works between two tiles."""
    isa = machine.isa()
    for i in range(0, len(rows), _WINDOW_TILE[0]):
        for j in range(0, len(columns), _WINDOW_TILE[1]):
            _core.entries(
                rows[i : i + _WINDOW_TILE[0]],
                columns[j : j + _WINDOW_TILE[1]],
                out[i : i + _WINDOW_TILE[0], j : j + _WINDOW_TILE[1]],
                seed=spec.seed,
                mode=spec.mode,
                n_anchor=spec.n_anchor,
                isa=isa,
            )


def _structured_entries(
    spec: Spec, rows: NDArray[np.uint64], columns: NDArray[np.uint64], out: NDArray[Any], request: Request
) -> None:
    """Write entries of the structured matrix: project unit vectors, a block of rows at a time."""
    if out.size == 0:
        return
    block = rows // np.uint64(_padded(spec.n_inputs) * 2 // spec.components)
    for b in np.unique(block):
        here = np.flatnonzero(block == b)
        first, last = int(rows[here].min()), int(rows[here].max())
        part = spec.changed(
            n_outputs=last + 1 - first,
            row_start=first,
            mode="complex" if spec.mode == "intensity" else spec.mode,
            dtype=out.dtype,
        )
        picked = (rows[here] - np.uint64(first)).astype(np.intp)
        step = max(1, _WINDOW_BYTES // max(part.n_outputs * out.itemsize, spec.n_inputs // 4 + 1))
        for start in range(0, len(columns), step):
            units = unit_vectors(columns[start : start + step].astype(np.int64), spec.n_inputs)
            out[here, start : start + step] = project(part, units, None, request)[:, picked].T


def unit_vectors(columns: NDArray[np.int64], n_inputs: int) -> PackedRows[_core.Packed]:
    """Return the unit vectors of these columns."""
    n = len(columns)
    packed = _core.Packed.from_csr(np.arange(n + 1, dtype=np.int64), columns, np.ones(n, dtype=np.int8), n_inputs)
    return PackedRows("columns", packed, (n, n_inputs))
