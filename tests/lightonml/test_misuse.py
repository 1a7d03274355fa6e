"""Errors of an OPU."""

from __future__ import annotations

import numpy as np
import pytest
from lightonml_opus import METHODS, binary, fitted, new
from opuproj.lightonml import OPU
from opuproj.lightonml.internal.simulated_device import SimulatedOpuDevice


@pytest.mark.parametrize("method", METHODS)
def test_a_fit_must_come_first(method: str) -> None:
    with pytest.raises(AssertionError, match=f"Call fit1d or fit2d before {method}$"):
        getattr(new(), method)(binary(40))


@pytest.mark.parametrize("method", METHODS)
def test_a_closed_device_refuses(method: str) -> None:
    opu = new(open_at_init=False)
    opu.fit1d(n_features=40)
    with pytest.raises(AssertionError, match=r"isn't active, use opu\.open"):
        getattr(opu, method)(binary(40))
    opu.open()
    getattr(opu, method)(binary(40))


def test_wrong_arguments_of_the_class() -> None:
    with pytest.raises(RuntimeError, match="simulated is False, but LightOn's hardware is no longer supported"):
        OPU(10)
    with pytest.raises(ValueError, match="simulated is True and opu_device is given"):
        OPU(10, opu_device=SimulatedOpuDevice(), simulated=True)
    with pytest.raises(TypeError, match="opu_device is 'opu', but must be a SimulatedOpuDevice"):
        OPU(10, opu_device="opu")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="rescale is 'std', but must be one of 'variance', 'norm', 'none'"):
        new(rescale="std")
    with pytest.raises(TypeError, match="rescale is 1, but must be an OutputRescaling"):
        new(rescale=1)
    with pytest.raises(ValueError, match="n_components is 0, but must be from 1"):
        new(0)
    with pytest.raises(ValueError, match="max_n_features is -1, but must be from 1"):
        new(10, -1)
    with pytest.raises(ValueError, match="seed is -1"):
        new(seed=-1)
    with pytest.warns(DeprecationWarning, match="verbose_level is deprecated"):
        new(verbose_level=0)
    for method in (new().transform1d, new().transform2d):
        with pytest.raises(RuntimeError, match="is deprecated, you must now use fit"):
            method(binary(40))


def test_wrong_arguments_of_a_fit() -> None:
    opu = new()
    with pytest.raises(AssertionError, match="either input vector or n_features must be specified"):
        opu.fit1d()
    with pytest.raises(AssertionError, match="can only be specified with packed input"):
        opu.fit1d(binary(40), n_features=40)
    with pytest.raises(AssertionError, match=r"X has shape \(40,\), but 2-D features need at least two axes"):
        opu.fit2d(binary(40))
    with pytest.raises(
        ValueError, match=r"number of features \(41\) can't be greater than max_n_features, which is 40"
    ):
        opu.fit1d(n_features=41)
    with pytest.raises(ValueError, match=r"number of features \(42\) can't be greater"):
        opu.fit2d(n_features=(6, 7))
    with pytest.raises(ValueError, match=rf"number of features \({2**80}\) can't be greater"):
        opu.fit2d(n_features=(2**40, 2**40))
    with pytest.raises(ValueError, match=r"n_features is None, but must be \(height, width\) for packed"):
        opu.fit2d(binary(5), packed=True)
    with pytest.raises(ValueError, match="X has dtype float32, but bit-packed input must be uint8"):
        opu.fit1d(binary(5, dtype=np.float32), packed=True)
    with pytest.raises(ValueError, match="X has dtype int64, but bit-packed input must be uint8"):
        opu.fit1d([1, 2], packed=True)
    with pytest.raises(ValueError, match="packed, but 39 features take 5 bytes"):
        opu.fit1d(binary(4), n_features=39, packed=True)
    with pytest.raises(TypeError, match="'exposure' is not a setting of a transform; the settings are exposure_us"):
        opu.fit1d(n_features=40, exposure=3)
    with pytest.raises(TypeError, match=r"n_features is 3.5, but must be an integer"):
        opu.fit1d(n_features=3.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(41,), (3, 39), (2, 2, 2, 40), (8, 5)])
def test_vectors_of_another_shape(shape: tuple[int, ...], method: str) -> None:
    with pytest.raises(
        ValueError, match=rf"X has shape \({', '.join(map(str, shape))},?\), but its last axis must be 40"
    ):
        getattr(fitted(), method)(binary(*shape))


def test_images_of_another_shape() -> None:
    opu = new()
    opu.fit2d(n_features=(8, 5))
    for shape in ((5, 8), (40,), (3, 40), (2, 2, 2, 8, 5)):
        with pytest.raises(ValueError, match="its last two axes must be 8, 5"):
            opu.transform(binary(*shape))


def test_values_that_are_not_binary() -> None:
    opu = fitted()
    X = binary(3, 2, 40).astype(np.int16)
    for value, method in (
        (2, opu.transform),
        (-1, opu.transform),
        (255, opu.linear_transform),
        (-2, opu.linear_transform),
    ):
        X[2, 1, 7] = value
        with pytest.raises(ValueError, match=rf"X\[2, 1, 7\] is {value}, but the input must be binary"):
            method(X)
    with pytest.raises(ValueError, match=r"X\[0\] is 0.5, but the input must be binary"):
        opu.transform(np.full(40, 0.5))
    opu.fit2d(n_features=(8, 5))
    image = np.zeros((8, 5))
    image[6, 4] = np.nan
    with pytest.raises(ValueError, match=r"X\[6, 4\] is nan"):
        opu.transform(image)
