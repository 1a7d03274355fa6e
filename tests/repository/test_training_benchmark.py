"""The history of training steps takes real steps, of the method that it names."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from benches.benchmarks import training  # noqa: E402


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WIDTH": 32, "LAYERS": 3, "BATCH": 16, "SIDES": 20, "RATE": 0.5}.items():
        monkeypatch.setattr(training, name, value)


def losses(method: str, n: int = 6) -> list[float]:
    suite = training.Step()
    suite.setup("cpu", method)
    suite.time_step("cpu", method)
    return [float(suite.step()) for _ in range(n)]


@pytest.mark.parametrize("method", training.Step.params[1])
def test_every_method_learns_its_batch(method: str) -> None:
    found = losses(method)
    assert found[-1] < 0.9 * found[0]


def test_each_method_takes_its_own_steps() -> None:
    last = {method: losses(method, 3)[-1] for method in training.Step.params[1]}
    assert last.pop("stack") == pytest.approx(last["odfa"], abs=1e-5)  # the same training, computed in another way
    assert all(abs(a - b) > 1e-3 for a, b in combinations(last.values(), 2))


def test_without_feedback_a_step_is_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    network = training.network
    monkeypatch.setattr(training, "network", lambda device: made.append(network(device)) or made[-1])
    step = training.autograd_step("cpu", "bp")
    step()
    model, x, y = network("cpu")
    torch.nn.functional.cross_entropy(model(x), y).backward()
    with torch.no_grad():
        for stepped, plain in zip(made[0][0].parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(stepped, plain - 0.5 * plain.grad)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_skipped() -> None:
    with pytest.raises(NotImplementedError):
        training.Step().setup("cuda", "bp")
