"""Fields of vectors over part of the columns on a GPU, and results from fields that were summed over all columns."""

from __future__ import annotations

import torch

from ..._spec import Spec
from . import _packing, _readout
from ._fields import BLOCK, MOST_VECTORS, FieldMaker, Planes
from ._gpu import Gpu
from .packed import DevicePacked
from .projection import ranges


def fields(spec: Spec, batch: DevicePacked, column_start: int, out: torch.Tensor, scratch: int) -> None:
    """Fill `out`, on the GPU of the batch, as :meth:`Backend.fields` says."""
    gpu, width = batch.place.gpu, spec.components
    before = column_start % BLOCK  # kernels begin at a multiple of 16
    if out.numel() == 0:
        return
    with torch.no_grad():
        for first in range(0, batch.n_rows, MOST_VECTORS):
            last = min(batch.n_rows, first + MOST_VECTORS)
            vectors = batch.batch(first, last).vectors
            assert isinstance(vectors, Planes)
            if before:
                vectors = _packing.shifted(gpu, vectors, before)
            maker = FieldMaker(gpu, spec.seed, vectors, scratch, column_start - before)
            for start, stop in ranges(spec, maker, vectors):
                row = spec.row_start + start
                first_block = row // spec.block_rows
                blocks = -(-(spec.row_start + stop) // spec.block_rows) - first_block
                skipped = width * (row - first_block * spec.block_rows)
                found = maker.fields(first_block, blocks)[:, skipped : skipped + width * (stop - start)]
                out[first:last, width * start : width * stop] = found


def read_fields(gpu: Gpu, spec: Spec, whole: torch.Tensor, out: torch.Tensor) -> None:
    """Fill `out`, on the same GPU as `whole`, as :meth:`Backend.read_fields` says."""
    if out.numel():
        with torch.no_grad():
            _readout.read_whole(gpu, spec, whole, out)
