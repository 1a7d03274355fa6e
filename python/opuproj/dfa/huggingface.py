"""Direct feedback in Hugging Face's Trainer: a callback that logs how well the blocks are aligned.

dfa.attach(model, blocks=["transformer.h.0", "transformer.h.1"], output="lm_head")
trainer = Trainer(model, arguments, train_dataset=data)
trainer.add_callback(FeedbackCallback(trainer, every=50))
trainer.train()
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch

from ._while_training import Choices, Diagnosis

try:
    from transformers import TrainerCallback
except ImportError as missing:
    raise ImportError(
        "opuproj.dfa.huggingface needs transformers and accelerate: pip install transformers accelerate"
    ) from missing

__all__ = ["FeedbackCallback"]


class FeedbackCallback(TrainerCallback):
    """Log the alignment of each block and the share of nonzero errors while a Trainer trains a model by feedback.

    ``dfa/alignment/<block>`` is the cosine between the block's gradients from feedback and those from backpropagation
    (:meth:`Feedback.alignment <opuproj.dfa.Feedback.alignment>`), on one batch that stays the same. ``dfa/nonzero`` is
    the share of the errors' elements that were nonzero after they were made ternary, since the last log. The Trainer
    reports both as it reports the loss: to TensorBoard, to Weights & Biases, in ``trainer.state.log_history``.

    Nothing is logged for the methods ``"bp"`` and ``"shallow"``, and no ``dfa/nonzero`` for ``"dfa"``.

    Parameters
    ----------
    trainer : transformers.Trainer
        The Trainer, to which ``trainer.add_callback`` then adds the callback.
    every : int, default 100
        Log after each `every` steps of the optimizer. One log costs two forward and two backward passes of a batch.
    batch : dict, optional
        The batch on which to compute the alignment, as the data collator returns it. By default the first batch of the
        training, which is kept.
    closure : callable, optional
        Runs the model and returns the loss, in place of ``trainer.compute_loss`` on `batch`.
    feedback : Feedback, optional
        The feedback. By default the one that is attached to the Trainer's model or to one of its modules.

    Notes
    -----
    With several processes, each computes the alignment of its own batch, without the other's gradients, and the main
    process reports. Gradients, buffers, random numbers and the mode (train or eval) stay as they were.

    ``trainer.compute_loss`` is called twice for each log. If yours has side effects, give a `closure` without them.
    """

    def __init__(
        self,
        trainer: Any,
        *,
        every: int = 100,
        batch: Any = None,
        closure: Callable[[], torch.Tensor] | None = None,
        feedback: Any = None,
    ) -> None:
        self._choices = Choices(every, batch, closure, feedback)
        for name in ("compute_loss", "log", "model"):
            if not hasattr(trainer, name):
                raise TypeError(f"trainer is {trainer!r}, but must be a transformers.Trainer")
        self._trainer = trainer
        self._batch: Any = None
        self._diagnosis: Diagnosis | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Find the feedback, and prepare to keep the first batch."""
        choices = self._choices
        self._diagnosis = choices.diagnosis_of(self._trainer.model)
        if choices.batch is not None:
            self._batch = self._trainer._prepare_inputs(copy.copy(choices.batch))
        if choices.closure is None and self._batch is None:
            self._keep_first_batch()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Log, if it is time."""
        if self._diagnosis is None or state.global_step % self._choices.every:
            return
        values = self._diagnosis.values(self._choices.closure or self._loss)
        if values:
            wanted = control.should_log
            self._trainer.log(values)  # on all processes, as the Trainer calls it; the main one reports
            control.should_log = wanted  # a log resets it, and the Trainer would not log its loss

    def _keep_first_batch(self) -> None:
        """Keep the inputs of the next loss that is computed to train."""
        trainer = self._trainer
        compute_loss = trainer.compute_loss

        def keeping(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            if self._batch is None and model.training:
                self._batch = copy.copy(inputs)  # compute_loss may remove the labels
                trainer.__dict__.pop("compute_loss", None)
                if before is not None:
                    trainer.compute_loss = before
            return compute_loss(model, inputs, *args, **kwargs)

        before = trainer.__dict__.get("compute_loss")
        trainer.compute_loss = keeping

    def _loss(self) -> torch.Tensor:
        trainer = self._trainer
        with trainer.compute_loss_context_manager():
            # The model without the wrapper of data parallelism, which would exchange gradients and buffers.
            loss: torch.Tensor = trainer.compute_loss(trainer.model, copy.copy(self._batch))
        return loss
