"""Which GPUs there are, what is wrong where there is none, and launches, on stand-ins for NVIDIA's libraries.

With a GPU, the conformance suite launches every kernel on it.
"""

from __future__ import annotations

import ctypes
import enum
import multiprocessing
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import opuproj
import pytest
from helpers import ROOT
from opuproj.backends.cuda import _compile, _device
from opuproj.backends.cuda._device import Found

H100 = ("NVIDIA H100", (9, 0))
T4 = ("Tesla T4", (7, 5))


@pytest.fixture(autouse=True)
def _new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA is not in use, the environment hides nothing, and the packages are those of CUDA 13."""
    monkeypatch.setattr(_device, "_devices", {})
    monkeypatch.setattr(_device, "_process", None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(_device, "_importable", lambda module: True)
    monkeypatch.setattr(_device, "_major", {"cuda-core": 1, "cuda-bindings": 13}.__getitem__)


def driver_tells(monkeypatch: pytest.MonkeyPatch, found: Found | str) -> None:
    monkeypatch.setattr(_device, "_found", lambda: found)


# What is missing


def test_nothing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    driver_tells(monkeypatch, Found("580.65", (13, 0), [T4, H100]))
    assert _device.why_not() is None
    assert _device.available()


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ("the NVIDIA driver is not installed", "the NVIDIA driver is not installed"),
        (Found("580.65", (13, 0), []), "the NVIDIA driver has no GPU$"),
        (Found("580.65", (13, 0), [T4]), r"Tesla T4 has compute capability 7.5, but opuproj needs 8.0 or higher"),
        (Found("470.1", (11, 4), [H100]), r"supports CUDA 11.4 only: install a newer driver"),
        (
            Found("550.1", (12, 4), [H100]),
            r"supports CUDA 12.4, but cuda-bindings is for CUDA 13: pip install 'opuproj\[cuda12\]', or install",
        ),
    ],
)
def test_what_is_missing(monkeypatch: pytest.MonkeyPatch, found: Found | str, expected: str) -> None:
    driver_tells(monkeypatch, found)
    assert not _device.available()
    with pytest.raises(RuntimeError, match=f"CUDA cannot be used: .*{expected}"):
        _device.device(0)


@pytest.mark.parametrize(("cuda", "extra"), [((12, 8), "cuda12"), ((13, 0), "cuda13"), ((14, 1), "cuda13")])
def test_packages_that_are_missing(monkeypatch: pytest.MonkeyPatch, cuda: tuple[int, int], extra: str) -> None:
    driver_tells(monkeypatch, Found("550.1", cuda, [H100]))
    monkeypatch.setattr(_device, "_importable", lambda module: module != "cuda.core")
    with pytest.raises(RuntimeError, match=rf"cuda-core .* is not installed: pip install 'opuproj\[{extra}\]'"):
        _device.device(0)
    monkeypatch.setattr(_device, "_importable", lambda module: True)
    monkeypatch.setattr(_device, "_major", {"cuda-core": 0, "cuda-bindings": 12}.__getitem__)
    with pytest.raises(RuntimeError, match=rf"cuda-core is older than 1.0: pip install 'opuproj\[{extra}\]'"):
        _device.device(0)


@pytest.mark.parametrize("visible", ["", "-1", " ,0", "NoDevFiles"])
def test_all_devices_are_hidden(monkeypatch: pytest.MonkeyPatch, visible: str) -> None:
    driver_tells(monkeypatch, Found("580.65", (13, 0), [H100]))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert "CUDA_VISIBLE_DEVICES hides them" in str(_device.why_not())


@pytest.mark.parametrize("visible", ["0", "1,0", "GPU-1f2e", "MIG-GPU-1"])
def test_some_devices_are_shown(monkeypatch: pytest.MonkeyPatch, visible: str) -> None:
    driver_tells(monkeypatch, Found("580.65", (13, 0), [H100, H100]))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert _device.available()


# What the driver tells


class Nvml:
    """NVML with some devices; functions named in `failing` fail, and those in `absent` are not there."""

    def __init__(self, devices: list[Any], failing: str = "", absent: str = "") -> None:
        self.devices, self.failing, self.absent = devices, failing, absent
        self.users = 0

    def __getattr__(self, name: str) -> Any:
        if name == self.absent:
            raise AttributeError(name)
        return lambda *arguments: 999 if name == self.failing else getattr(type(self), f"_{name}")(self, *arguments)

    def _nvmlInit_v2(self) -> int:  # noqa: N802
        self.users += 1
        return 0

    def _nvmlShutdown(self) -> int:  # noqa: N802
        self.users -= 1
        return 0

    def _nvmlSystemGetCudaDriverVersion_v2(self, version: Any) -> int:  # noqa: N802
        version._obj.value = 12080
        return 0

    def _nvmlDeviceGetCount_v2(self, count: Any) -> int:  # noqa: N802
        count._obj.value = len(self.devices)
        return 0

    def _nvmlSystemGetDriverVersion(self, text: Any, size: int) -> int:  # noqa: N802
        text.value = b"570.10"
        return 0

    def _nvmlDeviceGetHandleByIndex_v2(self, index: int, handle: Any) -> int:  # noqa: N802
        handle._obj.value = index + 1
        return 0

    def _nvmlDeviceGetName(self, handle: Any, text: Any, size: int) -> int:  # noqa: N802
        text.value = self.devices[handle.value - 1][0].encode()
        return 0

    def _nvmlDeviceGetCudaComputeCapability(self, handle: Any, major: Any, minor: Any) -> int:  # noqa: N802
        major._obj.value, minor._obj.value = self.devices[handle.value - 1][1]
        return 0


class Libcuda:
    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        version._obj.value = 13000
        return 0


def libraries(monkeypatch: pytest.MonkeyPatch, **found: Any) -> None:
    """Let ctypes find these libraries, by their names to the first hyphen or full stop, and no other."""

    def load(name: str) -> Any:
        try:
            return found[name.partition(".")[0].partition("-")[0]]
        except KeyError:
            raise OSError(f"{name}: cannot open shared object file") from None

    monkeypatch.setattr(ctypes, "CDLL", load)
    monkeypatch.setattr(sys, "platform", "linux")


def test_nvml_tells_the_devices_and_is_shut_down(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = Nvml([T4, H100])
    libraries(monkeypatch, libnvidia=nvml)
    assert _device._found.__wrapped__() == Found("570.10", (12, 8), [T4, H100])
    assert nvml.users == 0


@pytest.mark.parametrize("way", ["failing", "absent"])
@pytest.mark.parametrize("name", ["nvmlInit_v2", "nvmlSystemGetCudaDriverVersion_v2", "nvmlDeviceGetName"])
def test_nvml_that_does_not_work(monkeypatch: pytest.MonkeyPatch, way: str, name: str) -> None:
    nvml = Nvml([H100], **{way: name})
    libraries(monkeypatch, libnvidia=nvml)
    assert f"the NVIDIA driver is not installed, or does not work ({name}" in str(_device._found.__wrapped__())
    assert nvml.users == 0


def test_without_nvml_the_device_files_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    libraries(monkeypatch, libcuda=Libcuda())
    files = {"nvidia[0-9]*": [Path("/dev/nvidia1"), Path("/dev/nvidia0")]}
    monkeypatch.setattr(Path, "glob", lambda path, pattern: iter(files.get(pattern, [])))
    found = Found(None, (13, 0), [("/dev/nvidia0", None), ("/dev/nvidia1", None)])
    assert _device._found.__wrapped__() == found
    with monkeypatch.context() as changed:
        driver_tells(changed, found)
        assert _device.available()
    files.clear()
    assert _device._found.__wrapped__() == Found(None, (13, 0), [])


@pytest.mark.parametrize("platform", ["linux", "win32", "darwin"])
def test_without_a_driver(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    libraries(monkeypatch)
    monkeypatch.setattr(sys, "platform", platform)
    assert "the NVIDIA driver is not installed" in str(_device._found.__wrapped__())


def test_packages_are_found_without_importing_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert _device._importable("opuproj.projector")
    assert not _device._importable("no_such_package")
    assert not _device._importable("no_such_package.module")
    assert _device._major("numpy") == int(np.__version__.partition(".")[0])
    assert _device._major("no-such-package") == 1


# Launches


class Result(enum.IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_NOT_INITIALIZED = 3
    CUDA_ERROR_INVALID_VALUE = 1


class Gpus:
    """Stand-ins for cuda.core and the driver, with two devices; `calls` lists what they were asked to do."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.contexts = threading.local()
        self.initialised = Result.CUDA_SUCCESS
        self.fails = False
        ok = Result.CUDA_SUCCESS
        self.driver = SimpleNamespace(
            CUresult=Result,
            CUfunction_attribute=SimpleNamespace(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES="most shared"),
            cuInit=lambda flags: (self.initialised,),
            cuDeviceGetCount=lambda: (ok, 2),
            cuDeviceGet=lambda index: (ok, index),
            cuDevicePrimaryCtxRetain=lambda index: (ok, 1000 + index),
            cuCtxGetCurrent=lambda: (ok, self.stack[-1] if self.stack else 0),
            cuCtxPushCurrent=lambda context: (self.stack.append(context), (ok,))[1],
            cuCtxPopCurrent=lambda: (ok, self.stack.pop()),
            cuKernelSetAttribute=lambda *values: (self.calls.append(values), (ok,))[1],
            cuKernelGetFunction=lambda kernel: (self.loads.append((self.stack[-1], self.mode, kernel)), (ok, kernel))[
                1
            ],
            CUstreamCaptureMode=SimpleNamespace(CU_STREAM_CAPTURE_MODE_RELAXED="relaxed"),
            cuThreadExchangeStreamCaptureMode=self.exchange,
        )
        # The context and the mode of capture in which each kernel was loaded.
        self.loads: list[Any] = []
        self.mode = "global"
        self.core = SimpleNamespace(
            Device=self.device,
            LaunchConfig=lambda grid, block, shmem_size: (grid, block, shmem_size),
            Stream=SimpleNamespace(from_handle=lambda handle: f"stream {handle}"),
            ObjectCode=SimpleNamespace(from_cubin=self.load),
            launch=self.launch,
        )
        self.capabilities = [(9, 0), (12, 0)]

    @property
    def stack(self) -> list[int]:
        if not hasattr(self.contexts, "stack"):
            self.contexts.stack = []
        return self.contexts.stack

    def exchange(self, mode: str) -> tuple[Any, str]:
        before, self.mode = self.mode, mode
        return Result.CUDA_SUCCESS, before

    def device(self, index: int) -> Any:
        major, minor = self.capabilities[index]
        return SimpleNamespace(
            name=f"GPU {index}",
            compute_capability=SimpleNamespace(major=major, minor=minor),
            properties=SimpleNamespace(multiprocessor_count=132, max_shared_memory_per_block_optin=227 * 1024),
        )

    def load(self, code: bytes, name: str) -> Any:
        self.calls.append(f"load {code.decode()}")
        return SimpleNamespace(get_kernel=lambda kernel: SimpleNamespace(handle=f"{kernel} in {code.decode()}"))

    def launch(self, stream: str, config: Any, kernel: Any, *arguments: Any) -> None:
        self.calls.append((self.stack[-1], stream, config, kernel.handle, arguments))
        if self.fails:
            raise ValueError("a launch that fails")


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Gpus:
    found = Gpus()
    driver_tells(monkeypatch, Found("580.65", (13, 0), [("GPU 0", (9, 0)), ("GPU 1", (12, 0))]))
    monkeypatch.setattr(_device, "_bindings", lambda: (found.core, found.driver))
    monkeypatch.setattr(
        _compile, "cubin", lambda file, architecture, macros: " ".join((file, architecture, *macros)).encode()
    )
    return found


