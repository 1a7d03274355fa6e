"""LightOn's API, reimplemented: ``opuproj.lightonml`` replaces lightonml 1.4 with its simulated OPU.

    from opuproj.lightonml import OPU
    from opuproj.lightonml.encoding.base import SeparatedBitPlanEncoder, SeparatedBitPlanDecoder
    from opuproj.lightonml.projections.sklearn import OPUMap        # needs scikit-learn
    from opuproj.lightonml.projections.torch import OPUMap          # needs torch

It contains no code of lightonml. opuproj.Projector computes the projections and stores no matrix.
"""

from .._core import __version__
from ._verbosity import get_verbose_level, set_verbose_level
from .opu import OPU

__all__ = ["OPU", "__version__", "get_verbose_level", "set_verbose_level"]
