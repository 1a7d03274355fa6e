"""Converts vectors on the GPU to the forms that are multiplied: ternary ones to bit planes, real ones to digits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ...inputs.tensors import DeviceRows
from ._fields import Bytes, Planes
from ._gpu import Gpu, dtype_name, grid_for
from ._values import Values

# Digits of a base that one int8 number holds.
_DIGITS = {2: 7, 3: 5}
_THREADS = 256


@dataclass
class Batch:
    """Vectors in the form that is multiplied. The fields of an input are weighted sums of those of its parts."""

    vectors: Planes | Bytes
    weights: tuple[int, ...]
    # The factor of each input's sums: float64, (n_rows,); None for ternary vectors.
    scales: torch.Tensor | None
    # The complement of the place of the first bad value, or 0: int64, (1,). None if the values were checked before.
    bad: torch.Tensor | None
    # Not 0 for an input with a bad value, whose results are NaN: uint8, (n_rows,).
    bad_rows: torch.Tensor

    @property
    def n_rows(self) -> int:
        """The number of inputs."""
        return len(self.bad_rows)


def batch(
    gpu: Gpu, values: Values, rows: DeviceRows, x: torch.Tensor, first_row: int, digits: tuple[int, int] | None
) -> Batch:
    """Convert rows x of an input, whose first one is `first_row`, to ternary vectors or to digits (base, number)."""
    found = _ternary(gpu, x) if digits is None else encode(gpu, x, *digits)
    assert found.bad is not None
    values.watch(
        found.bad,
        rows,
        f"-1, 0 or 1; {rows.advice}" if digits is None else "finite for encoding",
        captured=gpu.capturing(),
        width=rows.n_inputs,
        place_of=lambda row, column: (first_row + row, column),
    )
    return found


def _ternary(gpu: Gpu, x: torch.Tensor) -> Batch:
    """Pack rows of -1, 0 and 1."""
    x = _rows(x)
    rows, n = x.shape
    planes, bad, bad_rows = _empty(rows, n, x.device)
    arguments = (
        planes.positive, planes.negative, planes.counts, planes.used, bad, bad_rows, x, np.int64(x.stride(0)),
        np.int32(rows), np.int32(n), np.int32(planes.words),
    )  # fmt: skip
    _launch(gpu, f"pack_{dtype_name(x)}", 32 * rows * -(-n // 128), arguments)
    return Batch(planes, (1,), None, bad, bad_rows)


def ternarized(gpu: Gpu, x: torch.Tensor, thresholds: torch.Tensor) -> Batch:
    """Pack 1 above each row's threshold and -1 below its negative; only NaN is a bad value."""
    x = floats(x)
    rows, n = x.shape
    planes, bad, bad_rows = _empty(rows, n, x.device)
    arguments = (
        planes.positive, planes.negative, planes.counts, planes.used, bad, bad_rows, x, np.int64(x.stride(0)),
        np.int32(rows), np.int32(n), np.int32(planes.words), thresholds.contiguous(),
    )  # fmt: skip
    _launch(gpu, f"ternarize_{dtype_name(x)}", 32 * rows * -(-n // 128), arguments)
    return Batch(planes, (1,), None, bad, bad_rows)


def surveyed(gpu: Gpu, positive: torch.Tensor, negative: torch.Tensor, n_inputs: int) -> Planes:
    """Return planes with the nonzeros of each row counted, and the columns that the rows use."""
    rows, words = positive.shape
    zeros = torch.zeros(rows + words, dtype=torch.int32, device=positive.device)
    planes = Planes(positive, negative, zeros[:rows], zeros[rows:], n_inputs)
    arguments = (planes.counts, planes.used, positive, negative, np.int32(rows), np.int32(words))
    _launch(gpu, "survey", rows * words, arguments)
    return planes


def shifted(gpu: Gpu, planes: Planes, by: int) -> Planes:
    """Return planes with so many zeros, at most 31, before the elements of each row."""
    n = planes.n_inputs + by
    words = 2 * -(-n // 64)

    def moved(plane: torch.Tensor) -> torch.Tensor:
        bits = (plane.to(torch.int64) & 0xFFFFFFFF) << by
        out = bits.new_zeros((len(bits), planes.words + 1))
        out[:, :-1] = bits & 0xFFFFFFFF
        out[:, 1:] |= bits >> 32
        out = (out ^ 1 << 31) - (1 << 31)  # the same 32 bits as a signed number
        return out[:, :words].to(torch.int32).contiguous()

    return surveyed(gpu, moved(planes.positive), moved(planes.negative), n)


def unpacked(gpu: Gpu, planes: Planes) -> torch.Tensor:
    """Return the elements as int8, (n_rows, n_inputs)."""
    rows, n = len(planes.positive), planes.n_inputs
    width = -(-n // 128) * 128
    out = torch.empty((rows, width), dtype=torch.int8, device=planes.positive.device)
    arguments = (
        out, np.int64(width), planes.positive, planes.negative, np.int32(planes.words), np.int32(rows), np.int32(0),
        None, np.int32(0), None, np.int32(n), None, np.int32(0),
    )  # fmt: skip
    _launch(gpu, "expand", rows * width // 4, arguments)
    return out[:, :n]


def digit(gpu: Gpu, vectors: Bytes, n_parts: int, base: int, number: int) -> Planes:
    """Return one digit of encoded rows, counted from the lowest, as planes."""
    rows = len(vectors.x) // n_parts
    planes, _, _ = _empty(rows, vectors.n_inputs, vectors.x.device)
    _fill_digit(gpu, planes, vectors, n_parts, base, number)
    return planes


def digits(gpu: Gpu, vectors: Bytes, n_parts: int, base: int, n_digits: int) -> Planes:
    """Return all digits of encoded rows as planes: the highest digit of all rows, then the next one of all rows."""
    rows = len(vectors.x) // n_parts
    planes, _, _ = _empty(n_digits * rows, vectors.n_inputs, vectors.x.device)
    for k in range(n_digits):
        here = slice(k * rows, (k + 1) * rows)
        part = replace(
            planes, positive=planes.positive[here], negative=planes.negative[here], counts=planes.counts[here]
        )
        _fill_digit(gpu, part, vectors, n_parts, base, n_digits - 1 - k)
    return planes


def _fill_digit(gpu: Gpu, planes: Planes, vectors: Bytes, n_parts: int, base: int, number: int) -> None:
    rows, ld = len(planes.positive), int(vectors.x.shape[1])
    arguments = (
        planes.positive, planes.negative, planes.counts, planes.used, vectors.x, np.int64(ld), np.int32(n_parts),
        np.int32(rows), np.int32(vectors.n_inputs), np.int32(planes.words), np.int32(base), np.int32(number),
    )  # fmt: skip
    _launch(gpu, "digit_planes", 32 * rows * -(-vectors.n_inputs // 128), arguments)


def joined(gpu: Gpu, digits: Sequence[Planes], base: int) -> tuple[Bytes, tuple[int, ...]]:
    """Return rows whose digits are given, the highest first, and the weights of their parts: as `encode` does."""
    n_parts, rows, n = -(-len(digits) // _DIGITS[base]), len(digits[0].positive), digits[0].n_inputs
    parts = torch.zeros((rows, n_parts, -(-n // 128) * 128), dtype=torch.int8, device=digits[0].positive.device)
    for number, planes in zip(range(len(digits) - 1, -1, -1), digits, strict=True):
        part = parts[:, number // _DIGITS[base], :n]
        part *= base
        part += unpacked(gpu, planes)
    return Bytes(parts.view(rows * n_parts, parts.shape[2]), n), _weights(base, n_parts)


def _weights(base: int, n_parts: int) -> tuple[int, ...]:
    return tuple(base ** (_DIGITS[base] * part) for part in range(n_parts))


def _empty(rows: int, n_inputs: int, device: torch.device) -> tuple[Planes, torch.Tensor, torch.Tensor]:
    """Return planes for a kernel to fill, with counts and columns in use of 0; a word, and a zero for each row."""
    words = 2 * -(-n_inputs // 64)
    # One tensor for what begins with zeros, so that one launch clears it. The word of 64 bits comes first.
    sizes = (2, words, rows, -(-rows // 4))
    bad, used, counts, bad_rows = torch.zeros(sum(sizes), dtype=torch.int32, device=device).split_with_sizes(sizes)
    positive, negative = torch.empty((2, rows, words), dtype=torch.int32, device=device).unbind()
    planes = Planes(positive, negative, counts, used, n_inputs)
    return planes, bad.view(torch.int64), bad_rows.view(torch.uint8)[:rows]


def encode(gpu: Gpu, x: torch.Tensor, base: int, n_digits: int) -> Batch:
    """Round rows of real numbers to digits, with the CPU's integers and scales."""
    x = floats(x)
    rows, n = x.shape
    top = (3**n_digits - 1) // 2 if base == 3 else 2**n_digits - 1
    n_parts = -(-n_digits // _DIGITS[base])
    ld = -(-n // 128) * 128
    found, bad, bad_rows = _found(gpu, x)
    scales = torch.empty(rows, dtype=torch.float64, device=x.device)
    parts = torch.empty((rows * n_parts, ld), dtype=torch.int8, device=x.device)
    name, where = dtype_name(x), (x, np.int64(x.stride(0)), np.int32(rows), np.int32(n))
    arguments = (parts, np.int64(ld), np.int32(n_parts), scales, found, *where, np.int32(base), np.float64(top))
    _launch(gpu, f"encode_{name}", rows * ld, arguments)
    return Batch(Bytes(parts, n), _weights(base, n_parts), scales, bad, bad_rows)


def floats(x: torch.Tensor) -> torch.Tensor:
    """Return rows in a floating-point dtype that the kernels read; only integers beyond 2**53 are rounded."""
    if not x.is_floating_point():
        narrow = x.dtype == torch.bool or x.element_size() <= 2
        x = x.to(torch.float32 if narrow else torch.float64)
    return _rows(x)


def largest(gpu: Gpu, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the largest magnitude of each row, NaN if it is not finite, and `bad` of a batch."""
    found, bad, bad_rows = _found(gpu, x)
    return torch.where(bad_rows.bool(), torch.nan, found.view(torch.float64)), bad


def _found(gpu: Gpu, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the bits of each row's largest magnitude, `bad` and `bad_rows` of a batch."""
    rows, n = x.shape
    # One tensor, so that one launch clears it.
    zeros = torch.zeros(1 + rows + -(-rows // 8), dtype=torch.int64, device=x.device)
    bad, found, bad_rows = zeros[:1], zeros[1 : 1 + rows], zeros[1 + rows :].view(torch.uint8)[:rows]
    arguments = (found, bad, bad_rows, x, np.int64(x.stride(0)), np.int32(rows), np.int64(n))
    _launch(gpu, f"largest_{dtype_name(x)}", 32 * rows * -(-n // 2048), arguments)
    return found, bad, bad_rows


def _rows(x: torch.Tensor) -> torch.Tensor:
    """Return rows whose numbers are neighbours in memory, in a dtype that the kernels read."""
    x = x.resolve_neg()  # `z.conj().imag` stores the numbers without their sign
    if x.is_floating_point() and x.element_size() == 1:
        x = x.to(torch.float32)
    return x if x.shape[1] == 1 or x.stride(1) == 1 else x.contiguous()


def _launch(gpu: Gpu, kernel: str, threads: int, arguments: tuple[object, ...]) -> None:
    gpu.launch("packing.cu", kernel, grid_for(gpu, threads, _THREADS, 8), _THREADS, 0, arguments)
