"""Every launch of the CUDA backend passes arguments of the types that the kernel has, and a block that it permits.

A GPU reads the bytes of an argument as the kernel's type: an int32 in place of an int64 would bring bytes of other
memory with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gpu_standin
import numpy as np
import opuproj
import pytest
import standin_backend
from helpers import LINEAR_MODES, MODES
from opuproj import backends
from opuproj._spec import Spec
from opuproj.backends.cuda import _compile
from opuproj.inputs.rows import PackedRows

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(standin_backend.DEVICE not in backends.registered(), reason="needs g++")

from opuproj.backends.cuda._gpu import values_of  # noqa: E402

DEVICE = standin_backend.DEVICE
FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")


def passed(argument: Any) -> str:
    """The type as which `cuda.core.launch` passes an argument: a Python integer is a pointer."""
    return "p8" if type(argument) is int else f"{argument.dtype.kind}{argument.dtype.itemsize}"


class CheckedGpu(standin_backend.StandIn):
    """Checks launches and does not run them, except that `choose` chooses `path`."""

    path = 0

    def __init__(self) -> None:
        self.launched: set[tuple[str, str]] = set()

    def launch(
        self,
        file: str,
        kernel: str,
        grid: int,
        threads: int,
        shared: int,
        arguments: Sequence[Any],
        macros: Sequence[str] = (),
    ) -> None:
        which = file, kernel, tuple(macros)
        self.launched.add(which[:2])
        assert tuple(map(passed, values_of(arguments))) == gpu_standin.types_of(*which), which
        assert (type(grid), type(threads), type(shared)) == (int, int, int)
        assert 0 < grid < 2**31
        assert threads % 32 == 0
        assert 0 < threads <= gpu_standin.most_threads(*which)
        assert 0 <= shared <= 99 * 1024  # what every GPU has from compute capability 8.0 on
        if kernel == "choose":
            path, _, count, *_ = arguments
            path.fill_(self.path)
            count.fill_(5)

    def product(self, x: Any, panel: Any, out: Any) -> None:
        # What torch passes to cuBLAS without a copy, and what cuBLAS asks for.
        assert (x.stride(1), panel.stride(1), out.stride(1)) == (1, 1, 1)
        assert (x.stride(0) % 16, panel.stride(0) % 16, x.data_ptr() % 16, panel.data_ptr() % 16) == (0, 0, 0, 0)
        assert len(x) > 16
        assert (x.shape[1] % 8, len(panel) % 8) == (0, 0)
        assert x.shape[1] == panel.shape[1]
        assert (x.dtype, panel.dtype, out.dtype) == (torch.int8, torch.int8, torch.int32)
        assert out.shape == (len(x), len(panel))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> CheckedGpu:
    """The GPU of all calls of a test."""
    found = CheckedGpu()
    monkeypatch.setattr("opuproj.inputs.tensors.tensor_rows", standin_backend.tensor_rows)
    monkeypatch.setattr(backends.backend(DEVICE), "_gpu_of", lambda device: found)
    return found


def all_kernels(file: str) -> set[tuple[str, str]]:
    return {(file, kernel) for kernel in gpu_standin.kernels_of((_compile.KERNELS / file).read_text())}


def zeros(n_vectors: int, n: int, dtype: str = "int8") -> Any:
    return torch.zeros(n_vectors, n, dtype=getattr(torch, dtype))


def project(x: Any, **options: Any) -> None:
    opuproj.project(x, 90, **{"mode": "real", **options})


def test_every_file_has_a_test() -> None:
    files = {path.name for path in _compile.KERNELS.glob("*.cu")}
    assert files == {
        "camera.cu",
        "digits.cu",
        "matrix.cu",
        "packing.cu",
        "projection.cu",
        "readout.cu",
        "structured.cu",
    }


def test_packing(gpu: CheckedGpu) -> None:
    for dtype in (*INTEGERS, *FLOATS):
        project(zeros(2, 90, dtype))
    for dtype in FLOATS:
        opuproj.ternarize(zeros(2, 90, dtype), 0.5)
        opuproj.encode(zeros(2, 90, dtype), digits=7)._packed.digit(0)
    opuproj.pack(np.zeros((2, 90), np.int8)).to(DEVICE)._packed.tensor()
    for n_vectors in (1, 40):
        project(zeros(n_vectors, 2500))
    assert gpu.launched >= all_kernels("packing.cu")


def test_ways_to_compute(gpu: CheckedGpu) -> None:
    for n_vectors in (1, 16, 32, 40):
        for gpu.path in (0, 1):
            project(zeros(n_vectors, 2500), mode="linear")
        project(zeros(n_vectors, 90, "float32"), digits=7)
    for mode in LINEAR_MODES:
        opuproj.Projector(90, 70, mode=mode).H(zeros(2, 70, "float32"))
    assert gpu.launched >= all_kernels("projection.cu")


@pytest.mark.parametrize("bits", [32, 64])
def test_readouts(gpu: CheckedGpu, bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if bits == 64:
        for name, value in {"Planes.most_columns": 128, "Bytes.most_columns": 128, "_PANEL_COLUMNS": 128}.items():
            monkeypatch.setattr(f"opuproj.backends.cuda._fields.{name}", value)
    camera = opuproj.Camera(bits=8, photons=40, read_noise=0.1)
    for mode in MODES:
        for dtype in (np.float32, np.float64):
            project(zeros(2, 300), mode=mode, dtype=dtype)
            project(zeros(2, 300, "float32"), mode=mode, dtype=dtype, digits=7)
            if mode != "real":
                project(zeros(2, 300), mode=mode, dtype=dtype, camera=camera)
            if mode in ("linear", "complex"):
                project(zeros(2, 300, "float32"), mode=mode, dtype=dtype, camera=camera, digits=3)
    for dtype in (np.uint8, np.uint16):
        project(zeros(2, 300), mode="intensity", dtype=dtype, camera=camera)
    opuproj.Projector(90, 70, mode="linear").H(zeros(2, 70, "float32"))
    expected = all_kernels("readout.cu") | all_kernels("camera.cu") | all_kernels("digits.cu")
    others = (f"int{96 - bits}", "feedback")
    assert gpu.launched >= {one for one in expected if not any(other in one[1] for other in others)}


def test_feedback_of_layers(gpu: CheckedGpu) -> None:
    batch = opuproj.pack(np.zeros((2, 90), np.int8)).to(DEVICE)
    rows = PackedRows("x", batch._packed, batch.shape)
    for mode in ("linear", "real"):
        fields = backends.backend(DEVICE).unread(Spec.checked(90, 70, mode=mode), rows)
        for dtype in ("bfloat16", "float32", "float64"):
            wide = torch.float64 if dtype == "float64" else torch.float32
            factors = torch.ones(2, 1, dtype=wide)
            fields.read(3, 70, factors, getattr(torch, dtype))
            fields.read_layers(3, factors, torch.ones(5, 2, 13, dtype=getattr(torch, dtype)), "tanh")
    assert gpu.launched >= {one for one in all_kernels("readout.cu") if "feedback" in one[1]}


def test_matrices(gpu: CheckedGpu) -> None:
    for dtype in (np.float32, np.float64):
        for mode in MODES:
            opuproj.Projector(90, 70, mode=mode, dtype=dtype).matrix([3, 60, 2], [5, 3], device=DEVICE)
    assert gpu.launched >= all_kernels("matrix.cu")


@pytest.mark.parametrize("bits", [8, 14, 15, 21, 25])
def test_transforms(gpu: CheckedGpu, bits: int) -> None:
    for mode in MODES if bits < 20 else LINEAR_MODES[:1]:
        for dtype in ("float32", "float64", "int8") if bits < 20 else ("float32",):
            project(zeros(1, 1 << bits, dtype), mode=mode, ensemble="structured")
    project(opuproj.pack(zeros(1, 1 << min(bits, 20))), mode="linear", ensemble="structured")
    passes = {"first_pass", "second_pass", "third_pass", "last_pass"} if bits > 14 else {"whole"}
    expected = {"signs", "phases", *passes, *({"middle_pass"} if bits > 24 else ())}
    assert gpu.launched >= {("structured.cu", kernel) for kernel in expected}
