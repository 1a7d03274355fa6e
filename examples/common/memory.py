"""Memory of this process and of the machine, and readable byte counts."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def peak_resident() -> int | None:
    """Return the peak memory of this process in bytes, or None if the system does not give it."""
    if sys.platform == "linux":
        return resident("VmHWM")  # not ru_maxrss, which starts at the memory of the parent process
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def resident(field: str) -> int | None:
    """Return the memory of this process in bytes, on Linux only: "VmRSS" now, "VmHWM" at most so far."""
    if sys.platform != "linux":
        return None
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.partition(f"{field}:")[2].split()[0])


def available() -> int:
    """Return the available memory of this machine in bytes."""
    if sys.platform == "linux":
        return 1024 * int(Path("/proc/meminfo").read_text(encoding="ascii").partition("MemAvailable:")[2].split()[0])
    import psutil

    return int(psutil.virtual_memory().available)


def readable(n_bytes: float) -> str:
    """Return a readable number of bytes, such as 9 MB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if n_bytes < 999.5:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"


def return_freed_memory() -> None:
    """Let glibc return freed tensors to the system at once, in processes that start from now on.

    It keeps freed memory otherwise, so that the resident memory would say little about what a process needs.
    """
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", "65536")
