"""The GPUs of this machine, and launches of kernels on them.

Nothing here imports NVIDIA's packages until a device is used. Whether there is one is asked of NVML, the library of
nvidia-smi: it does not initialise CUDA, so the process may still fork. Where a container has CUDA but no NVML, the
driver's version and the device files are looked at instead, which does not initialise CUDA either.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import _compile

OLDEST = (8, 0)
"""The oldest compute capability that the kernels support: earlier GPUs lack their int8 product."""

# More shared memory than this must be asked for, once for each kernel.
_SHARED_BYTES_ALWAYS = 48 * 1024
# Caches of streams and of launch configurations are emptied at this size.
_CACHED = 1024

_FORKED = "CUDA cannot be used in a process that was forked after CUDA was used: start it with spawn"


class Found(NamedTuple):
    """What the driver tells without initialising CUDA."""

    driver: str | None
    """The version of the driver; None if only that of CUDA is known."""
    cuda: tuple[int, int]
    """The newest version of CUDA that the driver supports."""
    devices: list[tuple[str, tuple[int, int] | None]]
    """Name and compute capability of each device; the capability is None if it is not known."""


class Device:
    """One GPU."""

    def __init__(self, index: int) -> None:
        core, driver = _bindings()
        found = core.Device(index)
        capability = (found.compute_capability.major, found.compute_capability.minor)
        _check_capability(found.name, capability)
        self.index = index
        self.name: str = found.name
        self.architecture = f"sm_{capability[0]}{capability[1]}"
        """For example ``"sm_90"``. A cubin for an architecture runs on no other."""
        self.multiprocessors: int = found.properties.multiprocessor_count
        self.shared_bytes: int = found.properties.max_shared_memory_per_block_optin
        """The most shared memory that one block can have."""
        self._process = os.getpid()
        self._driver = driver
        self._core = core
        self._core_launch = core.launch
        self._id = _checked(driver, driver.cuDeviceGet(index))
        # The context that CUDA's runtime, and so torch, uses. It is kept until the process ends.
        self._context = _checked(driver, driver.cuDevicePrimaryCtxRetain(self._id))
        self._context_address = int(self._context)
        self._lock = threading.Lock()
        # A kernel, and the dynamic shared memory that it may have.
        self._kernels: dict[tuple[str, str, tuple[str, ...]], tuple[Any, int]] = {}
        self._modules: dict[tuple[str, tuple[str, ...]], Any] = {}
        self._configs: dict[tuple[int, int, int], Any] = {}
        self._streams: dict[int, Any] = {}

    def load(self, file: str, kernel: str, shared: int = 0, macros: tuple[str, ...] = ()) -> None:
        """Compile and load a kernel, as its first launch does.

        Parameters
        ----------
        file
            A file of the folder `kernels`.
        kernel
            A function in it.
        shared
            The most bytes of dynamic shared memory that it will be launched with.
        macros
            Definitions to compile the file with.
        """
        if os.getpid() != self._process:
            raise RuntimeError(_FORKED)
        loaded = self._kernels.get((file, kernel, macros))
        if loaded is None or shared > loaded[1]:
            self._load(file, kernel, shared, macros)

    def launch(
        self,
        stream: int,
        file: str,
        kernel: str,
        grid: int,
        threads: int,
        shared: int,
        arguments: Sequence[np.generic | int],
        macros: tuple[str, ...] = (),
    ) -> None:
        """Launch a kernel; this does not wait for it.

        Parameters
        ----------
        stream
            The address of a CUstream of this device, such as ``torch.cuda.current_stream().cuda_stream``.
        file
            A file of the folder `kernels`.
        kernel
            A function in it.
        grid
            The number of blocks.
        threads
            The number of threads in a block.
        shared
            Bytes of dynamic shared memory for each block.
        arguments
            Integers of Python are pointers; NumPy scalars are numbers of their types.
        macros
            Definitions to compile the file with.

        Raises
        ------
        RuntimeError
            If the kernel does not compile, if a block cannot have this much shared memory, or in a forked process.
        """
        if os.getpid() != self._process:
            raise RuntimeError(_FORKED)
        loaded = self._kernels.get((file, kernel, macros))
        if loaded is None or shared > loaded[1]:
            loaded = self._load(file, kernel, shared, macros)
        shape = (grid, threads, shared)
        config = self._configs.get(shape)
        if config is None:
            config = self._core.LaunchConfig(grid=grid, block=threads, shmem_size=shared)
            _keep(self._configs, shape, config)
        place = self._streams.get(stream)
        if place is None:
            place = self._core.Stream.from_handle(stream)
            _keep(self._streams, stream, place)
        driver = self._driver
        # As `_current` does. A context manager would take a microsecond more.
        foreign = int(_checked(driver, driver.cuCtxGetCurrent())) != self._context_address
        if foreign:
            _checked(driver, driver.cuCtxPushCurrent(self._context))
        try:
            self._core_launch(place, config, loaded[0], *arguments)
        finally:
            if foreign:
                driver.cuCtxPopCurrent()

    @contextmanager
    def _current(self) -> Iterator[None]:
        """Make the device's context the current one.

        A launch on the default stream goes to the current context. That is another one if the caller has several
        devices, and none in a thread that has not used CUDA.
        """
        driver = self._driver
        foreign = int(_checked(driver, driver.cuCtxGetCurrent())) != self._context_address
        if foreign:
            _checked(driver, driver.cuCtxPushCurrent(self._context))
        try:
            yield
        finally:
            if foreign:
                driver.cuCtxPopCurrent()

    def _loaded(self, kernel: Any) -> Any:
        """Return a kernel whose code is on the device. CUDA would otherwise load it when it is first launched."""
        _checked(self._driver, self._driver.cuKernelGetFunction(kernel.handle))
        return kernel

    def _load(self, file: str, kernel: str, shared: int, macros: tuple[str, ...]) -> tuple[Any, int]:
        driver = self._driver
        if shared > self.shared_bytes:
            raise RuntimeError(
                f"kernel {kernel} needs {shared} bytes of shared memory, but a block has {self.shared_bytes}"
            )
        # The first call of a kernel may be captured into a CUDA graph, during which CUDA refuses to load by default.
        with self._lock, relaxed(), self._current():
            module = self._modules.get((file, macros))
            if module is None:
                code = _compile.cubin(file, self.architecture, macros)
                module = self._modules[file, macros] = self._core.ObjectCode.from_cubin(code, name=file)
            known = self._kernels.get((file, kernel, macros))
            if known is None:
                known = (self._loaded(module.get_kernel(kernel)), _SHARED_BYTES_ALWAYS)
            handle, allowed = known
            if shared > allowed:
                attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
                _checked(driver, driver.cuKernelSetAttribute(attribute, shared, handle.handle, self._id))
                allowed = shared
            loaded = self._kernels[file, kernel, macros] = (handle, allowed)
            return loaded

    def __repr__(self) -> str:
        return f"<Device {self.index}: {self.name}, {self.architecture}>"


@contextmanager
def relaxed() -> Iterator[None]:
    """Let this thread load code and allocate memory of the host while a stream is captured into a CUDA graph.

    Neither becomes a part of the graph. torch's allocator allocates memory of the GPU in the same way.
    """
    driver = _bindings()[1]
    mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
    before = _checked(driver, driver.cuThreadExchangeStreamCaptureMode(mode))
    try:
        yield
    finally:
        _checked(driver, driver.cuThreadExchangeStreamCaptureMode(before))


_devices: dict[int, Device] = {}
# The process that has used CUDA.
_process: int | None = None


def device(index: int) -> Device:
    """Return a GPU of this process, the same object at each call.

    Raises
    ------
    RuntimeError
        If CUDA cannot be used here, with what to do about it, or if there is no such GPU.
    """
    found = _devices.get(index)
    if found is not None and found._process == os.getpid():
        return found
    return _open(index)


def opened() -> list[int]:
    """Return the numbers of the GPUs that this process has used."""
    return [index for index, found in _devices.items() if found._process == os.getpid()]


def available() -> bool:
    """Return whether this process can use a GPU. This does not initialise CUDA and raises nothing."""
    return why_not() is None


def why_not() -> str | None:
    """Return why this process cannot use a GPU and what to do about it, or None if it can."""
    if _process is not None:
        return None if _process == os.getpid() else _FORKED
    found = _found()
    if isinstance(found, str):
        return found
    if not found.devices or _all_hidden():
        hint = "; the environment variable CUDA_VISIBLE_DEVICES hides them" if found.devices else ""
        return f"the NVIDIA driver has no GPU{hint}"
    capabilities = [capability for _, capability in found.devices]
    if all(capability is not None and capability < OLDEST for capability in capabilities):
        return "; ".join(_unsupported(name, capability) for name, capability in found.devices if capability)
    return _why_no_packages(found.cuda)


def describe() -> dict[str, Any]:
    """Return the GPUs, the driver and the folder of compiled kernels, for `opuproj.show_config`."""
    why = why_not()
    found = _found()
    known = None if isinstance(found, str) else found
    folder = _compile.cache_folder()
    return {
        "gpus": [_named(name, capability) for name, capability in known.devices] if known else [],
        "driver": known and known.driver,
        "cuda": f"{known.cuda[0]}.{known.cuda[1]}" if known else None,
        "no_gpu": why,
        "kernel_cache": folder and str(folder),
    }


def _named(name: str, capability: tuple[int, int] | None) -> str:
    return name if capability is None else f"{name} (sm_{capability[0]}{capability[1]})"


def _open(index: int) -> Device:
    global _process
    why = why_not()
    if why == _FORKED:
        raise RuntimeError(_FORKED)
    if why is not None:
        raise RuntimeError(f"CUDA cannot be used: {why}")
    driver = _bindings()[1]
    error = driver.cuInit(0)[0]
    if error == driver.CUresult.CUDA_ERROR_NOT_INITIALIZED:  # what the driver says after another library's fork
        raise RuntimeError(_FORKED)
    _checked(driver, (error,))
    _process = os.getpid()
    count = _checked(driver, driver.cuDeviceGetCount())
    if not 0 <= index < count:
        raise RuntimeError(f"there is no cuda:{index}: this process has {count} GPU{'s' if count != 1 else ''}")
    return _devices.setdefault(index, Device(index))


def _bindings() -> tuple[Any, Any]:
    """Return NVIDIA's modules for Python: cuda.core and the driver."""
    import cuda.core
    from cuda.bindings import driver

    return cuda.core, driver


