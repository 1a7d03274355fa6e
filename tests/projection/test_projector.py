"""opuproj.Projector: an operator that behaves as a matrix, and as a value."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import opuproj
import oracle
import pytest
from helpers import LINEAR_MODES, MODES, assert_same_bits, ternary
from opuproj import Projector

pytestmark = pytest.mark.every_backend


@pytest.mark.parametrize("mode", MODES)
def test_it_projects_as_project_does(mode: str) -> None:
    x = ternary(3, 40)
    op = Projector(40, 30, seed=5, mode=mode, n_anchor=7, dtype=np.float64)
    expected = opuproj.project(x, 30, seed=5, mode=mode, n_anchor=7, dtype=np.float64)
    assert_same_bits(op(x), expected)
    assert_same_bits(op @ x, expected)
    assert_same_bits(op @ x[0], expected[0])
    out = np.empty_like(expected)
    assert op(x, out=out) is out
    assert_same_bits(out, expected)


def test_linear_is_the_default() -> None:
    assert Projector(4, 5).mode == "linear"
    assert Projector(4, 5).dtype == np.float32
    assert Projector(4, 5, mode="complex").dtype == np.complex64


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_multiplies_by_its_matrix(mode: str, dtype: type) -> None:
    x = ternary(6, 200)
    op = Projector(200, 50, seed=1, mode=mode, dtype=dtype)[10:]
    matrix = op.matrix()
    assert matrix.shape == op.shape == (40, 200)
    assert matrix.dtype == (op.dtype if mode != "intensity" else np.result_type(dtype, np.complex64))
    product = x @ matrix.T
    if mode == "intensity":
        product = np.abs(product) ** 2
    np.testing.assert_allclose(op @ x, product, rtol=1e-4 if dtype == np.float32 else 1e-12, atol=1e-4)


def test_columns_of_the_matrix_are_projected_unit_vectors() -> None:
    for mode in LINEAR_MODES:
        op = Projector(20, 30, seed=9, mode=mode, dtype=np.float64)
        np.testing.assert_allclose(op.matrix().T, op(np.eye(20)), rtol=1e-14, atol=1e-15)


def test_windows_of_the_matrix() -> None:
    op = Projector(100, 80, seed=3, mode="complex")
    whole = op.matrix()
    for rows, columns in [
        (slice(3, 9), slice(90, None)),
        (slice(None, None, -7), slice(5, 50, 3)),
        (range(70, 80), range(99, -1, -1)),
        ([5, 5, 0, -1], [-100, 99]),
        (np.array([7, 3], np.uint8), np.arange(4, dtype=np.int32)),
        ((1, 2), []),
        (None, [0]),
    ]:
        i = np.arange(80)[slice(None) if rows is None else rows if isinstance(rows, slice) else list(rows)]
        j = np.arange(100)[columns if isinstance(columns, slice) else np.array(columns, int)]
        assert_same_bits(op.matrix(rows, columns), whole[np.ix_(i, j)])
    assert_same_bits(op[20:40].matrix([0, -1], [5]), whole[np.ix_([20, 39], [5])])


def test_the_matrix_of_an_operator_that_no_memory_holds() -> None:
    op = Projector(10**6, 2 * 10**6, mode="complex", dtype=np.float64)
    re, im = oracle.entries(0, [1_999_999], [999_999, 0])
    np.testing.assert_allclose(op.matrix([-1], [-1, 0]), (re + 1j * im) / oracle.SCALE, rtol=1e-14)


@pytest.mark.parametrize("mode", MODES)
def test_rows_are_the_same_entries(mode: str) -> None:
    x = ternary(2, 40)
    op = Projector(40, 100, seed=2, mode=mode)
    y = op(x)
    assert_same_bits(op.rows(10, 33)(x), y[:, 10:33])
    for part in (slice(10, 33), slice(None), slice(-7, None), slice(90, 200), slice(50, 20), slice(None, -99)):
        assert_same_bits(op[part](x), y[:, part])
        assert op[part].shape == (len(range(100)[part]), 40)
    assert_same_bits(op[10:90][5:20].rows(1, 4)(x), y[:, 16:19])
    assert op[10:90][5:20].row_start == 15
    assert op.rows(8, 8)(x).shape == (2, 0)


def test_a_prefix_does_not_depend_on_the_size() -> None:
    assert Projector(10, 1000)[0:50] == Projector(10, 50)
    assert_same_bits(Projector(10, 1000).matrix()[:50], Projector(10, 50).matrix())
    assert_same_bits(Projector(200, 30).matrix()[:, :10], Projector(10, 30).matrix())


def test_equality_and_hash() -> None:
    op = Projector(10, 20, seed=3)
    for same in (Projector(10, 20, seed=3), Projector(10, 20, seed=np.int16(3)), Projector(10, 20, seed=3, threads=1)):
        assert same == op
        assert hash(same) == hash(op)
    for other in (
        Projector(11, 20, seed=3),
        Projector(10, 21, seed=3),
        Projector(10, 20, seed=4),
        Projector(10, 20, seed=3, mode="complex"),
        Projector(10, 20, seed=3, mode="real"),
        Projector(10, 20, seed=3, n_anchor=65),
        Projector(10, 20, seed=3, dtype=np.float64),
        Projector(10, 30, seed=3)[10:],
        "Projector",
    ):
        assert other != op
    assert len({op, Projector(10, 20, seed=3), op[:5]}) == 2


@pytest.mark.parametrize(
    "op",
    [
        Projector(10, 20),
        Projector(10, 20, seed=2**64 - 1, mode="complex", n_anchor=3, dtype=np.float64, threads=2),
        Projector(10, 20)[5:],
        Projector(10, 20)[5:8],
        Projector(10, 20)[:0],
        Projector(10, 20)[7:7],
        Projector(10, 20, seed=2**63, mode="real", dtype=np.float64)[3:18],
    ],
    ids=repr,
)
def test_it_survives_repr_pickle_and_copies(op: Projector) -> None:
    copies = [eval(repr(op)), copy.copy(op), copy.deepcopy(op), copy.deepcopy([op])[0]]
    copies += [pickle.loads(pickle.dumps(op, protocol)) for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)]
    x = ternary(10)
    for other in copies:
        assert other == op
        assert (other.threads, other.row_start, other.shape) == (op.threads, op.row_start, op.shape)
        assert_same_bits(other(x), op(x))


def test_it_is_small() -> None:
    assert len(pickle.dumps(Projector(10**6, 2 * 10**6))) < 500


@pytest.mark.parametrize("name", ["n_inputs", "n_outputs", "seed", "mode", "n_anchor", "dtype", "threads", "row_start"])
def test_it_is_immutable(name: str) -> None:
    op = Projector(10, 20, threads=1)
    before = getattr(op, name)
    with pytest.raises(AttributeError):
        setattr(op, name, before)
    with pytest.raises(AttributeError):
        delattr(op, name)
    assert getattr(op, name) == before


def test_an_array_times_an_operator_is_refused() -> None:
    with pytest.raises(
        TypeError, match=r"op @ x projects the rows .* n_inputs \(10\) .* op.T @ x .* n_outputs \(20\) back"
    ):
        ternary(2, 20) @ Projector(10, 20)
    for without_adjoint in ({"mode": "intensity"}, {"ensemble": "structured"}):
        with pytest.raises(TypeError, match=r"which have n_inputs \(10\) elements$"):
            ternary(2, 20) @ Projector(10, 20, **without_adjoint)
    with pytest.raises(TypeError):
        np.add(1, Projector(10, 20))


@pytest.mark.parametrize("factor", [2, 0.5, np.float32(2), np.ones(20)])
def test_an_operator_is_not_scaled(factor: Any) -> None:
    op = Projector(10, 20)
    for multiply in (lambda: op * factor, lambda: factor * op):
        with pytest.raises(TypeError, match=r"multiply its results, as in 2 \* op\(x\)"):
            multiply()


def test_project_is_the_operator() -> None:
    x = ternary(7, 40)
    for mode in MODES:
        y = opuproj.project(x, 64, mode=mode, seed=1, rows=(8, 40))
        assert_same_bits(Projector(40, 64, mode=mode, seed=1)[8:40] @ x, y)


def test_windows_and_cameras_keep_a_subclass() -> None:
    class Named(Projector):
        pass

    op = Named(10, 20)
    for same in (op[1:3], op.rows(0, 2), op.with_camera(None)):
        assert type(same) is Named
