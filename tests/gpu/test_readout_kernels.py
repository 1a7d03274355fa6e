"""Results of exact fields by the CUDA kernels, run on the CPU, against the package's results on the CPU."""

from __future__ import annotations

from typing import Any

import gpu_standin
import numpy as np
import opuproj
import oracle
import pytest
from helpers import LINEAR_MODES, MODES, assert_same_bits, ternary
from opuproj import _core

NULL = np.uint64(0)
SEED = 2**64 - 3
FACTORS = {"complex": 1 / np.sqrt(2048.0), "real": 1 / 32}


def anchor_components(mode: str, n_anchor: int, row_start: int, n: int) -> Any:
    """The field of an anchor at some rows, as components in turn."""
    if mode != "linear":
        return NULL
    return np.stack(oracle.anchor_field(SEED, n_anchor, range(row_start, row_start + n)), axis=1).astype(np.int32)


def read(
    mode: str,
    fields: np.ndarray,
    dtype: Any,
    n: int,
    *,
    first: int = 0,
    weights: tuple[int, ...] = (1,),
    scales: Any = NULL,
    anchor: Any = NULL,
    bad_rows: Any = NULL,
    grid: int = 2,
) -> np.ndarray:
    """What the kernel reads of n rows; a gap after each row of the output must stay as it is."""
    vectors, width = len(fields) // len(weights), n * (2 if mode == "complex" else 1)
    out = np.full((vectors, width + 3), 7, dtype)
    kernel = f"{mode if mode in ('intensity', 'linear') else 'scaled'}_{fields.dtype}_{out.dtype}"
    all_weights = [np.int64(weight) for weight in (*weights, 0, 0, 0)[:4]]
    gpu_standin.launch(
        "readout.cu", kernel, grid, 64, out, np.int64(out.shape[1]), np.int64(width), np.int32(vectors), fields,
        np.int64(fields.shape[1]), np.int32(first), np.int32(len(weights)), *all_weights, scales,
        np.float64(FACTORS.get(mode, 0.0)), anchor, bad_rows,
    )  # fmt: skip
    assert (out[:, width:] == 7).all()
    result = np.ascontiguousarray(out[:, :width])
    return result.view(np.result_type(dtype, np.complex64)) if mode == "complex" else result


def cpu(mode: str, fields: np.ndarray, dtype: Any, row_start: int, n: int, n_anchor: int) -> np.ndarray:
    """What the package reads of the same fields on the CPU."""
    out = np.empty((len(fields), n), np.result_type(dtype, np.complex64) if mode == "complex" else dtype)
    _core.read_fields(
        fields, out, seed=SEED, mode=mode, row_start=row_start, n_anchor=n_anchor, threads=1, isa=None
    )  # fmt: skip
    return out


def fields_of(dtype: Any, shape: tuple[int, int]) -> np.ndarray:
    """Fields of all magnitudes, among them the largest of the dtype that a projection may have."""
    largest = 2**31 - 1 if dtype is np.int32 else 2**62 - 1
    random = np.random.default_rng(5)
    fields = (random.uniform(-1, 1, shape) * 2.0 ** random.integers(1, largest.bit_length(), shape)).astype(dtype)
    fields[0, :6] = (largest, -largest, 0, 0, 1, -1)
    if dtype is np.int64:  # halfway between two float64 numbers
        fields[0, 6:10] = (2**53 + 1, 2**53 + 3, -(2**53) - 1, 2**60 + 2**7)
    return fields


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("integer", [np.int32, np.int64])
@pytest.mark.parametrize(("row_start", "n_anchor"), [(0, 64), (3, 2), (2**40 + 13, 1)])
def test_fields_are_read_as_on_the_cpu(mode: str, dtype: Any, integer: Any, row_start: int, n_anchor: int) -> None:
    per_row = 1 if mode == "real" else 2
    n = 37
    fields = fields_of(integer, (5, per_row * n))
    anchor = anchor_components(mode, n_anchor, row_start, n)
    expected = cpu(mode, fields.copy(), dtype, row_start, n, n_anchor)
    for grid in (1, 3, 100):
        assert_same_bits(read(mode, fields, dtype, n, anchor=anchor, grid=grid), expected)


def test_an_anchor_that_is_dark_counts_as_1() -> None:
    n, n_anchor = 6000, 1
    anchor = anchor_components("linear", n_anchor, 0, n)
    assert (anchor == 0).all(axis=1).any()
    fields = fields_of(np.int32, (2, 2 * n))
    expected = cpu("linear", fields.copy(), np.float64, 0, n, n_anchor)
    assert_same_bits(read("linear", fields, np.float64, n, anchor=anchor), expected)
    phases = np.full((n, 2), 7.0)
    gpu_standin.launch("readout.cu", "phases", 2, 64, phases, anchor, np.int32(0), np.int64(n))
    cpu_phases = _core.anchor_phases(n, seed=SEED, row_start=0, n_anchor=n_anchor, isa=None)
    assert_same_bits(phases, cpu_phases.view(np.float64).reshape(n, 2))


