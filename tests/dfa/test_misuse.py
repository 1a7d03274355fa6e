"""Misuse raises errors that name the block or the argument before it can affect a training."""

from __future__ import annotations

import copy
import gc
import re
import weakref
from typing import Any

import numpy as np
import pytest
from dfa_models import Convolutional, F, examples, images, mlp, nn, torch
from opuproj import dfa
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.checkpoint import checkpoint

BLOCKS = ["hidden.0", "hidden.1"]


def refused(kind: type[Exception], *parts: str) -> Any:
    return pytest.raises(kind, match=".*".join(map(re.escape, parts)))


class Steps(nn.Module):
    """Runs its parts in the given order, `top` included."""

    def __init__(self, *order: str) -> None:
        super().__init__()
        self.order = order
        self.a, self.b, self.top = nn.Linear(20, 20), nn.Linear(20, 20), nn.Linear(20, 20)

    def forward(self, x: Any) -> Any:
        for name in self.order:
            x = self.get_submodule(name)(x)
        return x


# In a pass


def test_a_block_that_is_never_reached() -> None:
    model, (x, _) = Steps("a", "top"), examples()
    dfa.attach(model, ["a", "b"])
    with refused(RuntimeError, "block 'b' was not reached", "the model's output"):
        model(x)


def test_a_block_after_the_output() -> None:
    model, (x, _) = Steps("a", "top", "b"), examples()
    dfa.attach(model, ["a"], output="top")
    model(x)
    model = Steps("a", "b", "top", "b")
    dfa.attach(model, ["a", "b"], output="top")
    with refused(RuntimeError, "block 'b' ran after the output of 'top'"):
        model(x)


def test_a_block_that_comes_only_after_the_output() -> None:
    model, (x, _) = Steps("a", "top", "b"), examples()
    dfa.attach(model, ["a", "b"], output="top")
    with refused(RuntimeError, "block 'b' was not reached before the output of 'top'"):
        model(x)


def test_a_block_that_runs_twice() -> None:
    model, (x, _) = Steps("a", "a", "top"), examples()
    dfa.attach(model, ["a"])
    with refused(RuntimeError, "block 'a' ran twice"):
        model(x)


def test_an_output_that_is_never_reached_or_runs_twice() -> None:
    x, _ = examples()
    for order, text in (
        (("a",), "the output of 'top', where the error is taken, was not reached"),
        (("a", "top", "top"), "was computed twice"),
    ):
        model = Steps(*order)
        dfa.attach(model, ["a"], output="top")
        with refused(RuntimeError, text):
            model(x)


def test_a_block_called_on_its_own() -> None:
    model, (x, _) = mlp(13, 17), examples()
    dfa.attach(model, BLOCKS)
    model(x)
    with refused(RuntimeError, "block 'hidden.0' was called on its own"):
        model.hidden[0](x)


def test_a_forward_pass_that_raised_leaves_nothing_behind() -> None:
    model, (x, y) = mlp(13, 17), examples()
    dfa.attach(model, BLOCKS)
    activations = []
    handle = model.hidden[0][1].register_forward_hook(lambda *a: activations.append(weakref.ref(a[2])))
    fails = model.top.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model(x)
    handle.remove()
    fails.remove()
    gc.collect()
    assert [activation() for activation in activations] == [None]
    with refused(RuntimeError, "block 'hidden.0' was called on its own"):
        model.hidden[0](x)
    F.cross_entropy(model(x), y).backward()
    assert model.hidden[0][0].weight.grad.any()


def test_a_second_backward_pass() -> None:
    model, (x, y) = mlp(13, 17), examples()
    dfa.attach(model, BLOCKS)
    loss = F.cross_entropy(model(x), y)
    loss.backward(retain_graph=True)
    with refused(RuntimeError, "second backward pass", "'hidden.0', 'hidden.1' already have their feedback"):
        loss.backward()


def test_a_loss_that_does_not_depend_on_the_output() -> None:
    class Auxiliary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block, self.top, self.other = nn.Linear(20, 6), nn.Linear(6, 10), nn.Linear(6, 10)

        def forward(self, x: Any) -> Any:
            h = self.block(x)
            return self.top(h), self.other(h)

    model, (x, y) = Auxiliary(), examples()
    feedback = dfa.attach(model, ["block"], output="top")
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    F.cross_entropy(model(x)[1], y).backward()
    before = model.block.weight.detach().clone()
    with refused(RuntimeError, "'block'", "no error reached", "does not depend on the output of 'top'"):
        optimizer.step()
    assert torch.equal(model.block.weight, before)
    with refused(RuntimeError, "does not depend on the output"):
        feedback.check(lambda: F.cross_entropy(model(x)[1], y))
    F.cross_entropy(model(x)[0], y).backward()  # the right loss works afterwards
    optimizer.step()


