"""Numbers into bit planes, digits and int8 rows by the CUDA kernels, run on the CPU, against results of the package."""

from __future__ import annotations

from typing import Any

import gpu_standin
import numpy as np
import opuproj
import pytest
from helpers import assert_same_bits, ternary
from opuproj import _core

NULL = np.uint64(0)
NONE = 0  # what stands for no bad value; else the complement of a place
INTEGERS = ("int8", "int16", "int32", "int64")
UNSIGNED = ("bool", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float16", "bfloat16", "float32", "float64")
SHAPES = [
    (70, 1), (3, 31), (4, 32), (2, 33), (5, 63), (1, 64), (3, 65), (7, 127), (4, 128), (2, 129), (9, 256), (6, 300),
    (3, 1025),
]  # fmt: skip
GRIDS = (1, 3, 40)


def words_of(n: int) -> int:
    """The words of a row in one plane."""
    return 2 * -(-n // 64)


def stored(x: np.ndarray, name: str, gap: int = 0, shift: int = 0) -> tuple[np.ndarray, np.ndarray, int]:
    """Rows in a dtype, with a gap of bad values after each, from `shift` elements on; their values, and their stride.

    Bfloat16 numbers are stored as their bits.
    """
    if name == "bfloat16":
        bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
        held, bad = (bits >> 16).astype(np.uint16), 0x7FC0
        values = (held.astype(np.uint32) << 16).view(np.float32)
    else:
        with np.errstate(over="ignore"):
            held = values = x.astype(name)
        bad = np.nan if name in FLOATS else 1 if name == "bool" else 100
    stride = x.shape[1] + gap
    memory = np.full(len(x) * stride + shift, bad, held.dtype)
    memory[shift:].reshape(len(x), stride)[:, : x.shape[1]] = held
    return memory[shift:], values, stride


class Packed:
    """What a kernel that makes planes writes; padding is filled with ones before."""

    def __init__(self, kernel: str, rows: int, n: int, *arguments: Any, grid: int = 3, nulls: bool = False) -> None:
        words = words_of(n)
        self.positive, self.negative = np.full((2, rows, words), 2**32 - 1, np.uint32)
        self.counts, self.used = np.zeros(rows, np.int32), np.zeros(words, np.uint32)
        self.bad, self.bad_rows = np.full(1, NONE, np.uint64), np.zeros(rows, np.uint8)
        found = (NULL, NULL) if nulls else (self.counts, self.used)
        errors = () if kernel == "digit_planes" else (self.bad, self.bad_rows)
        gpu_standin.launch(
            "packing.cu", kernel, grid, 64, self.positive, self.negative, *found, *errors, *arguments,
        )  # fmt: skip

    def assert_is(self, batch: opuproj.TernaryBatch) -> None:
        """It holds the elements of a batch, with zeros beyond them, and what is counted along with them."""
        positive, negative = planes(batch)
        assert_same_bits(self.positive, positive)
        assert_same_bits(self.negative, negative)
        assert_same_bits(self.counts, batch.nnz_per_row.astype(np.int32))
        assert_same_bits(self.used, np.bitwise_or.reduce(positive | negative, axis=0))
        assert int(self.bad[0]) == NONE
        assert not self.bad_rows.any()


def planes(batch: opuproj.TernaryBatch) -> tuple[np.ndarray, np.ndarray]:
    """The planes of a batch in words of 32 bits."""
    rows, n = batch.shape
    found = []
    for plane in batch.planes("little"):
        padded = np.zeros((rows, 4 * words_of(n)), np.uint8)
        padded[:, : plane.shape[1]] = plane
        found.append(padded.view("<u4").astype(np.uint32))
    return found[0], found[1]


def pack(x: np.ndarray, name: str, *, gap: int = 0, shift: int = 0, grid: int = 3, nulls: bool = False) -> Packed:
    """Pack numbers in a dtype."""
    (rows, n), (memory, _, stride) = x.shape, stored(x, name, gap, shift)
    where = (memory, np.int64(stride), np.int32(rows), np.int32(n), np.int32(words_of(n)))
    return Packed(f"pack_{name}", rows, n, *where, grid=grid, nulls=nulls)


@pytest.mark.parametrize("name", INTEGERS + UNSIGNED + FLOATS)
def test_ternary_numbers_are_packed_as_on_the_cpu(name: str) -> None:
    for rows, n in SHAPES:
        x = ternary(rows, n, density=0.5, seed=n)
        x = abs(x) if name in UNSIGNED else x
        expected = opuproj.pack(x)
        for gap, shift in ((0, 0), (3, 1), (128, 4)):  # rows at any place, and at multiples of 4 bytes
            pack(x, name, gap=gap, shift=shift, grid=GRIDS[n % 3]).assert_is(expected)


@pytest.mark.parametrize("grid", GRIDS)
def test_the_grid_does_not_matter(grid: int) -> None:
    x = ternary(70, 1025, density=0.01)
    pack(x, "int8", grid=grid).assert_is(opuproj.pack(x))
    pack(x, "float32", grid=grid).assert_is(opuproj.pack(x))


def test_counts_and_columns_in_use_may_be_left_out() -> None:
    x = ternary(5, 300)
    found = pack(x, "int8", nulls=True)
    assert_same_bits((found.positive, found.negative), planes(opuproj.pack(x)))
    assert not found.counts.any()


def test_a_row_in_place_of_all() -> None:
    x = ternary(1, 200)
    where = (x, np.int64(0), np.int32(9), np.int32(200), np.int32(words_of(200)))
    Packed("pack_int8", 9, 200, *where).assert_is(opuproj.pack(np.repeat(x, 9, axis=0)))


def test_negative_zero_is_zero() -> None:
    x = np.array([[-0.0, 1.0, 0.0, -1.0]])
    for name in FLOATS:
        pack(x, name).assert_is(opuproj.pack(x))


# For each dtype, numbers that are not ternary, close to those that are.
BAD = {
    **{name: [2, -2, 127, -128] for name in INTEGERS},
    "int64": [2, -2, 2**32, 2**32 + 1, -(2**63)],
    "int32": [2, -2, 2**16 + 1, -(2**31), 255],
    "int16": [2, 257, 255, -256],
    "uint8": [2, 254, 255],
    "uint16": [2, 2**16 - 1, 257],
    "uint32": [2, 2**32 - 1, 2**16],
    "uint64": [2, 2**64 - 1, 2**32 + 1],
    "float16": [np.nan, np.inf, -np.inf, 0.9995, 1.001, 6e-8, -2],
    "bfloat16": [np.nan, np.inf, -np.inf, 0.9961, 1.0079, 1e-40, -2],
    "float32": [np.nan, np.inf, -np.inf, 1 - 2.0**-24, 1 + 2.0**-23, 1e-45, -2],
    "float64": [np.nan, np.inf, -np.inf, 1 - 2.0**-53, 1 + 2.0**-52, 5e-324, -2],
}


@pytest.mark.parametrize("name", BAD)
def test_the_first_value_that_is_not_ternary(name: str) -> None:
    rows, n = 5, 300
    for number, value in enumerate(BAD[name]):
        x = np.zeros((rows, n), np.float64 if name in FLOATS else name)
        x[4, 7] = value
        for row, column in ((4, 3), (3, n - 1), (0, 0), (0, 129)):
            wrong = x.copy()
            wrong[row, column] = value
            found = pack(wrong, name, gap=number, grid=3)
            assert int(~found.bad[0]) == row * n + column
            assert found.bad_rows.tolist() == [int(i in (row, 4)) for i in range(rows)]


@pytest.mark.parametrize("name", ["int8", "float32"])
def test_the_first_of_many_values_that_are_not_ternary(name: str) -> None:
    for first in (0, 1, 33, 127, 128, 255, 299):
        x = np.zeros((2, 300))
        x[1, first:] = 2
        assert int(~pack(x, name).bad[0]) == 300 + first


# Thresholds


def ternarized(x: np.ndarray, name: str, thresholds: np.ndarray, **options: Any) -> Packed:
    """Compare numbers in a dtype with thresholds, one a row."""
    (rows, n), (memory, _, stride) = x.shape, stored(x, name, 2)
    where = (memory, np.int64(stride), np.int32(rows), np.int32(n), np.int32(words_of(n)))
    return Packed(f"ternarize_{name}", rows, n, *where, thresholds, **options)


def cpu_ternarized(values: np.ndarray, thresholds: np.ndarray) -> opuproj.TernaryBatch:
    """The package's comparison with a threshold a row."""
    wide = values.astype(np.float32) if values.dtype == np.float16 else values
    packer = _core.Packer(*values.shape, None)
    assert packer.push_ternarized(np.ascontiguousarray(wide), thresholds) is None
    return opuproj.TernaryBatch._of(packer.finish(), values.shape)


@pytest.mark.parametrize("name", FLOATS)
def test_numbers_are_compared_with_thresholds_as_on_the_cpu(name: str) -> None:
    for rows, n in SHAPES:
        x = np.random.default_rng(n).standard_normal((rows, n))
        _, values, _ = stored(x, name)
        # Thresholds that are numbers of the row, their neighbours in float64, and others.
        own = abs(values[:, n // 2]).astype(np.float64)
        for thresholds in (own, np.nextafter(own, 0), np.nextafter(own, 9), np.full(rows, 0.1), np.zeros(rows)):
            found = ternarized(x, name, thresholds, grid=GRIDS[n % 3])
            found.assert_is(cpu_ternarized(values, thresholds))


@pytest.mark.parametrize("name", FLOATS)
def test_extreme_numbers_and_thresholds(name: str) -> None:
    row = np.array([0.0, -0.0, 5e-324, -1e-45, 1e-40, 6e-8, -65504.0, 3e38, 1e308, -np.inf, np.inf])
    with np.errstate(over="ignore"):
        _, values, _ = stored(row[None], name)
    for threshold in (0.0, 5e-324, 1e-45, 1e-40, 6e-8, 65504.0, 3.5e38, 1e39, 1e308):
        thresholds = np.array([threshold])
        ternarized(values, name, thresholds).assert_is(cpu_ternarized(values, thresholds))


@pytest.mark.parametrize("name", FLOATS)
def test_the_first_nan(name: str) -> None:
    rows, n = 4, 129
    for row, column in ((0, 0), (1, 128), (3, 127)):
        x = np.full((rows, n), np.inf)
        x[row, column] = x[3, 128] = np.nan
        found = ternarized(x, name, np.ones(rows))
        assert int(~found.bad[0]) == row * n + column
        assert found.bad_rows.tolist() == [int(i in (row, 3)) for i in range(rows)]


# Digits


def largest(x: np.ndarray, name: str, grid: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The largest magnitude of each row, the place of a value that is not finite, and the rows that have one."""
    (rows, n), (memory, _, stride) = x.shape, stored(x, name, 1)
    found, bad, bad_rows = np.zeros(rows, np.uint64), np.full(1, NONE, np.uint64), np.zeros(rows, np.uint8)
    gpu_standin.launch(
        "packing.cu", f"largest_{name}", grid, 64, found, bad, bad_rows, memory, np.int64(stride), np.int32(rows),
        np.int64(n),
    )  # fmt: skip
    return found.view(np.float64), bad, bad_rows


def numbers(rows: int, n: int) -> np.ndarray:
    """Numbers of many magnitudes, and rows of one magnitude or of zeros."""
    random = np.random.default_rng([rows, n])
    x = random.standard_normal((rows, n)) * 2.0 ** random.integers(-12, 12, (rows, n))
    x[rows // 2] = 0
    x[-1] = random.choice([-0.75, 0.75, 0.375], n)
    return x


@pytest.mark.parametrize("name", FLOATS)
def test_the_largest_magnitudes(name: str) -> None:
    for rows, n in [*SHAPES, (2, 5000)]:
        x = numbers(rows, n)
        found, bad, bad_rows = largest(x, name, GRIDS[n % 3])
        assert_same_bits(found, abs(stored(x, name)[1]).max(axis=1).astype(np.float64))
        assert int(bad[0]) == NONE
        assert not bad_rows.any()


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_number_that_is_not_finite(name: str, value: float) -> None:
    rows, n = 4, 2100
    for row, column in ((0, 0), (1, n - 1), (3, 2047), (3, 2048)):
        x = np.ones((rows, n))
        x[row, column] = x[3, n - 1] = value
        found, bad, bad_rows = largest(x, name)
        assert int(~bad[0]) == row * n + column
        assert bad_rows.tolist() == [int(i in (row, 3)) for i in range(rows)]
        assert (found == 1).all()


def encoded(x: np.ndarray, name: str, base: int, n_digits: int, grid: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """The int8 parts, (rows, n_parts, ld), and the scales."""
    rows, n = x.shape
    memory, _, stride = stored(x, name, 1)
    found, _, _ = largest(x, name)
    each, top = (5, (3**n_digits - 1) // 2) if base == 3 else (7, 2**n_digits - 1)
    n_parts, ld = -(-n_digits // each), -(-n // 128) * 128
    parts, scales = np.full((rows, n_parts, ld), 99, np.int8), np.full(rows, np.nan)
    gpu_standin.launch(
        "packing.cu", f"encode_{name}", grid, 64, parts, np.int64(ld), np.int32(n_parts), scales, found, memory,
        np.int64(stride), np.int32(rows), np.int32(n), np.int32(base), np.float64(top),
    )  # fmt: skip
    return parts, scales


def digits_of(parts: np.ndarray, n: int, base: int, digit: int, grid: int = 3) -> Packed:
    """The planes of one digit of encoded numbers, counted from the lowest."""
    rows, n_parts, ld = parts.shape
    arguments = (parts, np.int64(ld), np.int32(n_parts), np.int32(rows), np.int32(n), np.int32(words_of(n)))
    return Packed("digit_planes", rows, n, *arguments, np.int32(base), np.int32(digit), grid=grid)


def assert_encoded_as_on_the_cpu(x: np.ndarray, name: str, base: int, n_digits: int) -> None:
    """Scales, fused digits, their padding and the planes of each digit are those of the package on the CPU."""
    n, grid = x.shape[1], GRIDS[x.shape[1] % 3]
    _, values, _ = stored(x, name)
    batch = opuproj.encode(values, **{"digits" if base == 3 else "planes": n_digits})
    parts, scales = encoded(x, name, base, n_digits, grid)
    assert_same_bits(scales, batch.scale)
    lowest_first = batch.digits[::-1]
    each = 5 if base == 3 else 7
    for part in range(parts.shape[1]):
        digits = [digit.to_numpy(np.int64) for digit in lowest_first[each * part : each * (part + 1)]]
        expected = sum(digit * base**place for place, digit in enumerate(digits))
        assert_same_bits(parts[:, part, :n], expected.astype(np.int8))
    assert not parts[:, :, n:].any()
    for digit, of_digit in enumerate(lowest_first):
        digits_of(parts, n, base, digit, grid).assert_is(of_digit)


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("base", [2, 3])
def test_numbers_are_encoded_as_on_the_cpu(name: str, base: int) -> None:
    for number, (rows, n) in enumerate(SHAPES):
        assert_encoded_as_on_the_cpu(numbers(rows, n), name, base, (5, 1, 8, 10)[number % 4])


@pytest.mark.parametrize("n_digits", range(1, 21))
def test_any_number_of_digits(n_digits: int) -> None:
    x = numbers(3, 300)
    assert_encoded_as_on_the_cpu(x, "float64", 3, n_digits)
    if n_digits <= 15:
        assert_encoded_as_on_the_cpu(x, "float64", 2, n_digits)


@pytest.mark.parametrize("base", [2, 3])
@pytest.mark.parametrize("n_digits", [1, 5, 10, 15])
def test_numbers_halfway_between_two_integers_are_encoded_as_on_the_cpu(base: int, n_digits: int) -> None:
    top = (3**n_digits - 1) // 2 if base == 3 else 2**n_digits - 1
    halves = np.arange(-min(2 * top, 700), min(2 * top, 700) + 1) / 2
    x = np.stack([np.append(halves, top), np.append(halves, -top)])
    for name in ("float32", "float64"):
        assert_encoded_as_on_the_cpu(x, name, base, n_digits)


@pytest.mark.parametrize("n_digits", [1, 5, 14])
def test_numbers_of_extreme_magnitudes_are_encoded_as_on_the_cpu(n_digits: int) -> None:
    limits = np.finfo(np.float64)
    sizes = np.array([limits.max, limits.tiny, 5e-324, 1e-322, 1e-250, np.nextafter(1e-250, 0), 1e300, 0.0])
    x = sizes[:, None] * np.random.default_rng(2).uniform(-1, 1, (len(sizes), 70))
    x[:, 3] = sizes
    assert_encoded_as_on_the_cpu(x, "float64", 3, n_digits)
    assert_encoded_as_on_the_cpu(x, "float64", 2, n_digits)
    for name in ("float16", "bfloat16", "float32"):
        sizes = {"float16": [65504.0, 6e-8, 6.1e-5], "bfloat16": [3.3e38, 1e-40, 1.2e-38]}.get(name, [3.4e38, 1e-45])
        x = np.array(sizes)[:, None] * np.linspace(-1, 1, 65)
        assert_encoded_as_on_the_cpu(x, name, 3, n_digits)


def test_bad_numbers_are_encoded_as_zeros() -> None:
    x = np.array([[1.0, np.nan, -1.0, np.inf, -np.inf]])
    parts, scales = encoded(x, "float32", 3, 5)
    assert parts[0, 0, :5].tolist() == [121, 0, -121, 0, 0]
    assert scales[0] == 1 / 121


# Columns in use, and int8 rows


def choose(used: np.ndarray, counts: list[int], n: int, *costs: int) -> tuple[int, np.ndarray]:
    """The path, and the list of columns in use."""
    columns, count, path = np.full(32 * len(used) + 1, 7, np.uint32), np.full(1, -1, np.int32), np.full(1, 7, np.int32)
    gpu_standin.launch(
        "packing.cu", "choose", 1, 1024, path, columns, count, used, np.int32(len(used)), np.array(counts, np.int32),
        np.int32(len(counts)), np.int32(n), np.int32(64), *map(np.int32, costs),
    )  # fmt: skip
    assert (columns[count[0] :] == 7).all()
    return int(path[0]), columns[: count[0]]


@pytest.mark.parametrize("words", [2, 4, 64, 1022, 1024, 1026, 2048, 5000])
@pytest.mark.parametrize("density", [0.0, 0.001, 0.5, 1.0])
def test_columns_in_use_are_listed_in_order(words: int, density: float) -> None:
    bits = np.random.default_rng(words).random(32 * words) < density
    bits[-1] = density > 0
    used = np.packbits(bits, bitorder="little").view("<u4").astype(np.uint32)
    _, columns = choose(used, [3], 32 * words, 200, 130, 1)
    assert_same_bits(columns, np.flatnonzero(bits).astype(np.uint32))


@pytest.mark.parametrize(
    ("nonzeros", "used", "path"),
    [([3, 0, 20], 600, 0), ([3, 0, 64], 60, 1), ([3, 65], 66, 1), ([900, 900], 999, 2), ([10] * 100, 300, 1)],
)
def test_the_cheapest_path_is_chosen(nonzeros: list[int], used: int, path: int) -> None:
    bits = np.packbits(np.arange(1024) < used, bitorder="little").view("<u4").astype(np.uint32)
    assert choose(bits, nonzeros, 1000, 200, 130, 1)[0] == path


def expand(
    x: np.ndarray, width: int, *, split: bool, columns: Any = NULL, start: int = 0, count: Any = NULL, grid: int = 3
) -> np.ndarray:
    """Int8 rows of the columns number start, start + 1, and so on."""
    rows, n = x.shape
    positive, negative = planes(opuproj.pack(x))
    vectors = rows * (1 + split)
    out = np.full((vectors, width), 77, np.int8)
    gpu_standin.launch(
        "packing.cu", "expand", grid, 64, out, np.int64(width), positive, negative, np.int32(words_of(n)),
        np.int32(vectors), np.int32(split), columns, np.int32(start), count, np.int32(n), NULL, np.int32(0),
    )  # fmt: skip
    return out


def expanded(x: np.ndarray, width: int, split: bool, columns: np.ndarray) -> np.ndarray:
    """The same by NumPy."""
    rows = np.stack([x == 1, x == -1], axis=1).reshape(-1, x.shape[1]) if split else x
    out = np.zeros((len(rows), width), np.int8)
    out[:, : min(width, len(columns))] = rows[:, columns[:width]]
    return out


@pytest.mark.parametrize("split", [False, True])
def test_planes_become_int8_rows(split: bool) -> None:
    for rows, n in SHAPES:
        x = ternary(rows, n, seed=3)
        for start in sorted({0, n // 2, n // 3 * 4 % n, n - 1}):
            for width in (128, 384):
                found = expand(x, width, split=split, start=start, grid=GRIDS[n % 3])
                assert_same_bits(found, expanded(x, width, split, np.arange(start, n)))


@pytest.mark.parametrize("split", [False, True])
def test_columns_of_a_list_become_int8_rows(split: bool) -> None:
    for rows, n in SHAPES:
        x = ternary(rows, n, density=0.3 / rows, seed=4)
        columns = np.flatnonzero(x.any(axis=0))
        count = np.array([len(columns)], np.int32)
        listed = np.append(columns, np.full(n + 1 - len(columns), 2**31)).astype(np.uint32)
        for start in (0, len(columns) // 2):
            found = expand(x, 256, split=split, columns=listed, start=start, count=count)
            assert_same_bits(found, expanded(x, 256, split, columns[start:]))


def test_a_count_limits_a_range() -> None:
    x = ternary(4, 300)
    for count in (0, 1, 6, 299, 300):
        found = expand(x, 384, split=False, count=np.array([count], np.int32))
        assert_same_bits(found, expanded(x, 384, False, np.arange(count)))


@pytest.mark.parametrize("path", [0, 1, 2])
def test_lists_or_rows_by_the_path(path: int) -> None:
    x = ternary(3, 300, density=0.02)
    positive, negative = planes(opuproj.pack(x))
    columns = np.flatnonzero(x.any(axis=0)).astype(np.uint32)
    lists, counts, rows = np.full((3, 64), 7, np.uint32), np.full(3, 7, np.int32), np.full((3, 384), 7, np.int8)
    gpu_standin.launch(
        "packing.cu", "lists_or_rows", 3, 64, lists, counts, np.int32(64), rows, np.int64(384), positive, negative,
        np.int32(words_of(300)), np.int32(3), np.int32(0), columns, np.array([len(columns)], np.int32), np.int32(300),
        np.array([path], np.int32),
    )  # fmt: skip
    for vector, own in enumerate(lists):
        wanted = np.flatnonzero(x[vector])
        listed = (2 * wanted + (x[vector, wanted] < 0)).tolist() if path == 0 else []
        assert own.tolist() == listed + [7] * (64 - len(listed))
    assert counts.tolist() == (np.count_nonzero(x, axis=1).tolist() if path == 0 else [7] * 3)
    assert_same_bits(rows, expanded(x, 384, False, columns) if path == 1 else np.full((3, 384), 7, np.int8))
