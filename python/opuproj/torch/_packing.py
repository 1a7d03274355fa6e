"""Tensors packed where they are."""

from __future__ import annotations

import torch

from .. import _core
from ..ternary import TernaryBatch

# What an error about a value that is not ternary says at its end.
ADVICE = "give ternarize= or digits= for other values"


def packed(x: torch.Tensor) -> TernaryBatch:
    """Pack a tensor on its own device and bring only the bits, two an element, to the CPU."""
    rows = x.detach().reshape(-1, x.shape[-1])
    positive = rows == 1
    negative = rows == -1 if rows.dtype.is_signed else torch.zeros_like(positive)
    wrong = ~(positive | negative | (rows == 0))
    if bool(wrong.any()):
        index = torch.nonzero(wrong.reshape(x.shape))[0].tolist()
        place = f"x[{', '.join(map(str, index))}]"
        raise ValueError(f"{place} is {x[tuple(index)].item()}, but must be -1, 0 or 1; {ADVICE}")
    planes = bits(positive).cpu().numpy(), bits(negative).cpu().numpy()
    return TernaryBatch._of(_core.Packed.from_planes(planes[0], planes[1], x.shape[-1], False), tuple(x.shape))


def bits(plane: torch.Tensor) -> torch.Tensor:
    """Return booleans of shape (n, k) as bytes of shape (n, ceil(k / 8)), least significant bit first."""
    n, k = plane.shape
    padded = torch.nn.functional.pad(plane.to(torch.uint8), (0, -k % 8)).reshape(n, -(-k // 8), 8)
    weights = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8, device=plane.device)
    return (padded * weights).sum(dim=2, dtype=torch.uint8)
