"""Direct feedback alignment works in users' training loops without changes to them."""

from __future__ import annotations

import copy
import io
import os
import pickle
import sys
import weakref
from typing import Any

import numpy as np
import pytest
from dfa_models import F, Language, Layer, examples, gradients, language_loss, mlp, nn, sentences, torch
from helpers import assert_same_bits, run
from opuproj import dfa
from torch.utils.checkpoint import checkpoint

BLOCKS = ["hidden.0", "hidden.1"]


def train(model: Any, optimizer: Any, steps: range) -> None:
    for step in steps:
        x, y = examples(8, seed=step)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


def assert_same_model(a: Any, b: Any) -> None:
    for (name, p), q in zip(a.named_parameters(), b.parameters(), strict=True):
        assert torch.equal(p, q), name


@pytest.mark.long
@pytest.mark.parametrize("method", ["odfa", "dfa"])
def test_training_is_deterministic_and_the_seed_matters(method: Any) -> None:
    models = []
    for seed in (0, 0, 1):
        model = mlp(13, 17)
        dfa.attach(model, BLOCKS, method=method, seed=seed)
        train(model, torch.optim.Adam(model.parameters(), 1e-2), range(5))
        models.append(model)
    assert_same_model(models[0], models[1])
    assert not torch.equal(models[0].hidden[0][0].weight, models[2].hidden[0][0].weight)


def test_a_resumed_training_is_the_uninterrupted_one() -> None:
    def attached() -> tuple[Any, Any, Any]:
        model = mlp(13, 17)
        return model, torch.optim.Adam(model.parameters(), 1e-2), dfa.attach(model, BLOCKS, seed=4)

    model, optimizer, _ = attached()
    train(model, optimizer, range(8))

    first, its_optimizer, its_feedback = attached()
    train(first, its_optimizer, range(3))
    file = io.BytesIO()
    parts = {"model": first, "optimizer": its_optimizer, "feedback": its_feedback}
    torch.save({name: part.state_dict() for name, part in parts.items()}, file)
    file.seek(0)

    second, its_optimizer, its_feedback = attached()
    saved = torch.load(file, weights_only=True)
    for name, part in {"model": second, "optimizer": its_optimizer, "feedback": its_feedback}.items():
        part.load_state_dict(saved[name])
    assert its_feedback.rows == {"hidden.0": range(13), "hidden.1": range(13, 30)}
    train(second, its_optimizer, range(3, 8))
    assert_same_model(model, second)


def test_a_feedback_attached_otherwise_refuses_the_saved_one() -> None:
    model = mlp(13, 17)
    state = dfa.attach(model, BLOCKS, seed=4).state_dict()
    other = dfa.attach(mlp(13, 17), BLOCKS, seed=5)
    with pytest.raises(ValueError, match="the saved feedback has seed 4, but this one has 5"):
        other.load_state_dict(state)


def test_what_is_no_state_of_a_feedback_is_refused() -> None:
    feedback = dfa.attach(mlp(13, 17), BLOCKS)
    state = feedback.state_dict()
    later = {
        "mode",
        "ensemble",
        "batch_dims",
        "ternarize",
        "camera",
        "passes",
        "fitting",
        "fitted",
    }  # not in states of earlier versions
    for name in (*state.keys() - later, None):
        wrong = {} if name is None else {key: value for key, value in state.items() if key != name}
        with pytest.raises(ValueError, match=f"the state has no '{name or 'version'}': it is not that of a Feedback"):
            feedback.load_state_dict(wrong)
    feedback.load_state_dict({key: value for key, value in state.items() if key not in later})


def test_the_model_s_own_state_is_as_without_feedback() -> None:
    plain, attached = mlp(13, 17), mlp(13, 17)
    dfa.attach(attached, BLOCKS)
    assert list(plain.state_dict()) == list(attached.state_dict())


def test_gradients_accumulate() -> None:
    model, (x, y) = mlp(13, 17), examples(8)
    feedback = dfa.attach(model, BLOCKS, method="dfa")
    F.cross_entropy(model(x), y).backward()
    whole = gradients(model)
    model.zero_grad()
    for half in (slice(0, 4), slice(4, 8)):
        (F.cross_entropy(model(x[half]), y[half]) / 2).backward()
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, whole[name], rtol=1e-4, atol=1e-7)
    assert feedback.statistics.projections == 3


def test_one_backward_pass_for_two_forward_passes() -> None:
    model, (x, y) = mlp(13, 17), examples(8)
    dfa.attach(model, BLOCKS, method="dfa")
    F.cross_entropy(model(x), y).backward()
    whole = gradients(model)
    model.zero_grad()
    losses = [F.cross_entropy(model(x[half]), y[half]) / 2 for half in (slice(0, 4), slice(4, 8))]
    sum(losses).backward()
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, whole[name], rtol=1e-4, atol=1e-7)


