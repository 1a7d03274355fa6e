"""Diagnoses that compare a pass with feedback to the same pass by backpropagation."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

import numpy as np
import torch

from ._engine import Engine
from ._graph import leaves, nodes
from ._pass import Method, Pass, Record

Closure: TypeAlias = Callable[[], torch.Tensor]
Gradient: TypeAlias = torch.Tensor | None

# The number of elements of a block's feedback that a check computes from entries of the matrix.
_CHECKED_ROWS = 32
# float32 sums of float errors differ by about 1e-6 of the largest; ternary errors give exact sums, rounded once.
_BOUNDS = {torch.float64: 1e-9, torch.float32: 1e-4}
_HALF_BOUND = 2e-2


@dataclass(frozen=True)
class Check:
    """The result of :meth:`Feedback.check`. ``print`` shows it as text.

    Attributes
    ----------
    method : str
        The training method.
    blocks : dict of str to float
        For each block that trains, the largest difference between the feedback it received and an independent
        calculation of it, relative to the largest element.
    cosines : dict of str to float
        The cosine between the feedback and the gradient that backpropagation computes at the same place.
    top : dict of str to float
        For each parameter above the last block, the largest difference between its gradient and backpropagation's,
        relative to the largest element. 0.0 means equal bit for bit.
    shared : tuple of str
        Parameters that several blocks train, or a block and the layers above the blocks.
    auxiliary : tuple of str
        Blocks whose output has another gradient besides the feedback, such as that of an auxiliary loss.
    unfed : tuple of str
        Parameters that nothing trains: only outputs without feedback depend on them.
    n_sharded : int
        Parameters above the last block that were not compared, because the model does not list them while it runs
        (``fully_shard``).
    """

    method: str
    blocks: dict[str, float]
    cosines: dict[str, float]
    top: dict[str, float]
    shared: tuple[str, ...]
    auxiliary: tuple[str, ...] = ()
    unfed: tuple[str, ...] = ()
    n_sharded: int = 0

    def __str__(self) -> str:
        lines = [f"method {self.method!r}: every block receives its projection of the error"]
        width = max(map(len, [*self.blocks, *self.top, ""]))
        for name, off in self.blocks.items():
            lines.append(f"  {name:<{width}}  off by {off:.0e}, cosine to backpropagation {self.cosines[name]:+.3f}")
        if self.top:
            lines.append("the layers above the last block receive their true gradient")
        elif not self.n_sharded:
            lines.append(
                "no parameter of the model is trained by its true gradient alone: leave the last layer out of blocks"
            )
        if self.n_sharded:
            lines.append(f"{self.n_sharded} sharded parameters above the last block were not compared")
        lines += [
            f"  {name:<{width}}  {f'off by {off:.0e}' if off else 'bit for bit'}" for name, off in self.top.items()
        ]
        if self.shared:
            lines.append(f"trained from several places: {', '.join(self.shared)}")
        if self.auxiliary:
            lines.append(f"with another gradient besides the feedback: {', '.join(self.auxiliary)}")
        if self.unfed:
            lines.append(f"not trained, because their outputs get no feedback: {', '.join(self.unfed)}")
        return "\n".join(lines)


def alignment(
    engine: Engine, closure: Closure, of: Literal["parameters", "outputs"], method: Method
) -> dict[str, float]:
    """Compute :meth:`Feedback.alignment`."""
    if of not in ("parameters", "outputs"):
        raise ValueError(f"of is {of!r}, but must be 'parameters' or 'outputs'")
    with _buffers_restored(engine):
        with _run(engine, closure, method, exact=False) as (loss, current):
            ends = {name: current.blocks[name].tensors for name in current.trainable}
            segments = {name: [p for end in outputs for p in leaves(end)] for name, outputs in ends.items()}
            tensors = list(dict.fromkeys([*_flat(ends), *(p for segment in segments.values() for p in segment)]))
            given = dict(zip(tensors, _gradients(loss, tensors), strict=True))
        with _run(engine, closure, "bp", exact=False) as (loss, current):
            same = _matching_tensors(ends, current)
            gradients = _gradients(loss, [same.get(t, t) for t in tensors])
            true = dict(zip(tensors, gradients, strict=True))
    cosines = {}
    for name, outputs in ends.items():
        picked = segments[name] if of == "parameters" else [end for end in outputs if end.requires_grad]
        cosines[name] = _cosine([given[t] for t in picked], [true[t] for t in picked])
    return cosines


def check(engine: Engine, closure: Closure, method: Method) -> Check:
    """Compute :meth:`Feedback.check`."""
    with _buffers_restored(engine):
        with _run(engine, closure, method, exact=True) as (loss, current):
            record = cast(Record, current.record)
            ends = {name: current.blocks[name].tensors for name in current.trainable}
            _refuse_crossings(ends)
            above = leaves(loss, stop=_flat(ends))
            segments = [{p for end in outputs for p in leaves(end)} for outputs in ends.values()]
            counts = Counter([*above, *(p for segment in segments for p in segment)])
            names = {p: name for name, p in engine.model.named_parameters()}
            top = [p for p in above if counts[p] == 1 and p in names]
            auxiliary = _with_other_gradients(loss, ends)
            tensors = [*_flat(ends), *top]
            given = dict(zip(tensors, _gradients(loss, tensors), strict=True))
        if record.error is None:
            raise RuntimeError(
                "the loss does not depend on the output where the error is taken, so no block is trained"
            )
        with _run(engine, closure, "bp", exact=True) as (loss, backpropagated):
            same = _matching_tensors(ends, backpropagated)
            true = dict(zip(tensors, _gradients(loss, [same.get(t, t) for t in tensors]), strict=True))
        off, cosines = {}, {}
        for name, outputs in ends.items():
            delivered = record.fed.get(name)
            if delivered is None:
                raise RuntimeError(f"block {name!r} received no feedback")
            mine = [
                given[end] if end.requires_grad and name not in auxiliary else part
                for end, part in zip(outputs, delivered, strict=True)
            ]
            theirs = [true.get(end) for end in outputs]
            off[name] = _distance(engine, name, current, mine)
            cosines[name] = _cosine(mine, theirs)
            if method != "fitted":
                _refuse_backpropagation(name, mine, theirs)
    tops = {}
    for p in top:
        tops[names[p]] = _difference(given[p], true[p])
        if not tops[names[p]] <= _BOUNDS.get(p.dtype, _HALF_BOUND):
            raise RuntimeError(
                f"parameter {names[p]!r} lies above the last block, but did not receive its true gradient"
            )
    shared = tuple(names[p] for p, n in counts.items() if n > 1 and p in names)
    n_sharded = sum(isinstance(p, torch.nn.Parameter) and p not in names for p in above)
    return Check(method, off, cosines, tops, shared, auxiliary, engine.trained.unfed, n_sharded)


def _distance(engine: Engine, name: str, current: Pass, given: Sequence[Gradient]) -> float:
    """Compare some elements of a block's feedback with the product of the matrix's entries and the error."""
    record = cast(Record, current.record)
    if any(part is None for part in given) or record.error is None:
        raise RuntimeError(f"block {name!r} received no feedback")
    e, scale = engine.vectors(record.error)
    factor: torch.Tensor | float = 1.0
    error_is_zero = not bool(e.any())
    if current.method == "odfa":
        e, factor = engine.reference_ternary(current, e)
    fed = torch.cat([engine.block_vectors(name, cast(torch.Tensor, part)) for part in given], dim=1).double()
    _refuse_zero_feedback(engine, name, fed, e, error_is_zero)
    rows = engine.rows[name]
    picked = sorted({int(i) for i in np.linspace(0, len(rows) - 1, min(len(rows), _CHECKED_ROWS))})
    if current.method == "fitted":
        matrix = engine.fitted.matrix(name, e.to(torch.float64 if e.dtype == torch.float64 else torch.float32))[picked]
    else:
        matrix = torch.from_numpy(engine.operator(e.shape[1], "float64").matrix(rows=[rows[i] for i in picked]))
    wanted = e.double() @ matrix.to(e.device, torch.float64).T
    wanted *= factor * (scale * engine.gains[name] / math.sqrt(len(rows)))
    off = _difference(fed[:, picked], wanted.to(fed.device))
    # Structured transforms are always computed in float32.
    precision = torch.float32 if engine.matrix.ensemble == "structured" else torch.float64
    bound = max(*(_BOUNDS.get(dtype, _HALF_BOUND) for dtype in current.blocks[name].dtypes), _BOUNDS[precision])
    if not off <= bound:
        raise RuntimeError(f"block {name!r} did not receive its projection of the error: off by {off:.0e}")
    return off


def _refuse_zero_feedback(engine: Engine, name: str, fed: torch.Tensor, e: torch.Tensor, error_is_zero: bool) -> None:
    """Raise RuntimeError if feedback is exactly 0 or not finite, and say why."""
    if not bool(fed.isfinite().all()):
        raise RuntimeError(f"block {name!r} received feedback that is not finite: check the loss and its error")
    if bool(fed.any()):
        return
    if error_is_zero:
        why = "the error is 0 at every vector"
    elif not bool(e.any()):
        why = f"no element of the error exceeds the threshold of {engine.settings.ternarize}"
    elif engine.gains[name] == 0:
        why = "its gain is 0"
    else:
        why = "it underflows the dtype of the block's output"
    raise RuntimeError(f"block {name!r} received feedback that is exactly 0, so it learns nothing: {why}")


def _refuse_backpropagation(name: str, mine: Sequence[Gradient], theirs: Sequence[Gradient]) -> None:
    pairs = [(a, b) for a, b in zip(mine, theirs, strict=True) if a is not None and b is not None]
    if pairs and all(torch.equal(a, b) for a, b in pairs):
        raise RuntimeError(f"block {name!r} received the gradient of backpropagation, not its feedback")


def _with_other_gradients(loss: torch.Tensor, ends: dict[str, tuple[torch.Tensor, ...]]) -> tuple[str, ...]:
    """Return the blocks whose outputs have a gradient besides their feedback."""
    reached = {
        following
        for node in nodes(loss, set())
        if node.name() != "InjectFeedbackBackward"
        for following, _ in node.next_functions
    }
    reached.discard(None)
    return tuple(name for name, outputs in ends.items() if any(end.grad_fn in reached for end in outputs))


@contextmanager
def _run(engine: Engine, closure: Closure, method: Method, *, exact: bool) -> Iterator[tuple[torch.Tensor, Pass]]:
    """Run a pass by a method; yield its loss and the pass, then restore the random number generators."""
    devices = list({p.device for p in engine.model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices), engine.recording(method, exact=exact) as passes:
        with torch.enable_grad():
            loss = closure()
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            raise TypeError(f"closure returned {type(loss).__name__}, but must return the loss, a tensor of one number")
        if len(passes) != 1:
            raise RuntimeError(f"closure ran the model {len(passes)} times with gradients, but must run it once")
        yield loss, passes[0]


@contextmanager
def _buffers_restored(engine: Engine) -> Iterator[None]:
    """Restore the model's buffers at the end."""
    buffers = [(buffer, buffer.clone()) for buffer in engine.model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


def _flat(ends: dict[str, tuple[torch.Tensor, ...]]) -> list[torch.Tensor]:
    """Return the block outputs that need gradients."""
    return [end for outputs in ends.values() for end in outputs if end.requires_grad]


def _matching_tensors(ends: dict[str, tuple[torch.Tensor, ...]], other: Pass) -> dict[torch.Tensor, torch.Tensor]:
    """Map each block output of a pass to the same output of another pass."""
    return {
        mine: theirs
        for name, outputs in ends.items()
        for mine, theirs in zip(outputs, other.blocks[name].tensors, strict=True)
    }


def _gradients(loss: torch.Tensor, tensors: Sequence[torch.Tensor]) -> list[Gradient]:
    return list(torch.autograd.grad(loss, tensors, allow_unused=True))


def _refuse_crossings(ends: dict[str, tuple[torch.Tensor, ...]]) -> None:
    """Raise RuntimeError if the graph of one block's output reaches another block's output."""
    at = {end.grad_fn: name for name, outputs in ends.items() for end in outputs if end.grad_fn is not None}
    for name, outputs in ends.items():
        behind = (node for end in outputs for node in nodes(end, set()))
        other = next((at[node] for node in behind if at.get(node, name) != name), None)
        if other is not None:
            raise RuntimeError(f"the gradient of block {name!r} flows into block {other!r}")


def _cosine(a: Sequence[Gradient], b: Sequence[Gradient]) -> float:
    pairs = [
        (x.double().flatten(), y.double().flatten())
        for x, y in zip(a, b, strict=True)
        if x is not None and y is not None
    ]
    product = sum(float(x @ y) for x, y in pairs)
    norms = [math.sqrt(sum(float(v @ v) for v in side)) for side in zip(*pairs, strict=True)] or [0.0, 0.0]
    return product / (norms[0] * norms[1]) if norms[0] * norms[1] else math.nan


def _difference(a: Gradient, b: Gradient) -> float:
    """Return the largest difference of two tensors, relative to the largest element of the second."""
    if a is None or b is None:
        return 0.0 if a is b else math.inf
    largest = float(b.abs().max()) if b.numel() else 0.0
    return float((a - b).abs().max()) / largest if largest else float(a.abs().sum())
