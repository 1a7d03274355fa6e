"""What the tests of the command line share: inputs, commands, stops at any call."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import ternary
from opuproj.cli import main

N_ROWS, N_INPUTS, N_OUTPUTS = 37, 70, 301
X = ternary(N_ROWS, N_INPUTS)
REAL = np.random.default_rng(3).standard_normal((N_ROWS, N_INPUTS)).astype(np.float32)
COMMAND = [sys.executable, "-m", "opuproj"]
# With the fixture small_tiles: as many tiles as possible, each of them safe at once.
SMALL = ["--batch-rows", "5", "--checkpoint", "0"]
ASKED = ["x.npy", "y.npy", "--outputs", 150, *SMALL]


def project(*arguments: object) -> int:
    return main(["project", *map(str, arguments)])


def saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def names() -> set[str]:
    return {path.name for path in Path().iterdir()}


def zarr_library() -> Any:
    return pytest.importorskip("zarr")


class Crash(BaseException):
    """The machine stops: nothing is tidied up."""


def stop_at(monkeypatch: pytest.MonkeyPatch, number: int, owner: Any, name: str, error: BaseException) -> list[int]:
    """Raise at the call of that number; count the calls."""
    calls = [0]
    original = getattr(owner, name)

    def stopping(*arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == number:
            raise error
        return original(*arguments, **named)

    monkeypatch.setattr(owner, name, stopping)
    return calls
