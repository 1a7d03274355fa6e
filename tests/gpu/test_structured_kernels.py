"""The structured ensemble by the CUDA kernels, run on the CPU, against the definition in NumPy and the package."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from typing import Any

import gpu_standin
import numpy as np
import opuproj
import oracle
import pytest
import structured_oracle
from helpers import assert_same_bits, ternary

NULL = np.uint64(0)
STRIDE = np.uint32(128)
SMALLEST_BLOCK = 2**56 - 8  # of 256 rows, near the last row of all
MODES = {"complex": 0, "intensity": 1, "linear": 2, "real": 3}
FLOAT32, FLOAT64, PLANES = np.int32(0), np.int32(1), np.int32(2)
N_ANCHOR = 64


class Transform:
    """The passes for one n, as a host launches them."""

    def __init__(self, bits: int, *macros: str) -> None:
        self.n, self.macros = 1 << bits, (f"LOG2_N={bits}", *macros)
        split = {name: int(value) for name, value in (macro.split("=") for macro in macros)}
        short = bits <= 14
        self.along = split.get("ALONG", bits if short else 10 if bits <= 20 else bits - 10)
        self.middle = split.get("MIDDLE", 0)
        self.across = bits - self.along - self.middle

    def launch(self, kernel: str, threads: int, *arguments: Any, grid: int = 3) -> None:
        gpu_standin.launch("structured.cu", kernel, grid, threads, *arguments, macros=self.macros)

    def signs(self, seed: int, first: int, count: int) -> np.ndarray:
        out = np.full(count * self.n // 32, 0xAAAAAAAA, np.uint32)
        self.launch("signs", 64, out, np.uint64(seed), np.uint64(first), np.int64(count), STRIDE)
        return out

    def project(
        self, seed: int, source: tuple[Any, ...], n_vectors: int, results: tuple[Any, ...], first_block: int,
        n_blocks: int, chunk: int = 1,
    ) -> None:  # fmt: skip
        """Write results of some blocks. `source` and `results` are the arguments that several kernels share."""
        vectors, blocks, parts = np.int64(n_vectors), np.int64(n_blocks), np.int64(2 * n_blocks)
        d1, d = self.signs(seed, 0, 1), self.signs(seed, 1 + 4 * first_block, 4 * n_blocks)
        row_threads = max(64, 1 << (self.along - 5))
        if not self.across:
            counts = np.int32(n_vectors), np.int32(n_blocks), np.int32(chunk)
            self.launch("whole", row_threads, *results, *source, d1, d, *counts)
            return
        first = np.full(n_vectors * self.n, np.nan, np.float32)
        data = np.full(n_vectors * 2 * n_blocks * self.n, np.nan, np.float32)
        self.launch("first_pass", row_threads, first, *source, d1, vectors)
        self.middle_pass(first, n_vectors, up=True)
        self.launch("second_pass", cross_threads(self.across), data, first, d, vectors, parts)
        self.middle_pass(data, n_vectors * 2 * n_blocks, up=False)
        self.launch("third_pass", row_threads, data, d, vectors, parts)
        self.middle_pass(data, n_vectors * 2 * n_blocks, up=True)
        self.launch("last_pass", cross_threads(self.across), *results, data, source[4], vectors, blocks)

    def middle_pass(self, data: np.ndarray, count: int, *, up: bool) -> None:
        if self.middle:
            self.launch("middle_pass", cross_threads(self.middle), data, np.int64(count), np.int32(up))


def cross_threads(bits: int) -> int:
    return 512 if bits == 10 else 256


def planes(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """The bit planes of ternary vectors, and the number of 32-bit words of a row."""
    words = 2 * -(-x.shape[1] // 64)
    both = []
    for value in (1, -1):
        bits = np.zeros((len(x), 4 * words), np.uint8)
        packed = np.packbits(x == value, axis=1, bitorder="little")
        bits[:, : packed.shape[1]] = packed
        both.append(bits.view(np.uint32))
    return both[0], both[1], words


def source_of(x: np.ndarray) -> tuple[Any, ...]:
    """The arguments that describe vectors: rows of numbers further apart than they are long, or bit planes of int8."""
    n_inputs = np.int64(x.shape[1])
    if x.dtype == np.int8:
        positive, negative, words = planes(x)
        return positive, negative, np.int64(words), n_inputs, NULL, PLANES
    spaced = np.full((len(x), x.shape[1] + 3), np.nan, x.dtype)
    spaced[:, : x.shape[1]] = x
    largest = np.abs(x).max(axis=1, initial=0).astype(np.float64)
    return spaced, NULL, np.int64(spaced.shape[1]), n_inputs, largest, FLOAT64 if x.dtype == np.float64 else FLOAT32


def phases_of(transform: Transform, seed: int, rows: range) -> np.ndarray:
    """Cosine and sine of each row, by the kernel."""
    fields = np.stack(oracle.anchor_field(seed, N_ANCHOR, rows), axis=1).astype(np.int32)
    out = np.full((len(rows), 2), np.nan, np.float32)
    transform.launch("phases", 32, out, np.ascontiguousarray(fields), np.int64(len(rows)))
    return out


def projected(
    transform: Transform, seed: int, x: np.ndarray, rows: range, mode: str, dtype: Any, blocks_at_once: int = 2
) -> np.ndarray:
    """Project by the kernels, a few blocks at a time, into a part of a larger array, of which the rest must stay."""
    complex_rows = range(rows.start // 2, -(-rows.stop // 2)) if mode == "real" else rows
    wanted = np.dtype(dtype)
    guard = 2
    out = np.full(
        (len(x), len(rows) + 2 * guard), 7, np.result_type(wanted, np.complex64) if mode == "complex" else wanted
    )
    phases: Any = phases_of(transform, seed, rows) if mode == "linear" else NULL
    source = source_of(x)
    first_block, end_block = complex_rows.start // transform.n, -(-complex_rows.stop // transform.n)
    block_results = transform.n * (2 if mode == "real" else 1)
    for block in range(first_block, end_block, blocks_at_once):
        results = (
            np.uint64(out.ctypes.data + guard * out.itemsize), np.int64(out.shape[1]),
            np.int64(rows.start - block * block_results), np.int64(len(rows)), phases, np.int32(MODES[mode]),
            np.int32(wanted == np.float64),
        )  # fmt: skip
        count = min(blocks_at_once, end_block - block)
        transform.project(seed, source, len(x), results, block, count, chunk=blocks_at_once)
    assert (out[:, :guard] == 7).all()
    assert (out[:, -guard:] == 7).all()
    return out[:, guard:-guard]


def windows(n: int) -> Iterable[range]:
    """Rows of all of block 0; within a block; across three blocks."""
    return range(n), range(5 * n + 3, 5 * n + 10), range(2 * n - 1, 4 * n + 7)


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("seed", [0, 12345, 2**64 - 1])
def test_signs(bits: int, seed: int) -> None:
    for first in (0, 3, 2**32 - 2, 2**58 + 9):
        words = Transform(bits).signs(seed, first, 5)
        found = np.unpackbits(words.view(np.uint8), bitorder="little").reshape(5, -1, 32)
        for k in range(5):
            expected = structured_oracle.signs(seed, first + k, 1 << bits) == -1
            in_words = expected.reshape(32, -1).T if (first + k) % 2 else expected.reshape(-1, 32)
            assert np.array_equal(found[k] == 1, in_words)


@pytest.mark.parametrize("bits", [8, 9, 10, 13])
@pytest.mark.parametrize("mode", MODES)
def test_a_vector_in_shared_memory(bits: int, mode: str) -> None:
    n, transform = 1 << bits, Transform(bits)
    random = np.random.default_rng([bits, 5])
    # Three vectors: the last group of threads has none at some sizes.
    numbers = random.standard_normal((3, n - 37)) * np.array([[1e-30], [3], [1e100]])
    for seed, rows in zip((1, 2**63 + 9, 77), windows(n), strict=True):
        for x, dtype in (
            (numbers, np.float64),
            (numbers[:2].astype(np.float32), np.float32),
            (ternary(3, n - 1), np.float32),
        ):
            expected = structured_oracle.project(seed, x, rows, mode, N_ANCHOR)
            found = projected(transform, seed, x, rows, mode, dtype)
            assert_same_bits(found, expected.astype(found.dtype))


@pytest.mark.parametrize(
    ("bits", "macros"),
    [(15, ()), (16, ()), (13, ("ALONG=8",)), (17, ("ALONG=11",)), (18, ("ALONG=8", "MIDDLE=5"))],
)  # fmt: skip
@pytest.mark.parametrize("mode", ["intensity", "real"])
def test_passes_over_memory(bits: int, macros: tuple[str, ...], mode: str) -> None:
    n, transform = 1 << bits, Transform(bits, *macros)
    random = np.random.default_rng([bits, 6])
    numbers = random.standard_normal((2, n - 1001)).astype(np.float32)
    rows = range(2 * n - 1, 3 * n + 7)
    for x in (numbers, ternary(1, n)):
        expected = structured_oracle.project(3, x, rows, mode)
        assert_same_bits(projected(transform, 3, x, rows, mode, np.float32), expected.astype(np.float32))


@pytest.mark.parametrize("mode", MODES)
def test_all_modes_after_passes(mode: str) -> None:
    transform = Transform(15)
    x = np.random.default_rng(2).standard_normal((2, 20_000))
    rows = range(3 * transform.n - 50, 4 * transform.n + 33)
    for dtype in (np.float32, np.float64):
        found = projected(transform, 8, x, rows, mode, dtype)
        assert_same_bits(found, structured_oracle.project(8, x, rows, mode, N_ANCHOR).astype(found.dtype))


@pytest.mark.parametrize("mode", ["intensity", "real"])
def test_a_million_inputs(mode: str) -> None:
    transform = Transform(20)
    x = ternary(1, 1_000_000)
    rows = range(transform.n + 12_345, 2 * transform.n + 99)
    expected = opuproj.Projector(
        x.shape[1], rows.stop, seed=6, mode=mode, ensemble="structured", n_anchor=N_ANCHOR
    ).rows(rows.start, rows.stop)(x)
    assert_same_bits(projected(transform, 6, x, rows, mode, np.float32), expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bits", [8, 13])
def test_the_bits_of_the_package(bits: int, mode: str) -> None:
    n, transform = 1 << bits, Transform(bits)
    rows = range(n // 2, 3 * n)
    op = opuproj.Projector(n - 5, rows.stop, seed=4, mode=mode, ensemble="structured", n_anchor=N_ANCHOR)
    for x in (ternary(2, n - 5), np.random.default_rng(bits).standard_normal((2, n - 5)).astype(np.float32)):
        found = projected(transform, 4, x, rows, mode, np.float32, blocks_at_once=3)
        assert_same_bits(found, op.rows(rows.start, rows.stop)(x))


@pytest.mark.parametrize("bits", [8, 15])
def test_numbers_at_the_limits(bits: int) -> None:
    """Extreme magnitudes, vectors of zeros, and vectors with a number that is not finite, whose results are NaN."""
    n, transform = 1 << bits, Transform(bits)
    x = np.zeros((7, n - 56))
    x[1, 3], x[2, 5], x[2, 7] = 5e-324, -np.finfo(float).max, 1
    x[3, :2], x[4, 9], x[5, 9] = (1, 2.0**-100 * 0.999), np.nan, -np.inf
    x[6] = np.ldexp(np.random.default_rng(1).standard_normal(n - 56), -400)
    finite = [0, 1, 2, 3, 6]
    for mode in ("complex", "intensity"):
        with np.errstate(invalid="ignore", over="ignore"):
            found = projected(transform, 1, x, range(3, n + 3), mode, np.float64)
            expected = structured_oracle.project(1, x[finite], range(3, n + 3), mode)
        assert_same_bits(found[finite], expected)
        assert np.isnan(found[4:6]).all()


def test_the_last_rows() -> None:
    transform = Transform(8)
    x = ternary(2, 256)
    rows = range(256 * SMALLEST_BLOCK + 1, 256 * (SMALLEST_BLOCK + 2))
    expected = structured_oracle.project(5, x, rows, "intensity")
    assert_same_bits(projected(transform, 5, x, rows, "intensity", np.float64), expected)


@pytest.mark.parametrize(
    ("bits", "arch"),
    [(8, "sm_90"), (14, "sm_80"), (14, "sm_90"), (20, "sm_80"), (20, "sm_90"), (24, "sm_90"), (34, "sm_90")],
)
def test_registers(bits: int, arch: str) -> None:
    """No kernel has more numbers than fit its registers, so that none of them go through memory."""
    core = pytest.importorskip("cuda.core")
    options = core.ProgramOptions(
        arch=arch, include_path=[str(gpu_standin.KERNELS)], std="c++17", fma=False,
        define_macro=[("LOG2_N", str(bits))], ptxas_options=["-v"],
    )  # fmt: skip
    log = io.StringIO()
    text = (gpu_standin.KERNELS / "structured.cu").read_text()
    core.Program(text, code_type="c++", options=options).compile("cubin", logs=log)
    spilled = [int(n) for n in re.findall(r"(\d+) bytes spill", log.getvalue())]
    assert len(spilled) >= 2 * len(gpu_standin.kernels_of(text))
    assert not any(spilled)
