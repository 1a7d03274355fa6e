"""`device=`: arrays of the CPU are sent to a GPU, and their results come back."""

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
DTYPES = [
    "int8",
    "uint8",
    "bool",
    "uint16",
    "int16",
    "uint32",
    "int64",
    "uint64",
    "float16",
    "float32",
    "float64",
    ">f4",
]


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The tensors that were sent to the device."""
    seen: list[Any] = []

    def copied(array: Any, device: str) -> Any:
        assert device == DEVICE
        seen.append(array.clone())
        return seen[-1]

    monkeypatch.setattr("opuproj.inputs.tensors.copied", copied)
    return seen


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", [{}, {"digits": 7}, {"ensemble": "structured"}, {"rows": (3, 40)}], ids=repr)
def test_project(mode: Any, options: dict[str, Any], sent: list[Any]) -> None:
    real = "digits" in options or "ensemble" in options
    x = np.random.default_rng(0).standard_normal((2, 3, 70)) if real else ternary(2, 3, 70)
    expected = opuproj.project(x, 50, mode=mode, **options)
    y = opuproj.project(x, 50, mode=mode, device=DEVICE, **options)
    assert len(sent) == 1
    assert type(y) is np.ndarray
    assert_same_bits(y, expected)
    out = np.empty_like(expected)
    assert opuproj.project(x, 50, mode=mode, device=DEVICE, out=out, **options) is out
    assert_same_bits(out, expected)
    tensor = opuproj.project(torch.from_numpy(x), 50, mode=mode, device=DEVICE, **options)
    assert isinstance(tensor, torch.Tensor)
    assert_same_bits(tensor.numpy(), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype: str) -> None:
    x = ternary(4, 70)
    x = (abs(x) if dtype[0] in "ub" else x).astype(dtype)
    strided = np.repeat(x, 2, axis=1)[::-1, ::2]
    read_only = x.copy()
    read_only.flags.writeable = False
    for one in (x, strided, read_only):
        assert_same_bits(opuproj.project(one, 50, device=DEVICE), opuproj.project(one, 50))
        assert opuproj.pack(one, device=DEVICE) == opuproj.pack(one)
        assert opuproj.ternarize(one, relative=0.5, device=DEVICE) == opuproj.ternarize(one, relative=0.5)
        assert opuproj.encode(one, digits=3, device=DEVICE) == opuproj.encode(one, digits=3)


def test_long_double_is_refused() -> None:
    if np.dtype(np.longdouble).itemsize == 8:
        pytest.skip("it is float64 here")
    with pytest.raises(TypeError, match=r"x has dtype .*, but a GPU takes at most float64"):
        opuproj.project(np.ones((1, 3), np.longdouble), 5, device=DEVICE)


def test_a_memory_map(tmp_path: Any, recwarn: pytest.WarningsRecorder) -> None:
    np.save(tmp_path / "x.npy", ternary(4, 70))
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert_same_bits(opuproj.project(x, 50, device=DEVICE), opuproj.project(x, 50))
    assert not recwarn.list


def test_projector(sent: list[Any]) -> None:
    x = ternary(4, 70)
    plain, op = opuproj.Projector(70, 90, seed=5), opuproj.Projector(70, 90, seed=5, device=DEVICE)
    assert (plain.device, op.device) == (None, DEVICE)
    assert op == plain
    assert hash(op) == hash(plain)
    assert repr(op) == f"Projector(70, 90, seed=5, mode='linear', n_anchor=64, dtype='float32', device='{DEVICE}')"
    for same in (op, copy.deepcopy(op), pickle.loads(pickle.dumps(op))):
        before = len(sent)
        assert_same_bits(same(x), plain(x))
        assert_same_bits(same @ x, plain @ x)
        assert_same_bits(same[3:70](x), plain[3:70](x))
        assert_same_bits(same.matvec(x[0].astype(float)), plain.matvec(x[0].astype(float)))
        assert_same_bits(same.H @ plain(x), plain.H @ plain(x))
        assert_same_bits(same.rmatvec(plain(x)[0]), plain.rmatvec(plain(x)[0]))
        assert len(sent) == before + 6
    camera = opuproj.Camera(photons=1e3)
    assert_same_bits(op.with_camera(camera)(x, noise_seed=3), plain.with_camera(camera)(x, noise_seed=3))


def test_packing(sent: list[Any]) -> None:
    x = ternary(4, 70)
    batch = opuproj.pack(x, device=DEVICE)
    assert isinstance(opuproj.project(batch, 50), np.ndarray)
    assert_same_bits(opuproj.project(batch, 50), opuproj.project(x, 50))
    assert_same_bits(opuproj.project(batch[1:3], 50), opuproj.project(x[1:3], 50))
    assert opuproj.pack(opuproj.pack(x), device=DEVICE) == batch
    tensor = torch.from_numpy(x)
    assert isinstance(opuproj.project(opuproj.pack(tensor, device=DEVICE), 50), torch.Tensor)
    on_cpu = opuproj.pack(x)
    y = opuproj.project(on_cpu, 50, device=DEVICE)
    assert isinstance(y, np.ndarray)
    assert_same_bits(y, opuproj.project(x, 50))
    y = opuproj.project(batch, 50, device="cpu")
    assert_same_bits(np.asarray(y), opuproj.project(x, 50))


def test_errors_come_with_the_call() -> None:
    x = ternary(3, 50).astype(np.float32)
    x[1, 7] = 0.5
    for call in (
        lambda: opuproj.project(x, 5, device=DEVICE),
        lambda: opuproj.pack(x, device=DEVICE),
        lambda: opuproj.Projector(50, 5, device=DEVICE)(x),
    ):
        with pytest.raises(ValueError, match=r"x\[1, 7\] is 0.5, but must be -1, 0 or 1; use "):
            call()
    opuproj.synchronize()  # no error is left


def test_a_tensor_on_a_device_can_be_computed_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opuproj.inputs.tensors.tensor_rows", standin_backend.tensor_rows)
    monkeypatch.setattr("opuproj.backends.cuda.projection.project", None)
    x = torch.from_numpy(ternary(3, 50))
    y = opuproj.project(x, 5, device="cpu")
    assert_same_bits(y.numpy(), opuproj.project(x.numpy(), 5))


def test_another_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnGpu(torch.Tensor):
        device = torch.device("cuda", 1)

    x = torch.ones(2, 3).as_subclass(OnGpu)
    from opuproj.inputs import devices, tensors

    with pytest.raises(ValueError, match="device is 'cuda:0', but x is on cuda:1: move x there, or leave device out"):
        devices.on_device(tensors.tensor_rows("x", x), "cuda:0")
    assert devices.on_device(tensors.tensor_rows("x", x), "cuda").device == "cuda"


def test_a_sparse_matrix_is_refused() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match=f"x is a sparse matrix, but device is '{DEVICE}'"):
        opuproj.project(sparse.eye_array(3, format="csr"), 5, device=DEVICE)


@pytest.mark.parametrize("device", ["mps", "cpu:0", "gpu", 1])
def test_devices_that_do_not_exist(device: Any) -> None:
    for call in (
        lambda: opuproj.project(np.ones((1, 3)), 5, device=device),
        lambda: opuproj.Projector(3, 5, device=device),
        lambda: opuproj.pack(np.ones((1, 3)), device=device),
        lambda: opuproj.ternarize(np.ones((1, 3)), 0.5, device=device),
        lambda: opuproj.encode(np.ones((1, 3)), device=device),
    ):
        with pytest.raises(ValueError, match=r"device is .*, but must be 'cpu', 'cuda' or one such as 'cuda:1'"):
            call()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_cannot_be_used() -> None:
    with pytest.raises(RuntimeError, match="device is 'cuda', which cannot be used: "):
        opuproj.project(np.ones((1, 3)), 5, device="cuda")
    with pytest.raises(RuntimeError, match="device is device\\(type='cuda', index=1\\), which cannot be used: "):
        opuproj.Projector(3, 5, device=torch.device("cuda", 1))
    # An operator from a machine with a GPU can be read, but not used.
    op = opuproj.Projector(3, 5)
    restored = pickle.loads(pickle.dumps(opuproj.Projector._of(op._spec, None, "cuda")))
    assert restored == op
    with pytest.raises(RuntimeError, match="cannot be used"):
        restored(np.ones((1, 3)))
