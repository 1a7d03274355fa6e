"""What the figures were measured on, and the choice of an instruction set for a measurement."""

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


def cpu_name() -> str:
    """The processor's own name, where the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cores() -> int:
    """Cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int:
    """Physical memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def instruction_set() -> str:
    """The instruction set that opuproj uses here, `OPUPROJ_ISA` taken into account."""
    return _core.choose_isa(os.environ.get("OPUPROJ_ISA") or None)


@contextmanager
def forced(isa: str | None) -> Iterator[None]:
    """Make opuproj use one instruction set; None leaves the choice as it is."""
    before = os.environ.get("OPUPROJ_ISA")
    if isa is not None:
        os.environ["OPUPROJ_ISA"] = isa
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("OPUPROJ_ISA", None)
        else:
            os.environ["OPUPROJ_ISA"] = before


def describe() -> dict[str, str | int]:
    """The machine and the versions, to be saved beside measured figures."""
    return {
        "cpu": cpu_name(),
        "cores": cores(),
        "memory_bytes": memory_bytes(),
        "isa": instruction_set(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opuproj": _core.__version__,
        "date": datetime.now(timezone.utc).date().isoformat(),
    }
