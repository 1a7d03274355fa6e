"""Training with weights in the host's memory: the same steps as with weights on the device, and what moves in them."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from opuproj import dfa

torch = pytest.importorskip("torch")
pytest.importorskip("tqdm")
pytest.importorskip("matplotlib")


pytestmark = pytest.mark.usefixtures("examples")

STEPS, RATE = 3, 0.05


def module(name: str = "offload") -> Any:
    return importlib.import_module(f"common.scaling.{name}")


def stack(optimizer: str = "sgd", layers: int = 7) -> Any:
    return module().Stack(width=12, layers=layers, batch=10, n_outputs=6, optimizer=optimizer)


def reference(network: Any, method: dfa.Method) -> tuple[list[float], list[Any]]:
    """Train the same network by autograd, with feedback attached; return the losses, and all weights."""
    size = network.stack
    linear = [torch.nn.Linear(size.width, size.width, bias=False) for _ in range(size.layers)]
    head = torch.nn.Linear(size.width, size.n_outputs, bias=False)
    model = torch.nn.Sequential(*(torch.nn.Sequential(layer, torch.nn.Tanh()) for layer in linear), head)
    with torch.no_grad():
        for layer, weight in zip(linear, network.weights.host, strict=True):
            layer.weight.copy_(weight)
        head.weight.copy_(network.head)
    rule = dfa.Ternarize(dfa.RowMax(0.25), norm="row")
    dfa.attach(model, list(model)[:-1], method=method, ternarize=rule)
    make = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[size.optimizer]
    optimizer = make(model.parameters(), lr=RATE)
    losses = []
    for _ in range(STEPS):
        loss = torch.nn.functional.cross_entropy(model(network.x), network.y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses, [layer.weight.detach() for layer in (*linear, head)]


@pytest.mark.parametrize("resident", [False, True])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("method", ["bp", "odfa"])
def test_a_step_is_that_of_autograd(method: str, optimizer: str, resident: bool) -> None:
    network = module().METHODS[method](stack(optimizer), resident=resident, rate=RATE)
    losses, weights = reference(network, method)
    found = [float(network.step()) for _ in range(STEPS)]
    network.finish()
    assert found == pytest.approx(losses, rel=1e-4)
    for mine, theirs in zip([*network.read(), network.head], weights, strict=True):
        # Adam divides by roots of squares, which enlarges rounding where gradients are small.
        assert torch.allclose(mine, theirs, rtol=1e-3, atol=1e-5 if optimizer == "sgd" else 1e-3)


@pytest.mark.parametrize(("method", "up"), [("bp", 2), ("odfa", 1)])
def test_backpropagation_brings_each_weight_twice_and_feedback_once(method: str, up: int) -> None:
    layers, slots = 20, module().SLOTS
    network = module().METHODS[method](stack("adam", layers))
    network.step()
    before = network.moved()
    network.step()
    moved = {key: value - before[key] for key, value in network.moved().items()}
    # Layers that are in the window where a pass turns do not come again.
    turns = {"bp": 2, "odfa": 0}[method]
    assert moved["weights up"] == up * layers - turns * slots
    assert moved["weights down"] == moved["states down"] == layers
    assert layers - slots <= moved["states up"] <= layers


class LateCopies:
    """Copies that happen as late as a GPU may do them: when something waits for their event, or for a later one."""

    def __init__(self, device: Any):
        self.device = device
        self.queues: dict[str, list[Any]] = {"up": [], "down": []}

    def host(self, tensor: Any) -> Any:
        return tensor

    def up(self, target: Any, source: Any, after: Any) -> Any:
        return self.issue("up", target, source, after)

    def down(self, target: Any, source: Any, after: Any) -> Any:
        return self.issue("down", target, source, after)

    def issue(self, way: str, target: Any, source: Any, after: Any) -> Any:
        self.queues[way].append((target, source, after))
        return way, len(self.queues[way])

    def computed(self) -> None:
        """Products are computed at once."""

    def wait(self, event: Any) -> None:
        if event is None:
            return
        way, count = event
        for place, copy in enumerate(self.queues[way][:count]):
            if copy is not None:
                target, source, after = copy
                self.queues[way][place] = None
                for one in after:
                    self.wait(one)
                target.copy_(source)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("method", ["bp", "odfa"])
@pytest.mark.parametrize("layers", [4, 5, 12])
def test_copies_that_happen_late_change_nothing(
    method: str, optimizer: str, layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = module().METHODS[method](stack(optimizer, layers), rate=RATE)
    losses = [float(expected.step()) for _ in range(STEPS)]
    monkeypatch.setattr(module(), "Copies", LateCopies)
    network = module().METHODS[method](stack(optimizer, layers), rate=RATE)
    assert [float(network.step()) for _ in range(STEPS)] == losses
    assert sum(copy is None for copy in network.weights.copies.queues["down"]) > 0


def test_where_the_methods_cross() -> None:
    times = module("offload_times")
    ratios = {10: 1.2, 20: 0.9, 30: 1.1, 40: 0.8, 50: 0.7}
    results = [{"parameters": n, "ratio": ratio, "weights": "host"} for n, ratio in ratios.items()]
    assert times.crossing(results, "host") == 40
    assert times.crossing(results, "device") is None
    assert times.crossing([{**one, "ratio": 1.0} for one in results], "host") is None


def test_what_moves_is_measured_and_sizes_that_do_not_fit_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times, devices = module("offload_times"), importlib.import_module("common.devices")
    sizes = [stack(layers=layers) for layers in (4, 20)]
    found = times.compare(sizes, devices.CPU, tmp_path, progress=False, rounds=(2, 2, 0.0))
    assert [(one["layers"], one["weights"]) for one in found] == [
        (layers, place) for layers in (4, 20) for place in ("device", "host")
    ]
    one_layer = 4 * 12**2
    assert found[0]["moved"] == {method: {"up": 0, "down": 0} for method in ("bp", "odfa")}
    assert found[-1]["moved"]["bp"] == {"up": 34 * one_layer, "down": 20 * one_layer}
    assert found[-1]["moved"]["odfa"] == {"up": 20 * one_layer, "down": 20 * one_layer}
    again = times.compare(sizes, devices.CPU, tmp_path, progress=False, rounds=(2, 2, 0.0))
    assert [one["seconds"] for one in again] == [one["seconds"] for one in found]
    assert "ODFA is faster than BP" in times.show(found)
    monkeypatch.setattr(times.memory, "available", lambda: 1000)
    assert times.compare(sizes, devices.CPU, tmp_path / "small", progress=False) == []
