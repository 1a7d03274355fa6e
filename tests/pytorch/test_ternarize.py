"""Floats made ternary in torch: each rule is its definition, a t is as large as e, both ways of computing it agree."""

from __future__ import annotations

import dataclasses
import itertools
import math
import pickle
from typing import Any

import numpy as np
import opuproj
import pytest
from helpers import AWKWARD, assert_same_bits
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

torch = pytest.importorskip("torch")

from opuproj.torch import BatchMax, Dither, Fixed, RowMax, RowStd, Rule, Ternarize, TopK  # noqa: E402

RULES = (Fixed(0.5), RowMax(0.25), RowStd(0.67), BatchMax(0.25), Dither(1.5), TopK(5))
ROW_RULES = (Fixed(0.5), RowMax(0.25), RowStd(0.67), TopK(5))
NORMS = ("row", "batch", "none")
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def errors(*shape: int, dtype: Any = torch.float32, seed: int = 0) -> Any:
    """Gaussian errors whose rows differ in size."""
    generator = torch.Generator().manual_seed(seed)
    e = torch.randn(shape, generator=generator, dtype=torch.float64)
    return (e * torch.rand((*shape[:-1], 1), generator=generator, dtype=torch.float64)).to(dtype)


def threshold(rule: Any, e: np.ndarray) -> np.ndarray:
    """The definition of each rule, for e of shape (n, n_inputs)."""
    kind, size = e.dtype.type, np.abs(e)
    if isinstance(rule, Fixed):
        return np.full((len(e), 1), rule.threshold, e.dtype)
    if isinstance(rule, RowMax):
        return kind(rule.fraction) * size.max(axis=1, keepdims=True)
    if isinstance(rule, RowStd):
        return (rule.factor * np.sqrt(np.mean(np.square(e.astype(float)), axis=1, keepdims=True))).astype(e.dtype)
    if isinstance(rule, BatchMax):
        return np.full((len(e), 1), kind(rule.fraction) * size.max(initial=0), e.dtype)
    if isinstance(rule, Dither):
        spread = (np.arange(len(e))[:, None] + 0.5) * (np.sqrt(5) - 1) / 2 % 1
        return (spread * rule.factor * np.sqrt(np.mean(np.square(e.astype(float))))).astype(e.dtype)
    ranked = np.sort(size, axis=1)[:, ::-1]
    return ranked[:, rule.k : rule.k + 1] if rule.k < e.shape[1] else np.zeros((len(e), 1), e.dtype)


