"""Tensors packed on their own device."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import opuproj
import pytest
from helpers import AWKWARD, assert_same_bits, ternary

torch = pytest.importorskip("torch")
from opuproj._check import MODES  # noqa: E402
from opuproj.backends import backend  # noqa: E402
from opuproj.inputs.tensors import DeviceRows  # noqa: E402
from opuproj.inputs.tensors import _bits as bits  # noqa: E402
from opuproj.torch import Projection, RowStd, Ternarize  # noqa: E402
from tensors import RULES, cuda, gaussian, vectors  # noqa: E402

VALUES = (torch.int8, torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64)


def packed_on_device(x: Any) -> opuproj.TernaryBatch:
    """What becomes of a tensor of another device, here in the CPU's memory."""
    rows = DeviceRows("x", x)
    rows.advice = "give ternarize= or digits= for other values"
    return opuproj.TernaryBatch._of(backend("cpu").pack(rows), tuple(x.shape))


@pytest.mark.parametrize("n", AWKWARD)
def test_packing_on_the_device_is_pack(n: int) -> None:
    x = ternary(3, n, seed=1)
    packed = packed_on_device(torch.from_numpy(x).to(VALUES[n % len(VALUES)]))
    assert packed == opuproj.pack(x)
    for plane, expected in zip((x == 1, x == -1), opuproj.pack(x).planes("little"), strict=True):
        assert_same_bits(bits(torch.from_numpy(plane)), expected)
        assert_same_bits(bits(torch.from_numpy(plane)), np.packbits(plane, axis=-1, bitorder="little"))


EMPTY = pytest.param((2, 0, 13))


@pytest.mark.parametrize("shape", [(13,), EMPTY, (4, 13), (2, 3, 4, 13)])
def test_packing_on_the_device_of_any_shape_and_strides(shape: tuple[int, ...]) -> None:
    x = ternary(*shape)
    tensor = torch.from_numpy(x)
    axes = range(len(shape))[::-1]
    reordered = tensor.permute(*axes).contiguous().permute(*axes)
    for same in (tensor, reordered, tensor.float().requires_grad_()):
        packed = packed_on_device(same)
        assert packed.shape == shape
        assert packed == opuproj.pack(x)
    assert_same_bits(opuproj.Projector(13, 6)(packed), opuproj.Projector(13, 6)(x))


def test_packing_on_the_device_of_what_has_no_minus_one() -> None:
    x = np.abs(ternary(3, 50))
    for dtype in (torch.bool, torch.uint8, torch.uint16, torch.uint64):
        assert packed_on_device(torch.from_numpy(x).to(dtype)) == opuproj.pack(x)


@pytest.mark.parametrize(
    "dtype",
    [
        torch.int8,
        torch.int64,
        pytest.param(torch.uint8),
        pytest.param(torch.uint16),
        pytest.param(torch.uint64),
    ],
)
def test_packing_on_the_device_refuses_the_largest_number(dtype: Any) -> None:
    largest = torch.iinfo(dtype).max
    with pytest.raises(ValueError, match=rf"x\[1\] is {largest}, but must be -1, 0 or 1"):
        packed_on_device(torch.tensor([0, largest], dtype=dtype))


@pytest.mark.parametrize("value", [2, -2, 0.5, np.inf, -np.inf, np.nan, 1 + 2**-23, 1e-45])
def test_packing_on_the_device_names_the_bad_value(value: float) -> None:
    for shape, index in (((4, 3, 13), (3, 2, 12)), ((4, 3, 13), (0, 0, 0)), ((70,), (65,)), ((1, 1), (0, 0))):
        x = vectors(*shape)
        x[index] = value
        place, shown = (re.escape(text) for text in (", ".join(map(str, index)), str(x[index].item())))
        expected = rf"{shown}, but must be -1, 0 or 1; give ternarize=" if value == value else "NaN, but must be"
        with pytest.raises(ValueError, match=rf"^x\[{place}\] is {expected}"):
            packed_on_device(x)


def test_the_first_of_several_bad_values_is_named() -> None:
    x = torch.zeros(3, 50)
    x[1, 2], x[1, 1], x[2, 0] = 5, 4, 3
    with pytest.raises(ValueError, match=r"^x\[1, 1\] is 4"):
        packed_on_device(x)


@cuda
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(50,), (0, 50), (2, 3, 50)])
def test_a_gpu_gives_the_same_bits(mode: Any, shape: tuple[int, ...]) -> None:
    layer = Projection(50, 20, seed=2**64 - 1, mode=mode, rows=(3, 20))
    for dtype in VALUES:
        y = layer(vectors(*shape, dtype=dtype).cuda())
        assert y.is_cuda
        assert_same_bits(y.cpu(), layer(vectors(*shape)))
    with pytest.raises(ValueError, match=r"x\[0\] is 0\.5, but must be -1, 0 or 1; give ternarize="):
        layer(torch.full((50,), 0.5).cuda())


@cuda
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_a_gpu_gives_the_same_with_a_rule(mode: Any, rule: Any) -> None:
    layer = Projection(50, 20, mode=mode, ternarize=Ternarize(rule))
    y = layer(gaussian(4, 50).cuda())
    assert y.is_cuda
    assert torch.allclose(y.cpu(), layer(gaussian(4, 50)), rtol=1e-5)


@pytest.mark.parametrize("rule", [*RULES, RowStd(1.0)], ids=repr)
def test_thresholds_on_the_device_are_those_of_a_call(rule: Any) -> None:
    ternarize = Ternarize(rule)
    for e in (gaussian(6, 70), torch.tensor([[0.1, -0.1] * 8] * 3), gaussian(3, 9, dtype=torch.float64)):
        t, _ = ternarize(e)
        thresholds, _ = ternarize._thresholds(e, None)
        packed = backend("cpu").ternarize(DeviceRows("e", e), thresholds.reshape(-1).to(torch.float64).numpy())
        assert_same_bits(opuproj.TernaryBatch._of(packed, tuple(e.shape)).to_numpy(), t.numpy())


def test_packing_on_the_device_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    x = ternary(50, 70)
    monkeypatch.setattr("opuproj.backends.cpu.dense.DEVICE_ELEMENTS", 70 * 8)
    assert packed_on_device(torch.from_numpy(x)) == opuproj.pack(x)
    x[49, 3] = 5
    with pytest.raises(ValueError, match=r"^x\[49, 3\] is 5"):
        packed_on_device(torch.from_numpy(x))
