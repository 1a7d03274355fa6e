"""The instruction sets, the number of threads and the GPUs that the package uses on this machine."""

from __future__ import annotations

import platform
from collections import Counter
from typing import Any

import numpy as np

from . import _core
from .backends.cpu import machine
from .backends.cuda import _device


def config() -> dict[str, Any]:
    """Return the information that show_config prints."""
    forced = machine.isa()
    threads, why = machine.threads_and_reason()
    return {
        "version": _core.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "found": [name for name, found in _core.instruction_sets() if found],
        "missing": [name for name, found in _core.instruction_sets() if not found],
        "chosen": _core.choose_isa(forced),
        "chosen_by": machine.ISA_VARIABLE if forced else "the best found",
        "threads": threads,
        "threads_by": why,
        **_device.describe(),
    }


def gpu_lines(found: dict[str, Any]) -> dict[str, str]:
    """Return what to print of the GPUs in the information of `config`."""
    driver = f", driver {found['driver']}" if found["driver"] else ""
    cuda = f"{driver}, CUDA {found['cuda']}" if found["cuda"] else ""
    names = ", ".join(f"{name} x {number}" if number > 1 else name for name, number in Counter(found["gpus"]).items())
    if found["no_gpu"]:
        return {"GPUs": f"none: {found['no_gpu']}" + (f" (found: {names}{cuda})" if names else "")}
    return {
        "GPUs": f"{names}{cuda}",
        "kernels of GPUs": found["kernel_cache"] or "in memory: there is no home folder",
    }


def show_config() -> None:
    """Print the version, the instruction sets found and chosen, the number of threads and the GPUs.

    The environment variable ``OPUPROJ_ISA`` sets the instruction set (``portable``, ``avx2``, ``avx512`` or ``amx``),
    and ``OPUPROJ_NUM_THREADS`` the number of threads. They affect only the time of a computation, not its result. Both
    are read at every call. ``OPUPROJ_CACHE_DIR`` sets the folder that keeps the compiled kernels of GPUs.

    Raises
    ------
    ValueError
        If a variable has an invalid value.
    RuntimeError
        If ``OPUPROJ_ISA`` names an instruction set that this CPU lacks.

    Examples
    --------
    >>> import opuproj
    >>> opuproj.show_config()  # doctest: +ELLIPSIS
    opuproj ...
    """
    c = config()
    missing = f" (not found: {', '.join(c['missing'])})" if c["missing"] else ""
    gpus = "".join(f"\n  {name:<17} {value}" for name, value in gpu_lines(c).items())
    print(
        f"opuproj {c['version']}\n"
        f"  Python            {c['python']}, NumPy {c['numpy']}\n"
        f"  instruction sets  {', '.join(c['found'])}{missing}\n"
        f"  chosen            {c['chosen']} ({c['chosen_by']})\n"
        f"  threads           {c['threads']} ({c['threads_by']}){gpus}"
    )