def test_gradients_can_be_clipped() -> None:
    model, (x, y) = mlp(13, 17), examples()
    dfa.attach(model, BLOCKS)
    F.cross_entropy(model(x), y).backward()
    before = gradients(model)
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.01)
    assert norm > 0.01
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, before[name] * (0.01 / norm), rtol=1e-3, atol=1e-7)


def test_evaluation_without_gradients_is_untouched() -> None:
    model, (x, y) = mlp(13, 17), examples()
    plain = copy.deepcopy(model)
    feedback = dfa.attach(model, BLOCKS)
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            assert torch.equal(model(x), plain(x))
            model.hidden[0](x)  # a block may run on its own here
    assert feedback.rows == {}
    F.cross_entropy(model(x), y).backward()
    with torch.no_grad():
        model(torch.randn(3, 20))
    assert feedback.statistics.projections == 1


@pytest.mark.parametrize("method", ["odfa", "dfa"])
def test_mixed_precision(method: Any) -> None:
    model, (x, y) = mlp(13, 17), examples()
    feedback = dfa.attach(model, BLOCKS, method=method)

    def loss() -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            z = model(x)
            assert z.dtype == torch.bfloat16
            return F.cross_entropy(z.float(), y)

    feedback.check(loss)
    loss().backward()
    assert model.hidden[0][0].weight.grad.dtype == torch.float32
    assert model.hidden[0][0].weight.grad.isfinite().all()
    with torch.autocast("cpu", dtype=torch.bfloat16):  # around the backward pass, too
        F.cross_entropy(model(x).float(), y).backward()


@pytest.mark.parametrize("method", ["odfa", "dfa"])
@pytest.mark.parametrize("rule", [dfa.Fixed(0.01), dfa.RowMax(0.25)])
def test_a_gradient_scaler_changes_nothing(method: Any, rule: Any) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    ternarize = dfa.Ternarize(rule, norm="none")
    plain, scaled = mlp(13, 17), mlp(13, 17)
    dfa.attach(plain, BLOCKS, method=method, ternarize=ternarize)
    dfa.attach(scaled, BLOCKS, method=method, ternarize=ternarize, scaler=scaler)
    x, y = examples()
    F.cross_entropy(plain(x), y).backward()
    scaler.scale(F.cross_entropy(scaled(x), y)).backward()
    scaler.unscale_(torch.optim.SGD(scaled.parameters(), 0.1))
    for name, gradient in gradients(plain).items():
        torch.testing.assert_close(gradients(scaled)[name], gradient)


@pytest.mark.long
@pytest.mark.parametrize("when", ["blocks before", "blocks after", "model"])
@pytest.mark.filterwarnings("ignore")
def test_compiled_blocks_get_the_same_gradients(when: str) -> None:
    model, compiled, (x, y) = mlp(13, 17), mlp(13, 17), examples()
    torch.compiler.reset()
    if when == "blocks before":
        compiled.hidden = nn.ModuleList(torch.compile(block, backend="aot_eager") for block in compiled.hidden)
    dfa.attach(model, BLOCKS)
    feedback = dfa.attach(compiled, list(compiled.hidden))
    if when == "blocks after":
        compiled.hidden = nn.ModuleList(torch.compile(block, backend="aot_eager") for block in compiled.hidden)
    forward = torch.compile(compiled, backend="aot_eager") if when == "model" else compiled
    for _ in range(2):
        model.zero_grad()
        compiled.zero_grad()
        F.cross_entropy(model(x), y).backward()
        F.cross_entropy(forward(x), y).backward()
        for p, q in zip(model.parameters(), compiled.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad)
    feedback.check(lambda: F.cross_entropy(compiled(x), y))


