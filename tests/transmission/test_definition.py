"""T is what its definition says: published and golden values, and the pure NumPy oracle against the package."""

from __future__ import annotations

import json

import numpy as np
import opuproj
import oracle
import pytest
from helpers import MODES, ROOT, integers, ternary

GOLDEN = json.loads((ROOT / "tests" / "data" / "golden.json").read_text())

pytestmark = pytest.mark.every_backend


def words(hexadecimal: str) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(hexadecimal), "<u8").astype(np.uint64)


@pytest.mark.parametrize("case", GOLDEN["ars4x32_10_known_answers_from_random123"], ids=lambda c: c["counter"][:8])
def test_oracle_gives_random123_known_answers(case: dict) -> None:
    key = words(case["key"])
    random = oracle.ars4x32(words(case["counter"])[None], (int(key[0]), int(key[1])), n_rounds=10)
    assert random.tobytes().hex() == case["bytes"]


@pytest.mark.parametrize("case", GOLDEN["blocks"], ids=lambda c: f"{c['seed']}-{c['row_block']}-{c['column']}")
def test_golden_blocks(case: dict) -> None:
    block, column = int(case["row_block"]), int(case["column"])
    random = oracle.ars4x32(np.array([[block, column]], np.uint64), (int(case["seed"]), 0))
    assert random.tobytes().hex() == case["bytes"]
    # The package shows blocks as the entries of eight rows; columns beyond 2**63 belong to the anchor alone.
    if column < 2**63 - 1 and 8 * block + 8 <= 2**63 - 1:
        op = opuproj.Projector(column + 1, 8 * block + 8, seed=int(case["seed"]), mode="complex", dtype=np.float64)
        re, im = integers(op.matrix(rows=range(8 * block, 8 * block + 8), columns=[column])[:, 0])
        byte = np.frombuffer(bytes.fromhex(case["bytes"]), np.uint8)
        assert re.tolist() == oracle.GAUSSIAN[byte[0::2]].tolist()
        assert im.tolist() == oracle.GAUSSIAN[byte[1::2]].tolist()


@pytest.mark.parametrize("mode", ["complex", "intensity"])
@pytest.mark.parametrize("case", GOLDEN["entries"], ids=lambda c: c["seed"])
def test_golden_entries(case: dict, mode: str) -> None:
    rows, columns = range(*case["rows"]), range(*case["columns"])
    op = opuproj.Projector(columns.stop, rows.stop, seed=int(case["seed"]), mode=mode, dtype=np.float64)
    re, im = integers(op.matrix(rows, columns))
    assert re.tolist() == case["re"]
    assert im.tolist() == case["im"]


@pytest.mark.parametrize("case", GOLDEN["real_entries"], ids=lambda c: c["seed"])
def test_golden_entries_of_the_real_matrix(case: dict) -> None:
    rows, columns = range(*case["rows"]), range(*case["columns"])
    op = opuproj.Projector(columns.stop, rows.stop, seed=int(case["seed"]), mode="real", dtype=np.float64)
    assert (32 * op.matrix(rows, columns)).tolist() == case["g"]


