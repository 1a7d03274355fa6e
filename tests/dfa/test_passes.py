"""Each pass uses its own blocks, by name and thread, and its feedback equals that of a calculation by hand."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

import numpy as np
import oracle
import pytest
from dfa_models import F, examples, gradients, mlp, nn, torch
from helpers import assert_same_bits
from opuproj import dfa

BLOCKS = ["hidden.0", "hidden.1"]


def by_hand(model: Any, x: Any, y: Any, ends: list[str], rows: dict[str, range], gains: dict[str, float]) -> Any:
    """Return the gradients of a Sequential by direct feedback of float64 errors, computed without hooks."""
    z, inputs, segment = x, {}, []
    for name, layer in model.named_children():
        segment.append(layer)
        if name in ends:
            inputs[name] = (z, segment)
            for part in segment:
                z = part(z)
            z, segment = z.detach(), []
    for part in segment:
        z = part(z)
    z.retain_grad()
    F.cross_entropy(z, y).backward()
    e = z.grad.numpy()
    for name, (given, parts) in inputs.items():
        out = given
        for part in parts:
            out = part(out)
        matrix = oracle.project(0, np.eye(e.shape[1], dtype=np.int8), rows[name], "linear")
        fed = torch.from_numpy(e @ matrix) * (gains[name] / math.sqrt(len(rows[name])))
        out.backward(fed.reshape(out.shape))
    found = gradients(model)
    model.zero_grad()
    return found


def three_layers(width: int) -> Any:
    torch.manual_seed(0)
    layers = nn.Linear(20, 12), nn.Tanh(), nn.Linear(12, width), nn.Tanh(), nn.Linear(width, 10)
    return nn.Sequential(*layers).double()


@pytest.mark.parametrize("blocks", [["1", "3"], ["3", "1"]])
@pytest.mark.parametrize("width", [12, 17])
def test_blocks_have_their_own_rows_and_gains_in_whatever_order_they_are_named(blocks: list[str], width: int) -> None:
    model, (x, y) = three_layers(width), examples()
    gains = {"1": 1.0, "3": 0.25}
    widths = {"1": 12, "3": width}
    first, second = blocks
    rows = {first: range(widths[first]), second: range(widths[first], 12 + width)}
    wanted = by_hand(model, x.double(), y, ["1", "3"], rows, gains)
    feedback = dfa.attach(model, blocks, method="dfa", gain=gains)
    F.cross_entropy(model(x.double()), y).backward()
    assert feedback.rows == rows
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-11, atol=1e-15)
    feedback.check(lambda: F.cross_entropy(model(x.double()), y))


class Branches(nn.Module):
    """Two branches side by side, which may run in either order."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.top = nn.Linear(20, 8), nn.Linear(20, 8), nn.Linear(16, 10)
        self.backwards = False

    def forward(self, x: Any) -> Any:
        if self.backwards:
            b = self.b(x)
            a = self.a(x)
        else:
            a, b = self.a(x), self.b(x)
        return self.top(torch.cat([a, b], 1))


@pytest.mark.parametrize("method", ["odfa", "dfa"])
def test_branches_that_run_in_another_order_get_the_same_gradients(method: Any) -> None:
    model, (x, y) = Branches(), examples()
    dfa.attach(model, ["a", "b"], method=method, ternarize=dfa.Ternarize(dfa.RowMax(0.3), norm="row"))
    F.cross_entropy(model(x), y).backward()
    wanted = gradients(model)
    model.zero_grad()
    model.backwards = True
    F.cross_entropy(model(x), y).backward()
    for name, gradient in gradients(model).items():
        assert_same_bits(gradient, wanted[name])


def in_thread(call: Callable[[], Any]) -> Any:
    """Return the result of a call in another thread, or its exception."""
    result: list[Any] = []

    def run() -> None:
        try:
            result.append(call())
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return result[0]


def without_gradients(model: Any) -> Any:
    with torch.no_grad():
        return model(torch.randn(3, 20))


