"""Chooses learning rates and the ternary rule by short trainings on the user's own batches."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from textwrap import fill
from time import monotonic
from typing import Any

import torch

from .. import _check
from ..torch import Dither, RowMax, Ternarize
from . import _rates
from ._engine import Engine
from ._pass import Method
from ._trials import Beginning, Data, OfBatch, Trial, Trials, unchanged

__all__ = ["Advice", "Trial", "tune"]

AUTOMATIC = Ternarize(Dither("auto"))
# A rule that keeps the sizes of vectors in place of those of elements, which suits some dense errors.
_BY_VECTOR = Ternarize(RowMax(0.25), "row")

# The width of the text that follows the table.
_COLUMNS = 88
# The factor between neighbouring learning rates of the first search, and of the second around the best.
_COARSE, _FINE = 4.0, 2.0
# The most factors from the optimizer's own learning rate to either side.
_MOST_FACTORS = 6
# One batch in five is held out.
_HELD_OUT = 5
# A difference is called one if it is larger than this number of standard errors.
_CLEAR = 2.0
# Feedback whose cosine with the gradient is below this teaches a block next to nothing.
_ALIGNED = 0.05


@dataclass(frozen=True)
class Advice:
    """The result of :meth:`Feedback.tune`. ``print`` shows it as text, and :meth:`apply` uses it.

    Attributes
    ----------
    method : {"odfa", "dfa"}
        The method that was tuned.
    ternarize : Ternarize
        The best ternary rule.
    block_rate, top_rate : float
        The best learning rates for the parameters that the blocks train, and for all others.
    better : bool
        Whether the method is better than shallow training by more than two standard errors.
    difference, error : float
        By how much it is better on the held-out batches, on average, and the standard error over the batches; nan if
        there is one batch.
    best : dict of str to Trial
        The best trial of each method. A method that the time did not suffice for is missing.
    trials : tuple of Trial
        All trials, which can be printed one by one.
    measured : str
        What was compared: "loss", or the name of the `measure`.
    steps : int
        The number of steps of each trial.
    reasons : tuple of str
        What follows from the trials, in words.
    """

    method: Method
    ternarize: Ternarize
    block_rate: float
    top_rate: float
    better: bool
    difference: float
    error: float
    best: dict[Method, Trial]
    trials: tuple[Trial, ...]
    measured: str
    steps: int
    reasons: tuple[str, ...]
    _engine: Engine = field(repr=False, compare=False)
    _of_blocks: frozenset[int] = field(repr=False, compare=False)

    def apply(self, optimizer: torch.optim.Optimizer, method: Method | None = None) -> None:
        """Set the feedback's method and ternary rule, and the learning rates of an optimizer.

        A group of the optimizer that holds parameters of the blocks and others becomes two groups, which keep its other
        settings. Apply the advice before a scheduler is made and before a state of the optimizer is loaded.

        Parameters
        ----------
        optimizer : Optimizer
            An optimizer of the model's parameters.
        method : {"odfa", "dfa", "bp", "shallow"}, optional
            Train by another method than that of the advice, at the best rates that were found for it, to compare.

        Raises
        ------
        ValueError
            If ``best`` has no trial of the method.
        """
        _check_optimizer(optimizer)
        best = self.best.get(self.method if method is None else method)
        if best is None:
            raise ValueError(f"method is {method!r}, but must be one of {', '.join(map(repr, self.best))}")
        block_rate = best.top_rate if best.block_rate is None else best.block_rate
        _rates.set_rates(optimizer, self._of_blocks, block_rate, best.top_rate)
        self._engine.settings.method = best.method
        if best.ternarize is not None:
            self._engine.settings.ternarize = best.ternarize

    def __str__(self) -> str:
        rows = [("method", "rate of blocks", "rate of top", self.measured, "ternary rule")]
        for name, trial in self.best.items():
            blocks = "" if trial.block_rate is None else f"{trial.block_rate:.3g}"
            rule = "" if trial.ternarize is None else f"{trial.ternarize.rule}, norm {trial.ternarize.norm}"
            rows.append((name, blocks, f"{trial.top_rate:.3g}", f"{trial.value:.4g}", rule))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = [
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        aligned = ", ".join(f"{name} {cosine:+.2f}" for name, cosine in self.best[self.method].alignment.items())
        words = [f"alignment after {self.steps} steps: {aligned or 'none'}", *self.reasons]
        return "\n".join([*table, *(fill(text, _COLUMNS, subsequent_indent="  ") for text in words)])


def tune(
    engine: Engine,
    loss: OfBatch,
    batches: Iterable[Any],
    optimizer: torch.optim.Optimizer,
    *,
    method: Method,
    steps: int,
    seconds: float | None,
    held_out: Iterable[Any] | None,
    measure: OfBatch | None,
    progress: bool,
) -> Advice:
    """Compute :meth:`Feedback.tune`, for arguments as there."""
    for name, function in (("loss", loss), ("measure", measure)):
        if not callable(function) and (function is not None or name == "loss"):
            raise TypeError(f"{name} is {function!r}, but must be a function of a batch")
    for name, given in (("batches", batches), ("held_out", held_out)):
        if not isinstance(given, Iterable) and (given is not None or name == "batches"):
            raise TypeError(f"{name} is {given!r}, but must be batches: a list, a DataLoader or another iterable")
    _check_optimizer(optimizer)
    steps = _check.integer("steps", steps, 1, 2**63 - 1)
    seconds = math.inf if seconds is None else _check.real("seconds", seconds, above=0.0)
    with unchanged(engine, optimizer, batches) as begin, _bar(progress) as show:
        training, kept = _divided(batches, held_out, steps)
        data = Data(loss, loss if measure is None else measure, training, kept)
        trials = Trials(begin, data, steps, lambda: show(None))
        return _Search(begin, trials, method, seconds, measure, steps, show).advice()


class _OutOfTimeError(Exception):
    """The time of a search is over."""


class _Search:
    """Looks for the best trial of each method."""

    def __init__(
        self,
        begin: Beginning,
        trials: Trials,
        method: Method,
        seconds: float,
        measure: OfBatch | None,
        steps: int,
        show: Callable[[str | None], None],
    ) -> None:
        self._begin, self._trials, self._method, self._steps, self._show = begin, trials, method, steps, show
        self._until, self._sign = monotonic() + seconds, -1.0 if measure is None else 1.0
        self._measured = (
            "loss" if measure is None else getattr(measure, "__name__", "measure").replace("<lambda>", "measure")
        )
        self._given = begin.engine.settings.ternarize
        self._rule = AUTOMATIC if method == "odfa" else None
        self._made: dict[tuple[Any, ...], Trial] = {}

    def advice(self) -> Advice:
        """Search, and say what follows."""
        mine, optimizer, of_blocks = self._method, self._begin.optimizer, self._trials.of_blocks
        blocks, top = (_rates.rate_of(optimizer, of_blocks, blocks=which) for which in (True, False))
        # The first trial of each is made in any case: without both there is no advice.
        self._run("shallow", blocks, top, always=True)
        self._run(mine, blocks, top, always=True)
        missing = None
        try:
            missing = "the rates"
            self._along("shallow", blocks, top, 0, 1)
            self._finely("shallow", 0, 1)
            self._along(mine, blocks, top, 1, 1)
            best = self._best(mine)
            self._run(mine, _block_rate(best), self._best("shallow").top_rate)
            for directions in ((0, 1), (1, 0)):
                best = self._best(mine)
                self._along(mine, _block_rate(best), best.top_rate, *directions)
            self._finely(mine, 1, 1)
            missing = "the ternary rules"
            self._try_rules()
            best = self._best(mine)
            missing = "backpropagation"
            self._along("bp", _block_rate(best), _block_rate(best), 1, 1)
            if mine == "odfa" and not self._difference(mine, "shallow")[2]:
                missing = "the float error"
                self._along("dfa", _block_rate(best), best.top_rate, 1, 1)
            missing = None
        except _OutOfTimeError:
            pass
        methods: tuple[Method, ...] = ("bp", "dfa", "odfa", "shallow")
        found = {name: self._best(name) for name in methods if any(t.method == name for t in self._made.values())}
        best = found[mine]
        difference, error, better = self._difference(mine, "shallow")
        return Advice(
            mine,
            best.ternarize or self._given,
            _block_rate(best),
            best.top_rate,
            better,
            difference,
            error,
            found,
            tuple(self._made.values()),
            self._measured,
            self._steps,
            tuple(self._reasons(found, missing)),
            self._begin.engine,
            of_blocks,
        )

    # Trials

    def _run(self, method: Method, block_rate: float, top_rate: float, *, always: bool = False) -> Trial:
        """Return the trial of these settings, made now or before."""
        rule = self._rule if method == "odfa" else None
        key = method, rule, None if method == "shallow" else block_rate, top_rate
        if key not in self._made:
            if monotonic() > self._until and not always:
                raise _OutOfTimeError
            self._show(f"{method}, rates {block_rate:.3g} and {top_rate:.3g}")
            self._made[key] = self._trials.run(method, rule, block_rate, top_rate)
        return self._made[key]

    def _score(self, trial: Trial) -> float:
        """Return a number that is larger for a better trial."""
        return -math.inf if math.isnan(trial.value) else self._sign * trial.value

    def _best(self, method: Method) -> Trial:
        """Return the best trial of a method; with the present ternary rule, for "odfa"."""
        mine = [
            t for t in self._made.values() if t.method == method and (method != "odfa" or t.ternarize == self._rule)
        ]
        return max(mine, key=self._score)

    def _along(self, method: Method, block_rate: float, top_rate: float, blocks: int, top: int) -> None:
        """Multiply the rates by a factor for as long as this helps; if it does not help, divide them."""

        def score(k: int) -> float:
            factors = _COARSE ** (k * blocks), _COARSE ** (k * top)
            return self._score(self._run(method, block_rate * factors[0], top_rate * factors[1]))

        k, best = 0, score(0)
        while best == -math.inf and k > -_MOST_FACTORS:  # it diverged
            k -= 1
            best = score(k)
        first = k
        for direction in (1, -1) if first == 0 else (-1,):
            while abs(k) < _MOST_FACTORS and (following := score(k + direction)) > best:
                k, best = k + direction, following
            if k != first:
                return

    def _finely(self, method: Method, blocks: int, top: int) -> None:
        """Try smaller steps of each rate around the best trial."""
        for of_blocks, of_top in ((blocks, 0), (0, top)):
            for factor in (_FINE, 1 / _FINE) if of_blocks or of_top else ():
                best = self._best(method)
                self._run(method, (best.block_rate or 1.0) * factor**of_blocks, best.top_rate * factor**of_top)

    def _try_rules(self) -> None:
        """Compare the automatic rule with others at its best rates, and take another one if it is clearly better."""
        if self._method != "odfa":
            return
        best = self._best("odfa")
        for rule in dict.fromkeys([self._given, _BY_VECTOR]):
            before, self._rule = self._rule, rule
            try:
                other = self._run("odfa", _block_rate(best), best.top_rate)
            except _OutOfTimeError:
                self._rule = before
                raise
            if self._compared(other, best)[2]:
                best = other
            else:
                self._rule = before

    # What follows

    def _compared(self, one: Trial, other: Trial) -> tuple[float, float, bool]:
        """Return by how much a trial is better than another, the standard error, and whether it is clearly so."""
        differences = [self._sign * (a - b) for a, b in zip(one.values, other.values, strict=True)]
        n = len(differences)
        mean = math.fsum(differences) / n
        if n < 2:
            return mean, math.nan, self._score(one) > self._score(other)
        error = math.sqrt(math.fsum((d - mean) ** 2 for d in differences) / (n - 1) / n)
        clear = self._score(one) > -math.inf and (self._score(other) == -math.inf or mean > _CLEAR * error)
        return mean, error, clear

    def _difference(self, one: Method, other: Method) -> tuple[float, float, bool]:
        return self._compared(self._best(one), self._best(other))

    def _reasons(self, found: dict[Method, Trial], missing: str | None) -> Iterator[str]:
        mine = self._method
        difference, error, better = self._difference(mine, "shallow")
        of = f"{difference:.3g} ± {error:.2g} ({self._measured}, {len(found[mine].values)} held-out batches)"
        if missing is not None:
            yield f"The time was over before {missing} had been searched. All results so far are above."
        if better:
            yield f"Use {mine}: it is better than shallow training by {of}."
        else:
            yield f"{mine} is not clearly better than shallow training after {self._steps} steps: by {of}."
            yield from self._why_not(found)
        if isinstance(self._begin.optimizer, torch.optim.SGD):
            ratio = _block_rate(found[mine]) / found[mine].top_rate
            yield f"Scale: with SGD, one rate of {found[mine].top_rate:.3g} and gain={ratio:.3g} have the same effect."
        else:
            yield "Scale: leave gain at 1. The rate of the blocks does what a gain would do, or more."

    def _why_not(self, found: dict[Method, Trial]) -> Iterator[str]:
        """Say why the method is not better than shallow training, as far as the trials show it."""
        if "bp" in found and not self._difference("bp", "shallow")[2]:
            yield (
                f"Backpropagation is not clearly better either (by {self._difference('bp', 'shallow')[0]:.3g}): the "
                "blocks can learn nothing here that the top cannot, or the steps or the held-out batches are too few "
                "to show it."
            )
            return
        if "bp" in found:
            yield f"Backpropagation is better than shallow training by {self._difference('bp', 'shallow')[0]:.3g}."
        if "dfa" in found and self._method == "odfa":
            if self._difference("dfa", "shallow")[2]:
                yield (
                    "The float error (dfa) is better, so the ternary error loses too much: use larger batches, another "
                    "ternary rule, or method 'dfa'."
                )
                return
            yield "The float error (dfa) is not clearly better either, so the ternary rule is not the cause."
        weak = {name: cosine for name, cosine in found[self._method].alignment.items() if not cosine > _ALIGNED}
        if weak:
            listed = ", ".join(f"{name!r} ({cosine:+.2f})" for name, cosine in weak.items())
            yield (
                f"These blocks are not aligned with backpropagation: {listed}. What is above them has not adapted to "
                "their feedback, as it cannot where a path leads around the blocks. Train for longer, use fewer "
                "blocks, or start the top aligned with the feedback."
            )
        else:
            yield "All blocks are aligned with backpropagation, so more steps may help: tune with larger steps=."


def _block_rate(trial: Trial) -> float:
    assert trial.block_rate is not None
    return trial.block_rate


def _divided(batches: Iterable[Any], held_out: Iterable[Any] | None, steps: int) -> tuple[list[Any], list[Any]]:
    """Return the batches to train on, at most one for each step, and those that are held out."""
    n = steps if held_out is not None else steps + math.ceil(steps / (_HELD_OUT - 1))
    taken = list(islice(batches, n))
    if held_out is not None:
        kept = list(held_out)
    elif len(taken) < _HELD_OUT:
        taken, kept = taken[:-1], taken[-1:]
    else:
        taken, kept = [b for i, b in enumerate(taken, 1) if i % _HELD_OUT], taken[_HELD_OUT - 1 :: _HELD_OUT]
    if not taken or not kept:
        raise ValueError(
            f"there are {len(taken)} batches to train on and {len(kept)} held out, but at least one of each is needed"
        )
    return taken, kept


def _check_optimizer(optimizer: Any) -> None:
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"optimizer is {optimizer!r}, but must be a torch.optim.Optimizer of the model's parameters")
    if isinstance(optimizer, torch.optim.LBFGS):
        raise TypeError("optimizer is LBFGS, which needs a closure and one rate: use one such as Adam or SGD")


@contextmanager
def _bar(wanted: bool) -> Iterator[Callable[[str | None], None]]:
    """Show a bar of steps. Yield the function that takes the settings of a new trial, or None for a step."""
    from tqdm.auto import tqdm  # imports the notebook's widgets, so only when a bar is wanted

    interval = 0.1 if sys.stderr is not None and sys.stderr.isatty() else 60.0
    with tqdm(desc="tune", unit=" steps", mininterval=interval, disable=not wanted or sys.stderr is None) as bar:

        def show(trial: str | None) -> None:
            if trial is None:
                bar.update()
            else:
                bar.set_postfix_str(trial, refresh=False)

        yield show