@pytest.mark.parametrize("case", GOLDEN["fields"], ids=lambda c: f"{c['n_inputs']}")
def test_golden_fields(case: dict) -> None:
    j = np.arange(case["n_inputs"])
    x = (j * (j + 1) // 2 + j // 5) % 3 - 1
    y = opuproj.project(x, case["rows"][1], seed=int(case["seed"]), mode="complex", rows=case["rows"], dtype=float)
    re, im = integers(y)
    assert re.tolist() == case["re"]
    assert im.tolist() == case["im"]


@pytest.mark.parametrize("case", GOLDEN["real_fields"], ids=lambda c: f"{c['n_inputs']}")
def test_golden_fields_of_the_real_matrix(case: dict) -> None:
    j = np.arange(case["n_inputs"])
    x = (j * (j + 1) // 2 + j // 5) % 3 - 1
    y = opuproj.project(x, case["rows"][1], seed=int(case["seed"]), mode="real", rows=case["rows"], dtype=float)
    assert (32 * y).tolist() == case["g"]


def test_the_table_has_the_moments_of_a_gaussian() -> None:
    g = oracle.MAGNITUDES
    assert len(g) == 128
    assert int((g**2).sum()) == 128 * 1024  # the variance is exactly 32**2
    for power, of_gaussian, within in ((4, 3, 1e-4), (6, 15, 2e-3), (8, 105, 0.03)):
        assert abs(np.mean((g / 32.0) ** power) / of_gaussian - 1) < within


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**63 - 1, 2**64 - 1])
@pytest.mark.parametrize("row", [0, 5, 8, 2**34 - 3, 2**62 + 1])
def test_entries_far_out(seed: int, row: int) -> None:
    columns = [0, 1, 2**32 - 1, 2**32, 2**62]
    op = opuproj.Projector(2**63 - 1, 2**63 - 1, seed=seed, mode="complex", dtype=np.float64)
    re, im = integers(op.matrix(range(row, row + 11), columns))
    expected = oracle.entries(seed, range(row, row + 11), columns)
    assert np.array_equal(re, expected[0])
    assert np.array_equal(im, expected[1])
    real = opuproj.Projector(2**63 - 1, 2**63 - 1, seed=seed, mode="real", dtype=np.float64)
    found = 32 * real.matrix(range(row, row + 11), columns)
    assert np.array_equal(found, oracle.real_entries(seed, range(row, row + 11), columns))


@pytest.mark.parametrize("n_rows", [1, 3, 40])
@pytest.mark.parametrize("n_inputs", [1, 7, 63, 64, 65, 300])
@pytest.mark.parametrize("density", [0.02, 0.3, 1.0])
def test_every_mode_follows_the_definition(n_rows: int, n_inputs: int, density: float) -> None:
    x = ternary(n_rows, n_inputs, density=density)
    rows = range(3, 80)
    for mode in MODES:
        expected = oracle.project(11, x, rows, mode)
        for dtype, epsilon in ((np.float64, 1e-14), (np.float32, 2e-7)):
            y = opuproj.project(x, 1000, seed=11, mode=mode, rows=rows, dtype=dtype)
            scale = np.abs(expected).max(initial=1)
            assert np.abs(y - expected).max() <= epsilon * scale


def test_fields_are_exact_integers_and_intensities_their_squares() -> None:
    x = ternary(5, 1000)
    rows = range(200)
    re, im = oracle.field(4, x, rows)
    got = integers(opuproj.project(x, 200, seed=4, mode="complex", dtype=np.complex128))
    assert np.array_equal(got[0], re)
    assert np.array_equal(got[1], im)
    assert np.array_equal(opuproj.project(x, 200, seed=4, dtype=np.float64) * 2048, re * re + im * im)


def test_the_real_matrix_is_the_parts_of_the_complex_one_row_after_row() -> None:
    x = ternary(5, 1000)
    re, im = oracle.field(4, x, range(7, 200))
    y = opuproj.project(x, 400, seed=4, mode="real", rows=(14, 400), dtype=np.float64)
    assert np.array_equal(y[:, 0::2] * 32, re)
    assert np.array_equal(y[:, 1::2] * 32, im)


@pytest.mark.parametrize("n_anchor", [1, 2, 63, 64, 65, 4096])
def test_the_anchor_lights_the_last_columns(n_anchor: int) -> None:
    x = ternary(100)
    expected = oracle.project(3, x, range(30), "linear", n_anchor)
    y = opuproj.project(x, 30, seed=3, mode="linear", n_anchor=n_anchor, dtype=np.float64)
    np.testing.assert_allclose(y, expected, rtol=1e-13, atol=1e-13)


def test_where_the_anchor_is_dark_its_phase_is_one() -> None:
    rows = range(40_000)
    re, im = oracle.anchor_field(8, 1, rows)
    dark = np.flatnonzero((re == 0) & (im == 0))
    assert len(dark) > 0
    x = ternary(50)
    linear = opuproj.project(x, 40_000, seed=8, mode="linear", n_anchor=1, dtype=np.float64)
    field = opuproj.project(x, 40_000, seed=8, mode="complex", dtype=np.float64)
    np.testing.assert_allclose(linear[dark], np.sqrt(2) * field.real[dark], rtol=1e-14)
