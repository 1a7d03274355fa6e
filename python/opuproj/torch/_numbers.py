"""A few bytes as a tensor that files of tensors, averages and casts leave readable."""

from __future__ import annotations

import zlib

import torch

_CHECK = 4


def tensor_of(data: bytes, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> torch.Tensor:
    """Return bytes and their check value as numbers from 0 to 15, two a byte.

    These are exact in every floating-point dtype, and so small that a mean of equal tensors rounds back to them.
    """
    data += zlib.crc32(data).to_bytes(_CHECK, "little")
    return torch.tensor([half for byte in data for half in (byte & 15, byte >> 4)], dtype=dtype, device=device)


def bytes_of(tensor: torch.Tensor, what: str) -> bytes:
    """Return the bytes that a tensor stands for; raise ValueError, naming it by `what`, if it no longer does."""
    if tensor.is_meta:
        raise ValueError(f"{what} is a tensor on the device 'meta', which holds no values")
    numbers = tensor.detach().flatten().tolist()
    whole = [round(number) if abs(number) < 16 else -1 for number in numbers]  # not those that are NaN either
    if all(0 <= n < 16 and abs(n - number) < 0.25 for n, number in zip(whole, numbers, strict=True)):
        data = bytes(low | high << 4 for low, high in zip(whole[::2], whole[1::2], strict=False))
        data, check = data[:-_CHECK], data[-_CHECK:]
        if len(whole) % 2 == 0 and zlib.crc32(data).to_bytes(_CHECK, "little") == check:
            return data
    raise ValueError(
        f"{what} does not fit its check value: it is damaged, or a mean of those of different matrices, which no "
        "matrix has"
    )
