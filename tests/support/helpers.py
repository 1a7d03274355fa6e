"""What several test files share."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import opuproj
import pytest
from hypothesis import settings
from opuproj import _core

ROOT = Path(__file__).resolve().parents[2]  # of the checkout
ISAS = [name for name, found in _core.instruction_sets() if found]
MODES = ("intensity", "linear", "complex", "real")
LINEAR_MODES = ("linear", "complex", "real")
CAMERA_MODES = ("intensity", "linear", "complex")
# One off every block, tile and panel that a kernel may have.
AWKWARD = sorted({1, 2, 3, *(size + d for size in (4, 8, 16, 32, 64, 128, 256, 512, 1024) for d in (-1, 0, 1))})
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


def ternary(*shape: int, density: float = 2 / 3, seed: int = 0) -> np.ndarray:
    """Random -1, 0 and 1 as int8, of which about `density` are not 0."""
    random = np.random.default_rng([seed, *shape])
    return (random.choice([-1, 1], shape) * (random.random(shape) < density)).astype(np.int8)


def assert_same_bits(a: Any, b: Any) -> None:
    """Equal dtype, shape and bits: more than ==, which takes -0.0 for 0.0."""
    a, b = np.asarray(a), np.asarray(b)
    assert (a.dtype, a.shape) == (b.dtype, b.shape)
    assert np.array_equal(np.ascontiguousarray(a).view(np.uint8), np.ascontiguousarray(b).view(np.uint8))


def integers(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The exact integer field behind a complex128 result."""
    scaled = y * np.sqrt(2048.0)
    re, im = np.rint(scaled.real), np.rint(scaled.imag)
    assert np.abs(scaled - (re + 1j * im)).max(initial=0) < 1e-6
    return re.astype(np.int64), im.astype(np.int64)


def examples(n: int) -> settings:
    """How many examples a test is given, unless the profile asks for more than usual."""
    usual, asked = settings.get_profile("default").max_examples, settings().max_examples
    return settings(max_examples=n if asked <= usual else asked)


def run(code: str, timeout: float = 120, **environment: str) -> str:
    """Run a program in a process of its own; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def long_call(seconds: float) -> tuple[opuproj.Projector, np.ndarray]:
    """An operator and a vector whose product takes about this long on this machine, on one thread."""
    x = ternary(30_000, density=1)
    n_outputs = 1000
    while True:
        op = opuproj.Projector(30_000, n_outputs, mode="complex", threads=1)
        start = time.perf_counter()
        op(x)
        taken = time.perf_counter() - start
        if taken > seconds:
            return op, x
        n_outputs = int(n_outputs * min(10.0, 1.5 * seconds / taken + 0.5))
