"""The limits of opuproj on this CPU: generating T's bytes alone, multiplying int8 alone, and memory."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from opuproj import _core

from benches.timing import Work

Bare = Callable[[str | None, int], float]


@dataclass(frozen=True)
class Limit:
    """A loop that only generates or multiplies: `amount` bytes or multiply-adds per call of `work`."""

    amount: int
    work: Work


def keystream(isa: str, threads: int) -> Limit:
    """ARS4x32-7 with its results kept in registers; one byte is one real component of T."""
    return _on_threads(_core.keystream_seconds, isa, threads)


def multiply(isa: str, threads: int) -> Limit:
    """The int8 multiplication of a panel with vectors that are in the cache."""
    return _on_threads(_core.multiply_seconds, isa, threads)


def _on_threads(bare: Bare, isa: str, threads: int, duration: float = 0.1) -> Limit:
    trial = 1 << 26
    each = int(trial * duration / bare(isa, trial))
    if threads == 1:
        return Limit(each, lambda: bare(isa, each))
    pool = ThreadPoolExecutor(threads)

    def run() -> None:
        # The loops release the GIL, so they run at the same time.
        for _ in pool.map(lambda _: bare(isa, each), range(threads)):
            pass

    return Limit(each * threads, run)


def bandwidth(x: NDArray[np.int8]) -> dict[str, Limit]:
    """Return the limits of memory: one thread of NumPy reads x or copies it, counted in bytes moved.

    x must be larger than the caches.
    """
    words, copy = x.reshape(-1).view(np.int64), np.zeros_like(x)
    return {
        "read": Limit(x.nbytes, words.max),
        "copy": Limit(2 * x.nbytes, partial(np.copyto, copy, x)),
    }