def rounded(e: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    return np.where(e > thresholds, 1, np.where(e < -thresholds, -1, 0)).astype(np.int8)


def unpacked(packed: Any, shape: Any) -> np.ndarray:
    return opuproj.TernaryBatch._of(packed, tuple(shape)).to_numpy()


# The rules


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rule", [*RULES, Fixed(0), RowMax(0), RowStd(0.0), BatchMax(0.9), TopK(1), TopK(49)], ids=repr)
def test_each_rule_is_its_definition(rule: Any, dtype: Any) -> None:
    e = errors(30, 50, dtype=dtype)
    got, expected = rule.thresholds(e).numpy(), threshold(rule, e.numpy())
    if isinstance(rule, RowStd | Dither):  # a mean may be summed in any order
        assert got.shape == expected.shape
        assert np.allclose(got, expected, rtol=1e-6, atol=0)
    else:
        assert_same_bits(got, expected)
    assert_same_bits(Ternarize(rule)(e)[0], rounded(e.numpy(), got))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_t_is_what_opuproj_ternarize_gives(dtype: Any) -> None:
    e = errors(40, 60, dtype=dtype)
    for rule, arguments in (
        (Fixed(0.1), {"threshold": 0.1}),
        (RowMax(0.3), {"relative": 0.3}),
        (BatchMax(0.3), {"relative": 0.3, "scale": "global"}),
    ):
        assert_same_bits(Ternarize(rule)(e)[0], opuproj.ternarize(e, **arguments).to_numpy())


@pytest.mark.parametrize("rule", [*RULES, Fixed(0), RowMax(0), RowStd(0), BatchMax(0), TopK(99)], ids=repr)
def test_zero_stays_zero(rule: Any) -> None:
    t = Ternarize(rule)(torch.tensor([[2.0, 0.0, -0.0, -2.0], [0.0, -0.0, 0.0, 0.0]]))[0]
    assert t.tolist() == [[1, 0, 0, -1], [0, 0, 0, 0]]


def test_a_tie_with_the_threshold_is_below_it() -> None:
    e = torch.tensor([[1.0, -1.0, 0.25, -0.25, np.nextafter(np.float32(0.25), np.float32(1))]])
    for rule in (Fixed(0.25), RowMax(0.25), BatchMax(0.25)):
        assert Ternarize(rule)(e)[0].tolist() == [[1, -1, 0, 0, 1]]
    assert Ternarize(Fixed(0))(e * -0.0)[0].tolist() == [[0] * 5]
    equal = torch.tensor([[2.0, -2.0, 2.0]])
    assert Ternarize(RowStd(1))(equal)[0].tolist() == [[0, 0, 0]]


def test_something_of_every_vector_survives_row_max() -> None:
    e = errors(200, 30)
    for fraction in (0, 0.5, 0.999):
        t = Ternarize(RowMax(fraction))(e)[0]
        largest = e.abs().argmax(dim=1, keepdim=True)
        assert_same_bits(t.gather(1, largest), e.gather(1, largest).sign().to(torch.int8))


@pytest.mark.parametrize(
    ("fraction", "e"), [(0.999999999, [1.0, 0.5]), (0.9, [1e-45, 0.0])], ids=["nearly 1", "subnormal"]
)
def test_something_survives_row_max_when_its_threshold_is_rounded(fraction: float, e: list[float]) -> None:
    assert Ternarize(RowMax(fraction))(torch.tensor([e]))[0].tolist() == [[1, 0]]


def test_row_std_lets_the_share_of_a_gaussian_through_that_it_says() -> None:
    e = 3e-7 * torch.randn(10, 20_000, generator=torch.Generator().manual_seed(0))
    for factor, share in ((0.67, 0.5), (1.64, 0.1)):
        survived = Ternarize(RowStd(factor))(e)[0].count_nonzero(dim=1) / e.shape[1]
        assert (survived - share).abs().max() < 0.015


def test_batch_max_does_not_hear_the_small_vectors_and_row_max_does() -> None:
    e = torch.stack([errors(1, 20)[0], 1e-4 * errors(1, 20)[0]])
    assert Ternarize(BatchMax(0.1))(e)[0].any(dim=1).tolist() == [True, False]
    assert Ternarize(RowMax(0.1))(e)[0].any(dim=1).tolist() == [True, True]


def test_dither_tells_on_average_how_large_an_element_is() -> None:
    e = errors(200)
    rms, t = e.square().mean().sqrt(), Ternarize(Dither(1.5))(e.expand(20_000, 200))[0]
    assert torch.allclose(t.double().mean(dim=0), (e / (1.5 * rms)).clamp(-1, 1).double(), atol=1e-3)


@pytest.mark.parametrize("k", [1, 2, 7, 29, 30, 31, 10**6, 2**63 - 1])
def test_top_k_keeps_the_k_largest(k: int) -> None:
    e = errors(40, 30)
    t = Ternarize(TopK(k))(e)[0]
    assert (t.count_nonzero(dim=1) == min(k, 30)).all()
    for row, survived in zip(e.abs(), t != 0, strict=True):
        if k < 30:
            assert row[survived].min() > row[~survived].max()


def test_top_k_takes_no_side_among_equals() -> None:
    e = torch.tensor([[3.0, -2.0, 2.0, 1.0, 0.0], [1.0, -1.0, 1.0, -1.0, 1.0], [3.0, 0.0, 0.0, 0.0, 0.0]])
    for k, expected in (
        (1, [[1, 0, 0, 0, 0], [0] * 5, [1, 0, 0, 0, 0]]),
        (2, [[1, 0, 0, 0, 0], [0] * 5, [1, 0, 0, 0, 0]]),
        (3, [[1, -1, 1, 0, 0], [0] * 5, [1, 0, 0, 0, 0]]),
        (5, [[1, -1, 1, 1, 0], [1, -1, 1, -1, 1], [1, 0, 0, 0, 0]]),
        (6, [[1, -1, 1, 1, 0], [1, -1, 1, -1, 1], [1, 0, 0, 0, 0]]),
    ):
        for order in itertools.islice(itertools.permutations(range(5)), 0, 120, 17):
            t = Ternarize(TopK(k))(e[:, order])[0]
            assert t.tolist() == np.array(expected)[:, order].tolist()


# The factor


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_a_t_is_as_large_as_e(rule: Any) -> None:
    e = errors(30, 50)
    e[3] = 0
    t, a = Ternarize(rule, norm="row")(e)
    heard = t.any(dim=1)
    assert heard.sum() > 10
    assert torch.allclose((a * t).norm(dim=1)[heard], e.norm(dim=1)[heard], rtol=1e-6)
    assert (a[~heard] * t[~heard] == 0).all()
    t, a = Ternarize(rule, norm="batch")(e)
    assert (a == a[0]).all()
    assert torch.allclose((a * t).norm(), e.norm(), rtol=1e-6)
    t, a = Ternarize(rule, norm="none")(e)
    assert_same_bits(a, np.ones((30, 1), np.float32))


def test_the_norm_does_not_change_t() -> None:
    e = errors(10, 20)
    for rule in RULES:
        t = [Ternarize(rule, norm=norm)(e)[0] for norm in NORMS]
        assert_same_bits(t[0], t[1])
        assert_same_bits(t[0], t[2])


def test_a_is_the_root_of_a_mean_over_the_survivors() -> None:
    e = errors(20, 300, dtype=torch.float64)
    t, a = Ternarize(RowStd(1.0), norm="row")(e)
    for row, survivors, factor in zip(e.tolist(), t.count_nonzero(dim=1).tolist(), a[:, 0].tolist(), strict=True):
        assert math.isclose(factor, math.sqrt(math.fsum(value**2 for value in row) / survivors), rel_tol=1e-14)


@pytest.mark.parametrize("norm", NORMS)
def test_vectors_of_zeros(norm: str) -> None:
    for rule in RULES:
        t, a = Ternarize(rule, norm=norm)(torch.zeros(3, 8))
        assert_same_bits(t, np.zeros((3, 8), np.int8))
        assert_same_bits(a, np.full((3, 1), norm == "none", np.float32))


def test_a_vector_of_which_nothing_survives() -> None:
    t, a = Ternarize(Fixed(100), norm="batch")(errors(3, 8))
    assert not t.any()
    assert a.isfinite().all()


# What is not finite


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_a_vector_that_is_not_finite_gives_nan_and_leaves_the_others_alone(rule: Any, norm: Any, bad: float) -> None:
    e, without = errors(5, 20), errors(5, 20)
    e[2, 7], without[2] = bad, 0
    t, a = Ternarize(rule, norm=norm)(e)
    expected, factors = Ternarize(rule, norm=norm)(without)
    others = [0, 1, 3, 4]
    assert_same_bits(t, expected)
    assert not t[2].any()
    assert a[2].isnan().all()
    assert_same_bits(a[others], factors[others])
    assert a[others].isfinite().all()


def test_a_batch_in_which_nothing_is_finite() -> None:
    for rule, norm in itertools.product(RULES, NORMS):
        t, a = Ternarize(rule, norm=norm)(torch.full((2, 9), math.nan))
        assert not t.any()
        assert a.isnan().all()


# Sizes


@pytest.mark.parametrize(
    "rule",
    [
        RowMax(0.25),
        BatchMax(0.25),
        TopK(5),
        pytest.param(RowStd(0.67)),
        pytest.param(Dither(1.5)),
    ],
    ids=repr,
)
@pytest.mark.parametrize("exponent", [-100, 100])
@pytest.mark.parametrize("norm", ["row", "batch"])
def test_relative_rules_are_free_of_the_unit_however_small_or_large(rule: Any, exponent: int, norm: Any) -> None:
    e = errors(10, 50)  # times 2**±100: about 1e-30 and 1e30
    t, a = Ternarize(rule, norm=norm)(e)
    scaled, factors = Ternarize(rule, norm=norm)(e * 2.0**exponent)
    assert_same_bits(scaled, t)
    assert_same_bits(factors, a * 2.0**exponent)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_a_fixed_threshold_is_in_the_unit_of_the_errors(size: float) -> None:
    e = size * errors(10, 50)
    t, a = Ternarize(Fixed(0.5 * size))(e)
    assert_same_bits(t, rounded(e.numpy(), np.float32(0.5 * size)))
    assert a[t.any(dim=1)].isfinite().all()
    assert (a > 0).all()


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_float64_of_any_size_has_a_factor(size: float) -> None:
    e = torch.tensor([[3.0, 4.0, 0.0]], dtype=torch.float64) * size
    for norm in ("row", "batch"):
        assert math.isclose(Ternarize(RowMax(0.5), norm=norm)(e)[1].item(), size * 5 / math.sqrt(2), rel_tol=1e-12)


# Dtypes and shapes


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_half_precision_is_taken_as_float32(rule: Any, dtype: Any) -> None:
    e = errors(7, 40, dtype=dtype)
    for norm in NORMS:
        ternarize = Ternarize(rule, norm=norm)
        for got, expected in zip(ternarize(e), ternarize(e.float()), strict=True):
            assert_same_bits(got, expected)


def test_the_dtypes_of_t_and_a() -> None:
    for dtype, real in (
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ):
        for rule, norm in itertools.product(RULES, NORMS):
            t, a = Ternarize(rule, norm=norm)(errors(3, 8, dtype=dtype))
            assert (t.dtype, a.dtype) == (torch.int8, real)


@pytest.mark.parametrize("shape", [(9,), (6, 9), (2, 3, 9), (1, 2, 3, 9), (6, 1), (1,)])
@pytest.mark.parametrize("norm", NORMS)
def test_leading_axes(shape: tuple[int, ...], norm: Any) -> None:
    for rule in RULES:
        e = errors(*shape)
        t, a = Ternarize(rule, norm=norm)(e)
        assert t.shape == shape
        assert a.shape == (*shape[:-1], 1)
        flat, factors = Ternarize(rule, norm=norm)(e.reshape(-1, shape[-1]))
        assert_same_bits(t.reshape(flat.shape), flat)
        assert_same_bits(a.reshape(factors.shape), factors)


@pytest.mark.parametrize("shape", [(0, 9), (2, 0, 9), (0, 3, 0, 9)])
@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_empty_batches(rule: Any, shape: tuple[int, ...]) -> None:
    for norm in NORMS:
        t, a = Ternarize(rule, norm=norm)(torch.zeros(shape))
        assert_same_bits(t, np.zeros(shape, np.int8))
        assert_same_bits(a, np.zeros((*shape[:-1], 1), np.float32))
        packed, a = Ternarize(rule, norm=norm).pack(torch.zeros(0, 9))
        assert unpacked(packed, (0, 9)).shape == (0, 9)
        assert_same_bits(a, np.zeros((0, 1), np.float32))


@pytest.mark.parametrize("rule", ROW_RULES, ids=repr)
def test_a_vector_alone_is_as_it_is_in_a_batch(rule: Any) -> None:
    e = errors(6, 33)
    ternarize = Ternarize(rule, norm="row")
    t, a = ternarize(e)
    for i in range(len(e)):
        alone, factor = ternarize(e[i])
        assert_same_bits(alone, t[i])
        assert torch.allclose(factor, a[i], rtol=1e-6)


def test_the_input_stays_as_it_is_and_no_gradient_flows() -> None:
    e = errors(4, 20).requires_grad_()
    with torch.no_grad():
        e[1, 1] = math.inf
    before = e.detach().clone()
    for rule in RULES:
        t, a = Ternarize(rule)(e)
        packed, b = Ternarize(rule).pack(e)
        assert [tensor.requires_grad for tensor in (t, a, b)] == [False] * 3
        assert_same_bits(unpacked(packed, e.shape), t)
    assert_same_bits(e.detach(), before)


# Packed at once

FLOATS = {
    width: st.one_of(
        st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.25, -0.25, 0.5, 4.0]),
        st.floats(width=width),
        st.floats(-1, 1, width=width),
    )
    for width in (32, 64)
}
ANY_RULE = st.one_of(
    st.builds(Fixed, st.floats(0, 2, width=32)),
    st.builds(RowMax, st.floats(0, 1, exclude_max=True)),
    st.builds(RowStd, st.floats(0, 3)),
    st.builds(BatchMax, st.floats(0, 1, exclude_max=True)),
    st.builds(Dither, st.floats(0, 3, exclude_min=True)),
    st.builds(TopK, st.integers(1, 80)),
)


