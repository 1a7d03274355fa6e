"""The specification of an operator: frozen, equal by its fields, and the same after every border that it crosses."""

from __future__ import annotations

import dataclasses
import math
import pickle
from typing import Any

import numpy as np
import opuproj
import pytest
from helpers import CAMERA_MODES
from opuproj import Camera, Projector
from opuproj._spec import Spec

CAMERAS = (None, Camera.ideal(), Camera(bits=None, full_scale=math.inf, photons=3.5), Camera.lighton(anchors=7))


def specs() -> list[Spec]:
    return [
        *(
            Spec.checked(10**6, 2**63 - 1, seed=seed, mode=mode, n_anchor=7, camera=camera).rows(2**62, 2**62 + 5)
            for seed in (0, 2**63, 2**64 - 1)
            for mode in CAMERA_MODES
            for camera in CAMERAS
        ),
        Spec.checked(10**6, 2**63 - 1, seed=2**63, mode="real").rows(2**62 + 1, 2**62 + 5),
        Spec.checked(5, 6, ensemble="structured", dtype=np.float64),
        Spec.checked(5, 6, mode="intensity", camera=Camera(bits=12), dtype=np.uint16),
        Spec.checked(5, 6).rows(3, 3),
    ]


@pytest.mark.parametrize("spec", specs(), ids=repr)
def test_it_comes_back_from_text_pickles_and_states(spec: Spec) -> None:
    for again in (Spec.decode(spec.encode()), pickle.loads(pickle.dumps(spec)), Spec.from_state(spec.to_state())):
        assert again == spec
        assert hash(again) == hash(spec)
        assert again.dtype == spec.dtype
    assert spec.encode() == Spec.decode(spec.encode()).encode()


@pytest.mark.parametrize(
    "changes",
    [{"seed": 1}, {"mode": "complex"}, {"mode": "real"}, {"n_anchor": 5}, {"camera": Camera()}, {"dtype": np.float64}],
    ids=lambda changes: next(iter(changes)),
)
def test_each_field_tells_specs_apart(changes: dict[str, Any]) -> None:
    one, other = Spec.checked(5, 6), Spec.checked(5, 6, **changes)
    assert one != other
    assert one.encode() != other.encode()


def test_it_is_frozen() -> None:
    spec = Spec.checked(5, 6)
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.seed = 3  # type: ignore[misc]


def test_every_field_is_that_of_the_operator() -> None:
    camera = Camera(photons=9)
    op = Projector(5, 60, seed=3, mode="complex", n_anchor=8, camera=camera, dtype=np.float64)[7:9]
    for field in dataclasses.fields(Spec):
        assert getattr(op, field.name) == getattr(op._spec, field.name)
    assert op == opuproj.Projector(5, 60, seed=3, mode="complex", n_anchor=8, camera=camera, dtype="float64")[7:9]


def test_the_old_name_of_with_camera_still_works() -> None:
    op, camera = Projector(5, 6), Camera(photons=9)
    with pytest.warns(DeprecationWarning, match="use with_camera"):
        old = op.seen_by(camera)
    assert old == op.with_camera(camera)
