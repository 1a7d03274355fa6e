"""What the callbacks of training libraries log, and how they measure it without a trace in the training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .. import _check
from ._pass import FEEDING
from ._random_state import random_state_restored
from .feedback import Feedback

ALIGNMENT, NONZERO = "dfa/alignment/", "dfa/nonzero"


class Diagnosis:
    """The alignment of each block, and the share of nonzero errors since the last time it was asked for.

    Parameters
    ----------
    feedback : Feedback
        The feedback of the model that trains.
    """

    def __init__(self, feedback: Feedback) -> None:
        self.feedback = feedback
        self.elements, self.nonzeros = self._counts()

    def values(self, closure: Callable[[], torch.Tensor]) -> dict[str, float]:
        """Return what to log, by its name. It is empty if the method has no feedback.

        Parameters
        ----------
        closure : callable
            Returns the loss, as for :meth:`Feedback.alignment`.
        """
        found: dict[str, float] = {}
        if self.feedback.method in FEEDING:
            cosines = _without_trace(self.feedback, closure)
            found = {f"{ALIGNMENT}{name}": cosine for name, cosine in cosines.items()}
        before, self.elements, self.nonzeros = (self.elements, self.nonzeros), *self._counts()
        # Only "odfa" counts nonzeros, so a share of the float errors of "dfa" would mean nothing.
        if self.feedback.method == "odfa" and self.elements > before[0]:
            found[NONZERO] = (self.nonzeros - before[1]) / (self.elements - before[0])
        return found

    def _counts(self) -> tuple[int, int]:
        statistics = self.feedback.statistics
        return statistics.elements, statistics.nonzeros


class Choices:
    """The arguments that the callbacks share, checked.

    Parameters
    ----------
    every, batch, closure, feedback
        As for the callbacks.
    """

    def __init__(self, every: Any, batch: Any, closure: Any, feedback: Any) -> None:
        self.every = _check.integer("every", every, 1, 2**63 - 1)
        if batch is not None and closure is not None:
            raise ValueError("batch and closure are both given, but the closure has its own batch: give one of them")
        if closure is not None and not callable(closure):
            raise TypeError(f"closure is {closure!r}, but must be a function that returns the loss")
        if feedback is not None and not isinstance(feedback, Feedback):
            raise TypeError(f"feedback is {feedback!r}, but must be the opuproj.dfa.Feedback that attach returned")
        self.batch, self.closure, self.feedback = batch, closure, feedback

    def diagnosis_of(self, model: torch.nn.Module) -> Diagnosis:
        """Return the diagnosis of the given feedback, or else of the only one in a model."""
        feedback = self.feedback
        if feedback is None:
            found = [one for one in map(Feedback.of, model.modules()) if one is not None]
            if len(found) != 1:
                raise ValueError(
                    f"{type(model).__name__} has {len(found)} feedbacks, but the callback diagnoses one: "
                    + ("name it with feedback=" if found else "call opuproj.dfa.attach before the training starts")
                )
            feedback = found[0]
        if feedback._engine.is_pipelined:
            raise ValueError(
                "the model is divided over the ranks of process_group, but alignment needs the whole model: train "
                "without this callback"
            )
        return Diagnosis(feedback)


def _without_trace(feedback: Feedback, closure: Callable[[], torch.Tensor]) -> dict[str, float]:
    """Compute the alignment; the random numbers of Python and NumPy are the same in both passes and afterwards.

    The alignment itself does the same for PyTorch's random numbers and for buffers.
    """
    scaler = feedback._engine.scaler

    def loss() -> torch.Tensor:
        with random_state_restored():
            value = closure()
        # The feedback divides errors by the scale before it makes them ternary, as in a step of the training.
        return value if scaler is None or not isinstance(value, torch.Tensor) else value * scaler.get_scale()

    return feedback.alignment(loss)
