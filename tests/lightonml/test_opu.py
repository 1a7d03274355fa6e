"""The class OPU computes the same as lightonml 1.4's with its simulated device, and has additions."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import opuproj
import pytest
from helpers import assert_same_bits, run
from lightonml_opus import METHODS, binary, fitted, new
from opuproj import Camera
from opuproj.lightonml import OPU
from opuproj.lightonml.context import ContextArray
from opuproj.lightonml.internal.simulated_device import SimulatedOpuDevice
from opuproj.lightonml.internal.types import InputRoiStrategy
from opuproj.lightonml.types import OutputRescaling

# Interface


def test_arguments_come_in_the_order_of_lightonml() -> None:
    def names(function: Any) -> list[str]:
        kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.VAR_KEYWORD)
        return [p.name for p in inspect.signature(function).parameters.values() if p.kind in kinds]

    assert names(OPU) == [
        "n_components",
        "opu_device",
        "max_n_features",
        "config_file",
        "config_override",
        "verbose_level",
        "input_roi_strategy",
        "open_at_init",
        "disable_pbar",
        "simulated",
        "rescale",
    ]
    fit = ["self", "X", "n_features", "packed", "online", "override"]
    assert names(OPU.fit1d) == names(OPU.fit2d) == fit
    assert names(OPU.transform) == names(OPU.linear_transform) == ["self", "X", "encoder_cls", "decoder_cls"]
    assert names(OPU.fit_transform1d) == ["self", "X", "packed", "override"]
    assert names(OPU.fit_transform2d) == ["self", "X", "packed", "n_2d_features", "override"]
    assert names(SimulatedOpuDevice) == ["frametime_us", "exposure_us", "verbose", "linear"]
    defaults = {name: p.default for name, p in inspect.signature(OPU).parameters.items()}
    assert (defaults["n_components"], defaults["max_n_features"], defaults["simulated"]) == (200000, 1000, False)
    assert defaults["rescale"] is OutputRescaling.variance
    assert defaults["input_roi_strategy"] is InputRoiStrategy.full


def test_neither_torch_nor_sklearn_is_imported_before_it_is_asked_for() -> None:
    code = """
        import sys
        import opuproj.lightonml, opuproj.lightonml.encoding.base, opuproj.lightonml.opu
        print(sorted({"torch", "sklearn", "tqdm"} & set(sys.modules)))
    """
    assert run(code).strip() == "[]"


# Shapes and dtypes

SHAPES_1D = {(40,): (50,), (1, 40): (1, 50), (7, 40): (7, 50), (3, 2, 40): (3, 2, 50), (1, 1, 40): (1, 1, 50)}
SHAPES_2D = {(8, 5): (50,), (1, 8, 5): (1, 50), (7, 8, 5): (7, 50), (3, 2, 8, 5): (3, 2, 50), (0, 8, 5): (0, 50)}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", SHAPES_1D)
def test_shapes_of_vectors(shape: tuple[int, ...], method: str) -> None:
    opu = new()
    X = binary(*shape)
    opu.fit1d(X)
    y = getattr(opu, method)(X)
    assert (y.shape, y.dtype, type(y)) == (SHAPES_1D[shape], np.float32, ContextArray)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", SHAPES_2D)
def test_shapes_of_images_which_are_projected_as_if_flattened(shape: tuple[int, ...], method: str) -> None:
    opu = new()
    X = binary(*shape)
    opu.fit2d(X)
    y = getattr(opu, method)(X)
    assert y.shape == SHAPES_2D[shape]
    assert_same_bits(y, getattr(fitted(), method)(X.reshape(*shape[:-2], 40)))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("method", METHODS)
def test_zeros_and_ones_of_any_dtype_and_layout(dtype: Any, method: str) -> None:
    X = binary(6, 40)
    transform = getattr(fitted(), method)
    assert_same_bits(transform(X.astype(dtype)), transform(X))
    assert_same_bits(transform(np.asfortranarray(X.astype(dtype))), transform(X))
    assert_same_bits(transform(X.tolist()), transform(X))


@pytest.mark.parametrize("method", METHODS)
def test_tensors_give_tensors(method: str) -> None:
    torch = pytest.importorskip("torch")
    X = binary(6, 40)
    opu = new()
    for dtype in (torch.uint8, torch.bool, torch.float32, torch.bfloat16, torch.int64):
        tensor = torch.from_numpy(X).to(dtype)
        opu.fit1d(tensor)
        y = getattr(opu, method)(tensor)
        assert (type(y), y.dtype, y.requires_grad) == (torch.Tensor, torch.float32, False)
        assert_same_bits(y.numpy(), getattr(opu, method)(X))


def test_a_fit_by_numbers_is_one_by_example() -> None:
    X, images = binary(6, 40), binary(6, 8, 5)
    opu = new()
    opu.fit1d(n_features=40)
    y = opu.transform(X)
    assert_same_bits(opu.fit_transform1d(X), y)
    for n_features in ((8, 5), [8, 5], np.array([8, 5])):
        opu.fit2d(n_features=n_features)
        assert_same_bits(opu.transform(images), opu.fit_transform2d(images))


def test_online_gives_the_same_vector_by_vector() -> None:
    X = binary(6, 40)
    opu = fitted()
    y, r = opu.transform(X), opu.linear_transform(X)
    opu.fit1d(n_features=40, online=True)
    assert_same_bits(np.stack([opu.transform(x) for x in X]), y)
    assert_same_bits(np.stack([opu.linear_transform(x) for x in X]), r)
    opu.fit2d(n_features=(8, 5), online=True)
    assert_same_bits(np.stack([opu.transform(x.reshape(8, 5)) for x in X]), y)


# Packed


@pytest.mark.parametrize("shape", [(40,), (7, 40), (3, 2, 40)])
def test_packed_is_unpacked_bit_for_bit(shape: tuple[int, ...]) -> None:
    X = binary(*shape)
    bits = np.packbits(X, axis=-1)
    opu = fitted()
    y, r = opu.transform(X), opu.linear_transform(X)
    opu.fit1d(bits, packed=True)
    assert_same_bits(opu.transform(bits), y)
    assert_same_bits(opu.linear_transform(bits), r)
    assert_same_bits(opu.fit_transform1d(bits, packed=True), y)


def test_packed_tensors() -> None:
    torch = pytest.importorskip("torch")
    X = binary(7, 40)
    bits = torch.from_numpy(np.packbits(X, axis=-1))
    assert_same_bits(new().fit_transform1d(bits, packed=True).numpy(), np.asarray(fitted().transform(X)))


def test_packed_features_need_not_fill_bytes() -> None:
    X = binary(7, 13, 3)
    bits = np.packbits(X.reshape(7, 39), axis=-1)
    opu = new()
    y = opu.fit_transform2d(X)
    assert_same_bits(opu.fit_transform2d(bits, packed=True, n_2d_features=(13, 3)), y)
    opu.fit2d(n_features=(13, 3), packed=True)
    assert_same_bits(opu.transform(bits), y)
    opu.fit1d(bits, n_features=39, packed=True)
    assert_same_bits(opu.transform(bits), y)
    bits[0, -1] |= 1  # the fortieth feature
    with pytest.raises(ValueError, match="X, packed, does not hold 39 features"):
        opu.transform(bits)


# Values


def test_results_are_those_of_the_device_s_matrix() -> None:
    X = binary(20, 30)
    opu = fitted(30)
    M = opu.device.random_matrix
    assert M is not None
    assert (M.shape, M.dtype) == ((40, 50), np.complex64)
    np.testing.assert_allclose(opu.transform(X), np.abs(X @ M[:30]) ** 2, rtol=1e-4, atol=1e-6)
    opu.rescale = OutputRescaling.none
    np.testing.assert_allclose(opu.linear_transform(X), (X @ M[:30]).real, rtol=1e-4, atol=1e-6)


def test_the_matrix_is_complex_gaussian_of_variance_one_over_max_n_features() -> None:
    M = new(3000, 200).device.random_matrix
    assert M is not None
    for part in (M.real, M.imag):
        assert abs(part.mean()) < 5 * part.std() / np.sqrt(part.size)
        assert abs(200 * part.var() - 1) < 5 * np.sqrt(2 / part.size)
    assert abs((M.real * M.imag).mean() * 200) < 5 / np.sqrt(M.size)


def test_results_are_projector_s() -> None:
    X = binary(5, 40)
    opu = fitted(seed=9, rescale="none")
    intensity = opuproj.project(X, 50, seed=9)
    assert_same_bits(np.asarray(opu.transform(X)), intensity * np.float32(2 / 40))
    linear = opuproj.project(X, 50, seed=9, mode="linear")
    assert_same_bits(np.asarray(opu.linear_transform(X)), linear * np.float32(1 / np.sqrt(40)))


@pytest.mark.parametrize(
    ("rescale", "divisor"), [("variance", np.sqrt(300)), ("norm", np.sqrt(20_000)), ("none", 1.0), ("NONE", 1.0)]
)
def test_rescaling_divides_what_is_divided_already(rescale: str, divisor: float) -> None:
    X = binary(4, 300)
    opu = new(20_000, 500, rescale=rescale)
    opu.fit1d(X)
    r = np.asarray(opu.linear_transform(X), np.float64)
    for x, row in zip(X, r, strict=True):
        std = np.sqrt(x.sum() / 500) / divisor
        assert abs(row.std() / std - 1) < 5 / np.sqrt(2 * row.size)
        assert abs(row.mean()) < 5 * std / np.sqrt(row.size)
    opu.rescale = OutputRescaling[rescale.lower()]
    assert_same_bits(np.asarray(opu.linear_transform(X), np.float64), r)


def test_the_scale_trap_of_half_ones_is_lightonml_s() -> None:
    n = 1000
    x = np.repeat(np.uint8([0, 1]), n // 2)
    opu = new(20_000, n)
    opu.fit1d(x)
    assert abs(opu.linear_transform(x).std() * np.sqrt(n) - np.sqrt(0.5)) < 5 * 0.71 / np.sqrt(40_000)
    y = opu.transform(x)
    assert abs(y.mean() - 1) < 5 / np.sqrt(20_000)
    assert abs(y.std() - 1) < 0.06


def test_rescaling_counts_features_and_components_of_the_fit() -> None:
    X = binary(3, 20)
    none, variance, norm = (fitted(20, rescale=rescale) for rescale in ("none", "variance", "norm"))
    r = none.linear_transform(X)
    assert_same_bits(variance.linear_transform(X), r / np.sqrt(20).item())
    assert_same_bits(norm.linear_transform(X), r / np.sqrt(50).item())
    norm.n_components = 30
    assert_same_bits(norm.linear_transform(X), r[:, :30] / np.sqrt(30).item())


def test_linear_takes_minus_one_and_is_linear() -> None:
    X = binary(5, 40).astype(np.int8) - binary(5, 40, seed=1).astype(np.int8)
    opu = fitted()
    parts = opu.linear_transform(X > 0) - opu.linear_transform(X < 0)
    np.testing.assert_allclose(opu.linear_transform(X), parts, atol=1e-6)


# Additions


def test_seed_tells_matrices_apart() -> None:
    X = binary(5, 40)
    y = fitted().transform(X)
    assert_same_bits(fitted(seed=0).transform(X), y)
    assert not np.isclose(fitted(seed=1).transform(X), y).any(axis=1).all()
    device = SimulatedOpuDevice(seed=1)
    opu = OPU(50, device, 40)
    opu.fit1d(X)
    assert opu.seed == device.seed == 1
    assert_same_bits(opu.transform(X), fitted(seed=1).transform(X))
    device.build_random_matrix(40, 50, seed=None)
    assert device.seed not in (0, 1)


def test_growing_keeps_what_was_there() -> None:
    X = binary(5, 40)
    opu = fitted()
    y = opu.transform(X)
    opu.n_components = 80
    assert_same_bits(opu.transform(X)[:, :50], y)
    opu.n_components = 50
    opu.max_n_features = 160
    assert_same_bits(opu.transform(X), y / np.float32(4))
    assert opu.device.nb_features == 160
    longer = np.pad(X, ((0, 0), (0, 60)))
    opu.fit1d(longer)
    assert_same_bits(opu.transform(longer), y / np.float32(4))


def test_sizes_beyond_the_hardware() -> None:
    n_inputs, n_outputs = 1_200_000, 2_300_000
    opu = new(n_outputs, n_inputs)
    x = np.zeros(n_inputs, np.uint8)
    x[[3, 1_150_000]] = 1
    opu.fit1d(x)
    y = opu.transform(x)
    assert y.shape == (n_outputs,)
    expected = opuproj.Projector(n_inputs, n_outputs, mode="intensity")[-5:](x) * np.float32(2 / n_inputs)
    assert_same_bits(np.asarray(y[-5:]), expected)


def test_no_limit_of_features() -> None:
    X = binary(5, 2000)
    opu = new(50, None)
    opu.fit1d(X)
    assert_same_bits(opu.transform(X), fitted(2000, max_n_features=2000).transform(X))
    assert opu.max_n_features is None
    assert opu.device.random_matrix is None


@pytest.mark.parametrize("method", METHODS)
def test_a_camera_adds_noise_and_keeps_the_scale(method: str) -> None:
    x = binary(3, 40)
    exact = getattr(fitted(), method)(x)
    seen = getattr(fitted(camera=Camera(photons=300, dark_floor=0.05, full_scale=15)), method)(x)
    assert seen.dtype == exact.dtype
    lit = np.asarray(seen) != 0
    assert 0.9 < np.corrcoef(exact[lit], seen[lit])[0, 1] < 0.9999
    assert abs(np.std(seen[lit]) / np.std(exact[lit]) - 1) < 0.1
    assert_same_bits(getattr(fitted(camera=Camera.ideal()), method)(x), exact)
    with pytest.raises(TypeError, match=r"camera is 8, but must be an opuproj\.Camera"):
        OPU(simulated=True, camera=8)  # type: ignore[arg-type]
