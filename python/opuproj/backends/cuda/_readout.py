"""Reads results from exact fields on the GPU."""

from __future__ import annotations

import math

import numpy as np
import torch

from ..._spec import Spec
from .. import Read
from ._fields import BLOCK, Planes
from ._gpu import TABLE_BYTES, TABLE_STRIDE, Gpu, dtype_name, grid_for
from ._packing import Batch

_THREADS = 256
# Rows of T in a row block.
_BLOCK_ROWS = 8
# What the integers of T and of G are multiplied by.
_COMPLEX, _REAL = 1 / np.sqrt(2048.0), 1 / 32
# In the order of the kernel.
_ACTIVATIONS = (None, "tanh", "sigmoid", "relu")


def read(
    gpu: Gpu, spec: Spec, fields: torch.Tensor, batch: Batch, first_block: int, blocks: int, results: torch.Tensor
) -> None:
    """Read the results of the rows of a specification from the fields of row blocks."""
    first = (spec.row_start - first_block * spec.block_rows) * spec.components
    anchor = None
    if spec.mode == "linear":
        anchor = anchor_of_blocks(gpu, spec, first_block, blocks, results.device)
    _read(gpu, spec, fields, batch, first, anchor, results)


def _read(
    gpu: Gpu,
    spec: Spec,
    fields: torch.Tensor,
    batch: Batch | None,
    first: int,
    anchor: torch.Tensor | None,
    results: torch.Tensor,
) -> None:
    kernel = spec.mode if spec.mode in ("intensity", "linear") else "scaled"
    if results.is_complex():
        results = pairs(results)
    factor = _REAL if spec.mode == "real" else _COMPLEX
    _launch(gpu, kernel, fields, batch, first, factor, anchor, results)


def read_whole(gpu: Gpu, spec: Spec, fields: torch.Tensor, results: torch.Tensor) -> None:
    """Read the results of all rows of a specification from fields of these rows only."""
    anchor = anchor_field(gpu, spec, results.device) if spec.mode == "linear" else None
    _read(gpu, spec, fields, None, 0, anchor, results)


def read_feedback(
    gpu: Gpu,
    spec: Spec,
    fields: torch.Tensor,
    batch: Batch,
    first: int,
    anchor: torch.Tensor | None,
    factors: torch.Tensor,
    results: torch.Tensor,
    activation: str | None,
    outputs: torch.Tensor | None,
) -> None:
    """Read real results of ternary vectors for layers, from component number `first` of int32 fields.

    `results` has shape (n_layers, n_vectors, width). `outputs` has its shape and strides, if there is an activation.
    """
    layers, rows, width = results.shape
    arguments = (
        results, np.int64(results.stride(0)), np.int64(results.stride(1)), np.int64(width), np.int32(rows),
        np.int32(layers), fields, np.int64(fields.stride(0)), np.int64(first), np.float64(_REAL), anchor,
        batch.bad_rows, factors, np.int32(_ACTIVATIONS.index(activation)), outputs,
    )  # fmt: skip
    kernel = f"{'linear' if spec.mode == 'linear' else 'scaled'}_feedback_{dtype_name(results)}"
    gpu.launch("readout.cu", kernel, grid_for(gpu, layers * rows * _THREADS, _THREADS, 8), _THREADS, 0, arguments)


def pairs(results: torch.Tensor) -> torch.Tensor:
    """Return rows of complex numbers, which are neighbours in memory, as rows of real ones."""
    real = torch.view_as_real(results)
    return real.as_strided((len(real), 2 * real.shape[1]), (real.stride(0), 1))


def read_adjoint(gpu: Gpu, read: Read, fields: torch.Tensor, batch: Batch, results: torch.Tensor) -> None:
    """Scale the sums of the adjoint and round them once."""
    _launch(gpu, "scaled", fields, batch, 0, _REAL if read == "real" else _COMPLEX, None, results)


def measure(
    gpu: Gpu,
    spec: Spec,
    fields: torch.Tensor,
    batch: Batch,
    lit: torch.Tensor,
    first_block: int,
    anchors: torch.Tensor | None,
    results: torch.Tensor,
    *,
    noise_seed: int,
    first_vector: int,
) -> None:
    """Read the results of a camera. `lit` counts the pixels that each vector lights."""
    camera = spec.camera
    assert camera is not None
    first = (spec.row_start - first_block * spec.block_rows) * spec.components
    n_anchors = 0 if anchors is None else len(anchors)
    if results.is_complex():
        results = pairs(results)
    name = f"{spec.mode}_{dtype_name(fields)}_{dtype_name(results)}"
    arguments = (
        results, np.int64(results.stride(0)), np.int64(spec.n_outputs), np.int32(batch.n_rows), fields,
        np.int64(fields.stride(0)), np.int32(first), anchors, np.int64(fields.shape[1]), np.int32(n_anchors),
        np.int32(spec.n_anchor if n_anchors else 0), lit, np.int32(camera.bits or 0), np.float64(camera.full_scale),
        np.float64(math.nan if camera.exposure is None else camera.exposure), np.float64(camera.photons),
        np.float64(camera.read_noise), np.int32(camera.frames), np.float64(camera.dark_floor), np.uint64(noise_seed),
        np.uint64(first_vector), np.uint64(spec.row_start), batch.bad_rows,
    )  # fmt: skip
    grid = grid_for(gpu, batch.n_rows * spec.n_outputs, _THREADS, 8)
    gpu.launch("camera.cu", name, grid, _THREADS, 0, arguments)


