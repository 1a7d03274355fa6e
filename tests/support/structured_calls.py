"""What the tests of the structured ensemble share."""

from __future__ import annotations

from typing import Any

import numpy as np
import opuproj


def project(x: Any, n_outputs: int, **arguments: Any) -> Any:
    return opuproj.project(x, n_outputs, ensemble="structured", **arguments)


def reals(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)
