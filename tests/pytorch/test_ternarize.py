"""Floats made ternary in torch: a t is as large as e, both ways of computing it agree."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from helpers import AWKWARD, assert_same_bits
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

torch = pytest.importorskip("torch")
from opuproj.torch import BatchMax, Dither, Fixed, RowMax, RowStd, Ternarize, TopK  # noqa: E402
from tensors import NORMS, RULES, cuda, errors, unpacked  # noqa: E402

ROW_RULES = (Fixed(0.5), RowMax(0.25), RowStd(0.67), TopK(5))


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
    st.builds(Dither, st.floats(0, 3, exclude_min=True) | st.just("auto")),
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
        (lambda: Dither("most"), ValueError, "factor is 'most', but must be a number or \"auto\""),
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
