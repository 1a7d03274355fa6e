"""What the tests of opuproj.lightonml share."""

from __future__ import annotations

from typing import Any

import numpy as np
from opuproj.lightonml import OPU

METHODS = ("transform", "linear_transform")


def binary(*shape: int, seed: int = 0, dtype: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).integers(0, 2, shape, dtype=np.uint8).astype(dtype)


def new(n_components: int = 50, max_n_features: int | None = 40, **options: Any) -> OPU:
    return OPU(n_components, max_n_features=max_n_features, simulated=True, **options)


def fitted(n_features: int = 40, **options: Any) -> OPU:
    opu = new(**options)
    opu.fit1d(n_features=n_features)
    return opu
