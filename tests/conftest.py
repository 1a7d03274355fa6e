from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import hypothesis
import pytest
import standin_backend
from opuproj import backends

# A first call builds threads and tables; a slow machine is not a wrong result.
hypothesis.settings.register_profile("opuproj", deadline=None)
hypothesis.settings.register_profile(
    "thorough", deadline=None, max_examples=100_000, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("opuproj")

standin_backend.register()
if find_spec("torch") is not None:
    backends.backend("cuda")  # registers it, if this machine has a GPU

# Every way to compute on this machine: a backend, and an instruction set of it.
VARIANTS = [(device, variant) for device, backend in backends.registered().items() for variant in backend.variants()]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "every_backend: runs on every backend and instruction set of this machine")
    config.addinivalue_line("markers", "long: takes seconds or more; left to `make test-long`")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.definition.get_closest_marker("every_backend"):
        ids = ["-".join(variant) for variant in VARIANTS]
        metafunc.parametrize("backend_variant", VARIANTS, ids=ids, indirect=True, scope="module")


@pytest.fixture(scope="module", autouse=True)
def backend_variant(request: pytest.FixtureRequest) -> Iterator[tuple[str, str] | None]:
    """The device and the instruction set on which a test of the mark `every_backend` computes; None for other tests."""
    if not hasattr(request, "param"):
        yield None
        return
    device, variant = request.param
    with backends.backend(device).using(variant):
        yield request.param