@given(data=st.data(), width=st.sampled_from([32, 64]), rule=ANY_RULE, norm=st.sampled_from(NORMS))
def test_packing_at_once_gives_the_same_bits(data: Any, width: int, rule: Any, norm: Any) -> None:
    shape = data.draw(st.tuples(st.integers(0, 5), st.integers(1, 70)))
    e = torch.from_numpy(data.draw(arrays.arrays(f"f{width // 8}", shape, elements=FLOATS[width])))
    t, a = Ternarize(rule, norm=norm)(e)
    packed, b = Ternarize(rule, norm=norm).pack(e)
    assert_same_bits(unpacked(packed, shape), t)
    assert_same_bits(b, a)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_packing_at_once_at_awkward_widths(dtype: Any) -> None:
    for n, norm in zip(AWKWARD, itertools.cycle(NORMS)):
        e = errors(3, n, dtype=dtype)
        for rule in RULES:
            t, a = Ternarize(rule, norm=norm)(e)
            packed, b = Ternarize(rule, norm=norm).pack(e)
            assert_same_bits(unpacked(packed, e.shape), t)
            assert_same_bits(b, a)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_packing_at_once_of_a_transposed_matrix(dtype: Any) -> None:
    e = errors(300, 7, dtype=dtype, seed=2).T
    relative = e.abs() / RowStd(1).thresholds(e)
    rules = [RowStd(float(factor)) for factor in relative[:, ::5].flatten()]  # each has an element at its threshold
    for rule, norm in zip([*RULES, *RULES, *RULES, *rules], itertools.cycle(NORMS)):
        t, a = Ternarize(rule, norm=norm)(e)
        packed, b = Ternarize(rule, norm=norm).pack(e)
        assert_same_bits(unpacked(packed, e.shape), t)
        assert_same_bits(b, a)


