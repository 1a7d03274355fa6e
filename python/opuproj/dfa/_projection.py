"""An error through the rows of T that the blocks share: ternary on the operator, or float through tiles of R."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch

from .. import _structured
from ..camera import Camera
from ..projector import Projector
from ..ternary import TernaryBatch
from ..torch._camera import noise_for, seed_of
from ._ternary import Ternarized

_TILE_BYTES = 32 << 20
_KEPT_BYTES = 64 << 20
_COLUMNS = 1024


@dataclass(frozen=True)
class TernaryError:
    """An error e ≈ a t of shape (n, n_inputs): t packed, a of shape (n, 1), and the seed of the camera's noise."""

    batch: TernaryBatch
    factors: torch.Tensor
    noise_seed: int | None

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, n_inputs)."""
        return self.batch.shape


def made_ternary(done: Ternarized, camera: Camera | None) -> TernaryError:
    """Return what was made ternary, on its way to a camera that may make noise."""
    return TernaryError(done.batch, done.factors, seed_of(noise_for(camera)))


def ternary(error: TernaryError, operator: Projector, camera: Camera | None) -> torch.Tensor:
    """Return R t, of shape (n, n_rows)."""
    return torch.from_numpy(operator.seen_by(camera)(error.batch, noise_seed=error.noise_seed))


@dataclass
class Dense:
    """R e for float e, which a structured R takes as it is.

    Else R is generated a tile at a time, as the projections of unit vectors, and multiplied by torch.

    Matrices of up to 64 MiB are kept between calls.
    """

    _of: Projector | None = None
    _kept: dict[tuple[int, int], torch.Tensor] = field(default_factory=dict)

    def __call__(self, e: torch.Tensor, operator: Projector, blocks: Sequence[range]) -> torch.Tensor:
        """Return R e for e of shape (n, n_inputs), on consecutive ranges of rows, as one matrix.

        No tile has rows of two ranges: a product of floats depends on the shape of its tile, but shall not on what else
        is computed here.
        """
        dtype = torch.float64 if operator.dtype == np.float64 else torch.float32
        e = e.to(dtype)
        first_row, n_rows = (blocks[0].start if blocks else 0), sum(map(len, blocks))
        if operator.ensemble == "structured":
            return _structured_product(e, operator[first_row : first_row + n_rows])
        result = e.new_zeros(len(e), n_rows)
        keep = operator.n_inputs * n_rows * dtype.itemsize <= _KEPT_BYTES
        if self._of != operator:
            self._of, self._kept = operator, {}
        # Not in the precision of an autocast around the backward pass.
        with torch.no_grad(), torch.autocast(e.device.type, enabled=False):
            for first in range(0, operator.n_inputs, _COLUMNS):
                columns = range(first, min(first + _COLUMNS, operator.n_inputs))
                for start, stop in _row_tiles(blocks, len(columns), dtype.itemsize):
                    tile = self._kept.get((first, start))
                    if tile is None or tile.device != e.device:
                        tile = _tile(operator[start:stop], columns).to(e.device)
                        if keep:
                            self._kept[first, start] = tile
                    result[:, start - first_row : stop - first_row].addmm_(e[:, columns.start : columns.stop], tile)
        return result


def _structured_product(e: torch.Tensor, operator: Projector) -> torch.Tensor:
    """Return R e; of errors that are not finite, as a loss scaler has them, NaN."""
    finite = torch.isfinite(e).all(dim=1, keepdim=True)
    result = cast(torch.Tensor, operator(torch.where(finite, e, 0.0)))
    return torch.where(finite, result, torch.nan)


def _row_tiles(blocks: Sequence[range], n_columns: int, itemsize: int) -> Iterator[tuple[int, int]]:
    step = max(1, _TILE_BYTES // (n_columns * itemsize))
    for rows in blocks:
        for start in range(rows.start, rows.stop, step):
            yield start, min(start + step, rows.stop)


def _tile(operator: Projector, columns: range) -> torch.Tensor:
    """Return these columns of R, transposed, of shape (n_columns, n_outputs)."""
    units = _structured.unit_vectors(np.arange(columns.start, columns.stop, dtype=np.int64), operator.n_inputs)
    return torch.from_numpy(operator(units))