def test_a_device(gpus: Gpus) -> None:
    found = _device.device(1)
    assert _device.device(1) is found
    assert _device.device(0) is not found
    assert (found.index, found.name, found.architecture) == (1, "GPU 1", "sm_120")
    assert (found.multiprocessors, found.shared_bytes) == (132, 227 * 1024)
    assert repr(found) == "<Device 1: GPU 1, sm_120>"
    assert _device.available()


@pytest.mark.parametrize("index", [2, -1])
def test_a_device_that_is_not_there(gpus: Gpus, index: int) -> None:
    with pytest.raises(RuntimeError, match=rf"there is no cuda:{index}: this process has 2 GPUs"):
        _device.device(index)


def test_a_device_that_is_too_old(gpus: Gpus) -> None:
    gpus.capabilities[1] = (7, 5)
    _device.device(0)
    with pytest.raises(RuntimeError, match=r"GPU 1 has compute capability 7.5, but opuproj needs 8.0 or higher"):
        _device.device(1)


def test_a_launch(gpus: Gpus) -> None:
    arguments = [4096, np.int32(7), np.uint64(9)]
    _device.device(0).launch(5, "a.cu", "f", 132, 512, 1000, arguments, ("N=2",))
    _device.device(0).launch(5, "a.cu", "f", 132, 512, 1000, arguments, ("N=2",))
    launched = (1000, "stream 5", (132, 512, 1000), "f in a.cu sm_90 N=2", tuple(arguments))
    assert gpus.calls == ["load a.cu sm_90 N=2", launched, launched]


