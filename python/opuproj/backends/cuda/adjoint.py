"""The adjoint on a GPU: vectors of outputs, rounded to digits, times transposed panels of T."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ... import _progress
from ..._spec import Spec
from ...encoded import TERNARY_BASE
from ...inputs.tensors import DeviceRows
from .. import Read, Request
from . import _packing, _readout
from ._fields import BLOCK, BYTE_COLUMNS, MOST_VECTORS, Bytes
from ._gpu import TABLE_BYTES, TABLE_STRIDE, Gpu, grid_for
from ._results import result_for
from ._values import Values

# The most columns of a transposed panel.
_PANEL_COLUMNS = 1 << 14
_CHUNK = 64


def adjoint(
    gpu: Gpu,
    values: Values,
    spec: Spec,
    rows: DeviceRows,
    read: Read,
    *,
    conjugated: bool,
    n_digits: int,
    out: Any,
    request: Request,
    scratch: int,
) -> torch.Tensor | np.ndarray[Any, Any]:
    """Multiply vectors of outputs by the adjoint, as :meth:`Backend.adjoint` says."""
    result = result_for((*rows.shape[:-1], spec.n_inputs), spec.dtype, out, rows.array)
    if rows.n_rows == 0:
        return result.given
    n = spec.n_inputs
    with torch.no_grad(), _progress.reported(request.progress, rows.n_rows * n) as advance:
        if spec.n_outputs == 0:  # an empty sum
            with result.part((0, rows.n_rows), (0, n)) as results:
                results.zero_()
            return result.given
        before, width = spec.row_start % spec.block_rows, spec.components
        phases = _readout.phases(gpu, spec, rows.array.device) if spec.mode == "linear" else None
        y = rows.array.reshape(rows.n_rows, spec.n_outputs)
        bytes_each = width * (before + spec.n_outputs) * (9 + 2 * -(-n_digits // 5))
        group = max(1, min(MOST_VECTORS, scratch // 2 // bytes_each))
        for first in range(0, rows.n_rows, group):
            last = min(rows.n_rows, first + group)
            parts = _interleaved(spec, y[first:last], rows.double, phases, before, negated=not conjugated)
            encoded = _packing.encode(gpu, parts, TERNARY_BASE, n_digits)
            del parts
            values.watch(
                encoded.bad,
                rows,
                "finite for encoding",
                captured=gpu.capturing(),
                place_of=_place_of(first, before, width),
                width=width * (before + spec.n_outputs),
            )
            vectors = encoded.vectors
            assert isinstance(vectors, Bytes)
            x = _padded(vectors.x)
            turned = (x, _turned(x)) if read == "complex" else (x,)
            step = int(scratch // 2 // (min(x.shape[1], BYTE_COLUMNS) + 12 * len(x)))
            step = max(BLOCK, min(_PANEL_COLUMNS, step) // BLOCK * BLOCK)
            for start in range(0, n, step):
                stop = min(n, start + step)
                fields = _fields(gpu, spec, turned, start, -(-(stop - start) // BLOCK) * BLOCK)
                with result.part((first, last), (start, stop)) as results:
                    _read(gpu, read, fields, encoded, results, conjugated=conjugated)
                if advance is not None:
                    gpu.wait()
                    advance((first + (last - first) * stop / n) / rows.n_rows)
    return result.given


def _place_of(first: int, before: int, width: int) -> Callable[[int, int], tuple[int, int]]:
    """Return the function from the place of a component to the row and the column of y."""
    return lambda row, column: (first + row, column // width - before)


def _interleaved(
    spec: Spec, y: torch.Tensor, double: bool, phases: torch.Tensor | None, before: int, *, negated: bool
) -> torch.Tensor:
    """Return the components of whole row blocks, (n_rows, components): real and imaginary parts alternate."""
    if y.dtype == torch.complex32:
        y = y.to(torch.complex64)
    real = y.real if y.is_complex() else y
    integers = not (y.is_floating_point() or y.is_complex())
    wide = phases is not None or double or (integers and y.element_size() > 2)
    dtype = torch.float64 if wide else torch.float32
    shape = (len(y), before + spec.n_outputs, spec.components)
    parts = torch.zeros(shape, dtype=dtype, device=y.device)
    inner = parts[:, before:]
    inner[..., 0] = real.to(dtype)
    if phases is not None:
        inner[..., 1] = inner[..., 0] * phases[:, 1]
        inner[..., 0] *= phases[:, 0]
    elif y.is_complex():
        inner[..., 1] = -y.imag if negated else y.imag
    return parts.view(len(y), -1)


def _padded(x: torch.Tensor) -> torch.Tensor:
    """Return int8 rows with rows of zeros up to a multiple of 32, which the product of the library needs."""
    missing = -len(x) % 32
    return torch.nn.functional.pad(x, (0, 0, 0, missing)) if missing else x


def _turned(x: torch.Tensor) -> torch.Tensor:
    """Return (v, -u) for each pair of components (u, v): its product with T's rows is the imaginary part of Tᴴy."""
    turned = x.view(len(x), -1, 2).flip(-1)
    turned[..., 1].neg_()
    return turned.reshape(x.shape)


def _fields(gpu: Gpu, spec: Spec, turned: tuple[torch.Tensor, ...], start: int, n_columns: int) -> list[torch.Tensor]:
    """Return the products of all vectors with columns from `start` on, (n_vectors, n_columns) for each turn."""
    device, length = turned[0].device, turned[0].shape[1]
    first_block = spec.row_start // spec.block_rows
    sums: list[torch.Tensor] = []
    for first in range(0, length, BYTE_COLUMNS):
        size = min(BYTE_COLUMNS, length - first)
        panel = torch.empty((n_columns, size), dtype=torch.int8, device=device)
        blocks = size // BLOCK
        warps = -(-blocks // 32) * -(-n_columns // _CHUNK)
        gpu.launch(
            "projection.cu", "transposed_panel", grid_for(gpu, 32 * warps, 512, 1), 512, TABLE_BYTES,
            (
                panel, np.int64(size), np.uint64(spec.seed), np.uint64(first_block + first // BLOCK), np.int32(blocks),
                np.uint64(start), np.int32(n_columns), np.int32(_CHUNK), TABLE_STRIDE,
            ),
        )  # fmt: skip
        for k, x in enumerate(turned):
            part = torch.empty((len(x), n_columns), dtype=torch.int32, device=device)
            gpu.product(x[:, first : first + size].contiguous(), panel, part)
            if length <= BYTE_COLUMNS:
                sums.append(part)
            elif first == 0:
                sums.append(part.to(torch.int64))
            else:
                sums[k] += part
    return sums


def _read(
    gpu: Gpu,
    read: Read,
    fields: list[torch.Tensor],
    encoded: _packing.Batch,
    results: torch.Tensor,
    *,
    conjugated: bool,
) -> None:
    """Scale the sums of each vector and round them once."""
    real = torch.view_as_real(results) if results.is_complex() else None
    for turn, sums in enumerate(fields):
        target = results if real is None else torch.empty(results.shape, dtype=real.dtype, device=results.device)
        _readout.read_adjoint(gpu, read, sums, encoded, target)
        if real is not None:
            real[..., turn] = target
    if real is not None and not conjugated:
        real[..., 1].neg_()
        real += 0  # −0 becomes 0
