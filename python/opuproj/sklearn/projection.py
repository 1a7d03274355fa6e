"""Optical random projection: fewer dimensions, the same distances."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

from sklearn.exceptions import DataDimensionalityWarning
from sklearn.random_projection import johnson_lindenstrauss_min_dim

from .. import _check
from .._check import Mode
from ..camera import Camera
from ._base import OpticalTransformer


class OpticalRandomProjection(OpticalTransformer):
    r"""Reduce the number of dimensions by Rx/√n_components, which keeps distances, with an R that is never stored.

    R is the real random matrix, of independent entries of mean 0 and variance 1, that an optical processing unit
    applies when linear projections are recovered from intensities [1]_. Squared distances are kept on average over R;
    the standard deviation of each is √(2/n_components) times itself.

    Parameters
    ----------
    n_components : int or "auto", default "auto"
        The number of dimensions of the result. ``"auto"`` takes what :func:`johnson_lindenstrauss_min_dim` demands
        for the number of vectors that `fit` sees and for `eps` [2]_, and at least 1.
    eps : float, default 0.1
        By what part squared distances may deviate, between 0 and 1. Used by ``"auto"``.
    digits : int or None, default 5
        A vector of -1, 0 and 1 is taken as it is, exactly. Any other is taken in so many ternary digits, from 1 to 20,
        as by :func:`opuproj.encode`: 5 are right to 0.4 % of the vector's largest element. None refuses such vectors.
    random_state : int, RandomState instance or None, default None
        Chooses R at each call of `fit`: an integer, from 0 to 2**64 - 1, is the seed of the medium itself; a generator,
        or NumPy's own for None, draws one.
    n_anchor : int, default 64
        How many pixels the anchor lights, from 1 to 4096. It decides which R a seed gives.
    camera : opuproj.Camera, optional
        Recover the projections from intensities as this camera reads them.
    noise_seed : int, optional
        Decides the camera's noise, together with a vector's place in X; by default, noise is fresh at each call.
    threads : int, optional
        By default ``OPUPROJ_NUM_THREADS`` if set, else the number of cores that this process may use. It changes no
        result. With the ``n_jobs`` of others, 1 is best.

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
        Names of these features, where X has such.

    Raises
    ------
    ValueError, TypeError
        By `fit` and `transform`, if an argument is out of range or of the wrong type, which the message names.

    Warns
    -----
    DataDimensionalityWarning
        By `fit`, if there are more components than features: nothing is reduced.

    See Also
    --------
    OpticalRandomFeatures : nonlinear features, for a kernel.
    sklearn.random_projection.GaussianRandomProjection : the same with a stored matrix.

    Notes
    -----
    The projection of a vector is the same, bit for bit, whatever others there are in X, and on every machine. Of
    sparse X only the nonzeros are looked at, and nothing is made dense. Beyond X and the result, some 200 MB are used,
    or 16 vectors and their projections where these take more.

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

    _mode: ClassVar[Mode] = "linear"

    def __init__(
        self,
        n_components: Any = "auto",
        *,
        eps: float = 0.1,
        digits: int | None = 5,
        random_state: Any = None,
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
        self.n_anchor = n_anchor

    def _check_arguments(self) -> None:
        super()._check_arguments()
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
            # A single vector has no distances to keep, and the lemma demands nothing of it.
            n_components = max(1, int(johnson_lindenstrauss_min_dim(n_samples, eps=self.eps)))
            chosen = f"n_components='auto' with eps={self.eps} gives"
        else:
            n_components = super()._n_components(n_samples, n_features)
            chosen = "there are"
        if n_components > n_features:
            message = f"{chosen} {n_components} components, more than the {n_features} features of X"
            # Of the line that calls fit.
            warnings.warn(f"{message}: nothing is reduced", DataDimensionalityWarning, stacklevel=3)
        return n_components

    def _scale(self) -> float:
        return float(self.n_components_**-0.5)