def test_a_forgotten_backward_pass_of_blocks_that_hold_no_parameters() -> None:
    # The blocks in the documentation are activations: they train the layers before them.
    model = nn.Sequential(nn.Linear(20, 13), nn.Tanh(), nn.Linear(13, 17), nn.Tanh(), nn.Linear(17, 10))
    x, _ = examples()
    dfa.attach(model, ["1", "3"])
    model(x)
    torch.optim.SGD(model[4].parameters(), 0.1).step()  # trains no block
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with refused(RuntimeError, "'1', '3'", "no error reached", "backward was not called"):
        optimizer.step()
    model(x)
    with refused(RuntimeError, "blocks '3',", "no error reached"):
        torch.optim.SGD(model[2].parameters(), 0.1).step()


def test_a_refused_step_hides_no_later_one() -> None:
    model, (x, y) = mlp(13, 17), examples()
    dfa.attach(model, BLOCKS)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loss = F.cross_entropy(model(x), y)
    with refused(RuntimeError, "no error reached", "backward was not called"):
        optimizer.step()
    loss.backward()
    optimizer.step()
    model(x)
    with refused(RuntimeError, "no error reached", "backward was not called"):
        optimizer.step()


def test_nothing_above_the_last_block() -> None:
    model, (x, y) = mlp(13, 17), examples()
    feedback = dfa.attach(model, [*BLOCKS, "top"])
    with pytest.warns(UserWarning, match="no parameter of the model lies above its last block, 'top'"):
        loss = F.cross_entropy(model(x), y)
    loss.backward()
    assert "leave the last layer out" in str(feedback.check(lambda: F.cross_entropy(model(x), y)))


def test_parameters_that_are_freed_later_are_watched() -> None:
    model = nn.Sequential(nn.Linear(20, 13), nn.Tanh(), nn.Linear(13, 17), nn.Tanh(), nn.Linear(17, 10))
    model[0].requires_grad_(False)
    x, y = examples()
    dfa.attach(model, ["1", "3"])
    F.cross_entropy(model(x), y).backward()
    torch.optim.SGD(model[2].parameters(), 0.1).step()
    model[0].requires_grad_(True)
    model(x)
    with refused(RuntimeError, "blocks '1',", "no error reached"):
        torch.optim.SGD(model[0].parameters(), 0.1).step()


@pytest.mark.parametrize("before", ["bp", "shallow"])
def test_an_optimizer_with_a_closure_may_follow_on_another_method(before: Any) -> None:
    model, (x, y) = mlp(13, 17), examples()
    feedback = dfa.attach(model, BLOCKS, method=before)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=2)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    optimizer.step(closure)
    feedback.method = "dfa"
    optimizer.step(closure)


def test_a_frozen_block_may_run_without_gradients() -> None:
    class Frozen(Steps):
        def forward(self, x: Any) -> Any:
            with torch.no_grad():
                x = self.a(x)
            return self.top(self.b(x))

    model, (x, y) = Frozen(), examples()
    model.a.requires_grad_(False)
    feedback = dfa.attach(model, ["a", "b"])
    F.cross_entropy(model(x), y).backward()
    assert feedback.rows == {"a": range(20), "b": range(20, 40)}
    assert model.b.weight.grad.any()


def test_gradients_of_before_are_not_kept_alive() -> None:
    for method in ("bp", "shallow", "dfa"):
        model, (x, y) = mlp(13, 17), examples()
        F.cross_entropy(model(x), y).backward()
        held = [weakref.ref(p.grad.untyped_storage()) for p in model.parameters()]
        dfa.attach(model, BLOCKS, method=method)
        model.zero_grad()
        model(x)
        gc.collect()
        assert not any(storage() is not None for storage in held), method


def test_a_copy_that_never_runs_costs_other_optimizers_nothing() -> None:
    model = mlp(13, 17)
    dfa.attach(model, BLOCKS)
    copied = copy.deepcopy(model)
    step_guard = dfa.Feedback.of(copied)._engine.step_guard
    (x, y), optimizer = examples(), torch.optim.SGD(model.parameters(), 0.1)
    step_guard._model = None  # no step reads it
    F.cross_entropy(model(x), y).backward()
    optimizer.step()


