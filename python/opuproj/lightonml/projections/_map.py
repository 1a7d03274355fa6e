"""What both classes OPUMap do with an OPU."""

from __future__ import annotations

from typing import Any, TypeVar

from ... import _check
from ...camera import Camera, checked_camera
from .._verbosity import set_verbose_level
from ..opu import OPU

M = TypeVar("M", bound="HasOPU")


class HasOPU:
    """What holds an OPU, and opens and closes it."""

    opu: OPU

    @property
    def n_components(self) -> int:
        """How many features are made; may be set."""
        return self.opu.n_components

    @n_components.setter
    def n_components(self, value: int) -> None:
        self.opu.n_components = value

    @property
    def max_n_features(self) -> int | None:
        """How many features an input may have; may be set."""
        return self.opu.max_n_features

    @max_n_features.setter
    def max_n_features(self, value: int | None) -> None:
        self.opu.max_n_features = value

    @property
    def seed(self) -> int:
        """Which matrix; may be set, None leaving the one that it is."""
        return self.opu.seed

    @seed.setter
    def seed(self, value: int | None) -> None:
        if value is not None:
            self.opu.device.seed = _check.seed(value)

    @property
    def camera(self) -> Camera | None:
        """What records the intensities; may be set."""
        return self.opu.device.camera

    @camera.setter
    def camera(self, value: Camera | None) -> None:
        self.opu.device.camera = checked_camera(value)

    def open(self) -> None:
        """Open the OPU."""
        self.opu.open()

    def close(self) -> None:
        """Close the OPU."""
        self.opu.close()

    def __enter__(self: M) -> M:
        self.open()
        return self

    def __exit__(self, *args: object) -> None:
        self.close()


def opu_of(
    n_components: int,
    opu: OPU | None,
    simulated: bool,
    max_n_features: int | None,
    verbose_level: int,
    seed: int | None,
    camera: Camera | None,
) -> OPU:
    """Return the OPU that was given, with n_components set, or a new one."""
    if verbose_level >= 0:
        set_verbose_level(verbose_level)
    if opu is None:
        if simulated and max_n_features is None:
            raise ValueError("When using simulated=True, you need to provide max_n_features.")
        return OPU(n_components, max_n_features=max_n_features, simulated=simulated, seed=seed, camera=camera)
    if not isinstance(opu, OPU):
        raise TypeError(f"opu is {opu!r}, but must be an opuproj.lightonml.OPU")
    opu.n_components = n_components
    if seed is not None:
        opu.device.seed = _check.seed(seed)
    if camera is not None:
        opu.device.camera = checked_camera(camera)
    return opu


def checked_ndims(ndims: int) -> int:
    """Return `ndims`, which must be 1 or 2."""
    if ndims not in (1, 2):
        raise ValueError(f"ndims is {ndims!r}, but the number of input dimensions must be 1 or 2")
    return ndims


def fit(opu: OPU, ndims: int, X: Any, n_features: Any, n_2d_features: Any, packed: bool, online: bool) -> None:
    """Fit the OPU for vectors of 1 or 2 dimensions."""
    if n_features is None and ndims == 2 and packed:
        n_features = None if n_2d_features is None else tuple(n_2d_features)
    (opu.fit1d if ndims == 1 else opu.fit2d)(X, n_features=n_features, packed=packed, online=online)
