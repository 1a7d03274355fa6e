from __future__ import annotations

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