def test_optimizers_of_others_are_left_alone() -> None:
    model, (x, y) = mlp(13, 17), examples()
    feedback = dfa.attach(model, BLOCKS)
    other = mlp(5)
    F.cross_entropy(other(x), y).backward()
    model(x)
    torch.optim.SGD(other.parameters(), 0.1).step()
    feedback.remove()
    torch.optim.SGD(model.parameters(), 0.1).step()


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_reentrant_checkpointing() -> None:
    class Reentrant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.top = nn.Linear(20, 20), nn.Linear(20, 20), nn.Linear(20, 10)

        def forward(self, x: Any) -> Any:
            return self.top(checkpoint(self.b, self.a(x), use_reentrant=True))

    model, (x, _) = Reentrant(), examples()
    dfa.attach(model, ["a", "b"])
    with refused(RuntimeError, "block 'b' ran without gradients", "use_reentrant=False"):
        model(x)


def test_a_block_whose_output_does_not_depend_on_its_parameters() -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(20, 20)

        def forward(self, x: Any) -> Any:
            return self.linear(x).detach()

    model, (x, _) = nn.Sequential(Broken(), nn.Linear(20, 10)), examples()
    dfa.attach(model, ["0"])
    with refused(RuntimeError, "block '0'", "its output depends on none"):
        model(x)


def test_what_a_block_or_the_output_may_return() -> None:
    class Returns(nn.Module):
        def __init__(self, make: Any) -> None:
            super().__init__()
            self.linear, self.make = nn.Linear(20, 10), make

        def forward(self, x: Any) -> Any:
            return self.make(self.linear(x))

    class Hidden:
        def __init__(self, tensor: Any) -> None:
            self.tensor = tensor

    x, _ = examples()
    for make, text in (
        (lambda z: z.argmax(1), "no floating-point tensor"),
        (lambda z: (z, Hidden(z)), "returns Hidden"),
    ):
        model = nn.Sequential(Returns(make), nn.Identity())
        dfa.attach(model, ["0"])
        with refused(TypeError, "block '0'", text):
            model(x)
    model = nn.Sequential(nn.Linear(20, 20), Returns(lambda z: z.argmax(1)))
    dfa.attach(model, ["0"])
    with refused(TypeError, "the model's output is not a floating-point tensor"):
        model(x)


def test_shapes_that_do_not_meet() -> None:
    class Folded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block, self.top = nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x: Any) -> Any:
            return self.top(self.block(x.flatten(0, 1))).unflatten(0, x.shape[:2])

    model = Folded()
    dfa.attach(model, ["block"], batch_axes=1)
    with refused(ValueError, "block 'block' returned shape (20, 6)", "error has shape (4, 5, 3)", "must be equal"):
        model(torch.randn(4, 5, 6))


def test_shapes_that_change() -> None:
    model, (x, _) = Convolutional(), images()
    model.top = nn.LazyLinear(10)
    dfa.attach(model, ["first", "second"])
    model(x)
    model.top = nn.LazyLinear(10)
    with refused(ValueError, "block 'first' returned shape (5, 4, 6, 6)", "144 elements", "for 64"):
        model(torch.randn(5, 1, 12, 12))


def test_an_error_without_a_batch() -> None:
    class Summed(Steps):
        def forward(self, x: Any) -> Any:
            return super().forward(x).sum()

    model, (x, _) = Summed("a"), examples()
    dfa.attach(model, ["a"])
    with refused(ValueError, "the error is a single number"):
        model(x)


# Arguments of attach


