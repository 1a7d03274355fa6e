"""Rules that make floats ternary: each is its definition, at any size, and a value; rules of one's own."""

from __future__ import annotations

import dataclasses
import itertools
import math
import pickle
from typing import Any

import numpy as np
import opuproj
import pytest
from helpers import assert_same_bits

torch = pytest.importorskip("torch")
from opuproj.torch import BatchMax, Dither, Fixed, PlacedRule, RowMax, RowStd, Rule, Ternarize, TopK  # noqa: E402
from tensors import RULES, errors, rounded, unpacked  # noqa: E402


def largest_dither(rule: Dither, size: np.ndarray) -> float:
    """The definition of the largest threshold of a batch, from its magnitudes."""
    if rule.factor == "auto":
        return float(np.sqrt(np.average(np.square(size.max(axis=1)), weights=np.square(size).sum(axis=1))))
    return float(rule.factor * np.sqrt(np.mean(np.square(size))))


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
        return (spread * largest_dither(rule, size.astype(float))).astype(e.dtype)
    ranked = np.sort(size, axis=1)[:, ::-1]
    return ranked[:, rule.k : rule.k + 1] if rule.k < e.shape[1] else np.zeros((len(e), 1), e.dtype)


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rule", [Dither(1.5), Dither("auto")], ids=repr)
def test_dither_by_places_is_its_definition(rule: Any, dtype: Any) -> None:
    e, where = errors(30, 50, dtype=dtype), torch.rand(30, 1, dtype=torch.float64)
    e[4] = 0
    size = np.abs(e.numpy().astype(float))
    largest = largest_dither(rule, size)
    thresholds, survivors = rule.placed(e, where)
    assert np.allclose(thresholds, where * largest, rtol=1e-12, atol=0)
    assert survivors.dtype == torch.float64
    assert np.allclose(survivors, np.minimum(size / largest, 1).sum(axis=1, keepdims=True), rtol=1e-6, atol=0)
    t, a = Ternarize(rule)(e.reshape(3, 10, 50), where.reshape(3, 10, 1))
    assert_same_bits(t.reshape(30, 50), rounded(e.numpy(), thresholds.numpy()))
    assert np.allclose(a, np.linalg.norm(size) / np.sqrt(float(survivors.sum())), rtol=1e-6, atol=0)


@pytest.mark.parametrize("exponent", [-140, -100, 100, 125])
@pytest.mark.parametrize("norm", ["row", "batch"])
@pytest.mark.parametrize("rule", [Dither(4.0), Dither("auto")], ids=repr)
def test_places_are_free_of_the_unit(rule: Any, norm: Any, exponent: int) -> None:
    e, where = errors(10, 50).round(decimals=2), torch.rand(10, 1, dtype=torch.float64)
    t, a = Ternarize(rule, norm=norm)(e, where)
    scaled, factors = Ternarize(rule, norm=norm)(e * 2.0**exponent, where)
    if exponent > -126:
        assert_same_bits(scaled, t)
    assert torch.allclose(factors.double() / 2.0**exponent, a.double(), rtol=1e-2 if exponent < -126 else 1e-5)


@pytest.mark.parametrize("rule", [rule for rule in RULES if not isinstance(rule, Dither)], ids=repr)
def test_other_rules_do_not_look_at_places(rule: Any) -> None:
    e, where = errors(10, 50), torch.rand(10, 1, dtype=torch.float64)
    for norm in ("row", "batch", "none"):
        for got, expected in zip(Ternarize(rule, norm)(e, where), Ternarize(rule, norm)(e), strict=True):
            assert_same_bits(got, expected)


def test_a_placed_rule_of_ones_own() -> None:
    class Coin:
        """All elements or none, by turns."""

        def thresholds(self, e: Any) -> Any:
            raise AssertionError("places were given")

        def placed(self, e: Any, places: Any) -> Any:
            return torch.where(places < 0.25, 0.0, math.inf), torch.full_like(places, e.shape[1] / 4)

    e, where = torch.full((4, 8), -3.0), torch.tensor([[0.1], [0.3], [0.24], [0.9]], dtype=torch.float64)
    assert isinstance(Coin(), PlacedRule)
    assert not isinstance(Median(), PlacedRule)
    for norm in ("row", "batch"):
        t, a = Ternarize(Coin(), norm=norm)(e, where)
        assert t.tolist() == [[-1] * 8, [0] * 8, [-1] * 8, [0] * 8]
        assert a.tolist() == [[6.0]] * 4  # 72 = 36 · 2, with two survivors on average
        packed, b = Ternarize(Coin(), norm=norm).pack(e, where)
        assert_same_bits(unpacked(packed, e.shape), t)
        assert_same_bits(a, b)


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


# Sizes


@pytest.mark.parametrize(
    "rule",
    [
        RowMax(0.25),
        BatchMax(0.25),
        TopK(5),
        pytest.param(RowStd(0.67)),
        pytest.param(Dither(1.5)),
        pytest.param(Dither("auto")),
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


@pytest.mark.parametrize("n_classes", [2, 10, 100, 1000])
def test_the_automatic_range_holds_the_errors_of_any_number_of_classes(n_classes: int) -> None:
    logits = errors(64, n_classes)
    classes = torch.arange(64) % n_classes
    e = logits.softmax(1) - torch.nn.functional.one_hot(classes, n_classes)
    where = torch.full((64, 1), 1.0, dtype=torch.float64)  # the largest threshold
    largest, _ = Dither("auto").placed(e, where)
    reached = e.abs().amax()
    assert 0.5 * reached < float(largest[0]) <= reached
    if n_classes > 10:
        assert float(Dither(4.0).placed(e, where)[0][0]) < 0.5 * reached
