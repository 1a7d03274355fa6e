"""What the tests of several programs share."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from helpers import ROOT


@pytest.fixture
def examples(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let modules of the examples be imported, and forget them after the test."""
    folder = ROOT / "examples"
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.split(".")[0] == "common" or (folder / f"{name}.py").exists():
            del sys.modules[name]
