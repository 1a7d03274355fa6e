"""Digits that a camera sees one after the other on a GPU have the CPU's results."""

from __future__ import annotations

from typing import Any

import numpy as np
import opuproj
import pytest
import standin_backend
from helpers import assert_same_bits
from opuproj import backends

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(standin_backend.DEVICE not in backends.registered(), reason="needs g++")

DEVICE = standin_backend.DEVICE
CAMERAS = {
    "noise": opuproj.Camera(photons=1e3, read_noise=0.01, frames=2),
    # Many anchors are too dark, so results are 0 and -0.
    "dark": opuproj.Camera(bits=4, photons=20, dark_floor=0.6, exposure=100.0),
}


@pytest.fixture(autouse=True)
def only_on_the_standin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opuproj.inputs.tensors.tensor_rows", standin_backend.tensor_rows)
    monkeypatch.setattr(backends.backend(DEVICE), "_host", None)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize("mode", ["linear", "complex"])
@pytest.mark.parametrize(("n_vectors", "n", "n_digits"), [(1, 1, 1), (3, 130, 5), (7, 300, 6), (2, 64, 16)])
def test_results(n_vectors: int, n: int, n_digits: int, mode: Any, camera: str, dtype: Any) -> None:
    x = numbers(n_vectors, n)
    x[0, 0] = 0  # the only element of one case: dark frames
    op = opuproj.Projector(n, 61, mode=mode, seed=2**64 - 1, camera=CAMERAS[camera], n_anchor=9, dtype=dtype)[3:60]
    expected = op(x, digits=n_digits, noise_seed=2**63)
    y = op(torch.from_numpy(x), digits=n_digits, noise_seed=2**63)
    assert_same_bits(y.numpy(), expected)
    if n_digits > 1:
        assert expected.any()


def test_zeros_have_the_signs_of_the_cpu() -> None:
    op = opuproj.Projector(130, 57, mode="complex", camera=CAMERAS["dark"], n_anchor=9)
    y = op(numbers(3, 130), digits=5, noise_seed=1).view(np.float32)
    assert np.signbit(y[y == 0]).any()
    assert not np.signbit(y[y == 0]).all()


@pytest.mark.parametrize("digits", [{"digits": 9}, {"planes": 8}], ids=str)
def test_batches(digits: dict[str, int]) -> None:
    x, options = numbers(4, 200), {"mode": "complex", "camera": CAMERAS["noise"], "noise_seed": 5}
    batch = opuproj.encode(x, **digits)
    expected = opuproj.project(batch, 45, **options)
    for given in (batch.to(DEVICE), opuproj.encode(torch.from_numpy(x), **digits)):
        y = opuproj.project(given, 45, **options)
        assert isinstance(y, torch.Tensor)
        assert_same_bits(y.numpy(), expected)
    out = np.empty_like(expected)
    assert opuproj.project(batch.to(DEVICE), 45, out=out, **options) is out
    assert_same_bits(out, expected)


def test_results_are_written_where_they_are_wanted() -> None:
    op = opuproj.Projector(50, 20, mode="complex", camera=CAMERAS["noise"])
    x = numbers(3, 50)
    out = torch.zeros((3, 30), dtype=torch.complex64)
    op(torch.from_numpy(x), digits=4, noise_seed=5, out=out[:, 4:24])
    assert_same_bits(out[:, 4:24].numpy(), op(x, digits=4, noise_seed=5))
    assert not out[:, :4].any()
    assert not out[:, 24:].any()


@pytest.mark.parametrize("scratch", [5_000, 100_000])
def test_little_scratch_memory(scratch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opuproj.backends.cuda._backend.scratch_bytes", lambda: scratch)
    op = opuproj.Projector(130, 57, mode="linear", camera=CAMERAS["noise"])
    x = numbers(70, 130)
    expected = op(x, digits=3, noise_seed=5)
    assert_same_bits(op(torch.from_numpy(x), digits=3, noise_seed=5).numpy(), expected)
    assert_same_bits(op(opuproj.encode(x, digits=3).to(DEVICE), noise_seed=5).numpy(), expected)


def test_vectors_that_are_not_finite_give_nan() -> None:
    x = torch.from_numpy(numbers(3, 50))
    x[1, 7] = torch.inf
    y = opuproj.project(x, 20, mode="complex", camera=CAMERAS["noise"], digits=4, noise_seed=5)
    assert y.isnan().all(dim=1).tolist() == [False, True, False]
    with pytest.raises(ValueError, match=r"x\[1, 7\] is inf, but must be finite for encoding"):
        opuproj.synchronize()


def test_intensities_of_digits_are_refused() -> None:
    with pytest.raises(ValueError, match="a camera sees the digits of x one after the other"):
        opuproj.project(torch.ones(1, 5), 3, camera=CAMERAS["noise"], digits=4, noise_seed=5)
