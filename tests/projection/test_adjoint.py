"""The adjoint: what it is to the definition's matrix, to the forward projection, and to solvers."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import opuproj
import oracle
import pytest
from helpers import AWKWARD, CAMERA_MODES, LINEAR_MODES, assert_same_bits, examples
from hypothesis import given
from hypothesis import strategies as st
from opuproj import Adjoint, Camera, Projector


def numbers(*shape: int, mode: str = "linear", seed: int = 0) -> np.ndarray:
    random = np.random.default_rng([seed, *shape])
    y = random.standard_normal(shape)
    return y + 1j * random.standard_normal(shape) if mode == "complex" else y


def operator(mode: str, n_inputs: int, n_outputs: int, **options: Any) -> Projector:
    dtype = complex if mode == "complex" else float
    return Projector(n_inputs, n_outputs, mode=mode, **{"seed": 3, "dtype": dtype, **options})  # type: ignore[arg-type]


def bound(op: Projector, y: np.ndarray, digits: int) -> np.ndarray:
    """What the docstring of Adjoint promises, and a little for rounding to double precision."""
    mode, factor = {"linear": ("complex", 2), "complex": ("complex", np.sqrt(2)), "real": ("real", 1)}[op.mode]
    column_sums = np.abs(operator(mode, op.n_inputs, op.row_start + op.n_outputs)[op.row_start :].matrix()).sum(axis=0)
    largest = np.abs(y).max(axis=-1)[..., None]
    promised = factor * largest * column_sums / (3**digits - 1)
    return promised + 1e-12 * largest * column_sums


# The definition


@pytest.mark.every_backend
@pytest.mark.parametrize("n_outputs", [1, 7, 8, 9, 31, 33, 500])
@pytest.mark.parametrize("n_inputs", [1, 15, 17, 256, 300])
def test_ternary_vectors_give_the_definitions_integers(n_inputs: int, n_outputs: int) -> None:
    random = np.random.default_rng(0)
    y = random.integers(-1, 2, (5, n_outputs)) + 1j * random.integers(-1, 2, (5, n_outputs))
    y[:, 0] = 1 - 1j  # so that the scale is 1
    re, im = oracle.entries(3, range(n_outputs), range(n_inputs))
    expected = (y.real @ re + y.imag @ im) + 1j * (y.imag @ re - y.real @ im)
    x = operator("complex", n_inputs, n_outputs).H(y, digits=1)
    assert_same_bits(x.real, expected.real * (1 / np.sqrt(2048)))
    assert_same_bits(x.imag, expected.imag * (1 / np.sqrt(2048)))
    transposed = operator("complex", n_inputs, n_outputs).T(y, digits=1)
    assert_same_bits(transposed.real, (y.real @ re - y.imag @ im) * (1 / np.sqrt(2048)))
    assert_same_bits(transposed.imag, (y.imag @ re + y.real @ im) * (1 / np.sqrt(2048)))
    real = oracle.real_entries(3, range(n_outputs), range(n_inputs))
    assert_same_bits(operator("real", n_inputs, n_outputs).H(y.real, digits=1), y.real @ real / 32)


@pytest.mark.every_backend
@pytest.mark.parametrize("mode", LINEAR_MODES)
def test_unit_vectors_give_the_rows_of_the_matrix(mode: str) -> None:
    op = operator(mode, 130, 70, n_anchor=9)
    np.testing.assert_allclose(op.H(np.eye(70)), op.matrix().conj(), rtol=0, atol=4 * 3.2 / (3**20 - 1))
    np.testing.assert_allclose(op.T(np.eye(70)), op.matrix(), rtol=0, atol=4 * 3.2 / (3**20 - 1))
    window = op.rows(13, 50)
    assert_same_bits(window.H(np.eye(37)), op.H(np.eye(70)[13:50]))
    assert_same_bits(window[3:5].T(np.eye(2)), op.T(np.eye(70)[16:18]))


@pytest.mark.parametrize("mode", LINEAR_MODES)
@pytest.mark.parametrize("digits", [1, 2, 5, 6, 10, 15, 20])
def test_no_result_is_off_by_more_than_promised(mode: str, digits: int) -> None:
    op = operator(mode, 50, 333).rows(5, 300)
    y = numbers(4, 295, mode=mode) * np.array([1, 1e-30, 1e30, 3])[:, None]
    matrix = op.matrix()
    wrong = np.abs(op.H(y, digits=digits) - y @ matrix.conj())
    assert (wrong <= bound(op, y, digits)).all()
    # And the bound says something: it is not a thousand times too large.
    if digits <= 10:
        assert (wrong.max(axis=1) > bound(op, y, digits).max(axis=1) / 1000).all()


@pytest.mark.every_backend
@examples(60)
@given(data=st.data(), mode=st.sampled_from(LINEAR_MODES))
def test_the_adjoint_identity(data: Any, mode: str) -> None:
    n_inputs, n_outputs = (data.draw(st.sampled_from(AWKWARD) | st.integers(1, 400)) for _ in range(2))
    start = data.draw(st.integers(0, n_outputs - 1))
    op = operator(mode, n_inputs, n_outputs, n_anchor=data.draw(st.integers(1, 100))).rows(start, n_outputs)
    digits = data.draw(st.integers(1, 20))
    x = np.random.default_rng(1).integers(-1, 2, n_inputs)
    y = numbers(op.n_outputs, mode=mode)
    difference = np.vdot(y, op(x)) - np.vdot(op.H(y, digits=digits), x)
    assert abs(difference) <= bound(op, y, digits) @ np.abs(x)


def test_a_dark_vector_gives_zeros_of_positive_sign() -> None:
    for mode in LINEAR_MODES:
        for adjoint in (operator(mode, 9, 20).H, operator(mode, 9, 20).T):
            assert_same_bits(adjoint(np.zeros((2, 20))), np.zeros((2, 9), complex if mode == "complex" else float))


def test_more_rows_than_one_chunk_of_sums_takes() -> None:
    # 121 times 200,000 entries of up to 100 might not fit: fewer digits are added up then.
    op = operator("complex", 3, 100_000, dtype=complex)
    t = op.matrix()
    y = np.exp(1j * np.angle(t[:, 1]))
    x = op.H(y, digits=5)
    assert (np.abs(x - t.conj().T @ y) <= bound(op, y, 5)).all()


# Every way to ask


@pytest.mark.parametrize("mode", LINEAR_MODES)
def test_every_way_to_ask_gives_the_same_bits(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    op = operator(mode, 200, 150)
    y = numbers(3, 4, 150, mode=mode)
    x = op.H(y)
    assert x.shape == (3, 4, 200)
    assert_same_bits(op.H @ y, x)
    assert_same_bits(op.H(y[1, 2]), x[1, 2])
    assert_same_bits(op.H(y[..., ::-1].copy()[..., ::-1]), x)
    assert_same_bits(Projector(**{**arguments(op), "threads": 3}).H(y), x)  # type: ignore[arg-type]
    if mode in CAMERA_MODES:
        assert_same_bits(op.with_camera(Camera(photons=5)).H(y), x)
    assert_same_bits(op.rmatmat(y[0].T).T, x[0])
    assert_same_bits(op.rmatvec(y[0, 0]), x[0, 0])
    assert_same_bits(op.rmatvec(y[0, 0][:, None]), x[0, 0][:, None])
    out = np.empty((3, 4, 400), x.dtype)[..., 100:300]
    assert op.H(y, out=out) is out
    assert_same_bits(out, x)
    # In several blocks, as a batch too large to be encoded at once is.
    monkeypatch.setattr("opuproj._memory.BLOCK_BYTES", 2000)
    assert_same_bits(op.H(y), x)


def arguments(op: Projector) -> dict[str, Any]:
    return {name: getattr(op, name) for name in ("n_inputs", "n_outputs", "seed", "mode", "n_anchor", "dtype")}


@pytest.mark.parametrize("mode", LINEAR_MODES)
def test_the_transpose_is_that_of_the_conjugate(mode: str) -> None:
    op = operator(mode, 40, 30)
    y = numbers(2, 30, mode=mode)
    assert np.array_equal(op.T @ y, (op.H @ y.conj()).conj())
    assert op.T.T == op.H.H == op
    if mode != "complex":
        assert op.T == op.H
        assert op.T.H == op.T.T


def test_it_is_a_value_of_few_bytes() -> None:
    adjoint = operator("complex", 10**6, 2 * 10**6).H
    assert isinstance(adjoint, Adjoint)
    assert adjoint.shape == (10**6, 2 * 10**6)
    assert pickle.loads(pickle.dumps(adjoint)) == adjoint
    assert adjoint != adjoint.operator.T
    assert len(pickle.dumps(adjoint)) < 2000


def test_the_precision_of_the_result() -> None:
    for dtype, y_dtype, expected in [
        ("float32", np.float32, np.complex64),
        ("float32", np.complex64, np.complex64),
        ("float32", np.int64, np.complex64),
        ("float32", np.float64, np.complex128),
        ("float32", np.complex128, np.complex128),
        ("float64", np.float16, np.complex128),
    ]:
        op = Projector(30, 20, mode="complex", dtype=dtype)
        x = op.H(np.ones(20, y_dtype))
        assert x.dtype == expected
        exact = op.matrix().conj().sum(axis=0)
        np.testing.assert_allclose(x, exact, rtol=1e-5)
        for mode in ("linear", "real"):
            x = Projector(30, 20, mode=mode, dtype=dtype).H(np.ones(20, y_dtype).real)
            assert x.dtype == np.empty(0, expected).real.dtype


def test_tensors_come_back_as_tensors() -> None:
    torch = pytest.importorskip("torch")
    y = numbers(4, 60, mode="complex")
    op = Projector(30, 60, mode="complex")
    for dtype in (torch.complex64, torch.complex128):
        tensor = torch.from_numpy(y).to(dtype)
        x = op.H(tensor)
        assert isinstance(x, torch.Tensor)
        assert x.dtype == dtype
        assert_same_bits(x.numpy(), op.H(tensor.numpy()))
        assert_same_bits(op.H(tensor.conj()).numpy(), op.H(tensor.numpy().conj()))
    real = torch.from_numpy(y.real).to(torch.bfloat16)
    assert_same_bits(op.H(real).numpy(), op.H(real.float().numpy()))


def test_progress_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    operator("linear", 300, 40).H(numbers(2, 40), progress=True)
    assert "600/600" in capsys.readouterr().err.replace(".0", "")


# Solvers


@pytest.mark.parametrize("mode", LINEAR_MODES)
def test_solvers_find_what_they_find_with_the_dense_matrix(mode: str) -> None:
    linalg = pytest.importorskip("scipy.sparse.linalg")
    op = operator(mode, 40, 120)
    matrix, b = op.matrix(), numbers(120, mode=mode)
    lazy = linalg.aslinearoperator(op)
    assert (lazy.shape, lazy.dtype) == (matrix.shape, matrix.dtype)
    exact = np.linalg.lstsq(matrix, b)[0]
    if mode != "complex":  # SciPy's two take real systems only
        for solve in (linalg.lsqr, linalg.lsmr):
            found = solve(lazy, b, atol=1e-12, btol=1e-12)[0]
            np.testing.assert_allclose(found, exact, atol=1e-7)
    found = linalg.svds(lazy, k=3, tol=1e-9, v0=np.ones(40))
    expected = np.linalg.svd(matrix)
    np.testing.assert_allclose(np.sort(found[1])[::-1], expected[1][:3], rtol=1e-8)
    np.testing.assert_allclose(np.abs(np.sum(found[2][::-1] * expected[2][:3].conj(), axis=1)), 1, rtol=1e-6)


def test_real_and_complex_vectors_are_multiplied_in_enough_digits() -> None:
    for dtype, wrong in ((np.complex64, 1e-4), (np.complex128, 1e-8)):
        op = Projector(70, 50, mode="complex", dtype=dtype)
        matrix, x = op.matrix(), numbers(70, 3, mode="complex")
        for columns in (x, x.real):
            np.testing.assert_allclose(op.matmat(columns), matrix @ columns, rtol=0, atol=wrong * 10)
            np.testing.assert_allclose(op.matvec(columns[:, 0]), matrix @ columns[:, 0], rtol=0, atol=wrong * 10)
            assert op.matvec(columns[:, :1]).shape == (50, 1)
        assert op.matvec(x[:, 0]).dtype == dtype


# Misuse


def test_an_intensity_has_no_adjoint() -> None:
    op = Projector(5, 4, mode="intensity")
    for ask in (lambda: Adjoint(op), lambda: op.matvec(np.ones(5)), lambda: op.rmatvec(np.ones(4))):
        with pytest.raises(ValueError, match="mode is 'intensity', which is not linear"):
            ask()
    for name in ("H", "T"):
        assert not hasattr(op, name)
        with pytest.raises(AttributeError, match="mode is 'intensity', which is not linear and has no adjoint"):
            getattr(op, name)


def test_bad_vectors_are_refused_by_name() -> None:
    op = Projector(5, 4)
    y = np.ones((2, 3, 4))
    for bad, shown in ((np.nan, "NaN"), (np.inf, "inf")):
        wrong = y.copy()
        wrong[1, 0, 2] = bad
        for window in (op, Projector(5, 50).rows(13, 17), Projector(5, 50, mode="real").rows(13, 17)):
            with pytest.raises(ValueError, match=rf"^y\[1, 0, 2\] is {shown}, but must be finite"):
                window.H(wrong)
    with pytest.raises(ValueError, match=r"^y\[1\] is NaN"):
        Projector(5, 4, mode="complex").rows(1, 4).H([1, np.nan * 1j, 2])
    with pytest.raises(ValueError, match=r"y has shape \(2, 5\), so its vectors have 5 numbers, but .* takes 4"):
        op.H(np.ones((2, 5)))
    for mode in ("linear", "real"):
        with pytest.raises(TypeError, match=r"y has dtype complex128, but must hold integers, booleans or real"):
            Projector(5, 4, mode=mode).H(np.ones(4, complex))
    with pytest.raises(TypeError, match="y has dtype <U1"):
        Projector(5, 4, mode="complex").H(["a"] * 4)
    with pytest.raises(ValueError, match="digits is 21, but must be from 1 to 20"):
        op.H(y, digits=21)
    with pytest.raises(ValueError, match="out has shape"):
        op.H(y, out=np.empty((2, 3, 4)))
    with pytest.raises(AttributeError, match="conjugate of T"):
        _ = Projector(5, 4, mode="complex").H.T
    with pytest.raises(AttributeError, match="conjugate of T"):
        _ = Projector(5, 4, mode="complex").T.H


@pytest.mark.parametrize("mode", LINEAR_MODES)
def test_all_vectors_are_looked_at_before_the_first_is_projected(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opuproj._memory.BLOCK_BYTES", 2000)  # several blocks
    op = operator(mode, 200, 150)
    y = numbers(12, 150, mode=mode)
    y[11, 70] = np.nan
    out = np.full((12, 200), 7, op.dtype)
    with pytest.raises(ValueError, match=r"^y\[11, 70\] is NaN"):
        op.H(y, out=out)
    assert (out == 7).all()


@pytest.mark.parametrize("mode", LINEAR_MODES)
def test_the_adjoint_of_no_outputs_gives_zeros(mode: str) -> None:
    op = operator(mode, 20, 50)
    for window in (op[5:5], op[50:]):
        for adjoint in (window.H, window.T):
            assert_same_bits(adjoint(np.zeros(0)), np.zeros(20, op.dtype))
            assert_same_bits(adjoint(np.zeros((2, 3, 0))), np.zeros((2, 3, 20), op.dtype))
        assert_same_bits(window.rmatvec(np.zeros(0)), np.zeros(20, op.dtype))
        assert_same_bits(window.rmatmat(np.zeros((0, 4))), np.zeros((20, 4), op.dtype))
        out = np.full(20, 7, op.dtype)
        assert window.H(np.zeros(0), out=out) is out
        assert_same_bits(out, np.zeros(20, op.dtype))
        with pytest.raises(ValueError, match=r"y has shape \(3,\), so its vectors have 3 numbers, .* takes 0"):
            window.H(np.zeros(3))
    with pytest.raises(ValueError, match=r"y has shape \(2, 0\), so its vectors have 0 numbers, .* takes 50"):
        op.H(np.zeros((2, 0)))


def test_no_vectors_need_no_work() -> None:
    assert opuproj.Projector(5, 4).H(np.ones((0, 4))).shape == (0, 5)
