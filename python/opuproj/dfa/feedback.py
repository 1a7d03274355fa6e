"""Feedback attached to a model: what a user holds, and how an error becomes feedback."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Literal, cast

import torch
import torch.distributed as dist

from .. import _structured
from .._check import Ensemble
from ..camera import Camera, checked_camera
from ..hardware import LIGHTON, Generation
from ..projector import Projector
from ..torch import Ternarize
from . import _optimizers, _projection
from ._graph import leaves
from ._hooks import Hooks, feedbacks
from ._layout import Layout
from ._pass import Pass
from ._spread import Error, Spread
from ._ternary import ErrorTernarizer
from .diagnosis import Check, alignment, check
from .hardware_report import HardwareReport, Projected, report

Method = Literal["odfa", "dfa", "bp", "shallow"]
METHODS: tuple[Method, ...] = ("odfa", "dfa", "bp", "shallow")


@dataclass
class Statistics:
    """What was projected since the feedback was attached.

    Attributes
    ----------
    projections : int
        Calls: one a backward pass, for all blocks together.
    vectors : int
        Errors projected.
    elements, nonzeros : int
        Elements of these errors, and how many of them were not 0 after they were made ternary (``"odfa"`` only).
    seconds : float
        The time that making them ternary, projecting and scaling took.
    """

    projections: int = 0
    vectors: int = 0
    elements: int = 0
    nonzeros: int = 0
    seconds: float = 0.0


class Feedback:
    r"""The feedback of a model; :func:`attach` makes one.

    Let e be the error, the gradient of the loss at the model's `output`, as one vector. Block i, whose output has w_i
    elements a vector, is fed at its end

        f_i = gain_i / √w_i · R_i e        for ``"dfa"``,
        f_i = gain_i / √w_i · a R_i t      for ``"odfa"``, where e ≈ a t is made ternary by `ternarize`,

    in place of the gradient, and everything between the end of the block before and its own is trained by
    backpropagation from there. R_1, R_2, … are consecutive, disjoint ranges of rows of one random matrix, of entries of
    mean 0 and variance 1, independent unless the ensemble is ``"structured"``: with a gain of 1, \|\|f_i\|\| is
    \|\|e\|\| on average. What lies
    between the end of the last block and the loss is trained by backpropagation as ever.

    Attributes
    ----------
    method : {"odfa", "dfa", "bp", "shallow"}
        Can be set at any time; it holds from the next forward pass on. ``"shallow"`` trains only what lies above the
        last block, and ``"bp"`` all, as if nothing were attached.
    ternarize : Ternarize
        Can be set at any time.
    camera : Camera or None
        What the projection of the ternary error is recovered through. Can be set at any time.
    seed : int
        Which random matrix.
    ensemble : {"gaussian", "structured"}
        Which random matrices it is one of.
    blocks : tuple of str
        The blocks' names in the model, in the order of their rows.
    output : str
        The name of the module where the error is taken; ``""`` is the model itself.
    gains : dict of str to float
        Each block's gain.
    statistics : Statistics
        What was projected so far.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        blocks: dict[str, torch.nn.Module],
        output: tuple[str, torch.nn.Module],
        *,
        method: Method,
        ternarize: Ternarize,
        seed: int,
        ensemble: Ensemble,
        gains: dict[str, float],
        batch_axes: int | None,
        n_anchor: int,
        camera: Camera | None,
        threads: int | None,
        scaler: Any,
        spread: Spread | None,
    ) -> None:
        self._spread = spread
        self.model = model
        self._modules = blocks
        self.output = output[0]
        self.method = method
        self.ternarize = ternarize
        self.ensemble = ensemble
        self.camera = camera
        self.seed = seed
        self.gains = gains
        self.statistics = Statistics()
        self._projected = Projected()
        self._batch_axes = batch_axes
        self._layout: Layout | None = None
        # Of the whole model, where it is spread over ranks that have told each other.
        self._all_gains, self._all_output = dict(gains), output[0]
        self._pending: dict[int, Pass] = {}  # passes of this rank's part whose error is to come
        self._n_passes = 0
        self._n_anchor, self._threads, self._scaler = n_anchor, threads, scaler
        # What each block trains, by names that copies of the model share: not only what its module holds.
        self._trained: dict[str, frozenset[str]] = {}
        self._dense = _projection.Dense()
        self._recording: list[Pass] | None = None
        self._passes, self._deliveries = 0, 0  # since the last step of an optimizer
        self._removed = False
        self._hooks = Hooks(self)
        self._hooks.register(model, blocks, output[1] if self._at_end else None)
        _optimizers.watch(self)

    # What it is

    @property
    def method(self) -> Method:
        """How the blocks are trained."""
        return self._method

    @method.setter
    def method(self, value: Method) -> None:
        if value not in METHODS:
            raise ValueError(f"method is {value!r}, but must be one of {', '.join(map(repr, METHODS))}")
        if value == "bp" and self._spread is not None:
            raise ValueError("method is 'bp', but no gradients travel between the ranks of process_group")
        self._method = value

    @property
    def ternarize(self) -> Ternarize:
        """How the error is made ternary for ``"odfa"``."""
        return self._ternarize

    @ternarize.setter
    def ternarize(self, value: Ternarize) -> None:
        if not isinstance(value, Ternarize):
            raise TypeError(f"ternarize is {value!r}, but must be an opuproj.dfa.Ternarize")
        self._ternarize = value

    @property
    def camera(self) -> Camera | None:
        """What the projection of the ternary error is recovered through."""
        return self._camera

    @camera.setter
    def camera(self, value: Camera | None) -> None:
        if self.ensemble == "structured":
            _structured.refuse_camera(value)
        self._camera = checked_camera(value)

    @property
    def blocks(self) -> tuple[str, ...]:
        """The blocks' names."""
        return tuple(self._modules)

    @property
    def rows(self) -> dict[str, range]:
        """The rows of T that each block has; empty before the first forward pass, which tells the blocks' widths."""
        if self._layout is None:
            return {}
        rows = dict(zip(self._all_gains, self._layout.rows, strict=True))
        return {name: rows[name] for name in self.blocks}

    def operator(self, n_inputs: int, dtype: Any = "float32") -> Projector:
        """Return the operator whose rows the blocks share, for errors of n_inputs elements a vector.

        It is exact: :attr:`camera` only comes between when feedback is given.

        Raises
        ------
        RuntimeError
            Before the first forward pass.
        """
        if self._layout is None:
            raise RuntimeError("the blocks get their rows of T at the first forward pass: call the model first")
        return Projector(
            n_inputs,
            self._layout.n_rows,
            seed=self.seed,
            mode="linear",
            ensemble=self.ensemble,
            n_anchor=self._n_anchor,
            dtype=dtype,
            threads=self._threads,
        )

    def __repr__(self) -> str:
        head = f"Feedback(method={self.method!r}, seed={self.seed}, error at {self._where()}, {self.ternarize})"
        rows = self.rows
        lines = [
            f"  {name}: rows {rows[name].start} to {rows[name].stop - 1}" if name in rows else f"  {name}"
            for name in self.blocks
        ]
        return "\n".join(
            [head, *lines] if rows else [head, *lines, "  (rows of the matrix: from the first forward pass on)"]
        )

    @property
    def _at_end(self) -> bool:
        return self._spread is None or self._spread.at_end

    def _where(self) -> str:
        return f"the output of {self.output!r}" if self.output else "the model's output"

    # What a user does with it

    @staticmethod
    def of(model: torch.nn.Module) -> Feedback | None:
        """Return the feedback that is attached to a model, that of a copied one for instance.

        Parameters
        ----------
        model : Module
            The whole model, as it was given to :func:`attach`, or a copy of it.

        Returns
        -------
        Feedback or None
            None where nothing is attached, or was removed.
        """
        return next((feedback for feedback in feedbacks(model) if feedback.model is model), None)

    def remove(self) -> None:
        """Take all hooks off the model: it is as it was before. A second call does nothing."""
        self._hooks.remove()
        _optimizers.unwatch(self)
        self._removed, self._hooks.current = True, None

    def backward(self) -> None:
        """Receive the error of a pass, and train this rank's blocks from it, in place of ``loss.backward()``.

        For the ranks of `process_group` on which there is no loss: once for each time that the last rank calls
        ``loss.backward()``, be it for the latest pass or an earlier one.

        Raises
        ------
        RuntimeError
            If the loss is on this rank, the model's part has not run, or no error comes.
        """
        if self._spread is None or self._at_end:
            raise RuntimeError("the error is taken on this rank: call loss.backward()")
        if self.method == "shallow" and not self._pending:
            return
        if not self._pending:
            raise RuntimeError(f"{self._spread.here} has run its part of the model for no error that is to come")
        if not self._spread.met:
            self._meet(next(iter(self._pending.values())), None)
        error = self._spread.receive()
        current = self._pending.pop(error.number, None)
        if current is None:
            raise RuntimeError(
                f"the error of pass {error.number} came, but {self._spread.here} is waiting for that of "
                f"{', '.join(map(str, self._pending))}: all ranks must run their parts as often, in the same order"
            )
        ternary = isinstance(error.content, _projection.TernaryError)
        if ternary is not (current.method == "odfa"):
            raise RuntimeError(f"method is {current.method!r} on {self._spread.here}, but another where the error is")
        self._fits(error.shape, current)
        self._deliveries += 1
        fed = self._fed(current, error, 0.0)
        if fed:
            torch.autograd.backward(list(current.ends.values()), fed)

    def alignment(
        self,
        closure: Callable[[], torch.Tensor],
        *,
        of: Literal["parameters", "outputs"] = "parameters",
        method: Method | None = None,
    ) -> dict[str, float]:
        """Return the cosine between what each block is given and what backpropagation would give it.

        Parameters
        ----------
        closure : callable
            Runs the model and returns the loss, as in ``lambda: criterion(model(x), y)``. It is called twice, with the
            same random numbers; buffers (running means) and gradients are left as they were.
        of : {"parameters", "outputs"}
            Compare the gradients of the block's parameters, all as one vector, or those at the block's end.
        method : {"odfa", "dfa"}, optional
            By default that of the feedback.

        Returns
        -------
        dict of str to float
            By the blocks' names; nan where a gradient is 0.

        Raises
        ------
        ValueError
            If the method is neither ``"odfa"`` nor ``"dfa"``.
        """
        return alignment(self, closure, of, self._feeding(method))

    def check(self, closure: Callable[[], torch.Tensor]) -> Check:
        """Show on a batch that feedback is what it should be.

        That is: every block receives its projection of the error, as an independent calculation with the entries of the
        matrix gives it for 32 outputs of the block (all, if it has fewer), and not the gradient that backpropagation
        would bring; no block's gradient comes through another; and what lies above the last block has its true
        gradient. Differences may be 1e-4 of the largest element in float32, 1e-9 in float64 (1e-4 for feedback of the
        ensemble ``"structured"``) and 2e-2 in half precision. A camera is taken off meanwhile.

        Parameters
        ----------
        closure : callable
            As for :meth:`alignment`.

        Returns
        -------
        Check
            What was found, to be printed.

        Raises
        ------
        RuntimeError
            If any of it is not so, with the name of the block or of the parameter.
        ValueError
            If the method is neither ``"odfa"`` nor ``"dfa"``.
        """
        return check(self, closure, self._feeding(None))

    def hardware_report(self, generation: Generation = LIGHTON) -> HardwareReport:
        """Return what the projections since the feedback was attached would have cost on an optical processing unit.

        Every ternary error (method ``"odfa"``) takes the four frames of a linear projection to the rows of all blocks,
        times the `frames` of the :attr:`camera` that there was. Errors of floats (``"dfa"``) are not what the hardware
        takes: they are left out, and counted. So is everything else of a training step, which a host does either way.

        Parameters
        ----------
        generation : Generation, default opuproj.hardware.LIGHTON
            The device.

        Returns
        -------
        HardwareReport
            Frames, seconds and joules there, and seconds here, to be printed.

        Raises
        ------
        RuntimeError
            If no error has been projected yet.
        ValueError
            If an error has more elements than the device can show at once.
        """
        return report(self._projected, self._n_anchor, generation)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training must have in common with this one: plain numbers and names."""
        layout = self._layout
        return {
            "version": 1,
            "method": self.method,
            "seed": self.seed,
            "ensemble": self.ensemble,
            "blocks": list(self._all_gains),
            "output": self._all_output,
            "gains": dict(self._all_gains),
            "n_anchor": self._n_anchor,
            "batch_axes": layout.batch_axes if layout else self._batch_axes,
            "widths": list(layout.widths) if layout else None,
            "passes": self._n_passes,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take on the method, the rows and the number of passes of a saved feedback.

        Raises
        ------
        ValueError
            If it was attached otherwise (seed, blocks, output, gains, anchor), so that training would not go on as it
            was, or the state is none of a feedback.
        """
        state = {"ensemble": "gaussian", "passes": 0, **state}  # what was saved before there were others
        missing = [name for name in self.state_dict() if name not in state]
        if missing:
            raise ValueError(f"the state has no {missing[0]!r}: it is not that of a Feedback")
        if self._spread is not None and state["widths"] is not None:
            self._load_whole(state)
        mine = self.state_dict()
        for name in ("version", "seed", "ensemble", "blocks", "output", "gains", "n_anchor"):
            if state[name] != mine[name]:
                raise ValueError(f"the saved feedback has {name} {state[name]!r}, but this one has {mine[name]!r}")
        self.method, self._n_passes = state["method"], state["passes"]
        if state["widths"] is not None:
            self._layout = Layout(state["batch_axes"], tuple(state["widths"]))

    def _load_whole(self, state: Mapping[str, Any]) -> None:
        """Take on what the blocks of other ranks are, from the state of the whole model."""
        own = {name: gain for name, gain in state["gains"].items() if name in self._modules}
        if list(own.items()) != list(self.gains.items()):
            raise ValueError(f"the saved feedback has gains {own} here, but this one has {self.gains}")
        self._all_gains = dict(state["gains"])
        self._all_output = self.output if self._at_end else state["output"]

    # What the hooks ask for in a forward pass

    def _expect(self, current: Pass, output: torch.Tensor | None) -> None:
        """Take in a pass whose error is to come; `output` is where it is taken, if that is on this rank."""
        current.number, self._n_passes = self._n_passes, self._n_passes + 1
        if output is None:
            self._pending[current.number] = current
        elif self._layout is not None:
            self._fits(output.shape, current)
        elif self._spread is None:
            shapes = {name: current.shapes[name] for name in self.blocks}
            self._layout = Layout.of(output.shape, shapes, self._batch_axes)
        self._look(current, output)
        current.trainable = tuple(current.ends)
        self._passes += 1

    def _look(self, current: Pass, output: torch.Tensor | None) -> None:
        """Keep which parameters each block trains, once, and warn if nothing is left above the blocks."""
        if self._trained or not current.ends:
            return
        names = {id(p): name for name, p in self.model.named_parameters()}
        self._trained = {
            name: frozenset(names[id(p)] for p in leaves(end) if id(p) in names) for name, end in current.ends.items()
        }
        if output is None or self.output or any(id(p) in names for p in leaves(output, current.ends.values())):
            return
        warnings.warn(
            f"no parameter of the model lies above its last block, {list(current.ends)[-1]!r}, so none is trained by "
            "its true gradient, and feedback alone does not learn: leave the last layer out of blocks (unless the loss "
            "itself has parameters to train)",
            stacklevel=2,
        )

    def _fits(self, error: Sequence[int], current: Pass) -> None:
        """Raise ValueError if the shapes of a later pass do not fit the rows that the first one was given."""
        widths = tuple(len(rows) for rows in self.rows.values())
        shapes = {name: current.shapes[name] for name in self.blocks}
        Layout(cast(Layout, self._layout).batch_axes, widths).fits(error, shapes)

    # What happens in a backward pass

    def _replica(self) -> int:
        """Return a number of this replica of the model: the first of its ranks, 0 in a single process."""
        if not dist.is_available() or not dist.is_initialized():
            return 0
        return int(dist.get_rank() if self._spread is None else dist.get_global_rank(self._spread.ranks.group, 0))

    def _feed(self, current: Pass, error: torch.Tensor) -> list[torch.Tensor]:
        """Return the feedback of each block that trains, in its output's shape and dtype."""
        if current.delivered:
            raise RuntimeError(
                f"a second backward pass reached the error at {self._where()} of one forward pass, but "
                f"blocks {', '.join(map(repr, self.blocks))} had their feedback already: add the losses and call "
                "backward once"
            )
        current.delivered = True
        self._deliveries += 1
        if current.recorded:
            current.error = error.detach()
        if self._spread is not None and not self._spread.met:
            self._meet(current, error.shape)
        started = perf_counter()
        try:
            taken = self._taken(current, error)
        except BaseException as reason:
            if self._spread is not None:
                self._spread.refuse(reason)
            raise
        seconds = perf_counter() - started
        if self._spread is not None:
            self._spread.send(taken)
        return self._fed(current, taken, seconds)

    def _meet(self, current: Pass, error: torch.Size | None) -> None:
        """Agree with the other ranks on the rows of all blocks."""
        mine = {
            "shapes": {name: tuple(current.shapes[name]) for name in self.blocks},
            "gains": self.gains,
            "error": None if error is None else tuple(error),
            "output": self.output,
            "alike": {
                "seed": self.seed,
                "method": current.method,
                "n_anchor": self._n_anchor,
                "batch_axes": self._batch_axes,
            },
        }
        met = cast(Spread, self._spread).meet(mine)
        layout = Layout.of(met["error"], met["shapes"], self._batch_axes)
        if self._layout is not None and (self._layout != layout or list(self._all_gains) != list(met["gains"])):
            raise ValueError(
                f"the saved feedback has blocks {list(self._all_gains)} of widths {self._layout.widths}, but the ranks "
                f"have {list(met['gains'])} of {layout.widths}"
            )
        self._layout, self._all_gains, self._all_output = layout, met["gains"], met["output"]

    def _taken(self, current: Pass, error: torch.Tensor) -> Error:
        """Return an error as it is projected."""
        e, scale = self._vectors(error)
        content: _projection.TernaryError | torch.Tensor
        if current.method == "odfa":
            done = ErrorTernarizer(self.seed)(e, self.ternarize, rank=self._replica(), number=current.number)
            content = _projection.made_ternary(done, self.camera)
        else:
            content = e if e.dtype == torch.float64 else e.to(torch.float32)
        return Error(current.number, tuple(error.shape), scale, content, self.camera)

    def _fed(self, current: Pass, error: Error, seconds: float) -> list[torch.Tensor]:
        """Project an error on the rows of this rank's blocks; `seconds` is what was spent on it before."""
        started = perf_counter()
        content, own = error.content, list(self.rows.values())
        first, last = (own[0].start, own[-1].stop) if own else (0, 0)
        n, n_inputs = content.shape
        ternary = isinstance(content, _projection.TernaryError)
        a: torch.Tensor | None = None
        if isinstance(content, _projection.TernaryError):
            a = content.factors
            operator = self.operator(n_inputs, "float64" if a.dtype == torch.float64 else "float32")
            projected = _projection.ternary(content, operator.rows(first, last), error.camera)
            self.statistics.nonzeros += content.batch.nnz
        else:
            operator = self.operator(n_inputs, "float64" if content.dtype == torch.float64 else "float32")
            projected = self._dense(content, operator, own)
        fed = []
        for name, rows in self.rows.items():
            if name in current.trainable:
                part = projected[:, rows.start - first : rows.stop - first].to(current.devices[name])
                factor = error.scale * self.gains[name] / math.sqrt(max(1, len(rows)))
                part *= factor if a is None else a.to(part.device) * factor
                fed.append(part.reshape(current.shapes[name]).to(current.dtypes[name]))
        self.statistics.projections += 1
        self.statistics.vectors += n
        self.statistics.elements += n * n_inputs
        seconds += perf_counter() - started
        self.statistics.seconds += seconds
        if not self._at_end:  # the device that a report is of has one error, and all blocks' rows
            pass
        elif ternary:
            self._projected.ternary[n_inputs, operator.n_outputs, error.camera] += n
            self._projected.seconds += seconds
        else:
            self._projected.floats += n
        return fed

    def _vectors(self, error: torch.Tensor) -> tuple[torch.Tensor, float]:
        """Return an error as vectors, of shape (n, n_inputs), without the scale of the scaler, and that scale."""
        axes = cast(Layout, self._layout).batch_axes
        e = error.detach().reshape(math.prod(error.shape[:axes]), math.prod(error.shape[axes:]))
        scale = 1.0 if self._scaler is None else float(self._scaler.get_scale())
        return (e if scale == 1.0 else e / scale), scale

    def _before_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Refuse a step that would change blocks which a forward pass was made for, but no backward pass reached."""
        if self._passes == 0:
            self._deliveries = 0  # of a pass whose step was refused: they are not the next one's
            return
        stepped = self._stepped({id(p) for group in optimizer.param_groups for p in group["params"]})
        if not stepped:
            return
        deliveries = self._deliveries
        self._passes = self._deliveries = 0
        self._pending.clear()
        if not deliveries and self.method in ("odfa", "dfa"):
            raise RuntimeError(
                f"an optimizer is about to change blocks {', '.join(map(repr, stepped))}, but no error reached them: "
                + (
                    f"the loss does not depend on {self._where()}, or backward was not called"
                    if self._at_end
                    else "the feedback's backward was not called"
                )
            )

    def _stepped(self, parameters: set[int]) -> list[str]:
        """Return the blocks that train some of the parameters with these ids."""
        named = {name for name, p in self.model.named_parameters() if id(p) in parameters}
        return [
            name
            for name, block in self._modules.items()
            if not named.isdisjoint(self._trained.get(name, ())) or any(id(p) in parameters for p in block.parameters())
        ]

    def _feeding(self, method: Method | None) -> Method:
        if self._spread is not None:
            raise RuntimeError("the model is spread over the ranks of process_group: compare them in one process")
        method = self.method if method is None else method
        if method not in ("odfa", "dfa"):
            raise ValueError(f"method is {method!r}, but there is feedback for 'odfa' and 'dfa' only: pass or set one")
        return method

    # Copies of a model take their feedback along; what belongs to one process or one pass stays behind.

    def __getstate__(self) -> dict[str, Any]:
        left_out: dict[str, Any] = {
            "_recording": None,
            "_pending": {},
            "_passes": 0,
            "_deliveries": 0,
            "_dense": _projection.Dense(),
        }
        return {**self.__dict__, **left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update({"ensemble": "gaussian", "_trained": {}, **state})
        if not self._removed:
            _optimizers.watch(self)
