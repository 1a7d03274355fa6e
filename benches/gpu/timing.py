"""Times of work on a GPU, by CUDA's events."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import opuproj

Work = Callable[[], Any]


def why_not() -> str | None:
    """Return why nothing can be measured here, or None."""
    try:
        import torch
    except ImportError:
        return "torch is not installed"
    if not torch.cuda.is_available():
        return "there is no GPU"
    from opuproj.backends.cuda import _device

    return _device.why_not()


class Gpu:
    """The current GPU, on which work is timed."""

    device = "cuda"
    # Sizes are divided by this, for tests.
    smaller = 1

    def __init__(self) -> None:
        import torch

        self.name = torch.cuda.get_device_name()
        self.memory = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory

    def seconds(self, work: Work) -> float:
        """Return the median time of some work on the GPU: of one second of it, but at least of three times."""
        import torch

        work()
        torch.cuda.synchronize()
        times: list[float] = []
        end = time.perf_counter() + 1.0
        while len(times) < 3 or time.perf_counter() < end:
            first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            first.record()
            work()
            last.record()
            last.synchronize()
            times.append(first.elapsed_time(last) * 1e-3)
        opuproj.synchronize()
        return statistics.median(times)

    def host_seconds(self, work: Work) -> float:
        """Return the median time after which a call returns, without waiting for the GPU."""
        times = []
        for _ in range(200):
            self.wait()
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    def wait(self) -> None:
        """Wait until the GPU has done its work."""
        import torch

        torch.cuda.synchronize()

    def kernels(self) -> Any:
        """Return what launches the backend's kernels."""
        import torch
        from opuproj.backends.cuda._gpu import Hardware

        return Hardware(torch.cuda.current_device())

    def of(self, size: int, least: int = 64) -> int:
        """Return a size, or in a test a smaller one."""
        return size if self.smaller == 1 else max(least, size // self.smaller // 64 * 64)
