"""opuproj.Camera against an independent simulation of all steps, which is exact without noise."""

from __future__ import annotations

import copy
import math
import pickle
import re
from typing import Any

import numpy as np
import optics
import opuproj
import pytest
from helpers import CAMERA_MODES, assert_same_bits, ternary
from opuproj import Camera, Projector

# Without noise, but with several frames.
QUIET = Camera(bits=None, full_scale=1e9)


# Without noise


@pytest.mark.every_backend
@pytest.mark.parametrize("mode", CAMERA_MODES)
@pytest.mark.parametrize("density", [0.02, 1.0])
def test_an_ideal_camera_changes_no_bit(mode: str, density: float) -> None:
    x = ternary(20, 300, density=density)
    for dtype in ("float32", "float64"):
        exact = opuproj.project(x, 130, mode=mode, dtype=dtype)
        assert_same_bits(opuproj.project(x, 130, mode=mode, dtype=dtype, camera=Camera.ideal()), exact)
        changed = Camera(bits=None, full_scale=math.inf, frames=7, anchors=9, exposure=3)
        assert_same_bits(opuproj.project(x, 130, mode=mode, dtype=dtype, camera=changed), exact)


@pytest.mark.every_backend
@pytest.mark.parametrize(
    "camera",
    [
        QUIET,
        Camera(),
        Camera(bits=4, full_scale=2.0),
        Camera(bits=12, full_scale=3.0, dark_floor=0.1),
        Camera(bits=10, exposure=77.0, frames=3),
        Camera(bits=None, full_scale=1.5, anchors=2),
    ],
)
@pytest.mark.parametrize("mode", CAMERA_MODES)
def test_frames_without_noise_are_those_of_a_plain_simulation(camera: Camera, mode: str) -> None:
    x = ternary(9, 120)
    x[3] = abs(x[3])  # nothing to subtract
    x[4] = 0
    rows = range(5, 150)
    seen = opuproj.project(
        x, 150, seed=3, mode=mode, rows=rows, camera=camera, n_anchor=30, dtype=complex if mode == "complex" else float
    )
    if mode == "intensity":
        seen, x = np.delete(seen, 4, 0), np.delete(x, 4, 0)  # a mean of no light divides by 0
    expected = optics.see(3, x, rows, mode, camera, 30)
    np.testing.assert_allclose(seen, expected, rtol=1e-9, atol=1e-9 if mode != "complex" else 1e-7)


@pytest.mark.parametrize("mode", CAMERA_MODES)
def test_recovery_from_exact_frames_is_the_projection(mode: str) -> None:
    x = ternary(6, 200)
    exact = opuproj.project(x, 500, mode=mode, dtype=complex if mode == "complex" else float)
    seen = opuproj.project(x, 500, mode=mode, dtype=exact.dtype, camera=QUIET)
    np.testing.assert_allclose(seen, exact, atol=1e-6)


@pytest.mark.parametrize("mode", CAMERA_MODES)
def test_a_dark_vector_is_dark(mode: str) -> None:
    camera = Camera(photons=20, read_noise=0.1)
    y = opuproj.project(np.zeros((2, 50), np.int8), 100, mode=mode, camera=camera, noise_seed=0)
    assert np.isfinite(y).all()
    if mode == "intensity":
        assert not y.any()


def test_a_camera_gives_its_own_integers() -> None:
    x = np.ones((3, 80), np.int8)
    for bits, dtype in [(8, np.uint8), (6, "uint8"), (8, np.uint16), (12, np.uint16)]:
        camera = Camera(bits=bits, full_scale=2.0)
        levels = opuproj.project(x, 1000, camera=camera, dtype=dtype)
        assert levels.dtype == dtype
        assert levels.max() == 2**bits - 1
        calibrated = opuproj.project(x, 1000, camera=camera, dtype=float)
        np.testing.assert_allclose(levels * (80 * 2.0 / (2**bits - 1)), calibrated, rtol=1e-12)
    out = np.empty((3, 1000), np.uint8)
    assert opuproj.project(x, 1000, camera=Camera(), dtype=np.uint8, out=out) is out


def test_a_fixed_exposure_compares_vectors() -> None:
    x = np.zeros((2, 100), np.int8)
    x[0, :20] = x[1, :80] = 1
    automatic = opuproj.project(x, 20_000, camera=Camera(), dtype=np.uint8)
    fixed = opuproj.project(x, 20_000, camera=Camera(exposure=80), dtype=np.uint8)
    assert abs(automatic[0].mean() / automatic[1].mean() - 1) < 0.05
    assert abs(fixed[1].mean() / fixed[0].mean() - 4) < 0.2


