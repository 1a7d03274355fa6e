"""The base class of both transformers: arguments, fit and transform."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from .. import _check
from ..camera import Camera, checked_camera
from ..encoded import MAX_DIGITS
from ..inputs import sparse
from ..projector import Projector
from ._blocks import project_rows


class OpticalTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator, ABC):
    """Base class of the transformers. `fit` makes a projector from the shape of X alone."""

    n_features_in_: int
    n_components_: int
    seed_: int
    projector_: Projector

    # OpticalRandomProjection has these as arguments; intensities need no anchor.
    mode: Any = "intensity"
    n_anchor = 64

    @abstractmethod
    def __init__(
        self,
        n_components: Any,
        *,
        digits: int | None,
        random_state: Any,
        camera: Camera | None,
        noise_seed: int | None,
        threads: int | None,
    ) -> None:
        self.n_components = n_components
        self.digits = digits
        self.random_state = random_state
        self.camera = camera
        self.noise_seed = noise_seed
        self.threads = threads

    def fit(self, X: Any, y: Any = None) -> Any:
        """Choose the random matrix. Only the shape of X matters.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Vectors of finite real numbers.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The transformer itself.

        Raises
        ------
        ValueError, TypeError
            If an argument of the class is out of range or of the wrong type, or X is not a matrix of finite real
            numbers. The message names the argument.
        """
        self._check_arguments()
        X = self._validated(X, reset=True)
        self.seed_ = _drawn_seed(self.random_state)
        self.n_components_ = self._n_components(*X.shape)
        # In float64; `transform` chooses the precision by the dtype of its X.
        self.projector_ = Projector(
            X.shape[1],
            self.n_components_,
            seed=self.seed_,
            mode=self.mode,
            n_anchor=self.n_anchor,
            camera=self.camera,
            dtype=np.float64,
            threads=self.threads,
        )
        return self

    def transform(self, X: Any) -> NDArray[Any]:
        """Project vectors. The result of each vector does not depend on the other vectors of X.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Vectors of finite real numbers.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            float32 if X has dtype float32, float16, bool, or integers of 8 or 16 bits, otherwise float64.
            ``set_output`` may choose another container.

        Raises
        ------
        ValueError
            If X has another number of features than in `fit`, or values that cannot be projected. The message names
            them.
        MemoryError
            If the result cannot be allocated.
        """
        check_is_fitted(self)
        X = self._validated(X, reset=False)
        digits = None if self.digits is None else _check.integer("digits", self.digits, 1, MAX_DIGITS)
        single = np.result_type(X.dtype, np.float32) == np.float32
        operator = self.projector_
        spec = operator._spec.changed(dtype=np.dtype(np.float32 if single else np.float64))
        result = project_rows(spec, operator.threads, X, digits, self.noise_seed)
        scale = self._scale()
        if scale != 1:
            result *= scale
        return result

    @abstractmethod
    def _scale(self) -> float:
        """Return the factor of the projector's results."""

    def _n_components(self, n_samples: int, n_features: int) -> int:
        """Return the number of components for X of this shape."""
        return _check.size("n_components", self.n_components)

    def _check_arguments(self) -> None:
        if self.digits is not None:
            _check.integer("digits", self.digits, 1, MAX_DIGITS)
        camera = checked_camera(self.camera)
        _check.threads(self.threads)
        if self.noise_seed is not None:
            _check.noise_seed(self.noise_seed)
            if camera is None:
                raise ValueError(f"noise_seed is {self.noise_seed!r}, but there is no camera that makes noise")

    def _validated(self, X: Any, *, reset: bool) -> Any:
        if sparse.is_compressed(X):  # scikit-learn would also check unused memory after the last entry
            X = sparse.without_spare_room("X", X)
        return validate_data(self, X, accept_sparse="csr", dtype="numeric", reset=reset)

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        # Even with a noise seed, the noise depends on a vector's index in X.
        tags.non_deterministic = isinstance(self.camera, Camera) and _has_noise(self.camera)
        return tags


def _has_noise(camera: Camera) -> bool:
    return math.isfinite(camera.photons) or camera.read_noise > 0


def _drawn_seed(random_state: Any) -> int:
    """Return the seed of T: an integer is the seed itself, a generator draws one."""
    if isinstance(random_state, Integral):
        return _check.integer("random_state", random_state, 0, _check.MAX_SEED)
    try:
        generator = check_random_state(random_state)
    except ValueError:
        raise TypeError(
            f"random_state is {random_state!r}, but must be an integer, a numpy.random.RandomState or None"
        ) from None
    return int(generator.randint(2**64, dtype=np.uint64))
