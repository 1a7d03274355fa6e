"""Training steps of stacks of equal layers: the parameters that attach and an optimizer of torch train."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import standin_backend
from opuproj import backends

torch = pytest.importorskip("torch")
from opuproj import dfa  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812

N_LAYERS, WIDTH, CLASSES = 7, 12, 5


def layer(activation: type[nn.Module] | None, *, bias: bool = True) -> nn.Module:
    linear = nn.Linear(WIDTH, WIDTH, bias=bias)
    return linear if activation is None else nn.Sequential(linear, activation())


class Residual(nn.Module):
    """A layer with a skip connection, as in a Transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 20), nn.Linear(20, WIDTH)

    def forward(self, x: Any) -> Any:
        return x + self.down(F.gelu(self.up(self.norm(x))))


def parts(make: Any, dtype: Any = torch.float64, first: Any = None) -> tuple[Any, list[Any], Any]:
    """The first part of a model, its layers, and its head."""
    torch.manual_seed(0)
    first = nn.Sequential(nn.Linear(9, WIDTH), nn.Tanh()) if first is None else first
    layers, head = [make() for _ in range(N_LAYERS)], nn.Linear(WIDTH, CLASSES)
    for module in (first, *layers, head):
        module.to(dtype)
    return first, layers, head


def batches(n: int, dtype: Any = torch.float64) -> Any:
    random = torch.Generator().manual_seed(1)
    for _ in range(n):
        yield (
            torch.randn(16, 9, dtype=torch.float64, generator=random).to(dtype),
            torch.randint(0, CLASSES, (16,), generator=random),
        )


def attached(model: Any, n_blocks: int, optimizer: Any, steps: Any, loss: Any = F.cross_entropy, **options: Any) -> Any:
    """Train a copy of a model by attach; return the copy and its losses."""
    model = copy.deepcopy(model)
    feedback = dfa.attach(model, [str(i) for i in range(n_blocks)], **options)
    optimizer, losses = optimizer(model.parameters()), []
    for x, y in steps:
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        optimizer.step()
        losses.append(float(value.detach()))
    feedback.remove()
    return model, losses


def assert_same_model(one: Any, other: Any, tolerance: float = 1e-10) -> None:
    for (name, a), (_, b) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        assert torch.allclose(a, b, rtol=tolerance, atol=tolerance), name


LAYERS: dict[str, Any] = {
    "tanh": lambda: layer(nn.Tanh),
    "sigmoid": lambda: layer(nn.Sigmoid),
    "relu": lambda: layer(nn.ReLU),
    "linear": lambda: layer(None),
    "no-bias": lambda: layer(nn.Tanh, bias=False),
    "gelu": lambda: layer(nn.GELU),
    "residual": Residual,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "odfa": {},
    "real": {"mode": "real", "seed": 5, "gain": 0.5},
    "dfa": {"method": "dfa"},
    "structured": {"ensemble": "structured"},
    "rows": {"ternarize": dfa.Ternarize(dfa.RowMax(0.3), norm="row")},
}


@pytest.mark.parametrize("make", LAYERS)
@pytest.mark.parametrize("options", OPTIONS)
def test_the_step_of_attach_and_gradient_descent(make: str, options: str) -> None:
    first, layers, head = parts(LAYERS[make])
    model = nn.Sequential(first, *layers, head)
    wanted, losses = attached(model, N_LAYERS + 1, lambda p: torch.optim.SGD(p, lr=0.3), batches(4), **OPTIONS[options])
    step = dfa.StackStep(first, layers, head, F.cross_entropy, lr=0.3, **OPTIONS[options])
    found = [float(step(x, y)) for x, y in batches(4)]
    assert found == pytest.approx(losses, rel=1e-10)
    assert_same_model(step.model, wanted)
    moved = max(
        float((a - b).detach().abs().max()) for a, b in zip(wanted.parameters(), model.parameters(), strict=True)
    )
    assert moved == pytest.approx(0, abs=1e-10)  # the layers that were given are those of the step


def test_layers_alone_and_those_of_a_module_list() -> None:
    _, layers, head = parts(LAYERS["tanh"])
    steps = [(x[:, :1].expand(16, WIDTH).contiguous(), y) for x, y in batches(3)]
    wanted, _ = attached(nn.Sequential(*layers, head), N_LAYERS, lambda p: torch.optim.SGD(p, lr=0.1), steps)
    step = dfa.StackStep(None, nn.ModuleList(layers), head, F.cross_entropy, lr=0.1)
    for x, y in steps:
        step(x, y)
    assert_same_model(step.model, wanted)


