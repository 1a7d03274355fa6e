"""The instruction sets and the number of threads that the package uses on this machine."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np

from . import _core
from .backends.cpu import machine


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
    }


def show_config() -> None:
    """Print the version, the instruction sets found and chosen, and the number of threads.

    The environment variable ``OPUPROJ_ISA`` sets the instruction set (``portable``, ``avx2``, ``avx512`` or ``amx``),
    and ``OPUPROJ_NUM_THREADS`` the number of threads. They affect only the time of a computation, not its result. Both
    are read at every call.

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
    print(
        f"opuproj {c['version']}\n"
        f"  Python            {c['python']}, NumPy {c['numpy']}\n"
        f"  instruction sets  {', '.join(c['found'])}{missing}\n"
        f"  chosen            {c['chosen']} ({c['chosen_by']})\n"
        f"  threads           {c['threads']} ({c['threads_by']})"
    )
