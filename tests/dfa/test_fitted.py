"""Method "fitted": feedback by matrices that are fitted to the gradients of occasional passes by backpropagation."""

from __future__ import annotations

import copy
import io
import math
import os
import sys
from typing import Any

import pytest
from dfa_models import Convolutional, F, Language, examples, gradients, images, language_loss, mlp, nn, sentences, torch
from helpers import assert_same_bits, run
from opuproj import dfa
from torch.utils.checkpoint import checkpoint

BLOCKS = ["hidden.0", "hidden.1"]


def attached(model: Any, every: int = 2, **settings: Any) -> Any:
    return dfa.attach(model, BLOCKS, method="fitted", fitting=dfa.Fitting(every, **settings), seed=5)


def backward(model: Any, x: Any, y: Any) -> dict[str, Any]:
    model.zero_grad()
    F.cross_entropy(model(x), y).backward()
    return gradients(model)


def assert_close(a: dict[str, Any], b: dict[str, Any], within: float = 1e-5) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=within, atol=within * float(b[name].abs().max()))


def errors_and_gradients(model: Any, names: list[str], loss: Any) -> tuple[Any, dict[str, Any]]:
    """Run backpropagation without feedback; return the gradients at the model's output and at those of its blocks."""
    kept: dict[str, Any] = {}

    def keep(name: str) -> Any:
        return lambda module, args, output: (output.retain_grad(), kept.__setitem__(name, output))[0]

    modules = {"": model, **{name: model.get_submodule(name) for name in names}}
    hooks = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    loss(model).backward()
    for hook in hooks:
        hook.remove()
    return kept[""].grad, {name: kept[name].grad for name in names}


@pytest.mark.every_backend
def test_it_begins_as_direct_feedback() -> None:
    (x, y), model = examples(), mlp(13, 17)
    attached(model)
    direct = mlp(13, 17)
    dfa.attach(direct, BLOCKS, method="dfa", seed=5)
    assert_close(backward(model, x, y), backward(direct, x, y))


@pytest.mark.every_backend
@pytest.mark.parametrize("every", [2, 3])
def test_one_pass_in_so_many_is_backpropagation(every: int) -> None:
    (x, y), model = examples(), mlp(13, 17)
    true = backward(mlp(13, 17), x, y)
    attached(model, every)
    for number in range(1, 3 * every + 1):
        given = backward(model, x, y)
        if number % every == 0:
            for name in true:
                assert_same_bits(given[name].numpy(), true[name].numpy())
        else:
            assert not torch.equal(given["hidden.0.0.weight"], true["hidden.0.0.weight"])


@pytest.mark.every_backend
def test_the_matrices_are_the_solution_of_least_squares() -> None:
    model, plain, memory = mlp(13, 17).double(), mlp(13, 17).double(), 3.0
    feedback = attached(model, memory=memory)
    batches = [(x.double(), y) for x, y in (examples(40, seed) for seed in range(3))]
    for x, y in batches:
        backward(model, x, y)  # a pass with feedback before each pass by backpropagation
        backward(model, x, y)
    begin = torch.from_numpy(feedback.operator(10, "float64").matrix())
    parts = [errors_and_gradients(plain, BLOCKS, lambda m, x=x, y=y: F.cross_entropy(m(x), y)) for x, y in batches]
    prior = 0.1 * float((parts[0][0] ** 2).sum(0).mean()) * (1 - 1 / memory) ** 3
    weights = [(1 - 1 / memory) ** (2 - i) for i in range(3)]
    moments = prior * torch.eye(10, dtype=torch.float64)
    moments += sum(w * e.T @ e for w, (e, _) in zip(weights, parts, strict=True))
    for name, rows in feedback.rows.items():
        width = len(rows)
        crossed = prior * begin[rows.start : rows.stop] / math.sqrt(width)
        crossed += sum(w * g[name].T @ e for w, (e, g) in zip(weights, parts, strict=True))
        wanted = math.sqrt(width) * crossed @ torch.linalg.inv(moments)
        found = feedback.state_dict()["fitted"]["matrices"][name]
        # Errors of a softmax sum to 0. The ridge keeps what the matrix says of that direction, so it is left out.
        inside = torch.eye(10, dtype=torch.float64) - 0.1
        assert float(((found - wanted) @ inside).norm() / (wanted @ inside).norm()) < 0.02


