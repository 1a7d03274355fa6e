"""Alignment and checks are correct and have no side effects."""

from __future__ import annotations

import math
from typing import Any

import pytest
from dfa_models import Convolutional, F, Language, examples, gradients, images, language_loss, mlp, nn, sentences, torch
from helpers import assert_same_bits
from opuproj import dfa

BLOCKS = ["hidden.0", "hidden.1"]


@pytest.mark.parametrize("method", ["odfa", "dfa"])
def test_alignment_is_the_cosine_of_the_gradients(method: Any) -> None:
    model, (x, y) = mlp(13, 17), examples()
    feedback = dfa.attach(model, BLOCKS, method=method)

    def loss() -> Any:
        return F.cross_entropy(model(x), y)

    found = feedback.alignment(loss)
    loss().backward()
    given = gradients(model)
    feedback.method = "bp"
    model.zero_grad()
    loss().backward()
    true = gradients(model)
    for name in BLOCKS:
        a, b = (torch.cat([g[f"{name}.0.{p}"].flatten().double() for p in ("weight", "bias")]) for g in (given, true))
        assert math.isclose(found[name], float(a @ b / (a.norm() * b.norm())), rel_tol=1e-6)


def test_alignment_at_the_ends_of_the_blocks() -> None:
    model, (x, y) = mlp(400), examples()
    feedback = dfa.attach(model, ["hidden.0"], method="dfa")
    # If the top's weights equal the feedback's matrix, backpropagation gives the same error.
    feedback.alignment(lambda: F.cross_entropy(model(x), y))
    with torch.no_grad():
        model.top.weight.copy_(torch.from_numpy(feedback.operator(10).matrix()).T)
    found = feedback.alignment(lambda: F.cross_entropy(model(x), y), of="outputs")
    assert math.isclose(found["hidden.0"], 1.0, rel_tol=1e-6)


@pytest.mark.long
def test_alignment_grows_with_training() -> None:
    model, (x, y) = mlp(64, 64), examples(64)
    feedback = dfa.attach(model, BLOCKS)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    found = []
    for _ in range(2):
        found.append(feedback.alignment(lambda: F.cross_entropy(model(x), y)))
        for _ in range(60):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    assert found[1]["hidden.1"] > found[0]["hidden.1"] + 0.1


def test_diagnosis_leaves_no_trace() -> None:
    model, (x, y) = Convolutional(), images()
    feedback = dfa.attach(model, ["first", "second"])
    model.register_buffer("noise", torch.zeros(3))

    def loss() -> Any:
        return F.cross_entropy(F.dropout(model(x), 0.5), y)

    loss().backward()
    grads = gradients(model)
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    random = torch.get_rng_state()
    statistics = feedback.statistics
    feedback.alignment(loss)
    feedback.check(loss)
    for name, gradient in gradients(model).items():
        assert_same_bits(gradient, grads[name])
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, buffers[name]), name
    assert torch.equal(torch.get_rng_state(), random)
    assert feedback.statistics is statistics
    assert feedback.statistics.projections == 1
    assert feedback.method == "odfa"


@pytest.mark.parametrize("method", ["odfa", "dfa"])
def test_a_check_reports_what_it_proved(method: Any) -> None:
    model, (tokens, following) = Language(dropout=0.3), sentences()
    feedback = dfa.attach(model, model.layers, method=method, batch_axes=2)
    report = feedback.check(lambda: language_loss(model, tokens, following))
    assert list(report.blocks) == ["layers.0", "layers.1", "layers.2"]
    assert max(report.blocks.values()) < 1e-5
    assert all(abs(cosine) < 0.9 for cosine in report.cosines.values())
    assert report.top == dict.fromkeys(["norm.weight", "norm.bias", "head.weight", "head.bias"], 0.0)
    text = str(report)
    assert "layers.1" in text
    assert "bit for bit" in text
    assert report.shared == ()


def test_a_check_names_what_is_trained_from_several_places() -> None:
    model, (tokens, following) = Language(), sentences()
    model.head.weight = model.embedding.weight  # tied
    feedback = dfa.attach(model, model.layers, batch_axes=2)
    report = feedback.check(lambda: language_loss(model, tokens, following))
    assert report.shared == ("embedding.weight",)
    assert "head.weight" not in report.top


