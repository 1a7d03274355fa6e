"""What comes from a pickle is checked as what a constructor is given."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import opuproj
import pytest
from helpers import assert_same_bits, ternary
from opuproj import Adjoint, Camera, Projector

STATE = {
    "n_inputs": 10,
    "n_outputs": 20,
    "seed": 7,
    "mode": "linear",
    "ensemble": "gaussian",
    "n_anchor": 64,
    "camera": None,
    "dtype": "float32",
    "threads": None,
    "row_start": 0,
}


class Pickled:
    """Is written as an operator of this state is."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    def __reduce__(self) -> Any:
        return Projector(1, 1).__reduce__()[0], (self.state,)


def restored(state: dict[str, Any]) -> Any:
    return pickle.loads(pickle.dumps(Pickled(state)))


def test_this_is_how_an_operator_is_written() -> None:
    op = Projector(10, 20, seed=7)
    assert pickle.dumps(op) == pickle.dumps(Pickled(STATE))
    assert restored(STATE) == op
    assert pickle.dumps(Projector(10, 20, seed=7, mode="real")) == pickle.dumps(Pickled({**STATE, "mode": "real"}))
    assert restored({**STATE, "row_start": 3, "n_outputs": 4}) == Projector(10, 50, seed=7)[3:7]
    assert restored({**STATE, "row_start": 2**63 - 5, "n_outputs": 4}) == Projector(10, 2**63 - 1, seed=7)[-4:]


def test_pickles_of_before_there_were_cameras_and_ensembles() -> None:
    old = {name: value for name, value in STATE.items() if name not in ("camera", "ensemble")}
    op = restored(old)
    assert op == Projector(10, 20, seed=7)
    x = ternary(10)
    assert_same_bits(op(x), Projector(10, 20, seed=7)(x))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"n_inputs": 0}, ValueError, r"n_inputs is 0, but must be from 1 to 2\*\*63 - 1"),
        ({"n_inputs": 2.5}, TypeError, "n_inputs is 2.5, but must be an integer"),
        ({"n_outputs": -5}, ValueError, "n_outputs is -5"),
        ({"n_outputs": 2**63}, ValueError, "n_outputs is 9223372036854775808"),
        ({"row_start": -1}, ValueError, "row_start is -1"),
        ({"row_start": 2**63 - 5}, ValueError, "n_outputs is 20, but must be from 0 to 4"),
        ({"seed": 2**64}, ValueError, "seed is 18446744073709551616"),
        ({"mode": "real?"}, ValueError, "mode is 'real"),
        ({"ensemble": "other"}, ValueError, "ensemble is 'other'"),
        ({"ensemble": "structured", "camera": Camera()}, ValueError, "camera is Camera"),
        ({"mode": "real", "camera": Camera()}, ValueError, "camera is Camera.*but mode is 'real'"),
        ({"mode": "real", "dtype": "complex64"}, ValueError, "dtype is complex64"),
        ({"n_anchor": 5000}, ValueError, "n_anchor is 5000"),
        ({"camera": "none"}, TypeError, "camera is 'none'"),
        ({"dtype": "complex64"}, ValueError, "dtype is complex64"),
        ({"dtype": "uint8"}, ValueError, "dtype is uint8"),
        ({"dtype": "no"}, TypeError, "dtype is 'no'"),
        ({"threads": 0}, ValueError, "threads is 0"),
        ({"other": 1}, TypeError, "other"),
    ],
)
def test_an_operator_that_no_constructor_makes(changes: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        restored({**STATE, **changes})


@pytest.mark.parametrize("name", [name for name in STATE if name not in ("camera", "ensemble")])
def test_an_operator_of_which_something_is_missing(name: str) -> None:
    with pytest.raises(ValueError, match=f"the state has no '{name}'"):
        restored({key: value for key, value in STATE.items() if key != name})


def test_a_camera() -> None:
    camera = Camera(bits=10, photons=100)
    for same in (pickle.loads(pickle.dumps(camera)), copy.copy(camera), copy.deepcopy(camera)):
        assert same == camera
    for name, value in {"bits": 17, "photons": -1.0, "frames": 0, "anchors": 1}.items():
        bad = Camera()
        bad.__dict__[name] = value
        for of in (bad, Pickled({**STATE, "camera": bad})):
            with pytest.raises(ValueError, match=f"^{name} is {value}, but must be"):
                pickle.loads(pickle.dumps(of))


def test_an_adjoint() -> None:
    op = Projector(10, 20, mode="complex")
    for adjoint in (op.H, op.T, Projector(10, 20, mode="real")[3:].H):
        assert pickle.loads(pickle.dumps(adjoint)) == adjoint
    for changes, error, message in (
        ({"operator": Projector(10, 20, mode="intensity")}, ValueError, "mode is 'intensity'"),
        ({"operator": Projector(10, 20, ensemble="structured")}, ValueError, "ensemble is 'structured'"),
        ({"operator": 3}, TypeError, "operator is 3, but must be an opuproj.Projector"),
        ({"conjugated": "yes"}, TypeError, "conjugated is 'yes', but must be True or False"),
    ):
        bad = Adjoint(op)
        bad.__dict__.update(changes)
        with pytest.raises(error, match=message):
            pickle.loads(pickle.dumps(bad))
        with pytest.raises(error, match=message):
            Adjoint(**{"operator": op, **changes})


def test_batches_of_a_shape_that_is_none() -> None:
    restore, (data, _) = opuproj.pack(ternary(6, 70)).__reduce__()
    assert restore(data, (2, 3, 70)).shape == (2, 3, 70)
    for shape, error in (((-2, -3, 70), ValueError), ((5, 70), ValueError), ((6.0, 70), TypeError)):
        with pytest.raises(error, match="shape"):
            restore(data, shape)
    restore, (base, digits, scales) = opuproj.encode(np.eye(6)).__reduce__()
    for arguments in (
        (4, digits, scales),
        (base, (), scales),
        (base, digits, scales[1:]),
        (base, digits, -scales),
        (base, (digits[0].reshape(2, 3, 6), *digits[1:]), scales),
    ):
        with pytest.raises(ValueError, match="digits"):
            restore(*arguments)


def test_the_former_places_of_names() -> None:
    from opuproj import adjoint, projector

    assert adjoint.Adjoint is opuproj.Adjoint
    assert projector.project is opuproj.project
