"""The axis that counts vectors: the user's arguments, errors, and assumptions with a warning."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import oracle
import pytest
from dfa_models import F, nn, torch
from opuproj import dfa

STEPS, N, WIDTH, CLASSES = 4, 4, 12, 5


class Recurrent(nn.Module):
    """(steps, examples, features) to (examples, classes), by the state after the last step."""

    def __init__(self, kind: str = "GRU", batch_first: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.batch_first = batch_first
        self.rnn, self.top = getattr(nn, kind)(6, WIDTH, batch_first=batch_first), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Any) -> Any:
        h = self.rnn(x)[0]
        return self.top(h[:, -1] if self.batch_first else h[-1])


def inputs(n: int = N) -> Any:
    return torch.randn(STEPS, n, 6, generator=torch.Generator().manual_seed(1))


def touched(model: Any, x: Any, axis: int) -> list[bool]:
    """Return the examples whose inputs get a gradient from the loss of example 0."""
    x = x.clone().requires_grad_()
    F.cross_entropy(model(x), torch.arange(x.shape[axis]) % CLASSES, reduction="none")[0].backward()
    others = tuple(i for i in range(3) if i != axis)
    return [bool(one > 0) for one in x.grad.abs().sum(others)]


@pytest.mark.parametrize("n", [N, 7])
@pytest.mark.parametrize("batch_dim", [1, {"rnn": 1}, {"rnn": 1, "output": 0}])
def test_an_example_s_error_reaches_that_example_at_all_its_steps(batch_dim: Any, n: int) -> None:
    model = Recurrent()
    feedback = dfa.attach(model, ["rnn"], method="dfa", batch_dim=batch_dim, seed=3)
    assert touched(model, inputs(n), 1) == [True] + [False] * (n - 1)
    assert feedback.rows == {"rnn": range(STEPS * WIDTH)}
    report = feedback.check(lambda: F.cross_entropy(model(inputs(n)), torch.arange(n) % CLASSES))
    assert report.blocks["rnn"] < 1e-5


def test_feedback_along_another_axis_is_that_of_a_calculation_by_hand() -> None:
    model, x, y = Recurrent().double(), inputs().double(), torch.arange(N)
    dfa.attach(model, ["rnn"], method="dfa", batch_dim=1, seed=3)
    fed = {}

    def keep(module: Any, args: Any, output: Any) -> None:
        output[0].register_hook(lambda gradient: fed.__setitem__(0, gradient))

    model.rnn.register_forward_hook(keep)
    z = model(x)
    z.retain_grad()
    F.cross_entropy(z, y).backward()
    matrix = oracle.project(3, np.eye(CLASSES, dtype=np.int8), range(STEPS * WIDTH), "linear")
    wanted = torch.from_numpy(z.grad.numpy() @ matrix / math.sqrt(STEPS * WIDTH)).reshape(N, STEPS, WIDTH)
    torch.testing.assert_close(fed[0], wanted.transpose(0, 1), rtol=1e-12, atol=1e-15)


def test_features_by_examples_count_along_axis_1_everywhere() -> None:
    class Columns(nn.Module):
        def __init__(self, n_in: int, n_out: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(n_out, n_in, generator=torch.Generator().manual_seed(n_in)))

        def forward(self, x: Any) -> Any:
            return self.weight @ x

    rows = nn.Sequential(nn.Linear(6, 4, bias=False), nn.Linear(4, 4, bias=False))
    columns = nn.Sequential(Columns(6, 4), Columns(4, 4))
    for a, b in zip(rows, columns, strict=True):
        a.weight.data.copy_(b.weight)
    x = torch.randn(4, 6)
    dfa.attach(rows, ["0"], method="dfa")
    dfa.attach(columns, ["0"], method="dfa", batch_dim=1)
    rows(x).square().sum().backward()
    columns(x.T).square().sum().backward()
    for a, b in zip(rows, columns, strict=True):
        torch.testing.assert_close(a.weight.grad, b.weight.grad)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_recurrent_block_with_steps_first_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match=rf"block 'rnn' is a {kind} with batch_first=False.*batch_dim=1.*batch_first"):
        dfa.attach(Recurrent(kind), ["rnn"])
    model = Recurrent(kind, batch_first=True)
    dfa.attach(model, ["rnn"], method="dfa")
    assert touched(model, inputs().transpose(0, 1), 0) == [True] + [False] * (N - 1)


def test_a_transformer_with_steps_first_is_refused() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16)
    model = nn.Sequential(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(8, 3))
    with pytest.raises(
        ValueError, match=r"block '0.layers.1' holds 'self_attn', a MultiheadAttention with batch_first"
    ):
        dfa.attach(model, ["0.layers.1"])
    feedback = dfa.attach(model, ["0.layers.0", "0.layers.1"], batch_dim=1)
    x = torch.randn(5, 5, 8)
    feedback.check(lambda: model(x).square().mean())
    assert [len(rows) for rows in feedback.rows.values()] == [5 * 8] * 2
    feedback.remove()
    feedback = dfa.attach(model, ["0.layers.0"], batch_axes=2)
    feedback.check(lambda: model(x).square().mean())
    assert feedback.rows == {"0.layers.0": range(8)}


def test_a_module_with_steps_first_above_a_block_is_refused_and_below_it_is_not() -> None:
    class Above(nn.Module):
        def __init__(self, below: bool) -> None:
            super().__init__()
            self.below = below
            self.block, self.rnn, self.top = nn.Linear(6, 6), nn.GRU(6, 6), nn.Linear(6, 3)

        def forward(self, x: Any) -> Any:
            return self.top(self.block(self.rnn(x)[0][-1]) if self.below else self.rnn(self.block(x))[0][-1])

    model = Above(below=False)
    dfa.attach(model, ["block"])
    with pytest.raises(
        ValueError, match=r"module 'rnn', a GRU with batch_first=False, ran after block 'block'.*batch_dim"
    ):
        model(inputs())
    with torch.no_grad():
        model(inputs())
    below = Above(below=True)
    dfa.attach(below, ["block"])
    F.cross_entropy(below(inputs()), torch.arange(N) % 3).backward()
    assert below.rnn.weight_ih_l0.grad.any()


def test_a_module_with_steps_first_below_a_block_is_refused_where_its_steps_reach_the_block() -> None:
    class Below(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.block, self.top = nn.GRU(6, 8), nn.Linear(8, 8), nn.Linear(8, 5)

        def forward(self, x: Any) -> Any:
            return self.top(self.block(self.rnn(x)[0]).tanh().mean(0))

    model = Below()
    dfa.attach(model, ["block"], method="dfa")
    with pytest.raises(
        ValueError, match=r"module 'rnn', a GRU with batch_first=False, ran before block 'block'.*batch_dim"
    ):
        model(inputs())
    model = Below()
    dfa.attach(model, ["block"], method="dfa", batch_dim=1)
    assert touched(model, inputs(), 1) == [True] + [False] * (N - 1)


def test_the_states_of_a_recurrent_block_are_not_fed_where_they_count_layers_first() -> None:
    model = Recurrent("LSTM", batch_first=True)
    with pytest.raises(ValueError, match=r"feed is 'all' for block 'rnn', a LSTM with batch_first=True"):
        dfa.attach(model, ["rnn"], feed="all")
    model = Recurrent("LSTM")
    feedback = dfa.attach(model, ["rnn"], feed="all", method="dfa", batch_dim=1)
    assert touched(model, inputs(), 1) == [True] + [False] * (N - 1)
    assert feedback.rows == {"rnn": range(STEPS * WIDTH + 2 * WIDTH)}


def convolutions(hidden: int) -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv1d(8, hidden, 3, padding=1), nn.Tanh(), nn.Conv1d(hidden, 8, 3, padding=1))


@pytest.mark.parametrize(
    ("hidden", "assumed"), [(8, "each of 4 × 8 positions"), (16, "each of the 4 elements of axis 0")]
)
def test_what_is_assumed_of_an_error_of_three_axes_is_said_once(hidden: int, assumed: str) -> None:
    model, x = convolutions(hidden), torch.randn(4, 8, 50)
    dfa.attach(model, ["1"], method="dfa")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            F.mse_loss(model(x), x).backward()
    (warning,) = caught
    assert assumed in str(warning.message)
    assert "batch_axes=" in str(warning.message)


@pytest.mark.parametrize("hidden", [8, 16])
def test_channels_are_no_positions_where_batch_axes_says_so(hidden: int) -> None:
    model, x = convolutions(hidden), torch.randn(4, 8, 50)
    feedback = dfa.attach(model, ["1"], method="dfa", batch_axes=1)
    F.mse_loss(model(x), x).backward()
    assert feedback.rows == {"1": range(hidden * 50)}
    assert feedback.statistics.vectors == 4


def test_axes_that_do_not_meet_name_the_remedy() -> None:
    model = Recurrent()
    dfa.attach(model, ["rnn"], batch_dim=0)
    with pytest.raises(ValueError, match=r"\(4, 3, 12\).*\(3, 5\).*must be equal.*batch_first=False.*batch_dim="):
        model(inputs(3))
    model = Recurrent()
    dfa.attach(model, ["rnn"], batch_dim={"rnn": 1, "output": 4})
    with pytest.raises(ValueError, match=r"the error has shape \(3, 5\), but by batch_dim its axis 4"):
        model(inputs(3))


@pytest.mark.parametrize(
    ("kind", "text", "arguments"),
    [
        (ValueError, "batch_dim is -1", {"batch_dim": -1}),
        (TypeError, "batch_dim is 1.5", {"batch_dim": 1.5}),
        (
            ValueError,
            "batch_dim has 'top', but the blocks are 'rnn', and the error is 'output'",
            {"batch_dim": {"top": 1}},
        ),
        (ValueError, "batch_dim of 'rnn' is -1", {"batch_dim": {"rnn": -1}}),
        (ValueError, "batch_axes is 2 and batch_dim is 1", {"batch_dim": 1, "batch_axes": 2}),
        (ValueError, "feed is 'both', but must be one of 'first', 'all'", {"feed": "both", "batch_dim": 1}),
        (ValueError, "feed has 'top', but the blocks are 'rnn'", {"feed": {"top": "all"}, "batch_dim": 1}),
        (ValueError, "rank is -1", {"rank": -1, "batch_dim": 1}),
    ],
)
def test_arguments(kind: type[Exception], text: str, arguments: dict[str, Any]) -> None:
    model = Recurrent()
    with pytest.raises(kind, match=text):
        dfa.attach(model, ["rnn"], **arguments)
    assert not model.rnn._forward_hooks


def test_a_state_says_which_axes_count_vectors() -> None:
    first, second = Recurrent(), Recurrent()
    saved = dfa.attach(first, ["rnn"], method="dfa", batch_dim=1)
    first(inputs())
    feedback = dfa.attach(second, ["rnn"], method="dfa", batch_dim=1)
    feedback.load_state_dict(saved.state_dict())
    assert feedback.rows == saved.rows
    assert touched(second, inputs(), 1) == [True] + [False] * (N - 1)
    third = Recurrent()
    other = dfa.attach(third, ["rnn"], method="dfa", batch_dim=0)
    other.load_state_dict(saved.state_dict())
    with pytest.raises(
        ValueError, match="axis 1 of block 'rnn' counted its vectors in the first pass, but now axis 0 does"
    ):
        third(inputs())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"batch_axes": 2}, "the saved feedback has batch_axes 2, but this one has 1"),
        ({"widths": [3, 4]}, "the state has 2 widths and 2 batch_dims, but must have 1 and 2"),
        ({"batch_dims": [0]}, "the state has 1 widths and 1 batch_dims"),
        ({"widths": [-1]}, "a width of the state is -1"),
        ({"passes": -1}, "passes of the state is -1"),
    ],
)
def test_a_state_of_other_axes_or_a_damaged_one_is_refused(change: dict[str, Any], text: str) -> None:
    model = Recurrent(batch_first=True)
    feedback = dfa.attach(model, ["rnn"], method="dfa", batch_axes=1)
    model(inputs().transpose(0, 1))
    before = feedback.state_dict()
    with pytest.raises(ValueError, match=text):
        feedback.load_state_dict({**before, **change})
    assert feedback.state_dict() == before
