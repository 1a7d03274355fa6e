"""LightOn's API working again: programs for lightonml 1.4's simulated OPU run with ``opuproj.lightonml`` in its place.

    from opuproj.lightonml import OPU
    from opuproj.lightonml.encoding.base import SeparatedBitPlanEncoder, SeparatedBitPlanDecoder
    from opuproj.lightonml.projections.sklearn import OPUMap        # needs scikit-learn
    from opuproj.lightonml.projections.torch import OPUMap          # needs torch

Nothing of lightonml's code is in it. Computed by opuproj.Projector: no matrix is stored.
"""

from .._core import __version__
from ._verbosity import get_verbose_level, set_verbose_level
from .opu import OPU

__all__ = ["OPU", "__version__", "get_verbose_level", "set_verbose_level"]