# Mistakes


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Fixed(-0.1), ValueError, "threshold is -0.1, but must be finite and not negative"),
        (lambda: Fixed(math.inf), ValueError, "threshold is inf, but must be finite"),
        (lambda: Fixed(math.nan), ValueError, "threshold is nan"),
        (lambda: Fixed("0.1"), TypeError, "threshold is '0.1', but must be a number"),
        (lambda: Fixed(None), TypeError, "threshold is None"),
        (lambda: Fixed(True), TypeError, "threshold is True"),
        (lambda: Fixed(1j), TypeError, "threshold is 1j"),
        (lambda: RowMax(1), ValueError, "fraction is 1, but must be at least 0 and less than 1"),
        (lambda: RowMax(1.0), ValueError, "fraction is 1.0"),
        (lambda: RowMax(-1e-9), ValueError, "fraction is -1e-09"),
        (lambda: RowMax(math.nan), ValueError, "fraction is nan"),
        (lambda: RowMax([0.1]), TypeError, r"fraction is \[0.1\]"),
        (lambda: BatchMax(1), ValueError, "fraction is 1, but must be at least 0 and less than 1"),
        (lambda: BatchMax("x"), TypeError, "fraction is 'x'"),
        (lambda: RowStd(-1), ValueError, "factor is -1, but must be finite and not negative"),
        (lambda: RowStd(math.inf), ValueError, "factor is inf"),
        (lambda: RowStd(False), TypeError, "factor is False"),
        (lambda: Dither(0), ValueError, "factor is 0, but must be greater"),
        (lambda: Dither(math.inf), ValueError, "factor is inf, but must be finite and not negative"),
        (lambda: Dither(None), TypeError, "factor is None"),
        (lambda: TopK(0), ValueError, r"k is 0, but must be from 1 to 2\*\*63 - 1"),
        (lambda: TopK(-3), ValueError, "k is -3"),
        (lambda: TopK(2**63), ValueError, "k is 9223372036854775808"),
        (lambda: TopK(5.0), TypeError, r"k is 5\.0, but must be an integer"),
        (lambda: TopK(True), TypeError, "k is True"),
        (lambda: TopK(None), TypeError, "k is None"),
        (lambda: Ternarize(0.25), TypeError, r"rule is 0\.25, but must be a rule such as .*RowMax\(0\.25\)"),
        (lambda: Ternarize(None), TypeError, "rule is None"),
        (lambda: Ternarize("RowMax"), TypeError, "rule is 'RowMax'"),
        (lambda: Ternarize(norm="Row"), ValueError, "norm is 'Row', but must be one of 'row', 'batch', 'none'"),
        (lambda: Ternarize(norm=None), ValueError, "norm is None"),
        (lambda: Ternarize(norm=2), ValueError, "norm is 2"),
    ],
)
def test_arguments(make: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=f"^{message}"):
        make()


