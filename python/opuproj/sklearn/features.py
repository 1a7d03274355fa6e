"""Optical random features: intensities behind a scattering medium, whose inner products approximate a kernel."""

from __future__ import annotations

from typing import Any, Literal

from ..camera import Camera
from ._base import OpticalTransformer

Scale = Literal["kernel", "intensity"]


class OpticalRandomFeatures(OpticalTransformer):
    r"""Approximate a kernel of degree 2 by the intensities \|Tx\|² of light behind a scattering medium.

    T is a complex random matrix of independent entries, which is never stored. On average over T, the inner product of
    two feature vectors is the kernel [1]_ [2]_

    .. math:: k(x, y) = \|x\|^2 \|y\|^2 + (x \cdot y)^2,

    With n features, its standard deviation is √((3 + 14ρ + 3ρ²)/n) ‖x‖²‖y‖², where ρ = (x·y)²/(‖x‖²‖y‖²).

    Parameters
    ----------
    n_components : int, default 1000
        The number of features. Increasing it keeps the existing features, except for their scale.
    scale : {"kernel", "intensity"}, default "kernel"
        ``"kernel"`` returns \|Tx\|²/√n_components, whose inner products estimate the kernel. ``"intensity"`` returns
        \|Tx\|², whose mean is ‖x‖².
    digits : int or None, default 5
        The number of ternary digits, from 1 to 20, in which other vectors than those of -1, 0 and 1 are encoded, as by
        :func:`opuproj.encode`. 5 digits are accurate to 0.4 % of the vector's largest element. Vectors of -1, 0 and 1
        are always exact. None raises for all other vectors.
    random_state : int, RandomState instance or None, default None
        Determines T at each call of `fit`. An integer from 0 to 2**64 - 1 is the seed of T itself. A generator, or
        NumPy's global one for None, draws a seed.
    camera : opuproj.Camera, optional
        Read the intensities through this camera. X must then be ternary, because a camera sees digits one after the
        other, not the intensity of their sum.
    noise_seed : int, optional
        The seed of the camera's noise, which also depends on a vector's index in X. By default each call has new noise.
    threads : int, optional
        The number of threads; by default ``OPUPROJ_NUM_THREADS`` if set, otherwise the number of cores that this
        process may use. Results do not depend on it. With ``n_jobs`` of other estimators, 1 is best.

    Attributes
    ----------
    n_components_ : int
        The number of features.
    seed_ : int
        The seed of T.
    projector_ : opuproj.Projector
        The operator; ``projector_.matrix(rows, columns)`` gives entries of T.
    n_features_in_ : int
        The number of features of the X of `fit`.
    feature_names_in_ : ndarray of shape (n_features,)
        The names of these features, if X has names.

    Raises
    ------
    ValueError, TypeError
        From `fit` and `transform`, if an argument is out of range or of the wrong type. The message names it.

    See Also
    --------
    OpticalRandomProjection : linear projections, which preserve distances.
    sklearn.kernel_approximation.PolynomialCountSketch : polynomial kernels, by sketches.

    Notes
    -----
    The kernel is homogeneous. To compare only directions, normalize vectors to norm 1 first
    (:class:`sklearn.preprocessing.Normalizer`).

    The features of a vector are the same, bit for bit, for any other vectors in X and on every machine. A sparse X is
    not made dense; only its nonzeros are read. Besides X and the result, this takes about 200 MB of memory, or
    16 vectors and their features where these take more.

    References
    ----------
    .. [1] A. Saade, F. Caltagirone, I. Carron, L. Daudet, A. Drémeau, S. Gigan and F. Krzakala, "Random projections
       through multiple optical scattering: approximating kernels at the speed of light", ICASSP 2016.
    .. [2] R. Ohana, J. Wacker, J. Dong, S. Marmin, F. Krzakala, M. Filippone and L. Daudet, "Kernel computations from
       large-scale random features obtained by optical processing units", ICASSP 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from opuproj.sklearn import OpticalRandomFeatures
    >>> X = np.array([[1.0, 0.0, 1.0], [0.5, 0.5, -1.0]])
    >>> Z = OpticalRandomFeatures(100_000, random_state=0).fit_transform(X)
    >>> kernel = np.outer((X**2).sum(1), (X**2).sum(1)) + (X @ X.T) ** 2
    >>> bool(np.allclose(Z @ Z.T, kernel, rtol=0.05))
    True
    """

    def __init__(
        self,
        n_components: int = 1000,
        *,
        scale: Scale = "kernel",
        digits: int | None = 5,
        random_state: Any = None,
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
        self.scale = scale

    def _check_arguments(self) -> None:
        super()._check_arguments()
        self._n_components(1, 1)
        self._scale_of(1)

    def _scale(self) -> float:
        return self._scale_of(self.n_components_)

    def _scale_of(self, n_components: int) -> float:
        if not isinstance(self.scale, str) or self.scale not in ("kernel", "intensity"):
            raise ValueError(f"scale is {self.scale!r}, but must be 'kernel' or 'intensity'")
        return float(n_components**-0.5) if self.scale == "kernel" else 1.0
