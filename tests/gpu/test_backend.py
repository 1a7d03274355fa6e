"""The CUDA backend on a CPU that stands in for a GPU: every path of a projection, `out=`, and errors about values."""

from __future__ import annotations

from typing import Any

import numpy as np
import opuproj
import opuproj.torch
import pytest
import standin_backend
from helpers import CAMERA_MODES, LINEAR_MODES, MODES, assert_same_bits, ternary
from opuproj import backends
from opuproj._spec import Spec
from opuproj.backends import Request
from opuproj.inputs.arrays import array_rows, vectors

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(standin_backend.DEVICE not in backends.registered(), reason="needs g++")

FIELDS = "opuproj.backends.cuda._fields"


@pytest.fixture(autouse=True)
def on_the_standin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opuproj.inputs.tensors.tensor_rows", standin_backend.tensor_rows)


def project(x: Any, n_outputs: int, mode: str = "real", **options: Any) -> Any:
    """The results of all vectors, as `opuproj.project` of a tensor on the GPU."""
    y = opuproj.project(x, n_outputs, seed=9, mode=mode, dtype=np.float64, **options)  # type: ignore[arg-type]
    opuproj.synchronize()
    return y


def expected(x: np.ndarray, n_outputs: int, mode: str = "real", **options: Any) -> np.ndarray:
    return opuproj.project(x, n_outputs, seed=9, mode=mode, dtype=np.float64, **options)  # type: ignore[arg-type]