def test_functions_of_a_file_share_a_module(gpus: Gpus) -> None:
    found = _device.device(0)
    for kernel in ("f", "g", "f"):
        found.launch(0, "a.cu", kernel, 1, 32, 0, [])
    found.launch(0, "a.cu", "f", 1, 32, 0, [], ("N=2",))
    assert [call for call in gpus.calls if isinstance(call, str)] == ["load a.cu sm_90", "load a.cu sm_90 N=2"]


def test_much_shared_memory_is_asked_for_once(gpus: Gpus) -> None:
    found = _device.device(1)
    for shared in (48 * 1024, 50_000, 49_999, 50_000, 60_000, 0, 60_000):
        found.launch(0, "a.cu", "f", 1, 32, shared, [])
    asked = [call for call in gpus.calls if call[0] == "most shared"]
    assert asked == [("most shared", shared, "f in a.cu sm_120", 1) for shared in (50_000, 60_000)]
    with pytest.raises(RuntimeError, match=r"kernel f needs 300000 bytes of shared memory, but a block has 232448"):
        found.launch(0, "a.cu", "f", 1, 32, 300_000, [])


def test_a_kernel_is_loaded_before_its_first_launch(gpus: Gpus) -> None:
    found = _device.device(0)
    found.load("a.cu", "f", 50_000)
    before = len(gpus.calls)
    found.load("a.cu", "f", 50_000)
    found.launch(0, "a.cu", "f", 1, 32, 50_000, [])
    assert len(gpus.calls) == before + 1


