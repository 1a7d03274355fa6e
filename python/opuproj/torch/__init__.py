"""The operator in PyTorch: a module that can be compiled and exported, and rules that round floats to -1, 0 and 1.

layer = opuproj.torch.Projection(n_inputs, n_outputs, seed=0, ternarize=Ternarize(RowMax(0.25)))
y = layer(x)

`ShardedProjection` divides a projection among the ranks of a process group.
"""

from .projection import Projection
from .rules import BatchMax, Dither, Fixed, PlacedRule, RowMax, RowStd, Rule, TopK
from .sharded import ShardedProjection
from .ternarize import Ternarize

__all__ = [
    "BatchMax",
    "Dither",
    "Fixed",
    "PlacedRule",
    "Projection",
    "RowMax",
    "RowStd",
    "Rule",
    "ShardedProjection",
    "Ternarize",
    "TopK",
]
