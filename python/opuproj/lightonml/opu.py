"""The class that programs for LightOn's optical processing unit are written against."""

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
from ._verbosity import get_verbose_level, set_verbose_level, tell
from .context import Context, ContextArray
from .encoding.base import NoDecoding, NoEncoding
from .internal.simulated_device import SimulatedOpuDevice
from .internal.types import FeaturesFormat, InputRoiStrategy
from .types import OutputRescaling

_NO_HARDWARE = (
    "simulated is False, but LightOn's hardware cannot be driven any more: pass simulated=True, and "
    "max_n_features, for the same transforms computed on this machine"
)


@dataclass(frozen=True)
class _Fit:
    """What a call of fit1d or fit2d settles."""

    traits: _input.Traits
    n_components: int | None = None
    exposure_us: int = 0
    frametime_us: int = 0
    input_roi: Any = None
    input_roi_strategy: Any = None
    raw_output_size: bool = False


class OPU:
    r"""An optical processing unit: \|Rx\|² by :meth:`transform`, Rx by :meth:`linear_transform`.

    It is the class of the same name of lightonml 1.4, with its simulated device, computed by
    :class:`opuproj.Projector`: the matrix is never stored, so it has any size, and none takes time to build. A fit must
    come before a transform.

    Parameters
    ----------
    n_components : int, default 200000
        The length of the results.
    opu_device : SimulatedOpuDevice, optional
        In place of `simulated`.
    max_n_features : int or None, default 1000
        How many features a vector may have at most. The entries of the matrix have variance 1/max_n_features. None sets
        no limit, and takes the number of features that was fitted for the variance.
    config_file : str, optional
        A JSON file for :attr:`config`. Nothing else reads it.
    config_override : dict, optional
        Laid over what the file says.
    verbose_level : int, optional
        Deprecated: use :func:`opuproj.lightonml.set_verbose_level`.
    input_roi_strategy : InputRoiStrategy, optional
        Kept as an attribute. It changes nothing, as there are no pixels.
    open_at_init : bool, optional
        False leaves the device closed until :meth:`open`.
    disable_pbar : bool, default False
        Show no progress bar, whatever the verbose level.
    simulated : bool, default False
        Must be True, unless a device is given.
    rescale : OutputRescaling or {"variance", "norm", "none"}, default "variance"
        What linear results are divided by: √n_features, √n_components, or nothing.
    seed : int, optional
        Which matrix, from 0 to 2**64 - 1; by default that of the device, which is 0 unless it was made otherwise.
    camera : Camera, optional
        What records the intensities, with its noise, saturation and quantization; results keep their scale.

    Attributes
    ----------
    device : SimulatedOpuDevice
    disable_pbar, input_roi_strategy
        As given.

    Raises
    ------
    RuntimeError
        If neither `simulated` nor `opu_device` is given.
    ValueError, TypeError
        If arguments contradict each other or are of the wrong kind, which the message names.

    Notes
    -----
    Results are float32, of the shape of the input but for its last axis (its last two after :meth:`fit2d`), which
    becomes n_components. NumPy input gives a :class:`~opuproj.lightonml.context.ContextArray`, a torch tensor gives a
    tensor on the CPU, without a gradient.

    With N for max_n_features, n for the features of a vector and m for n_components, a vector x gives:

    - ``transform``: mean 2‖x‖²/N, exponentially distributed;
    - ``linear_transform``: mean 0 and standard deviation ‖x‖/√N, divided by √n ("variance"), √m ("norm") or 1 ("none").

    So the default rescaling divides by the square root of the size twice, as lightonml's simulated device did: for
    unit variance use ``rescale="none"`` and multiply by √N/‖x‖.

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

    # What it transforms

    def fit1d(
        self, X: Any = None, n_features: int | None = None, packed: bool = False, online: bool = False, **override: Any
    ) -> None:
        """Get ready for vectors whose features lie along the last axis.

        Parameters
        ----------
        X : array_like of shape (..., n_features), optional
            An example, of which the shape is looked at.
        n_features : int, optional
            The length of a vector, in place of X; or beside packed X, where it is not a multiple of 8.
        packed : bool, default False
            Vectors will come as :func:`numpy.packbits` along the last axis gives them.
        online : bool, default False
            Vectors will come one by one. It changes nothing.
        **override
            ``n_components``, ``exposure_us`` and ``frametime_us`` for these transforms; ``input_roi``,
            ``input_roi_strategy`` and ``raw_output_size`` are accepted and change nothing.

        Raises
        ------
        AssertionError
            If there is neither X nor n_features, or both for input that is not packed.
        ValueError
            If there are more features than max_n_features, or X is not of that shape or dtype.
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
        """Get ready for vectors whose features lie along the last two axes, as those of images do.

        Parameters
        ----------
        X : array_like of shape (..., height, width), optional
            An example, of which the shape is looked at. Packed, of shape (..., bytes).
        n_features : (int, int), optional
            Height and width, in place of X; necessary beside packed X.
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
            raise TypeError(f"{min(unknown)!r} is no setting of a transform; there are {', '.join(sorted(known))}")
        if X is not None:
            traits = _input.observed(X, packed, two_d, n_features)
        elif n_features is not None:
            traits = _input.declared(n_features, packed)
        else:
            raise AssertionError("X and n_features are None, but either input vector or n_features must be specified")
        if self._max_n_features is not None and traits.size > self._max_n_features:
            raise ValueError(
                f"input's number of features ({traits.size}) can't be greater than max_n_features, which is "
                f"{self._max_n_features}; max_n_features=None sets no limit"
            )
        fitted = _Fit(traits, **override)
        if fitted.n_components is not None:
            _check.size("n_components", fitted.n_components)
        frametime, exposure = self._base_times
        self.device.exposure_us = int(fitted.exposure_us or exposure)
        # A frame cannot be shorter than the camera's exposure and its reset.
        self.device.frametime_us = int(fitted.frametime_us or max(frametime, self.device.exposure_us + 50))
        self._fitted = fitted

    # What it computes

    def transform(self, X: Any, encoder_cls: Any = NoEncoding, decoder_cls: Any = NoDecoding) -> Any:
        r"""Project vectors and take the intensity, \|Rx\|².

        Parameters
        ----------
        X : array_like of shape (..., n_features), or (..., height, width) after :meth:`fit2d`
            One vector, or a batch of at most two axes of them. What the encoder makes of it must be of 0 and 1, in any
            dtype, or packed if that was fitted.
        encoder_cls : class or object, optional
            What makes X binary: a transformer of :mod:`opuproj.lightonml.encoding.base` or of one's own. A class is
            called without arguments.
        decoder_cls : class or object, optional
            What makes an output of the results. A class is called with what the encoder's ``get_params`` returns, if it
            has that method.

        Returns
        -------
        ContextArray or Tensor of shape (..., n_components)
            float32, but for what the decoder makes of it.

        Raises
        ------
        AssertionError
            If nothing was fitted, or the device is closed.
        ValueError
            If X is not of the shape that was fitted, or holds another value.
        """
        return self._run("transform", X, encoder_cls, decoder_cls)

    def linear_transform(self, X: Any, encoder_cls: Any = NoEncoding, decoder_cls: Any = NoDecoding) -> Any:
        """Project vectors by a real random matrix, Rx.

        Parameters
        ----------
        X : array_like of shape (..., n_features), or (..., height, width) after :meth:`fit2d`
            As for :meth:`transform`; -1 is allowed, too. It may be packed.
        encoder_cls, decoder_cls : class or object, optional
            As for :meth:`transform`.

        Returns
        -------
        ContextArray or Tensor of shape (..., n_components)
            Divided as ``rescale`` says, after decoding. float32, but for what the decoder makes of it.

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
        encoder = encoder_cls() if inspect.isclass(encoder_cls) else encoder_cls
        linear = method == "linear_transform"
        array, is_tensor = _input.to_numpy(encoder.transform(X))
        batch = _input.batch_of(array, fitted.traits, ternary=linear)
        n_vectors = math.prod(batch.shape[:-1])
        many = n_vectors > 1
        tell(f"OPU: random projections of an array of size {batch.shape[:-1]}")
        start = dt.datetime.now()
        progress = many and get_verbose_level() >= 1 and not self.disable_pbar
        y = self.device.project(batch, self._outputs(fitted), linear, progress)
        context = Context(fmt_type=FeaturesFormat.none, fmt_factor=0, input_roi=((0, 0), (0, 0)))
        context.from_opu(self.device, start, dt.datetime.now() if many else None)
        result = _decoder(decoder_cls, encoder).transform(ContextArray(y, context))
        if not isinstance(result, np.ndarray):  # a decoder of the user's own may return anything
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

    # Whether it is open

    def open(self) -> None:
        """Begin to accept vectors."""
        self.device.open()

    def close(self) -> None:
        """Cease to accept vectors."""
        self.device.close()

    def __enter__(self) -> OPU:
        self._active_before = self.device.active
        self.open()
        return self

    def __exit__(self, *args: object) -> None:
        if not self._active_before:  # whoever opened it before will close it
            self.close()

    # What it is

    @property
    def rescale(self) -> OutputRescaling:
        """What linear results are divided by; may be set, to a name as well."""
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
        """The length of the results; may be set. A larger one keeps the components that were there."""
        return self._n_components

    @n_components.setter
    def n_components(self, value: int) -> None:
        self._n_components = _check.size("n_components", value)
        self._resize()

    @property
    def max_n_components(self) -> int:
        """How large n_components may be: there is no other limit than memory for results."""
        return _check.MAX_SIZE

    @property
    def max_n_features(self) -> int | None:
        """How many features a vector may have; may be set, which changes the scale of results and nothing else."""
        return self._max_n_features

    @max_n_features.setter
    def max_n_features(self, value: int | None) -> None:
        self._max_n_features = None if value is None else _check.size("max_n_features", value)
        self._resize()

    def _resize(self) -> None:
        self.device._resize(self._max_n_features, self._n_components)

    @property
    def seed(self) -> int:
        """Which matrix; that of the device."""
        return self.device.seed

    @property
    def config(self) -> dict[str, Any]:
        """What `config_file` and `config_override` say: nothing of it is used."""
        if self._config is None:
            read = json.loads(Path(self._config_file).read_text()) if self._config_file else {}
            self._config = _laid_over(read, self._config_override or {})
        return self._config

    def version(self, devices: bool = False) -> str:
        """Return the version of this package, on a line of its own, and that of the device if asked for."""
        lines = [f"lightonml version 1.4, by opuproj {__version__}"]
        return "\n".join([*lines, self.device.versions()] if devices else lines)


def _decoder(decoder_cls: Any, encoder: Any) -> Any:
    if not inspect.isclass(decoder_cls):
        return decoder_cls
    return decoder_cls(**encoder.get_params()) if hasattr(encoder, "get_params") else decoder_cls()


def _laid_over(under: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = copy.deepcopy(under)
    for name, value in over.items():
        nested = isinstance(value, Mapping) and isinstance(result.get(name, {}), dict)
        result[name] = _laid_over(result.get(name, {}), value) if nested else value
    return result
