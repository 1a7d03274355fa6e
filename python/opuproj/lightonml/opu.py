"""The class OPU, the interface of programs for LightOn's optical processing unit."""

from __future__ import annotations

import copy
import datetime as dt
import inspect
import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from .. import _check
from .._core import __version__
from ..camera import Camera, checked_camera
from . import _input
from ._verbosity import get_verbose_level, print_verbose, set_verbose_level
from .context import Context, ContextArray
from .encoding.base import NoDecoding, NoEncoding
from .internal.simulated_device import SimulatedOpuDevice
from .internal.types import FeaturesFormat, InputRoiStrategy
from .types import OutputRescaling

_NO_HARDWARE = (
    "simulated is False, but LightOn's hardware is no longer supported: pass simulated=True and max_n_features to "
    "compute the same transforms on this machine"
)


@dataclass(frozen=True)
class _Fit:
    """The settings from a call of fit1d or fit2d."""

    traits: _input.Traits
    n_components: int | None = None
    exposure_us: int = 0
    frametime_us: int = 0
    input_roi: Any = None
    input_roi_strategy: Any = None
    raw_output_size: bool = False


class OPU:
    r"""An optical processing unit: \|Rx\|² by :meth:`transform`, Rx by :meth:`linear_transform`.

    It has the interface of lightonml 1.4's class of the same name, with its simulated device.
    :class:`opuproj.Projector` computes the transforms. It never stores the matrix, so the matrix may have any size and
    takes no time to build. Call a fit method before a transform.

    Parameters
    ----------
    n_components : int, default 200000
        The length of the results.
    opu_device : SimulatedOpuDevice, optional
        The device, in place of `simulated`.
    max_n_features : int or None, default 1000
        The largest number of features of a vector. The entries of the matrix have variance 1/max_n_features. None sets
        no limit, and the variance is then 1 over the number of fitted features.
    config_file : str, optional
        A JSON file for :attr:`config`. It is used for nothing else.
    config_override : dict, optional
        Values that replace those of the file.
    verbose_level : int, optional
        Deprecated: use :func:`opuproj.lightonml.set_verbose_level`.
    input_roi_strategy : InputRoiStrategy, optional
        Kept as an attribute. It has no effect, because there are no pixels.
    open_at_init : bool, optional
        False keeps the device closed until :meth:`open` is called.
    disable_pbar : bool, default False
        Show no progress bar at any verbose level.
    simulated : bool, default False
        Must be True, unless a device is given.
    rescale : OutputRescaling or {"variance", "norm", "none"}, default "variance"
        Linear results are divided by √n_features, √n_components or 1.
    seed : int, optional
        The seed of the matrix, from 0 to 2**64 - 1; by default that of the device, which is 0 unless set otherwise.
    camera : Camera, optional
        The camera that records the intensities, with its noise, saturation and quantization. Results keep their scale.

    Attributes
    ----------
    device : SimulatedOpuDevice
    disable_pbar, input_roi_strategy
        The arguments.

    Raises
    ------
    RuntimeError
        If neither `simulated` nor `opu_device` is given.
    ValueError, TypeError
        If arguments contradict each other or are of the wrong kind. The message names them.

    Notes
    -----
    Results are float32. They have the shape of the input, with n_components in place of its last axis (of its last two
    axes after :meth:`fit2d`). NumPy input gives a :class:`~opuproj.lightonml.context.ContextArray`. A torch tensor
    gives a tensor on the CPU, without a gradient.

    With N for max_n_features, n for the features of a vector and m for n_components, a vector x gives:

    - ``transform``: mean 2‖x‖²/N, exponentially distributed;
    - ``linear_transform``: mean 0 and standard deviation ‖x‖/√N, divided by √n ("variance"), √m ("norm") or 1 ("none").

    So the default rescaling divides by the square root of the size twice, as lightonml's simulated device did. For unit
    variance use ``rescale="none"`` and multiply by √N/‖x‖.

    Examples
    --------
    >>> import numpy as np
    >>> from opuproj.lightonml import OPU
    >>> x = np.random.default_rng(0).integers(0, 2, (3, 1000), dtype=np.uint8)
    >>> with OPU(n_components=5000, max_n_features=1000, simulated=True) as opu:
    ...     opu.fit1d(x)
    ...     y = opu.transform(x)
    >>> y.shape, y.dtype, y.context.exposure_us
    ((3, 5000), dtype('float32'), 400)
    """

    device: SimulatedOpuDevice

    def __init__(
        self,
        n_components: int = 200000,
        opu_device: SimulatedOpuDevice | None = None,
        max_n_features: int | None = 1000,
        config_file: str = "",
        config_override: dict[str, Any] | None = None,
        verbose_level: int = -1,
        input_roi_strategy: InputRoiStrategy = InputRoiStrategy.full,
        open_at_init: bool | None = None,
        disable_pbar: bool = False,
        simulated: bool = False,
        rescale: OutputRescaling | str = OutputRescaling.variance,
        *,
        seed: int | None = None,
        camera: Camera | None = None,
    ) -> None:
        if verbose_level != -1:
            warnings.warn(
                "verbose_level is deprecated; use opuproj.lightonml.set_verbose_level", DeprecationWarning, stacklevel=2
            )
            set_verbose_level(verbose_level)
        if simulated and opu_device is not None:
            raise ValueError("simulated is True and opu_device is given, but only one of them may be")
        if opu_device is not None and not isinstance(opu_device, SimulatedOpuDevice):
            raise TypeError(f"opu_device is {opu_device!r}, but must be a SimulatedOpuDevice")
        if not simulated and opu_device is None:
            raise RuntimeError(_NO_HARDWARE)
        self.rescale = rescale
        self._max_n_features = None if max_n_features is None else _check.size("max_n_features", max_n_features)
        self._n_components = _check.size("n_components", n_components)
        self.device = SimulatedOpuDevice() if opu_device is None else opu_device
        if seed is not None:
            self.device.seed = _check.seed(seed)
        if camera is not None:
            self.device.camera = checked_camera(camera)
        self._base_times = self.device.frametime_us, self.device.exposure_us
        self._config_file = config_file
        self._config_override = config_override
        self._config: dict[str, Any] | None = None
        self.input_roi_strategy = input_roi_strategy
        self.disable_pbar = disable_pbar
        self._fitted: _Fit | None = None
        self._active_before = False
        self._resize()
        if open_at_init or open_at_init is None:
            self.open()

    # Fits

    def fit1d(
        self, X: Any = None, n_features: int | None = None, packed: bool = False, online: bool = False, **override: Any
    ) -> None:
        """Prepare for vectors whose features lie along the last axis.

        Parameters
        ----------
        X : array_like of shape (..., n_features), optional
            An example, which gives the shape.
        n_features : int, optional
            The length of a vector, in place of X; or together with packed X, if it is not a multiple of 8.
        packed : bool, default False
            Whether vectors are packed along the last axis, as :func:`numpy.packbits` packs them.
        online : bool, default False
            Whether vectors come one by one. It has no effect.
        **override
            ``n_components``, ``exposure_us`` and ``frametime_us`` for these transforms. ``input_roi``,
            ``input_roi_strategy`` and ``raw_output_size`` are accepted and have no effect.

        Raises
        ------
        AssertionError
            If neither X nor n_features is given, or both are given for input that is not packed.
        ValueError
            If there are more features than max_n_features, or X has a wrong shape or dtype.
        TypeError
            If an override is unknown.
        """
        self._fit(X, n_features, packed, False, override)

    def fit2d(
        self,
        X: Any = None,
        n_features: tuple[int, int] | None = None,
        packed: bool = False,
        online: bool = False,
        **override: Any,
    ) -> None:
        """Prepare for vectors whose features lie along the last two axes, such as images.

        Parameters
        ----------
        X : array_like of shape (..., height, width), optional
            An example, which gives the shape. Packed, it has shape (..., bytes).
        n_features : (int, int), optional
            Height and width, in place of X; required together with packed X.
        packed, online, **override
            As for :meth:`fit1d`. Packed vectors are flattened first.

        Raises
        ------
        AssertionError, ValueError, TypeError
            As :meth:`fit1d`.
        """
        self._fit(X, n_features, packed, True, override)

    def _fit(self, X: Any, n_features: Any, packed: bool, two_d: bool, override: dict[str, Any]) -> None:
        known = _Fit.__dataclass_fields__.keys() - {"traits"}
        unknown = override.keys() - known
        if unknown:
            raise TypeError(
                f"{min(unknown)!r} is not a setting of a transform; the settings are {', '.join(sorted(known))}"
            )
        if X is not None:
            traits = _input.observed(X, packed, two_d, n_features)
        elif n_features is not None:
            traits = _input.declared(n_features, packed)
        else:
            raise AssertionError("X and n_features are None, but either input vector or n_features must be specified")
        if self._max_n_features is not None and traits.size > self._max_n_features:
            raise ValueError(
                f"input's number of features ({traits.size}) can't be greater than max_n_features, which is "
                f"{self._max_n_features}; pass max_n_features=None for no limit"
            )
        fitted = _Fit(traits, **override)
        if fitted.n_components is not None:
            _check.size("n_components", fitted.n_components)
        frametime, exposure = self._base_times
        self.device.exposure_us = int(fitted.exposure_us or exposure)
        # A frame cannot be shorter than the camera's exposure and its reset.
        self.device.frametime_us = int(fitted.frametime_us or max(frametime, self.device.exposure_us + 50))
        self._fitted = fitted

    # Transforms

    def transform(self, X: Any, encoder_cls: Any = NoEncoding, decoder_cls: Any = NoDecoding) -> Any:
        r"""Project vectors and take the intensity, \|Rx\|².

        Parameters
        ----------
        X : array_like of shape (..., n_features), or (..., height, width) after :meth:`fit2d`
            One vector, or a batch with at most two axes before the vectors. After encoding it must hold 0 and 1, in any
            dtype, or packed bits if the fit was for packed input.
        encoder_cls : class or object, optional
            The encoder that makes X binary: a transformer of :mod:`opuproj.lightonml.encoding.base` or a custom one. A
            class is called without arguments.
        decoder_cls : class or object, optional
            The decoder that transforms the results. A class is called with the encoder's ``get_params()``, if the
            encoder has that method.

        Returns
        -------
        ContextArray or Tensor of shape (..., n_components)
            float32, unless the decoder changes that.

        Raises
        ------
        AssertionError
            If nothing was fitted, or the device is closed.
        ValueError
            If X does not have the fitted shape, or holds other values.
        """
        return self._run("transform", X, encoder_cls, decoder_cls)

    def linear_transform(self, X: Any, encoder_cls: Any = NoEncoding, decoder_cls: Any = NoDecoding) -> Any:
        """Project vectors by a real random matrix, Rx.

        Parameters
        ----------
        X : array_like of shape (..., n_features), or (..., height, width) after :meth:`fit2d`
            As for :meth:`transform`, but -1 is allowed, too. It may be packed.
        encoder_cls, decoder_cls : class or object, optional
            As for :meth:`transform`.

        Returns
        -------
        ContextArray or Tensor of shape (..., n_components)
            The decoded results, divided according to ``rescale``. float32, unless the decoder changes that.

        Raises
        ------
        AssertionError, ValueError
            As :meth:`transform`.
        """
        y = self._run("linear_transform", X, encoder_cls, decoder_cls)
        if self.rescale is OutputRescaling.none:
            return y
        fitted = self._ready("linear_transform")
        by_features = self.rescale is OutputRescaling.variance
        return y / math.sqrt(fitted.traits.size if by_features else self._outputs(fitted))

    def fit_transform1d(self, X: Any, packed: bool = False, **override: Any) -> Any:
        """Fit to X as :meth:`fit1d` does, and transform it."""
        self.fit1d(X, None, packed, False, **override)
        return self.transform(X)

    def fit_transform2d(self, X: Any, packed: bool = False, n_2d_features: Any = None, **override: Any) -> Any:
        """Fit to X as :meth:`fit2d` does, and transform it; packed X needs ``n_2d_features=(height, width)``."""
        self.fit2d(X, n_2d_features, packed, False, **override)
        return self.transform(X)

    def transform1d(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise RuntimeError: lightonml 1.0 had this method, 1.4 did not."""
        raise RuntimeError("transform1d is deprecated, you must now use fit1d and transform")

    def transform2d(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise RuntimeError: lightonml 1.0 had this method, 1.4 did not."""
        raise RuntimeError("transform2d is deprecated, you must now use fit2d and transform")

    def _run(self, method: str, X: Any, encoder_cls: Any, decoder_cls: Any) -> Any:
        fitted = self._ready(method)
        encoder: Any = encoder_cls() if inspect.isclass(encoder_cls) else encoder_cls
        linear = method == "linear_transform"
        array, is_tensor = _input.to_numpy(encoder.transform(X))
        batch = _input.batch_of(array, fitted.traits, ternary=linear)
        n_vectors = math.prod(batch.shape[:-1])
        many = n_vectors > 1
        print_verbose(f"OPU: random projections of an array of size {batch.shape[:-1]}")
        start = dt.datetime.now()
        progress = many and get_verbose_level() >= 1 and not self.disable_pbar
        y = self.device.project(batch, self._outputs(fitted), linear, progress)
        context = Context(fmt_type=FeaturesFormat.none, fmt_factor=0, input_roi=((0, 0), (0, 0)))
        context.from_opu(self.device, start, dt.datetime.now() if many else None)
        result = _decoder(decoder_cls, encoder).transform(ContextArray(y, context))
        if not isinstance(result, np.ndarray):  # a custom decoder may return anything
            return result
        if is_tensor:
            import torch

            return torch.from_numpy(np.asarray(result))
        return result if isinstance(result, ContextArray) else ContextArray(result, context)

    def _ready(self, method: str) -> _Fit:
        if self._fitted is None:
            raise AssertionError(f"Call fit1d or fit2d before {method}")
        if not self.device.active:
            raise AssertionError('OPU device isn\'t active, use opu.open() or "with opu:"')
        return self._fitted

    def _outputs(self, fitted: _Fit) -> int:
        return self._n_components if fitted.n_components is None else fitted.n_components

    # Opening and closing

    def open(self) -> None:
        """Open the device, which then accepts vectors."""
        self.device.open()

    def close(self) -> None:
        """Close the device, which then accepts no vectors."""
        self.device.close()

    def __enter__(self) -> OPU:
        self._active_before = self.device.active
        self.open()
        return self

    def __exit__(self, *args: object) -> None:
        if not self._active_before:  # if it was open before, it stays open
            self.close()

    # Properties

    @property
    def rescale(self) -> OutputRescaling:
        """The divisor of linear results; can be set, also by name."""
        return self._rescale

    @rescale.setter
    def rescale(self, value: OutputRescaling | str) -> None:
        names = OutputRescaling.__members__
        if isinstance(value, str):
            if value.lower() not in names:
                raise ValueError(f"rescale is {value!r}, but must be one of {', '.join(map(repr, names))}")
            value = names[value.lower()]
        if not isinstance(value, OutputRescaling):
            raise TypeError(f"rescale is {value!r}, but must be an OutputRescaling or its name")
        self._rescale = value

    @property
    def n_components(self) -> int:
        """The length of the results; can be set. Increasing it keeps the existing components."""
        return self._n_components

    @n_components.setter
    def n_components(self, value: int) -> None:
        self._n_components = _check.size("n_components", value)
        self._resize()

    @property
    def max_n_components(self) -> int:
        """The largest n_components. In practice, the memory for results sets the limit."""
        return _check.MAX_SIZE

    @property
    def max_n_features(self) -> int | None:
        """The largest number of features of a vector; can be set. It affects only the scale of results."""
        return self._max_n_features

    @max_n_features.setter
    def max_n_features(self, value: int | None) -> None:
        self._max_n_features = None if value is None else _check.size("max_n_features", value)
        self._resize()

    def _resize(self) -> None:
        self.device._resize(self._max_n_features, self._n_components)

    @property
    def seed(self) -> int:
        """The seed of the matrix, which is the device's."""
        return self.device.seed

    @property
    def config(self) -> dict[str, Any]:
        """The values of `config_file` and `config_override`. They have no effect."""
        if self._config is None:
            read = json.loads(Path(self._config_file).read_text()) if self._config_file else {}
            self._config = _merged(read, self._config_override or {})
        return self._config

    def version(self, devices: bool = False) -> str:
        """Return the version of this package and, on a second line if `devices` is True, that of the device."""
        lines = [f"lightonml version 1.4, by opuproj {__version__}"]
        return "\n".join([*lines, self.device.versions()] if devices else lines)


def _decoder(decoder_cls: Any, encoder: Any) -> Any:
    if not inspect.isclass(decoder_cls):
        return decoder_cls
    return decoder_cls(**encoder.get_params()) if hasattr(encoder, "get_params") else decoder_cls()


def _merged(under: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = copy.deepcopy(under)
    for name, value in over.items():
        nested = isinstance(value, Mapping) and isinstance(result.get(name, {}), dict)
        result[name] = _merged(result.get(name, {}), value) if nested else value
    return result