# The choice among the ways to compute, made small enough to be tested.


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n_vectors", [1, 20, 40, 70])
@pytest.mark.parametrize("density", [0, 0.01, 0.2, 1])
def test_every_way_to_compute(mode: str, n_vectors: int, density: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{FIELDS}._CHOICE_INPUTS", 16)
    monkeypatch.setattr(f"{FIELDS}._PANEL_COLUMNS", 256)
    x = ternary(n_vectors, 700, density=density)
    assert_same_bits(project(torch.from_numpy(x), 90, mode).numpy(), expected(x, 90, mode))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("digits", [None, 7])
@pytest.mark.parametrize("n_vectors", [1, 40])
def test_sums_of_64_bits(mode: str, digits: int | None, n_vectors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{FIELDS}.Planes.most_columns", 300)
    monkeypatch.setattr(f"{FIELDS}.Bytes.most_columns", 300)
    monkeypatch.setattr(f"{FIELDS}._PANEL_COLUMNS", 128)
    x = ternary(n_vectors, 700) if digits is None else np.random.default_rng(0).standard_normal((n_vectors, 700))
    y = project(torch.from_numpy(x), 90, mode, digits=digits)
    assert_same_bits(y.numpy(), expected(x, 90, mode, digits=digits))


@pytest.mark.parametrize("mode", MODES)
def test_little_scratch_memory(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opuproj.backends.cuda._backend.scratch_bytes", lambda: 30_000)
    x = ternary(90, 300)
    seen: list[float] = []
    assert_same_bits(
        project(torch.from_numpy(x), 200, mode, rows=(3, 190)).numpy(), expected(x, 200, mode, rows=(3, 190))
    )
    one = Spec.checked(300, 200, seed=9, mode=mode, dtype=np.float64)
    rows = vectors(torch.from_numpy(x), None, "gaussian")
    backends.backend_for(rows).project(one, rows, None, Request(progress=seen.append))
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1)
    assert len(seen) > 5


@pytest.mark.parametrize("mode", LINEAR_MODES)
def test_the_adjoint_in_parts(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opuproj.backends.cuda._backend.scratch_bytes", lambda: 40_000)
    monkeypatch.setattr("opuproj.backends.cuda.adjoint.BYTE_COLUMNS", 128)
    op = opuproj.Projector(200, 150, seed=9, mode=mode)[3:]  # type: ignore[arg-type]
    y = np.random.default_rng(0).standard_normal((20, 147))
    for adjoint in (op.H, op.T):
        for x in (y, y.astype(np.float32), *([y + 1j * y[::-1]] if mode == "complex" else [])):
            assert_same_bits(adjoint(torch.from_numpy(x)).numpy(), adjoint(x))


@pytest.mark.parametrize("digits", [None, 5])
def test_vectors_that_are_too_long_for_the_kernels(digits: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opuproj.backends.cuda._backend.LONGEST", 100)
    for n in (100, 101):
        x = ternary(3, n)
        launched: list[str] = []
        with monkeypatch.context() as counted:
            counted.setattr(standin_backend.StandIn, "launch", counting(standin_backend.StandIn.launch, launched))
            y = project(torch.from_numpy(x), 101, digits=digits)
            op = opuproj.Projector(90, n, mode="real")
            back = op.H(torch.from_numpy(x))
        assert bool(launched) == (n == 100)
        assert_same_bits(y.numpy(), expected(x, 101, digits=digits))
        assert_same_bits(back.numpy(), op.H(x))
    for make in (opuproj.pack, lambda x: opuproj.ternarize(x, 0.5), lambda x: opuproj.encode(x, digits=5)):
        make(torch.zeros(2, 100))
        with pytest.raises(
            ValueError, match=r"^[xe] has shape \(2, 101\), but a batch on a GPU can have vectors of 100"
        ):
            make(torch.zeros(2, 101))


def counting(launch: Any, launched: list[str]) -> Any:
    def counted(gpu: Any, file: str, *arguments: Any, **options: Any) -> None:
        launched.append(file)
        launch(gpu, file, *arguments, **options)

    return counted


# Numbers of every dtype and layout


@pytest.mark.parametrize(
    "name", ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "bfloat16",
             "float32", "float64"]
)  # fmt: skip
@pytest.mark.parametrize("n", [1, 31, 33, 64, 130])
def test_every_dtype(name: str, n: int) -> None:
    x = ternary(5, n)
    if name.startswith(("bool", "uint")):
        x = np.abs(x)
    tensor = torch.from_numpy(x).to(getattr(torch, name))
    assert_same_bits(project(tensor, 40).numpy(), expected(x, 40))
    if not tensor.dtype.is_floating_point:
        return
    numbers = torch.from_numpy(np.random.default_rng(n).standard_normal((5, n))).to(tensor.dtype)
    y = project(numbers, 40, digits=6)
    assert_same_bits(y.numpy(), expected(numbers.double().numpy(), 40, digits=6))


def test_tiny_and_huge_numbers_in_digits() -> None:
    x = np.random.default_rng(0).standard_normal((4, 50))
    x *= np.array([1e-310, 1e300, 0, 5e-324])[:, None]
    x[1, 0] = np.finfo(np.float64).max
    for digits in (1, 5, 10, 20):
        assert_same_bits(project(torch.from_numpy(x), 40, digits=digits).numpy(), expected(x, 40, digits=digits))


def test_half_precision_below_its_normal_numbers() -> None:
    x = torch.tensor([[6e-8, -3e-5, 1e-7, 0.0]], dtype=torch.float16)
    assert_same_bits(project(x, 40, digits=10).numpy(), expected(x.double().numpy(), 40, digits=10))


def test_rows_that_are_apart_in_memory() -> None:
    x = ternary(6, 300)
    wide = torch.from_numpy(x)[::2, 10:200]
    assert_same_bits(project(wide, 40).numpy(), expected(x[::2, 10:200], 40))
    turned = torch.from_numpy(x).T
    assert_same_bits(project(turned, 40).numpy(), expected(x.T, 40))
    cube = torch.from_numpy(x).reshape(2, 3, 300).transpose(0, 1)
    assert_same_bits(project(cube, 40).numpy(), expected(x.reshape(2, 3, 300).transpose(1, 0, 2), 40))


def test_no_vectors() -> None:
    assert project(torch.zeros(0, 30, dtype=torch.int8), 40).shape == (0, 40)


# Cameras


@pytest.mark.parametrize("mode", CAMERA_MODES)
@pytest.mark.parametrize("n_vectors", [1, 40])
def test_a_camera(mode: str, n_vectors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{FIELDS}._CHOICE_INPUTS", 16)
    monkeypatch.setattr("opuproj.backends.cuda._backend.scratch_bytes", lambda: 60_000)
    x, camera = ternary(n_vectors, 300), opuproj.Camera(bits=12, photons=40, read_noise=0.1, dark_floor=0.2, frames=2)
    options: dict[str, Any] = {"camera": camera, "noise_seed": 6, "n_anchor": 30, "rows": (5, 130)}
    assert_same_bits(project(torch.from_numpy(x), 200, mode, **options).numpy(), expected(x, 200, mode, **options))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_cameras_integers(dtype: Any) -> None:
    x, options = ternary(3, 90), {"camera": opuproj.Camera(bits=8, photons=40), "noise_seed": 6, "dtype": dtype}
    y = opuproj.project(torch.from_numpy(x), 50, **options)
    assert_same_bits(y.numpy(), opuproj.project(x, 50, **options))


# The structured ensemble


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("n", "n_outputs", "scratch"), [(300, 1300, 1 << 20), (20_000, 70_000, 600_000)])
def test_structured(mode: str, n: int, n_outputs: int, scratch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opuproj.backends.cuda._backend.scratch_bytes", lambda: scratch)
    random = np.random.default_rng(n)
    options: dict[str, Any] = {"ensemble": "structured", "rows": (n_outputs // 9, n_outputs - 5)}
    for x in (random.standard_normal((3, n)), ternary(3, n), random.standard_normal((2, n)).astype(np.float32)):
        assert_same_bits(
            project(torch.from_numpy(x), n_outputs, mode, **options).numpy(), expected(x, n_outputs, mode, **options)
        )
    x[1, n // 2] = np.nan
    tensor = torch.from_numpy(x)
    y = opuproj.project(tensor, n_outputs, **options)
    assert np.isnan(y.numpy()[1]).all()
    assert np.isfinite(y.numpy()[0]).all()
    with pytest.raises(ValueError, match=rf"x\[1, {n // 2}\] is NaN, but must be finite for a projection"):
        opuproj.synchronize()


# Where results go


@pytest.mark.parametrize("mode", ["intensity", "complex"])
def test_results_into_memory_of_the_host(mode: str) -> None:
    x = ternary(7, 100)
    wide = np.full((7, 90), -1, np.complex128 if mode == "complex" else np.float64)
    part = wide[:, 5:85]
    assert project(torch.from_numpy(x), 80, mode, out=part) is part
    assert_same_bits(part, expected(x, 80, mode))
    assert (wide[:, :5] == -1).all()
    assert (wide[:, 85:] == -1).all()


def test_an_unsuitable_out_is_refused() -> None:
    x = torch.from_numpy(ternary(7, 100))
    for out, message in (
        (np.empty((7, 81)), r"out has shape \(7, 81\)"),
        (np.empty((7, 80), np.float32), "out has dtype float32"),
        (torch.empty(7, 80, dtype=torch.float64, device="meta"), "out is on the device meta"),
    ):
        with pytest.raises(ValueError, match=message):
            project(x, 80, out=out)


# Values


@pytest.mark.parametrize("place", [(0, 0), (4, 129), (2, 64)])
def test_bad_values_give_nan_and_raise_later(place: tuple[int, int]) -> None:
    x = torch.ones(5, 130)
    x[place] = 2
    y = opuproj.project(x, 40, seed=9)
    bad = np.arange(5) == place[0]
    assert np.isnan(y.numpy()[bad]).all()
    assert_same_bits(y.numpy()[~bad], expected(np.ones((4, 130)), 40, "intensity").astype(np.float32))
    with pytest.raises(ValueError, match=rf"^x\[{place[0]}, {place[1]}\] is 2.0, but must be -1, 0 or 1; use opuproj"):
        opuproj.synchronize()
    opuproj.synchronize()  # an error is raised once


def test_the_next_projection_raises_too() -> None:
    x = torch.full((2, 30), torch.nan)
    opuproj.project(x, 40)
    with pytest.raises(ValueError, match=r"^x\[0, 0\] is NaN, but must be -1, 0 or 1"):
        opuproj.project(torch.ones(2, 30), 40)
    opuproj.synchronize()


def test_a_bad_value_whose_tensor_is_gone() -> None:
    opuproj.project(torch.full((1, 3), 7), 40)
    with pytest.raises(ValueError, match=r"^x\[0, 0\] is not -1, 0 or 1"):
        opuproj.synchronize()


def test_numbers_that_are_not_finite() -> None:
    x = np.ones((3, 40))
    x[1, 7] = np.inf
    tensor = torch.from_numpy(x)
    y = opuproj.project(tensor, 30, digits=5)
    assert np.isnan(y.numpy()[1]).all()
    assert np.isfinite(y.numpy()[[0, 2]]).all()
    with pytest.raises(ValueError, match=r"^x\[1, 7\] is inf, but must be finite for encoding"):
        opuproj.synchronize()
    op = opuproj.Projector(20, 40, mode="complex")[3:]
    y = torch.ones(3, 37, dtype=torch.complex128)
    y[2, 5] = complex(0, np.nan)
    assert np.isnan(op.H(y).numpy()[2]).all()
    with pytest.raises(ValueError, match=r"^y\[2, 5\] is .*, but must be finite for encoding"):
        opuproj.synchronize()


def test_scratch_memory_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("0", "1.5", "much"):
        monkeypatch.setenv("OPUPROJ_GPU_SCRATCH", wrong)
        with pytest.raises(ValueError, match="OPUPROJ_GPU_SCRATCH is"):
            opuproj.project(torch.ones(2, 30), 40)
    monkeypatch.setenv("OPUPROJ_GPU_SCRATCH", "256")
    assert array_rows("x", torch.ones(2, 30)).device == standin_backend.DEVICE
    opuproj.project(torch.ones(2, 30), 40)


# Layers of torch


@pytest.mark.parametrize("mode", ["linear", "real", "complex", "intensity"])
def test_a_layer_and_its_gradient(mode: str) -> None:
    layer = opuproj.torch.Projection(60, 50, seed=4, mode=mode, digits=10)  # type: ignore[attr-defined]
    x = torch.from_numpy(np.random.default_rng(1).standard_normal((6, 60)).astype(np.float32)).requires_grad_()
    y = layer(x)
    y.abs().square().sum().backward()
    opuproj.synchronize()
    with pytest.MonkeyPatch.context() as patch:
        patch.undo()
        from opuproj.inputs.tensors import TensorRows

        patch.setattr("opuproj.inputs.tensors.tensor_rows", TensorRows)
        again = x.detach().clone().requires_grad_()
        same = layer(again)
        same.abs().square().sum().backward()
    assert_same_bits(y.detach().numpy(), same.detach().numpy())
    assert_same_bits(x.grad.numpy(), again.grad.numpy())