def test_a_class_is_not_a_rule() -> None:
    with pytest.raises(TypeError, match=r"rule is <class .*RowMax'>, but must be"):
        Ternarize(RowMax)  # type: ignore[arg-type]


def test_a_threshold_beyond_float32_lets_nothing_through() -> None:
    assert not Ternarize(Fixed(1e300))(errors(2, 5))[0].any()


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.complex64])
def test_what_is_not_real_floating_point_is_refused(dtype: Any) -> None:
    for call in (Ternarize(), Ternarize().pack):
        with pytest.raises(TypeError, match=rf"e has dtype {dtype}, but must hold floating-point numbers"):
            call(torch.zeros(2, 3, dtype=dtype))


def test_what_is_no_batch_of_vectors_is_refused() -> None:
    for call in (Ternarize(), Ternarize().pack):
        for shape in ((), (0,), (3, 0)):
            with pytest.raises(ValueError, match=r"e has shape \(.*\), but must have shape \(\.\.\., n_inputs\)"):
                call(torch.zeros(shape))


# Rules of one's own, and rules as values


class Median:
    """Half of the elements of each vector."""

    def thresholds(self, e: Any) -> Any:
        return e.abs().median(dim=1, keepdim=True).values


def test_a_rule_of_ones_own() -> None:
    e = errors(3, 4, 21)
    assert isinstance(Median(), Rule)
    t, a = Ternarize(Median())(e)
    assert_same_bits(t, rounded(e.numpy(), np.median(np.abs(e.numpy()), axis=-1, keepdims=True)))
    assert (t.count_nonzero(dim=-1) == 10).all()
    packed, b = Ternarize(Median()).pack(e.reshape(12, 21))
    assert_same_bits(unpacked(packed, e.shape), t)
    assert_same_bits(b, a.reshape(12, 1))


