"""What the package found on this machine, and what it chose."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np

from . import _core
from .backends.cpu import machine


def config() -> dict[str, Any]:
    """Return what show_config prints."""
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