@pytest.mark.parametrize("where", ["in this thread", "in another thread"])
@pytest.mark.parametrize("place", ["hidden.0.0", "hidden.1.0", "top"])
def test_an_evaluation_in_the_middle_of_a_pass_takes_nothing_from_it(where: str, place: str) -> None:
    model, plain, (x, y) = mlp(13, 17), mlp(13, 17), examples()
    for one in (model, plain):
        dfa.attach(one, BLOCKS, method="dfa")
    F.cross_entropy(plain(x), y).backward()
    evaluated = []

    def evaluate(*_: Any) -> None:
        if not evaluated:
            evaluated.append(None)
            shown = (
                without_gradients(model) if where == "in this thread" else in_thread(lambda: without_gradients(model))
            )
            assert isinstance(shown, torch.Tensor), shown
            evaluated[0] = shown

    model.get_submodule(place).register_forward_pre_hook(evaluate)
    F.cross_entropy(model(x), y).backward()
    assert evaluated
    for name, gradient in gradients(model).items():
        assert_same_bits(gradient, gradients(plain)[name])


def test_threads_train_one_model_without_disturbing_each_other() -> None:
    model = mlp(13, 17)
    rule = dfa.Ternarize(dfa.RowMax(0.3), norm="row")
    dfa.attach(model, BLOCKS, ternarize=rule)
    parameters = list(model.parameters())
    batches = [examples(6, seed=i) for i in range(8)]

    def step(x: Any, y: Any) -> Any:
        return torch.autograd.grad(F.cross_entropy(model(x), y), parameters)

    alone = [step(x, y) for x, y in batches]
    barrier, together = threading.Barrier(4), {}

    def work(which: int) -> None:
        barrier.wait()
        for i in range(which, 8, 4):
            try:
                together[i] = step(*batches[i])
            except RuntimeError as error:
                together[i] = error

    threads = [threading.Thread(target=work, args=(which,)) for which in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, wanted in enumerate(alone):
        assert not isinstance(together[i], RuntimeError), together[i]
        for gradient, one in zip(together[i], wanted, strict=True):
            assert_same_bits(gradient, one)


def test_a_block_may_run_in_a_thread_that_has_the_context_of_its_pass() -> None:
    class Threaded(Branches):
        def forward(self, x: Any) -> Any:
            context = copy_context()
            a = in_thread(lambda: context.run(self.a, x))
            return self.top(torch.cat([a, self.b(x)], 1))

    results = []
    for kind in (Branches, Threaded):
        model, (x, y) = kind(), examples()
        dfa.attach(model, ["a", "b"])
        F.cross_entropy(model(x), y).backward()
        results.append(gradients(model))
    for name, gradient in results[0].items():
        assert_same_bits(gradient, results[1][name])


def test_an_interrupted_pass_is_forgotten_at_the_next_one() -> None:
    model, plain, (x, y) = mlp(13, 17), mlp(13, 17), examples()
    for one in (model, plain):
        dfa.attach(one, BLOCKS)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    handle = model.hidden[1].register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        model(x)
    handle.remove()
    for one in (model, plain):
        F.cross_entropy(one(x), y).backward()
    with pytest.raises(RuntimeError, match=r"block 'hidden.0' was called on its own"):
        model.hidden[0](x)
    handle = model.hidden[1].register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        model(x)
    handle.remove()
    with pytest.raises(RuntimeError, match=r"block 'hidden.0' was called on its own"):
        nn.Sequential(nn.Sequential(model.hidden[0]))(x)  # deeper than the interrupted call was
    for name, gradient in gradients(model).items():
        assert_same_bits(gradient, gradients(plain)[name])


def test_the_whole_model_may_be_computed_again_in_a_reentrant_checkpoint() -> None:
    from torch.utils.checkpoint import checkpoint

    results = []
    for options in (None, {"use_reentrant": True}, {"use_reentrant": False}):
        model, (x, y) = mlp(13, 17), examples()
        dfa.attach(model, BLOCKS, ternarize=dfa.Ternarize(dfa.RowMax(0.3), norm="row"))
        x.requires_grad_()
        z = model(x) if options is None else checkpoint(model, x, **options)
        F.cross_entropy(z, y).backward()
        results.append(gradients(model))
    for other in results[1:]:
        for name, gradient in results[0].items():
            assert_same_bits(gradient, other[name])


def test_feedback_is_computed_for_a_few_blocks_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from opuproj.dfa import _engine

    model, (x, y) = mlp(*[9] * 20), examples()
    feedback = dfa.attach(model, list(model.hidden), method="dfa")
    right, trained = _engine.project, []

    def counted(error: Any, operator: Any) -> Any:
        assert operator.n_outputs <= 8 * 9
        trained.append([i for i, block in enumerate(model.hidden) if block[0].weight.grad is not None])
        return right(error, operator)

    monkeypatch.setattr(_engine, "project", counted)
    F.cross_entropy(model(x), y).backward()
    # The first blocks' feedback is computed after the last ones have been trained and have freed theirs.
    assert trained == [[], list(range(12, 20)), list(range(4, 20))]
    assert feedback.statistics.projections == 1


@pytest.mark.parametrize("n_blocks", [2, 3, 8])
def test_the_feedback_of_all_blocks_is_never_there_at_once(n_blocks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from opuproj.dfa import _engine

    model, (x, y) = mlp(*[9] * n_blocks), examples()
    dfa.attach(model, list(model.hidden), method="dfa")
    right, sizes = _engine.project, []

    def counted(error: Any, operator: Any) -> Any:
        sizes.append(operator.n_outputs // 9)
        return right(error, operator)

    monkeypatch.setattr(_engine, "project", counted)
    F.cross_entropy(model(x), y).backward()
    assert sum(sizes) == n_blocks
    assert max(sizes) <= n_blocks // 2


# The accuracy of float errors


def softmax_errors(n_classes: int, n: int = 16) -> Any:
    random = torch.Generator().manual_seed(n_classes)
    z = torch.randn(n, n_classes, generator=random, dtype=torch.float64) * 3
    return (torch.softmax(z, 1) - F.one_hot(torch.arange(n) % n_classes, n_classes)) / n


@pytest.mark.parametrize("n_classes", [10, 1016, 5000])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_float_errors_are_projected_within_the_promised_precision(n_classes: int, dtype: Any) -> None:
    from opuproj import Projector
    from opuproj.dfa import _error
    from opuproj.dfa._error import Error
    from opuproj.dfa._projection import project

    e = softmax_errors(n_classes).to(dtype)
    name = "float64" if dtype == torch.float64 else "float32"
    operator = Projector(n_classes, 300, seed=5, dtype=name)
    content = _error.float_error(e, encoded=True)
    projection = project(Error(0, tuple(e.shape), 1.0, content, None), operator)
    found = projection.part(0, 300, 1.0, torch.device("cpu"), content.dtype)
    wanted = e.double() @ torch.from_numpy(Projector(n_classes, 300, seed=5, dtype="float64").matrix()).T
    off = ((found.double() - wanted).norm(dim=1) / wanted.norm(dim=1)).max()
    assert off < (1e-13 if dtype == torch.float64 else 2e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ensemble", ["gaussian", "structured"])
def test_errors_that_are_not_finite_give_nan_to_their_vectors_only(dtype: Any, ensemble: Any) -> None:
    model, (x, y) = mlp(13, 17).to(dtype), examples()
    dfa.attach(model, BLOCKS, method="dfa", ensemble=ensemble)
    fed = {}

    def keep(module: Any, args: Any, output: Any) -> None:
        output.register_hook(lambda gradient: fed.__setitem__(0, gradient))

    model.hidden[0].register_forward_hook(keep)
    losses = F.cross_entropy(model(x.to(dtype)), y, reduction="none")
    (losses * torch.tensor([1.0, math.inf, 1.0, 1.0, 1.0, 1.0], dtype=dtype)).sum().backward()
    assert fed[0].isnan().all(dim=1).tolist() == [False, True, False, False, False, False]
