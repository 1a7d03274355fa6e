"""Direct feedback alignment on a GPU: the gradients of the CPU, from errors that stay on the GPU."""

from __future__ import annotations

import copy
from typing import Any

import opuproj
import pytest
import standin_backend
from helpers import assert_same_bits
from opuproj import backends

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(standin_backend.DEVICE not in backends.registered(), reason="needs g++")

from captures import nothing_waits  # noqa: E402
from opuproj import dfa  # noqa: E402
from opuproj.backends.cuda._backend import Cuda  # noqa: E402
from opuproj.backends.cuda.packed import DeviceEncoded, DevicePacked  # noqa: E402
from opuproj.dfa._passes import PassNumbers  # noqa: E402
from opuproj.dfa._ternary import places  # noqa: E402


def refused(*arguments: Any) -> Any:
    raise AssertionError("the error was copied to the host")


def gradients(method: str, *, bad: bool = False, double: bool = False, **options: Any) -> tuple[list[Any], Any]:
    """The gradients of a small model after a step, and its feedback."""
    torch.manual_seed(0)
    layers = [
        torch.nn.Linear(9, 33),
        torch.nn.Tanh(),
        torch.nn.Linear(33, 20),
        torch.nn.Tanh(),
        torch.nn.Linear(20, 70),
    ]
    model = torch.nn.Sequential(*layers).to(torch.float64 if double else torch.float32)
    feedback = dfa.attach(model, ["0", "2"], method=method, seed=3, **options)
    x, target = torch.randn(41, 9, dtype=torch.float64 if double else torch.float32), torch.randint(0, 70, (41,))
    y = model(x)
    loss = torch.nn.functional.cross_entropy(y, target, reduction="sum")
    if bad:
        loss = loss + (y[3] * float("inf")).sum()
    loss.backward()
    return [p.grad for p in model.parameters()], feedback


CASES: dict[str, dict[str, Any]] = {
    "dfa": {"method": "dfa"},
    "dfa-double": {"method": "dfa", "double": True},
    "dfa-real": {"method": "dfa", "mode": "real"},
    "dfa-structured": {"method": "dfa", "ensemble": "structured"},
    "odfa": {"method": "odfa"},
    "odfa-real": {"method": "odfa", "mode": "real"},
    "odfa-structured": {"method": "odfa", "ensemble": "structured"},
    "odfa-double": {"method": "odfa", "double": True},
    "odfa-rowmax": {"method": "odfa", "ternarize": dfa.Ternarize(dfa.RowMax(0.3), norm="row")},
    "odfa-topk": {"method": "odfa", "ternarize": dfa.Ternarize(dfa.TopK(3))},
    "odfa-batchmax": {"method": "odfa", "ternarize": dfa.Ternarize(dfa.BatchMax(0.2))},
    "odfa-fixed": {"method": "odfa", "ternarize": dfa.Ternarize(dfa.Fixed(0.1), norm="none")},
    "odfa-bad": {"method": "odfa", "bad": True},
    "dfa-bad": {"method": "dfa", "bad": True},
}


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_the_cpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, on_cpu = gradients(**CASES[name])
    monkeypatch.setattr("opuproj.inputs.tensors.tensor_rows", standin_backend.tensor_rows)
    with monkeypatch.context() as no_copies:
        for kind in (DevicePacked, DeviceEncoded):
            for method in ("host", "row_nnz", "scales"):
                no_copies.setattr(kind, method, refused, raising=False)
        got, on_gpu = gradients(**CASES[name])
    opuproj.synchronize()
    for one, other in zip(got, expected, strict=True):
        assert_same_bits(one, other)
    assert on_gpu.statistics.nonzeros == on_cpu.statistics.nonzeros
    assert on_gpu.statistics.nonzeros == on_cpu.statistics.nonzeros  # counted once
    assert (on_gpu.statistics.nonzeros > 0) is name.startswith("odfa")


def test_a_noisy_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = opuproj.Camera(photons=1e3)
    torch.manual_seed(1)
    expected, _ = gradients("odfa", camera=camera)
    monkeypatch.setattr("opuproj.inputs.tensors.tensor_rows", standin_backend.tensor_rows)
    torch.manual_seed(1)
    got, _ = gradients("odfa", camera=camera)
    for one, other in zip(got, expected, strict=True):
        assert_same_bits(one, other)


def test_a_check_of_the_feedback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opuproj.inputs.tensors.tensor_rows", standin_backend.tensor_rows)
    for method in ("odfa", "dfa"):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(9, 12), torch.nn.Tanh(), torch.nn.Linear(12, 5))
        feedback = dfa.attach(model, ["0"], method=method)
        x, target = torch.randn(8, 9), torch.randint(0, 5, (8,))
        feedback.check(lambda model=model, x=x, target=target: torch.nn.functional.cross_entropy(model(x), target))


