"""ensemble="structured" on tensors, as a layer and in feedback."""

from __future__ import annotations

from typing import Any

import pytest
from helpers import assert_same_bits
from opuproj import Camera
from structured_calls import project


def test_tensors() -> None:
    torch = pytest.importorskip("torch")
    x = torch.randn(3, 4, 300)
    expected = project(x.numpy(), 500)
    y = project(x, 500)
    assert isinstance(y, torch.Tensor)
    assert_same_bits(y.numpy(), expected)
    assert_same_bits(project(x.bfloat16(), 500).numpy(), project(x.bfloat16().float().numpy(), 500))
    assert_same_bits(project(x.transpose(0, 1), 500).numpy(), expected.transpose(1, 0, 2))
    small = torch.randint(-1, 2, (3, 300), dtype=torch.int8)
    assert_same_bits(project(small, 500).numpy(), project(small.double(), 500).numpy())


def test_the_layer() -> None:
    torch = pytest.importorskip("torch")
    from opuproj.torch import Projection, RowMax, Ternarize

    x = torch.randn(5, 300)
    layer = Projection(300, 700, seed=2, rows=(100, 600), ensemble="structured")
    expected = project(x.numpy(), 700, seed=2, rows=(100, 600), mode="linear")
    assert_same_bits(layer(x).numpy(), expected)
    assert "ensemble='structured'" in repr(layer)
    assert "ensemble" not in repr(Projection(300, 700))
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert_same_bits(compiled(x).numpy(), expected)
    assert_same_bits(torch.export.export(layer, (x,)).module()(x).numpy(), expected)

    other = Projection(300, 700, rows=(100, 600))
    other.load_state_dict(layer.state_dict())
    assert other.ensemble == "structured"
    assert_same_bits(other(x).numpy(), expected)
    loaded = Projection(300, 700, ensemble="structured")
    loaded.load_state_dict(Projection(300, 700, seed=9).state_dict())
    assert loaded.ensemble == "gaussian"

    rule = Ternarize(RowMax(0.25))
    t, a = rule(x)
    made = Projection(300, 700, seed=2, ensemble="structured", ternarize=rule)(x)
    assert_same_bits(made.numpy(), (torch.from_numpy(project(t.numpy(), 700, seed=2, mode="linear")) * a).numpy())
    with pytest.raises(NotImplementedError, match="no gradient"):
        layer(x.requires_grad_()).sum().backward()


@pytest.mark.parametrize("method", ["dfa", "odfa"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_feedback(method: Any, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    from opuproj import dfa

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(20, 300), torch.nn.Tanh(), torch.nn.Linear(300, 200), torch.nn.Tanh())
    model.append(torch.nn.Linear(200, 10)).to(getattr(torch, dtype))
    x, y = torch.randn(8, 20, dtype=getattr(torch, dtype)), torch.arange(8)
    feedback = dfa.attach(model, ["1", "3"], method=method, ensemble="structured", seed=4)
    found = feedback.check(lambda: torch.nn.functional.cross_entropy(model(x), y))
    assert all(off < 1e-4 for off in found.blocks.values())
    assert feedback.operator(10).ensemble == "structured"
    assert feedback.state_dict()["ensemble"] == "structured"
    with pytest.raises(ValueError, match="camera is Camera"):
        feedback.camera = Camera.ideal()
    gaussian = {**feedback.state_dict(), "ensemble": "gaussian"}
    with pytest.raises(ValueError, match="ensemble 'gaussian'"):
        feedback.load_state_dict(gaussian)
    with pytest.raises(ValueError, match="ensemble is 'fast'"):
        dfa.attach(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Tanh()), ["1"], ensemble="fast")


def test_errors_that_are_not_finite_stay_so() -> None:
    torch = pytest.importorskip("torch")
    from opuproj import dfa

    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3))
    dfa.attach(model, ["1"], method="dfa", ensemble="structured")
    (model(torch.randn(2, 4)) * torch.tensor([[1.0], [torch.inf]])).sum().backward()
    assert model[0].weight.grad.isnan().any()


def test_no_gradient_flows_through_it() -> None:
    torch = pytest.importorskip("torch")
    from opuproj.torch import Projection

    y = Projection(300, 500, ensemble="structured")(torch.randn(2, 300, requires_grad=True))
    with pytest.raises(NotImplementedError, match="ensemble 'structured'"):
        y.sum().backward()
