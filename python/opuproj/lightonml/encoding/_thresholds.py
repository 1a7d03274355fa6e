"""Encoders that compare numbers with thresholds."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import _check
from .._input import to_numpy
from ._base import BaseTransformer, matrix, preserve_type, refuse_nan


class BinaryThresholdEncoder(BaseTransformer):
    """Encode numbers as 1 above a threshold and 0 elsewhere.

    Parameters
    ----------
    threshold_enc : float or "auto", default "auto"
        The threshold. ``"auto"`` takes the median of each feature of the data that it is fitted to.
    greater_is_one : bool, default True
        False gives 1 below the threshold and 0 elsewhere.

    Attributes
    ----------
    threshold_enc : float or ndarray of shape (n_features,)
        The threshold, or the medians.

    Raises
    ------
    ValueError
        If `threshold_enc` is neither a number nor ``"auto"``.

    Examples
    --------
    >>> import numpy as np
    >>> from opuproj.lightonml.encoding.base import BinaryThresholdEncoder
    >>> BinaryThresholdEncoder(threshold_enc=10).transform(np.array([[9, 10, 11]]))
    array([[0, 0, 1]], dtype=uint8)
    """

    def __init__(self, threshold_enc: Any = "auto", greater_is_one: bool = True) -> None:
        if not (isinstance(threshold_enc, (float, int, np.number)) or threshold_enc == "auto"):
            raise ValueError(f"threshold_enc is {threshold_enc!r}, but must be a number or 'auto'")
        self.threshold_enc = threshold_enc
        self.greater_is_one = greater_is_one

    def fit(self, X: Any, y: Any = None) -> BinaryThresholdEncoder:
        """For "auto", set the thresholds to the medians of X's features. Otherwise warn if X lies on one side of it.

        Raises
        ------
        ValueError
            If X holds NaN.
        """
        array, _ = to_numpy(X)
        refuse_nan(array)
        if isinstance(self.threshold_enc, str):
            self.threshold_enc = np.median(array, axis=0)
        elif np.ndim(self.threshold_enc) == 0 and not array.min() <= self.threshold_enc <= array.max():
            warnings.warn("encoder threshold is outside data range", UserWarning, stacklevel=2)
        return self

    @preserve_type
    def transform(self, X: Any) -> Any:
        """Return the encoding of X, an array of uint8 of the same shape.

        Raises
        ------
        RuntimeError
            If the threshold is still "auto".
        ValueError
            If X holds NaN.
        """
        if isinstance(self.threshold_enc, str):
            raise RuntimeError("If threshold_enc is 'auto', fit must be called before transform.")
        refuse_nan(X)
        compare = np.greater if self.greater_is_one else np.less
        return compare(X, self.threshold_enc).astype(np.uint8)


class MultiThresholdEncoder(BaseTransformer):
    """Encode numbers with one bit for each of several thresholds: 1 if the number exceeds the threshold.

    Parameters
    ----------
    thresholds : array_like, "linspace" or "quantiles", default "linspace"
        The thresholds, of shape (n_bins - 1,), or (n_features, n_bins - 1) for separate thresholds of each feature.
        A name fits them to data: evenly spaced over its range, or such that all bins have equally many numbers.
    n_bins : int, default 8
        The number of bins of fitted thresholds: at least 2.
    columnwise : bool, default False
        Whether to fit separate thresholds for each feature.

    Raises
    ------
    ValueError, TypeError
        If `thresholds` is neither an array nor such a name, if it does not have two axes although `columnwise` is True,
        or if `n_bins` is less than 2 or not an integer.

    Examples
    --------
    >>> import numpy as np
    >>> from opuproj.lightonml.encoding.base import MultiThresholdEncoder
    >>> MultiThresholdEncoder(thresholds=[1.5, 2.5]).transform(np.array([[1, 2, 3]]))
    array([[0, 1, 1, 0, 0, 1]], dtype=uint8)
    """

    thresholds: Any

    def __init__(self, thresholds: Any = "linspace", n_bins: int = 8, columnwise: bool = False) -> None:
        if isinstance(thresholds, (list, tuple, np.ndarray)):
            self.thresholds = np.array(thresholds)
            if self.thresholds.size == 0 or (self.thresholds.ndim != 2 and (columnwise or self.thresholds.ndim != 1)):
                raise ValueError(
                    f"thresholds has shape {self.thresholds.shape}, but must have shape (n_bins - 1,), or "
                    f"(n_features, n_bins - 1); columnwise is {columnwise}"
                )
            n_bins = self.thresholds.shape[-1] + 1
        elif isinstance(thresholds, str) and thresholds in ("linspace", "quantiles"):
            self.thresholds = thresholds
        else:
            raise ValueError(f"thresholds is {thresholds!r}, but must be an array, 'linspace' or 'quantiles'")
        self.n_bins = _check.integer("n_bins", n_bins, 2, _check.MAX_SIZE)
        self.columnwise = columnwise

    def fit(self, X: Any, y: Any = None) -> MultiThresholdEncoder:
        """Fit the thresholds, if they were given by name.

        Raises
        ------
        ValueError
            If X holds NaN.
        """
        if isinstance(self.thresholds, str):
            array, _ = to_numpy(X)
            refuse_nan(array)
            if self.columnwise:
                _, n_features = matrix(array)
                found = [self._found(array[:, column]) for column in range(n_features)]
                self.thresholds = np.array(found, dtype=np.float32).reshape(n_features, self.n_bins - 1)
            else:
                self.thresholds = self._found(array)
        return self

    def _found(self, values: NDArray[Any]) -> NDArray[Any]:
        if self.thresholds == "linspace":
            return np.linspace(values.min(), values.max(), self.n_bins + 1)[1:-1]
        # A separate call for each threshold, which keeps the dtype of the values.
        return np.array([np.quantile(values, i * (1 / self.n_bins), method="midpoint") for i in range(1, self.n_bins)])

    @preserve_type
    def transform(self, X: Any) -> Any:
        """Encode.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of uint8 of shape (n_samples, n_features * (n_bins - 1))
            All features compared with their first thresholds, then all with their second, and so on.

        Raises
        ------
        RuntimeError
            If thresholds were given by name and not fitted.
        ValueError
            If X holds NaN.
        """
        matrix(X)
        refuse_nan(X)
        if isinstance(self.thresholds, str):
            raise RuntimeError(f"thresholds is {self.thresholds!r}: fit must be called before transform")
        return np.concatenate([np.greater(X, threshold) for threshold in self.thresholds.T], axis=1).astype(np.uint8)