def test_after_a_fit_feedback_points_along_the_gradient() -> None:
    model, (x, y) = mlp(13, 17), examples(200)
    feedback = attached(model)

    def loss() -> Any:
        return F.cross_entropy(model(x), y)

    before = feedback.alignment(loss, of="outputs")
    for _ in range(6):
        backward(model, x, y)
    after = feedback.alignment(loss, of="outputs")
    assert max(before.values()) < 0.5
    assert after["hidden.1"] > 0.995  # only a linear layer lies above it
    assert after["hidden.0"] > 0.9


def test_it_learns_more_than_direct_feedback() -> None:
    losses = {}
    for method in ("fitted", "dfa"):
        model = mlp(32, 32, 32)
        dfa.attach(model, ["hidden.0", "hidden.1", "hidden.2"], method=method, fitting=dfa.Fitting(10))
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        random = torch.Generator().manual_seed(1)
        teacher = torch.randn(20, 10, generator=random)
        for _ in range(200):
            x = torch.randn(64, 20, generator=random)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), (x @ teacher).argmax(1))
            loss.backward()
            optimizer.step()
        losses[method] = float(loss.detach())
    assert losses["fitted"] < losses["dfa"] - 0.05


def test_sequences_and_outputs_in_tuples() -> None:
    model, (tokens, following) = Language(), sentences(30, 8)
    feedback = dfa.attach(
        model, ["layers.0", "layers.1"], output="norm", method="fitted", fitting=dfa.Fitting(2), batch_axes=2
    )

    def loss() -> Any:
        return language_loss(model, tokens, following)

    for _ in range(6):
        model.zero_grad()
        loss().backward()
    assert min(feedback.alignment(loss, of="outputs").values()) > 0.85
    assert feedback.check(loss).blocks.keys() == {"layers.0", "layers.1"}


def test_all_outputs_of_a_block() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(20, 3), nn.Linear(20, 4)

        def forward(self, x: Any) -> Any:
            return {"a": torch.tanh(self.a(x)), "b": torch.tanh(self.b(x))}

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.two, self.top = Two(), nn.Linear(7, 10)

        def forward(self, x: Any) -> Any:
            return self.top(torch.cat(list(self.two(x).values()), dim=1))

    torch.manual_seed(0)
    model, (x, y) = Both(), examples(100)
    feedback = dfa.attach(model, ["two"], method="fitted", fitting=dfa.Fitting(2), feed="all")
    for _ in range(6):
        backward(model, x, y)
    assert feedback.rows == {"two": range(7)}
    assert feedback.alignment(lambda: F.cross_entropy(model(x), y), of="outputs")["two"] > 0.99


def test_convolutions_with_a_frozen_block() -> None:
    model, (x, y) = Convolutional(), images(64)
    model.first.requires_grad_(False)
    feedback = dfa.attach(model, ["first", "second"], method="fitted", fitting=dfa.Fitting(2))
    for _ in range(6):
        backward(model, x, y)
    assert feedback.alignment(lambda: F.cross_entropy(model(x), y))["second"] > 0.9
    assert all(p.grad is None for p in model.first.parameters())


def test_a_loss_on_a_blocks_output_is_no_part_of_the_fit() -> None:
    fitted = []
    for factor in (0.0, 100.0):
        model, (x, y), auxiliary = mlp(13, 17), examples(40), []
        feedback = attached(model)
        model.hidden[0].register_forward_hook(lambda module, args, output, kept=auxiliary: kept.append(output.sum()))
        for _ in range(2):
            auxiliary.clear()
            loss = F.cross_entropy(model(x), y)
            (loss + factor * auxiliary[0]).backward()
        fitted.append(feedback.state_dict()["fitted"]["matrices"]["hidden.0"])
    torch.testing.assert_close(fitted[0], fitted[1])


class Checkpointed(nn.Module):
    """Two blocks and what lies between them, as one part that may be checkpointed."""

    def __init__(self, again: bool) -> None:
        super().__init__()
        self.inner, self.again = mlp(13, 17), again

    def part(self, x: Any) -> Any:
        for block in self.inner.hidden:
            x = torch.sin(2 * block(x))
        return x

    def forward(self, x: Any) -> Any:
        return self.inner.top(checkpoint(self.part, x, use_reentrant=False) if self.again else self.part(x))