@pytest.mark.parametrize("mode", MODES)
def test_rows_that_begin_within_a_row_block(mode: str) -> None:
    n, row_start = 21, 1003
    per_row = 1 if mode == "real" else 2
    x = ternary(3, 100)
    first = row_start * per_row % 16
    components = np.arange(row_start * per_row - first, -(-(row_start + n) * per_row // 16) * 16)
    fields = (x.astype(np.int64) @ oracle.real_entries(SEED, components, range(100)).T).astype(np.int32)
    anchor = anchor_components(mode, 64, components[0] // per_row, len(components) // per_row)
    op = opuproj.Projector(100, row_start + n, seed=SEED, mode=mode, dtype=np.float64)
    assert_same_bits(read(mode, fields, np.float64, n, first=first, anchor=anchor), op[row_start:](x))


def test_phases_that_begin_within_a_row_block() -> None:
    n = 50
    anchor = anchor_components("linear", 64, 8, 56)
    phases = np.full((n, 2), 7.0)
    gpu_standin.launch("readout.cu", "phases", 2, 64, phases, anchor, np.int32(2 * 3), np.int64(n))
    expected = _core.anchor_phases(n, seed=SEED, row_start=11, n_anchor=64, isa=None)
    assert_same_bits(phases, expected.view(np.float64).reshape(n, 2))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bad_rows_give_nan(mode: str, dtype: Any) -> None:
    n, row_start = 20, 5
    fields = fields_of(np.int32, (4, (1 if mode == "real" else 2) * n))
    anchor = anchor_components(mode, 64, row_start, n)
    y = read(mode, fields, dtype, n, anchor=anchor, bad_rows=np.array([0, 1, 0, 1], np.uint8))
    expected = cpu(mode, fields.copy(), dtype, row_start, n, 64)
    assert_same_bits(y[::2], expected[::2])
    numbers = y[1::2].view(dtype)
    assert np.isnan(numbers).all()


@pytest.mark.parametrize("mode", LINEAR_MODES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("digits", [1, 5, 7, 20])
def test_sums_of_digits_are_those_of_the_cpu(mode: str, dtype: Any, digits: int) -> None:
    n, row_start, n_inputs = 33, 77, 90
    per_row = 1 if mode == "real" else 2
    x = np.random.default_rng(digits).standard_normal((4, n_inputs)) * [[1], [1e-200], [0], [1e200]]
    batch = opuproj.encode(x, digits=digits)
    scales = np.ascontiguousarray(batch._packed.scales())
    each = [digit.to_numpy().astype(np.int64) for digit in batch.digits]  # the most important one comes first
    lowest_first = each[::-1]
    parts = [
        sum(3**k * digit for k, digit in enumerate(lowest_first[start : start + 5])) for start in range(0, digits, 5)
    ]
    components = np.arange(row_start * per_row, (row_start + n) * per_row)
    matrix = oracle.real_entries(SEED, components, range(n_inputs))
    op = opuproj.Projector(n_inputs, row_start + n, seed=SEED, mode=mode, dtype=dtype)
    anchor = anchor_components(mode, 64, row_start, n)
    expected = op[row_start:](batch)
    for integer in (np.int32, np.int64):
        fields = (np.stack(parts, axis=1).reshape(-1, n_inputs) @ matrix.T).astype(integer)
        weights = tuple(243**part for part in range(len(parts)))
        assert_same_bits(read(mode, fields, dtype, n, weights=weights, scales=scales, anchor=anchor), expected)


@pytest.mark.parametrize("n_parts", [2, 3, 4])
def test_sums_beyond_64_bits_are_rounded_once(n_parts: int) -> None:
    n = 400
    random = np.random.default_rng(n_parts)
    fields = (random.uniform(-1, 1, (n_parts, n)) * 2.0 ** random.integers(1, 62, (n_parts, n))).astype(np.int64)
    weights = [243**part for part in range(n_parts)]
    # Sums at and next to halfway between two float64 numbers: a power of 2 in the last part, the rest in the first one.
    for i in range(100):
        power = 35 + i % 25
        fields[:, i] = 0
        fields[-1, i] = (1 - 2 * (i % 2)) << power
        unit = 1 << max(0, (weights[-1] << power).bit_length() - 54)
        fields[0, i] = unit * random.integers(-4, 5) + random.integers(-1, 2)
    sums = [sum(weight * int(field) for weight, field in zip(weights, column, strict=True)) for column in fields.T]
    assert max(abs(total).bit_length() for total in sums) > 63
    expected = np.array([float(total) for total in sums])  # Python rounds once, to even at ties
    assert_same_bits(read("real", fields, np.float64, n, weights=tuple(weights)), (expected * (1 / 32))[None])


@pytest.mark.parametrize("mode", ["linear", "real"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
@pytest.mark.parametrize("row_start", [0, 13])
def test_feedback_is_the_result_times_its_factor(mode: str, dtype: str, row_start: int) -> None:
    torch = pytest.importorskip("torch")
    n, vectors = 70, 6
    per_row = 1 if mode == "real" else 2
    fields = fields_of(np.int32, (vectors, per_row * n))
    anchor = anchor_components(mode, 64, row_start, n)
    wide = np.float64 if dtype == "float64" else np.float32
    factors = np.array([1, -0.1, 0, 3e-39, 1e30, np.nan], wide)
    bad_rows = np.array([0, 0, 0, 0, 1, 0], np.uint8)
    expected = cpu(mode, fields.copy(), wide, row_start, n, 64) * factors[:, None]
    expected[4] = np.nan
    wanted = torch.from_numpy(expected).to(getattr(torch, dtype))
    skipped, width = 7, n - 7
    for grid in (1, 3, 100):
        out = torch.full((vectors, width + 3), 7.0, dtype=wanted.dtype)
        launch_feedback(mode, out, (1, vectors, width), fields, per_row * skipped, anchor, bad_rows, factors, grid=grid)
        assert (out[:, width:] == 7).all()
        assert torch.equal(out[:, :width].nan_to_num(nan=0.5), wanted[:, skipped:].nan_to_num(nan=0.5))
        assert bool(out[4:, :width].isnan().all())


@pytest.mark.parametrize("mode", ["linear", "real"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
@pytest.mark.parametrize("activation", [None, "tanh", "sigmoid", "relu"])
def test_feedback_of_layers_is_that_of_their_activation_functions(
    mode: str, dtype: str, activation: str | None
) -> None:
    torch = pytest.importorskip("torch")
    layers, vectors, width, skipped = 3, 4, 20, 5
    per_row, n = 1 if mode == "real" else 2, layers * width + skipped
    fields = np.random.default_rng(0).integers(-5000, 5000, (vectors, per_row * n)).astype(np.int32)
    anchor = anchor_components(mode, 64, 0, n)
    wide = np.float64 if dtype == "float64" else np.float32
    factors = np.array([1, -0.1, 2, 0.5], wide)
    results = cpu(mode, fields.copy(), wide, 0, n, 64) * factors[:, None]
    before = torch.randn(layers, vectors, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    function = torch.nn.Identity() if activation is None else getattr(torch, activation)
    outputs = function(before).to(getattr(torch, dtype))
    # What autograd computes from the stored outputs, in float64.
    stored, fed = outputs.double(), torch.from_numpy(results[:, skipped:]).double()
    fed = fed.reshape(vectors, layers, width).transpose(0, 1)
    slopes = {None: 1.0, "tanh": 1 - stored**2, "sigmoid": stored * (1 - stored), "relu": (stored > 0).double()}
    out = torch.zeros(layers * vectors, width, dtype=outputs.dtype)
    shape, flat = (layers, vectors, width), outputs.reshape(-1, width)
    bad_rows = np.zeros(vectors, np.uint8)
    launch_feedback(mode, out, shape, fields, per_row * skipped, anchor, bad_rows, factors, activation, flat)
    found, wanted = out.reshape(shape).double(), fed * slopes[activation]
    tolerance = {"bfloat16": 2**-8, "float32": 2**-22, "float64": 2**-51}[dtype]
    assert bool(((found - wanted).abs() <= tolerance * fed.abs()).all())
    assert activation == "relu" or bool(found.any(dim=2).all())


def launch_feedback(
    mode: str,
    out: Any,
    shape: tuple[int, int, int],
    fields: np.ndarray,
    first: int,
    anchor: Any,
    bad_rows: np.ndarray,
    factors: np.ndarray,
    activation: str | None = None,
    outputs: Any = None,
    grid: int = 2,
) -> None:
    """Let a kernel write feedback to the rows of a tensor, for layers, vectors and outputs of a layer."""
    layers, vectors, width = shape
    dtype = str(out.dtype).removeprefix("torch.")
    gpu_standin.launch(
        "readout.cu", f"{'linear' if mode == 'linear' else 'scaled'}_feedback_{dtype}", grid, 64,
        np.uint64(out.data_ptr()), np.int64(vectors * out.stride(0)), np.int64(out.stride(0)), np.int64(width),
        np.int32(vectors), np.int32(layers),
        fields, np.int64(fields.shape[1]), np.int64(first), np.float64(1 / 32), anchor, bad_rows, factors,
        np.int32([None, "tanh", "sigmoid", "relu"].index(activation)),
        NULL if outputs is None else np.uint64(outputs.data_ptr()),
    )  # fmt: skip
