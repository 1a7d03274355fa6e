"""The device of a simulated OPU. It has a seed in place of lightonml's stored matrix."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import _check, _config
from ..._check import Mode
from ..._core import __version__
from ...camera import Camera, checked_camera
from ...packing import pack
from ...projector import Projector
from ...ternary import TernaryBatch

# Two columns determine a row's phase. With eight, it is practically certain that not all of them are 0.
_COLUMNS_FOR_PHASE = 8


class SimulatedOpuDevice:
    r"""A simulated optical processing unit.

    Its random matrix M, of shape (n_features, n_components), has complex entries whose real and imaginary parts have
    mean 0 and variance 1/n_features. The matrix is not stored: :class:`opuproj.Projector` generates its entries. So a
    larger matrix has the same entries, except for the factor that makes their variance 1/n_features.

    Parameters
    ----------
    frametime_us, exposure_us : int, default 500 and 400
        Times for the context of results. They have no effect.
    verbose : bool, default False
        Accepted for compatibility.
    linear : bool, default False
        Whether the device's methods ``transform...`` return Re(xM) rather than \|xM\|².
    seed : int, default 0
        The seed of the matrix, from 0 to 2**64 - 1. lightonml always used seed 0.
    camera : Camera, optional
        The camera that records the intensities. Results keep their scale.
    """

    def __init__(
        self,
        frametime_us: int = 500,
        exposure_us: int = 400,
        verbose: bool = False,
        linear: bool = False,
        *,
        seed: int = 0,
        camera: Camera | None = None,
    ) -> None:
        self.active = False
        self.frametime_us = int(frametime_us)
        self.exposure_us = int(exposure_us)
        self.output_roi = (0, 0), (2040, 1088)
        self.seed = _check.seed(seed)
        self.camera = checked_camera(camera)
        self._verbose = verbose
        self._linear = linear
        self._shape: tuple[int | None, int] | None = None

    def build_random_matrix(self, n_features: int | None, n_components: int, seed: int | None = 0) -> None:
        """Set the shape and the seed of the matrix.

        Parameters
        ----------
        n_features : int, optional
            The number of rows; None for the number of features of each vector.
        n_components : int
            The number of columns.
        seed : int, optional
            The seed; None for a random one.
        """
        self._resize(n_features, n_components)
        self.seed = secrets.randbits(64) if seed is None else _check.seed(seed)

    def _resize(self, n_features: int | None, n_components: int) -> None:
        rows = None if n_features is None else _check.size("n_features", n_features)
        self._shape = rows, _check.size("n_components", n_components)

    @property
    def random_matrix(self) -> NDArray[np.complex64] | None:
        r"""The matrix M. ``transform`` returns \|xM\|², and a linear transform Re(xM).

        Each access generates it, with 8 bytes for each entry. None if its shape is not known yet.
        """
        n_features = self.nb_features
        if self._shape is None or n_features is None:
            return None
        columns = max(n_features, _COLUMNS_FOR_PHASE)
        field = self._operator(columns, self._shape[1], "complex", np.float64, None).matrix()
        real = self._operator(columns, self._shape[1], "linear", np.float64, None).matrix()
        # R = √2 Re(u T) for a phase u = c - is of each row: solve R/√2 = c Re T + s Im T.
        some = field[:, :_COLUMNS_FOR_PHASE]
        a, b, r = some.real, some.imag, real[:, :_COLUMNS_FOR_PHASE] / math.sqrt(2)
        aa, ab, bb, ar, br = ((p * q).sum(axis=1) for p, q in ((a, a), (a, b), (b, b), (a, r), (b, r)))
        c, s = (ar * bb - br * ab), (br * aa - ar * ab)
        phase = (c - 1j * s) / np.hypot(c, s)
        scale = math.sqrt(2 / n_features)
        matrix: NDArray[np.complex64] = (scale * phase[:, None] * field[:, :n_features]).T.astype(np.complex64)
        return matrix

    # Transforms

    def transform1(self, X: NDArray[Any]) -> NDArray[Any]:
        """Transform a 2-D array of vectors of 0 and 1, and of -1 if the device is linear."""
        if np.ndim(X) != 2:
            raise AssertionError(f"X has {np.ndim(X)} axes, but must have two")
        if self._shape is None:
            raise RuntimeError("the device has no matrix; call build_random_matrix first")
        n_features = self._shape[0]
        if n_features is not None and X.shape[1] > n_features:
            raise ValueError(f"X must have at most {n_features} columns, but has {X.shape[1]}")
        return self.project(pack(X), self._shape[1], self._linear, False)

    def transform_single(self, X: NDArray[Any]) -> NDArray[Any]:
        """Transform one vector."""
        single: NDArray[Any] = self.transform1(X if np.ndim(X) == 2 else np.asarray(X)[None])[0]
        return single

    def transform2(self, X: NDArray[Any], Y: NDArray[Any], _: object = None) -> None:
        """Transform a 2-D array of vectors into Y."""
        Y[:] = self.transform1(X)

    def project(self, batch: TernaryBatch, n_components: int, linear: bool, progress: bool) -> NDArray[Any]:
        r"""Return \|xM\|² or Re(xM) of packed vectors, with n_components components."""
        operator = self._operator(
            batch.n_inputs, n_components, "linear" if linear else "intensity", np.float32, self.camera
        )
        y: NDArray[Any] = operator(batch, progress=progress)
        n_features = (self._shape and self._shape[0]) or batch.n_inputs
        if linear:
            y *= np.float32(1 / math.sqrt(n_features))
        else:
            y *= np.float32(2 / n_features)
        return y

    def _operator(self, n_inputs: int, n_outputs: int, mode: Mode, dtype: Any, camera: Camera | None) -> Projector:
        return Projector(n_inputs, n_outputs, seed=self.seed, mode=mode, dtype=dtype, camera=camera)

    # The interface of hardware

    def open(self) -> None:
        """Start accepting vectors."""
        self.active = True

    def close(self) -> None:
        """Stop accepting vectors."""
        self.active = False

    def __enter__(self) -> SimulatedOpuDevice:
        self.open()
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def reserve(self, _: int) -> None:
        """Do nothing, because there are no buffers."""

    @contextmanager
    def acquiring(self, *args: object, **kwargs: object) -> Iterator[None]:
        """Do nothing, because there is no camera to start."""
        yield

    @property
    def input_shape(self) -> tuple[int, int]:
        """The pixels of the hardware's input device."""
        return 1140, 912

    @property
    def nb_features(self) -> int | None:
        """The number of rows of the matrix; None if it is not set or each vector determines it."""
        return self._shape and self._shape[0]

    @property
    def input_size(self) -> int | None:
        """The size of an input (bytes)."""
        return self.nb_features and self.nb_features // 8

    @property
    def acq_state(self) -> None:
        """Always None: nothing is being acquired."""

    @property
    def output_dtype(self) -> type[np.float32]:
        """float32. The hardware returned uint8."""
        return np.float32

    @property
    def output_roi_strategy(self) -> None:
        """Always None: there is no region to choose."""

    @property
    def output_roi_increment(self) -> int:
        """The step of the region's size (pixels)."""
        return 1

    @property
    def output_shape_max(self) -> tuple[int, int]:
        """The pixels of the hardware's camera."""
        return 1920, 1080

    @property
    def output_shape(self) -> tuple[int, int]:
        """The pixels of the region."""
        return self.output_roi[1]

    @property
    def output_readout_us(self) -> int:
        """The readout time of a camera (µs)."""
        return self.exposure_us

    @property
    def gain_dB(self) -> float:  # noqa: N802
        """The gain of the camera (dB)."""
        return 0.0

    def versions(self) -> str:
        """Return the version of the simulation and its instruction set."""
        return f"simulated by opuproj {__version__} ({_config.config()['chosen']})"
