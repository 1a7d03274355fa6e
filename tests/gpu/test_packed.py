"""Packed batches on a GPU: `pack`, `ternarize` and `encode` of tensors there, and copies between devices."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import opuproj
import pytest
import standin_backend
from helpers import MODES, assert_same_bits, ternary
from opuproj import backends

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(standin_backend.DEVICE not in backends.registered(), reason="needs g++")

DEVICE = standin_backend.DEVICE
SHAPES = [(1,), (7,), (3, 64), (5, 129), (2, 3, 300), (0, 10), (40, 65)]


from opuproj.inputs import tensors  # noqa: E402

TENSOR_ROWS = tensors.tensor_rows


@pytest.fixture(autouse=True)
def on_the_standin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opuproj.inputs.tensors.tensor_rows", standin_backend.tensor_rows)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def on_device(batch: Any) -> bool:
    return type(batch._packed).__name__ in ("DevicePacked", "DeviceEncoded")


@pytest.mark.parametrize("shape", SHAPES)
def test_pack(shape: tuple[int, ...]) -> None:
    x = ternary(*shape, density=0.4)
    batch, expected = opuproj.pack(torch.from_numpy(x)), opuproj.pack(x)
    assert on_device(batch)
    assert (batch.shape, batch.nbytes, batch.nnz) == (expected.shape, expected.nbytes, expected.nnz)
    assert np.array_equal(batch.nnz_per_row, expected.nnz_per_row)
    assert np.array_equal(batch.to_numpy(), x)
    assert torch.equal(batch.to_torch(), torch.from_numpy(x))
    assert batch == expected
    assert expected == batch
    assert batch.to("cpu")._packed == expected._packed
    assert expected.to(DEVICE) == batch
    assert repr(batch) == repr(expected)
    for mine, others in zip(batch.planes(), expected.planes(), strict=True):
        assert np.array_equal(mine, others)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "int32"])
@pytest.mark.parametrize("options", [{"threshold": 0.3}, {"relative": 0.3}, {"relative": 0.3, "scale": "global"}])
@pytest.mark.parametrize("shape", SHAPES)
def test_ternarize(shape: tuple[int, ...], options: dict[str, Any], dtype: str, monkeypatch: Any) -> None:
    e = torch.from_numpy(4 * numbers(*shape)).to(getattr(torch, dtype))
    batch = opuproj.ternarize(e, **options)
    assert on_device(batch)
    monkeypatch.setattr("opuproj.inputs.tensors.tensor_rows", TENSOR_ROWS)
    expected = opuproj.ternarize(e, **options)
    assert not on_device(expected)
    assert batch == expected


@pytest.mark.parametrize("options", [{"digits": 1}, {"digits": 5}, {"digits": 13}, {"planes": 3}, {"planes": 15}])
@pytest.mark.parametrize("shape", SHAPES)
def test_encode(shape: tuple[int, ...], options: dict[str, int]) -> None:
    x = numbers(*shape)
    batch, expected = opuproj.encode(torch.from_numpy(x), **options), opuproj.encode(x, **options)
    assert on_device(batch)
    assert (batch.base, batch.n_digits, batch.shape) == (expected.base, expected.n_digits, expected.shape)
    assert_same_bits(batch.scale, expected.scale)
    assert batch == expected
    assert batch.digits == expected.digits
    assert_same_bits(batch.to_numpy(), expected.to_numpy())
    assert_same_bits(batch.to_torch().numpy(), expected.to_numpy())
    assert expected.to(DEVICE) == expected
    assert_same_bits(expected.to(DEVICE).to_torch().numpy(), expected.to_numpy())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n_vectors", [1, 40])
@pytest.mark.parametrize("kind", ["ternary", "digits", "camera", "structured"])
def test_projections(mode: str, n_vectors: int, kind: str) -> None:
    if kind == "camera" and mode == "real":
        pytest.skip("a camera has no such mode")
    options: dict[str, Any] = {"seed": 3, "mode": mode}
    if kind == "camera":
        options |= {"camera": opuproj.Camera(photons=1e3), "noise_seed": 5}
    if kind == "structured":
        options |= {"ensemble": "structured"}
    x = ternary(n_vectors, 700, density=0.2) if kind != "digits" else numbers(n_vectors, 700)
    make = opuproj.encode if kind == "digits" else opuproj.pack
    expected = opuproj.project(make(x), 90, **options)
    for batch in (make(torch.from_numpy(x)), make(x).to(DEVICE)):
        y = opuproj.project(batch, 90, **options)
        assert isinstance(y, torch.Tensor)
        assert_same_bits(y.numpy(), expected)
        out = np.empty_like(expected)
        assert opuproj.project(batch, 90, out=out, **options) is out
        assert_same_bits(out, expected)


def test_indexing_reshaping_and_joining(monkeypatch: pytest.MonkeyPatch) -> None:
    x = ternary(4, 3, 130)
    batch = opuproj.pack(torch.from_numpy(x))
    for index in (0, -1, slice(1, None, 2), [2, 0], (1, 2), np.array([True, False, True, True])):
        part = batch[index]
        assert on_device(part)
        assert np.array_equal(part.to_numpy(), x[index])
        assert_same_bits(opuproj.project(part, 40).numpy(), opuproj.project(x[index], 40))
    assert np.array_equal(batch.reshape(12, 130).to_numpy(), x.reshape(12, 130))
    joined = opuproj.TernaryBatch.concatenate([batch, batch[:1]])
    assert on_device(joined)
    assert np.array_equal(joined.to_numpy(), np.concatenate([x, x[:1]]))
    assert_same_bits(opuproj.project(joined, 40).numpy(), opuproj.project(np.concatenate([x, x[:1]]), 40))
    monkeypatch.setattr(type(batch._packed), "device", "cuda:0")
    with pytest.raises(ValueError, match=r"batches\[1\] is on the device 'cpu', but must be on that of batches\[0\]"):
        opuproj.TernaryBatch.concatenate([batch, opuproj.pack(x)])


def test_files_and_pickles(tmp_path: Any) -> None:
    x = ternary(4, 130)
    batch = opuproj.pack(torch.from_numpy(x))
    batch.save(tmp_path / "x.ternary")
    assert opuproj.TernaryBatch.load(tmp_path / "x.ternary") == batch
    restored = pickle.loads(pickle.dumps(batch))
    assert not on_device(restored)
    assert restored == batch
    encoded = opuproj.encode(torch.from_numpy(numbers(2, 9)))
    assert pickle.loads(pickle.dumps(encoded)) == encoded
    assert copy.deepcopy(batch) is batch


def test_a_value_that_is_not_ternary() -> None:
    x = torch.from_numpy(ternary(3, 50)).float()
    x[1, 7] = 0.5
    batch = opuproj.pack(x)
    with pytest.raises(ValueError, match=r"x\[1, 7\] is 0.5, but must be -1, 0 or 1"):
        opuproj.synchronize()
    # The error was raised, but the vector stays marked.
    y = opuproj.project(batch, 20)
    assert y.isnan().all(dim=1).tolist() == [False, True, False]
    assert opuproj.project(batch[[1, 2]], 20).isnan().all(dim=1).tolist() == [True, False]
    for use in (
        batch.to_numpy,
        batch.to_torch,
        lambda: batch.nnz,
        lambda: batch.to("cpu"),
        lambda: pickle.dumps(batch),
    ):
        with pytest.raises(ValueError, match="vector 1 of this batch was made from a value that is not allowed"):
            use()


def test_the_error_comes_with_the_first_copy_to_the_host() -> None:
    x = torch.zeros(3, 50)
    x[2, 3] = 2
    batch = opuproj.pack(x)
    with pytest.raises(ValueError, match=r"x\[2, 3\] is 2.0, but must be -1, 0 or 1"):
        batch.to_numpy()


@pytest.mark.parametrize(
    ("options", "value", "message"),
    [
        ({"threshold": 0.1}, float("nan"), r"e\[1, 7\] is NaN, but must be a number"),
        ({"relative": 0.1}, float("nan"), r"e\[1, 7\] is NaN, but must be finite for a relative threshold"),
        ({"relative": 0.1}, float("inf"), r"e\[1, 7\] is inf, but must be finite for a relative threshold"),
    ],
)
def test_numbers_that_cannot_be_rounded(options: dict[str, Any], value: float, message: str) -> None:
    e = torch.from_numpy(numbers(3, 50))
    e[1, 7] = value
    batch = opuproj.ternarize(e, **options)
    with pytest.raises(ValueError, match=message):
        opuproj.synchronize()
    opuproj.synchronize()  # one error only
    y = opuproj.project(batch, 20)
    assert y.isnan().all(dim=1).tolist() == [False, True, False]


def test_a_number_that_spoils_the_threshold_of_all_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    e = torch.from_numpy(numbers(3, 50))
    e[1, 7] = float("inf")
    values = opuproj.backends.backend(DEVICE)._values
    with monkeypatch.context() as late:
        late.setattr(values, "raise_found", lambda **options: None)  # as on a GPU that is still computing
        batch = opuproj.ternarize(e, relative=0.1, scale="global")
    with pytest.raises(ValueError, match=r"e\[1, 7\] is inf, but must be finite for a relative threshold"):
        opuproj.synchronize()
    opuproj.synchronize()  # one error only
    assert opuproj.project(batch, 20).isnan().all()


def test_an_infinity_is_above_a_fixed_threshold() -> None:
    e = torch.tensor([[1.0, float("inf"), -float("inf")]])
    assert opuproj.ternarize(e, 2.0).to_numpy().tolist() == [[0, 1, -1]]


def test_encoded_numbers_that_are_not_finite() -> None:
    x = torch.from_numpy(numbers(3, 50))
    x[1, 7] = float("nan")
    batch = opuproj.encode(x)
    assert batch.to_torch().isnan().all(dim=1).tolist() == [False, True, False]
    with pytest.raises(ValueError, match=r"x\[1, 7\] is NaN, but must be finite for encoding"):
        batch.to_numpy()
    with pytest.raises(ValueError, match="vector 1 of this batch"):
        _ = batch.scale


def test_devices_that_do_not_exist() -> None:
    batch = opuproj.pack(np.ones((1, 3)))
    assert batch.device == "cpu"
    assert batch.to("cpu") is batch
    with pytest.raises(ValueError, match="device is 'mps', but must be 'cpu', 'cuda'"):
        batch.to("mps")
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="cannot be used"):
            batch.to("cuda")
