"""Errors of successive passes made ternary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..ternary import TernaryBatch
from ..torch import Ternarize
from ..torch._packing import packed


@dataclass(frozen=True)
class Ternarized:
    batch: TernaryBatch
    factors: torch.Tensor


class ErrorTernarizer:
    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self, e: torch.Tensor, rule: Ternarize, *, rank: int, number: int) -> Ternarized:
        if e.device.type == "cpu":
            bits, a = rule.pack(e)
            return Ternarized(TernaryBatch._of(bits, tuple(e.shape)), a)
        t, a = rule(e)
        return Ternarized(packed(t), a)

    def state(self) -> dict[str, Any]:
        return {}

    def load(self, state: Any) -> None: ...


def plain(e: torch.Tensor, rule: Ternarize, ternarized: Ternarized) -> tuple[torch.Tensor, torch.Tensor]:
    return rule(e)
