"""The forms of a training step that examples/scaling.py compares: that they are steps, and what is required of them."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tqdm")
pytest.importorskip("matplotlib")


pytestmark = pytest.mark.usefixtures("examples")


def module(name: str) -> Any:
    return importlib.import_module(f"common.scaling.{name}")


def test_backpropagation_by_hand_is_that_of_autograd() -> None:
    by_hand = module("handwritten").StackedBackpropagation(7, 12, 5, 9, rate=0.3, dtype=torch.float64)
    sources = [by_hand.first, *by_hand.weights, by_hand.last]
    weights = [w.clone().requires_grad_() for w in sources]
    random = torch.Generator().manual_seed(1)
    x, y = torch.randn(16, 7, dtype=torch.float64, generator=random), torch.randint(9, (16,), generator=random)
    for _ in range(3):
        h = x
        for w in weights[:-1]:
            h = torch.tanh(h @ w.t())
        loss = torch.nn.functional.cross_entropy(h @ weights[-1].t(), y)
        gradients = torch.autograd.grad(loss, weights)
        assert float(by_hand.step(x, y)) == pytest.approx(float(loss.detach()), rel=1e-12)
        with torch.no_grad():
            for w, gradient in zip(weights, gradients, strict=True):
                w -= 0.3 * gradient
    now = [by_hand.first, *by_hand.weights, by_hand.last]
    for mine, theirs in zip(now, weights, strict=True):
        assert torch.allclose(mine, theirs.detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("family", ["mlp", "gpt"])
def test_every_eager_form_trains(family: str) -> None:
    forms, devices = module("forms"), importlib.import_module("common.devices")
    size = module("steps").Size(family, 32, 3, 4, n_inputs=10, n_outputs=6)
    found = [form for form in forms.forms(devices.CPU, family) if not form.best]
    assert len({form.name for form in found}) == len(found) == (17 if family == "mlp" else 12)
    for form in found:
        step = forms.step_of(form, size, devices.CPU)
        losses = [float(step()) for _ in range(2)]
        # A step of this rate changes little, and bfloat16 rounds the losses.
        assert losses[1] < losses[0] or (form.precision == "autocast" and losses[1] < losses[0] + 1e-3), form.name


def test_what_is_required_of_a_form() -> None:
    comparison, forms, steps = module("comparison"), module("forms"), module("steps")

    def size(batch: int, width: int = 3080) -> Any:
        return steps.Size("mlp", width, 96, batch, n_inputs=784, n_outputs=1016)

    stack = forms.Form("odfa stack", "bfloat16", True, "real")
    assert [comparison.required(stack, size(batch)) for batch in (64, 1024, 4096)] == [1.0, 0.85, 0.85]
    assert comparison.required(forms.Form("odfa", "TF32", True, "real"), size(1024)) == 0.8
    assert comparison.required(stack, size(1024, width=1024)) is None
    for other in (("bp", "TF32", True), ("odfa", "TF32", False, "real"), ("odfa", "TF32", True, "linear")):
        assert comparison.required(forms.Form(*other), size(1024)) is None
    result = {"form": "a", "batch": 64, "required": 0.8, "ratio": 0.7, "peak": 105, "base_peak": 100}
    assert comparison.missed([result, {**result, "required": None, "ratio": 2.0}]) == []
    assert len(comparison.missed([{**result, "ratio": 0.9}])) == 1
    assert len(comparison.missed([{**result, "peak": 120}])) == 1
    assert comparison.missed([{"form": "a", "batch": 64, "required": 1.0, "failed": "no memory"}]) != []


def test_the_deepest_network_is_found() -> None:
    deepest, steps = module("deepest"), module("steps")
    asked = []

    def peak(size: Any, way: str) -> int | None:
        asked.append(size.layers)
        return None if size.layers > 900 else 1000 * size.layers

    def size(layers: int) -> Any:
        return steps.Size("mlp", 8, layers, 2)

    layers, used, tried = deepest.deepest(size, "bp", 500_000, peak)
    assert 490 <= layers <= 500
    assert used == 1000 * layers
    assert [n for n, _ in tried] == sorted(asked)
    assert len(set(asked)) == len(asked)
    assert deepest.deepest(size, "bp", 10, peak)[:2] == (0, 0)
    assert 880 <= deepest.deepest(size, "bp", 10**9, peak)[0] <= 900


@pytest.mark.parametrize("way", ["bp", "bp, checkpoints", "dfa", "odfa", "odfa, stack"])
def test_each_way_of_training_takes_two_steps(way: str) -> None:
    deepest, devices = module("deepest"), importlib.import_module("common.devices")
    size = module("steps").Size("mlp", 16, 6, 32, n_inputs=10, n_outputs=6)
    first, second = deepest.two_steps(size, way, devices.CPU)
    assert second < first
    if way == "bp, checkpoints":
        assert (first, second) == pytest.approx(deepest.two_steps(size, "bp", devices.CPU), rel=1e-5)
