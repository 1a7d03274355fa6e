"""Random projections and optical random features as transformers of scikit-learn.

    features = OpticalRandomFeatures(4096, random_state=0).fit_transform(X)        # |Tx|²: a kernel of degree 2
    smaller = OpticalRandomProjection("auto", eps=0.2).fit_transform(X)            # Rx/√n: preserves distances

X is dense or scipy.sparse and holds real numbers. Vectors of -1, 0 and 1 are projected exactly; other vectors are
encoded in ternary digits first.
"""

from sklearn.random_projection import johnson_lindenstrauss_min_dim

from .features import OpticalRandomFeatures
from .projection import OpticalRandomProjection

__all__ = ["OpticalRandomFeatures", "OpticalRandomProjection", "johnson_lindenstrauss_min_dim"]