@pytest.mark.parametrize("exponent", [-149, -130, -60, 0, 60, 120])
def test_dither_of_errors_of_any_size(exponent: int) -> None:
    e = torch.randn(20, 50, generator=torch.Generator().manual_seed(0)) * 2.0**exponent
    where = torch.rand(20, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    class OnGpu(torch.Tensor):
        """A tensor that says it is on a GPU."""

        device = torch.device("cuda")

    rule = dfa.Dither(4.0)
    thresholds, survivors = rule.placed(e, where)
    got = rule.placed(e.as_subclass(OnGpu), where)
    assert_same_bits(got[0].as_subclass(torch.Tensor), thresholds)
    if exponent in (0, 60):
        assert_same_bits(got[1].as_subclass(torch.Tensor), survivors)
    assert torch.allclose(got[1].as_subclass(torch.Tensor), survivors, rtol=1e-6)


# CUDA graphs


def test_numbers_of_replayed_passes() -> None:
    numbers, cpu = PassNumbers(), torch.device("cpu")
    with pytest.raises(RuntimeError, match="run one step before the capture"):
        numbers.of(0, cpu, captured=True)
    seen = [int(numbers.of(number, cpu, captured=False)) for number in range(3)]
    seen += [int(numbers.of(3, cpu, captured=True)) for _ in range(4)]  # what a replay computes
    assert numbers.replayed() == 4
    seen += [int(numbers.of(number, cpu, captured=False)) for number in (3, 4)]
    seen += [int(numbers.of(5, cpu, captured=True)) for _ in range(2)]
    assert seen == list(range(11))
    numbers.restart(100)
    assert int(numbers.of(100, cpu, captured=False)) == 100


@pytest.mark.parametrize("seed", [0, 2**64 - 1])
@pytest.mark.parametrize("number", [0, 3, 2**40, 2**62])
def test_places_of_a_number_on_the_device(number: int, seed: int) -> None:
    assert_same_bits(places(seed, 5, torch.tensor(number), 9), places(seed, 5, number, 9))


class Graph(standin_backend.StandIn):
    """A GPU whose stream is captured from a moment on."""

    captured = False

    def capturing(self) -> bool:
        return Graph.captured


@pytest.fixture
def graph(monkeypatch: pytest.MonkeyPatch) -> type[Graph]:
    monkeypatch.setattr("opuproj.inputs.tensors.tensor_rows", standin_backend.tensor_rows)
    monkeypatch.setitem(backends._registered, standin_backend.DEVICE, Cuda(lambda device: Graph()))
    monkeypatch.setattr(Graph, "captured", False)
    return Graph


class Spread:
    """A rule with places. (On a CPU tensor, Dither reads a number.)"""

    def thresholds(self, e: Any) -> Any:
        raise AssertionError("places were given")

    def placed(self, e: Any, places: Any) -> Any:
        largest = e.abs().amax(dim=1, keepdim=True)
        return places * largest, (e.abs() / largest).sum(dim=1, keepdim=True, dtype=torch.float64)


@pytest.mark.parametrize("method", ["odfa", "dfa"])
@pytest.mark.parametrize("ensemble", ["gaussian", "structured"])
def test_a_step_can_be_captured(method: Any, ensemble: Any, graph: type[Graph]) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(9, 12), torch.nn.Tanh(), torch.nn.Linear(12, 5))
    other = copy.deepcopy(model)
    rule = dfa.Ternarize(Spread())
    feedback, expected = (
        dfa.attach(one, ["0"], method=method, ensemble=ensemble, ternarize=rule) for one in (model, other)
    )
    x, wanted = torch.randn(40, 9), torch.randn(40, 5)

    def step(one: Any) -> Any:
        one.zero_grad()
        ((one(x) - wanted) ** 2).sum().backward()
        return one[0].weight.grad.clone()

    for _ in range(3):
        step(model)
    graph.captured = True
    with nothing_waits():
        captured = step(model)
    graph.captured = False
    for _ in range(3):
        step(other)
    assert_same_bits(captured, step(other))  # the fourth step
    assert feedback._engine.passes() == expected._engine.passes() == 4
    assert feedback.statistics.nonzeros == expected.statistics.nonzeros
    assert_same_bits(step(model), step(other))


def test_what_a_step_in_a_graph_cannot_have(graph: type[Graph]) -> None:
    def step(**options: Any) -> None:
        model = torch.nn.Sequential(torch.nn.Linear(9, 12), torch.nn.Tanh(), torch.nn.Linear(12, 5))
        dfa.attach(model, ["0"], method="odfa", **options)
        for graph.captured in (False, True):
            model(torch.ones(3, 9)).sum().backward()

    with pytest.raises(RuntimeError, match="the camera's noise has a seed of the host"):
        step(camera=opuproj.Camera(photons=1e3))
    scaler = torch.amp.GradScaler("cpu")
    with pytest.raises(RuntimeError, match="scaler= reads the gradient scaler's scale on the host"):
        step(scaler=scaler)
