"""Optical random projection: reduces the dimension and approximately preserves distances."""

from __future__ import annotations

import warnings
from typing import Any, Literal, cast

from sklearn.exceptions import DataDimensionalityWarning
from sklearn.random_projection import johnson_lindenstrauss_min_dim

from .. import _check
from .._spec import refuse_camera
from ..camera import Camera
from ._base import OpticalTransformer

RealMode = Literal["real", "linear"]


class OpticalRandomProjection(OpticalTransformer):
    r"""Reduce the dimension by Rx/√n_components, which approximately preserves distances. R is never stored.

    R is a real random matrix whose entries are independent, with mean 0 and variance 1. Squared distances are preserved
    on average over R, with a relative standard deviation of √(2/n_components).

    Parameters
    ----------
    n_components : int or "auto", default "auto"
        The number of dimensions of the result. ``"auto"`` computes it by :func:`johnson_lindenstrauss_min_dim` from the
        number of vectors in `fit` and from `eps` [2]_; it is at least 1.
    eps : float, default 0.1
        The maximum relative deviation of squared distances for ``"auto"``, between 0 and 1.
    digits : int or None, default 5
        The number of ternary digits, from 1 to 20, in which other vectors than those of -1, 0 and 1 are encoded, as by
        :func:`opuproj.encode`. 5 digits are accurate to 0.4 % of the vector's largest element. Vectors of -1, 0 and 1
        are always exact. None raises for all other vectors.
    random_state : int, RandomState instance or None, default None
        Determines R at each call of `fit`. An integer from 0 to 2**64 - 1 is the seed of the medium itself. A
        generator, or NumPy's global one for None, draws a seed.
    mode : {"real", "linear"}, default "real"
        Which matrix R is, as in :func:`opuproj.project`. ``"real"`` takes half the time. ``"linear"`` is the matrix of
        an optical processing unit, whose linear projections are recovered from intensities [1]_. Take it to reproduce
        a device, with or without a camera. Both have the same distribution. An estimator that was pickled before there
        was this argument has mode ``"linear"`` when it is loaded, and so have its clones: its results do not change.
    n_anchor : int, default 64
        For mode ``"linear"``: the number of pixels that the anchor lights, from 1 to 4096. R depends on it.
    camera : opuproj.Camera, optional
        For mode ``"linear"``: recover the projections from intensities as this camera reads them. With mode ``"real"``,
        `fit` raises an error.
    noise_seed : int, optional
        The seed of the camera's noise, which also depends on a vector's index in X. By default each call has new noise.
    threads : int, optional
        The number of threads; by default ``OPUPROJ_NUM_THREADS`` if set, otherwise the number of cores that this
        process may use. Results do not depend on it. With ``n_jobs`` of other estimators, 1 is best.

    Attributes
    ----------
    n_components_ : int
        The number of dimensions of the result.
    seed_ : int
        The seed of the medium.
    projector_ : opuproj.Projector
        The operator; ``projector_.matrix(rows, columns)`` gives entries of R.
    n_features_in_ : int
        The number of features of the X of `fit`.
    feature_names_in_ : ndarray of shape (n_features,)
        The names of these features, if X has names.

    Raises
    ------
    ValueError, TypeError
        From `fit` and `transform`, if an argument is out of range or of the wrong type. The message names it.

    Warns
    -----
    DataDimensionalityWarning
        From `fit`, if there are more components than features, so that the dimension is not reduced.

    See Also
    --------
    OpticalRandomFeatures : nonlinear features, for a kernel.
    sklearn.random_projection.GaussianRandomProjection : a projection with a stored matrix.

    Notes
    -----
    The projection of a vector is the same, bit for bit, for any other vectors in X and on every machine. A sparse X is
    not made dense; only its nonzeros are read. Besides X and the result, this takes about 200 MB of memory, or
    16 vectors and their projections where these take more.

    References
    ----------
    .. [1] R. Ohana, D. Hesslow, D. Brunner, S. Gigan and K. Müller, "Linear optical random projections without
       holography", Optics Express 31, 25881, 2023.
    .. [2] S. Dasgupta and A. Gupta, "An elementary proof of a theorem of Johnson and Lindenstrauss", Random Structures
       and Algorithms 22, 60, 2003.

    Examples
    --------
    >>> import scipy.sparse
    >>> from opuproj.sklearn import OpticalRandomProjection
    >>> X = scipy.sparse.random(100, 50_000, density=0.001, format="csr", random_state=0)
    >>> projection = OpticalRandomProjection(eps=0.3, random_state=0).fit(X)
    >>> projection.transform(X).shape
    (100, 511)
    """

    def __init__(
        self,
        n_components: Any = "auto",
        *,
        eps: float = 0.1,
        digits: int | None = 5,
        random_state: Any = None,
        mode: RealMode = "real",
        n_anchor: int = 64,
        camera: Camera | None = None,
        noise_seed: int | None = None,
        threads: int | None = None,
    ) -> None:
        super().__init__(
            n_components,
            digits=digits,
            random_state=random_state,
            camera=camera,
            noise_seed=noise_seed,
            threads=threads,
        )
        self.eps = eps
        self.mode = mode
        self.n_anchor = n_anchor

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Before there was a mode, every projection was "linear".
        super().__setstate__({"mode": "linear", **state})

    def _check_arguments(self) -> None:
        super()._check_arguments()
        if not isinstance(self.mode, str) or self.mode not in ("real", "linear"):
            raise ValueError(f"mode is {self.mode!r}, but must be 'real' or 'linear'")
        refuse_camera(self.camera, cast(RealMode, self.mode), "gaussian")
        _check.n_anchor(self.n_anchor)
        if _check.real("eps", self.eps, above=0.0) >= 1:
            raise ValueError(f"eps is {self.eps}, but must be less than 1")
        if isinstance(self.n_components, str):
            if self.n_components != "auto":
                raise ValueError(f"n_components is {self.n_components!r}, but must be an integer or 'auto'")
        else:
            _check.size("n_components", self.n_components)

    def _n_components(self, n_samples: int, n_features: int) -> int:
        if isinstance(self.n_components, str):
            # For a single vector, which has no distances, the lemma gives 0.
            n_components = max(1, int(johnson_lindenstrauss_min_dim(n_samples, eps=self.eps)))
            chosen = f"n_components='auto' with eps={self.eps} gives"
        else:
            n_components = super()._n_components(n_samples, n_features)
            chosen = "there are"
        if n_components > n_features:
            message = f"{chosen} {n_components} components, more than the {n_features} features of X"
            # The stack level of the line that calls fit.
            warnings.warn(f"{message}: the dimension is not reduced", DataDimensionalityWarning, stacklevel=3)
        return n_components

    def _scale(self) -> float:
        return float(self.n_components_**-0.5)
