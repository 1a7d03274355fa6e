"""What both classes OPUMap have in common: arguments, the OPU that they hold, and fits."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar, cast

from ... import _check
from ...camera import Camera, checked_camera
from .._verbosity import get_verbose_level, print_verbose, set_verbose_level
from ..opu import OPU

M = TypeVar("M", bound="BaseOPUMap")


class BaseOPUMap:
    """Base of both classes OPUMap, which document its arguments."""

    opu: OPU
    # What is printed at verbose level 1 when an object is made.
    _notice: ClassVar[str] = ""

    def __init__(
        self,
        n_components: int,
        opu: OPU | None = None,
        ndims: int = 1,
        n_2d_features: Any = None,
        packed: bool = False,
        simulated: bool = False,
        max_n_features: int | None = None,
        verbose_level: int = -1,
        *,
        seed: int | None = None,
        camera: Camera | None = None,
    ) -> None:
        super().__init__()
        if ndims not in (1, 2):
            raise ValueError(f"ndims is {ndims!r}, but the number of input dimensions must be 1 or 2")
        self.ndims = ndims
        if verbose_level >= 0:
            set_verbose_level(verbose_level)
        self.opu = _opu(n_components, opu, simulated, max_n_features, seed, camera)
        self.verbose_level = get_verbose_level()
        self.n_2d_features = n_2d_features
        self.packed = packed
        self.simulated = simulated
        self.fitted = False
        if self._notice:
            print_verbose(self._notice)

    @property
    def n_components(self) -> int:
        """The number of features; can be set."""
        return self.opu.n_components

    @n_components.setter
    def n_components(self, value: int) -> None:
        self.opu.n_components = value

    @property
    def max_n_features(self) -> int | None:
        """The largest number of features of an input; can be set."""
        return self.opu.max_n_features

    @max_n_features.setter
    def max_n_features(self, value: int | None) -> None:
        self.opu.max_n_features = value

    @property
    def seed(self) -> int:
        """The seed of the matrix; can be set. Setting it to None changes nothing."""
        return self.opu.seed

    @seed.setter
    def seed(self, value: int | None) -> None:
        if value is not None:
            self.opu.device.seed = _check.seed(value)

    @property
    def camera(self) -> Camera | None:
        """The camera that records the intensities; can be set."""
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

    def _fit(self, X: Any, n_features: Any, packed: bool, online: bool) -> None:
        """Fit the OPU to vectors of `ndims` dimensions."""
        packed = packed or self.packed
        if n_features is None and self.ndims == 2 and packed:
            n_features = None if self.n_2d_features is None else tuple(self.n_2d_features)
        fit = self.opu.fit1d if self.ndims == 1 else self.opu.fit2d
        fit(X, n_features=n_features, packed=packed, online=online)
        self.fitted = True

    def _transform(self, X: Any, what: str) -> Any:
        """Return the features of X. Before the first fit, fit to X and print that; `what` says what X is."""
        if not self.fitted:
            print(f"OPUMap was not fit to data. Performing fit on the {what} with default parameters...")
            cast(Any, self).fit(X)  # a subclass may have its own
        return self.opu.transform(X)


def _opu(
    n_components: int,
    opu: OPU | None,
    simulated: bool,
    max_n_features: int | None,
    seed: int | None,
    camera: Camera | None,
) -> OPU:
    """Return the given OPU with its n_components set, or a new one."""
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