def test_a_check_finds_a_wrong_projection(monkeypatch: pytest.MonkeyPatch) -> None:
    from opuproj.dfa import _engine

    model, (x, y) = mlp(13, 17), examples()
    feedback = dfa.attach(model, BLOCKS)
    right = _engine.project

    class Shifted:
        def __init__(self, projection: Any) -> None:
            self.projection = projection

        def part(self, *arguments: Any) -> Any:
            return self.projection.part(*arguments).roll(1, 1)

    monkeypatch.setattr(_engine, "project", lambda *arguments: Shifted(right(*arguments)))
    with pytest.raises(RuntimeError, match=r"block 'hidden.0' did not receive its projection"):
        feedback.check(lambda: F.cross_entropy(model(x), y))


def test_a_check_finds_backpropagation(monkeypatch: pytest.MonkeyPatch) -> None:
    model, (x, y) = mlp(13, 17), examples()
    feedback = dfa.attach(model, BLOCKS)
    loss = F.cross_entropy(model(x), y)
    monkeypatch.setattr("opuproj.dfa._tensors.detached", lambda output, name: output)
    with pytest.raises(RuntimeError, match=r"block 'hidden.1' flows into block 'hidden.0'"):
        feedback.check(lambda: F.cross_entropy(model(x), y))
    del loss


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"ternarize": dfa.Ternarize(dfa.Fixed(100.0))}, "no element of the error exceeds the threshold of"),
        ({"gain": {"hidden.0": 0.0}}, "its gain is 0"),
    ],
)
def test_a_check_finds_feedback_that_is_exactly_zero(options: dict[str, Any], why: str) -> None:
    model, (x, y) = mlp(13, 17), examples()
    feedback = dfa.attach(model, BLOCKS, **options)
    with pytest.raises(RuntimeError, match=rf"block 'hidden.\d' received feedback that is exactly 0.*{why}"):
        feedback.check(lambda: F.cross_entropy(model(x), y))
    with pytest.raises(RuntimeError, match="the error is 0 at every vector"):
        feedback.check(lambda: F.cross_entropy(model(x), y) * 0)


def test_a_check_finds_feedback_that_is_not_a_number() -> None:
    model, (x, y) = mlp(13, 17), examples()
    feedback = dfa.attach(model, BLOCKS, method="dfa")
    with pytest.raises(RuntimeError, match=r"block 'hidden.\d' received feedback that is not finite"):
        feedback.check(lambda: F.cross_entropy(model(x), y) * math.nan)


@pytest.mark.parametrize("method", ["bp", "shallow"])
def test_there_is_nothing_to_compare_without_feedback(method: Any) -> None:
    model, (x, y) = mlp(13, 17), examples()
    feedback = dfa.attach(model, BLOCKS, method=method)
    for diagnose in (feedback.alignment, feedback.check):
        with pytest.raises(ValueError, match=f"method is '{method}', but only 'odfa', 'dfa', 'fitted' have feedback"):
            diagnose(lambda: F.cross_entropy(model(x), y))
    found = feedback.alignment(lambda: F.cross_entropy(model(x), y), method="dfa")
    assert set(found) == set(BLOCKS)
    assert feedback.method == method


def test_closures_that_are_none() -> None:
    model, (x, y) = mlp(13, 17), examples()
    feedback = dfa.attach(model, BLOCKS)
    with pytest.raises(TypeError, match="must return the loss"):
        feedback.alignment(lambda: model(x))
    with pytest.raises(RuntimeError, match="ran the model 2 times"):
        feedback.alignment(lambda: F.cross_entropy(model(x) + model(x), y))
    with pytest.raises(RuntimeError, match="ran the model 0 times"):
        feedback.check(lambda: torch.zeros(1, requires_grad=True).sum())
    with pytest.raises(ValueError, match="of is 'weights'"):
        feedback.alignment(lambda: F.cross_entropy(model(x), y), of="weights")  # type: ignore[arg-type]


def test_a_path_around_a_block_carries_gradients_of_one_block_only() -> None:
    class Skipping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.a, self.b, self.top = (nn.Linear(20, 20) for _ in range(4))

        def forward(self, x: Any) -> Any:
            h = self.stem(x)
            return self.top(self.b(self.a(h) + h))

    model, (x, y) = Skipping(), examples()
    feedback = dfa.attach(model, ["a", "b"])
    report = feedback.check(lambda: F.cross_entropy(model(x), y % 20))
    assert set(report.shared) == {"stem.weight", "stem.bias"}


def test_it_prints_who_has_which_rows() -> None:
    model, (x, _) = mlp(13, 17), examples()
    feedback = dfa.attach(model, BLOCKS, output="top")
    assert "hidden.0" in repr(feedback)
    model(x)
    assert "hidden.1: rows 13 to 29" in repr(feedback)
    assert "the output of 'top'" in repr(feedback)
