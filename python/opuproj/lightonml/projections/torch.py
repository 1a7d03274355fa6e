"""The OPU as a module of PyTorch."""

from __future__ import annotations

from typing import Any

import torch

from ._map import BaseOPUMap


class OPUMap(BaseOPUMap, torch.nn.Module):
    r"""Random features \|Rx\|² as a layer that has no parameters and passes no gradient.

    Parameters
    ----------
    n_components : int
        The number of features.
    opu : OPU, optional
        The OPU to use; its n_components is set. By default a new one.
    ndims : {1, 2}, default 1
        Whether the features of an input lie along the last axis or along the last two.
    n_2d_features : (int, int), optional
        Height and width, for packed input of 2 dimensions.
    packed : bool, default False
        Whether inputs are packed as :func:`numpy.packbits` packs them.
    simulated : bool, default False
        Must be True unless `opu` is given.
    max_n_features : int, optional
        The largest number of features of an input; required with `simulated`. :class:`opuproj.lightonml.OPU` explains
        how it sets the scale.
    verbose_level : int, optional
        Deprecated: use :func:`opuproj.lightonml.set_verbose_level`.
    seed : int, optional
        The seed of the matrix; by default the device's.
    camera : Camera, optional
        An ``opuproj.Camera``, as for OPU.

    Attributes
    ----------
    opu : OPU
    n_components, max_n_features, seed, camera
        Those of `opu`; they can be set.
    fitted, online : bool

    Raises
    ------
    ValueError, TypeError, RuntimeError
        If an argument is missing or wrong. The message names it.

    Notes
    -----
    Use :class:`opuproj.torch.Projection` in new programs: it compiles, exports, and accepts floats.

    Examples
    --------
    >>> import torch
    >>> from opuproj.lightonml.projections.torch import OPUMap
    >>> layer = OPUMap(n_components=500, simulated=True, max_n_features=64)
    >>> layer.fit(n_features=64)
    >>> layer(torch.ones(10, 64, dtype=torch.uint8)).shape
    torch.Size([10, 500])
    """

    online = False
    _notice = "OPU output is detached from the computational graph."

    def forward(self, input: torch.Tensor) -> Any:  # noqa: A002
        """Return the features of a tensor, of shape (..., n_components), as float32 on the CPU."""
        return self._transform(input, "first batch")

    def reset_parameters(self, input: Any, y: Any, n_features: Any, packed: bool, online: bool) -> None:  # noqa: A002
        """Do the same as :meth:`fit`."""
        self._fit(input, n_features, packed, online)

    def fit(
        self, X: Any = None, y: Any = None, n_features: Any = None, packed: bool = False, online: bool = False
    ) -> None:
        """Prepare for inputs of one shape.

        Parameters
        ----------
        X : array_like or Tensor, optional
            An example.
        y : optional
            Ignored.
        n_features : int or (int, int), optional
            The shape, in place of X.
        packed : bool, default False
            Whether inputs are packed; the argument of the class has the same effect.
        online : bool, default False
            Accepted for compatibility; it has no effect.
        """
        self.reset_parameters(X, y, n_features, packed, online)

    def _fit(self, X: Any, n_features: Any, packed: bool, online: bool) -> None:
        self.online = self.online or online
        super()._fit(X, n_features, packed, self.online)

    def extra_repr(self) -> str:
        """Return what ``print`` shows between the brackets."""
        return (
            f"out_features={self.n_components}, n_dims={self.ndims}, packed={self.packed}, simulated={self.simulated}"
        )
