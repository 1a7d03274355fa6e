"""The cost of a training on the hardware, compared with calculations by hand."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from dfa_models import F, Language, examples, language_loss, mlp, sentences, torch
from opuproj import Camera, dfa, hardware
from opuproj.hardware import Cost, Generation, Setting

BLOCKS = ["hidden.0", "hidden.1"]


def step(model: Any, n: int = 6) -> None:
    x, y = examples(n)
    F.cross_entropy(model(x), y).backward()


def test_a_small_training_is_counted_vector_by_vector() -> None:
    model = mlp(13, 17)
    feedback = dfa.attach(model, BLOCKS, n_anchor=4)
    for n in (6, 6, 5):
        step(model, n)
    report = feedback.hardware_report()
    assert report.vectors == 17
    assert report.left_out == 0
    # Four frames each, at the fastest rate; light multiplies 10 inputs by 13 + 17 complex entries in every frame.
    assert report.cost == Cost(68, 68 / 8000, 30 * (68 / 8000), 8000.0, 68 * 2 * 10 * 30)
    assert report.seconds == feedback.statistics.seconds > 0
    text = str(report)
    assert text.startswith("17 ternary errors projected\n  on the LightOn OPU: 68 frames at 8000 Hz: 8.5 ms, 255 mJ\n")
    assert "left out" not in text


def test_positions_of_a_sequence_are_vectors_of_their_own() -> None:
    model = Language()
    feedback = dfa.attach(model, ["layers.0", "layers.1"], output="norm", batch_axes=2)
    tokens, following = sentences(4, 5)
    language_loss(model, tokens, following).backward()
    report = feedback.hardware_report()
    assert report.vectors == 4 * 5
    assert report.cost.operations == 4 * 20 * 2 * 8 * 16


def test_each_camera_counts_for_its_own_time() -> None:
    model = mlp(13, 17)
    feedback = dfa.attach(model, BLOCKS, n_anchor=4, camera=Camera(frames=3))
    step(model)
    feedback.camera = None
    step(model)
    assert feedback.hardware_report().cost.frames == 6 * 4 * 3 + 6 * 4


def test_float_errors_are_left_out_and_the_report_says_so() -> None:
    model = mlp(13, 17)
    feedback = dfa.attach(model, BLOCKS, method="dfa")
    step(model)
    only = feedback.hardware_report()
    assert (only.vectors, only.left_out, only.cost.frames, only.seconds) == (0, 6, 0, 0.0)
    feedback.method = "odfa"
    step(model, 5)
    both = feedback.hardware_report()
    assert (both.vectors, both.left_out, both.cost.frames) == (5, 6, 20)
    assert 0 < both.seconds < feedback.statistics.seconds
    assert "left out: 6 float errors (method 'dfa'), which the hardware cannot project" in str(both)


def test_another_device_and_its_limits() -> None:
    model = mlp(13, 17)
    feedback = dfa.attach(model, BLOCKS, n_anchor=4)
    step(model)
    small = Generation("small device", (Setting(10.0, 14, 16),), 2.0, "this test")
    # 30 rows through a camera of 16 pixels take two passes.
    assert feedback.hardware_report(small).cost == Cost(48, 4.8, 9.6, 10.0, 24 * 2 * 10 * 30)
    tiny = Generation("tiny device", (Setting(10.0, 13, 16),), 2.0, "this test")
    with pytest.raises(ValueError, match="n_inputs is 10, but must be at most 9 in mode 'linear': anchors take 4"):
        feedback.hardware_report(tiny)
    with pytest.raises(TypeError, match="generation is None, but must be"):
        feedback.hardware_report(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["odfa", "bp", "shallow"])
def test_without_a_projection_there_is_no_report(method: Any) -> None:
    model = mlp(13, 17)
    feedback = dfa.attach(model, BLOCKS, method=method)
    with pytest.raises(RuntimeError, match="no error has been projected since the feedback was attached"):
        feedback.hardware_report()
    if method != "odfa":
        step(model)
    with torch.no_grad():
        model(examples()[0])
    with pytest.raises(RuntimeError, match="run the model forward and backward with method 'odfa' first"):
        feedback.hardware_report()


def test_diagnosis_is_not_counted_and_copies_count_on_their_own() -> None:
    model = mlp(13, 17)
    feedback = dfa.attach(model, BLOCKS)
    step(model)

    def loss() -> Any:
        x, y = examples()
        return F.cross_entropy(model(x), y)

    before = feedback.hardware_report()
    feedback.check(loss)
    feedback.alignment(loss)
    assert feedback.hardware_report() == before
    other = copy.deepcopy(feedback)
    step(model)
    assert feedback.hardware_report().vectors == 12
    assert other.hardware_report() == before
    assert before.generation is hardware.LIGHTON