def test_a_rule_of_ones_own_sees_finite_float32_or_float64_in_two_axes() -> None:
    seen: list[Any] = []

    class Spy:
        def thresholds(self, e: Any) -> Any:
            seen.append(e)
            return e.new_zeros(len(e), 1)

    e = errors(2, 3, 8, dtype=torch.bfloat16)
    e[0, 1, 2] = math.nan
    Ternarize(Spy())(e)
    Ternarize(Spy()).pack(errors(4, 8, dtype=torch.float64))
    assert [(tuple(e.shape), e.dtype) for e in seen] == [((6, 8), torch.float32), ((4, 8), torch.float64)]
    assert seen[0].isfinite().all()


def test_thresholds_in_double_precision_are_compared_so() -> None:
    class Between:
        def thresholds(self, e: Any) -> Any:
            return torch.full((len(e), 1), 0.1, dtype=torch.float64)

    above = np.float32(0.1)  # 0.100000001
    e = torch.tensor([[above, np.nextafter(above, np.float32(0)), -above]])
    packed, _ = Ternarize(Between()).pack(e)
    assert Ternarize(Between())(e)[0].tolist() == unpacked(packed, e.shape).tolist() == [[1, 0, -1]]


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_rules_are_values(rule: Any) -> None:
    name = dataclasses.fields(rule)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(rule, name, 0.1)
    same = type(rule)(getattr(rule, name))
    assert isinstance(rule, Rule)
    assert rule == same == pickle.loads(pickle.dumps(rule)) == eval(repr(rule))
    assert {rule: 1}[same] == 1
    assert rule not in [other for other in RULES if other is not rule]


def test_ternarize_is_a_value() -> None:
    one = Ternarize(TopK(3), norm="batch")
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.norm = "row"  # type: ignore[misc]
    assert one == Ternarize(TopK(3), "batch") == pickle.loads(pickle.dumps(one)) == eval(repr(one))
    assert hash(one) == hash(Ternarize(TopK(3), "batch"))
    assert one not in {Ternarize(TopK(4), "batch"), Ternarize(TopK(3), "row"), Ternarize()}
    assert Ternarize() == Ternarize(Dither(4.0), norm="batch")


# Other devices


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_shapes_are_known_without_values(rule: Any) -> None:
    for norm in NORMS:
        t, a = Ternarize(rule, norm=norm)(torch.empty(2, 3, 8, dtype=torch.float64, device="meta"))
        assert (t.shape, t.dtype, t.device.type) == ((2, 3, 8), torch.int8, "meta")
        assert (a.shape, a.dtype, a.device.type) == ((2, 3, 1), torch.float64, "meta")


@cuda
@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_a_gpu_gives_the_same(rule: Any) -> None:
    e = errors(5, 4, 100)
    e[1, 2, 3] = math.nan
    for norm in NORMS:
        t, a = Ternarize(rule, norm=norm)(e)
        on_gpu, factors = Ternarize(rule, norm=norm)(e.cuda())
        assert on_gpu.is_cuda
        assert factors.is_cuda
        assert_same_bits(on_gpu.cpu(), t)
        assert torch.allclose(factors.cpu(), a, rtol=1e-6, equal_nan=True)
