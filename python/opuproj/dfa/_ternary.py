"""Makes the errors of successive passes ternary. Counters alone give each vector's place among the thresholds."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..ternary import TernaryBatch
from ..torch import Ternarize

# The steps between places, in units of 2⁻⁶⁴: the fractional parts of the golden ratio, √2 and √3, made odd. They spread
# the places of any run of passes, vectors and ranks evenly. Integers keep them exact in a training of any length.
_VECTOR = 0x9E3779B97F4A7C15
_PASS = 0x6A09E667F3BCC909
_RANK = 0xBB67AE8584CAA73B
_MASK = 2**64 - 1


@dataclass(frozen=True)
class ErrorTernarizer:
    """Makes errors ternary. Places depend on counters alone, so passes, threads and ranks need no shared state.

    Attributes
    ----------
    seed : int
        The seed of the feedback.
    """

    seed: int

    def __call__(
        self, e: torch.Tensor, rule: Ternarize, *, rank: int, number: int | torch.Tensor
    ) -> tuple[TernaryBatch, torch.Tensor]:
        """Return t, packed, and a, of shape (n, 1), of a ternary error e ≈ a t.

        Parameters
        ----------
        e : Tensor of shape (n, n_inputs)
            The error, on any device. On the CPU one pass compares and packs it.
        rule : Ternarize
            The ternary rule.
        rank : int
            The number of the model's replica.
        number : int or Tensor
            The number of the replica's forward pass; a tensor of int64 on the device of `e` need not be waited for.
        """
        where = places(self.seed, rank, number, len(e), e.device)
        bits, a = rule.pack(e, where)
        return TernaryBatch._of(bits, tuple(e.shape)), a


def places(
    seed: int, rank: int, number: int | torch.Tensor, n: int, device: torch.device | None = None
) -> torch.Tensor:
    """Return the places of a pass's n vectors, of shape (n, 1): multiples of 2⁻⁵³ in [0, 1), as float64.

    They are computed on the device, because a copy from the host would wait for it.
    """
    # Modulo 2⁶⁴, as signed integers, which torch has on every device.
    first: int | torch.Tensor
    if isinstance(number, torch.Tensor):
        first = number * _signed(_PASS) + _signed(_start(seed, rank))
    else:
        first = _signed((_start(seed, rank) + number * _PASS) & _MASK)
    steps = torch.arange(n, device=device)[:, None] * _signed(_VECTOR) + first
    return ((steps >> 11) & (2**53 - 1)).to(torch.float64) * 2.0**-53


def _start(seed: int, rank: int) -> int:
    return (_mixed(seed) + rank * _RANK + _VECTOR // 2) & _MASK


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number


def ternary_reference(
    e: torch.Tensor, rule: Ternarize, *, seed: int, rank: int, number: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return t (int8) and a, on the device of e, as :class:`ErrorTernarizer` computes them with these counters.

    This is an independent calculation for a check: it computes places one by one, and torch compares elements.
    """
    start = _mixed(seed) + rank * _RANK + number * _PASS + _VECTOR // 2
    where = [[((start + i * _VECTOR) % 2**64 >> 11) / 2**53] for i in range(len(e))]
    return rule(e, torch.tensor(where, dtype=torch.float64, device=e.device).reshape(-1, 1))


def _mixed(seed: int) -> int:
    """Return 64 bits, each of which depends on all bits of the seed: the last step of SplitMix64."""
    z = seed & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)
