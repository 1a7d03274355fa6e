"""Entries of the operator's matrix on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..._spec import Spec
from ...inputs.rows import PackedRows
from .. import Request
from ..cpu.projection import unit_vectors
from . import _readout, structured
from ._fields import BLOCK
from ._gpu import TABLE_BYTES, TABLE_STRIDE, dtype_name, grid_for
from .packed import Place, placed

# The most columns of a panel, and the most row blocks between two that are wanted and generated together.
_PANEL_COLUMNS, _GAP = 1 << 15, 16
_UNIT_VECTORS = 4096
_KERNELS = {"real": "real", "linear": "recovered", "complex": "complex", "intensity": "complex"}

Numbers = NDArray[np.int64]


def entries(
    place: Place, spec: Spec, rows: range | Numbers, columns: range | Numbers, device: torch.device, scratch: int
) -> torch.Tensor:
    """Return entries at these outputs and inputs, as :meth:`Backend.entries` says."""
    dtype = spec.dtype if spec.mode != "intensity" else np.result_type(spec.dtype, np.complex64)
    out = torch.empty((len(rows), len(columns)), dtype=getattr(torch, dtype.name), device=device)
    if out.numel() == 0:
        return out
    numbers = np.asarray(rows, np.int64) + spec.row_start
    with torch.no_grad():
        if spec.ensemble == "structured":
            _structured(place, spec, numbers, np.asarray(columns, np.int64), out, scratch)
        else:
            _gaussian(place, spec, numbers, columns, out, scratch)
    return out


def _gaussian(
    place: Place, spec: Spec, rows: Numbers, columns: range | Numbers, out: torch.Tensor, scratch: int
) -> None:
    gpu, device = place.gpu, out.device
    kernel = f"{_KERNELS[spec.mode]}_{dtype_name(torch.view_as_real(out) if out.is_complex() else out)}"
    factor = np.float64(1 / 32 if spec.mode == "real" else 1 / np.sqrt(2048.0))
    width = min(_PANEL_COLUMNS, -(-len(columns) // 128) * 128)
    most = max(1, scratch // (BLOCK * width))
    for here, first_block, blocks in _runs(rows // spec.block_rows, most):
        picks = torch.from_numpy((rows[here] - first_block * spec.block_rows).astype(np.int32)).to(device)
        anchor = None
        if spec.mode == "linear":
            anchor = _readout.anchor_of_blocks(gpu, spec, first_block, blocks, device)
        # The rows of a run are neighbours in the result, or are copied there.
        together = len(here) == 1 or bool((np.diff(here) == 1).all())
        for start in range(0, len(columns), width):
            chosen = columns[start : start + width]
            panel = _panel(place, spec, first_block, blocks, chosen, device)
            target = out[:, start : start + len(chosen)]
            if together:
                part = target[int(here[0]) : int(here[-1]) + 1]
            else:
                part = torch.empty((len(here), len(chosen)), dtype=out.dtype, device=device)
            numbers = _readout.pairs(part) if part.is_complex() else part
            arguments = (
                numbers, np.int64(numbers.stride(0)), np.int64(len(here)), np.int64(len(chosen)), panel,
                np.int64(panel.stride(0)), picks, anchor, factor,
            )  # fmt: skip
            grid = grid_for(gpu, len(here) * len(chosen), 256, 16)
            gpu.launch("matrix.cu", kernel, grid, 256, 0, arguments)
            if not together:
                target[torch.from_numpy(here).to(device)] = part
            gpu.wait()  # so that a long call can be interrupted


def _runs(blocks: Numbers, most: int) -> Iterator[tuple[Numbers, int, int]]:
    """Yield runs of row blocks: the places of the rows in them, in order, their first block and their number."""
    order = np.argsort(blocks, kind="stable")
    begin = 0
    while begin < len(order):
        first = int(blocks[order[begin]])
        end, last = begin + 1, first
        while end < len(order):
            block = int(blocks[order[end]])
            if block - last > _GAP or block - first >= most:
                break
            end, last = end + 1, block
        yield np.sort(order[begin:end]), first, last + 1 - first
        begin = end


def lowest(columns: range | Numbers) -> int:
    """Return the lowest of some columns."""
    return min(columns[0], columns[-1]) if isinstance(columns, range) else int(columns.min())


def far_apart(columns: range | Numbers) -> bool:
    """Return whether columns are too far apart for the kernels, whose lists hold 32 bits of a column."""
    if len(columns) == 0:
        return False
    highest = max(columns[0], columns[-1]) if isinstance(columns, range) else int(columns.max())
    return highest - lowest(columns) >= 1 << 32


def _panel(
    place: Place, spec: Spec, first_block: int, blocks: int, columns: range | Numbers, device: torch.device
) -> torch.Tensor:
    """Return T's entries at these columns, and others up to a multiple of 128, as int8."""
    n = len(columns)
    padded = -(-n // 128) * 128
    panel = torch.empty((BLOCK * blocks, padded), dtype=torch.int8, device=device)
    first = lowest(columns)
    listed: torch.Tensor | None = None
    if not (isinstance(columns, range) and columns.step == 1):
        after = (np.asarray(columns, np.int64) - first).astype(np.uint32)
        listed = torch.zeros(padded, dtype=torch.int32, device=device)
        listed[:n] = torch.from_numpy(after.view(np.int32)).to(device)
    arguments = (
        panel, np.int64(padded), np.uint64(spec.seed), np.uint64(first_block), np.int32(blocks),
        np.uint64(first), listed, np.int32(0), np.int32(padded), None, None, np.int32(0), np.int32(64), TABLE_STRIDE,
    )  # fmt: skip
    grid = grid_for(place.gpu, 32 * (padded // 128) * -(-blocks // 64), 512, 1)
    place.gpu.launch("projection.cu", "panel", grid, 512, TABLE_BYTES, arguments)
    return panel


def _structured(place: Place, spec: Spec, rows: Numbers, columns: Numbers, out: torch.Tensor, scratch: int) -> None:
    """Project unit vectors, a block of rows at a time."""
    device = out.device
    block = rows // ((1 << structured.bits_of(spec.n_inputs)) * 2 // spec.components)
    for b in np.unique(block):
        here = np.flatnonzero(block == b)
        first, last = int(rows[here].min()), int(rows[here].max())
        part = spec.changed(
            n_outputs=last + 1 - first,
            row_start=first,
            mode="complex" if spec.mode == "intensity" else spec.mode,
            dtype=np.dtype(dtype_name(out)),
        )
        picked = torch.from_numpy(rows[here] - first).to(device)
        target = torch.from_numpy(here).to(device)
        step = max(1, min(_UNIT_VECTORS, scratch // (part.n_outputs * out.element_size())))
        for start in range(0, len(columns), step):
            units = _unit_vectors(place, columns[start : start + step], spec.n_inputs, device)
            results = structured.project(place.gpu, place.values, part, units, None, Request(), scratch)
            assert isinstance(results, torch.Tensor)
            out[target, start : start + step] = results[:, picked].T
            place.gpu.wait()


def _unit_vectors(place: Place, columns: Numbers, n_inputs: int, device: torch.device) -> PackedRows[Any]:
    units = unit_vectors(columns, n_inputs)
    return PackedRows(units.name, placed(place, units.batch, device), units.shape)
