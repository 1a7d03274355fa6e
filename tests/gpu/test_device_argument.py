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

from opuproj.inputs.tensors import copied  # noqa: E402

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


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "uint64", "bfloat16", "float16"])
def test_dtypes_of_tensors(dtype: str) -> None:
    if not hasattr(torch, dtype):
        pytest.skip("this torch lacks it")
    x = torch.from_numpy(abs(ternary(4, 70))).to(getattr(torch, dtype))
    assert_same_bits(opuproj.project(x, 50, device=DEVICE).numpy(), opuproj.project(x, 50).numpy())
    assert opuproj.encode(x, digits=3, device=DEVICE) == opuproj.encode(x, digits=3)


def test_conjugated_tensors() -> None:
    y = torch.randn(3, 50, dtype=torch.complex64, generator=torch.Generator().manual_seed(0)).conj()
    op = opuproj.Projector(70, 50, mode="complex", device=DEVICE)
    assert_same_bits((op.H @ y).numpy(), (opuproj.Projector(70, 50, mode="complex").H @ y).numpy())


def test_the_bfloat16_of_other_libraries() -> None:
    """The threshold 0.3 · max is rounded to bfloat16, to which it is far from exact."""
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16

    class Array:
        def __init__(self, array: Any) -> None:
            self.array, self.dtype = array, array.dtype

        def __dlpack__(self, **options: Any) -> Any:
            raise BufferError

        def __dlpack_device__(self) -> tuple[int, int]:
            return 1, 0

        def __array__(self, *arguments: Any, **options: Any) -> Any:
            return self.array

    levels = np.arange(70, 101, dtype=np.float32) / 100
    x = Array(np.concatenate([levels, levels * np.float32(0.3)]).astype(bfloat16))
    many = Array(np.stack([np.roll(x.array, k) * bfloat16(1 + k / 16) for k in range(9)]))
    for one in (x, many):
        assert opuproj.ternarize(one, relative=0.3, device=DEVICE) == opuproj.ternarize(one, relative=0.3)
        assert opuproj.encode(one, device=DEVICE) == opuproj.encode(one)
    y = opuproj.project(many, 20, digits=5, device=DEVICE)
    assert isinstance(y, np.ndarray)
    assert_same_bits(y, opuproj.project(many, 20, digits=5))


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
    assert pickle.loads(pickle.dumps(op)).device == DEVICE
    restore, (state,) = op.__reduce__()
    with pytest.raises(ValueError, match="the state's device is 3, but must be a name"):
        restore({**state, "device": 3})
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


def test_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from opuproj.backends import cuda
    from opuproj.backends.cuda import _device

    monkeypatch.setattr(_device, "why_not", lambda: "there is no driver")
    assert cuda.why_not() == "there is no driver"
    monkeypatch.setattr(_device, "why_not", lambda: None)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert cuda.why_not() is None
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "was built without CUDA" in str(cuda.why_not())
    assert cuda.load() is None
    monkeypatch.setattr(cuda, "find_spec", lambda name: None)
    assert "torch is not installed" in str(cuda.why_not())


def test_there_is_no_such_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(RuntimeError, match="there is no cuda:2: this process has 2 GPUs"):
        copied(torch.ones(3), "cuda:2")
