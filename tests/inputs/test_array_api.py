"""Arrays of other libraries: by the array API standard and by DLPack, with the bits that NumPy's have."""

from __future__ import annotations

from typing import Any

import numpy as np
import opuproj
import pytest
from helpers import MODES, assert_same_bits, ternary

xp = pytest.importorskip("array_api_strict")

DTYPES = ("bool", "int8", "uint8", "int16", "int32", "int64", "float32", "float64")
DEVICES = ("CPU_DEVICE", "device1")


def numpy(x: Any) -> np.ndarray:
    """As NumPy's, and certainly of the library."""
    assert type(x).__module__.startswith("array_api_strict")
    return np.asarray(x.to_device(xp.Device("CPU_DEVICE")))


class Producer:
    """What speaks DLPack and nothing else."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


class Elsewhere(Producer):
    """The same with its memory on a device that NumPy cannot read."""

    def __dlpack__(self, **options: Any) -> Any:
        raise BufferError("no way to the CPU")

    def __dlpack_device__(self) -> Any:
        return 2, 0

    def __array__(self, *args: Any, **options: Any) -> Any:
        raise TypeError("implicit conversion is not allowed")


class Brain(Producer):
    """What has bfloat16, which NumPy does not take over DLPack."""

    def __dlpack__(self, **options: Any) -> Any:
        raise BufferError("no such dtype")

    def __array__(self, *args: Any, **options: Any) -> Any:
        return self.array


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_projection_comes_back_in_the_library(mode: Any, dtype: str) -> None:
    x = np.abs(ternary(2, 3, 50)) if dtype[0] in "bu" else ternary(2, 3, 50)
    foreign = xp.asarray(x.astype(dtype))
    expected = opuproj.project(x, 40, mode=mode)
    assert_same_bits(numpy(opuproj.project(foreign, 40, mode=mode)), expected)
    assert_same_bits(numpy(opuproj.Projector(50, 40, mode=mode)(foreign)), expected)
    assert_same_bits(numpy(opuproj.Projector(50, 40, mode=mode) @ foreign[1, 2, :]), expected[1, 2])


def test_digits_adjoint_and_rounding_take_it_too() -> None:
    x, y = np.random.default_rng(0).standard_normal((3, 50)), np.random.default_rng(1).standard_normal((3, 40))
    op = opuproj.Projector(50, 40, mode="complex", dtype=complex)
    assert_same_bits(numpy(op(xp.asarray(x), digits=7)), op(x, digits=7))
    for back in (y, y + 1j * y[:, ::-1]):
        assert_same_bits(numpy(op.H(xp.asarray(back))), op.H(back))
        assert_same_bits(numpy(op.T @ xp.asarray(back)), op.T @ back)
    assert opuproj.encode(xp.asarray(x), digits=3) == opuproj.encode(x, digits=3)
    assert opuproj.ternarize(xp.asarray(x), relative=0.3) == opuproj.ternarize(x, relative=0.3)
    single = x.astype(np.float32)
    assert opuproj.ternarize(xp.asarray(single), 0.1) == opuproj.ternarize(single, 0.1)
    assert opuproj.pack(xp.asarray(ternary(3, 50))) == opuproj.pack(ternary(3, 50))


def test_strides_do_not_matter() -> None:
    x = ternary(60, 4)
    assert_same_bits(numpy(opuproj.project(xp.asarray(x).T, 30)), opuproj.project(x.T, 30))
    assert_same_bits(numpy(opuproj.project(xp.asarray(x)[::-2, :], 30)), opuproj.project(x[::-2], 30))


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.1.0", reason="NumPy cannot ask for a copy on the CPU")
def test_results_are_on_the_device_of_the_input() -> None:
    x = ternary(3, 50)
    for device in map(xp.Device, DEVICES):
        y = opuproj.project(xp.asarray(x, device=device), 20)
        assert y.device == device
        assert_same_bits(numpy(y), opuproj.project(x, 20))


def test_what_only_speaks_dlpack_is_taken_and_gives_numpy() -> None:
    x = ternary(3, 50)
    y = opuproj.project(Producer(x), 20)
    assert type(y) is np.ndarray
    assert_same_bits(y, opuproj.project(x, 20))
    assert opuproj.pack(Producer(x)) == opuproj.pack(x)


def test_a_library_that_cannot_hold_the_result_gets_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> Any:
        raise TypeError("no complex numbers here")

    x = ternary(3, 50)
    foreign = xp.asarray(x)
    asarray = xp.asarray
    for unable in (refuse, lambda result, **options: asarray(result.astype(np.float32))):
        monkeypatch.setattr(xp, "asarray", unable)
        y = opuproj.project(foreign, 20, dtype=np.float64)
        assert type(y) is np.ndarray
        assert_same_bits(y, opuproj.project(x, 20, dtype=np.float64))


def test_the_bfloat16_of_other_libraries_is_a_number() -> None:
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    x = np.random.default_rng(0).standard_normal((3, 50)).astype(bfloat16)
    threshold = (np.abs(x).max(axis=1, keepdims=True) * bfloat16(0.3)).astype(np.float32)
    wide = x.astype(np.float32)
    expected = np.where(wide > threshold, 1, np.where(wide < -threshold, -1, 0))
    assert np.array_equal(opuproj.ternarize(Brain(x), relative=0.3), expected)
    assert opuproj.encode(Brain(x)) == opuproj.encode(wide)
    assert opuproj.pack(Brain(np.sign(x))) == opuproj.pack(np.sign(wide))


def test_bad_input_is_refused_by_name() -> None:
    x = xp.asarray(np.array([[1.0, 0.5], [0, 1]]))
    with pytest.raises(ValueError, match=r"^x\[0, 1\] is 0\.5, but must be -1, 0 or 1"):
        opuproj.project(x, 5)
    with pytest.raises(ValueError, match="x is a single number"):
        opuproj.project(xp.asarray(1), 5)
    with pytest.raises(TypeError, match="x has dtype complex128, but must hold"):
        opuproj.project(xp.asarray([1j, 0]), 5)
    with pytest.raises(
        TypeError, match=r"^x is of type Elsewhere, which NumPy cannot read \(no way to the CPU\): move it"
    ):
        opuproj.project(Elsewhere(ternary(3)), 5)
    with pytest.raises(TypeError, match="out is a Array, but must be a NumPy array or a torch tensor"):
        opuproj.project([1, 0], 5, out=xp.zeros(5))
