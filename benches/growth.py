"""Measure the growth of time with inputs and outputs over three decades, and fit its exponent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import opuproj

from benches import inputs
from benches.timing import Work, alternate

SIZES = tuple(round(10 ** (k / 2)) for k in range(6, 13))  # 10³ to 10⁶ by half decades
FIXED = 20_000  # the size of the other dimension


def measure(
    threads: int, budget: float, sizes: Sequence[int] = SIZES, fixed: int = FIXED
) -> dict[str, dict[str, object]]:
    """Return the seconds of one dense vector, "linear", for all sizes, measured in turn, round after round."""
    by_inputs = {f"{n}": _projection(n, fixed, threads) for n in sizes}
    by_outputs = {f"{n}": _projection(fixed, n, threads) for n in sizes}
    return {
        "inputs": _growth(by_inputs, budget) | {"outputs": fixed},
        "outputs": _growth(by_outputs, budget) | {"inputs": fixed},
    }


def _growth(works: Mapping[str, Work], budget: float) -> dict[str, object]:
    rounds = alternate(works, budget=budget)
    seconds = {name: rounds.median(name) for name in works}
    return {"seconds": seconds, "exponent": exponent({int(name): took for name, took in seconds.items()})}


def exponent(seconds: Mapping[int, float]) -> float:
    """Return the slope of log seconds over log size, by least squares."""
    slope, _ = np.polyfit(np.log(list(seconds)), np.log(list(seconds.values())), 1)
    return float(slope)


def _projection(n_inputs: int, n_outputs: int, threads: int) -> Work:
    out = np.zeros((1, n_outputs), dtype=np.float32)
    return partial(opuproj.project, inputs.dense(1, n_inputs), n_outputs, mode="linear", out=out, threads=threads)
