from __future__ import annotations

from pathlib import Path

import pytest
from opuproj.cli import _plan


@pytest.fixture
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command line runs in an empty folder, on one thread."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPUPROJ_NUM_THREADS", "1")


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of 5 vectors (with SMALL) by 64 outputs."""
    monkeypatch.setattr(_plan, "TILE_BYTES", 5 * 64 * 4)
