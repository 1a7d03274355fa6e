"""The state, reports and output of an OPU, and its device on its own."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import opuproj
import pytest
from helpers import ROOT, assert_same_bits
from lightonml_opus import METHODS, binary, fitted, new
from opuproj import lightonml
from opuproj.lightonml import OPU
from opuproj.lightonml.encoding import base
from opuproj.lightonml.internal.simulated_device import SimulatedOpuDevice
from opuproj.lightonml.types import OutputRescaling


def test_it_pickles_with_its_fit_and_matrix() -> None:
    X = binary(5, 40)
    opu = fitted(seed=4, rescale="norm")
    again = pickle.loads(pickle.dumps(opu))
    for method in METHODS:
        assert_same_bits(getattr(again, method)(X), getattr(opu, method)(X))
    assert len(pickle.dumps(opu)) < 2000
    closed = pickle.loads(pickle.dumps(new(open_at_init=False)))
    assert not closed.device.active


def test_the_context_manager_closes_what_it_opened() -> None:
    with new(open_at_init=False) as opu:
        assert opu.device.active
    assert not opu.device.active
    with new() as opu:
        pass
    assert opu.device.active
    opu.close()
    assert not opu.device.active
    with SimulatedOpuDevice() as device:
        assert device.active
    assert not device.active


def test_results_tell_their_context() -> None:
    opu = OPU(50, SimulatedOpuDevice(frametime_us=700, exposure_us=300), 40)
    opu.fit1d(n_features=40)
    y = opu.transform(binary(3, 40))
    assert y.context is not None
    known = y.context.as_dict()
    assert (known["exposure_us"], known["frametime_us"], known["gain_dB"], known["fmt_type"]) == (300, 700, 0.0, "none")
    assert known["output_roi"] == ((0, 0), (2040, 1088))
    assert known["start"] <= known["end"]
    assert opu.transform(binary(40)).context.end is None
    opu.fit1d(n_features=40, exposure_us=900, n_components=7)
    y = opu.linear_transform(binary(3, 40))
    assert (y.context.exposure_us, y.context.frametime_us, y.shape) == (900, 950, (3, 7))
    opu.fit1d(n_features=40)
    assert (opu.device.exposure_us, opu.device.frametime_us) == (300, 700)


def test_a_bar_and_a_line_appear_from_verbose_level_one_on(capfd: pytest.CaptureFixture[str]) -> None:
    X = binary(3, 40)
    try:
        lightonml.set_verbose_level(1)
        assert lightonml.get_verbose_level() == 1
        fitted().transform(X)
        shown = capfd.readouterr()
        assert "random projections of an array of size (3,)" in shown.out
        assert "opuproj" in shown.err
        fitted(disable_pbar=True).transform(X)
        fitted().transform(X[0])
        assert "opuproj" not in capfd.readouterr().err
    finally:
        lightonml.set_verbose_level(0)
    fitted().transform(X)
    assert capfd.readouterr() == ("", "")
    with pytest.raises(ValueError, match="verbose_level is 4"):
        lightonml.set_verbose_level(4)


def test_config_and_version(tmp_path: Path) -> None:
    file = tmp_path / "opu.json"
    file.write_text(json.dumps({"name": "a", "output": {"exposure_us": 400, "stdev": 1.0}}))
    opu = new(config_file=str(file), config_override={"output": {"stdev": 2.0}, "type": "b"})
    assert opu.config == {"name": "a", "output": {"exposure_us": 400, "stdev": 2.0}, "type": "b"}
    assert new().config == {}
    assert opu.version().splitlines() == [f"lightonml version 1.4, by opuproj {opuproj.__version__}"]
    assert len(opu.version(devices=True).splitlines()) == 2
    assert opu.max_n_components > 10**9


def test_every_public_name_is_on_the_page() -> None:
    page = (ROOT / "docs" / "lightonml.md").read_text()
    members = [name for name in vars(OPU) if not name.startswith("_") and name not in ("seed",)]
    for name in (*lightonml.__all__, *members, *base.__all__, *vars(OutputRescaling)["_member_names_"]):
        assert name in page, name


def test_the_device_by_itself() -> None:
    X = binary(3, 40)
    device = SimulatedOpuDevice()
    assert (device.random_matrix, device.nb_features) == (None, None)
    with pytest.raises(RuntimeError, match="call build_random_matrix first"):
        device.transform1(X)
    device.build_random_matrix(40, 50, seed=3)
    y = device.transform1(X)
    assert_same_bits(y, np.asarray(fitted(seed=3).transform(X)))
    assert_same_bits(device.transform_single(X[0]), y[0])
    out = np.empty_like(y)
    device.transform2(X, out)
    assert_same_bits(out, y)
    linear = SimulatedOpuDevice(linear=True, seed=3)
    linear.build_random_matrix(40, 50, seed=3)
    assert_same_bits(linear.transform1(X), np.asarray(fitted(seed=3, rescale="none").linear_transform(X)))
    with pytest.raises(ValueError, match="X must have at most 40 columns, but has 41"):
        device.transform1(binary(3, 41))
    assert device.input_shape == (1140, 912)
    assert pickle.loads(pickle.dumps(device)).transform1(X).tolist() == y.tolist()
