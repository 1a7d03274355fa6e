"""The specification of an operator: exactly what determines the bits of its results."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from . import _check, _core
from ._check import Ensemble, Mode
from .camera import Camera, checked_camera, imperfect


@dataclass(frozen=True)
class Spec:
    """An operator: rows `row_start` to `row_start + n_outputs - 1` of a matrix, and the quantity that is returned.

    Attributes
    ----------
    n_inputs, n_outputs : int
        The lengths of an input vector and of a result.
    seed : int
        Selects T: from 0 to 2**64 - 1.
    mode : {"intensity", "linear", "complex", "real"}
        The quantity that is returned.
    ensemble : {"gaussian", "structured"}
        The distribution of T.
    n_anchor : int
        The number of inputs of the anchor of mode ``"linear"``.
    camera : Camera or None
        The camera that reads the intensities; None for exact results.
    dtype : numpy.dtype
        The dtype that results are rounded to.
    row_start : int
        The row of T (of G for mode ``"real"``) that gives output 0.
    """

    n_inputs: int
    n_outputs: int
    seed: int
    mode: Mode
    ensemble: Ensemble
    n_anchor: int
    camera: Camera | None
    dtype: np.dtype[Any]
    row_start: int = 0

    @classmethod
    def checked(
        cls,
        n_inputs: Any,
        n_outputs: Any,
        *,
        seed: Any = 0,
        mode: Any = "linear",
        ensemble: Any = "gaussian",
        n_anchor: Any = 64,
        camera: Any = None,
        dtype: Any = np.float32,
    ) -> Spec:
        """Check a user's arguments and return the specification of all rows; an error names the wrong argument."""
        mode, ensemble = _check.mode(mode), _check.ensemble(ensemble)
        refuse_camera(camera, mode, ensemble)
        return cls(
            n_inputs=_check.size("n_inputs", n_inputs),
            n_outputs=_check.size("n_outputs", n_outputs),
            seed=_check.seed(seed),
            mode=mode,
            ensemble=ensemble,
            n_anchor=_check.n_anchor(n_anchor),
            camera=checked_camera(camera),
            dtype=_check.dtype(dtype, mode, camera),
        )

    @property
    def row_stop(self) -> int:
        """The row after the last one."""
        return self.row_start + self.n_outputs

    @property
    def components(self) -> int:
        """The number of integers in the field of one output: both parts of a row of T, or 1 for mode ``"real"``."""
        return 1 if self.mode == "real" else 2

    @property
    def block_rows(self) -> int:
        """The number of outputs that one block of the keystream gives."""
        return _core.BLOCK_COMPONENTS // self.components

    @property
    def noisy(self) -> bool:
        """Whether a camera changes the results."""
        return imperfect(self.camera)

    def rows(self, start: int, stop: int) -> Spec:
        """Return the specification of outputs start to stop - 1."""
        return self.changed(n_outputs=stop - start, row_start=self.row_start + start)

    def with_shape(self, n_inputs: Any, n_outputs: Any, dtype: Any) -> Spec:
        """Return the specification with another shape and dtype, which are checked."""
        return self.changed(
            n_inputs=_check.size("n_inputs", n_inputs),
            n_outputs=_check.size("n_outputs", n_outputs),
            dtype=_check.dtype(dtype, self.mode, self.camera),
        )

    def with_camera(self, camera: Any) -> Spec:
        """Return the specification with another camera, or with none."""
        refuse_camera(camera, self.mode, self.ensemble)
        return self.changed(camera=checked_camera(camera), dtype=_check.dtype(self.dtype, self.mode, camera))

    def changed(self, **fields: Any) -> Spec:
        """Return a specification with some fields replaced. The new values must be checked already."""
        new = object.__new__(Spec)
        new.__dict__.update(self.__dict__, **fields)  # dataclasses.replace takes several times as long
        return new

    # As plain numbers and names: for pickles, torch operators and other processes

    def to_state(self) -> dict[str, Any]:
        """Return the fields as a dict that can be pickled and that every version of NumPy can load."""
        return {**self.__dict__, "dtype": self.dtype.name}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Spec:
        """Check the fields of a state like arguments, and return its specification."""
        fields = {"camera": None, "ensemble": "gaussian", **state}  # older states lack these two
        missing = [name for name in cls.__dataclass_fields__ if name not in fields]
        if missing:
            raise ValueError(f"the state has no {missing[0]!r}: it does not belong to a Projector")
        start = _check.integer("row_start", fields.pop("row_start"), 0, _check.MAX_SIZE)
        n_outputs = _check.integer("n_outputs", fields.pop("n_outputs"), 0, _check.MAX_SIZE - start)
        return cls.checked(n_outputs=max(1, start + n_outputs), **fields).rows(start, start + n_outputs)

    def encode(self) -> str:
        """Return the fields as text."""
        camera = None if self.camera is None else asdict(self.camera)
        return json.dumps({**self.to_state(), "camera": camera})

    @staticmethod
    def decode(text: str) -> Spec:
        """Return the specification that `encode` wrote as this text."""
        return _decoded(text)


@lru_cache(maxsize=256)
def _decoded(text: str) -> Spec:
    state = json.loads(text)
    camera = None if state["camera"] is None else Camera(**state["camera"])
    return Spec.from_state({**state, "camera": camera})


def refuse_camera(camera: object, mode: Mode, ensemble: Ensemble) -> None:
    """Raise ValueError if a camera is given for mode ``"real"`` or ensemble ``"structured"``, which no device has."""
    if camera is None:
        return
    if ensemble == "structured":
        raise ValueError(
            f"camera is {camera}, but ensemble is 'structured', which exists in software only: for a camera, which "
            "reads the device's own matrix, use ensemble 'gaussian'"
        )
    if mode == "real":
        raise ValueError(
            f"camera is {camera}, but mode is 'real', which exists in software only: for the linear projection that "
            "can be recovered from a camera's readings, use mode 'linear'"
        )
