"""Feedback recovered from a camera's frames: its noise, and the parts that stay exact."""

from __future__ import annotations

from typing import Any

import pytest
from dfa_models import F, examples, gradients, mlp, torch
from opuproj import Camera, dfa

BLOCKS = ["hidden.0", "hidden.1"]
CAMERA = Camera(photons=200, read_noise=0.01)


def loss_of(model: Any) -> Any:
    x, y = examples(8)
    return F.cross_entropy(model(x), y)


def gradients_of(method: Any, camera: Camera | None, seed: int = 0) -> dict[str, Any]:
    model = mlp(13, 17)
    dfa.attach(model, BLOCKS, method=method, camera=camera, n_anchor=4)
    torch.manual_seed(seed)
    loss_of(model).backward()
    return gradients(model)


def test_noise_reaches_the_blocks_and_nothing_else() -> None:
    exact, noisy = gradients_of("odfa", None), gradients_of("odfa", CAMERA)
    for name, gradient in exact.items():
        if name.startswith("hidden"):
            cosine = F.cosine_similarity(gradient.flatten(), noisy[name].flatten(), dim=0)
            assert 0.8 < cosine < 0.9999, name
        else:
            assert torch.equal(gradient, noisy[name]), name


@pytest.mark.parametrize(("method", "camera"), [("odfa", Camera.ideal()), ("dfa", CAMERA), ("bp", CAMERA)])
def test_what_no_camera_sees_is_exact(method: Any, camera: Camera) -> None:
    exact, seen = gradients_of(method, None), gradients_of(method, camera)
    assert all(torch.equal(gradient, seen[name]) for name, gradient in exact.items())


def test_noise_follows_torchs_generator() -> None:
    first, again, other = (gradients_of("odfa", CAMERA, seed) for seed in (0, 0, 1))
    assert all(torch.equal(gradient, again[name]) for name, gradient in first.items())
    assert not torch.equal(first["hidden.0.0.weight"], other["hidden.0.0.weight"])


def test_diagnosis_in_front_of_a_camera() -> None:
    model = mlp(13, 17)
    feedback = dfa.attach(model, BLOCKS, camera=CAMERA, n_anchor=4)
    assert "hidden.0" in str(feedback.check(lambda: loss_of(model)))
    assert feedback.camera == CAMERA
    random = torch.get_rng_state()
    seen = feedback.alignment(lambda: loss_of(model))
    assert torch.equal(torch.get_rng_state(), random)
    assert feedback.alignment(lambda: loss_of(model)) == seen
    feedback.camera = None
    exact = feedback.alignment(lambda: loss_of(model))
    assert seen != exact
    with pytest.raises(TypeError, match=r"camera is 3, but must be an opuproj\.Camera"):
        feedback.camera = 3  # type: ignore[assignment]
    with pytest.raises(TypeError, match=r"camera is 'lighton', but must be an opuproj\.Camera"):
        dfa.attach(mlp(13, 17), BLOCKS, camera="lighton")  # type: ignore[arg-type]
