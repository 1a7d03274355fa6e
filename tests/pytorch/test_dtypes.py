"""The dtype of a layer's results: as it is made, cast with a model, in front of autocast."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import opuproj
import pytest
from helpers import assert_same_bits

torch = pytest.importorskip("torch")
from opuproj import Camera  # noqa: E402
from opuproj._check import MODES  # noqa: E402
from opuproj.torch import Projection, RowMax, Ternarize  # noqa: E402
from tensors import gaussian, vectors  # noqa: E402

CASTS = {"half": torch.float16, "bfloat16": torch.bfloat16, "float": torch.float32, "double": torch.float64}
HALVES = (torch.float16, torch.bfloat16)
COMPLEX = {torch.float64: torch.complex128}


def expected_of(mode: str, dtype: Any) -> Any:
    """The dtype of results of a layer that was cast to a dtype."""
    return COMPLEX.get(dtype, torch.complex64) if mode == "complex" else dtype


def rounded(mode: Any, dtype: Any, x: Any) -> Any:
    """What the operator gives, in double precision or rounded once from single."""
    y = opuproj.project(x, 20, seed=3, mode=mode, dtype="float64" if dtype == torch.float64 else "float32")
    return y.to(expected_of(mode, dtype))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CASTS)
def test_a_model_that_is_cast_casts_the_results(mode: Any, name: str) -> None:
    dtype, x = CASTS[name], vectors(4, 50)
    for cast in (
        lambda model: getattr(model, name)(),
        lambda model: model.to(dtype),
        lambda model: model.to("cpu", dtype),
        lambda model: model.to(torch.empty(1, dtype=dtype)),
        lambda model: model.type(dtype),
        lambda model: model.half().double().to(dtype=dtype),
        lambda model: copy.deepcopy(model.to(dtype)),
        lambda model: pickle.loads(pickle.dumps(model.to(dtype))),
        lambda model: copy.copy(model.to(dtype)).to("cpu"),
    ):
        model = cast(torch.nn.Sequential(torch.nn.Identity(), Projection(50, 20, seed=3, mode=mode)))
        y = model(x)
        assert model[1].dtype == y.dtype == expected_of(mode, dtype)
        assert torch.equal(y, rounded(mode, dtype, x))


def test_a_move_casts_nothing() -> None:
    for dtype in CASTS.values():
        layer = Projection(50, 20, dtype=dtype)
        for move in ("cpu", "share_memory", "train", "eval"):
            assert getattr(layer, move)().dtype == dtype
        for device in ("cpu", "meta"):
            assert layer.to(device)(vectors(2, 50)).dtype == dtype
        layer.to_empty(device="cpu")
        assert_same_bits(layer(vectors(2, 50)).double(), Projection(50, 20, dtype=dtype)(vectors(2, 50)).double())


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("mode", ["linear", "intensity", "real"])
def test_half_precision_can_be_asked_for(mode: Any, dtype: Any) -> None:
    x, name = vectors(4, 50), str(dtype).removeprefix("torch.")
    for given in (dtype, name) if dtype == torch.bfloat16 else (dtype, name, np.float16, np.dtype("float16")):
        layer = Projection(50, 20, seed=3, mode=mode, dtype=given)
        assert layer.dtype == dtype
        assert torch.equal(layer(x), rounded(mode, dtype, x))
    with pytest.raises(ValueError, match=f"dtype is {name}, but mode 'complex' gives complex64"):
        Projection(50, 20, mode="complex", dtype=dtype)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("mode", ["linear", "intensity"])
def test_results_are_rounded_once_after_the_factor(mode: Any, dtype: Any) -> None:
    rule = Ternarize(RowMax(0.3), norm="row")
    e = gaussian(40, 50)
    single = Projection(50, 20, mode=mode, ternarize=rule)(e)
    assert torch.equal(Projection(50, 20, mode=mode, ternarize=rule, dtype=dtype)(e), single.to(dtype))
    camera = Camera(photons=50)
    torch.manual_seed(0)
    noisy = Projection(50, 20, mode=mode, camera=camera)(vectors(4, 50))
    torch.manual_seed(0)
    assert torch.equal(Projection(50, 20, mode=mode, camera=camera, dtype=dtype)(vectors(4, 50)), noisy.to(dtype))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", CASTS.values())
@pytest.mark.parametrize("x_dtype", CASTS.values())
def test_gradients_come_back_in_the_dtype_of_the_input(mode: Any, dtype: Any, x_dtype: Any) -> None:
    found = []
    for layer in (
        Projection(30, 20, mode=mode, digits=10).to(dtype),
        Projection(30, 20, mode=mode, digits=20).double(),
    ):
        x = gaussian(4, 30).to(x_dtype).requires_grad_()
        y = layer(x)
        (y.real.double().sum() + y.abs().double().sum()).backward()
        assert x.grad.dtype == x_dtype
        found.append(x.grad.double())
    coarse = max(torch.finfo(kind).eps for kind in (dtype, x_dtype, torch.float32))
    torch.testing.assert_close(
        found[0], found[1], rtol=4 * coarse, atol=max(4 * coarse, 2e-4) * float(found[1].abs().max())
    )


def test_complex_dtypes_give_their_precision() -> None:
    # As torch warns, complex modules are new.
    with pytest.warns(UserWarning, match="Complex modules"):
        assert Projection(50, 20).to(torch.complex128).dtype == torch.float64
    with pytest.warns(UserWarning, match="Complex modules"):
        assert Projection(50, 20, mode="complex").to(torch.complex128).dtype == torch.complex128


def test_what_results_cannot_be_is_refused() -> None:
    layer = Projection(50, 20)
    with pytest.raises(ValueError, match="dtype is float8_e4m3fn, but a Projection gives one of float16, bfloat16"):
        layer.to(torch.float8_e4m3fn)
    assert layer.to("cpu").dtype == torch.float32


@pytest.mark.parametrize("mode", MODES)
def test_a_state_that_is_loaded_casts_nothing(mode: Any) -> None:
    layer = Projection(50, 20).half()
    layer.load_state_dict(Projection(50, 20, seed=3, mode=mode).double().state_dict())
    assert layer.dtype == expected_of(mode, torch.float16)
    assert torch.equal(layer(vectors(4, 50)), rounded(mode, torch.float16, vectors(4, 50)))
    layer.load_state_dict(Projection(50, 20).state_dict())
    assert layer.dtype == torch.float16


def test_autocast_changes_no_result() -> None:
    before, layer = torch.nn.Linear(8, 30), Projection(30, 20, digits=5)
    x = gaussian(4, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = before(x)
        y = layer(h)
        y.sum().backward()
    assert (h.dtype, y.dtype, before.weight.grad.dtype) == (torch.bfloat16, torch.float32, torch.float32)
    assert_same_bits(y.detach(), layer(h.detach()))
    assert before.weight.grad.abs().sum() > 0


def test_half_precision_compiles_and_exports() -> None:
    layer = torch.nn.Sequential(Projection(50, 20, seed=3)).bfloat16()
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = vectors(4, 50)
    assert torch.equal(compiled(x), layer(x))
    assert torch.equal(torch.export.export(layer, (x,)).module()(x), layer(x))
    layer.double()
    assert_same_bits(compiled(x), layer(x))
    torch._dynamo.reset()
