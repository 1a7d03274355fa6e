"""Chooses the CPU backend's instruction set and number of threads, from the environment and the machine."""

from __future__ import annotations

import os

from ... import _check, _core

ISA_VARIABLE = "OPUPROJ_ISA"
THREADS_VARIABLE = "OPUPROJ_NUM_THREADS"


def isa() -> str | None:
    """Return the instruction set that OPUPROJ_ISA names, or None for the best one of the CPU."""
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
    return threads_and_reason()[0] if threads is None else threads


def threads_and_reason() -> tuple[int, str]:
    """Return the default number of threads, and what determines it."""
    text = _core.variable(THREADS_VARIABLE)
    if text:
        try:
            value = int(text)
        except ValueError:
            value = 0
        if not 1 <= value <= _check.MAX_THREADS:
            raise ValueError(f"{THREADS_VARIABLE} is {text!r}, but must be an integer from 1 to {_check.MAX_THREADS}")
        return value, THREADS_VARIABLE
    # os.cpu_count() ignores taskset and the limits of schedulers and containers.
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), _check.MAX_THREADS), "the cores this process may use"
    return min(os.cpu_count() or 1, _check.MAX_THREADS), "the cores of this machine"
