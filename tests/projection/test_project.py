"""opuproj.project: shapes, modes, rows, dtypes, out, and the cases that are easy to get wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import opuproj
import oracle
import pytest
from helpers import MODES, assert_same_bits, ternary

pytestmark = pytest.mark.every_backend


@pytest.mark.parametrize("shape", [(5,), (1, 5), (4, 5), (2, 3, 5), (2, 1, 3, 5)])
@pytest.mark.parametrize("mode", MODES)
def test_leading_axes_are_kept(shape: tuple[int, ...], mode: str) -> None:
    x = ternary(*shape)
    y = opuproj.project(x, 20, mode=mode)
    assert y.shape == (*shape[:-1], 20)
    flat = opuproj.project(x.reshape(-1, 5), 20, mode=mode)
    assert_same_bits(y.reshape(-1, 20), flat)


def test_intensity_is_the_default_and_float32() -> None:
    x = ternary(30)
    y = opuproj.project(x, 50)
    assert y.dtype == np.float32
    assert_same_bits(y, opuproj.project(x, 50, mode="intensity", seed=0, n_anchor=64, dtype=np.float32))
    assert (y >= 0).all()


@pytest.mark.parametrize(
    ("mode", "dtype", "result"),
    [
        ("intensity", "float32", "float32"),
        ("intensity", float, "float64"),
        ("linear", np.float64, "float64"),
        ("linear", None, "float32"),
        ("real", None, "float32"),
        ("real", float, "float64"),
        ("complex", np.float32, "complex64"),
        ("complex", "f8", "complex128"),
        ("complex", np.complex64, "complex64"),
        ("complex", complex, "complex128"),
    ],
)
def test_dtypes(mode: str, dtype: object, result: str) -> None:
    assert opuproj.project(ternary(9), 5, mode=mode, dtype=dtype).dtype == result


@pytest.mark.parametrize("mode", MODES)
def test_float32_is_float64_rounded(mode: str) -> None:
    x = ternary(4, 500)
    wide = opuproj.project(x, 300, mode=mode, dtype=np.float64)
    np.testing.assert_allclose(opuproj.project(x, 300, mode=mode), wide, rtol=2e-7, atol=1e-6)


@pytest.mark.parametrize("rows", [(3, 17), [3, 17], slice(3, 17), range(3, 17), slice(3, -13), (np.int64(3), 17)])
@pytest.mark.parametrize("mode", MODES)
def test_rows_in_every_spelling(rows: object, mode: str) -> None:
    x = ternary(2, 40)
    whole = opuproj.project(x, 30, mode=mode)
    assert_same_bits(opuproj.project(x, 30, mode=mode, rows=rows), whole[:, 3:17])


def test_rows_may_be_all_or_none() -> None:
    x = ternary(2, 40)
    whole = opuproj.project(x, 30)
    assert_same_bits(opuproj.project(x, 30, rows=slice(None)), whole)
    assert opuproj.project(x, 30, rows=(7, 7)).shape == (2, 0)
    assert opuproj.project(x, 30, rows=(30, 30)).shape == (2, 0)
    assert opuproj.project(x, 30, rows=range(9, 4)).shape == (2, 0)


@pytest.mark.parametrize("mode", MODES)
def test_nothing_gives_nothing(mode: str) -> None:
    zero = opuproj.project(np.zeros((2, 33)), 40, mode=mode)
    assert zero.shape == (2, 40)
    assert (zero == 0).all()
    assert opuproj.project(np.zeros((0, 33)), 40, mode=mode).shape == (0, 40)
    assert opuproj.project(np.zeros((3, 0, 33)), 40, mode=mode).shape == (3, 0, 40)


def test_the_last_rows_of_the_largest_operator() -> None:
    x = ternary(20)
    last = range(2**63 - 20, 2**63 - 1)
    y = opuproj.project(x, 2**63 - 1, rows=last, mode="complex", dtype=np.float64)
    np.testing.assert_allclose(y, oracle.project(0, x, last, "complex"), rtol=1e-14)
    y = opuproj.project(x, 2**63 - 1, rows=last, mode="real", dtype=np.float64)
    assert_same_bits(y, oracle.project(0, x, last, "real"))


@pytest.mark.parametrize("seed", [0, 1, 2**63, 2**64 - 1, np.uint64(2**64 - 1), np.int8(5)])
def test_seeds_of_64_bits(seed: int) -> None:
    x = ternary(20)
    y = opuproj.project(x, 16, seed=seed, mode="complex", dtype=np.float64)
    np.testing.assert_allclose(y, oracle.project(int(seed), x, range(16), "complex"), rtol=1e-14)


@pytest.mark.parametrize("mode", MODES)
def test_out_is_filled_and_returned(mode: str) -> None:
    x = ternary(3, 50)
    expected = opuproj.project(x, 20, mode=mode)
    out = np.full_like(expected, 77)
    assert opuproj.project(x, 20, mode=mode, out=out) is out
    assert_same_bits(out, expected)


def test_out_may_be_a_part_of_a_larger_array() -> None:
    x = ternary(4, 50)
    expected = opuproj.project(x, 20)
    y = np.full((4, 60), 7, np.float32)
    opuproj.project(x, 20, out=y[:, 5:25])
    assert_same_bits(y[:, 5:25], expected)
    assert (np.delete(y, np.s_[5:25], axis=1) == 7).all()
    every_other = np.full((8, 20), 7, np.float32)
    opuproj.project(x, 20, out=every_other[::2])
    assert_same_bits(every_other[::2], expected)
    assert (every_other[1::2] == 7).all()
    three = np.full((2, 2, 30), 7, np.float32)
    opuproj.project(x.reshape(2, 2, 50), 20, out=three[:, :, 10:])
    assert_same_bits(three[:, :, 10:].reshape(4, 20), expected)
    assert (three[:, :, :10] == 7).all()


def test_shards_assemble_to_the_whole() -> None:
    x = ternary(3, 90)
    y = np.empty((3, 100), np.float32)
    for start in range(0, 100, 13):
        rows = range(start, min(start + 13, 100))
        opuproj.project(x, 100, seed=6, mode="linear", rows=rows, out=y[:, rows.start : rows.stop])
    assert_same_bits(y, opuproj.project(x, 100, seed=6, mode="linear"))


def test_out_may_be_on_disk(tmp_path: Path) -> None:
    x = ternary(3, 50)
    file = tmp_path / "y.npy"
    out = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=(3, 1000))
    assert opuproj.project(x, 1000, out=out) is out
    out.flush()
    assert_same_bits(np.load(file), opuproj.project(x, 1000))


def test_out_may_be_larger_than_memory(tmp_path: Path) -> None:
    x = ternary(50)
    n_outputs = 2**38  # 1 TiB of float32: the file has holes wherever nothing is written
    try:
        out = np.memmap(tmp_path / "y", mode="w+", dtype=np.float32, shape=(n_outputs,))
    except OSError:
        pytest.skip("the file system has no files with holes of that size")
    rows = slice(n_outputs - 1000, n_outputs)
    opuproj.project(x, n_outputs, rows=rows, out=out[rows])
    np.testing.assert_allclose(out[rows], oracle.project(0, x, range(rows.start, rows.stop), "intensity"), rtol=1e-6)


def test_x_is_not_touched() -> None:
    x = ternary(3, 50).astype(np.float64)
    before = x.copy()
    x.flags.writeable = False
    opuproj.project(x, 20)
    assert_same_bits(x, before)


def test_many_inputs_few_nonzeros() -> None:
    x = np.zeros(5_000_000, np.int8)
    where = [0, 63, 64, 4_999_999]
    x[where] = 1, -1, 1, -1
    re, im = oracle.entries(2, range(24), where)
    expected = (re + 1j * im) @ [1, -1, 1, -1] / oracle.SCALE
    np.testing.assert_allclose(opuproj.project(x, 24, seed=2, mode="complex", dtype=complex), expected, rtol=1e-14)