def test_a_module_compiled_in_place_gets_the_same_gradients() -> None:
    model, compiled, (x, y) = mlp(13, 17), mlp(13, 17), examples()
    dfa.attach(model, BLOCKS)
    for block in compiled.hidden:
        block.compile(backend="aot_eager")
    dfa.attach(compiled, BLOCKS)
    F.cross_entropy(model(x), y).backward()
    F.cross_entropy(compiled(x), y).backward()
    for p, q in zip(model.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


class Checkpointed(Language):
    """A language model whose layers may be checkpointed, so that they keep no activations."""

    def __init__(self, **options: Any) -> None:
        super().__init__(n_layers=2, dropout=0.2)
        self.options = options

    def forward(self, tokens: Any) -> Any:
        x = self.embedding(tokens)
        for layer in self.layers:
            x, _ = checkpoint(layer, x, **self.options) if self.options else layer(x)
        return self.head(self.norm(x))


@pytest.mark.long
def test_checkpointing_around_a_block_changes_nothing() -> None:
    tokens, following = sentences()
    results = []
    for options in ({}, {"use_reentrant": False}):
        model = Checkpointed(**options)
        dfa.attach(model, model.layers, batch_axes=2)
        torch.manual_seed(0)
        language_loss(model, tokens, following).backward()
        results.append(gradients(model))
    for name, gradient in results[0].items():
        assert_same_bits(gradient, results[1][name])


def test_checkpointing_inside_a_block_changes_nothing() -> None:
    class Inside(nn.Module):
        def __init__(self, layer: Any) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Any) -> Any:
            return checkpoint(self.layer, x, use_reentrant=False)[0]

    class Plain(Inside):
        def forward(self, x: Any) -> Any:
            return self.layer(x)[0]

    results = []
    x = torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(0))
    for kind in (Plain, Inside):
        torch.manual_seed(0)
        model = nn.Sequential(*(kind(Layer(8, dropout=0.1)) for _ in range(2)), nn.Linear(8, 5))
        dfa.attach(model, ["0", "1"], batch_axes=2)
        model(x).square().mean().backward()
        results.append(gradients(model))
    for name, gradient in results[0].items():
        assert_same_bits(gradient, results[1][name])


