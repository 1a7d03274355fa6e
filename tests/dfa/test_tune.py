"""The search for learning rates: what it finds, what it says, and that it leaves no trace."""

from __future__ import annotations

import copy
import math
import random
import re
from typing import Any

import numpy as np
import pytest
from dfa_models import F, Language, examples, language_loss, mlp, nn, sentences, torch
from helpers import assert_same_bits
from opuproj import dfa

BLOCKS = ["hidden.0", "hidden.1"]


class Model(nn.Module):
    """A network with buffers, dropout and a head, in which two batches share no state but these."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(16, 12)
        self.net.hidden[0].append(nn.Dropout(0.2))
        self.net.hidden[1].append(nn.BatchNorm1d(12))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Any) -> Any:
        self.seen = self.seen + 1  # replaces the buffer
        random.random(), np.random.rand()  # noqa: NPY002
        return self.net(x)


def batches(n: int = 6, size: int = 24) -> list[Any]:
    """Batches whose classes follow from the inputs by a product, which a linear map of them cannot give."""
    random = torch.Generator().manual_seed(5)
    x = torch.randn(n * size, 20, generator=random)
    y = (x[:, 0] * x[:, 1] > 0).long() + 2 * (x[:, 2] * x[:, 3] > 0).long()
    return list(zip(x.split(size), y.split(size), strict=True))


def attached(method: Any = "odfa", **arguments: Any) -> tuple[Any, Any, Any]:
    model = Model()
    feedback = dfa.attach(model, [f"net.{name}" for name in BLOCKS], method=method, seed=1, **arguments)
    return model, feedback, lambda batch: F.cross_entropy(model(batch[0]), batch[1])


def state_of(model: Any, optimizer: Any, feedback: Any) -> dict[str, Any]:
    statistics = copy.deepcopy(feedback.statistics)
    return {
        "model": copy.deepcopy(model.state_dict()),
        "gradients": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "optimizer": copy.deepcopy(optimizer.state_dict()),
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": [np.asarray(part) for part in np.random.get_state()[1:]],  # noqa: NPY002
        "modes": [module.training for module in model.modules()],
        "feedback": feedback.state_dict(),
        "statistics": vars(statistics),
    }


def assert_equal(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for mine, theirs in zip(one, other, strict=True):
            assert_equal(mine, theirs)
    elif isinstance(one, torch.Tensor | np.ndarray):
        assert_same_bits(one, other)
    else:
        assert one == other


def trained_a_little(method: Any = "odfa") -> tuple[Any, Any, Any, Any]:
    """A model in the middle of its training: an optimizer with state, gradients, one module in evaluation mode."""
    model, feedback, loss = attached(method)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for batch in batches(3):
        optimizer.zero_grad()
        loss(batch).backward()
        optimizer.step()
    model.net.hidden[1].eval()
    return model, feedback, loss, optimizer


# No trace


@pytest.mark.parametrize("method", ["odfa", "dfa"])
def test_a_search_changes_nothing(method: Any) -> None:
    model, feedback, loss, optimizer = trained_a_little(method)
    groups, buffer, state = optimizer.param_groups[0], model.seen, optimizer.state
    before = state_of(model, optimizer, feedback)
    gradients = [p.grad for p in model.parameters()]
    feedback.tune(loss, batches(), optimizer, steps=2, progress=False)
    assert_equal(state_of(model, optimizer, feedback), before)
    assert all(p.grad is gradient for p, gradient in zip(model.parameters(), gradients, strict=True))
    assert optimizer.param_groups == [groups]
    assert optimizer.state is state
    assert model.seen is buffer


def test_training_goes_on_as_without_a_search() -> None:
    ends = []
    for searched in (False, True):
        torch.manual_seed(3), random.seed(3), np.random.seed(3)  # noqa: NPY002
        model, feedback, loss, optimizer = trained_a_little()
        if searched:
            feedback.tune(loss, batches(), optimizer, steps=2, progress=False)
        for batch in batches(4):
            optimizer.zero_grad()
            loss(batch).backward()
            optimizer.step()
        ends.append(state_of(model, optimizer, feedback))
    del ends[0]["statistics"]["seconds"], ends[1]["statistics"]["seconds"]
    assert_equal(*ends)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
@pytest.mark.parametrize("at", [1, 2, 40])
def test_an_interruption_leaves_all_as_it_was(error: Any, at: int) -> None:
    model, feedback, loss, optimizer = trained_a_little()
    before = state_of(model, optimizer, feedback)
    calls = 0

    def interrupted(batch: Any) -> Any:
        nonlocal calls
        calls += 1
        found = loss(batch)
        if calls == at:
            raise error
        return found

    with pytest.raises(error):
        feedback.tune(interrupted, batches(), optimizer, steps=3, progress=False)
    assert calls == at
    assert_equal(state_of(model, optimizer, feedback), before)
    loss(batches()[0]).backward()


def test_a_loader_s_generator_goes_on_as_before() -> None:
    model, feedback, loss = attached()
    data = torch.utils.data.TensorDataset(*(torch.cat(part) for part in zip(*batches(), strict=True)))
    generator = torch.Generator().manual_seed(7)
    loader = torch.utils.data.DataLoader(data, 24, shuffle=True, generator=generator)
    before = generator.get_state()
    feedback.tune(loss, loader, torch.optim.Adam(model.parameters()), steps=2, progress=False)
    assert_same_bits(generator.get_state(), before)


# What is found


def test_equal_searches_find_the_same() -> None:
    found = []
    for _ in range(2):
        _, feedback, loss, optimizer = trained_a_little()
        found.append(feedback.tune(loss, batches(), optimizer, steps=4, progress=False))
    assert found[0] == found[1]


def test_a_trial_is_a_training_with_its_settings() -> None:
    model, feedback, loss, optimizer = trained_a_little()
    data, held_out = batches(4), batches(6)[4:]
    advice = feedback.tune(loss, data, optimizer, steps=6, held_out=held_out, progress=False)
    advice.apply(optimizer)
    for step in range(6):
        optimizer.zero_grad()
        loss(data[step % 4]).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        values = tuple(float(loss(batch)) for batch in held_out)
    assert values == advice.best["odfa"].values


def test_other_methods_can_be_trained_to_compare() -> None:
    _, feedback, loss, optimizer = trained_a_little()
    advice = feedback.tune(loss, batches(), optimizer, steps=2, progress=False)
    for method, best in advice.best.items():
        advice.apply(optimizer, method)
        assert feedback.method == method
        assert optimizer.param_groups[-1]["lr"] == best.top_rate
        assert optimizer.param_groups[0]["lr"] == best.block_rate or method == "shallow"
    with pytest.raises(ValueError, match="method is 'sgd', but must be one of 'bp', "):
        advice.apply(optimizer, "sgd")


def test_the_rates_are_those_of_the_parameters() -> None:
    model = mlp(16, 12)
    feedback = dfa.attach(model, BLOCKS)
    hidden, top = list(model.hidden.parameters()), list(model.top.parameters())
    groups = [{"params": hidden[:3], "weight_decay": 0.1}, {"params": [*hidden[3:], *top]}]
    optimizer = torch.optim.AdamW(groups, 0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10)
    advice = feedback.tune(lambda b: F.cross_entropy(model(b[0]), b[1]), batches(), optimizer, steps=2, progress=False)
    advice.apply(optimizer)
    assert [[id(p) for p in group["params"]] for group in optimizer.param_groups] == [
        [id(p) for p in part] for part in (hidden[:3], hidden[3:], top)
    ]
    wanted = [advice.block_rate, advice.block_rate, advice.top_rate]
    assert [group["lr"] for group in optimizer.param_groups] == wanted
    assert [group["initial_lr"] for group in optimizer.param_groups] == wanted
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.01, 0.01]
    assert feedback.ternarize == advice.ternarize
    assert scheduler.optimizer is optimizer
    advice.apply(optimizer)
    assert len(optimizer.param_groups) == 3


def pairs_of_digits(n: int, size: int) -> list[Any]:
    """Batches of two handwritten digits side by side: 100 classes."""
    x, y = pytest.importorskip("sklearn.datasets").load_digits(return_X_y=True)
    first, second = torch.randint(len(x), (2, n * size), generator=torch.Generator().manual_seed(1)).numpy()
    pixels = torch.tensor(np.hstack([x[first], x[second]]) / 16, dtype=torch.float32)
    return list(zip(pixels.split(size), torch.tensor(10 * y[first] + y[second]).split(size), strict=True))


@pytest.mark.long
@pytest.mark.parametrize("sgd", [False, True])
def test_hidden_layers_that_must_learn_are_found_better(sgd: bool) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(128, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 100))
    feedback = dfa.attach(model, ["1", "3"], mode="real")
    optimizer: Any = torch.optim.Adam(model.parameters(), 1e-4)
    if sgd:
        optimizer = torch.optim.SGD(model.parameters(), 1e-2, momentum=0.9)
    start = optimizer.param_groups[0]["lr"]

    def loss(batch: Any) -> Any:
        return F.cross_entropy(model(batch[0]), batch[1])

    def accuracy(batch: Any) -> Any:
        return (model(batch[0]).argmax(1) == batch[1]).float().mean()

    data = pairs_of_digits(60, 64)
    advice = feedback.tune(loss, data, optimizer, steps=200, measure=accuracy, progress=False)
    assert advice.better
    assert advice.difference > 0.05
    assert advice.measured == "accuracy"
    assert advice.block_rate > 4 * start
    assert "Use odfa: it is better than shallow training by" in words(advice)
    assert all(cosine > 0 for cosine in advice.best["odfa"].alignment.values())


def test_where_the_top_suffices_the_reason_is_named() -> None:
    torch.manual_seed(0)
    model = mlp(16, 12, n_classes=3)
    feedback = dfa.attach(model, BLOCKS)
    x = torch.randn(120, 20)
    data = [(part, torch.zeros(len(part), dtype=torch.long)) for part in x.split(12)]  # one class
    advice = feedback.tune(
        lambda batch: F.cross_entropy(model(batch[0]), batch[1]),
        data,
        torch.optim.Adam(model.parameters(), 0.1),
        steps=20,
        measure=lambda batch: (model(batch[0]).argmax(1) == batch[1]).float().mean(),
        progress=False,
    )
    assert not advice.better
    assert advice.difference == 0
    text = words(advice)
    assert "odfa is not clearly better than shallow training after 20 steps" in text
    assert "Backpropagation is not clearly better either" in text
    assert "Use odfa" not in text


def test_a_diverging_rate_is_left(recwarn: Any) -> None:
    torch.manual_seed(0)
    model = mlp(16, 12)
    feedback = dfa.attach(model, BLOCKS)
    data = [(x, torch.randn(len(x), 10)) for x, _ in batches()]
    optimizer = torch.optim.SGD(model.parameters(), 50.0)  # far too high for a squared error
    advice = feedback.tune(lambda b: F.mse_loss(model(b[0]), b[1]), data, optimizer, steps=60, progress=False)
    assert any(math.isnan(trial.value) for trial in advice.trials)
    assert all(math.isfinite(trial.value) for trial in advice.best.values())
    assert advice.top_rate < 50


def test_a_model_with_an_error_for_each_position() -> None:
    model = Language()
    feedback = dfa.attach(model, [f"layers.{i}" for i in range(3)], batch_axes=2)
    data = [sentences() for _ in range(5)]
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    advice = feedback.tune(lambda b: language_loss(model, *b), data, optimizer, steps=3, progress=False)
    advice.apply(optimizer)
    embedding = next(g for g in optimizer.param_groups if any(p is model.embedding.weight for p in g["params"]))
    assert embedding["lr"] == advice.block_rate
    head = next(g for g in optimizer.param_groups if any(p is model.head.weight for p in g["params"]))
    assert head["lr"] == advice.top_rate


def test_the_scale_of_a_gradient_scaler_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for scale in (None, 1024.0):
        scaler = None if scale is None else torch.amp.GradScaler("cpu", init_scale=scale)
        model, feedback, loss = attached(scaler=scaler)
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        found.append(feedback.tune(loss, batches(), optimizer, steps=4, progress=False))
    for one, other in zip(found[0].trials, found[1].trials, strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-4)


# The budget, the table


def words(advice: Any) -> str:
    return " ".join(str(advice).split())


def test_the_time_is_limited() -> None:
    model, feedback, loss = attached()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    advice = feedback.tune(loss, batches(), optimizer, steps=2, seconds=1e-9, progress=False)
    assert [trial.method for trial in advice.trials] == ["shallow", "odfa"]
    assert (advice.block_rate, advice.top_rate) == (0.01, 0.01)
    assert "The time was over before the rates had been searched" in words(advice)


def test_the_table_has_each_method() -> None:
    _, feedback, loss, optimizer = trained_a_little()
    advice = feedback.tune(loss, batches(), optimizer, steps=2, progress=False)
    lines = str(advice).splitlines()
    assert re.split(r"\s{2,}", lines[0]) == ["method", "rate of blocks", "rate of top", "loss", "ternary rule"]
    named = [line.split()[0] for line in lines[1 : 1 + len(advice.best)]]
    assert named == list(advice.best)
    assert {"bp", "odfa", "shallow"} <= set(named)
    assert str(advice.best["odfa"]).startswith("odfa: rate of blocks ")
    assert advice.best["odfa"] in advice.trials
    assert advice.best["odfa"].value == min(t.value for t in advice.trials if t.method == "odfa")
    assert {t.ternarize for t in advice.trials if t.method == "odfa"} >= {
        dfa.Ternarize(dfa.Dither("auto")),
        dfa.Ternarize(),
    }


def test_progress_is_shown_when_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    for progress in (False, True):
        _, feedback, loss, optimizer = trained_a_little()
        feedback.tune(loss, batches(), optimizer, steps=2, progress=progress)
        assert ("tune: " in capsys.readouterr().err) is progress


# Arguments


@pytest.mark.parametrize(
    ("kind", "text", "arguments"),
    [
        (TypeError, "loss is 1.0, but must be a function of a batch", {"loss": 1.0}),
        (TypeError, "measure is 1.0, but must be a function of a batch", {"measure": 1.0}),
        (TypeError, "batches is 5, but must be batches", {"batches": 5}),
        (TypeError, "held_out is 5, but must be batches", {"held_out": 5}),
        (TypeError, "optimizer is 0.1, but must be a torch.optim.Optimizer", {"optimizer": 0.1}),
        (ValueError, "steps is 0", {"steps": 0}),
        (ValueError, "seconds is 0.0, but must be above 0", {"seconds": 0}),
        (ValueError, "there are 0 batches to train on and 1 held out", {"batches": batches(1)}),
        (ValueError, "there are 2 batches to train on and 0 held out", {"held_out": []}),
        (ValueError, "method is 'bp', but only 'odfa', 'dfa', 'fitted' have feedback", {"method": "bp"}),
        (TypeError, "loss returned a tuple, but must return a tensor of one number", {"loss": lambda batch: (1, 2)}),
        (TypeError, r"measure returned a Tensor of shape \(2,\)", {"measure": lambda batch: torch.zeros(2)}),
    ],
)
def test_bad_arguments_are_refused_by_name(kind: Any, text: str, arguments: dict[str, Any]) -> None:
    model, feedback, loss, optimizer = trained_a_little()
    before = state_of(model, optimizer, feedback)
    given = {"loss": loss, "batches": batches(), "optimizer": optimizer, "steps": 2, **arguments}
    with pytest.raises(kind, match=text):
        feedback.tune(given.pop("loss"), given.pop("batches"), given.pop("optimizer"), **given, progress=False)
    assert_equal(state_of(model, optimizer, feedback), before)


def test_an_optimizer_of_a_part_is_refused() -> None:
    model = mlp(16, 12)
    feedback = dfa.attach(model, BLOCKS)
    for part, text in ((model.top, "no parameter that a block trains"), (model.hidden, "above the last block")):
        optimizer = torch.optim.Adam(part.parameters())
        with pytest.raises(ValueError, match=text):
            feedback.tune(lambda b: F.cross_entropy(model(b[0]), b[1]), batches(), optimizer, progress=False)
    with pytest.raises(TypeError, match="LBFGS"):
        feedback.tune(lambda b: model(b).sum(), batches(), torch.optim.LBFGS(model.parameters()))


def test_the_first_pass_of_a_model_may_be_the_search_s() -> None:
    model = mlp(16, 12)
    feedback = dfa.attach(model, BLOCKS)
    optimizer = torch.optim.Adam(model.parameters())
    feedback.tune(lambda b: F.cross_entropy(model(b[0]), b[1]), batches(), optimizer, steps=1, progress=False)
    assert feedback.state_dict()["passes"] == 0
    assert feedback.statistics.projections == 0
    x, y = examples()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
