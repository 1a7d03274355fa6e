"""opuproj.hardware: frames, seconds and joules by hand calculations from the published table."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import opuproj
import pytest
from opuproj import Camera, hardware
from opuproj.hardware import LIGHTON, Cost, Generation, Setting

SMALL = Generation("small device", (Setting(100.0, 10, 20), Setting(25.0, 30, 50)), 8.0, "this test")


# Frames


@pytest.mark.parametrize(
    ("mode", "camera", "expected"),
    [
        ("intensity", None, 1),
        ("intensity", Camera(frames=7), 7),
        ("linear", None, 4),
        ("linear", Camera(frames=3, anchors=9), 12),
        ("complex", None, 8),
        ("complex", Camera(anchors=2), 6),
        ("complex", Camera(anchors=5, frames=2), 24),
    ],
)
def test_frames_are_exposures_times_repeats_planes_and_vectors(mode: Any, camera: Camera | None, expected: int) -> None:
    assert hardware.frames(mode, camera) == expected
    assert hardware.frames(mode, camera, planes=6, n_vectors=11) == 66 * expected
    assert hardware.frames(mode, camera, n_vectors=0) == 0
    assert hardware.cost(11, 5, 5, mode=mode, camera=camera, planes=6, n_anchor=1).frames == 66 * expected


# Rates


@pytest.mark.parametrize(
    ("n_inputs", "n_outputs", "expected"),
    [
        (1, 1, 8000),
        (145_000, 81_000, 8000),
        (145_001, 81_000, 6300),
        (290_000, 81_000, 6300),
        (1, 81_001, 3800),
        (290_001, 1, 3800),
        (583_000, 163_000, 3800),
        (583_001, 1, 1900),
        (1, 163_001, 1900),
        (1_000_000, 326_000, 1900),
        (1, 326_001, 1000),
        (1, 600_001, 340),
        (1_000_000, 2_000_000, 340),
        (1140 * 912, 2048 * 1088, 340),
    ],
)
def test_the_rate_is_the_fastest_of_the_table_that_fits(n_inputs: int, n_outputs: int, expected: float) -> None:
    assert hardware.rate(n_inputs, n_outputs) == expected


def test_the_order_of_the_table_does_not_matter() -> None:
    turned = Generation("turned", LIGHTON.rows[::-1], 30.0, "this test")
    for n_inputs, n_outputs in itertools.product((1, 145_001, 300_000, 900_000), (1, 81_001, 200_000, 5_000_000)):
        assert turned.setting(n_inputs, n_outputs) == LIGHTON.setting(n_inputs, n_outputs)


@pytest.mark.parametrize(("n_outputs", "passes"), [(50, 1), (51, 2), (100, 2), (101, 3)])
def test_outputs_beyond_the_largest_camera_take_several_passes(n_outputs: int, passes: int) -> None:
    assert SMALL.setting(30, n_outputs) == (Setting(25.0, 30, 50), passes)
    cost = hardware.cost(3, 30, n_outputs, generation=SMALL)
    assert cost == Cost(3 * passes, 3 * passes / 25, 8 * 3 * passes / 25, 25.0, 2 * 3 * 30 * n_outputs)


def test_passes_share_the_outputs_and_may_be_faster_for_it() -> None:
    device = Generation("device", (Setting(9.0, 10, 31), Setting(1.0, 10, 60)), 1.0, "this test")
    assert device.setting(1, 60) == (Setting(1.0, 10, 60), 1)
    assert device.setting(1, 61) == (Setting(9.0, 10, 31), 2)


# Time and energy


def test_a_full_frame_takes_88_mJ_and_does_the_1500_TeraOPS_of_the_paper() -> None:  # noqa: N802
    frame = hardware.cost(1, 1_000_000, 2048 * 1088)
    assert frame.frames == 1
    assert frame.seconds == 1 / 340
    assert frame.joules == pytest.approx(88.2e-3, rel=1e-3)
    assert frame.operations == 2 * 10**6 * 2048 * 1088
    assert frame.operations * frame.rate == pytest.approx(1.515e15, rel=1e-3)


def test_a_ternary_projection_takes_four_frames_and_its_anchor_some_inputs() -> None:
    cost = hardware.cost(100, 144_936, 81_000, mode="linear")
    assert (cost.frames, cost.rate, cost.seconds) == (400, 8000.0, 0.05)
    assert cost.joules == 1.5
    assert cost.operations == 8 * 100 * 144_936 * 81_000
    assert hardware.cost(100, 144_937, 81_000, mode="linear").rate == 6300
    assert hardware.cost(100, 144_937, 81_000, mode="linear", n_anchor=63).rate == 8000
    assert hardware.cost(1, 144_808, 81_000, mode="complex").rate == 8000
    assert hardware.cost(1, 144_809, 81_000, mode="complex").rate == 6300
    assert hardware.cost(1, 144_936, 81_000, mode="complex", camera=Camera(anchors=2)).rate == 6300


def test_costs_add_up() -> None:
    a, b = hardware.cost(100, 10, 10), hardware.cost(17, 10, 100_000, mode="linear")
    both = a + b
    assert both.frames == 100 + 68
    assert both.seconds == 100 / 8000 + 68 / 3800
    assert both.joules == a.joules + b.joules
    assert both.rate == 168 / both.seconds
    assert both.operations == 2 * 10 * (100 * 10 + 68 * 100_000)
    assert sum([a, a, a]) == Cost(300, a.seconds + a.seconds + a.seconds, 3 * a.joules, 8000.0, 3 * a.operations)
    nothing = hardware.cost(0, 10, 100_000)
    assert (nothing.frames, nothing.seconds, nothing.joules) == (0, 0.0, 0.0)
    assert (nothing + a).rate == (a + nothing).rate == 8000
    with pytest.raises(TypeError):
        a + 1  # type: ignore[operator]


def test_costs_are_readable() -> None:
    assert str(hardware.cost(1, 10**6, 2 * 10**6)) == "1 frame at 340 Hz: 2.94 ms, 88.2 mJ"
    assert str(hardware.cost(10**6, 1000, 300_000, mode="linear")) == "4,000,000 frames at 1900 Hz: 35.1 min, 63.2 kJ"
    written = [hardware.format_quantity(value, "J") for value in (0.0, 2e-12, 0.9996, 0.9994e3, 0.99951e3, 1.5e12)]
    assert written == ["0 J", "0.002 nJ", "1 J", "999 J", "1 kJ", "1.5e+03 GJ"]
    times = [hardware.format_quantity(value, "s") for value in (119.0, 120.0, 7200.0, 200_000.0)]
    assert times == ["119 s", "2.0 min", "2.0 h", "2.3 days"]


# Bad parameters


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_inputs": 0}, ValueError, "n_inputs is 0, but must be from 1"),
        ({"n_outputs": 2.0}, TypeError, r"n_outputs is 2\.0, but must be an integer"),
        ({"n_vectors": -1}, ValueError, "n_vectors is -1, but must be from 0"),
        ({"mode": "phase"}, ValueError, "mode is 'phase', but must be one of"),
        ({"mode": "real"}, ValueError, "mode is 'real', which exists in software only: .* use mode 'linear'"),
        ({"camera": 8}, TypeError, "camera is 8, but must be an opuproj.Camera"),
        ({"planes": 0}, ValueError, "planes is 0, but must be from 1 to 64"),
        ({"n_anchor": 5000}, ValueError, "n_anchor is 5000, but must be from 1 to 4096"),
        ({"generation": "lighton"}, TypeError, "generation is 'lighton', but must be an opuproj.hardware.Generation"),
        ({"n_inputs": 1_039_681}, ValueError, "n_inputs is 1039681, but must be at most 1039680, .* project parts"),
        (
            {"n_inputs": 1_039_680, "mode": "linear"},
            ValueError,
            "n_inputs is 1039680, but must be at most 1039616 in mode 'linear': anchors take 64",
        ),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        hardware.cost(**{"n_vectors": 1, "n_inputs": 10, "n_outputs": 10, **arguments})


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"rows": []}, ValueError, "rows is .*, but must hold at least one"),
        ({"rows": [(1.0, 2)]}, ValueError, r"rows\[0\] is \(1\.0, 2\), but must be"),
        ({"rows": [(1.0, 2, 3), (0, 2, 3)]}, ValueError, r"rows\[1\]\.rate is 0\.0, but must be above 0"),
        ({"rows": [(1.0, 2.5, 3)]}, TypeError, r"rows\[0\]\.max_inputs is 2\.5, but must be an integer"),
        ({"rows": [(1.0, 2, 0)]}, ValueError, r"rows\[0\]\.max_outputs is 0, but must be from 1"),
        ({"name": 3}, TypeError, "name is 3, but must be a string"),
        ({"source": None}, TypeError, "source is None, but must be a string"),
        ({"watts": -1}, ValueError, r"watts is -1\.0, but must be at least 0"),
    ],
)
def test_bad_devices_are_refused(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    fields: dict[str, Any] = {"name": "device", "rows": [(1.0, 2, 3)], "watts": 1, "source": "this test"}
    assert Generation(**fields).rows == (Setting(1.0, 2, 3),)
    with pytest.raises(error, match=message):
        Generation(**{**fields, **changes})


def test_the_limits_are_those_of_the_simulated_device() -> None:
    from opuproj.lightonml.internal.simulated_device import SimulatedOpuDevice

    assert np.prod(SimulatedOpuDevice().input_shape) == LIGHTON.max_inputs
    assert opuproj.hardware is hardware
