"""The feedback of a model, as users see it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any, Literal, cast

import torch

from .. import _check
from .._check import Ensemble
from .._spec import refuse_camera
from ..camera import Camera, checked_camera
from ..hardware import LIGHTON, Generation
from ..projector import Projector
from ..torch import Dither, Ternarize
from . import _optimizers, _settings_state
from ._engine import Engine
from ._hooks import Hooks, owners
from ._layout import Layout
from ._pass import FEEDING, METHODS, Method
from ._statistics import Statistics
from .diagnosis import Check, alignment, check
from .fitting import Fitting
from .hardware_report import HardwareReport, report
from .tune import Advice, tune

MatrixMode = Literal["linear", "real"]
"""The mode of the random matrix."""

_MATRIX_MODES: tuple[MatrixMode, ...] = ("linear", "real")


class Feedback:
    r"""The feedback of a model; :func:`attach` makes one.

    Let e be the error: the gradient of the loss at the model's `output`, as one vector. Let the output of block i have
    w_i elements for each vector. In place of its gradient, it receives the feedback

        f_i = gain_i / √w_i · R_i e        for ``"dfa"``,
        f_i = gain_i / √w_i · a R_i t      for ``"odfa"``, where `ternarize` makes e ternary, e ≈ a t,
        f_i = gain_i / √w_i · M_i e        for ``"fitted"``, where M_i is fitted to gradients.

    Backpropagation from there trains the block, and the layers between the block before and this one. R_1, R_2, … are
    consecutive, disjoint ranges of rows of one random matrix. Its entries have mean 0 and variance 1, and are
    independent unless the ensemble is ``"structured"``. With a gain of 1, \|\|f_i\|\| is \|\|e\|\| on average.
    M_i, a stored matrix, starts as R_i. It is fitted by least squares to the gradients of one pass in
    ``fitting.every``, which is a pass by backpropagation.
    Ordinary backpropagation trains the layers between the last block and the loss.

    Attributes
    ----------
    method : {"odfa", "dfa", "fitted", "bp", "shallow"}
        The training method. It can be set at any time, and applies from the next forward pass on. ``"shallow"`` trains
        only the layers above the last block; ``"bp"`` trains all layers by backpropagation.
    ternarize : Ternarize
        How the error is made ternary. It can be set at any time, also to ``"auto"``, as in :func:`attach`.
    camera : Camera or None
        The camera from whose frames the projection of the ternary error is recovered. It can be set at any time, but
        not for mode ``"real"`` or the ensemble ``"structured"``.
    fitting : Fitting
        When ``"fitted"`` fits its matrices. It can be set at any time.
    seed : int
        The seed of the random matrix.
    mode : {"linear", "real"}
        Which real random matrix it is: the device's own, or the one that takes half the time.
    ensemble : {"gaussian", "structured"}
        The distribution of the random matrix.
    blocks : tuple of str
        The blocks' names in the model, in the order of their rows.
    output : str
        The name of the module where the error is taken; ``""`` for the model itself.
    gains : dict of str to float
        Each block's gain.
    statistics : Statistics
        Counts of what was projected so far.
    """

    def __init__(
        self,
        engine: Engine,
        blocks: dict[str, torch.nn.Module],
        output: torch.nn.Module,
        sequence_first: dict[str, torch.nn.Module],
    ) -> None:
        self.model = engine.model
        self.blocks = engine.blocks
        self.output = engine.output
        self._engine = engine
        self._hooks = Hooks(self, engine)
        self._hooks.register(engine.model, blocks, output if engine.takes_error else None, sequence_first)
        _optimizers.observe(self)

    # Settings and properties

    @property
    def method(self) -> Method:
        """The training method of the blocks."""
        return self._engine.settings.method

    @method.setter
    def method(self, value: Method) -> None:
        self._engine.settings.method = checked_method(value, pipelined=self._engine.is_pipelined)

    @property
    def ternarize(self) -> Ternarize:
        """How the error is made ternary for ``"odfa"``."""
        return self._engine.settings.ternarize

    @ternarize.setter
    def ternarize(self, value: Ternarize | Literal["auto"]) -> None:
        self._engine.settings.ternarize = checked_ternarize(value)

    @property
    def camera(self) -> Camera | None:
        """The camera from whose frames the projection of the ternary error is recovered."""
        return self._engine.settings.camera

    @camera.setter
    def camera(self, value: Camera | None) -> None:
        self._engine.settings.camera = camera_for(value, self.mode, self.ensemble)

    @property
    def fitting(self) -> Fitting:
        """When ``"fitted"`` fits its matrices."""
        return self._engine.settings.fitting

    @fitting.setter
    def fitting(self, value: Fitting) -> None:
        self._engine.settings.fitting = checked_fitting(value)

    @property
    def seed(self) -> int:
        """The seed of the random matrix."""
        return self._engine.matrix.seed

    @property
    def mode(self) -> MatrixMode:
        """Which real random matrix it is."""
        return cast(MatrixMode, self._engine.matrix.mode)

    @property
    def ensemble(self) -> Ensemble:
        """The distribution of the random matrix."""
        return self._engine.matrix.ensemble

    @property
    def gains(self) -> dict[str, float]:
        """Each block's gain."""
        return self._engine.gains

    @property
    def statistics(self) -> Statistics:
        """Counts of what was projected so far."""
        return self._engine.statistics

    @property
    def rows(self) -> dict[str, range]:
        """The rows of the matrix of each block. Empty before the first forward pass, which determines their widths."""
        return self._engine.rows

    def operator(self, n_inputs: int, dtype: Any = "float32") -> Projector:
        """Return the operator with the rows of all blocks, for error vectors of n_inputs elements.

        It is exact: :attr:`camera` affects only the feedback.

        Raises
        ------
        RuntimeError
            Before the first forward pass.
        """
        return self._engine.operator(n_inputs, dtype)

    def __repr__(self) -> str:
        matrix = f"seed={self.seed}" if self.mode == "linear" else f"seed={self.seed}, mode={self.mode!r}"
        head = f"Feedback(method={self.method!r}, {matrix}, error at {self._engine.where}, {self.ternarize})"
        rows = self.rows
        lines = [
            f"  {name}: rows {rows[name].start} to {rows[name].stop - 1}" if name in rows else f"  {name}"
            for name in self.blocks
        ]
        return "\n".join(
            [head, *lines] if rows else [head, *lines, "  (rows of the matrix: from the first forward pass on)"]
        )

    # Actions

    @staticmethod
    def of(model: torch.nn.Module) -> Feedback | None:
        """Return the feedback that is attached to a model, for instance to a copy.

        Parameters
        ----------
        model : Module
            The whole model, as given to :func:`attach`, or a copy of it.

        Returns
        -------
        Feedback or None
            None if no feedback is attached.
        """
        found = (owner for owner in owners(model) if isinstance(owner, Feedback))
        return next((feedback for feedback in found if feedback.model is model), None)

    def remove(self) -> None:
        """Remove all hooks, which leaves the model as it was before. A second call does nothing."""
        self._hooks.remove()
        _optimizers.stop_observing(self)

    def backward(self) -> None:
        """Receive the error of a pass and compute the gradients of this rank's blocks, in place of ``loss.backward()``.

        The ranks of `process_group` that have no loss call it once for each ``loss.backward()`` of the last rank, which
        may be that of the latest pass or of an earlier one.

        Raises
        ------
        RuntimeError
            If the loss is on this rank, this rank's part of the model has not run, or no error comes.
        """
        engine = self._engine
        if engine.pipeline is None or engine.takes_error:
            raise RuntimeError("this rank takes the error: call loss.backward()")
        if self.method == "shallow" and not engine.pending:
            return
        if not engine.pending:
            raise RuntimeError(f"no forward pass on {engine.pipeline.rank_text} is awaiting an error")
        tokens = engine.receive_error()
        if tokens:
            torch.autograd.backward(tokens, [torch.empty_like(token) for token in tokens])

    def alignment(
        self,
        closure: Callable[[], torch.Tensor],
        *,
        of: Literal["parameters", "outputs"] = "parameters",
        method: Method | None = None,
    ) -> dict[str, float]:
        """Return the cosine between each block's gradients from feedback and those from backpropagation.

        Parameters
        ----------
        closure : callable
            Runs the model and returns the loss, as in ``lambda: criterion(model(x), y)``. It is called twice, with the
            same random numbers. Buffers (running means) and gradients stay as they were.
        of : {"parameters", "outputs"}
            Compare the gradients of the block's parameters, all as one vector, or those at the block's output.
        method : {"odfa", "dfa", "fitted"}, optional
            The method to compare; by default the feedback's.

        Returns
        -------
        dict of str to float
            The cosine for each block name; nan if a gradient is 0.

        Raises
        ------
        ValueError
            If the method gives the blocks no feedback.
        """
        return alignment(self._engine, closure, of, self._feeding(method))

    def check(self, closure: Callable[[], torch.Tensor]) -> Check:
        """Check on one batch that every block receives the right feedback.

        The check compares 32 elements of each block's feedback (all, if it has fewer) with an independent calculation
        from the entries of the matrix. It also checks that no block receives the gradient of backpropagation, that no
        block's gradient flows into another block, and that the layers above the last block have their true gradient.
        Differences may be up to 1e-4 of the largest element in float32, 1e-9 in float64 (1e-4 for the ensemble
        ``"structured"``) and 2e-2 in half precision. The camera is ignored.

        Parameters
        ----------
        closure : callable
            As for :meth:`alignment`.

        Returns
        -------
        Check
            The result, which can be printed.

        Raises
        ------
        RuntimeError
            If a check fails. The message names the block or the parameter.
        ValueError
            If the method gives the blocks no feedback.
        """
        return check(self._engine, closure, self._feeding(None))

    def tune(
        self,
        loss: Callable[[Any], torch.Tensor],
        batches: Iterable[Any],
        optimizer: torch.optim.Optimizer,
        *,
        steps: int = 300,
        seconds: float | None = None,
        held_out: Iterable[Any] | None = None,
        measure: Callable[[Any], Any] | None = None,
        method: Literal["odfa", "dfa"] | None = None,
        progress: bool = True,
    ) -> Advice:
        """Search for good learning rates and a good ternary rule by short trainings on your own batches.

        Each trial trains the model for some steps from its present state and then measures it on held-out batches. The
        rate of the blocks and that of the top are tuned separately, and so are the rates of shallow training and of
        backpropagation, with which the result is compared. If the method does not beat shallow training, the result
        says what the trials show of the reason.

        Nothing changes before :meth:`Advice.apply`: parameters, buffers, gradients, the optimizer, the random number
        generators of PyTorch, NumPy and Python, the modes of modules, and this feedback's counts are afterwards as they
        were, bit for bit, also after an error or an interruption (Ctrl-C). Attributes of modules that are neither
        parameters nor buffers are not restored.

        Parameters
        ----------
        loss : callable
            Runs the model on one batch and returns the loss, as in ``lambda batch: criterion(model(batch[0]),
            batch[1])``.
        batches : iterable
            Batches of any type, such as a list or a DataLoader; at most 5/4 `steps` of them are read and kept in
            memory. Trials repeat them if there are fewer.
        optimizer : torch.optim.Optimizer
            Your optimizer for the parameters of the whole model. The search starts at its learning rates. Each trial
            uses a copy with the same settings and state.
        steps : int, default 300
            The steps of each trial. There are about 25 trials. The more steps, the more the advice holds for a long
            training.
        seconds : float, optional
            No trial starts after this time, except the first by shallow training and the first by the method. By
            default the search is not limited.
        held_out : iterable, optional
            The batches to measure on. By default every fifth of `batches`, which is then not trained on.
        measure : callable, optional
            Returns a number for one held-out batch that is larger for a better model, such as the accuracy. By default
            the loss is compared, of which less is better. Measured in evaluation mode without gradients.
        method : {"odfa", "dfa"}, optional
            The method to tune; by default the feedback's.
        progress : bool, default True
            Show a bar on standard error.

        Returns
        -------
        Advice
            The result, which can be printed; its method ``apply`` uses it.

        Raises
        ------
        ValueError
            If the method is neither ``"odfa"`` nor ``"dfa"``, if there are fewer than two batches, or if the optimizer
            lacks the parameters of the blocks or those above them.
        RuntimeError
            If the model is divided over ranks: tune it in one process.

        Notes
        -----
        If several processes train replicas, let one of them tune before the model is wrapped, and pass its rates on:
        each process would find rates of its own.
        """
        feeding = self._feeding(method)
        if feeding == "fitted":
            raise ValueError("method is 'fitted', but only 'odfa' and 'dfa' are tuned: pass one of them")
        return tune(
            self._engine,
            loss,
            batches,
            optimizer,
            method=feeding,
            steps=steps,
            seconds=seconds,
            held_out=held_out,
            measure=measure,
            progress=progress,
        )

    def hardware_report(self, generation: Generation = LIGHTON) -> HardwareReport:
        """Return the cost of all projections since the feedback was attached on an optical processing unit.

        Every ternary error (method ``"odfa"``) takes the four frames of a linear projection to the rows of all blocks,
        times the `frames` of the :attr:`camera` at that time. This is also the cost for mode ``"real"`` and for the
        ensemble ``"structured"``, which no device has: it would project by its own matrix to as many rows. The hardware
        cannot project float errors (``"dfa"``): the report leaves them out and gives their number. It also leaves out
        the rest of a training step, which a host computes in either case.

        Parameters
        ----------
        generation : Generation, default opuproj.hardware.LIGHTON
            The device.

        Returns
        -------
        HardwareReport
            Frames, seconds and joules on the device, and seconds here. It can be printed.

        Raises
        ------
        RuntimeError
            If no error has been projected yet.
        ValueError
            If an error has more elements than the device can show at once.
        """
        return report(self._engine.projected, self._engine.matrix.n_anchor, generation)

    def state_dict(self) -> dict[str, Any]:
        """Return the state from which a training can resume: plain numbers and names, and the fitted matrices if any.

        Raises
        ------
        TypeError
            If :attr:`ternarize` has a custom rule, which a state cannot hold.
        """
        engine = self._engine
        layout = engine.layout
        return {
            **self._compared(),
            "method": self.method,
            "batch_axes": layout.batch_axes if layout else engine.axes.batch_axes,
            "batch_dims": list(layout.batch_dims) if layout else None,
            "widths": list(layout.widths) if layout else None,
            "ternarize": _settings_state.ternarize_state(self.ternarize),
            "camera": _settings_state.camera_state(self.camera),
            "passes": engine.passes(),
            "fitting": asdict(self.fitting),
            "fitted": engine.fitted.state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a saved feedback: method, ternary rule, camera, rows, count of passes, fitted matrices.

        Values that the state of an earlier version lacks stay as they are.

        Raises
        ------
        ValueError
            If the saved feedback was attached with other arguments (seed, mode, ensemble, blocks, output, gains,
            anchor), so that training would not continue as before, or if the state is not that of a feedback.
        """
        engine = self._engine
        state = {"mode": "linear", "ensemble": "gaussian", **state}
        mine = self._compared()
        missing = [name for name in (*mine, "method", "batch_axes", "widths") if name not in state]
        if missing:
            raise ValueError(f"the state has no {missing[0]!r}: it is not that of a Feedback")
        if engine.is_pipelined and state["widths"] is not None:
            self._load_whole(state)
            mine = self._compared()
        for name, value in mine.items():
            if state[name] != value:
                raise ValueError(f"the saved feedback has {name} {state[name]!r}, but this one has {value!r}")
        method = checked_method(state["method"], pipelined=engine.is_pipelined)
        ternarize, camera = self.ternarize, self.camera
        if "ternarize" in state:
            ternarize = _settings_state.ternarize_from_state(state["ternarize"])
        if "camera" in state:
            camera = camera_for(_settings_state.camera_from_state(state["camera"]), self.mode, self.ensemble)
        fitting = checked_fitting(Fitting(**state["fitting"]) if "fitting" in state else self.fitting)
        passes = _check.integer("passes of the state", state.get("passes", engine.passes()), 0, 2**63 - 1)
        if state["widths"] is not None:
            engine.set_layout(self._layout_of(state), engine.all_gains)
        engine.fitted.load(state.get("fitted"), {name: len(rows) for name, rows in engine.rows.items()})
        engine.settings.fitting = fitting
        engine.settings.method, engine.settings.ternarize, engine.settings.camera = method, ternarize, camera
        engine.restart(passes)

    def _layout_of(self, state: Mapping[str, Any]) -> Layout:
        """Return the layout of a state; check it against the blocks and the user's batch_axes."""
        n_blocks = len(self._engine.all_gains)
        axes = _check.integer("batch_axes of the state", state["batch_axes"], 1, 64)
        wanted = self._engine.axes.batch_axes
        if wanted is not None and axes != wanted:
            raise ValueError(f"the saved feedback has batch_axes {axes}, but this one has {wanted}")
        widths = [_check.integer("a width of the state", width, 0, 2**63 - 1) for width in state["widths"]]
        dims = state.get("batch_dims") or [0] * (n_blocks + 1)
        dims = [_check.integer("a batch_dim of the state", dim, 0, 63) for dim in dims]
        if len(widths) != n_blocks or len(dims) != n_blocks + 1:
            raise ValueError(
                f"the state has {len(widths)} widths and {len(dims)} batch_dims, but must have {n_blocks} and "
                f"{n_blocks + 1} for {n_blocks} blocks and the error"
            )
        return Layout(axes, tuple(widths), tuple(dims))

    def _compared(self) -> dict[str, Any]:
        """Return the values that must be equal in a state and in this feedback."""
        engine = self._engine
        return {
            "version": 1,
            "seed": self.seed,
            "mode": self.mode,
            "ensemble": self.ensemble,
            "blocks": list(engine.all_gains),
            "output": engine.all_output,
            "gains": dict(engine.all_gains),
            # Versions without modes compare the anchor, so None makes them refuse the state of a matrix they lack.
            "n_anchor": engine.matrix.n_anchor if self.mode == "linear" else None,
        }

    def _load_whole(self, state: Mapping[str, Any]) -> None:
        """Load the blocks of other ranks from the state of the whole model."""
        engine = self._engine
        own = {name: gain for name, gain in state["gains"].items() if name in self.blocks}
        if list(own.items()) != list(self.gains.items()):
            raise ValueError(f"the saved feedback has gains {own} here, but this one has {self.gains}")
        engine.all_gains = dict(state["gains"])
        engine.all_output = self.output if engine.takes_error else state["output"]

    def _before_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Raise RuntimeError for a step that would change blocks before any error reached them."""
        if self._hooks.removed:
            return
        engine = self._engine
        guard = engine.step_guard
        counted = guard.n_passes > 0
        feeding = self.method in FEEDING
        blocks, why = guard.blocks_without_error(optimizer, engine.trained, feeding=feeding)
        if counted and guard.n_passes == 0:
            engine.pending.clear()
        if not blocks:
            return
        if not why and engine.takes_error:
            why = f"the loss does not depend on {engine.where}, or backward was not called"
        raise RuntimeError(
            f"an optimizer is about to change blocks {', '.join(map(repr, blocks))}, but no error reached them: "
            + (why or "the feedback's backward was not called")
        )

    def _feeding(self, method: Method | None) -> Method:
        if self._engine.is_pipelined:
            raise RuntimeError("the model is divided over the ranks of process_group: diagnose it in one process")
        method = self.method if method is None else method
        if method not in FEEDING:
            raise ValueError(
                f"method is {method!r}, but only {', '.join(map(repr, FEEDING))} have feedback: pass or set one of them"
            )
        return method

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        _optimizers.observe(self)  # no effect if the hooks were removed


def checked_method(value: Any, *, pipelined: bool) -> Method:
    """Return a method, or raise ValueError."""
    if not isinstance(value, str) or value not in METHODS:
        raise ValueError(f"method is {value!r}, but must be one of {', '.join(map(repr, METHODS))}")
    if value in ("bp", "fitted") and pipelined:
        raise ValueError(f"method is {value!r}, but the ranks of process_group exchange no gradients")
    return value


def checked_mode(value: Any) -> MatrixMode:
    """Return the mode of a random matrix, or raise ValueError."""
    if not isinstance(value, str) or value not in _MATRIX_MODES:
        raise ValueError(f"mode is {value!r}, but must be one of {', '.join(map(repr, _MATRIX_MODES))}")
    return value


def checked_ternarize(value: Any) -> Ternarize:
    """Return a Ternarize, or raise TypeError."""
    if isinstance(value, str) and value == "auto":
        return Ternarize(Dither("auto"))
    if not isinstance(value, Ternarize):
        raise TypeError(f'ternarize is {value!r}, but must be an opuproj.dfa.Ternarize or "auto"')
    return value


def checked_fitting(value: Any) -> Fitting:
    """Return a Fitting, or raise TypeError."""
    if not isinstance(value, Fitting):
        raise TypeError(f"fitting is {value!r}, but must be an opuproj.dfa.Fitting")
    return value


def camera_for(camera: Any, mode: MatrixMode, ensemble: Ensemble) -> Camera | None:
    """Return a camera that the matrix supports, or raise ValueError or TypeError."""
    refuse_camera(camera, mode, ensemble)
    return checked_camera(camera)