# The class


def test_a_camera_is_a_value() -> None:
    camera = Camera.lighton(frames=2)
    assert camera == Camera.lighton(frames=2) != Camera.lighton()
    assert hash(camera) == hash(Camera.lighton(frames=2))
    assert pickle.loads(pickle.dumps(camera)) == copy.deepcopy(camera) == camera
    with pytest.raises(AttributeError):
        camera.bits = 4  # type: ignore[misc]
    op = Projector(10, 20, camera=camera)
    assert pickle.loads(pickle.dumps(op)) == op != Projector(10, 20)
    assert op[3:5].camera == camera
    assert repr(camera) in repr(op)
    assert eval(repr(op), {"Projector": Projector, "Camera": Camera, "inf": math.inf}) == op


def test_exposures_are_counted() -> None:
    camera = Camera(anchors=4, frames=3)
    assert [camera.exposures(mode) for mode in CAMERA_MODES] == [1, 4, 10]


@pytest.mark.parametrize("camera", [Camera(), Camera.ideal()])
def test_the_real_matrix_is_not_seen_by_a_camera(camera: Camera) -> None:
    message = r"^camera is Camera.*, but mode is 'real', which exists in software only.*use mode 'linear'$"
    x, op = ternary(10), Projector(10, 5, mode="real")
    for call in (
        lambda: opuproj.project(x, 5, mode="real", camera=camera),
        lambda: opuproj.project(x, 5, mode="real", camera=camera, digits=3),
        lambda: Projector(10, 5, mode="real", camera=camera),
        lambda: op.with_camera(camera),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert op.with_camera(None) == op
    for ask in (camera.exposures, lambda mode: opuproj.hardware.frames(mode, camera)):
        with pytest.raises(ValueError, match=r"^mode is 'real', which exists in software only.*use mode 'linear'$"):
            ask("real")
    with pytest.raises(ValueError, match="noise_seed is 3, but there is no camera"):
        op(x, noise_seed=3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bits": 0}, "bits is 0, but must be from 1 to 16"),
        ({"bits": 17}, "bits is 17"),
        ({"bits": 8.0}, "bits is 8.0, but must be an integer"),
        ({"full_scale": 0}, "full_scale is 0.0, but must be from 1e-12 to 1e+15, or inf"),
        ({"full_scale": math.inf}, "full_scale is inf, but must be finite"),
        ({"full_scale": 5e-324}, "full_scale is 5e-324"),
        ({"read_noise": 10**400}, "read_noise is inf"),
        ({"full_scale": math.nan}, "full_scale is nan"),
        ({"exposure": -1}, "exposure is -1.0"),
        ({"exposure": math.inf}, "exposure is inf"),
        ({"photons": 0}, "photons is 0.0, but must be from 1e-12"),
        ({"photons": "many"}, "photons is 'many', but must be a number"),
        ({"read_noise": -0.1}, "read_noise is -0.1, but must be from 0 to 1e+15"),
        ({"frames": 0}, "frames is 0"),
        ({"frames": 5000}, "frames is 5000, but must be from 1 to 4096"),
        ({"dark_floor": -1}, "dark_floor is -1.0"),
        ({"anchors": 1}, "anchors is 1, but must be from 2 to 64"),
        ({"anchors": True}, "anchors is True"),
    ],
)
def test_bad_fields_are_refused_by_name(fields: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        Camera(**fields)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"camera": "lighton"}, "camera is 'lighton', but must be an opuproj.Camera"),
        ({"noise_seed": 3}, "noise_seed is 3, but there is no camera"),
        ({"noise_seed": -1, "camera": Camera()}, "noise_seed is -1"),
        ({"dtype": np.uint8}, "dtype is uint8, but only a camera with finite bits gives integers"),
        ({"dtype": np.uint8, "camera": Camera.ideal()}, "dtype is uint8, but only a camera with finite bits"),
        ({"dtype": np.uint8, "camera": Camera(bits=10)}, "dtype is uint8, but a camera of 10 bits needs uint16"),
        ({"dtype": np.uint8, "camera": Camera(frames=2)}, "dtype is uint8, but the mean of 2 frames is not an integer"),
        ({"dtype": np.uint8, "camera": Camera(), "mode": "linear"}, "dtype is uint8, but mode 'linear' gives float32"),
    ],
)
def test_bad_options_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        opuproj.project(ternary(10), 5, **options)