def test_a_block_s_activations_are_freed_before_the_next_block_is_trained() -> None:
    class Kept:
        def __init__(self, tensor: Any) -> None:
            self.tensor = tensor

    kept = {name: weakref.WeakSet[Kept]() for name in "abc"}
    left: dict[str, dict[str, int]] = {}

    class Block(nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name, self.linear = name, nn.Linear(20, 20)

        def forward(self, x: Any) -> Any:
            def pack(tensor: Any) -> Kept:
                keep = Kept(tensor)
                kept[self.name].add(keep)
                return keep

            with torch.autograd.graph.saved_tensors_hooks(pack, lambda keep: keep.tensor):
                y = torch.tanh(self.linear(x))
            y.register_hook(lambda gradient: left.__setitem__(self.name, {n: len(kept[n]) for n in kept}))
            return y

    model = nn.Sequential(Block("a"), Block("b"), Block("c"), nn.Linear(20, 10))
    dfa.attach(model, ["0", "1", "2"])
    x, y = examples()
    F.cross_entropy(model(x), y).backward()
    assert list(left) == ["c", "b", "a"]
    assert (left["b"]["c"], left["a"]["b"]) == (0, 0)
    assert min(left["c"].values()) > 0


def test_an_optimizer_may_step_inside_the_backward_pass() -> None:
    model, plain, (x, y) = mlp(13, 17), mlp(13, 17), examples()
    feedback = dfa.attach(model, BLOCKS)
    dfa.attach(plain, BLOCKS)
    optimizers = {p: torch.optim.SGD([p], 0.1) for p in model.parameters()}

    def step(p: Any) -> None:
        optimizers[p].step()
        p.grad = None

    for p in model.parameters():
        p.register_post_accumulate_grad_hook(step)
    for _ in range(3):
        F.cross_entropy(model(x), y).backward()
        assert all(p.grad is None for p in model.parameters())
    optimizer = torch.optim.SGD(plain.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(plain(x), y).backward()
        optimizer.step()
    assert_same_model(model, plain)
    assert feedback.statistics.projections == 3


@pytest.mark.long
def test_data_parallel_ranks_average_their_gradients() -> None:
    # Two processes have half of the batch each. The sum of their gradients is that of the whole batch.
    output = run(
        """
        import os, torch
        import torch.multiprocessing as mp
        from dfa_models import F, examples, mlp
        from opuproj import dfa

        def train(rank, world, file):
            torch.set_num_threads(1)
            if world > 1:
                torch.distributed.init_process_group("gloo", f"file://{file}", rank=rank, world_size=world)
            model, (x, y) = mlp(13, 17), examples(8)
            dfa.attach(model, ["hidden.0", "hidden.1"], seed=9, ternarize=dfa.Ternarize(dfa.RowMax(0.3), norm="row"))
            wrapped = torch.nn.parallel.DistributedDataParallel(model) if world > 1 else model
            optimizer = torch.optim.SGD(model.parameters(), 0.5)
            mine = slice(rank * 8 // world, (rank + 1) * 8 // world)
            for _ in range(3):
                optimizer.zero_grad()
                F.cross_entropy(wrapped(x[mine]), y[mine]).backward()
                optimizer.step()
            torch.save(model.state_dict(), f"{file}.{world}.{rank}")
            if world > 1:
                torch.distributed.destroy_process_group()

        if __name__ == "__main__":
            import tempfile
            with tempfile.TemporaryDirectory() as folder:
                file = os.path.join(folder, "rendezvous")
                mp.start_processes(train, (2, file), 2, start_method="fork")
                train(0, 1, file)
                alone, first, second = (torch.load(f"{file}.{s}") for s in ("1.0", "2.0", "2.1"))
                for name in alone:
                    assert torch.equal(first[name], second[name]), name
                    torch.testing.assert_close(first[name], alone[name], rtol=1e-4, atol=1e-6)
                print("same")
        """,
        PYTHONPATH=os.pathsep.join(sys.path),
    )
    assert "same" in output


def test_copies_of_a_model_take_their_feedback_along() -> None:
    model, (x, y) = mlp(13, 17), examples()
    feedback = dfa.attach(model, BLOCKS, seed=3)
    F.cross_entropy(model(x), y).backward()
    copies = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    for one in (model, *copies):  # the second pass of each
        one.zero_grad()
        F.cross_entropy(one(x), y).backward()
    for copied in copies:
        for p, q in zip(model.parameters(), copied.parameters(), strict=True):
            assert_same_bits(p.grad, q.grad)
    feedback.remove()
    model.zero_grad()
    F.cross_entropy(model(x), y).backward()
    assert not torch.equal(model.hidden[0][0].weight.grad, copied.hidden[0][0].weight.grad)


def hooks_of(model: Any) -> list[Any]:
    return [
        hook
        for module in model.modules()
        for hooks in (module._forward_pre_hooks, module._forward_hooks, module._forward_hooks_always_called)
        for hook in hooks
    ]


def test_copies_of_a_model_can_be_freed_of_their_feedback() -> None:
    model, plain, (x, y) = mlp(13, 17), mlp(13, 17), examples()
    feedback = dfa.attach(model, BLOCKS)
    both = model, feedback
    for copied, its in (copy.deepcopy(both), pickle.loads(pickle.dumps(both)), (copy.deepcopy(model), None)):
        theirs = dfa.Feedback.of(copied)
        assert theirs is not feedback
        assert its in (None, theirs)
        theirs.remove()
        assert hooks_of(copied) == []
        assert dfa.Feedback.of(copied) is None
        dfa.attach(copied, BLOCKS, method="bp")
    feedback.remove()
    assert hooks_of(model) == []
    F.cross_entropy(model(x), y).backward()
    F.cross_entropy(plain(x), y).backward()
    assert_same_bits(model.hidden[0][0].weight.grad, plain.hidden[0][0].weight.grad)


def test_a_moving_average_of_a_model_is_out_of_the_way() -> None:
    model, (x, y) = mlp(13, 17), examples()
    feedback = dfa.attach(model, BLOCKS)
    loss = F.cross_entropy(model(x), y)
    average = torch.optim.swa_utils.AveragedModel(model)  # a deep copy, in the middle of a step
    loss.backward()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    optimizer.step()
    average.update_parameters(model)
    with torch.no_grad():
        average(x)
    torch.optim.SGD(average.parameters(), 0.1).step()  # it has no pass that waits for an error
    assert feedback.statistics.projections == 1
    feedback.remove()
    dfa.attach(model, BLOCKS)


def test_the_method_can_change_between_passes() -> None:
    model, (x, y) = mlp(13, 17), examples()
    feedback = dfa.attach(model, BLOCKS, method="bp")
    seen = []
    for method in ("bp", "dfa", "odfa", "bp"):
        feedback.method = method
        loss = F.cross_entropy(model(x), y)
        feedback.method = "shallow"  # applies from the next pass on
        model.zero_grad()
        loss.backward()
        seen.append(gradients(model)["hidden.0.0.weight"])
    assert_same_bits(seen[0], seen[3])
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[1], seen[2])


@pytest.mark.long
@pytest.mark.parametrize("method", ["odfa", "dfa"])
def test_it_learns_what_the_top_alone_cannot(method: Any) -> None:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train_set, test_set = order[:1200], order[1200:]
    accuracy = {}
    for chosen in (method, "shallow"):
        torch.manual_seed(0)
        # Narrow at first: without training, the top cannot learn from such features.
        model = nn.Sequential(nn.Linear(64, 12), nn.Tanh(), nn.Linear(12, 64), nn.Tanh(), nn.Linear(64, 10))
        dfa.attach(model, ["1", "3"], method=chosen)
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        for epoch in range(15):
            for batch in train_set[torch.randperm(1200, generator=torch.Generator().manual_seed(epoch))].split(32):
                optimizer.zero_grad()
                F.cross_entropy(model(x[batch]), y[batch]).backward()
                optimizer.step()
        with torch.no_grad():
            accuracy[chosen] = float((model(x[test_set]).argmax(1) == y[test_set]).double().mean())
    assert accuracy[method] > accuracy["shallow"] + 0.05, accuracy
    assert np.isfinite(list(accuracy.values())).all()
