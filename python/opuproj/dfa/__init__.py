"""Direct feedback alignment: train the blocks of a model by random projections of its error.

    feedback = dfa.attach(model, blocks=["layer1", "layer2"], method="odfa", seed=0)
    loss = criterion(model(x), y)
    loss.backward()       # each block gets its own projection of the error; layers above them get their gradient
    optimizer.step()

The rest of the training loop stays as it is. See :func:`attach`.
"""

from ..torch import BatchMax, Dither, Fixed, PlacedRule, RowMax, RowStd, Rule, Ternarize, TopK
from ._pass import Method
from .attach import attach
from .diagnosis import Check
from .feedback import Feedback
from .fitting import Fitting
from .hardware_report import HardwareReport
from .stack_step import StackStep
from .tune import Advice, Trial

__all__ = [
    "Advice",
    "BatchMax",
    "Check",
    "Dither",
    "Feedback",
    "Fitting",
    "Fixed",
    "HardwareReport",
    "Method",
    "PlacedRule",
    "RowMax",
    "RowStd",
    "Rule",
    "StackStep",
    "Ternarize",
    "TopK",
    "Trial",
    "attach",
]
