"""Computes the feedback: bookkeeping of forward passes, and the projection of their errors."""

from __future__ import annotations

import functools
import math
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, cast

import torch

from .._spec import Spec
from ..camera import Camera
from ..projector import Projector
from ..torch import Ternarize
from ..torch._state import noise_for
from ._calls import backward_number, in_backward
from ._error import Error, FloatError, TernaryError, float_error, has_backend, is_captured, is_on_gpu, moved
from ._fitted import MOST_INPUTS, FittedMatrices
from ._groups import most_blocks, most_bytes, output_bytes, parameter_bytes
from ._layout import OUTPUT, Axes, Layout, as_vectors, from_vectors
from ._pass import Method, Pass, Record, Waiting
from ._passes import PassNumbers
from ._pipeline import Pipeline
from ._projection import bytes_a_row, project, project_by
from ._statistics import NonzeroCounts, Statistics
from ._step_guard import StepGuard
from ._ternary import ErrorTernarizer, ternary_reference
from ._trained import TrainedParameters, nothing_above
from .fitting import Fitting
from .hardware_report import Projected


@dataclass
class Settings:
    """Settings that a user may change at any time."""

    method: Method
    ternarize: Ternarize
    camera: Camera | None
    fitting: Fitting


@dataclass
class Recording:
    """The passes that a diagnosis runs in this thread, and their method."""

    engine: Engine
    method: Method
    exact: bool
    passes: list[Pass] = field(default_factory=list)


_recording: ContextVar[Recording | None] = ContextVar("opuproj.dfa: a diagnosis", default=None)


