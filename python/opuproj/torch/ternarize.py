"""`Ternarize` rounds real vectors to ternary ones: x ≈ a t, with t of -1, 0 and 1 and a factor a for each vector."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, cast

import torch

from .._device_batch import DeviceBatch
from ..backends import Packed, backend_for
from ..inputs.arrays import array_rows
from .rules import Dither, PlacedRule, Rule, norm, norm_of_all

Norm = Literal["row", "batch", "none"]
NORMS: tuple[Norm, ...] = ("row", "batch", "none")

DEFAULT_RULE: Rule = Dither(4.0)


@dataclass(frozen=True)
class Ternarize:
    r"""Round real vectors to ternary vectors: e ≈ a t, where t is -1, 0 or 1.

    t is 1 where e > threshold, -1 where e < -threshold, and 0 elsewhere (also at ties). `rule` gives each vector's
    threshold. The factor a restores the size of the error, which t does not contain:

    - ``norm="row"``: a = \|\|e\|\| / \|\|t\|\| for each vector, so that \|\|a t\|\| = \|\|e\|\|;
    - ``norm="batch"``: the same for all vectors together. There is one factor, so vectors with more nonzeros count
      more;
    - ``norm="none"``: a = 1, as on the device.

    The factor is applied after the projection, in floating point.

    Attributes
    ----------
    rule : Rule
        :class:`Dither`, :class:`Fixed`, :class:`RowMax`, :class:`RowStd`, :class:`BatchMax`, :class:`TopK`, or any
        object with a method ``thresholds``; ``Dither(4.0)`` by default.
    norm : {"row", "batch", "none"}, default "batch"
        The norm that a restores.

    Notes
    -----
    For a vector that holds an infinity or NaN, t = 0 and a = NaN. So its results are NaN, as in backpropagation, and
    gradient scalers find it.

    Examples
    --------
    >>> import torch
    >>> from opuproj.torch import RowMax, Ternarize
    >>> t, a = Ternarize(RowMax(0.5), norm="row")(torch.tensor([[3.0, -4.0, 0.0, 1.0]]))
    >>> t
    tensor([[ 1, -1,  0,  0]], dtype=torch.int8)
    >>> round(float(a), 4)  # √26 / √2
    3.6056
    """

    rule: Rule = DEFAULT_RULE
    norm: Norm = "batch"

    def __post_init__(self) -> None:
        if isinstance(self.rule, type) or not isinstance(self.rule, Rule):
            raise TypeError(f"rule is {self.rule!r}, but must be a rule such as RowMax(0.25)")
        if not isinstance(self.norm, str) or self.norm not in NORMS:
            raise ValueError(f"norm is {self.norm!r}, but must be one of {', '.join(map(repr, NORMS))}")

    def __call__(self, e: torch.Tensor, places: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        r"""Round vectors to ternary vectors.

        Parameters
        ----------
        e : Tensor of shape (..., n_inputs)
            Floating-point numbers, on any device.
        places : Tensor of shape (..., 1), optional
            A number from 0 to less than 1 for each vector, in float64, for a :class:`PlacedRule` such as
            :class:`Dither`. Other rules ignore it. With places, \|\|t\|\| above is its average over all places, so a
            does not depend on the places of a small batch. By default, the rule uses a vector's index in the batch.

        Returns
        -------
        t : Tensor of shape (..., n_inputs), int8
        a : Tensor of shape (..., 1), float32 (float64 for e of float64)
        """
        rows = _rows(e)
        finite = rows.isfinite().all(dim=1, keepdim=True)
        rows = torch.where(finite, rows, 0)
        thresholds, counts = self._thresholds(rows, None if places is None else places.reshape(-1, 1))
        t = (rows > thresholds).to(torch.int8) - (rows < -thresholds).to(torch.int8)
        a = self._factors(rows, t.count_nonzero(dim=1)[:, None] if counts is None else counts, finite)
        return t.reshape(e.shape), a.reshape(*e.shape[:-1], 1)

    def pack(self, e: torch.Tensor, places: torch.Tensor | None = None) -> tuple[Packed, torch.Tensor]:
        """Return the packed t, and a, for a tensor of shape (n, n_inputs): the values of a call, in one pass.

        On a GPU, t stays there, and nothing waits for the GPU.
        """
        numbers = _rows(e)
        finite = numbers.isfinite().all(dim=1, keepdim=True)
        rows = array_rows("e", numbers)
        if rows.device != "cpu" or not bool(finite.all()):  # a GPU is not waited for
            numbers = torch.where(finite, numbers, 0)
            rows = array_rows("e", numbers)
        thresholds, counts = self._thresholds(numbers, places)
        packed = backend_for(rows).ternarize(rows, thresholds.reshape(-1).contiguous())
        if counts is None:
            on_device = isinstance(packed, DeviceBatch)
            nonzeros = packed.nonzeros() if on_device else torch.from_numpy(packed.row_nnz()).to(numbers.device)
            counts = nonzeros.reshape(-1, 1)
        return packed, self._factors(numbers, counts, finite)

    def _thresholds(self, rows: torch.Tensor, places: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return each vector's threshold and, if places determine it, the average number of survivors."""
        counts = None
        if places is not None and hasattr(self.rule, "placed"):  # isinstance() of a protocol is slow
            thresholds, counts = cast(PlacedRule, self.rule).placed(rows, places)
        else:
            thresholds = self.rule.thresholds(rows)
        if thresholds.shape != (rows.shape[0], 1):
            raise ValueError(
                f"{self.rule} returned thresholds of shape {tuple(thresholds.shape)} for {rows.shape[0]} vectors, but "
                f"must return one for each, of shape ({rows.shape[0]}, 1)"
            )
        return thresholds.clamp(min=0), counts

    def _factors(self, rows: torch.Tensor, counts: torch.Tensor, finite: torch.Tensor) -> torch.Tensor:
        if self.norm == "none":
            a = rows.new_ones(rows.shape[0], 1)
        else:
            norms = norm(rows)
            if self.norm == "batch":
                norms, counts = norm_of_all(norms), counts.sum()
            counts = torch.where(counts > 0, counts, 1).to(torch.float64)
            a = (norms / counts.sqrt()).to(rows.dtype).expand(rows.shape[0], 1)
        return torch.where(finite, a, math.nan)


def _rows(e: torch.Tensor) -> torch.Tensor:
    """Return e as a matrix of float32 or float64."""
    if not e.is_floating_point():
        raise TypeError(f"e has dtype {e.dtype}, but must hold floating-point numbers for ternarize")
    if e.ndim == 0 or e.shape[-1] == 0:
        raise ValueError(f"e has shape {tuple(e.shape)}, but must have shape (..., n_inputs) with at least one input")
    rows = e.detach().reshape(-1, e.shape[-1]).contiguous()
    return rows if rows.dtype == torch.float64 else rows.to(torch.float32)