def test_a_kernel_is_loaded_as_a_capture_permits_it(gpus: Gpus) -> None:
    found = _device.device(1)
    for kernel in ("f", "f", "g"):
        found.launch(0, "a.cu", kernel, 1, 32, 60_000, [])
        assert gpus.mode == "global"
        assert gpus.stack == []
    assert gpus.loads == [(1001, "relaxed", f"{kernel} in a.cu sm_120") for kernel in "fg"]
    gpus.driver.cuKernelGetFunction = lambda kernel: (Result.CUDA_ERROR_INVALID_VALUE, None)
    with pytest.raises(RuntimeError, match="CUDA failed"):
        found.launch(0, "a.cu", "h", 1, 32, 0, [])
    assert gpus.mode == "global"


def test_the_context_of_the_device_is_current_during_a_launch_only(gpus: Gpus) -> None:
    devices = [_device.device(0), _device.device(1)]

    def launch_both() -> None:
        before = list(gpus.stack)
        for found in devices:
            found.launch(0, "a.cu", "f", 1, 32, 0, [])
            assert gpus.calls[-1][0] == 1000 + found.index
            assert gpus.stack == before

    launch_both()  # no context is current, as in a new thread
    gpus.stack.append(1001)
    launch_both()
    gpus.stack.append(77)
    gpus.fails = True
    with pytest.raises(ValueError, match="a launch that fails"):
        devices[0].launch(0, "a.cu", "f", 1, 32, 0, [])
    assert gpus.stack == [1001, 77]


