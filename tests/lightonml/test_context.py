"""Contexts survive slices, arithmetic, pickling and their way through dicts."""

from __future__ import annotations

import copy
import datetime as dt
import pickle

import numpy as np
import pytest
from opuproj.lightonml.context import Context, ContextArray
from opuproj.lightonml.internal.types import FeaturesFormat

START = dt.datetime(2021, 3, 4, 5, 6, 7)


def context() -> Context:
    made = Context(500, 400, ((0, 512), (2040, 64)), START, START, 0.0, ((1, 2), (3, 4)), 9, FeaturesFormat.lined, 8)
    made.add_info({"laser": "green"})
    return made


def test_dicts_say_it_all() -> None:
    assert Context.from_dict(context().as_dict()) == context()
    assert Context.from_dict(context().as_flat_dict()) == context()
    flat = context().as_flat_dict()
    assert (flat["output_roi_position_1"], flat["input_roi_shape_0"], flat["fmt_type"]) == (512, 3, "lined")
    old = {"frametime_us": 1, "exposure_us": 2, "start": START, "ROI": ((5, 6), (7, 8)), "gain_db": 3.0}
    assert Context.from_dict(old) == Context(1, 2, ((5, 6), (7, 8)), START, gain=3.0)


def test_what_is_unknown_is_left_out() -> None:
    assert set(Context(1, 2, start=START).as_dict()) == {"exposure_us", "frametime_us", "output_roi", "start"}
    assert set(Context(1, 2, start=START).as_flat_dict()) == {"exposure_us", "frametime_us", "start"}


def test_contexts_differ_in_anything() -> None:
    assert context() != Context()
    assert context() != 3
    assert str(context()) == str(context().as_dict())
    changed = context()
    changed.add_info(None)
    assert changed != context()


def test_times() -> None:
    stamped = Context.from_timestamps(START.timestamp(), START)
    assert (stamped.start, stamped.end, stamped.exposure_us) == (START, START, -1)
    assert Context.from_timestamps(1_700_000_000) == Context.from_timestamps(1_700_000_000.0)
    with pytest.raises(ValueError, match="start is True, but must be a datetime, or seconds"):
        Context.from_timestamps(True)
    with pytest.raises(ValueError, match="start is 'now', but must be a datetime, or seconds"):
        Context.from_timestamps("now")  # type: ignore[arg-type]


def test_arrays_keep_their_context() -> None:
    y = ContextArray(np.arange(6.0).reshape(2, 3), context())
    for derived in (
        y[1:],
        y * 2,
        y.T,
        y.astype(np.float32),
        np.sqrt(y),
        copy.deepcopy(y),
        pickle.loads(pickle.dumps(y)),
    ):
        assert isinstance(derived, ContextArray)
        assert derived.context == context()
    assert np.array_equal(pickle.loads(pickle.dumps(y)), y)
    assert type(np.array(y)) is np.ndarray
    assert np.zeros(3).view(ContextArray).context is None
