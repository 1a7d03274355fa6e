"""Fields on a GPU that are kept, so that each part of the results is read where it is needed, in its own dtype."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..._spec import Spec
from .. import Activation
from . import _packing, _readout
from ._fields import MOST_VECTORS, FieldMaker
from ._gpu import Gpu
from .packed import DevicePacked


@dataclass(frozen=True)
class Unread:
    """Implements :class:`opuproj.backends.Unread`."""

    gpu: Gpu
    spec: Spec
    # Some vectors each, and their fields: int32, (n_vectors, components of the row blocks).
    groups: tuple[tuple[_packing.Batch, torch.Tensor], ...]
    # The anchor's field in the same row blocks, for mode "linear".
    anchor: torch.Tensor | None
    # The component of the first result.
    first: int

    def read(self, start: int, stop: int, factors: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Return a part of the results, as the contract says. `factors` has shape (n, 1)."""
        kept = dtype if factors.dtype == torch.float32 and dtype == torch.bfloat16 else factors.dtype
        results = torch.empty((1, len(factors), stop - start), dtype=kept, device=factors.device)
        self._read(start, factors, results, None, None)
        return results[0]

    def read_layers(
        self, start: int, factors: torch.Tensor, outputs: torch.Tensor, activation: Activation
    ) -> torch.Tensor | None:
        """Return the results for some layers, as the contract says. `factors` has shape (n, 1)."""
        wide = torch.float64 if outputs.dtype == torch.float64 else torch.float32
        if outputs.dtype == torch.float16 or factors.dtype != wide or not outputs.is_contiguous():
            return None
        results = torch.empty_like(outputs)
        self._read(start, factors, results, activation, outputs)
        return results

    def _read(
        self,
        start: int,
        factors: torch.Tensor,
        results: torch.Tensor,
        activation: Activation,
        outputs: torch.Tensor | None,
    ) -> None:
        factors = factors.contiguous()
        first_vector, component = 0, self.first + self.spec.components * start
        for batch, fields in self.groups:
            these = slice(first_vector, first_vector + batch.n_rows)
            first_vector += batch.n_rows
            if results[:, these].numel():
                _readout.read_feedback(
                    self.gpu,
                    self.spec,
                    fields,
                    batch,
                    component,
                    self.anchor,
                    factors[these],
                    results[:, these],
                    activation,
                    None if outputs is None else outputs[:, these],
                )


def unread(gpu: Gpu, spec: Spec, batch: DevicePacked, scratch: int) -> Unread | None:
    """Compute the fields of a batch, or return None if they need 64 bits or do not fit the scratch memory at once."""
    first_block = spec.row_start // spec.block_rows
    blocks = -(-spec.row_stop // spec.block_rows) - first_block
    groups = []
    for first in range(0, batch.n_rows, MOST_VECTORS):
        part = batch.batch(first, min(batch.n_rows, first + MOST_VECTORS))
        maker = FieldMaker(gpu, spec.seed, part.vectors, scratch)
        if maker.blocks_at_once < blocks:
            return None
        fields = maker.fields(first_block, blocks)
        if fields.dtype != torch.int32:
            return None
        groups.append((part, fields))
    anchor = None
    if spec.mode == "linear":
        anchor = _readout.anchor_of_blocks(gpu, spec, first_block, blocks, batch.bad_rows.device)
    skipped = spec.components * (spec.row_start - first_block * spec.block_rows)
    return Unread(gpu, spec, tuple(groups), anchor, skipped)
