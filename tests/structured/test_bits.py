"""ensemble="structured": the matrix of its definition, bit for bit, whatever holds the numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import opuproj
import pytest
import structured_oracle as oracle
from helpers import ISAS, MODES, assert_same_bits, examples, ternary
from hypothesis import given
from hypothesis import strategies as st
from opuproj import Projector
from structured_calls import project, reals

# Every test whose results depend on the instruction set names it.
RAGGED = [1, 2, 100, 255, 256, 257, 511, 513, 1000, 4095, 4097, 9000]


# Bits


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("n", RAGGED)
def test_bits_are_those_of_the_definition(monkeypatch: pytest.MonkeyPatch, isa: str, n: int) -> None:
    monkeypatch.setenv("OPUPROJ_ISA", isa)
    padded = oracle.length(n)
    rows = range(padded - 70, padded + 90)
    for x in (ternary(2, n), reals(2, n), 1e-30 * reals(2, n), 1e30 * reals(2, n)):
        for mode in MODES:
            if mode == "real":  # a block of T gives twice as many rows
                rows = range(2 * padded - 71, 2 * padded + 90)
            y = project(x, rows.stop, seed=n, mode=mode, rows=rows, n_anchor=3, dtype=np.float64)
            assert_same_bits(y, oracle.project(n, x, rows, mode, n_anchor=3))


@pytest.mark.parametrize("isa", ISAS)
def test_bits_of_intensities_at_the_limits_of_float64(monkeypatch: pytest.MonkeyPatch, isa: str) -> None:
    # Here it shows that squares are added before they are scaled, and scaled in two steps.
    monkeypatch.setenv("OPUPROJ_ISA", isa)
    rows = range(300)
    for size in (1e-161, 1e-155, 1e153, 3e153):
        x = size * reals(3, 100)
        with np.errstate(over="ignore", under="ignore"):
            expected = oracle.project(5, x, rows, "intensity")
            v, scale = oracle.transforms(5, x, rows)
            other = ((v.real * scale) ** 2 + (v.imag * scale) ** 2) / 2
        assert (other != expected).any()
        assert_same_bits(project(x, 300, seed=5, mode="intensity", dtype=np.float64), expected)


@pytest.mark.parametrize("isa", ISAS)
def test_bits_of_long_transforms(monkeypatch: pytest.MonkeyPatch, isa: str) -> None:
    # From 4,096 on transforms are cut in rows and columns, here of 64 and of 256.
    monkeypatch.setenv("OPUPROJ_ISA", isa)
    for n, seed in ((200_000, 1), (1_000_000, 2**64 - 1)):
        x = ternary(n)
        rows = range(oracle.length(n) - 50_000, oracle.length(n) + 1)
        y = project(x, rows.stop, seed=seed, mode="complex", rows=rows, dtype=np.float64)
        assert_same_bits(y, oracle.project(seed, x, rows, "complex"))
        rows = range(2 * oracle.length(n) - 10_001, 2 * oracle.length(n) + 1)
        y = project(x, rows.stop, seed=seed, mode="real", rows=rows, dtype=np.float64)
        assert_same_bits(y, oracle.project(seed, x, rows, "real"))


@examples(60)
@given(st.data())
def test_any_split_of_any_work(data: st.DataObject) -> None:
    n_rows = data.draw(st.sampled_from([0, 1, 2, 3, 5, 16]), "batch")
    n_inputs = data.draw(st.one_of(st.sampled_from(RAGGED), st.integers(1, 1500)), "inputs")
    n_outputs = data.draw(st.integers(1, 3000), "outputs")
    mode = data.draw(st.sampled_from(MODES), "mode")
    offset = data.draw(st.sampled_from([0, 1, 255, 256, 2**33 - 3]), "offset")
    x = data.draw(st.sampled_from([ternary, reals]), "kind")(n_rows, n_inputs)
    whole = Projector(
        n_inputs, offset + n_outputs, seed=data.draw(st.integers(0, 2**64 - 1)), mode=mode, ensemble="structured"
    )
    with pytest.MonkeyPatch.context() as m:
        m.setenv("OPUPROJ_ISA", data.draw(st.sampled_from(ISAS), "one isa"))
        m.setenv("OPUPROJ_NUM_THREADS", data.draw(st.sampled_from(["1", "2", "3", "7"]), "threads"))
        together = whole.rows(offset, offset + n_outputs)(x)

        m.setenv("OPUPROJ_ISA", data.draw(st.sampled_from(ISAS), "another isa"))
        m.setenv("OPUPROJ_NUM_THREADS", data.draw(st.sampled_from(["1", "2", "3", "7"]), "other threads"))
        i = sorted(data.draw(st.lists(st.integers(0, n_rows), max_size=3), "batch split"))
        k = sorted(data.draw(st.lists(st.integers(0, n_outputs), max_size=3), "row split"))
        pieces = np.empty_like(together)
        for a, b in zip([0, *i], [*i, n_rows], strict=True):
            for c, d in zip([0, *k], [*k, n_outputs], strict=True):
                whole.rows(offset + c, offset + d)(x[a:b], out=pieces[a:b, c:d])
    assert_same_bits(pieces, together)


@pytest.mark.parametrize("mode", MODES)
def test_threads_do_not_matter(mode: str) -> None:
    for x, n_outputs in ((ternary(1, 20_000), 100_000), (reals(7, 5000), 9000), (ternary(40, 300), 700)):
        one = project(x, n_outputs, mode=mode, threads=1)
        for threads in (2, 3, 8):
            assert_same_bits(project(x, n_outputs, mode=mode, threads=threads), one)


def test_fewer_outputs_are_the_first_of_more() -> None:
    x = reals(3, 400)
    for mode in MODES:
        assert_same_bits(project(x, 5000, mode=mode)[:, :600].copy(), project(x, 600, mode=mode))


def test_seeds_and_ensembles_differ() -> None:
    x = ternary(500)
    results = [project(x, 600, seed=seed, mode="complex") for seed in (0, 1, 2**63)]
    results.append(opuproj.project(x, 600, mode="complex"))
    for i, a in enumerate(results):
        for b in results[:i]:
            assert abs(np.vdot(a, b)) < 0.2 * np.vdot(a, a).real


def test_the_numbers_of_the_definition() -> None:
    rows = [0, 1, 2, 3, 999]
    y = {mode: project([1, 0, -1, 1], 1000, mode=mode, dtype=np.float64)[rows] for mode in MODES}
    field = [96 - 64j, 256 + 160j, 416 - 80j, -128 + 304j, -556 + 1072j]
    np.testing.assert_allclose(y["complex"] * np.sqrt(2) * 256, field, rtol=1e-15)
    intensity = ["0.10156250", "0.69531250", "1.36914062", "0.83007812", "11.12609863"]
    assert [f"{v:.8f}" for v in y["intensity"]] == intensity
    linear = ["0.43017831", "0.00436619", "-1.13155176", "-0.19962035", "-0.50009935"]
    assert [f"{v:.8f}" for v in y["linear"]] == linear
    real = project([1, 0, -1, 1], 2000, mode="real", dtype=np.float64)[[0, 1, 2, 3, 1998, 1999]] * 256
    assert real.tolist() == [96, -64, 256, 160, -556, 1072]


# What it takes


@pytest.mark.parametrize(
    "kind", ["int8", "int32", "uint8", "bool", "float16", "float32", "float64", ">f4", "longdouble"]
)
def test_any_real_dtype_is_taken_as_its_values(kind: str) -> None:
    x = reals(4, 300) * 3
    x = (x > 0 if kind == "bool" else np.abs(x) if kind == "uint8" else x).astype(kind)
    assert_same_bits(project(x, 300), project(x.astype(np.float64), 300))


@pytest.mark.parametrize("kind", ["int8", "int64", "float32"])
def test_ternary_vectors_are_the_same_however_they_come(kind: str) -> None:
    from scipy import sparse

    x = ternary(5, 700)
    expected = project(x.astype(np.float64), 900)
    for same in (x.astype(kind), opuproj.pack(x), sparse.csr_array(x.astype(kind)), sparse.coo_array(x.astype(kind))):
        assert_same_bits(project(same, 900), expected)


def test_sparse_real_numbers() -> None:
    from scipy import sparse

    x = reals(20, 3000) * (np.random.default_rng(0).random((20, 3000)) < 0.02)
    x[3] = 0
    for dtype in (np.float32, np.float64):
        dense = x.astype(dtype)
        twice = sparse.coo_array(
            (np.tile(dense[dense != 0] / 2, 2), [np.tile(k, 2) for k in np.nonzero(dense)]), x.shape
        )
        for matrix in (sparse.csr_array(dense), sparse.csc_array(dense), twice):
            assert_same_bits(project(matrix, 600), project(dense, 600))


def test_shapes_strides_and_orders() -> None:
    x = reals(4, 3, 500)
    expected = project(x, 600)
    assert expected.shape == (4, 3, 600)
    assert_same_bits(project(np.asfortranarray(x), 600), expected)
    assert_same_bits(project(np.repeat(x, 2, axis=2)[..., ::2], 600), expected)
    assert_same_bits(project(x[:, ::-1], 600), expected[:, ::-1])
    assert_same_bits(project(x[1, 2], 600), expected[1, 2])
    assert project(x[:0], 600).shape == (0, 3, 600)
    assert project(x, 600, rows=(5, 5)).shape == (4, 3, 0)


def test_batches_larger_than_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    from opuproj import _memory
    from opuproj.backends.cpu import dense

    x = reals(50, 700)
    expected = project(x, 300)
    monkeypatch.setattr(dense, "FLOAT_BYTES", 4 * 700 * 7)
    monkeypatch.setattr(_memory, "PIECE_BYTES", 8 * 700 * 3)
    assert_same_bits(project(x, 300), expected)
    assert_same_bits(project(x.reshape(5, 10, 700), 300), expected.reshape(5, 10, 300))


def test_results_into_given_memory(tmp_path: Any) -> None:
    x = reals(3, 500)
    expected = project(x, 700, mode="linear")
    table = np.zeros((3, 1000), np.float32)
    assert project(x, 700, mode="linear", out=table[:, 100:800]).base is table
    assert_same_bits(table[:, 100:800].copy(), expected)
    assert not table[:, :100].any()
    assert not table[:, 800:].any()
    on_disk = np.memmap(tmp_path / "y", np.float32, "w+", shape=(3, 700))
    project(x, 700, mode="linear", out=on_disk)
    assert_same_bits(np.array(on_disk), expected)


def test_numbers_of_any_size() -> None:
    x = reals(300)
    y = project(x, 400, mode="linear", dtype=np.float64)
    for exponent in (-1000, -300, -100, 100, 300, 1000):
        assert_same_bits(project(np.ldexp(x, exponent), 400, mode="linear", dtype=np.float64), np.ldexp(y, exponent))
    assert_same_bits(project(np.zeros(300), 400, mode="complex"), np.zeros(400, np.complex64))
    assert_same_bits(project(-np.zeros(300), 400, mode="linear"), np.zeros(400, np.float32))
    largest = np.full(300, np.finfo(float).max)
    assert np.isfinite(project(largest / 1000, 400, mode="linear", dtype=np.float64)).all()
