"""The OPU as a transformer of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from ...camera import Camera
from .._verbosity import get_verbose_level
from ..opu import OPU
from . import _map


class OPUMap(_map.HasOPU, TransformerMixin, BaseEstimator):
    r"""Random features \|Rx\|², for pipelines and searches of scikit-learn.

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
    fitted : bool

    Raises
    ------
    ValueError, TypeError, RuntimeError
        If an argument is missing or wrong, which the message names.

    Examples
    --------
    >>> import numpy as np
    >>> from opuproj.lightonml.projections.sklearn import OPUMap
    >>> X = np.random.default_rng(0).integers(0, 2, (10, 64), dtype=np.uint8)
    >>> OPUMap(n_components=500, simulated=True, max_n_features=64).fit_transform(X).shape
    (10, 500)
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
        self.ndims = _map.checked_ndims(ndims)
        self.opu = _map.opu_of(n_components, opu, simulated, max_n_features, verbose_level, seed, camera)
        self.verbose_level = get_verbose_level()
        self.n_2d_features = n_2d_features
        self.packed = packed
        self.simulated = simulated
        self.fitted = False

    def fit(
        self, X: Any = None, y: Any = None, n_features: Any = None, packed: bool = False, online: bool = False
    ) -> OPUMap:
        """Get ready for inputs of a shape.

        Parameters
        ----------
        X : array_like, optional
            An example.
        y : optional
            Ignored.
        n_features : int or (int, int), optional
            The shape, in place of X.
        packed : bool, default False
            As the argument of the class, either of which will do.
        online : bool, default False
            Accepted; it changes nothing.

        Returns
        -------
        self
        """
        _map.fit(self.opu, self.ndims, X, n_features, self.n_2d_features, packed or self.packed, online)
        self.fitted = True
        return self

    def transform(self, X: Any, y: Any = None) -> NDArray[Any]:
        """Return the features of X, of shape (..., n_components), as a NumPy array of float32."""
        if not self.fitted:
            print("OPUMap was not fit to data. Performing fit on the input with default parameters...")
            self.fit(X)
        return np.asarray(self.opu.transform(X))

    def __sklearn_is_fitted__(self) -> bool:
        return self.fitted
