"""The gradients of each part of a model: its projection of the error, its true gradient, or none."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import opuproj
import oracle
import pytest
from dfa_models import Convolutional, F, Language, examples, gradients, images, language_loss, mlp, nn, sentences, torch
from helpers import assert_same_bits
from opuproj import dfa


def error_at_output(model: Any, x: Any, y: Any) -> Any:
    """dL/dz of the cross entropy, by hand."""
    with torch.no_grad():
        z = model(x)
        return (z.softmax(-1) - F.one_hot(y, z.shape[-1])) / z.shape[:-1].numel()


def fed_to(block: Any, store: dict[str, Any], name: str) -> None:
    """Record the gradient at the output of a block."""

    def forward_hook(module: Any, args: Any, output: Any) -> None:
        if output.requires_grad:
            output.register_hook(lambda gradient: store.__setitem__(name, gradient.clone()))

    # Before the feedback's own hook, which detaches the output.
    block.register_forward_hook(forward_hook, prepend=True)


@pytest.mark.every_backend
def test_a_block_receives_the_ternary_error_through_its_rows_exactly() -> None:
    model, (x, y) = mlp(13, 17), examples()
    fed: dict[str, Any] = {}
    rule = dfa.Ternarize(dfa.RowMax(0.3), norm="row")
    feedback = dfa.attach(model, ["hidden.0", "hidden.1"], ternarize=rule, seed=7)
    for name in feedback.blocks:
        fed_to(model.get_submodule(name), fed, name)
    z = model(x)
    z.retain_grad()
    F.cross_entropy(z, y).backward()
    t, a = rule(z.grad)
    assert 0 < t.count_nonzero() < t.numel()
    for name, rows in {"hidden.0": range(13), "hidden.1": range(13, 30)}.items():
        dense = oracle.project(7, t.numpy(), rows, "linear").astype(np.float32)  # R t, correctly rounded
        wanted = torch.from_numpy(dense) * (a * (1.0 / math.sqrt(len(rows))))
        assert_same_bits(fed[name], wanted)


def test_a_block_receives_the_float_error_through_its_rows() -> None:
    model, (x, y) = mlp(13, 17).double(), examples()
    fed: dict[str, Any] = {}
    feedback = dfa.attach(model, ["hidden.0", "hidden.1"], method="dfa", seed=7, gain={"hidden.1": 2.5})
    for name in feedback.blocks:
        fed_to(model.get_submodule(name), fed, name)
    F.cross_entropy(model(x.double()), y).backward()
    e = error_at_output(model, x.double(), y).numpy()
    for name, rows, gain in (("hidden.0", range(13), 1.0), ("hidden.1", range(13, 30), 2.5)):
        matrix = oracle.project(7, np.eye(10, dtype=np.int8), rows, "linear")
        np.testing.assert_allclose(fed[name], e @ matrix * gain / math.sqrt(len(rows)), rtol=1e-13, atol=1e-16)


def test_parameters_get_the_gradient_that_their_feedback_gives_them() -> None:
    model, (x, y) = mlp(13, 17), examples()
    rule = dfa.Ternarize(dfa.TopK(3), norm="batch")
    feedback = dfa.attach(model, ["hidden.0", "hidden.1"], ternarize=rule, seed=3)
    z = model(x)
    z.retain_grad()
    F.cross_entropy(z, y).backward()
    t, a = rule(z.grad)
    projected = torch.from_numpy(feedback.operator(10)(t.numpy()))
    inputs = x
    for block, rows in zip(model.hidden, feedback.rows.values(), strict=True):
        alone = nn.Sequential(nn.Linear(inputs.shape[1], len(rows)), nn.Tanh())
        alone.load_state_dict(block.state_dict())
        output = alone(inputs)
        output.backward(projected[:, rows.start : rows.stop] * (a / math.sqrt(len(rows))))
        assert_same_bits(block[0].weight.grad, alone[0].weight.grad)
        assert_same_bits(block[0].bias.grad, alone[0].bias.grad)
        inputs = output.detach()


@pytest.mark.parametrize("method", ["odfa", "dfa"])
def test_what_lies_above_the_last_block_gets_its_true_gradient(method: Any) -> None:
    model, (x, y) = mlp(13, 17), examples()
    F.cross_entropy(model(x), y).backward()
    true = gradients(model)
    model.zero_grad()
    dfa.attach(model, ["hidden.0", "hidden.1"], method=method)
    F.cross_entropy(model(x), y).backward()
    assert_same_bits(model.top.weight.grad, true["top.weight"])
    assert_same_bits(model.top.bias.grad, true["top.bias"])
    assert not torch.equal(model.hidden[0][0].weight.grad, true["hidden.0.0.weight"])


@pytest.mark.parametrize("make", ["mlp", "convolutional", "language"])
def test_backpropagation_is_that_of_the_unattached_model_bit_for_bit(make: str) -> None:
    model, loss, blocks = CASES[make]()
    loss(model).backward()
    true = gradients(model)
    model.zero_grad()
    feedback = dfa.attach(model, blocks, method="bp")
    loss(model).backward()
    for name, gradient in gradients(model).items():
        assert_same_bits(gradient, true[name])
    feedback.method = "odfa"
    feedback.remove()
    feedback.remove()
    model.zero_grad()
    loss(model).backward()
    for name, gradient in gradients(model).items():
        assert_same_bits(gradient, true[name])


def test_removed_feedback_leaves_a_module_that_is_in_the_model_no_longer() -> None:
    model = mlp(13, 17)
    output = model.top
    feedback = dfa.attach(model, ["hidden.0", "hidden.1"], output=output)
    model.top = torch.nn.Linear(output.in_features, output.out_features)
    feedback.remove()
    assert not any(module._forward_hooks for module in (output, *model.modules()))


def test_shallow_trains_the_top_alone() -> None:
    model, (x, y) = mlp(13, 17), examples()
    F.cross_entropy(model(x), y).backward()
    true = gradients(model)
    model.zero_grad()
    dfa.attach(model, ["hidden.0", "hidden.1"], method="shallow")
    F.cross_entropy(model(x), y).backward()
    for name, gradient in gradients(model).items():
        if name.startswith("top"):
            assert_same_bits(gradient, true[name])
        else:
            assert gradient is None, name


@pytest.mark.parametrize("how", ["zero gain", "nothing survives"])
def test_without_feedback_nothing_below_the_top_moves(how: str) -> None:
    model, (x, y) = mlp(13, 17), examples()
    if how == "zero gain":
        dfa.attach(model, ["hidden.0", "hidden.1"], method="dfa", gain=0.0)
    else:
        dfa.attach(model, ["hidden.0", "hidden.1"], ternarize=dfa.Ternarize(dfa.Fixed(100.0)))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]) == (not name.startswith("top")), name


def test_blocks_of_equal_width_get_disjoint_rows_of_one_matrix() -> None:
    model, (x, y) = mlp(16, 16, 16), examples()
    fed: dict[str, Any] = {}
    feedback = dfa.attach(model, ["hidden.2", "hidden.0", "hidden.1"])
    for name in feedback.blocks:
        fed_to(model.get_submodule(name), fed, name)
    assert feedback.rows == {}
    F.cross_entropy(model(x), y).backward()
    assert feedback.rows == {"hidden.2": range(16), "hidden.0": range(16, 32), "hidden.1": range(32, 48)}
    assert len({tuple(fed[name].flatten().tolist()) for name in fed}) == 3


def test_feedback_keeps_the_norm_of_the_error() -> None:
    model, (x, y) = mlp(3000), examples(64)
    for method in ("odfa", "dfa"):
        fed: dict[str, Any] = {}
        fed_to(model.hidden[0], fed, "hidden.0")
        feedback = dfa.attach(model, ["hidden.0"], method=method, ternarize=dfa.Ternarize(dfa.RowMax(0.1), norm="row"))
        F.cross_entropy(model(x), y).backward()
        ratio = fed["hidden.0"].norm(dim=1) / error_at_output(model, x, y).norm(dim=1)
        assert (ratio - 1).abs().max() < 0.1  # 3,000 rows: standard deviation about 0.02
        feedback.remove()


# Outputs of blocks


def test_every_position_of_a_sequence_gets_its_own_error() -> None:
    model, (tokens, following) = Language(), sentences()
    feedback = dfa.attach(model, list(model.layers), seed=5, batch_axes=2)
    report = feedback.check(lambda: language_loss(model, tokens, following))
    assert [len(rows) for rows in feedback.rows.values()] == [8, 8, 8]
    assert list(report.blocks) == ["layers.0", "layers.1", "layers.2"]
    assert max(report.blocks.values()) < 1e-6
    language_loss(model, tokens, following).backward()
    assert model.embedding.weight.grad.any()  # trains with the first block


def test_the_error_may_be_taken_below_the_vocabulary() -> None:
    model, (tokens, following) = Language(), sentences()
    feedback = dfa.attach(model, model.layers, output="norm", batch_axes=2)
    report = feedback.check(lambda: language_loss(model, tokens, following))
    assert set(report.top) == {"norm.weight", "norm.bias", "head.weight", "head.bias"}
    assert set(report.top.values()) == {0.0}
    before = feedback.statistics.elements
    language_loss(model, tokens, following).backward()
    assert feedback.statistics.elements - before == tokens.numel() * 8  # the width, not the vocabulary


def test_all_of_an_image_is_one_vector() -> None:
    model, (x, y) = Convolutional(), images()
    feedback = dfa.attach(model, [model.first, model.second], method="dfa")
    feedback.check(lambda: F.cross_entropy(model(x), y))
    assert [len(rows) for rows in feedback.rows.values()] == [4 * 4 * 4, 6 * 4 * 4]
    F.cross_entropy(model(x), y).backward()
    assert model.first[0].weight.grad.shape == (4, 1, 3, 3)


def test_one_error_for_a_whole_sequence() -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.top = nn.Linear(6, 7), nn.Linear(7, 3)

        def forward(self, x: Any) -> Any:
            return self.top(self.layer(x).mean(1))

    model, x = Pooled(), torch.randn(4, 5, 6)
    feedback = dfa.attach(model, ["layer"])
    F.cross_entropy(model(x), torch.arange(4) % 3).backward()
    assert feedback.rows == {"layer": range(5 * 7)}


def test_one_error_for_a_whole_sequence_when_a_block_has_no_positions() -> None:
    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.code, self.spread, self.top = nn.Linear(6, 4), nn.Linear(4, 5 * 4), nn.Linear(4, 3)

        def forward(self, x: Any) -> Any:
            return self.top(self.spread(self.code(x)).unflatten(-1, (5, 4)))

    model, x = Decoder(), torch.randn(2, 6)
    feedback = dfa.attach(model, ["code", "spread"], batch_axes=1)
    feedback.check(lambda: model(x).square().mean())
    assert feedback.statistics.projections == 0  # a check is not counted
    model(x).square().mean().backward()
    assert (feedback.statistics.vectors, feedback.statistics.elements) == (2, 2 * 5 * 3)


def test_batch_axes_decide_what_a_vector_is() -> None:
    model, (tokens, following) = Language(), sentences()
    feedback = dfa.attach(model, model.layers, batch_axes=1)
    feedback.check(lambda: language_loss(model, tokens, following))
    assert [len(rows) for rows in feedback.rows.values()] == [5 * 8] * 3


@pytest.mark.parametrize("container", [tuple, list, dict])
def test_a_block_may_return_a_container_and_all_of_it_is_cut(container: type) -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(20, 6), nn.Linear(20, 6)

        def forward(self, x: Any) -> Any:
            parts = [torch.arange(3), self.a(x), self.b(x), None]
            return dict(enumerate(parts)) if container is dict else container(parts)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.both, self.top = Both(), nn.Linear(12, 10)

        def forward(self, x: Any) -> Any:
            _, a, b, _ = parts.values() if isinstance(parts := self.both(x), dict) else parts
            return self.top(torch.cat([a, b], 1))

    model, (x, y) = Model(), examples()
    feedback = dfa.attach(model, ["both"])
    with pytest.warns(UserWarning, match="parameters 'both.b.weight', 'both.b.bias' are not trained"):
        F.cross_entropy(model(x), y).backward()
    F.cross_entropy(model(x), y).backward()  # warns only once
    assert model.both.a.weight.grad.any()
    assert model.both.b.weight.grad is None  # the first floating-point tensor is the block's output
    report = feedback.check(lambda: F.cross_entropy(model(x), y))
    assert report.unfed == ("both.b.weight", "both.b.bias")
    assert "both.b.weight" in str(report)


@pytest.mark.parametrize("method", ["odfa", "dfa"])
@pytest.mark.parametrize("feed", ["all", {"encoder": "all"}])
def test_all_outputs_of_a_block_are_fed_as_parts_of_one_vector(method: Any, feed: Any) -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.mu, self.spread = nn.Linear(20, 16), nn.Linear(16, 4), nn.Linear(16, 3)

        def forward(self, x: Any) -> Any:
            h = self.body(x).tanh()
            return self.mu(h), {"spread": self.spread(h), "note": "text"}

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.top = Encoder(), nn.Linear(7, 10)

        def forward(self, x: Any) -> Any:
            mu, rest = self.encoder(x)
            return self.top(torch.cat([mu, rest["spread"]], 1))

    model, (x, y) = Model().double(), examples()
    rule = dfa.Ternarize(dfa.RowMax(0.3), norm="row")
    feedback = dfa.attach(model, ["encoder"], method=method, feed=feed, seed=7, ternarize=rule)
    fed: dict[str, Any] = {}
    fed_to(model.encoder.mu, fed, "mu")
    fed_to(model.encoder.spread, fed, "spread")
    z = model(x.double())
    z.retain_grad()
    F.cross_entropy(z, y).backward()
    t, a = rule(z.grad) if method == "odfa" else (z.grad, 1.0)
    matrix = oracle.project(7, np.eye(10, dtype=np.int8), range(7), "linear")
    wanted = torch.from_numpy(t.double().numpy() @ matrix) * a / math.sqrt(7)
    torch.testing.assert_close(torch.cat([fed["mu"], fed["spread"]], 1), wanted, rtol=1e-12, atol=1e-15)
    assert feedback.rows == {"encoder": range(7)}
    assert feedback.check(lambda: F.cross_entropy(model(x.double()), y)).unfed == ()


def test_experts_that_are_not_used_and_outputs_that_bring_nothing_new_are_no_fault() -> None:
    class Mixture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.ModuleList(nn.Linear(20, 8) for _ in range(3))

        def forward(self, x: Any) -> Any:
            h = self.experts[1](x)
            return h, h.mean(1)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block, self.top = Mixture(), nn.Linear(8, 10)

        def forward(self, x: Any) -> Any:
            return self.top(self.block(x)[0])

    model, (x, y) = Model(), examples()
    feedback = dfa.attach(model, ["block"])
    F.cross_entropy(model(x), y).backward()
    assert feedback.check(lambda: F.cross_entropy(model(x), y)).unfed == ()


def test_the_output_may_be_a_container() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block, self.top = nn.Linear(20, 6), nn.Linear(6, 10)

        def forward(self, x: Any) -> Any:
            return {"logits": self.top(self.block(x)), "note": "text"}

    model, (x, y) = Model(), examples()
    dfa.attach(model, ["block"])
    F.cross_entropy(model(x)["logits"], y).backward()
    assert model.block.weight.grad.any()


def test_the_output_may_be_changed_in_place() -> None:
    class Cooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block, self.top = nn.Linear(20, 6), nn.Linear(6, 10)

        def forward(self, x: Any) -> Any:
            z = self.top(self.block(x))
            z /= 2
            return z

    model, (x, y) = Cooled(), examples()
    feedback = dfa.attach(model, ["block"], output="top")
    feedback.check(lambda: F.cross_entropy(model(x), y))


def test_a_frozen_block_keeps_its_rows_and_gets_nothing() -> None:
    model, (x, y) = mlp(13, 17), examples()
    model.hidden[1].requires_grad_(False)
    feedback = dfa.attach(model, ["hidden.0", "hidden.1"])
    F.cross_entropy(model(x), y).backward()
    assert feedback.rows == {"hidden.0": range(13), "hidden.1": range(13, 30)}
    assert model.hidden[0][0].weight.grad.any()
    assert model.hidden[1][0].weight.grad is None


def test_an_infinite_error_becomes_nan_as_in_backpropagation() -> None:
    model, (x, y) = mlp(13), examples()
    dfa.attach(model, ["hidden.0"])
    (F.cross_entropy(model(x), y) * math.inf).backward()
    assert model.hidden[0][0].weight.grad.isnan().any()


@pytest.mark.parametrize(
    "options",
    [
        {"method": "dfa"},
        {"method": "dfa", "ensemble": "structured"},
        {"method": "odfa", "ensemble": "structured"},
        {"method": "odfa", "camera": opuproj.Camera(photons=100)},
        *(
            {"method": "odfa", "ternarize": dfa.Ternarize(rule, norm=norm)}
            for rule in (
                dfa.Dither(4.0),
                dfa.Fixed(0.1),
                dfa.RowMax(0.3),
                dfa.RowStd(1.0),
                dfa.BatchMax(0.3),
                dfa.TopK(3),
            )
            for norm in ("row", "batch", "none")
        ),
    ],
    ids=str,
)
def test_an_empty_batch_gives_gradients_of_zero(options: dict[str, Any]) -> None:
    model, (x, y) = mlp(13, 17), examples()
    dfa.attach(model, ["hidden.0", "hidden.1"], **options)
    for _ in range(2):  # before rows of T are assigned, and after a batch that is not empty
        model.zero_grad()
        model(torch.zeros(0, 20)).sum().backward()
        assert all(torch.equal(g, torch.zeros_like(g)) for g in gradients(model).values())
        F.cross_entropy(model(x), y).backward()
        assert gradients(model)["hidden.0.0.weight"].any()


def _case_mlp() -> Any:
    (x, y) = examples()
    return mlp(13, 17), lambda model: F.cross_entropy(model(x), y), ["hidden.0", "hidden.1"]


def _case_convolutional() -> Any:
    (x, y) = images()
    return Convolutional(), lambda model: F.cross_entropy(model(x), y), ["first", "second"]


def _case_language() -> Any:
    tokens, following = sentences()
    return Language(), lambda model: language_loss(model, tokens, following), ["layers.0", "layers.1"]


CASES = {"mlp": _case_mlp, "convolutional": _case_convolutional, "language": _case_language}
