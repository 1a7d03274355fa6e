"""Encoders and decoders of opuproj.lightonml give the codes of lightonml 1.4's, and round trips give the data back."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from helpers import assert_same_bits
from lightonml_opus import fitted, new
from opuproj.lightonml.encoding import base

ENCODERS = (
    base.BinaryThresholdEncoder,
    base.ConcatenatedBitPlanEncoder,
    base.ConcatenatedFloat32Encoder,
    base.Float32Encoder,
    base.MultiThresholdEncoder,
    base.SeparatedBitPlanEncoder,
    base.SequentialBaseTwoEncoder,
)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def data_for(encoder: Any, n_samples: int = 5) -> np.ndarray:
    X = numbers(n_samples, 6)
    return (100 + 50 * X).astype(np.uint8) if encoder is base.ConcatenatedBitPlanEncoder else X


@pytest.mark.parametrize("encoder", ENCODERS)
def test_codes_are_binary_for_arrays_and_tensors(encoder: Any) -> None:
    torch = pytest.importorskip("torch")
    X = data_for(encoder)
    Z = encoder().fit_transform(X)
    assert Z.dtype == np.uint8
    assert set(np.unique(Z)) == {0, 1}
    T = encoder().fit_transform(torch.from_numpy(X))
    assert isinstance(T, torch.Tensor)
    assert_same_bits(T.numpy(), Z)
    assert_same_bits(encoder().fit_transform(np.asfortranarray(X)), Z)
    made = pickle.loads(pickle.dumps(encoder().fit(X)))
    assert_same_bits(made.transform(X), Z)


@pytest.mark.parametrize("encoder", [e for e in ENCODERS if e is not base.BinaryThresholdEncoder])
def test_vectors_must_come_in_a_batch(encoder: Any) -> None:
    fitted_to = encoder().fit(data_for(encoder))
    with pytest.raises(ValueError, match=r"X has shape \(6,\), but must have shape \(n_samples, n_features\)"):
        fitted_to.transform(data_for(encoder)[0])


def test_the_base_class_asks_for_a_transform() -> None:
    class Custom(base.BaseTransformer):
        pass

    with pytest.raises(NotImplementedError, match="Custom does not define transform"):
        Custom().transform(1)
    assert (
        repr(base.MultiThresholdEncoder([1, 2], columnwise=False)) == "MultiThresholdEncoder([1, 2], columnwise=False)"
    )


def test_no_encoding_and_no_decoding_return_what_they_get() -> None:
    X = object()
    assert base.NoEncoding().transform(X) is X
    assert base.NoDecoding(precision=3).fit(X).transform(X) is X


# Bits


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int32, np.uint64, ">u2"])
@pytest.mark.parametrize(("n_bits", "start"), [(8, 0), (3, 0), (3, 2), (1, 7)])
def test_concatenated_bits_are_those_of_shifts(dtype: Any, n_bits: int, start: int) -> None:
    X = np.random.default_rng(0).integers(-100, 100, (4, 3)).astype(dtype)
    Z = base.ConcatenatedBitPlanEncoder(n_bits, start).transform(X)
    expected = [[(int(v) >> (7 - bit)) & 1 for v in row for bit in range(start, start + n_bits)] for row in X]
    assert_same_bits(Z, np.uint8(expected))


def test_concatenated_bits_of_two_bytes_begin_with_the_lower() -> None:
    Z = base.ConcatenatedBitPlanEncoder(16).transform(np.uint16([[0x8001]]))
    assert Z.tolist() == [[0] * 7 + [1, 1] + [0] * 7]


def bits_of(value: np.float32) -> list[int]:
    return [int(bit) for bit in f"{np.float32(value).view(np.uint32):032b}"]


@pytest.mark.parametrize(("sign", "exponent", "mantissa"), [(True, 8, 23), (False, 1, 0), (True, 3, 5), (False, 0, 23)])
def test_float_bits(sign: bool, exponent: int, mantissa: int) -> None:
    X = numbers(4, 3)
    kept = [0] * sign + [*range(1, 1 + exponent)] + [*range(9, 9 + mantissa)]
    side_by_side = base.ConcatenatedFloat32Encoder(sign, exponent, mantissa)
    apart = base.Float32Encoder(sign, exponent, mantissa)
    assert side_by_side.indices == apart.indices == kept
    assert apart.n_bits == len(kept)
    assert_same_bits(side_by_side.transform(X), np.uint8([[bits_of(v)[k] for v in row for k in kept] for row in X]))
    assert_same_bits(apart.transform(X), np.uint8([[bits_of(v)[k] for v in row] for row in X for k in kept]))


@pytest.mark.parametrize("levels", [1, 2, 16, 256])
def test_base_two_repeats_each_bit_as_often_as_it_counts(levels: int) -> None:
    X = np.arange(levels, dtype=np.uint8)[None, :] if levels > 1 else np.zeros((1, 1), np.uint8)
    Z = base.SequentialBaseTwoEncoder(levels).fit_transform(X)
    assert Z.shape == (1, X.size * (levels - 1))
    assert np.array_equal(Z.reshape(X.size, levels - 1).sum(axis=1), X[0])


def test_base_two_clips_to_the_range_of_fit() -> None:
    encoder = base.SequentialBaseTwoEncoder(4).fit(np.uint8([[10, 13]]))
    assert encoder.normalize(np.uint8([[0, 10, 11, 12, 13, 255]])).tolist() == [[0, 0, 1, 2, 3, 3]]
    constant = base.SequentialBaseTwoEncoder(4).fit(np.float32([[5, 5]]))
    assert constant.normalize(np.float32([[4, 5, 6]])).tolist() == [[0, 0, 3]]


# Thresholds


def test_binary_threshold() -> None:
    X = numbers(101, 6)
    assert_same_bits(base.BinaryThresholdEncoder(0.5).transform(X), (X > 0.5).astype(np.uint8))
    assert_same_bits(base.BinaryThresholdEncoder(0.5, greater_is_one=False).transform(X), (X < 0.5).astype(np.uint8))
    Z = base.BinaryThresholdEncoder().fit_transform(X)
    assert Z.sum(axis=0).tolist() == [50] * 6
    images = X.reshape(101, 2, 3)
    assert_same_bits(base.BinaryThresholdEncoder().fit_transform(images), Z.reshape(101, 2, 3))
    with pytest.warns(UserWarning, match="encoder threshold is outside data range"):
        base.BinaryThresholdEncoder(100).fit(X)


def test_thresholds_in_even_steps_and_at_quantiles() -> None:
    X = numbers(1000, 3) * np.float32([1, 10, 100])
    even = base.MultiThresholdEncoder("linspace", n_bins=4).fit(X).thresholds
    np.testing.assert_allclose(even, X.min() + (X.max() - X.min()) * np.array([1, 2, 3]) / 4, rtol=1e-6)
    columns = base.MultiThresholdEncoder("linspace", n_bins=4, columnwise=True).fit(X).thresholds
    assert (columns.shape, columns.dtype) == ((3, 3), np.float32)
    np.testing.assert_allclose(columns[2], X[:, 2].min() + np.ptp(X[:, 2]) * np.array([1, 2, 3]) / 4, rtol=1e-5)
    Z = base.MultiThresholdEncoder("quantiles", n_bins=5, columnwise=True).fit_transform(X)
    assert Z.shape == (1000, 12)
    # The first threshold of each feature, then the second, …
    assert Z.sum(axis=0).reshape(4, 3).tolist() == [[800] * 3, [600] * 3, [400] * 3, [200] * 3]


def test_thresholds_given() -> None:
    X = np.array([[1, 2], [3, 4]])
    common = base.MultiThresholdEncoder([1.5, 3.5])
    assert common.n_bins == 3
    assert common.fit_transform(X).tolist() == [[0, 1, 0, 0], [1, 1, 0, 1]]
    own = base.MultiThresholdEncoder(np.array([[0.5, 2.5], [3.5, 5.5]]), columnwise=True)
    assert own.transform(X).tolist() == [[1, 0, 0, 0], [1, 1, 1, 0]]


# Planes


@pytest.mark.parametrize("precision", [1, 3, 6])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_planes_of_floats_give_them_back_to_half_a_level(precision: int, scale: float) -> None:
    for X in (numbers(5, 7), np.abs(numbers(5, 7)), -np.abs(numbers(5, 7))):
        X = X * np.float32(scale)
        encoder = base.SeparatedBitPlanEncoder(precision=precision)
        planes = encoder.transform(X)
        sides = 1 + bool((X > 0).any() and (X < 0).any())
        assert planes.shape == (5 * precision * sides, 7)
        back = base.SeparatedBitPlanDecoder(**encoder.get_params()).transform(planes)
        assert back.dtype == np.float64
        assert np.abs(back - X).max() <= 1.001 * np.abs(X).max() / (2**precision - 1) / 2


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint64, bool])
def test_planes_of_small_integers_are_their_bits(dtype: Any) -> None:
    low = -31 if np.dtype(dtype).kind == "i" else 0
    high = 2 if dtype is bool else 32
    X = np.random.default_rng(0).integers(low, high, (9, 11)).astype(dtype)
    encoder = base.SeparatedBitPlanEncoder(precision=6)
    planes = encoder.transform(X)
    back = base.SeparatedBitPlanDecoder(**encoder.get_params())
    np.testing.assert_allclose(back.transform(planes), X.astype(float), atol=1e-12)


def test_planes_of_the_extremes_of_integers() -> None:
    X = np.array([[-128, 127, 0, 1]], np.int8)
    with pytest.warns(UserWarning, match="precision=8"):
        encoder = base.SeparatedBitPlanEncoder(precision=8)
    planes = encoder.transform(X)
    assert planes.shape == (16, 4)
    back = base.SeparatedBitPlanDecoder(**encoder.get_params())
    np.testing.assert_allclose(back.transform(planes), X.astype(float), atol=1e-12)


def test_signed_integers_have_planes_on_both_sides_unless_all_are_on_one() -> None:
    shapes = {(0, 5): 12, (1, 5): 6, (-5, 0): 12, (-5, -1): 6, (-5, 5): 12}
    for X, n_rows in shapes.items():
        assert base.SeparatedBitPlanEncoder().transform(np.int64([X])).shape == (n_rows, 2)
    assert base.SeparatedBitPlanEncoder().transform(np.uint8([[0, 5]])).shape == (6, 2)
    assert base.SeparatedBitPlanEncoder().transform(np.array([[0.0, 5.0]])).shape == (6, 2)


def test_planes_of_zeros() -> None:
    encoder = base.SeparatedBitPlanEncoder()
    planes = encoder.transform(np.zeros((2, 3)))
    assert (planes.shape, planes.any()) == ((12, 3), np.False_)
    assert not base.SeparatedBitPlanDecoder(**encoder.get_params()).transform(planes).any()


def test_planes_of_images_keep_their_axes() -> None:
    X = numbers(5, 3, 2)
    planes = base.SeparatedBitPlanEncoder(precision=4).transform(X)
    assert planes.shape == (40, 3, 2)
    assert_same_bits(planes.reshape(40, 6), base.SeparatedBitPlanEncoder(precision=4).transform(X.reshape(5, 6)))


def test_a_linear_transform_of_planes_is_one_of_numbers() -> None:
    X = numbers(6, 30)
    opu = new(rescale="none")
    opu.fit1d(X)
    M = opu.device.random_matrix
    assert M is not None
    R = opu.linear_transform(X, base.SeparatedBitPlanEncoder(precision=6), base.SeparatedBitPlanDecoder)
    assert (R.shape, R.dtype) == ((6, 50), np.float64)
    assert R.context.exposure_us == 400
    # The error of each number is uniform, and at most half a level.
    level = np.abs(X).max() / 63
    assert np.sqrt(((R - X @ M[:30].real) ** 2).mean()) < 1.3 * level / np.sqrt(12) * np.sqrt(30 / 40)
    as_class = opu.linear_transform(X, base.SeparatedBitPlanEncoder, base.SeparatedBitPlanDecoder)
    assert_same_bits(as_class, R)
    one = opu.linear_transform(X[:1], base.SeparatedBitPlanEncoder(precision=1), base.SeparatedBitPlanDecoder)
    assert one.shape == (1, 50)


def test_decoding_comes_before_rescaling() -> None:
    torch = pytest.importorskip("torch")
    X = numbers(6, 40)
    pair = base.SeparatedBitPlanEncoder, base.SeparatedBitPlanDecoder
    R = fitted(rescale="none").linear_transform(X, *pair)
    assert_same_bits(fitted().linear_transform(X, *pair), R / np.sqrt(40).item())
    tensor = fitted().linear_transform(torch.from_numpy(X), *pair)
    assert tensor.dtype == torch.float64
    assert_same_bits(tensor.numpy(), R / np.sqrt(40).item())


def test_an_encoder_without_its_decoder() -> None:
    X = numbers(6, 40)
    planes = base.SeparatedBitPlanEncoder().transform(X)
    assert_same_bits(fitted().transform(X, base.SeparatedBitPlanEncoder), fitted().transform(planes))


def test_an_encoder_of_one_s_own() -> None:
    class Sign:
        def transform(self, X: Any) -> Any:
            return X > 0

        def get_params(self) -> dict[str, Any]:
            return {"factor": 3}

    class Times:
        def __init__(self, factor: int) -> None:
            self.factor = factor

        def transform(self, y: Any) -> Any:
            return self.factor * y

    X = numbers(6, 40)
    assert_same_bits(fitted().transform(X, Sign, Times), 3 * fitted().transform(X > 0))
    assert fitted().transform(X, Sign, Times(2)).context is not None


def test_mixing_adds_rows_up_and_concatenating_lays_them_side_by_side() -> None:
    X = numbers(6, 2)
    weights = np.array([1, 0.25, 0.0625])[:, None]
    weighted = X.reshape(2, 3, 2) * weights
    mixed = base.MixingBitPlanDecoder(n_bits=3, decoding_decay=0.25).transform(X)
    assert mixed.dtype == np.float32
    np.testing.assert_allclose(mixed, weighted.sum(axis=1), rtol=1e-6)
    side_by_side = base.ConcatenatingBitPlanDecoder(n_bits=3, decoding_decay=0.25).transform(X)
    assert_same_bits(side_by_side, weighted.reshape(2, 6).astype(np.float32))


# Errors


@pytest.mark.parametrize(
    "encoder",
    [
        base.BinaryThresholdEncoder(),
        base.BinaryThresholdEncoder(0.5),
        base.MultiThresholdEncoder(),
        base.MultiThresholdEncoder("quantiles", columnwise=True),
        base.SequentialBaseTwoEncoder(),
    ],
    ids=repr,
)
def test_nan_is_on_no_side_of_a_threshold(encoder: Any) -> None:
    X = numbers(4, 3)
    wrong = np.where(X[2, 1] == X, np.nan, X)
    with pytest.raises(ValueError, match="X holds NaN"):
        encoder.fit(wrong)
    with pytest.raises(ValueError, match="X holds NaN"):
        encoder.fit(X).transform(wrong)


def test_wrong_arguments() -> None:
    wrong: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
        (base.ConcatenatedBitPlanEncoder, {"n_bits": 0}, ValueError, "n_bits is 0, but must be a positive integer"),
        (base.ConcatenatedBitPlanEncoder, {"starting_bit": -1}, ValueError, "starting_bit is -1, but must be 0"),
        (base.Float32Encoder, {"exp_bits": 9}, ValueError, r"exp_bits is 9, but must be in the range \[0, 8\]"),
        (base.ConcatenatedFloat32Encoder, {"mantissa_bits": 24}, ValueError, r"mantissa_bits is 24, .* \[0, 23\]"),
        (base.BinaryThresholdEncoder, {"threshold_enc": "mean"}, ValueError, "threshold_enc is 'mean', but must be"),
        (base.MultiThresholdEncoder, {"thresholds": "mean"}, ValueError, "thresholds is 'mean', but must be an array"),
        (
            base.MultiThresholdEncoder,
            {"thresholds": [1], "columnwise": True},
            ValueError,
            r"thresholds has shape \(1,\)",
        ),
        (base.SequentialBaseTwoEncoder, {"n_gray_levels": 3}, AssertionError, "must be an integer power of 2"),
        (base.SequentialBaseTwoEncoder, {"n_gray_levels": 8.0}, AssertionError, "must be an integer power of 2"),
        (
            base.SeparatedBitPlanEncoder,
            {"n_bits": 8},
            RuntimeError,
            "n_bits and starting_bit are arguments of lightonml 1.3",
        ),
        (base.SeparatedBitPlanEncoder, {"precision": 9}, ValueError, "precision is 9, but must be from 1 to 8"),
        (base.MultiThresholdEncoder, {"n_bins": 1}, ValueError, "n_bins is 1, but must be from 2"),
        (base.MultiThresholdEncoder, {"n_bins": "8"}, TypeError, "n_bins is '8', but must be an integer"),
        (base.MultiThresholdEncoder, {"thresholds": []}, ValueError, r"thresholds has shape \(0,\), but must have"),
        (base.MixingBitPlanDecoder, {"n_bits": 0}, ValueError, "n_bits is 0, but must be from 1"),
        (base.ConcatenatingBitPlanDecoder, {"n_bits": 8.0}, TypeError, "n_bits is 8.0, but must be an integer"),
        (base.SeparatedBitPlanDecoder, {"precision": 0}, ValueError, "precision is 0, but must be from 1"),
        (base.SeparatedBitPlanEncoder, {"bits": 9}, TypeError, "bits is not an argument"),
    ]
    for encoder, arguments, error, message in wrong:
        with pytest.raises(error, match=message):
            encoder(**arguments)


def test_wrong_data() -> None:
    X = numbers(4, 3)
    with pytest.raises(RuntimeError, match="If threshold_enc is 'auto', fit must be called before transform"):
        base.BinaryThresholdEncoder().transform(X)
    with pytest.raises(RuntimeError, match="thresholds is 'linspace': fit must be called before transform"):
        base.MultiThresholdEncoder().transform(X)
    with pytest.raises(AssertionError, match="You have to call fit on the training data"):
        base.SequentialBaseTwoEncoder().transform(X)
    with pytest.raises(ValueError, match=r"n_bits \+ starting_bit is 8 \+ 1, but must be at most 8, the bits of uint8"):
        base.ConcatenatedBitPlanEncoder(8, 1).transform(X.astype(np.uint8))
    with pytest.raises(TypeError, match="X has dtype float64, but must be float32, whose bits are encoded"):
        base.Float32Encoder().transform(X.astype(np.float64))
    with pytest.raises(ValueError, match="X holds NaN or infinities"):
        base.SeparatedBitPlanEncoder().transform(np.where(X[0, 0] == X, np.nan, X))
    with pytest.raises(ValueError, match=r"X has shape \(0, 3\), but .* not be empty"):
        base.SeparatedBitPlanEncoder().transform(X[:0])
    with pytest.raises(TypeError, match="X has dtype complex64, but must hold real numbers"):
        base.SeparatedBitPlanEncoder().transform(X.astype(np.complex64))
    for dtype in (np.float32, np.float64, np.complex64):
        with pytest.raises(TypeError, match=f"X has dtype {np.dtype(dtype)}, but must hold integers"):
            base.ConcatenatedBitPlanEncoder().transform(X.astype(dtype))
    for decoder in (base.MixingBitPlanDecoder(3), base.ConcatenatingBitPlanDecoder(3), base.SeparatedBitPlanDecoder(3)):
        with pytest.raises(
            ValueError, match="X has 4 rows, but must have a multiple of 3: check that you used the same"
        ):
            decoder.transform(X)
