"""Training steps on a GPU. These tests run only where there is one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from opuproj import backends

torch = pytest.importorskip("torch")
on_gpu = torch.cuda.is_available() and backends.backend("cuda").name == "cuda"
pytestmark = pytest.mark.skipif(not on_gpu, reason="no GPU that opuproj can use")

from opuproj import dfa  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812

N_LAYERS, WIDTH, CLASSES = 10, 96, 40


def parts(dtype: Any = torch.float32, activation: type[nn.Module] = nn.Tanh) -> tuple[Any, list[Any], Any]:
    torch.manual_seed(0)
    first = nn.Sequential(nn.Linear(30, WIDTH), activation())
    layers = [nn.Sequential(nn.Linear(WIDTH, WIDTH), activation()) for _ in range(N_LAYERS)]
    head = nn.Linear(WIDTH, CLASSES)
    for module in (first, *layers, head):
        module.to("cuda", dtype)
    return first, layers, head


def batch(dtype: Any = torch.float32, n: int = 64) -> tuple[Any, Any]:
    random = torch.Generator().manual_seed(1)
    x = torch.randn(n, 30, generator=random)
    return x.to("cuda", dtype), torch.randint(0, CLASSES, (n,), generator=random).cuda()


def vector(model: Any) -> Any:
    return nn.utils.parameters_to_vector(model.parameters()).detach().double()


@pytest.mark.parametrize("mode", ["linear", "real"])
@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU, nn.GELU])
def test_the_step_of_attach(mode: Any, activation: type[nn.Module]) -> None:
    first, layers, head = parts(torch.float64, activation)
    before = nn.Sequential(first, *layers, head)
    model = copy.deepcopy(before)
    old = vector(before)
    dfa.attach(model, [str(i) for i in range(N_LAYERS + 1)], mode=mode)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    step = dfa.StackStep(first, layers, head, F.cross_entropy, lr=0.1, mode=mode)
    x, y = batch(torch.float64)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        step(x, y)
    assert float((vector(step.model) - vector(model)).norm()) < 1e-9 * float((vector(model) - old).norm())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_step_on_the_cpu(dtype: Any) -> None:
    found = []
    for device in ("cpu", "cuda"):
        modules = [module.to(device) for module in nn.ModuleList([parts(dtype)[0], *parts(dtype)[1], parts(dtype)[2]])]
        step = dfa.StackStep(modules[0], modules[1:-1], modules[-1], F.cross_entropy, lr=0.1, mode="real")
        old = vector(step.model).cpu()
        x, y = batch(dtype)
        step(x.to(device), y.to(device))
        found.append(vector(step.model).cpu())
    assert float((found[0] - found[1]).norm()) < 0.05 * float((found[0] - old).norm())


@pytest.mark.parametrize("how", ["descent", "adam"])
def test_a_captured_step(how: str) -> None:
    options: dict[str, Any] = {"lr": 0.1}
    if how == "adam":
        options = {"optimizer": lambda p: torch.optim.Adam(p, lr=1e-3, capturable=True)}
    eager, captured = (dfa.StackStep(*parts(), F.cross_entropy, mode="real", **options) for _ in range(2))
    x, y = batch()
    captured.capture(x, y)
    for _ in range(3):
        eager(x, y)
    for n in (64, 64, 32, 64):  # 32 vectors run without the graph
        x, y = batch(n=n)
        assert float(captured(x, y)) == pytest.approx(float(eager(x, y)), rel=1e-4)
    assert captured.state_dict()["passes"] == eager.state_dict()["passes"] == 7
    difference = float((vector(eager.model) - vector(captured.model)).norm())
    assert difference < 1e-3 * float(vector(eager.model).norm())
    if how == "descent":
        captured.lr = 1e-9
        before = vector(captured.model)
        captured(*batch())
        assert float((vector(captured.model) - before).norm()) < 1e-6 * float(before.norm())


def test_feedback_of_many_blocks_takes_little_memory() -> None:
    peaks = {}
    for method in ("bp", "odfa"):
        torch.cuda.empty_cache()
        model = nn.Sequential(*[nn.Sequential(nn.Linear(1024, 1024), nn.Tanh()) for _ in range(33)]).cuda()
        dfa.attach(model, [str(i) for i in range(32)], method=method, mode="real")
        x = torch.randn(1024, 1024, device="cuda")
        for _ in range(2):
            torch.cuda.reset_peak_memory_stats()
            model.zero_grad(set_to_none=True)
            model(x).square().mean().backward()
        peaks[method] = torch.cuda.max_memory_allocated()
        del model
    assert peaks["odfa"] <= 1.1 * peaks["bp"]