def test_checkpoints_around_blocks_change_nothing() -> None:
    models = [Checkpointed(again) for again in (False, True)]
    for model in models:
        blocks = ["inner.hidden.0", "inner.hidden.1"]
        dfa.attach(model, blocks, method="fitted", fitting=dfa.Fitting(2), seed=5)
    for number in range(5):
        plain, again = (backward(model, *examples(40, number)) for model in models)
        for name in plain:
            assert_same_bits(again[name].numpy(), plain[name].numpy())


def test_a_scaler_changes_nothing() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    plain, scaled, (x, y) = mlp(13, 17), mlp(13, 17), examples(40)
    attached(plain)
    feedback = dfa.attach(scaled, BLOCKS, method="fitted", fitting=dfa.Fitting(2), seed=5, scaler=scaler)
    for _ in range(5):
        wanted = backward(plain, x, y)
        scaled.zero_grad()
        scaler.scale(F.cross_entropy(scaled(x), y)).backward()
        assert_close({name: g / 2.0**12 for name, g in gradients(scaled).items()}, wanted)
    assert feedback.state_dict()["passes"] == 5


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_pass_that_is_not_finite_changes_no_matrix(bad: float) -> None:
    model, (x, y) = mlp(13, 17), examples(40)
    feedback = attached(model)
    for _ in range(3):
        backward(model, x, y)
    before = feedback.state_dict()["fitted"]
    model.zero_grad()
    (bad * F.cross_entropy(model(x), y)).backward()
    after = feedback.state_dict()["fitted"]
    assert all(torch.equal(before["matrices"][name], after["matrices"][name]) for name in BLOCKS)
    backward(model, x, y)
    given = backward(model, x, y)
    assert all(bool(g.isfinite().all()) for g in given.values())


def test_a_training_resumes_from_its_state() -> None:
    def step(model: Any, optimizer: Any, number: int) -> None:
        x, y = examples(40, number)
        backward(model, x, y)
        optimizer.step()

    whole = mlp(13, 17)
    feedback, optimizer = attached(whole, 3), torch.optim.SGD(whole.parameters(), 0.1)
    for number in range(8):
        step(whole, optimizer, number)
        if number == 4:
            file = io.BytesIO()
            torch.save({"model": whole.state_dict(), "feedback": feedback.state_dict()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    again = mlp(13, 17)
    resumed = attached(again, 7)
    again.load_state_dict(state["model"])
    resumed.load_state_dict(state["feedback"])
    assert resumed.fitting == dfa.Fitting(3)
    optimizer = torch.optim.SGD(again.parameters(), 0.1)
    for number in range(5, 8):
        step(again, optimizer, number)
    for mine, theirs in zip(again.parameters(), whole.parameters(), strict=True):
        assert_same_bits(mine.detach().numpy(), theirs.detach().numpy())


def test_a_copy_has_matrices_of_its_own() -> None:
    model, (x, y) = mlp(13, 17), examples(40)
    feedback = attached(model)
    for _ in range(3):
        backward(model, x, y)
    copied = copy.deepcopy(model)
    before = feedback.state_dict()["fitted"]["matrices"]["hidden.0"].clone()
    for _ in range(3):
        backward(copied, *examples(40, 1))
    theirs = dfa.Feedback.of(copied)
    assert theirs is not None
    assert torch.equal(feedback.state_dict()["fitted"]["matrices"]["hidden.0"], before)
    assert not torch.equal(theirs.state_dict()["fitted"]["matrices"]["hidden.0"], before)


def test_diagnoses_fit_nothing_and_find_nothing_wrong() -> None:
    model, (x, y) = mlp(13, 17), examples(40)
    feedback = attached(model)

    def loss() -> Any:
        return F.cross_entropy(model(x), y)

    for _ in range(3):
        backward(model, x, y)  # so the next pass would be one by backpropagation
    before = feedback.state_dict()
    found = feedback.check(loss)
    assert found.method == "fitted"
    assert max(found.blocks.values()) < 1e-5
    feedback.alignment(loss, method="dfa")
    after = feedback.state_dict()
    assert torch.equal(before["fitted"]["moments"], after["fitted"]["moments"])
    assert before["passes"] == after["passes"] == 3


def test_what_it_counts() -> None:
    model, (x, y) = mlp(13, 17), examples()
    feedback = attached(model)
    for _ in range(4):
        backward(model, x, y)
    assert feedback.statistics.projections == 0  # nothing was projected by the random matrix
    with pytest.raises(RuntimeError, match="no error has been projected"):
        feedback.hardware_report()


def test_a_second_backward_pass_is_refused_in_both_kinds_of_pass() -> None:
    model, (x, y) = mlp(13, 17), examples()
    attached(model)
    for _ in range(2):
        loss = F.cross_entropy(model(x), y)
        loss.backward(retain_graph=True)
        with pytest.raises(RuntimeError, match="a second backward pass"):
            loss.backward()


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "every is 1, but must be from 2", {"every": 1}),
        (TypeError, "every is 2.5, but must be an integer", {"every": 2.5}),
        (ValueError, "memory is 0.5, but must be", {"memory": 0.5}),
        (ValueError, "memory is nan, but must be", {"memory": math.nan}),
        (ValueError, "memory is inf, but must be", {"memory": math.inf}),
        (TypeError, "memory is 'long', but must be a number", {"memory": "long"}),
    ],
)
def test_bad_settings(error: Any, message: str, arguments: Any) -> None:
    with pytest.raises(error, match=message):
        dfa.Fitting(**arguments)


