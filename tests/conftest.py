from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest

# A first call builds threads and tables; a slow machine is not a wrong result.
hypothesis.settings.register_profile("opuproj", deadline=None)
hypothesis.settings.register_profile(
    "thorough", deadline=None, max_examples=100_000, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("opuproj")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "every_isa: worth running again under each OPUPROJ_ISA that the CPU has")


@pytest.fixture
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command line runs in an empty folder, on one thread."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPUPROJ_NUM_THREADS", "1")


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of 5 vectors (with SMALL) by 64 outputs."""
    from opuproj.cli import _plan

    monkeypatch.setattr(_plan, "TILE_BYTES", 5 * 64 * 4)
