"""Direct feedback alignment: train the blocks of a model by random projections of its error.

    feedback = dfa.attach(model, blocks=["layer1", "layer2"], method="odfa", seed=0)
    loss = criterion(model(x), y)
    loss.backward()       # each block gets its own projection of the error, the top its true gradient
    optimizer.step()

Nothing else of a training loop changes. See :func:`attach`.
"""

from ..torch import BatchMax, Dither, Fixed, PlacedRule, RowMax, RowStd, Rule, Ternarize, TopK
from ._method import Method
from .attach import attach
from .diagnosis import Check
from .feedback import Feedback
from .hardware_report import HardwareReport

__all__ = [
    "BatchMax",
    "Check",
    "Dither",
    "Feedback",
    "Fixed",
    "HardwareReport",
    "Method",
    "PlacedRule",
    "RowMax",
    "RowStd",
    "Rule",
    "Ternarize",
    "TopK",
    "attach",
]
