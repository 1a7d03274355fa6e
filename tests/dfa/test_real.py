"""Feedback by the rows of G, the real matrix that no device has."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import oracle
import pytest
from dfa_models import F, examples, gradients, mlp, nn, torch
from helpers import assert_same_bits
from opuproj import Camera, dfa

BLOCKS = ["hidden.0", "hidden.1"]
ROWS = {"hidden.0": range(13), "hidden.1": range(13, 30)}  # the second begins with an imaginary part


def rows_of_g(seed: int, rows: range, n_inputs: int) -> Any:
    """Return rows of 32 G: of each row of T the real part, then the imaginary part."""
    parts = oracle.entries(seed, range(rows.stop // 2 + 1), range(n_inputs))
    return np.stack(parts, axis=1).reshape(-1, n_inputs)[rows.start : rows.stop]


def attached(**arguments: Any) -> tuple[Any, dfa.Feedback]:
    model = mlp(13, 17)
    return model, dfa.attach(model, BLOCKS, **{"mode": "real", "seed": 7, **arguments})


def fed_and_error(model: Any, x: Any, y: Any) -> tuple[dict[str, Any], Any]:
    """Return the feedback at the end of each block, and the error at the output."""
    fed: dict[str, Any] = {}

    def keep(name: str) -> Any:
        def hook(module: Any, args: Any, output: Any) -> None:
            output.register_hook(lambda gradient: fed.__setitem__(name, gradient.clone()))

        return hook

    for name in BLOCKS:  # before the feedback's own hook, which detaches the output
        model.get_submodule(name).register_forward_hook(keep(name), prepend=True)
    z = model(x)
    z.retain_grad()
    F.cross_entropy(z, y).backward()
    return fed, z.grad


def test_a_block_receives_the_ternary_error_through_its_rows_exactly() -> None:
    rule = dfa.Ternarize(dfa.RowMax(0.3), norm="row")
    model, feedback = attached(ternarize=rule)
    fed, e = fed_and_error(model, *examples())
    assert feedback.rows == ROWS
    t, a = rule(e)
    assert 0 < t.count_nonzero() < t.numel()
    for name, rows in ROWS.items():
        product = t.numpy().astype(np.int64) @ rows_of_g(7, rows, 10).T / 32
        wanted = torch.from_numpy(product.astype(np.float32)) * (a * (1.0 / math.sqrt(len(rows))))
        assert_same_bits(fed[name], wanted)


def test_a_block_receives_the_float_error_through_its_rows() -> None:
    model, _ = attached(method="dfa", gain={"hidden.1": 2.5})
    (x, y), model = examples(), model.double()
    fed, e = fed_and_error(model, x.double(), y)
    for name, gain in (("hidden.0", 1.0), ("hidden.1", 2.5)):
        product = e.numpy() @ rows_of_g(7, ROWS[name], 10).T / 32
        np.testing.assert_allclose(fed[name], product * gain / math.sqrt(len(ROWS[name])), rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize("ensemble", ["gaussian", "structured"])
@pytest.mark.parametrize("method", ["odfa", "dfa"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_check_finds_the_rows_of_its_matrix(ensemble: Any, method: Any, dtype: Any) -> None:
    model, feedback = attached(method=method, ensemble=ensemble)
    x, y = examples()
    model.to(dtype)
    found = feedback.check(lambda: F.cross_entropy(model(x.to(dtype)).float(), y))
    assert list(found.blocks) == BLOCKS
    operator = feedback.operator(10)
    assert (operator.mode, operator.ensemble, operator.shape) == ("real", ensemble, (30, 10))


@pytest.mark.parametrize("method", ["odfa", "dfa"])
def test_a_network_learns_and_aligns_with_it(method: Any) -> None:
    torch.manual_seed(0)
    x = torch.randn(200, 20)
    y = (x @ torch.randn(20, 10)).argmax(1)
    losses, rule = {}, dfa.Ternarize(dfa.RowMax(0.3), norm="row")
    for trained_by in (method, "shallow"):
        model = mlp(40, 40, seed=3)
        feedback = dfa.attach(model, BLOCKS, method=trained_by, ternarize=rule, mode="real", seed=1)
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(100):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        losses[trained_by] = F.cross_entropy(model(x), y).item()
        if trained_by == method:
            cosines = feedback.alignment(lambda model=model: F.cross_entropy(model(x), y))
            assert all(cosine > 0.15 for cosine in cosines.values()), cosines
    assert losses[method] < 0.2 * losses["shallow"]


def test_a_map_of_the_same_rows_aligns_feedback_and_gradient() -> None:
    model = nn.Sequential(nn.Linear(20, 51), nn.Tanh(), nn.Linear(51, 10))
    feedback = dfa.attach(model, ["1"], method="dfa", mode="real")
    x, y = examples()
    model(x)
    with torch.no_grad():
        model[2].weight.copy_(torch.from_numpy(feedback.operator(10).matrix()).T / math.sqrt(51))
    cosines = feedback.alignment(lambda: F.cross_entropy(model(x), y), of="outputs")
    assert cosines["1"] == pytest.approx(1, abs=1e-5)


def test_without_feedback_the_mode_changes_nothing() -> None:
    for method in ("bp", "shallow"):
        found = []
        for mode in ("linear", "real"):
            model, _ = attached(method=method, mode=mode)
            x, y = examples()
            F.cross_entropy(model(x), y).backward()
            found.append(gradients(model))
        assert all(a is b is None or torch.equal(a, b) for a, b in zip(*(f.values() for f in found), strict=True))


# Mistakes


@pytest.mark.parametrize("mode", ["complex", "intensity", "Real", None])
def test_other_modes_are_refused_by_name(mode: Any) -> None:
    with pytest.raises(ValueError, match=f"mode is {mode!r}, but must be one of 'linear', 'real'"):
        attached(mode=mode)


def test_a_camera_is_refused_by_name() -> None:
    refused = pytest.raises(ValueError, match=r"camera is Camera\(.*\), but mode is 'real', which exists in software")
    with refused:
        attached(camera=Camera.ideal())
    _, feedback = attached()
    with refused:
        feedback.camera = Camera(photons=100)
    before = feedback.state_dict()
    with refused:
        feedback.load_state_dict({**before, "camera": {"frames": 2}})
    assert feedback.state_dict() == before


# State


def test_a_state_holds_the_mode_and_one_without_it_is_linear() -> None:
    (_, linear), (_, real) = attached(mode="linear"), attached()
    assert (linear.mode, real.mode) == ("linear", "real")
    state = real.state_dict()
    assert state["mode"] == "real"
    with pytest.raises(ValueError, match="the saved feedback has mode 'real', but this one has 'linear'"):
        linear.load_state_dict(state)
    attached(n_anchor=3)[1].load_state_dict(state)  # G has no anchor
    before = {name: value for name, value in linear.state_dict().items() if name != "mode"}
    linear.load_state_dict(before)
    with pytest.raises(ValueError, match="the saved feedback has mode 'linear', but this one has 'real'"):
        real.load_state_dict(before)
    assert state["n_anchor"] is None  # which earlier versions compare with an integer


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_keep_the_mode(copied: Any) -> None:
    model, _ = attached()
    x, y = examples()
    again = copied(model)
    feedback = dfa.Feedback.of(again)
    assert feedback is not None
    assert feedback.mode == "real"
    for one in (model, again):
        F.cross_entropy(one(x), y).backward()
    for name, gradient in gradients(model).items():
        assert_same_bits(gradients(again)[name], gradient)
    assert "mode='real'" in repr(feedback)
    assert "mode=" not in repr(attached(mode="linear")[1])


def test_a_report_gives_the_cost_of_the_device_s_own_matrix() -> None:
    reports = []
    for mode in ("linear", "real"):
        model, feedback = attached(mode=mode)
        x, y = examples()
        F.cross_entropy(model(x), y).backward()
        reports.append(feedback.hardware_report())
    assert reports[0].cost == reports[1].cost
    assert reports[1].vectors == len(examples()[0])
