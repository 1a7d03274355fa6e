"""How results of a linear transform are scaled."""

from __future__ import annotations

from enum import Enum


class OutputRescaling(Enum):
    """What :meth:`opuproj.lightonml.OPU.linear_transform` divides its results by.

    The simulated device's own matrix already has entries of variance 1/max_n_features: see
    :class:`opuproj.lightonml.OPU` for what that makes of the results.
    """

    variance = 1
    """By √n_features, n_features being those that the device sees."""
    norm = 2
    """By √n_components."""
    none = 3
    """By nothing."""
