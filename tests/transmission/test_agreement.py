"""Every way to compute one output gives the same bits: batches, rows, threads, instruction sets, packing, size of T."""

from __future__ import annotations

from typing import Any

import numpy as np
import opuproj
import pytest
from helpers import AWKWARD, ISAS, MODES, assert_same_bits, examples, ternary
from hypothesis import given
from hypothesis import strategies as st
from opuproj import Projector

# Around what a kernel may treat at once; and batches on both sides of every change of method.
SIZES = AWKWARD
DENSITIES = [0.0, 0.003, 0.05, 0.4, 1.0]


@pytest.fixture
def isa(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Force an instruction set for the calls that follow."""
    return lambda name: monkeypatch.setenv("OPUPROJ_ISA", name)


def reference(monkeypatch: pytest.MonkeyPatch, op: Projector, x: np.ndarray) -> np.ndarray:
    """One vector at a time, one thread, the portable kernel."""
    with monkeypatch.context() as m:
        m.setenv("OPUPROJ_ISA", "portable")
        alone = Projector(op.n_inputs, op.n_outputs, seed=op.seed, mode=op.mode, dtype=op.dtype, threads=1)
        return np.stack([alone(row) for row in x]) if len(x) else alone(x)


@examples(150)
@given(st.data())
def test_any_split_of_any_work(data: st.DataObject) -> None:
    size = st.one_of(st.sampled_from(SIZES), st.integers(1, 300))
    n_rows = data.draw(st.sampled_from([0, 1, 2, 3, 4, 5, 8, 15, 16, 17, 31, 33, 64, 65]), "batch")
    n_inputs, n_outputs = data.draw(size, "inputs"), data.draw(size, "outputs")
    mode = data.draw(st.sampled_from(MODES), "mode")
    dtype = data.draw(st.sampled_from([np.float32, np.float64]), "dtype")
    offset = data.draw(st.sampled_from([0, 1, 7, 8, 9, 15, 16, 17, 2**33 - 3]), "offset")
    x = ternary(n_rows, n_inputs, density=data.draw(st.sampled_from(DENSITIES), "density"))
    whole = Projector(n_inputs, offset + n_outputs, seed=data.draw(st.integers(0, 2**64 - 1)), mode=mode, dtype=dtype)

    with pytest.MonkeyPatch.context() as m:
        m.setenv("OPUPROJ_ISA", data.draw(st.sampled_from(ISAS), "one isa"))
        m.setenv("OPUPROJ_NUM_THREADS", data.draw(st.sampled_from(["1", "2", "3", "7"]), "threads"))
        together = whole.rows(offset, offset + n_outputs)(x)

        m.setenv("OPUPROJ_ISA", data.draw(st.sampled_from(ISAS), "another isa"))
        m.setenv("OPUPROJ_NUM_THREADS", data.draw(st.sampled_from(["1", "2", "3", "7"]), "other threads"))
        i = sorted(data.draw(st.lists(st.integers(0, n_rows), max_size=3), "batch split"))
        k = sorted(data.draw(st.lists(st.integers(0, n_outputs), max_size=3), "row split"))
        pieces = np.empty_like(together)
        given_x = data.draw(st.sampled_from([x, x.astype(np.float32), opuproj.pack(x)]), "given as")
        for a, b in zip([0, *i], [*i, n_rows], strict=True):
            for c, d in zip([0, *k], [*k, n_outputs], strict=True):
                whole.rows(offset + c, offset + d)(given_x[a:b], out=pieces[a:b, c:d])
    assert_same_bits(pieces, together)


@pytest.mark.parametrize("name", ISAS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n", SIZES)
def test_awkward_numbers_of_inputs_and_outputs(monkeypatch: pytest.MonkeyPatch, name: str, mode: str, n: int) -> None:
    for n_inputs, n_outputs, n_rows in ((n, 67, 3), (67, n, 3), (n, 30, 1), (30, n, 1)):
        x = ternary(n_rows, n_inputs)
        op = Projector(n_inputs, n_outputs, seed=n, mode=mode)
        expected = reference(monkeypatch, op, x)
        monkeypatch.setenv("OPUPROJ_ISA", name)
        assert_same_bits(op(x), expected)


@pytest.mark.parametrize("name", ISAS)
@pytest.mark.parametrize("mode", ["complex", "real"])
@pytest.mark.parametrize("n_rows", [n for n in SIZES if n <= 257])
def test_awkward_batches(monkeypatch: pytest.MonkeyPatch, name: str, mode: str, n_rows: int) -> None:
    for n_inputs, density in ((150, 1.0), (150, 0.1), (1500, 0.004)):
        x = ternary(n_rows, n_inputs, density=density)
        op = Projector(n_inputs, 90, mode=mode)
        expected = reference(monkeypatch, op, x)
        monkeypatch.setenv("OPUPROJ_ISA", name)
        assert_same_bits(op(x), expected)


@pytest.mark.parametrize("name", ISAS)
@pytest.mark.parametrize("mode", MODES)
def test_rows_that_differ_in_everything(monkeypatch: pytest.MonkeyPatch, name: str, mode: str) -> None:
    # Empty, single, sparse, dense, all ones and all minus ones in one batch, whichever way each is computed.
    n = 3000
    x = np.concatenate(
        [ternary(9, n, density=d, seed=int(1000 * d)) for d in DENSITIES] + [np.ones((1, n)), -np.ones((1, n))]
    )
    x[3, n - 1] = 1
    x = np.random.default_rng(0).permutation(x).astype(np.int8)
    op = Projector(n, 300, seed=2, mode=mode)
    expected = reference(monkeypatch, op, x)
    monkeypatch.setenv("OPUPROJ_ISA", name)
    for threads in (1, 2, 5):
        assert_same_bits(Projector(n, 300, seed=2, mode=mode, threads=threads)(x), expected)


@pytest.mark.parametrize("name", ISAS)
@pytest.mark.parametrize("mode", ["complex", "real"])
@pytest.mark.parametrize("density", [1.0, 0.01, 0.0001])
def test_sizes_of_real_work(isa: Any, name: str, mode: str, density: float) -> None:
    x = ternary(40, 20_000, density=density)
    op = Projector(20_000, 1_000, seed=1, mode=mode, threads=2)
    isa("portable")
    expected = op[700:](x[[0, 11, 39]])
    isa(name)
    assert_same_bits(op(x)[[0, 11, 39], 700:], expected)


@pytest.mark.parametrize("name", ISAS)
@pytest.mark.parametrize("mode", MODES)
def test_a_larger_transmission_matrix_begins_with_the_smaller(isa: Any, name: str, mode: str) -> None:
    isa(name)
    x = ternary(5, 130)
    wider = np.concatenate([x, np.zeros((5, 900), np.int8)], axis=1)
    small = opuproj.project(x, 100, mode=mode, seed=3)
    assert_same_bits(opuproj.project(wider, 100, mode=mode, seed=3), small)
    assert_same_bits(opuproj.project(x, 1100, mode=mode, seed=3)[:, :100].copy(), small)


@pytest.mark.parametrize("threads", [1, 2, 3, 4, 8, 64])
@pytest.mark.parametrize("mode", MODES)
def test_threads(threads: int, mode: str) -> None:
    for n_rows, n_inputs, n_outputs in ((1, 5000, 3000), (70, 600, 500), (3, 10, 1)):
        x = ternary(n_rows, n_inputs)
        one = opuproj.project(x, n_outputs, mode=mode, threads=1)
        assert_same_bits(opuproj.project(x, n_outputs, mode=mode, threads=threads), one)


def test_results_repeat() -> None:
    x = ternary(70, 900)
    first = opuproj.project(x, 800, mode="linear")
    for _ in range(5):
        assert_same_bits(opuproj.project(x, 800, mode="linear"), first)