def test_bad_uses() -> None:
    model = mlp(13, 17)
    with pytest.raises(TypeError, match=r"fitting is 20, but must be an opuproj\.dfa\.Fitting"):
        dfa.attach(model, BLOCKS, fitting=20)  # type: ignore[arg-type]
    feedback = attached(model)
    with pytest.raises(TypeError, match="fitting is None"):
        feedback.fitting = None
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(ValueError, match="method is 'fitted', but only 'odfa' and 'dfa' are tuned"):
        feedback.tune(lambda batch: model(batch).sum(), [torch.ones(2, 20)] * 4, optimizer)
    wide = mlp(4, n_classes=8193)
    dfa.attach(wide, ["hidden.0"], method="fitted")
    x, _ = examples()
    with pytest.raises(
        ValueError, match="an error vector has 8193 elements at the model's output, but method 'fitted'"
    ):
        wide(x).sum().backward()


def test_a_state_of_other_widths_is_refused() -> None:
    model, (x, y) = mlp(13, 17), examples()
    feedback = attached(model)
    for _ in range(2):
        backward(model, x, y)
    state = feedback.state_dict()
    state["fitted"]["matrices"]["hidden.1"] = torch.zeros(16, 10)
    with pytest.raises(
        ValueError, match=r"fitted matrix of shape \(16, 10\) for block 'hidden.1', but it must have \(17"
    ):
        feedback.load_state_dict(state)


@pytest.mark.long
def test_replicas_train_one_model() -> None:
    """Each replica fits matrices to its own data; DistributedDataParallel averages the gradients of both."""
    output = run(
        """
        import os, torch
        import torch.multiprocessing as mp
        from dfa_models import F, examples, mlp
        from opuproj import dfa

        def train(rank, world, file):
            torch.set_num_threads(1)
            torch.distributed.init_process_group("gloo", f"file://{file}", rank=rank, world_size=world)
            model, (x, y) = mlp(13, 17), examples(40, rank)
            feedback = dfa.attach(model, ["hidden.0", "hidden.1"], method="fitted", fitting=dfa.Fitting(2))
            wrapped = torch.nn.parallel.DistributedDataParallel(model)
            optimizer = torch.optim.SGD(model.parameters(), 0.5)
            for _ in range(5):
                optimizer.zero_grad()
                F.cross_entropy(wrapped(x), y).backward()
                optimizer.step()
            torch.save((model.state_dict(), feedback.state_dict()["fitted"]["matrices"]), f"{file}.{rank}")
            torch.distributed.destroy_process_group()

        if __name__ == "__main__":
            import tempfile
            with tempfile.TemporaryDirectory() as folder:
                file = os.path.join(folder, "rendezvous")
                mp.start_processes(train, (2, file), 2, start_method="fork")
                (first, mine), (second, theirs) = (torch.load(f"{file}.{rank}") for rank in range(2))
                for name in first:
                    assert torch.equal(first[name], second[name]), name
                assert not torch.equal(mine["hidden.0"], theirs["hidden.0"])
                print("same")
        """,
        PYTHONPATH=os.pathsep.join(sys.path),
    )
    assert "same" in output
