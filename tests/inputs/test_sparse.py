"""Sparse matrices are what SciPy reads them as, in every function that takes them, and are never made dense."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import opuproj
import pytest
from helpers import CAMERA_MODES, LINEAR_MODES, MODES, assert_same_bits, ternary
from opuproj import _memory

sparse = pytest.importorskip("scipy.sparse")

FORMATS = ("csr", "csc", "coo", "bsr", "lil", "dok", "dia")


def floats(*shape: int, density: float = 0.2, dtype: Any = np.float64) -> np.ndarray:
    """Random numbers of many sizes, of which about `density` are not 0; the first vector is dark."""
    random = np.random.default_rng(shape)
    x = random.standard_normal(shape) * 10.0 ** random.integers(-3, 3, shape) * (random.random(shape) < density)
    x.reshape(-1, shape[-1])[0] = 0
    return x.astype(dtype)


def roomy(x: Any) -> Any:
    """The same compressed matrix with entries behind its last one, which SciPy reads past."""
    data, indices = np.append(x.data, x.data[:1] * 0 + 7, axis=0), np.append(x.indices, x.indices[:1] * 0 + 999)
    x.data, x.indices = data, indices
    return x


CALLS: dict[str, Callable[[Any], Any]] = {
    "project": lambda x: opuproj.project(x, 20, seed=3),
    "project, digits": lambda x: opuproj.project(x, 20, seed=3, digits=7, mode="linear"),
    "project, structured": lambda x: opuproj.project(x, 20, seed=3, ensemble="structured"),
    "operator": lambda x: opuproj.Projector(x.shape[-1], 20, mode="complex") @ x,
    "project, real": lambda x: opuproj.project(x, 20, mode="real", rows=(3, 20)),
    "adjoint": lambda x: opuproj.Projector(9, x.shape[-1], mode="complex").H @ x,
    "pack": lambda x: opuproj.pack(x).to_numpy(),
    "encode": lambda x: opuproj.encode(x, planes=7).to_numpy(),
    "ternarize": lambda x: opuproj.ternarize(x, 0.5).to_numpy(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
@pytest.mark.parametrize("kind", ["csr_matrix", "csr_array", "csc_matrix", "csc_array", "bsr_matrix"])
def test_spare_room_behind_the_last_entry_is_not_read(call: Callable[[Any], Any], kind: str) -> None:
    dense = ternary(6, 40, density=0.3)
    x = roomy(getattr(sparse, kind)(dense))
    if kind != "bsr_matrix":  # which SciPy itself trips over
        assert (x.toarray() == dense).all()
    assert_same_bits(call(x), call(dense))
    assert x.data.shape[0] > x.indptr[-1]  # left as it was


def test_a_vector_with_spare_room() -> None:
    dense = ternary(40)
    x = sparse.csr_array(dense)
    if x.ndim != 1:
        pytest.skip("sparse arrays of one axis need SciPy 1.15")
    assert_same_bits(opuproj.project(roomy(x), 9), opuproj.project(dense, 9))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", ["array", "matrix"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.longdouble])
def test_real_numbers_give_the_bits_of_dense_ones(form: str, kind: str, dtype: Any) -> None:
    dense = floats(7, 150, dtype=dtype)
    dense[:, 60:130] = 0  # SciPy warns of many diagonals
    x = getattr(sparse, f"{form}_{kind}")(dense)
    for digits in (1, 5, 20):
        assert opuproj.encode(x, digits=digits) == opuproj.encode(dense, digits=digits)
    assert opuproj.encode(x, planes=15) == opuproj.encode(dense, planes=15)
    for mode in MODES:
        y = opuproj.project(x, 33, mode=mode, digits=5, rows=(3, 30))
        assert_same_bits(y, opuproj.project(dense, 33, mode=mode, digits=5, rows=(3, 30)))
    op = opuproj.Projector(150, 21, camera=opuproj.Camera(photons=100))
    assert_same_bits(op(x, digits=3, noise_seed=1), op(dense, digits=3, noise_seed=1))
    for mode in LINEAR_MODES:
        back = opuproj.Projector(9, 150, mode=mode).H
        assert_same_bits(back(x), back(dense))


@pytest.mark.parametrize("density", [0, 0.002, 0.3, 1])
def test_ternary_vectors_give_the_bits_of_dense_ones(monkeypatch: pytest.MonkeyPatch, density: float) -> None:
    dense = ternary(90, 700, density=density)
    dense[3] = 0
    x = sparse.csr_array(dense)
    for block_bytes in (_memory.BLOCK_BYTES, 1 << 12):
        monkeypatch.setattr(_memory, "BLOCK_BYTES", block_bytes)
        for mode in MODES:
            cameras = [(None, None), (opuproj.Camera(photons=50), 4)] if mode in CAMERA_MODES else [(None, None)]
            for camera, noise in cameras:
                op = opuproj.Projector(700, 40, mode=mode, camera=camera)[3:]
                assert_same_bits(op(x, noise_seed=noise), op(dense, noise_seed=noise))


def test_complex_numbers_through_the_adjoint() -> None:
    dense = floats(5, 60) + 1j * floats(5, 60, density=0.3)
    for dtype in (np.complex64, np.complex128):
        for op in (opuproj.Projector(9, 60, mode="complex").H, opuproj.Projector(9, 60, mode="complex").T):
            assert_same_bits(op(sparse.csc_array(dense.astype(dtype))), op(dense.astype(dtype)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounding_to_three_values_gives_the_bits_of_dense_numbers(dtype: Any) -> None:
    dense = floats(30, 90, dtype=dtype)
    dense[3, 5], dense[4, 6] = np.inf, -np.inf
    tie = float(np.abs(dense[10]).max())
    for x in (sparse.csr_array(dense), sparse.coo_array(dense)):
        for threshold in (0, 0.25, tie):
            assert opuproj.ternarize(x, threshold) == opuproj.ternarize(dense, threshold)
    dense[~np.isfinite(dense)] = 0
    for relative in (0, 0.3):
        for scale in ("row", "global"):
            both = (opuproj.ternarize(x, relative=relative, scale=scale) for x in (sparse.csr_array(dense), dense))
            assert next(both) == next(both)
    assert opuproj.ternarize(sparse.csr_array((3, 50)), relative=0.5).nnz == 0


def test_values_in_many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    dense = floats(70, 100)
    expected = opuproj.project(dense, 12, digits=5)
    monkeypatch.setattr(_memory, "BLOCK_BYTES", 1 << 10)
    monkeypatch.setattr(_memory, "PIECE_BYTES", 1 << 10)
    x = sparse.csr_array(dense)
    assert_same_bits(opuproj.project(x, 12, digits=5), expected)
    assert opuproj.encode(x) == opuproj.encode(dense)
    assert opuproj.encode(sparse.csr_array((0, 5))) == opuproj.encode(np.empty((0, 5)))


def test_duplicates_are_added_in_the_order_in_which_scipy_adds_them() -> None:
    random = np.random.default_rng(0)
    n = 3000
    rows, columns = random.integers(0, 5, n), random.integers(0, 40, n)
    for dtype in (np.float32, np.float64):
        values = (random.standard_normal(n) * 10.0 ** random.integers(-6, 6, n)).astype(dtype)
        coo = sparse.coo_array((values, (rows, columns)), shape=(5, 40))
        order = np.argsort(rows, kind="stable")
        csr = sparse.csr_array((values[order], columns[order], np.searchsorted(rows[order], range(6))), shape=(5, 40))
        for x in (coo, csr):
            assert opuproj.encode(x, digits=20) == opuproj.encode(x.toarray(), digits=20)
            assert len(x.data) == n


def test_duplicates_of_booleans_are_true() -> None:
    x = sparse.csr_array((np.array([True, True]), [2, 2], [0, 2]), shape=(1, 3))
    for same in (x, x.tocoo(), sparse.coo_array((x.data, ([0, 0], [2, 2])), shape=(1, 3))):
        assert (opuproj.pack(same).to_numpy() == same.toarray()).all()


def test_what_a_matrix_says_of_its_order_may_be_wrong() -> None:
    x = sparse.csr_array((np.array([1, -1]), [2, 2], [0, 2]), shape=(1, 3))
    x.has_canonical_format = True
    assert opuproj.pack(x).to_numpy().tolist() == x.toarray().tolist() == [[0, 0, 0]]
    y = sparse.csr_array(np.array([[0.5, 0, 2.0, 0]]))
    assert y.has_sorted_indices
    y.indices[:] = [3, 1]
    assert opuproj.encode(y) == opuproj.encode(y.toarray())


def test_values_that_are_not_finite_are_named() -> None:
    dense = floats(5, 30)
    dense[2, [4, 9]], dense[3, 1] = (np.inf, np.nan), np.nan
    for call in (
        lambda x: opuproj.project(x, 5, digits=5),
        lambda x: opuproj.encode(x),
        lambda x: opuproj.Projector(30, 5)(x, digits=3),
    ):
        for x in (dense, sparse.csr_array(dense), sparse.coo_array(dense)):
            with pytest.raises(ValueError, match=r"^x\[2, 9\] is NaN, but must be finite for encoding"):
                call(x)
    dense[2, 9] = 0
    with pytest.raises(ValueError, match=r"^x\[2, 4\] is inf, but must be finite for encoding"):
        opuproj.encode(sparse.csr_array(dense))
    with pytest.raises(ValueError, match=r"^e\[2, 4\] is inf, but must be finite for a relative threshold"):
        opuproj.ternarize(sparse.csr_array(dense), relative=0.5)
    with pytest.raises(ValueError, match=r"^e\[3, 1\] is NaN, but must be a number"):
        opuproj.ternarize(sparse.csr_array(dense), 0.5)


def test_places_that_do_not_exist_are_refused_by_name() -> None:
    x = sparse.csr_array(ternary(3, 20))
    x.indices[4] = 20
    for call in CALLS.values():
        with pytest.raises(ValueError, match=r"^[xye] is not a valid CSR matrix: .*20"):
            call(x)


def test_real_numbers_of_a_matrix_that_is_far_too_large_to_be_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    n = 2**40
    columns = np.array([7, 12_345_678_901, n - 1])
    x = sparse.csr_array((np.array([0.5, -3.0, 0.25]), columns, [0, 2, 3, 3]), shape=(3, n))
    few = np.array([[0.5, -3.0, 0], [0, 0, 0.25], [0, 0, 0]])
    monkeypatch.setattr(sparse.csr_array, "toarray", None)
    op = opuproj.Projector(n, 20, mode="complex", dtype=complex)
    exact = opuproj.encode(few, digits=10).to_numpy() @ op.matrix(columns=columns).T
    np.testing.assert_allclose(op(x, digits=10), exact, rtol=1e-12, atol=1e-12)
    exact = np.sign(few) @ op.matrix(columns=columns).T
    np.testing.assert_allclose(op(x.sign()), exact, rtol=1e-12, atol=1e-12)


def test_rounding_a_matrix_that_is_far_too_large_to_be_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    n = 20_000_000
    x = sparse.csr_array((np.array([0.5, -3.0, 0.25]), [7, 12_345_678, n - 1], [0, 2, 3, 3]), shape=(3, n))
    monkeypatch.setattr(sparse.csr_array, "toarray", None)
    assert opuproj.ternarize(x, relative=0.5).nnz_per_row.tolist() == [1, 1, 0]
    assert opuproj.encode(x, digits=2).digits[0].nnz_per_row.tolist() == [1, 1, 0]
