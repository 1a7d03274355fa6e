"""The state of a feedback: its content, loading, and errors."""

from __future__ import annotations

import io
from typing import Any

import pytest
from dfa_models import F, examples, mlp, torch
from opuproj import Camera, dfa

BLOCKS = ["hidden.0", "hidden.1"]
RULES = [
    dfa.Dither(3.0),
    dfa.Dither("auto"),
    dfa.Fixed(0.1),
    dfa.RowMax(0.3),
    dfa.RowStd(1.0),
    dfa.BatchMax(0.3),
    dfa.TopK(3),
]


def through_a_file(state: Any) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("norm", ["row", "batch", "none"])
@pytest.mark.parametrize("camera", [None, Camera(photons=100.0, read_noise=0.01)])
def test_a_state_sets_the_ternary_rule_and_the_camera(rule: Any, norm: Any, camera: Any) -> None:
    saved = dfa.attach(mlp(13, 17), BLOCKS, method="shallow", ternarize=dfa.Ternarize(rule, norm), camera=camera)
    feedback = dfa.attach(mlp(13, 17), BLOCKS, camera=Camera(frames=2))
    feedback.load_state_dict(through_a_file(saved.state_dict()))
    assert feedback.ternarize == dfa.Ternarize(rule, norm)
    assert feedback.camera == camera
    assert feedback.method == "shallow"


def test_the_automatic_rule_has_a_name() -> None:
    feedback = dfa.attach(mlp(13, 17), BLOCKS, ternarize="auto")
    automatic = dfa.Ternarize(dfa.Dither("auto"), norm="batch")
    assert feedback.ternarize == automatic
    feedback.ternarize = dfa.Ternarize()
    feedback.ternarize = "auto"
    assert feedback.ternarize == automatic


def test_a_state_counts_the_passes() -> None:
    model, (x, y) = mlp(13, 17), examples()
    saved = dfa.attach(model, BLOCKS)
    for _ in range(3):
        F.cross_entropy(model(x), y).backward()
    assert saved.state_dict()["passes"] == 3
    feedback = dfa.attach(mlp(13, 17), BLOCKS)
    feedback.load_state_dict(through_a_file(saved.state_dict()))
    assert feedback.state_dict() == saved.state_dict()


class Own:
    def thresholds(self, e: Any) -> Any:
        return e.new_zeros(len(e), 1)


class Wider(dfa.Dither):
    pass


@pytest.mark.parametrize("rule", [Own(), Wider(2.0)])
def test_a_rule_of_one_s_own_is_refused_by_name(rule: Any) -> None:
    feedback = dfa.attach(mlp(13, 17), BLOCKS, ternarize=dfa.Ternarize(rule))
    with pytest.raises(
        TypeError, match=rf"ternarize has the rule .*{type(rule).__name__}.*, which a state cannot hold"
    ):
        feedback.state_dict()


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        ({"ternarize": {"rule": "Own", "norm": "batch"}}, ValueError, "has the rule 'Own', but must have one of"),
        ({"ternarize": {"rule": "Dither", "factor": -1.0, "norm": "batch"}}, ValueError, "factor is -1.0"),
        ({"ternarize": {"rule": "Dither", "factor": 1.0, "norm": "all"}}, ValueError, "norm is 'all'"),
        ({"camera": {"frames": 0}}, ValueError, "frames is 0"),
        ({"method": "sgd"}, ValueError, "method is 'sgd'"),
    ],
)
def test_a_state_that_holds_something_else_changes_nothing(change: Any, kind: Any, text: str) -> None:
    feedback = dfa.attach(mlp(13, 17), BLOCKS)
    before = feedback.state_dict()
    with pytest.raises(kind, match=text):
        feedback.load_state_dict({**before, **change})
    assert feedback.state_dict() == before


def test_a_structured_feedback_takes_no_camera_from_a_state() -> None:
    feedback = dfa.attach(mlp(13, 17), BLOCKS, ensemble="structured")
    with pytest.raises(ValueError, match="camera"):
        feedback.load_state_dict({**feedback.state_dict(), "camera": {"frames": 2}})