def test_caches_of_a_device_are_bounded(gpus: Gpus) -> None:
    found = _device.device(0)
    for i in range(5000):
        found.launch(i, "a.cu", "f", i + 1, 32, 0, [])
    assert len(found._streams) <= 1024
    assert len(found._configs) <= 1024


def test_an_error_of_the_driver(gpus: Gpus) -> None:
    gpus.driver.cuCtxGetCurrent = lambda: (Result.CUDA_ERROR_INVALID_VALUE, None)
    with pytest.raises(RuntimeError, match="CUDA failed: CUDA_ERROR_INVALID_VALUE"):
        _device.device(0).launch(0, "a.cu", "f", 1, 32, 0, [])


# Forks


def test_another_library_used_cuda_before_the_fork(gpus: Gpus) -> None:
    gpus.initialised = Result.CUDA_ERROR_NOT_INITIALIZED
    with pytest.raises(RuntimeError, match="forked after CUDA was used: start it with spawn"):
        _device.device(0)


def _in_child(found: Any) -> list[str]:
    messages = [str(_device.why_not())]
    for call in (
        lambda: _device.device(0),
        lambda: found.launch(0, "a.cu", "f", 1, 32, 0, []),
        lambda: found.load("a.cu", "f"),
    ):
        try:
            call()
        except RuntimeError as error:
            messages.append(str(error))
    return [*messages, str(opuproj.project([1, 0], 3).shape)]


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_a_fork_after_cuda_was_used(gpus: Gpus) -> None:
    found = _device.device(0)
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the workers of pytest have several threads
        child = os.fork()
    if not child:
        try:
            os.write(write, "\n".join(_in_child(found)).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        *messages, shape = pipe.read().split("\n")
    assert os.waitpid(child, 0)[1] == 0
    assert messages == [_device._FORKED] * 4
    assert shape == "(3,)"
    assert _device.device(0) is found


# Without NVIDIA's packages


ON_THE_CPU = """
import sys
{before}
import numpy as np
import opuproj
from opuproj.backends.cuda import _device
assert opuproj.project(np.ones((2, 30), np.int8), 20).shape == (2, 20)
opuproj.show_config()
_device.available()
loaded = sorted(name for name in sys.modules if name.startswith("cuda.") and sys.modules[name] is not None)
assert not loaded, loaded
"""


@pytest.mark.parametrize("before", ["", "sys.modules['cuda'] = None"], ids=["as installed", "without cuda-core"])
def test_the_cpu_needs_none_of_nvidias_packages(before: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "python"), *filter(None, sys.path)])}
    command = [sys.executable, "-c", ON_THE_CPU.format(before=before)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


# What show_config says


def test_show_config_lists_the_gpus(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    driver_tells(monkeypatch, Found("580.65", (13, 0), [H100, H100, T4]))
    monkeypatch.setenv("OPUPROJ_CACHE_DIR", "/some/folder")
    opuproj.show_config()
    shown = capsys.readouterr().out
    assert "GPUs              NVIDIA H100 (sm_90) x 2, Tesla T4 (sm_75), driver 580.65, CUDA 13.0\n" in shown
    assert "kernels of GPUs   /some/folder\n" in shown


def test_show_config_says_why_no_gpu_is_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    driver_tells(monkeypatch, Found("470.1", (11, 4), [H100]))
    opuproj.show_config()
    assert "GPUs              none: the NVIDIA driver supports CUDA 11.4 only" in capsys.readouterr().out
    driver_tells(monkeypatch, "the NVIDIA driver is not installed")
    opuproj.show_config()
    assert "GPUs              none: the NVIDIA driver is not installed\n" in capsys.readouterr().out
