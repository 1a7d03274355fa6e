"""Real numbers against a threshold: opuproj.ternarize."""

from __future__ import annotations

from typing import Any

import numpy as np
import opuproj
import pytest
from helpers import assert_same_bits
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

reals = hnp.arrays(
    st.sampled_from([np.float32, np.float64, np.float16]),
    hnp.array_shapes(min_dims=1, max_dims=3, max_side=20),
    elements=st.floats(-4, 4, width=16),
)


def by_numpy(e: np.ndarray, t: object) -> np.ndarray:
    return np.where(e > t, 1, np.where(e < -t, -1, 0)).astype(np.int8)  # type: ignore[operator]


@pytest.mark.every_backend
@given(reals, st.sampled_from([0, 0.1, 0.25, 1.0, 4.0, 1e-30]))
def test_a_fixed_threshold(e: np.ndarray, threshold: float) -> None:
    assert_same_bits(opuproj.ternarize(e, threshold).to_numpy(), by_numpy(e, e.dtype.type(threshold)))


@pytest.mark.every_backend
@given(reals, st.sampled_from([0, 0.1, 0.25, 0.5, 0.999]))
def test_a_threshold_relative_to_each_row(e: np.ndarray, relative: float) -> None:
    t = np.abs(e).max(axis=-1, keepdims=True) * e.dtype.type(relative)
    assert_same_bits(opuproj.ternarize(e, relative=relative).to_numpy(), by_numpy(e, t))


@pytest.mark.every_backend
@given(reals, st.sampled_from([0, 0.1, 0.25, 0.5, 0.999]))
def test_a_threshold_relative_to_all(e: np.ndarray, relative: float) -> None:
    t = np.abs(e).max() * e.dtype.type(relative)
    assert_same_bits(opuproj.ternarize(e, relative=relative, scale="global").to_numpy(), by_numpy(e, t))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_ties_and_zeros_are_zero(dtype: type) -> None:
    e = np.array([0.1, -0.1, 0.0, -0.0, 0.2, -0.2], dtype)
    assert opuproj.ternarize(e, float(dtype(0.1))).to_numpy().tolist() == [0, 0, 0, 0, 1, -1]
    assert opuproj.ternarize(e, 0).to_numpy().tolist() == [1, -1, 0, 0, 1, -1]
    if dtype != np.longdouble:
        assert opuproj.ternarize(e, 0.1).to_numpy().tolist() == [0, 0, 0, 0, 1, -1]
        assert opuproj.ternarize(e, relative=0.5).to_numpy().tolist() == [0, 0, 0, 0, 1, -1]


def test_integers_and_booleans_are_numbers_too() -> None:
    e = np.array([-300, -2, 0, 2, 3], np.int16)
    assert opuproj.ternarize(e, 2).to_numpy().tolist() == [-1, 0, 0, 0, 1]
    assert opuproj.ternarize(e.astype(np.int64), 2.5).to_numpy().tolist() == [-1, 0, 0, 0, 1]
    assert opuproj.ternarize(np.array([200, 1, 0], np.uint8), relative=0.1).to_numpy().tolist() == [1, 0, 0]
    assert opuproj.ternarize([True, False], 0.5).to_numpy().tolist() == [1, 0]


def test_a_row_of_zeros_stays_zero() -> None:
    e = np.array([[0.0, 0.0], [1e-40, 1.0], [1e-40, 0.0]])
    assert opuproj.ternarize(e, relative=0.1).to_numpy().tolist() == [[0, 0], [0, 1], [1, 0]]
    assert opuproj.ternarize(e, relative=0.1, scale="global").to_numpy().tolist() == [[0, 0], [0, 1], [0, 0]]


@pytest.mark.parametrize("scale", ["row", "global"])
def test_no_rows_give_no_rows(scale: Any) -> None:
    for shape in ((0, 5), (3, 0, 5), (0, 3, 5)):
        assert opuproj.ternarize(np.zeros(shape), relative=0.1, scale=scale).shape == shape


def test_infinities() -> None:
    e = np.array([np.inf, -np.inf, 1.0])
    assert opuproj.ternarize(e, 3).to_numpy().tolist() == [1, -1, 0]
    for scale in ("row", "global"):
        with pytest.raises(ValueError, match=r"e\[0\] is inf"):
            opuproj.ternarize(e, relative=0.1, scale=scale)


@pytest.mark.parametrize("how", [{"threshold": 0.1}, {"relative": 0.1}, {"relative": 0.1, "scale": "global"}])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_nan_is_refused_where_it_stands(how: dict, dtype: type) -> None:
    e = np.zeros((3, 4, 100), dtype)
    e[2, 1, 77] = np.nan
    with pytest.raises(ValueError, match=r"e\[2, 1, 77\] is (NaN|nan)"):
        opuproj.ternarize(e, **how)


def test_bad_thresholds() -> None:
    e = np.zeros(3)
    for wrong in (-0.1, np.inf, np.nan):
        with pytest.raises(ValueError, match="threshold is"):
            opuproj.ternarize(e, wrong)
    for wrong in (-0.1, 1, 1.5, np.nan):
        with pytest.raises(ValueError, match="relative is"):
            opuproj.ternarize(e, relative=wrong)
    with pytest.raises(TypeError, match="neither"):
        opuproj.ternarize(e)
    with pytest.raises(TypeError, match="both"):
        opuproj.ternarize(e, 0.1, relative=0.1)
    with pytest.raises(TypeError, match="threshold is 'a'"):
        opuproj.ternarize(e, "a")  # type: ignore[arg-type]
    for no_number in ("0.5", b"0.5", True, np.True_):
        with pytest.raises(TypeError, match=r"threshold is .*, but must be a number"):
            opuproj.ternarize(e, no_number)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"relative is .*, but must be a number"):
            opuproj.ternarize(e, relative=no_number)  # type: ignore[arg-type]
    assert opuproj.ternarize(e + 1, np.array(0.5)) == opuproj.pack([1, 1, 1])
    with pytest.raises(ValueError, match="scale is 'column'"):
        opuproj.ternarize(e, relative=0.1, scale="column")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="TernaryBatch"):
        opuproj.ternarize(opuproj.pack([1]), 0.1)


def test_large_inputs_go_through_in_pieces() -> None:
    e = np.random.default_rng(0).standard_normal((300, 10_007)).astype(np.float32)
    assert e.nbytes > 2 * 2**22
    for view in (e, e[:, ::-1], e.T, e.reshape(3, 100, 10_007).transpose(1, 0, 2)):
        t = np.abs(view).max(axis=-1, keepdims=True) * np.float32(0.3)
        assert_same_bits(opuproj.ternarize(view, relative=0.3).to_numpy(), by_numpy(view, t))