class Engine:
    """Implements :class:`._hooks.Callbacks` for a model.

    Attributes
    ----------
    settings : Settings
        The settings, which apply from the next forward pass on.
    matrix : Spec
        The matrix whose rows the blocks share; its shape and dtype follow the error.
    threads : int or None
        The threads that multiply by the matrix.
    blocks : tuple of str
        The names of the blocks on this rank, in the order of their rows.
    gains : dict of str to float
        Each block's gain.
    feed_all : frozenset of str
        Blocks whose outputs all receive feedback.
    axes : Axes
        The user's arguments about the axes that count vectors.
    scaler : GradScaler or None
        The scaler by whose scale errors are divided before they are made ternary.
    rank : int or None
        The number of this replica of the model; None for the rank of torch.distributed.
    rows : dict of str to range
        The rows of T of each block on this rank; empty before the first pass.
    fitted : FittedMatrices
        The matrices of method "fitted".
    all_gains, all_output
        The gains and the output of the whole model, once its ranks have exchanged them.
    n_passes : int
        The number of passes that need an error, without those of a replayed CUDA graph.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        blocks: dict[str, torch.nn.Module],
        output: str,
        settings: Settings,
        matrix: Spec,
        *,
        threads: int | None,
        gains: dict[str, float],
        feed_all: frozenset[str],
        axes: Axes,
        scaler: Any,
        rank: int | None,
        pipeline: Pipeline | None,
    ) -> None:
        self.model, self.blocks, self.output = model, tuple(blocks), output
        self.settings, self.matrix, self.threads, self.gains = settings, matrix, threads, gains
        self.feed_all, self.axes, self.scaler, self.rank, self.pipeline = feed_all, axes, scaler, rank, pipeline
        self._layout: Layout | None = None
        self._diagnosis: Recording | None = None
        self.all_gains, self.all_output = dict(gains), output
        self.rows: dict[str, range] = {}
        self._batch_dims: dict[str, int] = {}
        self._parameter_bytes = 0
        self.n_passes = 0
        self.pending: dict[int, Pass] = {}  # passes on this rank whose error has not come yet
        self._statistics, self.projected = Statistics(), Projected()
        self._counted, self._numbers = NonzeroCounts(), PassNumbers()
        self._warned_of_missed_gradient = False
        self._ternarizer = ErrorTernarizer(matrix.seed)
        self.fitted = FittedMatrices(self._first_matrix)
        self._fitting_backward = -1  # the latest backward pass to whose gradients matrices were fitted
        self.trained, self.step_guard = TrainedParameters(), StepGuard(model, blocks)
        self._lock = threading.Lock()

    # Called by the hooks in a forward pass

    @property
    def is_pipelined(self) -> bool:
        """Whether each rank of a process group has a part of the model."""
        return self.pipeline is not None

    @property
    def takes_error(self) -> bool:
        """Whether the error is taken on this rank."""
        return self.pipeline is None or self.pipeline.is_last

    @property
    def where(self) -> str:
        """Where the error is taken, for messages."""
        return f"the output of {self.output!r}" if self.output else "the model's output"

    def _recorded(self) -> Recording | None:
        recording = _recording.get()
        return recording if recording is not None and recording.engine is self else None

    def current_method(self) -> Method:
        """Return the training method of a pass that begins now."""
        recording = self._recorded()
        if recording is None and in_backward():  # a checkpoint recomputes in a device's thread, without the context
            recording = self._diagnosis
        method = self.settings.method if recording is None else recording.method
        # A checkpoint recomputes a block as it was: in a pass by backpropagation it was not detached.
        return "bp" if method == "fitted" and in_backward() and backward_number() == self._fitting_backward else method

    def new_pass(self) -> Pass | None:
        """Return a new pass, or None if it needs no error."""
        self.step_guard.note_hooks_ran()
        recording, method = self._recorded(), self.current_method()
        if recording is not None:
            return Pass(method, record=Record(recording.exact))
        fits = method == "fitted" and (self.n_passes + 1) % self.settings.fitting.every == 0
        return None if method == "bp" else Pass(method, fits)

    def feeds_all(self, name: str) -> bool:
        """Whether all outputs of a block receive feedback, not only the first."""
        return name in self.feed_all

    def record_pass(self, current: Pass) -> None:
        """Record a pass for the diagnosis that runs it."""
        recording = self._recorded()
        if recording is not None and current.record is not None:
            recording.passes.append(current)

    def await_error(self, current: Pass, output: torch.Tensor | None) -> None:
        """Register a pass whose error will come. `output` is where the error is taken, or None on other ranks."""
        with self._lock:
            current.number = self.n_passes
            if current.record is None:
                self.n_passes += 1
            if output is None:
                self.pending[current.number] = current
            elif self.layout is not None:
                self._check_shapes(output.shape, current)
            elif self.pipeline is None:
                shapes = {name: current.blocks[name].shapes for name in self.blocks}
                self.set_layout(Layout.of(output.shape, shapes, self.axes), self.all_gains)
            # In a pass by backpropagation, a block's graph contains the blocks before it.
            first = not current.fits and self.trained.update(self.model, current, output)
        if first and output is not None and not self.output and nothing_above(self.model, current, output):
            _warn_of_no_top(list(current.blocks)[-1])
        if current.record is None:
            self.step_guard.count_pass()

    @property
    def layout(self) -> Layout | None:
        """The rows of all blocks, and the axes that count vectors; None before the first pass."""
        return self._layout

    def set_layout(self, layout: Layout, gains: dict[str, float]) -> None:
        """Set the layout and the gains of all blocks of the model."""
        self._layout, self.all_gains = layout, gains
        rows = dict(zip(gains, layout.rows, strict=True))
        self.rows = {name: rows[name] for name in self.blocks}
        dims = dict(zip((*gains, OUTPUT), layout.batch_dims, strict=True))
        self._batch_dims = {name: dims[name] for name in (*self.blocks, OUTPUT)}
        self._parameter_bytes = parameter_bytes(self.model)

    def _check_shapes(self, error: Sequence[int], current: Pass) -> None:
        shapes = {name: current.blocks[name].shapes for name in self.blocks}
        widths = {name: len(rows) for name, rows in self.rows.items()}
        axes = self.axes if self.pipeline is None else None
        cast(Layout, self.layout).check_shapes(error, shapes, widths, self._batch_dims, axes)

    def operator(self, n_inputs: int, dtype: Any) -> Projector:
        """Return the operator with the rows of all blocks, for errors of n_inputs elements."""
        if self.layout is None:
            raise RuntimeError("the blocks get their rows of T at the first forward pass: call the model first")
        return Projector._of(self.matrix.with_shape(n_inputs, self.layout.n_rows, dtype), self.threads, None)

    def block_vectors(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """Return an output of a block, or its gradient, as vectors, of shape (n, length)."""
        return as_vectors(tensor, cast(Layout, self.layout).batch_axes, self._batch_dims[name])

    # Called by the nodes of the graph in a backward pass

    def accept_error(self, current: Pass, error: torch.Tensor) -> None:
        """Receive the error of a pass, prepare it for the projection, and send it to the other ranks."""
        with current.lock:
            again, current.backward_reached = current.backward_reached, True
        if again:
            raise RuntimeError(
                f"a second backward pass reached {self.where} of one forward pass, but blocks "
                f"{', '.join(map(repr, self.blocks))} already have their feedback: add the losses and call backward "
                "once"
            )
        if current.record is None:
            self.step_guard.count_error()
        self.trained.warn_of_unfed()
        if self.pipeline is not None and not self.pipeline.agreed:
            self.agree_on_rows(current, error.shape)
        if current.fits:
            self._fitting_backward = backward_number()
            taken = self._error_from(current, error)
            content = cast(FloatError, taken.content)
            current.fit = self.fitted.begin_fit(content.numbers, taken.scale, self.settings.fitting.memory)
            return
        started = perf_counter()
        try:
            taken = self._error_from(current, error)
        except BaseException as reason:
            if self.pipeline is not None:
                self.pipeline.send_failure(reason)
            raise
        if current.method != "fitted":
            self._count(current, taken, perf_counter() - started)
        if self.pipeline is not None:
            self.pipeline.send(taken)
        current.error = taken

    def receive_error(self) -> list[torch.Tensor]:
        """Receive the error of a pass from the last rank; return the tokens from which to start the backward pass."""
        pipeline = cast(Pipeline, self.pipeline)
        if not pipeline.agreed:
            self.agree_on_rows(next(iter(self.pending.values())), None)
        error = pipeline.receive()
        current = self.pending.pop(error.number, None)
        if current is None:
            raise RuntimeError(
                f"{pipeline.rank_text} received the error of pass {error.number}, but is waiting for that of "
                f"{', '.join(map(str, self.pending))}: all ranks must run the same passes in the same order"
            )
        if isinstance(error.content, TernaryError) is not (current.method == "odfa"):
            raise RuntimeError(
                f"method is {current.method!r} on {pipeline.rank_text}, but another on the rank where the error is "
                "taken"
            )
        self._check_shapes(error.shape, current)
        error = moved(error, current.blocks[current.trainable[0]].devices[0])
        self.step_guard.count_error()
        self.trained.warn_of_unfed()
        self._count(current, error, 0.0)
        current.error = error
        tokens = [cast(torch.Tensor, current.blocks[name].token) for name in current.trainable]
        current.forget_graph()
        return tokens

    def agree_on_rows(self, current: Pass, error: Sequence[int] | None) -> None:
        """Agree with the other ranks on the rows of all blocks."""
        by_names = isinstance(self.axes.batch_dim, dict)
        mine = {
            "batch_dims": self.axes.batch_dim if by_names else {},
            "shapes": {name: [tuple(shape) for shape in current.blocks[name].shapes] for name in self.blocks},
            "gains": self.gains,
            "error": None if error is None else tuple(error),
            "output": self.output,
            "alike": {
                "seed": self.matrix.seed,
                "mode": self.matrix.mode,
                "ensemble": self.matrix.ensemble,
                "method": current.method,
                "n_anchor": self.matrix.n_anchor,
                "batch_axes": self.axes.batch_axes,
                "batch_dim": "by names" if by_names else self.axes.batch_dim,
            },
        }
        met = cast(Pipeline, self.pipeline).agree(mine)
        axes = Axes(self.axes.batch_axes, met["batch_dims"]) if by_names else self.axes
        layout = Layout.of(met["error"], met["shapes"], axes)
        if self.layout is not None and (self.layout != layout or list(self.all_gains) != list(met["gains"])):
            raise ValueError(
                f"the saved feedback has blocks {list(self.all_gains)} of widths {self.layout.widths}, but the ranks "
                f"have {list(met['gains'])} of {layout.widths}"
            )
        self.set_layout(layout, met["gains"])
        self.all_output = met["output"]

    def vectors(self, error: torch.Tensor) -> tuple[torch.Tensor, float]:
        """Return an error as vectors, of shape (n, n_inputs), divided by the scaler's scale; and that scale."""
        e = as_vectors(error.detach(), cast(Layout, self.layout).batch_axes, self._batch_dims[OUTPUT])
        scale = 1.0 if self.scaler is None else float(self.scaler.get_scale())
        return (e if scale == 1.0 else e / scale), scale

    def _error_from(self, current: Pass, error: torch.Tensor) -> Error:
        captured = is_captured(error)
        if captured and self.scaler is not None:
            raise RuntimeError(
                "scaler= reads the gradient scaler's scale on the host, so a CUDA graph cannot capture this step: "
                "train in bfloat16, or without a graph"
            )
        e, scale = self.vectors(error)
        record, camera = current.record, self.settings.camera
        if record is not None:
            record.error = error.detach()
            camera = None if record.exact else camera
        content: TernaryError | FloatError
        if current.method == "odfa":
            noise = noise_for(camera)
            if captured and noise is not None:
                raise RuntimeError(
                    "the camera's noise has a seed of the host, so each replay of a CUDA graph would repeat it: set "
                    "feedback.camera = None for the capture, or train without a graph"
                )
            rule, number = self.settings.ternarize, self._number_of(current, e, captured=captured)
            batch, factors = self._ternarizer(e, rule, rank=self._replica(), number=number)
            content = TernaryError(batch, factors, None if noise is None else int(noise))
        elif current.method == "fitted":
            if captured:
                raise RuntimeError(
                    "method 'fitted' has passes of two kinds, so a CUDA graph cannot capture its steps: train without "
                    "a graph"
                )
            if e.shape[1] > MOST_INPUTS:
                raise ValueError(
                    f"an error vector has {e.shape[1]} elements at {self.where}, but method 'fitted' takes at most "
                    f"{MOST_INPUTS}: name a module with a smaller output with output=, or pass batch_axes=2 if each "
                    "position of a sequence has an error of its own"
                )
            content, camera = float_error(e, encoded=False), None
        else:
            content, camera = float_error(e, encoded=self.matrix.ensemble == "gaussian"), None
        return Error(current.number, tuple(error.shape), scale, content, camera)

    def _number_of(self, current: Pass, e: torch.Tensor, *, captured: bool) -> int | torch.Tensor:
        """Return the number of a pass for the ternarizer."""
        if not has_backend(e):
            return current.number
        if captured:
            with self._lock:
                self.n_passes -= 1  # its replays are counted instead
        return self._numbers.of(current.number, e.device, captured=captured)

    def passes(self) -> int:
        """Return the number of passes, with those that a CUDA graph replayed."""
        return self.n_passes + self._numbers.replayed()

    def restart(self, passes: int) -> None:
        """Continue as after this number of passes."""
        self.n_passes = passes
        self._numbers.restart(passes)

    def reference_ternary(self, current: Pass, e: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return t and a for vectors e, by an independent calculation."""
        return ternary_reference(
            e,
            self.settings.ternarize,
            seed=self.matrix.seed,
            rank=self._replica(),
            number=current.number + self._numbers.replayed(),
        )

    def _replica(self) -> int:
        """Return the number of this replica of the model. Replicas use different thresholds."""
        if self.rank is not None:
            return self.rank
        if self.pipeline is not None:
            return int(self.pipeline.ranks.first)
        distributed = torch.distributed
        started = distributed.is_available() and distributed.is_initialized()
        return int(distributed.get_rank()) if started else 0

    def feedback_of(self, current: Pass, name: str) -> list[torch.Tensor]:
        """Return the feedback of a block for each of its outputs, in their shapes and dtypes."""
        with current.lock:
            started = perf_counter()
            if name not in current.ready:
                self._project(current, name)
            feedback = self._read(current, name)
            self._count_seconds(current, perf_counter() - started)
            current.fed.add(name)
            if len(current.fed) == len(current.trainable):
                current.error = None
            if current.record is not None:
                current.record.fed[name] = feedback
            return feedback

    def _project(self, current: Pass, name: str) -> None:
        """Project the error to the rows of a block, and of a few blocks that follow in the backward pass."""
        error = cast(Error, current.error)
        if current.method == "fitted":
            matrix = self.fitted.matrix(name, cast(FloatError, error.content).numbers)
            current.ready[name] = Waiting(error, project_by(matrix, error), range(len(matrix)))
            return
        n_inputs = error.content.shape[1]
        names, rows = self._group(current, name, error)
        dtype = "float64" if error.content.dtype == torch.float64 else "float32"
        projection = project(error, self.operator(n_inputs, dtype).rows(rows.start, rows.stop))
        for one in names:
            mine = self.rows[one]
            current.ready[one] = Waiting(error, projection, range(mine.start - rows.start, mine.stop - rows.start))

    def _first_matrix(self, name: str, errors: torch.Tensor) -> torch.Tensor:
        rows = self.rows[name]
        dtype = "float64" if errors.dtype == torch.float64 else "float32"
        return torch.from_numpy(self.operator(errors.shape[1], dtype).rows(rows.start, rows.stop).matrix())

    def fit_block(self, current: Pass, name: str, gradients: Sequence[torch.Tensor | None]) -> None:
        """Fit a block's matrix of method "fitted" to the gradients of a pass by backpropagation."""
        fit, end = current.fit, current.blocks[name]
        if fit is None:
            return
        vectors = [
            self.block_vectors(name, torch.zeros(shape, device=device) if one is None else one.detach()).to(fit.errors)
            for one, shape, device in zip(gradients, end.shapes, end.devices, strict=True)
        ]
        self.fitted.fit(name, torch.cat(vectors, dim=1), fit)

    def _group(self, current: Pass, name: str, error: Error) -> tuple[list[str], range]:
        """Return `name` and the blocks before it that are projected with it, and their rows, which are consecutive."""
        left = [one for one in current.trainable if one not in current.fed and one not in current.ready]
        names, rows = [name], self.rows[name]
        on_gpu = is_on_gpu(error)
        most = most_blocks(len(current.trainable), on_gpu=on_gpu)
        limit = most_bytes(self._parameter_bytes + output_bytes(current.blocks.values()), on_gpu=on_gpu)
        bytes_each = bytes_a_row(error, self.matrix.components)
        for one in reversed(left[: left.index(name)]):
            other = self.rows[one]
            joined = range(min(rows.start, other.start), max(rows.stop, other.stop))
            too_many = len(names) == most or bytes_each * len(joined) > limit
            if too_many or len(joined) != len(rows) + len(other):
                break
            names.append(one)
            rows = joined
        return names, rows

    def _read(self, current: Pass, name: str) -> list[torch.Tensor]:
        """Read the feedback of a block from a projection, and scale it."""
        waiting, end = current.ready.pop(name), current.blocks[name]
        error, rows = waiting.error, waiting.rows
        factor: Any = error.scale * self.gains[name] / math.sqrt(max(1, len(rows)))
        if isinstance(error.content, TernaryError):
            factor = error.content.factors * factor
        dtype = functools.reduce(torch.promote_types, end.dtypes)
        part = waiting.projection.part(rows.start, rows.stop, factor, end.devices[0], dtype)
        dim, n = self._batch_dims[name], part.shape[0]
        widths = [math.prod(shape) // n if n else 0 for shape in end.shapes]
        parts = [part]
        if len(widths) > 1:
            parts = list(part.split(widths, dim=1) if n else [part.new_empty(shape) for shape in end.shapes])
        return [
            from_vectors(one, shape, dim).to(device, dtype)
            for one, shape, dtype, device in zip(parts, end.shapes, end.dtypes, end.devices, strict=True)
        ]

    def warn_of_missed_gradient(self, gradient: torch.Tensor) -> None:
        """Warn once if a loss has a nonzero gradient that is no part of the error."""
        if not self._warned_of_missed_gradient and bool(gradient.any()):
            self._warned_of_missed_gradient = True
            warnings.warn(
                f"a loss depends on a tensor of {self.where} other than the first, where the error is taken. Its "
                "gradient is no part of the error, so the blocks do not learn from it: name a module with output= on "
                "whose one output all losses depend, or return one tensor",
                stacklevel=2,
            )

    # Counts

    @property
    def statistics(self) -> Statistics:
        """Counts of what was projected, for which this waits for the GPUs."""
        with self._lock:
            self._statistics.nonzeros += self._counted.take()
        return self._statistics

    def _count(self, current: Pass, error: Error, seconds: float) -> None:
        if current.record is not None:
            return
        n, n_inputs = error.content.shape
        with self._lock:
            self._statistics.projections += 1
            self._statistics.vectors += n
            self._statistics.elements += n * n_inputs
            if isinstance(error.content, TernaryError):
                self._counted.add(error.content.batch)
            if not self.takes_error:  # the rank that takes the error reports for all blocks
                pass
            elif isinstance(error.content, TernaryError):
                self.projected.ternary[n_inputs, cast(Layout, self.layout).n_rows, error.camera] += n
            else:
                self.projected.floats += n
        self._count_seconds(current, seconds)

    def _count_seconds(self, current: Pass, seconds: float) -> None:
        if current.record is not None:
            return
        with self._lock:
            self._statistics.seconds += seconds
            if self.takes_error and current.method == "odfa":
                self.projected.seconds += seconds

    # Called by a diagnosis

    @contextmanager
    def recording(self, method: Method, *, exact: bool) -> Iterator[list[Pass]]:
        """Within this context, run this thread's passes by a method, record them, and do not count them."""
        recording = Recording(self, method, exact)
        token, before = _recording.set(recording), self._diagnosis
        self._diagnosis = recording
        try:
            yield recording.passes
        finally:
            self._diagnosis = before
            _recording.reset(token)

    # A copied model has a copy of its feedback, without locks and passes.

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"} | {
            "pending": {},
            "_diagnosis": None,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()


def _warn_of_no_top(last: str) -> None:
    warnings.warn(
        f"no parameter of the model lies above its last block, {last!r}, so none is trained by its true gradient, and "
        "feedback alone does not learn: leave the last layer out of blocks (unless the loss itself has trainable "
        "parameters)",
        stacklevel=2,
    )
