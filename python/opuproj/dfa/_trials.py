"""Short trainings of a user's model by different settings, after which all is as it was before."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from ..torch import Ternarize
from . import _rates
from ._engine import Engine
from ._pass import Method
from ._random_state import RandomState
from ._statistics import NonzeroCounts, Statistics
from .diagnosis import alignment
from .hardware_report import Projected

OfBatch: TypeAlias = Callable[[Any], Any]

# Steps between two looks at the loss, each of which waits for a GPU.
_STEPS_BETWEEN_LOOKS = 25


@dataclass(frozen=True)
class Trial:
    """A short training by one choice of settings, and how well it ended.

    Attributes
    ----------
    method : {"odfa", "dfa", "bp", "shallow"}
        The training method.
    ternarize : Ternarize or None
        The ternary rule; None for methods that have none.
    block_rate : float or None
        The learning rate of the parameters that the blocks train; None for ``"shallow"``, which does not train them.
    top_rate : float
        The learning rate of all other parameters.
    values : tuple of float
        The loss of each held-out batch after the training, or its `measure`; nan if the training diverged.
    alignment : dict of str to float
        For methods with feedback, the alignment of each block at the end, on the first held-out batch.
    """

    method: Method
    ternarize: Ternarize | None
    block_rate: float | None
    top_rate: float
    values: tuple[float, ...]
    alignment: dict[str, float]

    @property
    def value(self) -> float:
        """The mean of `values`."""
        return math.fsum(self.values) / len(self.values)

    def __str__(self) -> str:
        rates = f"rate of top {self.top_rate:.3g}"
        if self.block_rate is not None:
            rates = f"rate of blocks {self.block_rate:.3g}, {rates}"
        rule = "" if self.ternarize is None else f", {self.ternarize}"
        return f"{self.method}: {rates}{rule}: {self.value:.4g}"


@dataclass(frozen=True)
class Data:
    """The user's functions and batches.

    Attributes
    ----------
    loss, measure : callable
        Return the loss of a batch; and what is compared on a held-out batch, which may be the loss.
    training, held_out : sequence
        The batches of each kind.
    """

    loss: OfBatch
    measure: OfBatch
    training: Sequence[Any]
    held_out: Sequence[Any]


class Beginning:
    """The values of a model, its modes, the random generators and the count of passes at one moment.

    Attributes
    ----------
    engine : Engine
        The engine of the model's feedback.
    optimizer : Optimizer
        The user's optimizer, which no trial steps.
    trained : list of Tensor
        The parameters of the model and of the optimizer.
    """

    def __init__(self, engine: Engine, optimizer: torch.optim.Optimizer) -> None:
        self.engine, self.optimizer = engine, optimizer
        self.trained = list(dict.fromkeys([*engine.model.parameters(), *_rates.parameters_of(optimizer)]))
        modules = list(engine.model.modules())
        self._buffers = [(module, dict(module._buffers)) for module in modules]
        tensors = dict.fromkeys([*self.trained, *engine.model.buffers()])
        self._values = [(tensor, tensor.detach().clone()) for tensor in tensors]
        self._modes = [(module, module.training) for module in modules]
        self._random = RandomState({tensor.device for tensor in self.trained if tensor.device.type == "cuda"})
        self._passes = engine.passes()

    def restore(self) -> None:
        """Set the values, modes, generators and the count back, and remove all gradients."""
        for module, buffers in self._buffers:  # a module may have replaced some
            module._buffers.update(buffers)
        with torch.no_grad():
            for tensor, value in self._values:
                tensor.copy_(value)
        for p in self.trained:
            p.grad = None
        self.restore_modes()
        self._random.restore()
        self.engine.restart(self._passes)

    def restore_modes(self) -> None:
        """Set the modules back to training or evaluation."""
        for module, training in self._modes:
            module.training = training


class Trials:
    """Trains a model for some steps by given settings, each time from the same beginning.

    Parameters
    ----------
    begin : Beginning
        The model, its feedback and the user's optimizer, of which each trial gets a copy.
    data : Data
        The batches and what is computed from them.
    steps : int
        The steps of a trial.
    each_step : callable
        Called after each step with None, for a progress bar.
    """

    def __init__(self, begin: Beginning, data: Data, steps: int, each_step: Callable[[], object]) -> None:
        self._begin, self._engine, self._data = begin, begin.engine, data
        self._steps, self._each_step = steps, each_step
        self.of_blocks = self._parameters_of_blocks()

    def run(self, method: Method, ternarize: Ternarize | None, block_rate: float, top_rate: float) -> Trial:
        """Train by these settings, and measure on the held-out batches."""
        engine, data = self._engine, self._data
        self._begin.restore()
        engine.settings.method = method
        if ternarize is not None:
            engine.settings.ternarize = ternarize
        optimizer = _rates.copy_of(self._begin.optimizer)
        _rates.set_rates(optimizer, self.of_blocks, block_rate, top_rate)
        finite = self._train(optimizer)
        values = self._measured() if finite else (math.nan,) * len(data.held_out)
        aligned: dict[str, float] = {}
        if method in ("odfa", "dfa") and finite:
            aligned = alignment(engine, lambda: self._scaled(data.held_out[0]), "parameters", method)
        return Trial(
            method,
            ternarize if method == "odfa" else None,
            None if method == "shallow" else block_rate,
            top_rate,
            values,
            aligned,
        )

    def _train(self, optimizer: torch.optim.Optimizer) -> bool:
        """Train, and return whether the loss stayed finite."""
        scaler = self._engine.scaler
        for step in range(self._steps):
            optimizer.zero_grad(set_to_none=True)
            loss = self._scaled(self._data.training[step % len(self._data.training)])
            loss.backward()
            if scaler is not None:
                scale = float(scaler.get_scale())
                for p in _rates.parameters_of(optimizer):
                    if p.grad is not None:
                        p.grad.div_(scale)
            optimizer.step()
            self._each_step()
            if step % _STEPS_BETWEEN_LOOKS == 0 and not math.isfinite(float(loss.detach())):
                return False
        return True

    def _scaled(self, batch: Any) -> torch.Tensor:
        """Return the loss, times the scale of the gradient scaler, if there is one."""
        loss = self._data.loss(batch)
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            raise TypeError(f"loss returned {_described(loss)}, but must return a tensor of one number for a batch")
        scaler = self._engine.scaler
        return loss if scaler is None else loss * scaler.get_scale()

    def _measured(self) -> tuple[float, ...]:
        """Return what is measured on each held-out batch, with the model in evaluation mode."""
        self._engine.model.eval()
        values = []
        with torch.no_grad():
            for batch in self._data.held_out:
                value = self._data.measure(batch)
                try:
                    values.append(float(value))
                except (TypeError, ValueError):
                    raise TypeError(f"measure returned {_described(value)}, but must return a number") from None
        self._begin.restore_modes()
        return tuple(values)

    def _parameters_of_blocks(self) -> frozenset[int]:
        """Run one pass, which finds out what each block trains; return the ids of these parameters."""
        self._engine.settings.method = "dfa"
        self._scaled(self._data.training[0])
        trained = self._engine.trained.names.values()
        named = dict(self._engine.model.named_parameters())
        mine = {id(p) for p in _rates.parameters_of(self._begin.optimizer)}
        ids = frozenset(id(named[name]) for names in trained for name in names if name in named)
        if not ids & mine:
            raise ValueError("optimizer has no parameter that a block trains: give it all parameters of the model")
        if not mine - ids:
            raise ValueError(
                "optimizer has no parameter above the last block, so shallow training, the comparison, would train "
                "nothing: give it all parameters of the model"
            )
        return ids


@contextmanager
def unchanged(engine: Engine, optimizer: torch.optim.Optimizer, batches: Any) -> Iterator[Beginning]:
    """Yield the beginning; restore it at the end, also after an error or an interruption, with all of the feedback."""
    engine.statistics  # noqa: B018 (takes the counts of nonzeros)
    kept = engine._statistics, engine.projected, engine._counted, engine.step_guard
    begin, method, ternarize = Beginning(engine, optimizer), engine.settings.method, engine.settings.ternarize
    generator = getattr(batches, "generator", None)  # of a DataLoader
    state = generator.get_state() if isinstance(generator, torch.Generator) else None
    gradients = [(p, p.grad) for p in begin.trained]
    engine._statistics, engine.projected, engine._counted = Statistics(), Projected(), NonzeroCounts()
    engine.step_guard = copy.copy(engine.step_guard)
    try:
        with torch.enable_grad():
            yield begin
    finally:
        begin.restore()
        for p, gradient in gradients:
            p.grad = gradient
        engine.settings.method, engine.settings.ternarize = method, ternarize
        engine._statistics, engine.projected, engine._counted, engine.step_guard = kept
        if isinstance(generator, torch.Generator):
            generator.set_state(state)


def _described(value: Any) -> str:
    shape = f" of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else ""
    return f"a {type(value).__name__}{shape}"