def _checked(driver: Any, result: tuple[Any, ...]) -> Any:
    if result[0] != driver.CUresult.CUDA_SUCCESS:
        raise RuntimeError(f"CUDA failed: {result[0].name}")
    return result[1] if len(result) > 1 else None


def _keep(kept: dict[Any, Any], key: Any, value: Any) -> None:
    if len(kept) >= _CACHED:
        kept.clear()
    kept[key] = value


def _check_capability(name: str, capability: tuple[int, int]) -> None:
    if capability < OLDEST:
        raise RuntimeError(f"CUDA cannot be used: {_unsupported(name, capability)}")


def _unsupported(name: str, capability: tuple[int, int]) -> str:
    return (
        f"{name} has compute capability {capability[0]}.{capability[1]}, but opuproj needs {OLDEST[0]}.{OLDEST[1]} "
        f"or higher (Ampere or newer)"
    )


def _all_hidden() -> bool:
    """Return whether the environment hides all devices from CUDA: it reads the list up to the first bad entry."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible is not None and not visible.split(",")[0].strip().startswith((*"0123456789", "GPU-", "MIG-"))


def _why_no_packages(cuda: tuple[int, int]) -> str | None:
    """Return what is wrong with the packages of the extras cuda12 and cuda13, for a driver of this version of CUDA."""
    if cuda < (12, 0):
        return f"the NVIDIA driver supports CUDA {cuda[0]}.{cuda[1]} only: install a newer driver, for CUDA 12 or 13"
    install = f"pip install 'opuproj[cuda{min(cuda[0], 13)}]'"
    if not (_importable("cuda.core") and _importable("cuda.bindings")):
        return f"the package cuda-core or what it needs is not installed: {install}"
    if _major("cuda-core") < 1:
        return f"the package cuda-core is older than 1.0: {install}"
    bindings = _major("cuda-bindings")
    if bindings > cuda[0]:
        return (
            f"the NVIDIA driver supports CUDA {cuda[0]}.{cuda[1]}, but cuda-bindings is for CUDA {bindings}: "
            f"{install}, or install a newer driver"
        )
    return None


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _major(package: str) -> int:
    """Return the major version of a package, or 1 if it is installed without its version."""
    try:
        return int(importlib.metadata.version(package).partition(".")[0])
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return 1


@cache
def _found() -> Found | str:
    """Return what the driver tells, or why it tells nothing. It is asked once in a process."""
    try:
        return _from_nvml()
    except OSError as error:
        missing = f"the NVIDIA driver is not installed, or does not work ({error})"
    if sys.platform.startswith("linux"):
        try:
            return _from_device_files()
        except OSError:
            pass
    return missing


def _from_nvml() -> Found:
    """Ask NVML; raise OSError if it is not there or does not work."""
    if sys.platform not in ("win32", "linux"):
        raise OSError(f"there is none for {sys.platform}")
    nvml = ctypes.CDLL("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")

    def call(name: str, *arguments: Any) -> None:
        error = getattr(nvml, name)(*arguments)
        if error:
            raise OSError(f"{name} failed with error {error}")

    try:
        call("nvmlInit_v2")
    except AttributeError as error:
        raise OSError(str(error)) from error
    try:
        cuda, count = ctypes.c_int(), ctypes.c_uint()
        text = ctypes.create_string_buffer(96)
        call("nvmlSystemGetCudaDriverVersion_v2", ctypes.byref(cuda))
        call("nvmlDeviceGetCount_v2", ctypes.byref(count))
        call("nvmlSystemGetDriverVersion", text, len(text))
        driver = text.value.decode()
        devices: list[tuple[str, tuple[int, int] | None]] = []
        for index in range(count.value):
            handle, major, minor = ctypes.c_void_p(), ctypes.c_int(), ctypes.c_int()
            call("nvmlDeviceGetHandleByIndex_v2", index, ctypes.byref(handle))
            call("nvmlDeviceGetName", handle, text, len(text))
            call("nvmlDeviceGetCudaComputeCapability", handle, ctypes.byref(major), ctypes.byref(minor))
            devices.append((text.value.decode(), (major.value, minor.value)))
        return Found(driver, (cuda.value // 1000, cuda.value % 1000 // 10), devices)
    except AttributeError as error:
        raise OSError(str(error)) from error
    finally:
        nvml.nvmlShutdown()


def _from_device_files() -> Found:
    """Ask the driver for its version, and look for files of devices; raise OSError if there is no driver."""
    version = ctypes.c_int()
    if ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version)):
        raise OSError("cuDriverGetVersion failed")
    files = [*Path("/dev").glob("nvidia[0-9]*"), *Path("/dev").glob("dxg"), *Path("/dev").glob("nvhost-gpu")]
    return Found(
        None, (version.value // 1000, version.value % 1000 // 10), [(str(path), None) for path in sorted(files)]
    )
