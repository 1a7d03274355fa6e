"""What a training uses: seconds, joules of the GPU, and the GPU's memory at its peak.

Joules come from NVML's counter of the whole GPU, which the package nvidia-ml-py reads. Other processes on the same GPU
count too; the processor and its memory do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from time import perf_counter
from typing import Any

from common.devices import Device


class Meter:
    """Seconds, joules and peak memory of the parts of a training between `start` and `stop`.

    Parameters
    ----------
    device
        The device that trains.
    earlier
        The reading of the part before an interruption, to which this part adds; None if there was none.
    """

    def __init__(self, device: Device, earlier: Mapping[str, Any] | None = None):
        self._device = device
        self._counter = counter(device)[0]
        self.seconds: float = earlier["seconds"] if earlier else 0.0
        # What is unknown of one part is unknown of the sum.
        self.joules: float | None = earlier.get("joules") if earlier else 0.0
        self.peak_memory: int | None = earlier.get("peak_memory") if earlier else None

    def start(self) -> None:
        """Count from now on."""
        self._device.wait()
        if self._device.is_gpu:
            import torch

            torch.cuda.reset_peak_memory_stats(self._device.name)
        self._joules_at_start = self._counter() if self._counter else None
        self._started = perf_counter()

    def stop(self) -> None:
        """Add what was used since `start`."""
        self._device.wait()
        self.seconds += perf_counter() - self._started
        if self.joules is not None:
            used = (
                self._counter() - self._joules_at_start if self._counter and self._joules_at_start is not None else None
            )
            self.joules = None if used is None else self.joules + used
        if self._device.is_gpu:
            self.peak_memory = max(self.peak_memory or 0, self._device.peak_memory() or 0)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out what happens inside: measurements of the result, saving."""
        self.stop()
        yield
        self.start()

    def reading(self) -> dict[str, Any]:
        """Return seconds, joules (None where unknown) and bytes at the peak (None without a GPU), for JSON."""
        return {"seconds": self.seconds, "joules": self.joules, "peak_memory": self.peak_memory}


def told(device: Device) -> str:
    """Return a sentence: whether energy is measured on a device, and why not."""
    _, why = counter(device)
    return f"Energy is not measured: {why}." if why else "Energy: that of the whole GPU, by NVML."


def counter(device: Device) -> tuple[Callable[[], float] | None, str]:
    """Return a function that reads the GPU's joules since its driver was loaded; or None, and why not."""
    return _counter(device.name)


@cache
def _counter(name: str) -> tuple[Callable[[], float] | None, str]:
    if name == "cpu":
        return None, "the CPU computes"
    if find_spec("pynvml") is None:
        return None, "nvidia-ml-py is not installed"
    import torch

    nvml = import_module("pynvml")
    # NVML counts all GPUs, and torch those of CUDA_VISIBLE_DEVICES.
    uuid = getattr(torch.cuda.get_device_properties(name), "uuid", None)
    if uuid is None:
        return None, "this torch does not give the UUID of a GPU"
    try:
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except nvml.NVMLError as error:
        return None, f"NVML says {str(error)!r}"
    return lambda: 1e-3 * nvml.nvmlDeviceGetTotalEnergyConsumption(handle), ""
