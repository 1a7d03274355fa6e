"""Real numbers as digits: what they stand for, and projections of exactly that."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import opuproj
import oracle
import pytest
from helpers import CAMERA_MODES, MODES, assert_same_bits, examples
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from opuproj import Camera, EncodedBatch, Projector, _core

CODES = (
    {"digits": 1},
    {"digits": 5},
    {"digits": 10},
    {"digits": 11},
    {"digits": 20},
    {"planes": 1},
    {"planes": 7},
    {"planes": 15},
)


def largest_integer(digits: int | None = None, planes: int | None = None) -> int:
    return 2**planes - 1 if planes else (3 ** (digits or 0) - 1) // 2


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def integers(batch: EncodedBatch) -> np.ndarray:
    return sum(  # type: ignore[return-value]
        digit.to_numpy(np.int64) * batch.base ** (batch.n_digits - 1 - k) for k, digit in enumerate(batch.digits)
    )


# What the digits stand for


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_digits_are_the_nearest_integers(code: dict[str, int], dtype: Any) -> None:
    x = numbers(3, 2, 1100).astype(dtype)
    x[1, 0] = 0
    batch = opuproj.encode(x, **code)
    top = largest_integer(**code)
    assert (batch.shape, batch.ndim, batch.n_inputs, len(batch)) == ((3, 2, 1100), 3, 1100, 3)
    scale = np.abs(x.astype(float)).max(axis=-1) / top
    np.testing.assert_array_equal(batch.scale, scale)
    factor = np.divide(top, np.abs(x.astype(float)).max(axis=-1), out=np.zeros((3, 2)), where=scale > 0)
    expected = np.rint(x.astype(float) * factor[..., None])
    assert np.array_equal(integers(batch), expected)
    np.testing.assert_allclose(batch.to_numpy(), expected * scale[..., None], rtol=1e-15)
    # To float64's own rounding of numbers as large as the integers.
    assert (np.abs(batch.to_numpy() - x) <= scale[..., None] * (0.5 + 1e-15 * top)).all()


@examples(60)
@pytest.mark.every_backend
@given(
    hnp.arrays(np.float64, st.tuples(st.integers(0, 4), st.integers(1, 140)), elements=st.floats(-1e300, 1e300)),
    st.integers(1, 20),
)
def test_no_element_is_off_by_more_than_promised(x: np.ndarray, digits: int) -> None:
    decoded = opuproj.encode(x, digits=digits).to_numpy()
    bound = np.abs(x).max(axis=1, initial=0) / (3**digits - 1)
    assert (np.abs(decoded - x) <= bound[:, None] * (1 + 1e-15 * 3**digits) + 5e-324 * 3**digits).all()


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("size", [1e-310, 1e-305, 1e-290, 1e-240, 1e300, 1.7976931348623157e308])
def test_sizes_at_the_ends_of_float64(code: dict[str, int], size: float) -> None:
    x = np.array([1.0, 0.0, -0.5, 1e-3, -1.0]) * size
    decoded = opuproj.encode(x, **code).to_numpy()
    assert (
        np.abs(decoded - x) <= size / largest_integer(**code) * 0.51 + 1e-318 + 5e-324 * largest_integer(**code)
    ).all()


def test_bit_planes_are_those_of_magnitude_and_sign() -> None:
    batch = opuproj.encode(np.array([7.0, -5.0, 0.4, 2.0, -1.0]), planes=3)
    assert [digit.to_numpy().tolist() for digit in batch.digits] == [
        [1, -1, 0, 0, 0],
        [1, 0, 0, 1, 0],
        [1, -1, 0, 0, -1],
    ]


def test_an_encoded_batch_is_a_value() -> None:
    batch = opuproj.encode(numbers(4, 30), digits=3)
    assert pickle.loads(pickle.dumps(batch)) == copy.deepcopy(batch) == batch
    assert batch != opuproj.encode(numbers(4, 30), digits=4)
    assert repr(batch) == "EncodedBatch(shape=(4, 30), 3 digits of base 3)"
    assert batch.nbytes == 3 * 4 * 16
    assert np.asarray(batch).dtype == np.float64
    assert batch.to_numpy(np.float32).dtype == np.float32
    with pytest.raises(AttributeError):
        batch.base = 2  # type: ignore[misc]
    with pytest.raises(TypeError, match="unhashable"):
        hash(batch)


# Projections


@pytest.mark.every_backend
@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("mode", MODES)
def test_a_projection_is_that_of_the_integers(code: dict[str, int], mode: str) -> None:
    x = numbers(7, 150)
    batch = opuproj.encode(x, **code)
    y = Projector(150, 90, seed=3, mode=mode, n_anchor=9, dtype=complex if mode == "complex" else float)(batch)
    re, im = oracle.field(3, integers(batch), range(90))
    scale = batch.scale[:, None]
    if mode == "complex":
        # The same exact integers, and one multiplication.
        factor = scale * (1 / np.sqrt(2048))
        assert np.array_equal(y.real, re * factor)
        assert np.array_equal(y.imag, im * factor)
    elif mode == "intensity":
        np.testing.assert_allclose(y, (re.astype(float) ** 2 + im.astype(float) ** 2) / 2048 * scale**2, rtol=1e-13)
    elif mode == "real":
        assert np.array_equal(y, oracle.real_field(3, integers(batch), range(90)) * (scale * (1 / 32)))
    else:
        r_re, r_im = oracle.anchor_field(3, 9, range(90))
        expected = (re * r_re + im * r_im) / np.hypot(r_re, r_im) / 32 * scale
        np.testing.assert_allclose(y, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.every_backend
def test_one_digit_gives_the_bits_of_a_ternary_projection() -> None:
    x = np.random.default_rng(0).integers(-1, 2, (5, 300))
    x[:, 0] = 1  # so that the scale is 1
    for mode in MODES:
        assert_same_bits(opuproj.project(x, 200, mode=mode, digits=1), opuproj.project(x, 200, mode=mode))


@pytest.mark.parametrize("mode", MODES)
def test_every_way_to_ask_gives_the_same_bits(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = numbers(3, 4, 200)
    op = Projector(200, 300, mode=mode)
    y = op(opuproj.encode(x, digits=4))
    assert y.shape == (3, 4, 300)
    assert_same_bits(op @ opuproj.encode(x, digits=4), y)
    assert_same_bits(op(x, digits=4), y)
    assert_same_bits(opuproj.project(x, 300, mode=mode, digits=4), y)
    assert_same_bits(op[20:70](x, digits=4), y[..., 20:70])
    assert_same_bits(Projector(200, 300, mode=mode, threads=3)(x, digits=4), y)
    assert_same_bits(op(x[1, 2], digits=4), y[1, 2])
    if mode in CAMERA_MODES:
        assert_same_bits(op.with_camera(Camera.ideal())(x, digits=4), y)
    out = np.empty_like(y)
    assert op(x, digits=4, out=out) is out
    assert_same_bits(out, y)
    # In several blocks, as a batch too large to be encoded at once is.
    monkeypatch.setattr("opuproj._memory.BLOCK_BYTES", 2000)
    assert_same_bits(op(x, digits=4), y)


def test_no_vectors_and_dark_vectors() -> None:
    assert opuproj.project(np.empty((0, 7)), 5, digits=5).shape == (0, 5)
    for mode in MODES:
        assert not opuproj.project(np.zeros((2, 7)), 5, mode=mode, digits=5).any()


def test_tensors_come_back_as_tensors() -> None:
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(numbers(4, 60)).to(torch.bfloat16)
    y = opuproj.project(x, 30, mode="linear", digits=6)
    assert isinstance(y, torch.Tensor)
    assert_same_bits(y.numpy(), opuproj.project(x.float().numpy(), 30, mode="linear", digits=6))


def test_a_batch_that_fits_is_projected_in_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = []
    project = _core.project
    monkeypatch.setattr(
        _core,
        "project",
        lambda batch, *rest, **options: blocks.append(batch.n_rows) or project(batch, *rest, **options),
    )
    opuproj.project(numbers(64, 4000), 5, digits=5)
    assert blocks == [64]


# In front of a camera


def test_digits_are_photographed_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = opuproj.encode(numbers(6, 200), digits=3)
    camera = Camera(bits=10, full_scale=4.0)
    op = Projector(200, 400, camera=camera, n_anchor=50, dtype=float)
    parts = [op(digit) for digit in batch.digits]
    expected = (9 * parts[0] + 3 * parts[1] + parts[2]) * batch.scale[:, None]
    np.testing.assert_allclose(op(batch), expected, rtol=1e-12, atol=1e-12)
    exact = op.with_camera(None)(batch)
    assert 0.5 < np.corrcoef(op(batch).ravel(), exact.ravel())[0, 1] < 0.9999
    noisy = op.with_camera(Camera(photons=50))
    assert_same_bits(noisy(batch, noise_seed=1), noisy(batch, noise_seed=1))
    assert (noisy(batch, noise_seed=1) != noisy(batch, noise_seed=2)).mean() > 0.5
    # In several windows of outputs, so that the working memory is bounded.
    whole = noisy(batch, noise_seed=1)
    monkeypatch.setattr("opuproj.backends.cpu.projection._EXPOSURE_BYTES", 6 * 8 * 70)
    assert_same_bits(noisy(batch, noise_seed=1), whole)
    with pytest.raises(ValueError, match="a camera sees the digits of x one after the other"):
        Projector(200, 9, mode="intensity", camera=camera)(batch)


# Misuse


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        ([0.5, np.nan], {}, r"x\[1\] is NaN, but must be finite for encoding"),
        ([[0.5, 1], [np.inf, 1]], {}, r"x\[1, 0\] is inf, but must be finite for encoding"),
        ([0.5], {"digits": 0}, "digits is 0, but must be from 1 to 20"),
        ([0.5], {"digits": 21}, "digits is 21"),
        ([0.5], {"planes": 16}, "planes is 16, but must be from 1 to 15"),
        ([0.5], {"digits": 2, "planes": 3}, "either digits or planes"),
        ([0.5], {"digits": 2.0}, "digits is 2.0, but must be an integer"),
        (["a"], {}, "must hold integers, booleans or real"),
        (opuproj.pack([1, 0]), {}, "x is a TernaryBatch, but must hold real numbers"),
    ],
)
def test_bad_input_is_refused_by_name(x: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        opuproj.encode(x, **options)


def test_bad_projections_are_refused_by_name() -> None:
    batch = opuproj.encode([0.5, 0.2])
    with pytest.raises(ValueError, match="digits is 3, but x is encoded already"):
        opuproj.project(batch, 5, digits=3)
    with pytest.raises(ValueError, match=r"x has shape \(2,\)"):
        Projector(3, 5)(batch)
    with pytest.raises(ValueError, match=r"use opuproj\.ternarize, or digits="):
        opuproj.project([0.5], 5)
    with pytest.raises(TypeError, match=r"opuproj\.encode"):
        EncodedBatch()
