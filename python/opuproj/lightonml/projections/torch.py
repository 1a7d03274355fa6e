"""The OPU as a module of PyTorch."""

from __future__ import annotations

from typing import Any

import torch

from ...camera import Camera
from .._verbosity import get_verbose_level, tell
from ..opu import OPU
from . import _map


class OPUMap(_map.HasOPU, torch.nn.Module):
    r"""Random features \|Rx\|², as a layer without parameters. No gradient flows through.

    Parameters
    ----------
    n_components : int
        How many features to make.
    opu : OPU, optional
        What makes them; its n_components is set. A new one by default.
    ndims : {1, 2}, default 1
        Whether the features of an input lie along the last axis, or along the last two.
    n_2d_features : (int, int), optional
        Height and width, for packed input of 2 dimensions.
    packed : bool, default False
        Whether input comes as :func:`numpy.packbits` gives it.
    simulated : bool, default False
        Must be True, unless `opu` is given.
    max_n_features : int, optional
        How many features an input may have; needed with `simulated`. See :class:`opuproj.lightonml.OPU` for the scale.
    verbose_level : int, optional
        Deprecated: use :func:`opuproj.lightonml.set_verbose_level`.
    seed : int, optional
        Which matrix; by default that of the device.
    camera : Camera, optional
        An ``opuproj.Camera``, as for OPU.

    Attributes
    ----------
    opu : OPU
    n_components, max_n_features, seed, camera
        Those of `opu`; may be set.
    fitted, online : bool

    Raises
    ------
    ValueError, TypeError, RuntimeError
        If an argument is missing or wrong, which the message names.

    Notes
    -----
    :class:`opuproj.torch.Projection` is the better layer for new programs: it compiles, exports, and takes floats.

    Examples
    --------
    >>> import torch
    >>> from opuproj.lightonml.projections.torch import OPUMap
    >>> layer = OPUMap(n_components=500, simulated=True, max_n_features=64)
    >>> layer.fit(n_features=64)
    >>> layer(torch.ones(10, 64, dtype=torch.uint8)).shape
    torch.Size([10, 500])
    """

    opu: OPU

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
        self.ndims = _map.checked_ndims(ndims)
        self.opu = _map.opu_of(n_components, opu, simulated, max_n_features, verbose_level, seed, camera)
        self.verbose_level = get_verbose_level()
        self.n_2d_features = n_2d_features
        self.packed = packed
        self.simulated = simulated
        self.fitted = False
        self.online = False
        tell("OPU output is detached from the computational graph.")

    def forward(self, input: torch.Tensor) -> Any:  # noqa: A002
        """Return the features of a tensor, of shape (..., n_components), as float32 on the CPU."""
        if not self.fitted:
            print("OPUMap was not fit to data. Performing fit on the first batch with default parameters...")
            self.fit(input)
        return self.opu.transform(input)

    def reset_parameters(self, input: Any, y: Any, n_features: Any, packed: bool, online: bool) -> None:  # noqa: A002
        """Do what :meth:`fit` does."""
        self.online = self.online or online
        _map.fit(self.opu, self.ndims, input, n_features, self.n_2d_features, packed or self.packed, self.online)
        self.fitted = True

    def fit(
        self, X: Any = None, y: Any = None, n_features: Any = None, packed: bool = False, online: bool = False
    ) -> None:
        """Get ready for inputs of a shape.

        Parameters
        ----------
        X : array_like or Tensor, optional
            An example.
        y : optional
            Ignored.
        n_features : int or (int, int), optional
            The shape, in place of X.
        packed : bool, default False
            As the argument of the class, either of which will do.
        online : bool, default False
            Accepted; it changes nothing.
        """
        self.reset_parameters(X, y, n_features, packed, online)

    def extra_repr(self) -> str:
        """Return what ``print`` shows between the brackets."""
        return (
            f"out_features={self.n_components}, n_dims={self.ndims}, packed={self.packed}, simulated={self.simulated}"
        )
