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


def gradients(
    method: str, *, bad: bool = False, dtype: Any = torch.float32, n: int = 41, **options: Any
) -> tuple[list[Any], Any]:
    """The gradients of a small model after a step, and its feedback."""
    torch.manual_seed(0)
    layers = [
        torch.nn.Linear(9, 33),
        torch.nn.Tanh(),
        torch.nn.Linear(33, 20),
        torch.nn.Tanh(),
        torch.nn.Linear(20, 70),
    ]
    model = torch.nn.Sequential(*layers).to(dtype)
    feedback = dfa.attach(model, ["0", "2"], method=method, seed=3, **options)
    x, target = torch.randn(n, 9, dtype=torch.float64).to(dtype), torch.randint(0, 70, (n,))
    y = model(x)
    loss = torch.nn.functional.cross_entropy(y, target, reduction="sum")
    if bad:
        loss = loss + (y[3] * float("inf")).sum()
    loss.backward()
    # NumPy has no bfloat16, and float32 holds its numbers.
    return [p.grad.to(torch.promote_types(dtype, torch.float32)) for p in model.parameters()], feedback


CASES: dict[str, dict[str, Any]] = {
    "dfa": {"method": "dfa"},
    "dfa-double": {"method": "dfa", "dtype": torch.float64},
    "dfa-real": {"method": "dfa", "mode": "real"},
    "dfa-structured": {"method": "dfa", "ensemble": "structured"},
    "odfa": {"method": "odfa"},
    "odfa-real": {"method": "odfa", "mode": "real"},
    "odfa-structured": {"method": "odfa", "ensemble": "structured"},
    "odfa-double": {"method": "odfa", "dtype": torch.float64},
    "odfa-bfloat16": {"method": "odfa", "dtype": torch.bfloat16},
    "odfa-real-bfloat16": {"method": "odfa", "mode": "real", "dtype": torch.bfloat16},
    "odfa-float16": {"method": "odfa", "dtype": torch.float16},
    "odfa-few": {"method": "odfa", "n": 5},
    "odfa-many": {"method": "odfa", "n": 4103},
    "odfa-gains": {"method": "odfa", "gain": {"0": 0.0, "2": -3.0}},
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


def test_feedback_is_computed_for_half_of_the_blocks_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from opuproj.dfa import _engine

    monkeypatch.setattr("opuproj.inputs.tensors.tensor_rows", standin_backend.tensor_rows)
    right, sizes = _engine.project, []

    def counted(error: Any, operator: Any) -> Any:
        sizes.append(operator.n_outputs // 9)
        return right(error, operator)

    monkeypatch.setattr(_engine, "project", counted)
    model = torch.nn.Sequential(*[torch.nn.Linear(9, 9) for _ in range(61)])
    dfa.attach(model, [str(i) for i in range(60)], mode="real", method="odfa")
    model(torch.randn(500, 9)).square().sum().backward()
    assert sizes == [30, 30]
    # What a group takes is at most a sixteenth of what the parameters and the blocks' outputs take.
    monkeypatch.setattr("opuproj.dfa._groups._BYTES", 0)
    model(torch.randn(500, 9)).square().sum().backward()
    used, a_block = 4 * (61 * 90 + 60 * 500 * 9), 9 * (4 * 500 + 9)
    assert max(sizes[2:]) == used // 16 // a_block == 3


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
@pytest.mark.parametrize("factor", [4.0, "auto"])
def test_dither_of_errors_of_any_size(factor: Any, exponent: int) -> None:
    e = torch.randn(20, 50, generator=torch.Generator().manual_seed(0)) * 2.0**exponent
    where = torch.rand(20, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    class OnGpu(torch.Tensor):
        """A tensor that says it is on a GPU."""

        device = torch.device("cuda")

    rule = dfa.Dither(factor)
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
        dfa.attach(model, ["0"], **{"method": "odfa", **options})
        for graph.captured in (False, True):
            model(torch.ones(3, 9)).sum().backward()

    with pytest.raises(RuntimeError, match="the camera's noise has a seed of the host"):
        step(camera=opuproj.Camera(photons=1e3))
    scaler = torch.amp.GradScaler("cpu")
    with pytest.raises(RuntimeError, match="scaler= reads the gradient scaler's scale on the host"):
        step(scaler=scaler)
    with pytest.raises(RuntimeError, match="method 'fitted' has passes of two kinds"):
        step(method="fitted")
