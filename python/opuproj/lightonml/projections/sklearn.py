"""The OPU as a transformer of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from ._map import BaseOPUMap


class OPUMap(BaseOPUMap, TransformerMixin, BaseEstimator):
    r"""Random features \|Rx\|² for scikit-learn's pipelines and searches.

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
    fitted : bool

    Raises
    ------
    ValueError, TypeError, RuntimeError
        If an argument is missing or wrong. The message names it.

    Examples
    --------
    >>> import numpy as np
    >>> from opuproj.lightonml.projections.sklearn import OPUMap
    >>> X = np.random.default_rng(0).integers(0, 2, (10, 64), dtype=np.uint8)
    >>> OPUMap(n_components=500, simulated=True, max_n_features=64).fit_transform(X).shape
    (10, 500)
    """

    def fit(
        self, X: Any = None, y: Any = None, n_features: Any = None, packed: bool = False, online: bool = False
    ) -> OPUMap:
        """Prepare for inputs of one shape.

        Parameters
        ----------
        X : array_like, optional
            An example.
        y : optional
            Ignored.
        n_features : int or (int, int), optional
            The shape, in place of X.
        packed : bool, default False
            Whether inputs are packed; the argument of the class has the same effect.
        online : bool, default False
            Accepted for compatibility; it has no effect.

        Returns
        -------
        self
        """
        self._fit(X, n_features, packed, online)
        return self

    def transform(self, X: Any, y: Any = None) -> NDArray[Any]:
        """Return the features of X, of shape (..., n_components), as a NumPy array of float32."""
        return np.asarray(self._transform(X, "input"))

    def __sklearn_is_fitted__(self) -> bool:
        return self.fitted
