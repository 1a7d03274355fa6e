"""The scale of linear transforms."""

from __future__ import annotations

from enum import Enum


class OutputRescaling(Enum):
    """The divisor of the results of :meth:`opuproj.lightonml.OPU.linear_transform`.

    The simulated device's matrix already has entries of variance 1/max_n_features. The notes of
    :class:`opuproj.lightonml.OPU` give the resulting scale.
    """

    variance = 1
    """√n_features, where n_features counts the features that the device gets."""
    norm = 2
    """√n_components."""
    none = 3
    """1."""