def measure_digits(
    gpu: Gpu,
    spec: Spec,
    fields: torch.Tensor,
    batch: Batch,
    lit: torch.Tensor,
    first_block: int,
    anchors: torch.Tensor | None,
    results: torch.Tensor,
    *,
    base: int,
    noise_seed: int,
    first_vector: int,
) -> None:
    """Read the results of a camera that sees the digits of vectors one after the other, and add them up.

    The rows of `fields` and the counts of `lit` are two for each vector, for the highest digit first.
    """
    each = 2 * batch.n_rows
    n_digits = len(fields) // each
    one = torch.empty(results.shape, dtype=results.dtype, device=results.device)
    parts = pairs(results) if results.is_complex() else results
    rows, width = results.shape
    for k in range(n_digits):
        here = slice(k * each, (k + 1) * each)
        first = first_vector + (k << 40)  # gives each digit noise of its own
        measure(
            gpu,
            spec,
            fields[here],
            batch,
            lit[here],
            first_block,
            anchors,
            one,
            noise_seed=noise_seed,
            first_vector=first,
        )
        arguments = (
            parts, np.int64(parts.stride(0)), np.int64(width), np.int32(rows), one, np.int32(k == 0), np.int32(base),
            batch.scales if k == n_digits - 1 else None,
        )  # fmt: skip
        grid = grid_for(gpu, rows * width, _THREADS, 8)
        gpu.launch("digits.cu", f"add_digit_{dtype_name(results)}", grid, _THREADS, 0, arguments)


def camera_anchors(gpu: Gpu, spec: Spec, first_block: int, blocks: int, device: torch.device) -> torch.Tensor | None:
    """Return the fields of a camera's anchors at some row blocks, one a row; None if it needs none."""
    camera = spec.camera
    assert camera is not None
    n_anchors = {"intensity": 0, "linear": 1}.get(spec.mode, camera.anchors)
    if n_anchors == 0:
        return None
    return torch.stack([anchor_of_blocks(gpu, spec, first_block, blocks, device, k) for k in range(n_anchors)])


def lit_pixels(gpu: Gpu, planes: Planes) -> torch.Tensor:
    """Return the number of pixels that the positive and the negative part of each row light, alternating."""
    rows = len(planes.positive)
    counts = torch.empty(2 * rows, dtype=torch.int32, device=planes.positive.device)
    arguments = (counts, planes.positive, planes.negative, np.int32(rows), np.int32(planes.words))
    gpu.launch("camera.cu", "lit_pixels", grid_for(gpu, 32 * rows, _THREADS, 8), _THREADS, 0, arguments)
    return counts


def _launch(
    gpu: Gpu,
    kernel: str,
    fields: torch.Tensor,
    batch: Batch | None,
    first: int,
    factor: float,
    anchor: torch.Tensor | None,
    results: torch.Tensor,
) -> None:
    """Launch a kernel of the readout. Without a batch, each vector is of one part, and no value is bad."""
    weights, scales, bad_rows = ((1,), None, None) if batch is None else (batch.weights, batch.scales, batch.bad_rows)
    four = [np.int64(weight) for weight in (*weights, 0, 0, 0)[:4]]
    rows, width = results.shape
    arguments = (
        results, np.int64(results.stride(0)), np.int64(width), np.int32(rows), fields, np.int64(fields.stride(0)),
        np.int32(first), np.int32(len(weights)), *four, scales, np.float64(factor), anchor, bad_rows,
    )  # fmt: skip
    grid = grid_for(gpu, rows * width, _THREADS, 16)
    name = f"{kernel}_{dtype_name(fields)}_{dtype_name(results)}"
    gpu.launch("readout.cu", name, grid, _THREADS, 0, arguments)


def anchor_of_blocks(
    gpu: Gpu, spec: Spec, first_block: int, blocks: int, device: torch.device, number: int = 0
) -> torch.Tensor:
    """Return the field of anchor number `number` at some row blocks."""
    field = torch.empty(BLOCK * blocks, dtype=torch.int32, device=device)
    column = 2**64 - (number + 1) * spec.n_anchor
    arguments = (
        field, np.uint64(spec.seed), np.uint64(first_block), np.int32(blocks), np.uint64(column),
        np.int32(spec.n_anchor), TABLE_STRIDE,
    )  # fmt: skip
    grid = grid_for(gpu, blocks, 512, 1)
    gpu.launch("projection.cu", "field_of_ones", grid, 512, TABLE_BYTES, arguments)
    return field


def anchor_field(gpu: Gpu, spec: Spec, device: torch.device) -> torch.Tensor:
    """Return the anchor's field at each output: real and imaginary parts alternate."""
    first_block = spec.row_start // _BLOCK_ROWS
    blocks = -(-spec.row_stop // _BLOCK_ROWS) - first_block
    first = 2 * (spec.row_start - first_block * _BLOCK_ROWS)
    return anchor_of_blocks(gpu, spec, first_block, blocks, device)[first:]


def phases(gpu: Gpu, spec: Spec, device: torch.device) -> torch.Tensor:
    """Return r/|r| for the anchor's field r at each output, as pairs of float64: (n_outputs, 2)."""
    field = anchor_field(gpu, spec, device)
    out = torch.empty((spec.n_outputs, 2), dtype=torch.float64, device=device)
    grid = grid_for(gpu, spec.n_outputs, _THREADS, 8)
    gpu.launch("readout.cu", "phases", grid, _THREADS, 0, (out, field, np.int32(0), np.int64(spec.n_outputs)))
    return out