@pytest.mark.parametrize(
    ("kind", "text", "arguments"),
    [
        (
            ValueError,
            "blocks has 'hidden.9', but the model has no module of that name; model.named_modules() has 'hidden',",
            {"blocks": ["hidden.9"]},
        ),
        (ValueError, "blocks has a Linear, which is not part of the model", {"blocks": [nn.Linear(2, 2)]}),
        (ValueError, "blocks is empty", {"blocks": []}),
        (ValueError, "blocks has 'hidden.0' twice", {"blocks": ["hidden.0", "hidden.0"]}),
        (ValueError, "block 'hidden.0.1' lies inside block 'hidden.0'", {"blocks": ["hidden.0", "hidden.0.1"]}),
        (ValueError, "blocks has the model itself", {"blocks": [""]}),
        (TypeError, "blocks is 'hidden.0', but must be a list", {"blocks": "hidden.0"}),
        (TypeError, "blocks is None, but must be a list", {"blocks": None}),
        (TypeError, "blocks is 5, but must be a list", {"blocks": 5}),
        (TypeError, "blocks has the key 0, but the keys of a mapping must be names", {"blocks": {0: "hidden.0"}}),
        (TypeError, "blocks has the key None, but the keys", {"blocks": {None: "hidden.0"}}),
        (TypeError, "blocks has 3, but must have modules", {"blocks": [3]}),
        (ValueError, "output has 'nowhere'", {"output": "nowhere"}),
        (ValueError, "method is 'odf', but must be one of 'odfa', 'dfa', 'fitted', 'bp', 'shallow'", {"method": "odf"}),
        (TypeError, "ternarize is 0.25, but must be", {"ternarize": 0.25}),
        (TypeError, "ternarize is 'best', but must be an opuproj.dfa.Ternarize or \"auto\"", {"ternarize": "best"}),
        (ValueError, "seed is -1", {"seed": -1}),
        (TypeError, "seed is 1.5", {"seed": 1.5}),
        (ValueError, "gain has 'top', but the blocks are 'hidden.0', 'hidden.1'", {"gain": {"top": 1.0}}),
        (TypeError, "gain of block 'hidden.0' is 'much'", {"gain": {"hidden.0": "much"}}),
        (ValueError, "gain of block 'hidden.0' is inf", {"gain": float("inf")}),
        (ValueError, "gain of block 'hidden.0' is -inf", {"gain": float("-inf")}),
        (ValueError, "gain of block 'hidden.0' is nan", {"gain": float("nan")}),
        (ValueError, "gain of block 'hidden.0' is inf", {"gain": 10**400}),
        (TypeError, "gain of block 'hidden.0' is True", {"gain": True}),
        (ValueError, "batch_axes is 0", {"batch_axes": 0}),
        (ValueError, "n_anchor is 0", {"n_anchor": 0}),
        (ValueError, "threads is 0", {"threads": 0}),
        (TypeError, "scaler is 2.0, but must be a torch.amp.GradScaler", {"scaler": 2.0}),
    ],
)
def test_arguments(kind: type[Exception], text: str, arguments: dict[str, Any]) -> None:
    model = mlp(13, 17)
    with refused(kind, text):
        dfa.attach(model, **{"blocks": BLOCKS, **arguments})
    assert not model._forward_pre_hooks
    assert not model.hidden[0]._forward_hooks


def test_a_model_that_is_none_and_one_that_has_feedback() -> None:
    with refused(TypeError, "model is a function"):
        dfa.attach(lambda x: x, ["a"])  # type: ignore[arg-type]
    model = mlp(13, 17)
    feedback = dfa.attach(model, ["hidden.0"])
    for blocks in (["hidden.0"], ["hidden.1"]):  # both would have the same rows of T
        with refused(ValueError, "model already has feedback for 'hidden.0'", "all blocks at once"):
            dfa.attach(model, blocks)
    around = nn.Sequential(model, nn.Linear(10, 10))
    for block in ("0", "0.hidden.0"):
        with refused(ValueError, f"block '{block}' already has feedback"):
            dfa.attach(around, [block])
    assert dfa.Feedback.of(model) is feedback
    assert dfa.Feedback.of(model.hidden[0]) is None  # it is a block of another
    feedback.remove()
    dfa.attach(model, BLOCKS)


def test_gains_of_numpy() -> None:
    for gain in (np.float32(-0.5), np.float64(-0.5)):
        assert dfa.attach(mlp(13, 17), BLOCKS, gain=gain).gains == dict.fromkeys(BLOCKS, -0.5)


def test_methods_and_rules_set_later() -> None:
    feedback = dfa.attach(mlp(13, 17), BLOCKS)
    with refused(ValueError, "method is 'sgd'"):
        feedback.method = "sgd"  # type: ignore[assignment]
    with refused(TypeError, "ternarize is None"):
        feedback.ternarize = None  # type: ignore[assignment]
    with refused(RuntimeError, "call the model first"):
        feedback.operator(10)


def test_feedback_that_is_collected_during_a_step() -> None:
    dropped: list[nn.Module] = []

    def drop(*_: object) -> None:
        dropped.clear()
        gc.collect()

    def attached() -> nn.Sequential:
        model = nn.Sequential(nn.Linear(20, 13), nn.Tanh(), nn.Linear(13, 10))
        dfa.attach(model, ["1"])
        return model

    handle = register_optimizer_step_pre_hook(drop)  # before the others, so that it is called before them
    try:
        dropped += [attached() for _ in range(3)]
        kept = attached()
        kept(torch.randn(4, 20)).sum().backward()
        torch.optim.SGD(kept.parameters(), 0.1).step()
    finally:
        handle.remove()
    assert not dropped


@pytest.mark.parametrize(("n", "error"), [(0, ValueError), (-3, ValueError), (True, TypeError), ("a", TypeError)])
def test_the_operator_of_a_length_that_is_none(n: Any, error: type) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3))
    feedback = dfa.attach(model, blocks=["1"])
    model(torch.randn(2, 6)).sum().backward()
    with pytest.raises(error, match="n_inputs"):
        feedback.operator(n)
