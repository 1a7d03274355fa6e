"""The machine of a measurement, and the choice of an instruction set."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from opuproj import _core

from benches.setting import UnavailableError


def cpu_name() -> str:
    """Return the name of the processor, if the system gives it."""
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def _cpuinfo() -> dict[str, str]:
    """Return Linux's information on the first processor."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def cores() -> int:
    """Cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def need_cores(n: int) -> None:
    """Raise UnavailableError if this process may use fewer cores."""
    if cores() < n:
        raise UnavailableError(f"it needs {n} cores, and this process may use {cores()}")


def memory_bytes() -> int:
    """Physical memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def available_bytes() -> int:
    """Return the available memory, or all memory if the system does not say."""
    try:
        told = Path("/proc/meminfo").read_text(encoding="ascii").partition("MemAvailable:")[2]
    except OSError:
        told = ""
    return 1024 * int(told.split()[0]) if told else memory_bytes()


def instruction_set() -> str:
    """Return the instruction set that opuproj uses here, including `OPUPROJ_ISA`."""
    return _core.choose_isa(os.environ.get("OPUPROJ_ISA") or None)


def kind() -> str:
    """Return the kind of processor: its model and the instruction sets of this process."""
    best = _core.choose_isa(None)
    told = _cpuinfo()
    if "vendor_id" in told:
        return f"{told['vendor_id']} family {told.get('cpu family')} model {told.get('model')}, {best}"
    return f"{cpu_name()}, {best}"


@contextmanager
def forced(isa: str | None) -> Iterator[None]:
    """Force one instruction set on opuproj; None changes nothing."""
    before = os.environ.get("OPUPROJ_ISA")
    # Do not set a variable that changes nothing: every small call would have to parse it.
    if isa is not None and isa != instruction_set():
        os.environ["OPUPROJ_ISA"] = isa
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("OPUPROJ_ISA", None)
        else:
            os.environ["OPUPROJ_ISA"] = before


def describe() -> dict[str, str | int]:
    """Return the machine and the versions, to save with measured figures."""
    return {
        "cpu": cpu_name(),
        "kind": kind(),
        "cores": cores(),
        "memory_bytes": memory_bytes(),
        "isa": instruction_set(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opuproj": _core.__version__,
        "date": datetime.now(timezone.utc).date().isoformat(),
    }