@pytest.mark.parametrize("most", [1, 2, 3, 7, 100])
def test_groups_of_any_size_give_the_same_parameters(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for n in (3, most):
        monkeypatch.setattr("opuproj.dfa.stack_step.most_blocks", lambda n_blocks, on_gpu, n=n: n)
        step = dfa.StackStep(*parts(LAYERS["tanh"]), F.cross_entropy, lr=0.2)
        for x, y in batches(2):
            step(x, y)
        found.append(step.model)
    assert_same_model(*found)


@pytest.mark.parametrize("make", ["tanh", "residual"])
def test_an_optimizer(make: str) -> None:
    first, layers, head = parts(LAYERS[make])
    wanted, _ = attached(
        nn.Sequential(first, *layers, head), N_LAYERS + 1, lambda p: torch.optim.AdamW(p, lr=1e-2), batches(5)
    )
    step = dfa.StackStep(first, layers, head, F.cross_entropy, optimizer=lambda p: torch.optim.AdamW(p, lr=1e-2))
    for x, y in batches(5):
        step(x, y)
    assert_same_model(step.model, wanted, 1e-7)
    assert len(step.optimizer.param_groups[0]["params"]) < len(list(step.model.parameters()))


class Tokens(nn.Module):
    """An embedding, whose weights the head may share."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(CLASSES, WIDTH)

    def forward(self, x: Any) -> Any:
        return self.embedding(x)


@pytest.mark.parametrize("kind", ["tanh", "residual"])
@pytest.mark.parametrize("optimizer", [False, True])
def test_positions_with_errors_of_their_own_and_tied_embeddings(kind: str, optimizer: bool) -> None:
    random = torch.Generator().manual_seed(0)
    first, layers, head = parts(LAYERS[kind], first=Tokens())
    head.weight = first.embedding.weight
    model = nn.Sequential(first, *layers, head)
    steps = [torch.randint(0, CLASSES, (2, 3, 6), generator=random) for _ in range(3)]

    def loss(y: Any, target: Any) -> Any:
        return F.cross_entropy(y.flatten(0, 1), target.flatten())

    def make(p: Any) -> Any:
        return torch.optim.Adam(p, lr=1e-2) if optimizer else torch.optim.SGD(p, lr=0.1)

    wanted, _ = attached(model, N_LAYERS + 1, make, steps, loss, batch_axes=2)
    how: dict[str, Any] = {"optimizer": make} if optimizer else {"lr": 0.1}
    step = dfa.StackStep(first, layers, head, loss, batch_axes=2, **how)
    for x, y in steps:
        step(x, y)
    assert_same_model(step.model, wanted, 1e-7)


def test_examples_whose_positions_form_one_vector() -> None:
    first, layers, head = parts(LAYERS["tanh"], first=Tokens())
    head = nn.Sequential(nn.Flatten(), nn.Linear(3 * WIDTH, CLASSES).double())
    steps = [(torch.arange(12).reshape(4, 3) % CLASSES, torch.arange(4))] * 2
    wanted, _ = attached(nn.Sequential(first, *layers, head), N_LAYERS + 1, lambda p: torch.optim.SGD(p, lr=0.1), steps)
    step = dfa.StackStep(first, layers, head, F.cross_entropy, lr=0.1)
    for x, y in steps:
        step(x, y)
    assert_same_model(step.model, wanted)


def test_autocast_computes_in_bfloat16_and_keeps_parameters() -> None:
    first, layers, head = parts(LAYERS["tanh"], torch.float32)
    model = nn.Sequential(first, *layers, head)
    before = copy.deepcopy(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        steps = batches(1, torch.float32)  # no threshold makes small differences large
        wanted, _ = attached(model, N_LAYERS + 1, lambda p: torch.optim.SGD(p, lr=0.3), steps, method="dfa")
        step = dfa.StackStep(first, layers, head, F.cross_entropy, lr=0.3, method="dfa")
        for x, y in batches(1, torch.float32):
            step(x, y)
    assert {p.dtype for p in step.model.parameters()} == {torch.float32}
    new, other, old = (nn.utils.parameters_to_vector(one.parameters()).detach() for one in (step.model, wanted, before))
    assert 0 < float((new - other).norm()) < 0.01 * float((other - old).norm())


@pytest.mark.parametrize("make", ["tanh", "residual"])
def test_autocast_may_surround_several_steps(make: str) -> None:
    """Autocast keeps its casts of parameters until it ends, but each step must use the present ones."""
    models = []
    for around_all in (False, True):
        step = dfa.StackStep(*parts(LAYERS[make], torch.float32), F.cross_entropy, lr=0.3, method="dfa")
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=around_all):
            for x, y in batches(4, torch.float32):
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    step(x, y)
        models.append(step.model)
    assert_same_model(*models)


@pytest.mark.skipif(standin_backend.DEVICE not in backends.registered(), reason="needs g++")
@pytest.mark.parametrize("make", ["tanh", "relu", "linear", "gelu"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("mode", ["linear", "real"])
def test_on_a_gpu(make: str, dtype: Any, mode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for on_gpu in (False, True):
        if on_gpu:
            monkeypatch.setattr("opuproj.inputs.tensors.tensor_rows", standin_backend.tensor_rows)
        step = dfa.StackStep(*parts(LAYERS[make], dtype), F.cross_entropy, lr=0.1, mode=mode)
        before = copy.deepcopy(step.model)
        for x, y in batches(2, dtype):
            step(x, y)
        found.append(step.model)
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 0.1}[dtype]
    for a, b, old in zip(*(model.state_dict().values() for model in (*found, before)), strict=True):
        assert float((a - b).norm()) <= tolerance * float((a - old).norm())


@pytest.mark.skipif(standin_backend.DEVICE not in backends.registered(), reason="needs g++")
@pytest.mark.parametrize("mode", ["linear", "real"])
def test_layers_of_more_vectors_than_are_multiplied_together(mode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opuproj.backends.cuda.unread.MOST_VECTORS", 12)
    test_on_a_gpu("tanh", torch.float64, mode, monkeypatch)


@pytest.mark.skipif(standin_backend.DEVICE not in backends.registered(), reason="needs g++")
@pytest.mark.parametrize("make", ["tanh", "residual"])
def test_a_step_on_a_gpu_does_not_wait(make: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from captures import nothing_waits

    monkeypatch.setattr("opuproj.inputs.tensors.tensor_rows", standin_backend.tensor_rows)
    rule = dfa.Ternarize(dfa.RowMax(0.3))  # Dither takes another way on the CPU
    step = dfa.StackStep(*parts(LAYERS[make], torch.float32), F.cross_entropy, lr=0.1, ternarize=rule)
    (x, y) = next(iter(batches(1, torch.float32)))
    step(x, y)
    with nothing_waits():
        step(x, y)


# Settings and state


def test_the_rate_can_change() -> None:
    step, other = (dfa.StackStep(*parts(LAYERS["tanh"]), F.cross_entropy, lr=lr) for lr in (0.3, 0.1))
    step.lr = 0.1
    assert step.lr == pytest.approx(0.1)
    for x, y in batches(2):
        step(x, y)
        other(x, y)
    assert_same_model(step.model, other.model)
    with pytest.raises(ValueError, match="lr is -1"):
        step.lr = -1


def test_a_state_continues_the_training() -> None:
    def make() -> Any:
        return dfa.StackStep(*parts(LAYERS["tanh"]), F.cross_entropy, optimizer=lambda p: torch.optim.Adam(p, lr=1e-2))

    whole, first, second = make(), make(), make()
    steps = list(batches(4))
    for x, y in steps:
        whole(x, y)
    for x, y in steps[:2]:
        first(x, y)
    second.model.load_state_dict(copy.deepcopy(first.model.state_dict()))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for x, y in steps[2:]:
        second(x, y)
    assert_same_model(whole.model, second.model)
    descent = dfa.StackStep(*parts(LAYERS["tanh"]), F.cross_entropy, lr=0.1)
    with pytest.raises(ValueError, match="state is of a step with an optimizer, but this step is StackStep"):
        descent.load_state_dict(first.state_dict())
    with pytest.raises(ValueError, match=r"state has \['x'\], but must have"):
        descent.load_state_dict({"x": 1})


def test_memory_of_a_pass_is_freed() -> None:
    step = dfa.StackStep(*parts(LAYERS["tanh"]), F.cross_entropy, lr=0.1)
    (x, y) = next(iter(batches(1)))
    step(x, y)
    assert step._kind is not None
    assert step._kind.output_bytes == 0


# Misuse


def frozen() -> Any:
    first, layers, head = parts(LAYERS["tanh"])
    layers[3][0].bias.requires_grad_(False)
    return first, layers, head


def wider() -> Any:
    first, layers, head = parts(LAYERS["tanh"])
    layers[2] = nn.Sequential(nn.Linear(WIDTH, WIDTH + 1), nn.Tanh()).double()
    return first, layers, head


def repeated() -> Any:
    first, layers, head = parts(LAYERS["tanh"])
    return first, [*layers, layers[1]], head


def shared() -> Any:
    first, layers, head = parts(LAYERS["tanh"])
    layers[4][0].weight = first[0].weight = nn.Parameter(torch.zeros(WIDTH, WIDTH, dtype=torch.float64))
    return first, layers, head


@pytest.mark.parametrize(
    ("make", "options", "error", "message"),
    [
        (frozen, {}, ValueError, r"'0.bias' of layers\[3\] has requires_grad=False"),
        (
            wider,
            {},
            ValueError,
            r"'0.weight' of layers\[2\] is \(13, 12\), torch.float64 on cpu, but that of layers\[0\]",
        ),
        (repeated, {}, ValueError, r"layers\[1\] and layers\[7\] share '0.weight'"),
        (shared, {}, ValueError, r"layers\[4\] shares '0.weight' with first or head"),
        (lambda: (None, [], nn.Linear(2, 2)), {}, ValueError, "layers is empty"),
        (lambda: (None, [nn.Tanh()], nn.Linear(2, 2)), {}, ValueError, r"layers\[0\] is a Tanh without parameters"),
        (lambda: (None, [nn.Linear(2, 2)], nn.Identity()), {}, ValueError, "head has no parameter that is trained"),
        (
            lambda: (3, [nn.Linear(2, 2)], nn.Linear(2, 2)),
            {},
            TypeError,
            "first is a int, but must be a torch.nn.Module",
        ),
        (lambda: (None, 3, nn.Linear(2, 2)), {}, TypeError, "layers is a int, but must be a sequence of modules"),
        (lambda: parts(LAYERS["tanh"]), {"lr": None}, ValueError, "one of them must be given"),
        (lambda: parts(LAYERS["tanh"]), {"optimizer": torch.optim.SGD}, ValueError, "one of them must be given"),
        (lambda: parts(LAYERS["tanh"]), {"lr": 0.0}, ValueError, "lr is 0.0"),
        (lambda: parts(LAYERS["tanh"]), {"method": "bp"}, ValueError, "method is 'bp', but must be 'odfa' or 'dfa'"),
        (lambda: parts(LAYERS["tanh"]), {"mode": "complex"}, ValueError, "mode is 'complex'"),
        (lambda: parts(LAYERS["tanh"]), {"batch_axes": 0}, ValueError, "batch_axes is 0"),
        (lambda: parts(LAYERS["tanh"]), {"gain": float("nan")}, ValueError, "gain is nan"),
        (
            lambda: parts(LAYERS["tanh"]),
            {"lr": None, "optimizer": lambda p: None},
            TypeError,
            "optimizer returned a NoneType",
        ),
    ],
)
def test_misuse(make: Any, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        dfa.StackStep(*make(), F.cross_entropy, **{"lr": 0.1, **options})


def test_misuse_of_a_step() -> None:
    step = dfa.StackStep(*parts(LAYERS["tanh"]), F.cross_entropy, lr=0.1)
    (x, y) = next(iter(batches(1)))
    with pytest.raises(RuntimeError, match="x is on cpu, but only a GPU captures a step"):
        step.capture(x, y)
    step.model.float()
    with pytest.raises(RuntimeError, match=r"'0.weight' of layers\[0\] is no longer in the memory of the step"):
        step(x.float(), y)
    alone = dfa.StackStep(None, parts(LAYERS["tanh"])[1], nn.Linear(WIDTH, CLASSES).double(), F.cross_entropy, lr=0.1)
    with pytest.raises(
        ValueError, match=r"the layers get torch.float64 of shape \(16, 9\), but must get torch.float64"
    ):
        alone(x, y)
    with pytest.raises(TypeError, match=r"x is a tensor of torch\.int64, but must be a floating-point tensor"):
        alone(y, y)


def test_a_layer_that_changes_the_shape() -> None:
    class Halves(nn.Linear):
        def forward(self, x: Any) -> Any:
            return super().forward(x)[:, ::2]

    first, _, head = parts(LAYERS["tanh"])
    step = dfa.StackStep(first, [Halves(WIDTH, WIDTH).double()], head, F.cross_entropy, lr=0.1)
    with pytest.raises(ValueError, match=r"layers\[0\] returned \(16, 6\), but must return a tensor of its input's"):
        step(*next(iter(batches(1))))
