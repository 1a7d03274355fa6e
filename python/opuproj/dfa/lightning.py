"""Direct feedback in Lightning: a callback that logs how well the blocks are aligned.

    dfa.attach(module.net, blocks=["0", "1"])
    trainer = lightning.Trainer(callbacks=[FeedbackCallback(every=50)])
    trainer.fit(module, data)

The callback is one of `pytorch_lightning` if the program imported that and not `lightning`.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ._while_training import Choices, Diagnosis

__all__ = ["FeedbackCallback"]


def _callback_class() -> Any:
    names = ["lightning.pytorch", "pytorch_lightning"]
    for name in sorted(names, key=lambda name: name not in sys.modules):  # what the program uses comes first
        try:
            return importlib.import_module(name).Callback
        except ImportError:
            continue
    raise ImportError("opuproj.dfa.lightning needs lightning or pytorch_lightning: pip install lightning")


class FeedbackCallback(_callback_class()):  # type: ignore[misc]
    """Log the alignment of each block and the share of nonzero errors while Lightning trains a model by feedback.

    ``dfa/alignment/<block>`` is the cosine between the block's gradients from feedback and those from backpropagation
    (:meth:`Feedback.alignment <opuproj.dfa.Feedback.alignment>`), on one batch that stays the same. ``dfa/nonzero`` is
    the share of the errors' elements that were nonzero after they were made ternary, since the last log. All loggers of
    the Trainer get them, at the step at which the Trainer logs its own values.

    Nothing is logged for the methods ``"bp"`` and ``"shallow"``, and no ``dfa/nonzero`` for ``"dfa"``.

    Parameters
    ----------
    every : int, default 100
        Log after each `every` steps of the optimizer. One log costs two forward and two backward passes of a batch.
    batch : object, optional
        The batch on which to compute the alignment, as the data loader returns it. By default the first batch of the
        training, which is kept.
    closure : callable, optional
        Runs the model and returns the loss, in place of the module's ``training_step`` on `batch`. A module with manual
        optimization needs one.
    feedback : Feedback, optional
        The feedback. By default the one that is attached to the module or to a module in it.

    Notes
    -----
    With several processes, each computes the alignment of its own batch, without the other's gradients, and the main
    process logs. Gradients, buffers, random numbers and the mode (train or eval) stay as they were.

    ``training_step`` is called twice for each log; what it gives to ``self.log`` is dropped. If yours has other side
    effects, such as a metric's ``update``, give a `closure` without them.
    """

    def __init__(
        self,
        *,
        every: int = 100,
        batch: Any = None,
        closure: Callable[[], torch.Tensor] | None = None,
        feedback: Any = None,
    ) -> None:
        super().__init__()
        self._choices = Choices(every, batch, closure, feedback)
        self._batch: Any = None
        self._diagnosis: Diagnosis | None = None
        self._logged = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Find the feedback."""
        choices = self._choices
        if choices.closure is None and not pl_module.automatic_optimization:
            raise ValueError(
                f"{type(pl_module).__name__} optimizes by itself in training_step, which the callback must not call: "
                "give closure=, a function that returns the loss"
            )
        self._diagnosis = choices.diagnosis_of(pl_module)
        self._logged = trainer.global_step // choices.every
        if choices.batch is not None:
            self._batch = trainer.strategy.batch_to_device(choices.batch)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Keep the first batch."""
        if self._batch is None and self._choices.closure is None:
            self._batch = copy.copy(batch)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log, if it is time."""
        # The number of steps stays the same over the batches of an accumulated step.
        due = trainer.global_step // self._choices.every
        if self._diagnosis is None or due == self._logged:
            return
        self._logged = due
        values = self._diagnosis.values(self._choices.closure or (lambda: self._loss(trainer, pl_module)))
        if values and trainer.is_global_zero:
            for logger in trainer.loggers:
                # Lightning's own callbacks log at this step too.
                logger.log_metrics(values, step=trainer.fit_loop.epoch_loop._batches_that_stepped)

    def _loss(self, trainer: Any, pl_module: Any) -> Any:
        arguments: dict[str, Any] = {}
        if "batch_idx" in inspect.signature(pl_module.training_step).parameters:
            arguments["batch_idx"] = 0
        # The module without the wrapper of data parallelism, which would exchange gradients and buffers.
        with trainer.precision_plugin.train_step_context(), _logging_dropped(pl_module):
            output = pl_module.training_step(copy.copy(self._batch), **arguments)
        return output["loss"] if isinstance(output, dict) else output


@contextmanager
def _logging_dropped(pl_module: Any) -> Iterator[None]:
    """Make the module's ``log`` and ``log_dict`` do nothing."""
    names = ("log", "log_dict")
    before = {name: pl_module.__dict__[name] for name in names if name in pl_module.__dict__}
    pl_module.__dict__.update(dict.fromkeys(names, _drop))
    try:
        yield
    finally:
        for name in names:
            del pl_module.__dict__[name]
        pl_module.__dict__.update(before)


def _drop(*args: Any, **kwargs: Any) -> None:
    pass
