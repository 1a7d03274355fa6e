"""Stores a few bytes as a tensor, which stays readable after saving, averaging and casting."""

from __future__ import annotations

import zlib

import torch

_CHECK = 4


def tensor_of(data: bytes, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> torch.Tensor:
    """Return bytes and their checksum as numbers from 0 to 15, two per byte.

    These numbers are exact in every floating-point dtype. They are so small that the rounded mean of equal tensors
    gives the same numbers.
    """
    data += zlib.crc32(data).to_bytes(_CHECK, "little")
    return torch.tensor([half for byte in data for half in (byte & 15, byte >> 4)], dtype=dtype, device=device)


def bytes_of(tensor: torch.Tensor, what: str) -> bytes:
    """Return the bytes that a tensor holds; raise ValueError, with the name `what`, if they are damaged."""
    if tensor.is_meta:
        raise ValueError(f"{what} is a tensor on the device 'meta', which holds no values")
    numbers = tensor.detach().flatten().tolist()
    whole = [round(number) if abs(number) < 16 else -1 for number in numbers]  # NaN gives -1
    if all(0 <= n < 16 and abs(n - number) < 0.25 for n, number in zip(whole, numbers, strict=True)):
        data = bytes(low | high << 4 for low, high in zip(whole[::2], whole[1::2], strict=False))
        data, check = data[:-_CHECK], data[-_CHECK:]
        if len(whole) % 2 == 0 and zlib.crc32(data).to_bytes(_CHECK, "little") == check:
            return data
    raise ValueError(
        f"{what} does not fit its check value: it is damaged, or it is a mean over different matrices, which "
        "represents no matrix"
    )
