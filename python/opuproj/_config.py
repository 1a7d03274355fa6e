"""Which instruction set and how many threads: the environment, the machine, and what to tell the user about them."""

from __future__ import annotations

import os
import platform
from typing import Any

import numpy as np

from . import _check, _core

ISA_VARIABLE = "OPUPROJ_ISA"
THREADS_VARIABLE = "OPUPROJ_NUM_THREADS"


def isa() -> str | None:
    """Return the instruction set that OPUPROJ_ISA forces, or None for the best that the CPU has."""
    name = _core.variable(ISA_VARIABLE)
    if not name:
        return None
    try:
        return _core.choose_isa(name)
    except (ValueError, RuntimeError) as error:
        sets = _core.instruction_sets()
        usable = ", ".join(known for known, found in sets if found)
        if name in (known for known, _ in sets):
            raise RuntimeError(f"{ISA_VARIABLE} is {name!r}, which this CPU lacks; it has {usable}") from error
        names = ", ".join(known for known, _ in sets)
        raise ValueError(f"{ISA_VARIABLE} is {name!r}, but must be one of {names}; this CPU has {usable}") from error


def n_threads(threads: int | None) -> int:
    """Return `threads`, else OPUPROJ_NUM_THREADS, else the number of cores that this process may use."""
    return _threads_and_why()[0] if threads is None else threads


def _threads_and_why() -> tuple[int, str]:
    text = _core.variable(THREADS_VARIABLE)
    if text:
        try:
            value = int(text)
        except ValueError:
            value = 0
        if not 1 <= value <= _check.MAX_THREADS:
            raise ValueError(f"{THREADS_VARIABLE} is {text!r}, but must be an integer from 1 to {_check.MAX_THREADS}")
        return value, THREADS_VARIABLE
    # Not os.cpu_count() where it can be avoided: it ignores taskset, and the limits that schedulers and containers set.
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), _check.MAX_THREADS), "the cores this process may use"
    return min(os.cpu_count() or 1, _check.MAX_THREADS), "the cores of this machine"


def config() -> dict[str, Any]:
    """Return what show_config prints."""
    forced = isa()
    threads, why = _threads_and_why()
    return {
        "version": _core.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "found": [name for name, found in _core.instruction_sets() if found],
        "missing": [name for name, found in _core.instruction_sets() if not found],
        "chosen": _core.choose_isa(forced),
        "chosen_by": ISA_VARIABLE if forced else "the best found",
        "threads": threads,
        "threads_by": why,
    }


def show_config() -> None:
    """Print the version, the instruction sets found and chosen, and the number of threads.

    The environment variable ``OPUPROJ_ISA`` forces an instruction set (``portable``, ``avx2``, ``avx512`` or ``amx``),
    and ``OPUPROJ_NUM_THREADS`` a number of threads. Neither changes any result, only the time it takes. Both are read
    at every call.

    Raises
    ------
    ValueError
        If a variable holds something unknown.
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
    print(
        f"opuproj {c['version']}\n"
        f"  Python            {c['python']}, NumPy {c['numpy']}\n"
        f"  instruction sets  {', '.join(c['found'])}{missing}\n"
        f"  chosen            {c['chosen']} ({c['chosen_by']})\n"
        f"  threads           {c['threads']} ({c['threads_by']})"
    )
