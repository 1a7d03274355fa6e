"""Exact integer fields of some columns, and what is read of whole ones: for sums that several machines make."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _config, _core
from ..projector import Projector


def fields(operator: Projector, batch: _core.Packed, column_start: int, out: NDArray[np.int32]) -> None:
    """Fill `out`, of shape (n, 2 n_outputs), with √2048 Tx of vectors that begin at a column of T: parts in turn."""
    _core.fields(
        batch,
        out,
        seed=operator.seed,
        row_start=operator.row_start,
        column_start=column_start,
        threads=_config.n_threads(operator.threads),
        isa=_config.isa(),
    )


def read(operator: Projector, whole: NDArray[np.int32], out: NDArray[Any]) -> None:
    """Read fields of all columns, of shape (n, 2 n_outputs), into `out`: the bits that the operator would give."""
    _core.read_fields(
        whole,
        out,
        seed=operator.seed,
        mode=operator.mode,
        row_start=operator.row_start,
        n_anchor=operator.n_anchor,
        threads=_config.n_threads(operator.threads),
        isa=_config.isa(),
    )
