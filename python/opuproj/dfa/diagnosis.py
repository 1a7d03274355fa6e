"""Is it direct feedback, and does it align? Both compare a pass with feedback to the same pass by backpropagation."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import torch

from ._graph import leaves, nodes
from ._pass import Pass
from ._ternary import plain

if TYPE_CHECKING:
    from .feedback import Feedback, Method

Closure: TypeAlias = Callable[[], torch.Tensor]
Gradient: TypeAlias = torch.Tensor | None

# Elements of a block's feedback that a check computes from entries of the matrix.
_CHECKED_ROWS = 32
# float32 sums of float errors are off by some 1e-6 of the largest; ternary errors give exact sums and one rounding.
_BOUNDS = {torch.float64: 1e-9, torch.float32: 1e-4}
_HALF_BOUND = 2e-2


@dataclass(frozen=True)
class Check:
    """What :meth:`Feedback.check` found; print it.

    Attributes
    ----------
    method : str
        That of the feedback.
    blocks : dict of str to float
        For each block that trains, the largest difference between the feedback it received and an independent
        calculation of it, relative to the largest element.
    cosines : dict of str to float
        The cosine between the feedback and the gradient that backpropagation would bring to the same place.
    top : dict of str to float
        Parameters above the last block, and by how much their gradients differ from backpropagation's, relative to the
        largest element: 0.0 is bit for bit.
    shared : tuple of str
        Parameters that more than one block, or a block and the top, train together.
    """

    method: str
    blocks: dict[str, float]
    cosines: dict[str, float]
    top: dict[str, float]
    shared: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"method {self.method!r}: every block receives its projection of the error"]
        width = max(map(len, [*self.blocks, *self.top, ""]))
        for name, off in self.blocks.items():
            lines.append(f"  {name:<{width}}  off by {off:.0e}, cosine to backpropagation {self.cosines[name]:+.3f}")
        lines.append(
            "what lies above the last block receives its true gradient"
            if self.top
            else "no parameter of the model receives its true gradient alone: leave the last layer out of blocks"
        )
        lines += [
            f"  {name:<{width}}  {f'off by {off:.0e}' if off else 'bit for bit'}" for name, off in self.top.items()
        ]
        if self.shared:
            lines.append(f"trained from several places: {', '.join(self.shared)}")
        return "\n".join(lines)


def alignment(
    feedback: Feedback, closure: Closure, of: Literal["parameters", "outputs"], method: Method
) -> dict[str, float]:
    """Return what :meth:`Feedback.alignment` does."""
    if of not in ("parameters", "outputs"):
        raise ValueError(f"of is {of!r}, but must be 'parameters' or 'outputs'")
    with _undone(feedback):
        with _same_random_numbers(feedback):
            loss, current = _run(feedback, closure, method)
            ends = current.ends
            segments = {name: leaves(end) for name, end in ends.items()}
            parameters = list(dict.fromkeys(p for segment in segments.values() for p in segment))
            given = _gradients(loss, [*ends.values(), *parameters])
        with _same_random_numbers(feedback):
            loss, current = _run(feedback, closure, "bp")
            true = _gradients(loss, [*(current.ends[name] for name in ends), *parameters])
    place = {id(t): i for i, t in enumerate([*ends.values(), *parameters])}
    cosines = {}
    for name, end in ends.items():
        picked = [place[id(t)] for t in (segments[name] if of == "parameters" else [end])]
        cosines[name] = _cosine([given[i] for i in picked], [true[i] for i in picked])
    return cosines


def check(feedback: Feedback, closure: Closure, method: Method) -> Check:
    """Return what :meth:`Feedback.check` does."""
    with _undone(feedback):
        feedback.camera = None
        with _same_random_numbers(feedback):
            loss, current = _run(feedback, closure, method)
            ends = current.ends
            _refuse_crossings(ends)
            above = leaves(loss, stop=ends.values())
            counts = Counter([*above, *(p for end in ends.values() for p in leaves(end))])
            names = {p: name for name, p in feedback.model.named_parameters()}
            top = [p for p in above if counts[p] == 1 and p in names]
            given = _gradients(loss, [*ends.values(), *top])
        if current.error is None:
            raise RuntimeError("the loss does not depend on the output where the error is taken: no block is trained")
        with _same_random_numbers(feedback):
            loss, backpropagated = _run(feedback, closure, "bp")
            true = _gradients(loss, [*(backpropagated.ends[name] for name in ends), *top])
        off, cosines = {}, {}
        for name, mine, theirs in zip(ends, given, true, strict=False):
            off[name] = _distance(feedback, name, current, mine)
            cosines[name] = _cosine([mine], [theirs])
            if mine is not None and theirs is not None and mine.any() and torch.equal(mine, theirs):
                raise RuntimeError(f"block {name!r} received the gradient of backpropagation, not its feedback")
    tops = {}
    for p, mine, theirs in zip(top, given[len(ends) :], true[len(ends) :], strict=True):
        tops[names[p]] = _difference(mine, theirs)
        if not tops[names[p]] <= _BOUNDS.get(p.dtype, _HALF_BOUND):
            raise RuntimeError(
                f"parameter {names[p]!r} lies above the last block, but did not receive its true gradient"
            )
    return Check(method, off, cosines, tops, tuple(names[p] for p, n in counts.items() if n > 1 and p in names))


def _distance(feedback: Feedback, name: str, current: Pass, given: Gradient) -> float:
    """Compare some elements of a block's feedback with entries of the matrix, one by one, times the error."""
    if given is None or current.error is None:
        raise RuntimeError(f"block {name!r} received no feedback")
    e, scale = feedback._vectors(current.error)
    factor: torch.Tensor | float = 1.0
    if current.method == "odfa":
        e, factor = plain(e, feedback.ternarize, seed=feedback.seed, rank=feedback._replica(), number=current.number)
    rows = feedback.rows[name]
    picked = sorted({int(i) for i in np.linspace(0, len(rows) - 1, min(len(rows), _CHECKED_ROWS))})
    matrix = feedback.operator(e.shape[1], "float64").matrix(rows=[rows[i] for i in picked])
    wanted = e.double() @ torch.from_numpy(matrix).to(e.device).T
    wanted *= factor * (scale * feedback.gains[name] / math.sqrt(len(rows)))
    off = _difference(given.reshape(len(e), len(rows))[:, picked].double(), wanted)
    # Structured transforms are computed in float32, whatever the precision of the model.
    precision = torch.float32 if feedback.ensemble == "structured" else torch.float64
    bound = max(_BOUNDS.get(current.dtypes[name], _HALF_BOUND), _BOUNDS[precision])
    if not off <= bound:
        raise RuntimeError(f"block {name!r} received something else than its projection of the error: off by {off:.0e}")
    return off


def _run(feedback: Feedback, closure: Closure, method: Method) -> tuple[torch.Tensor, Pass]:
    """Run a pass by a method; return its loss and what is known of it, the ends of its blocks included."""
    feedback.method = method
    passes: list[Pass] = []
    feedback._recording = passes
    with torch.enable_grad():
        loss = closure()
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        raise TypeError(f"closure returned {type(loss).__name__}, but must return the loss, a tensor of one number")
    if len(passes) != 1:
        raise RuntimeError(f"closure ran the model {len(passes)} times with gradients, but must run it once")
    return loss, passes[0]


@contextmanager
def _undone(feedback: Feedback) -> Iterator[None]:
    """Leave the feedback and the model's buffers as they were."""
    names = ("method", "camera", "_passes", "_deliveries", "_n_passes", "statistics", "_projected", "_recording")
    before = {name: getattr(feedback, name) for name in names}
    feedback.statistics = type(feedback.statistics)()
    feedback._projected = type(feedback._projected)()
    buffers = [(buffer, buffer.clone()) for buffer in feedback.model.buffers()]
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(feedback, name, value)
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


@contextmanager
def _same_random_numbers(feedback: Feedback) -> Iterator[None]:
    """Leave torch's generators as they were: of two passes, each forward and backward, both draw the same numbers."""
    with torch.random.fork_rng(list({p.device for p in feedback.model.parameters() if p.device.type == "cuda"})):
        yield


def _gradients(loss: torch.Tensor, tensors: Sequence[torch.Tensor]) -> list[Gradient]:
    return list(torch.autograd.grad(loss, tensors, allow_unused=True))


def _refuse_crossings(ends: dict[str, torch.Tensor]) -> None:
    """Raise RuntimeError if the graph behind one block's end reaches another's."""
    at = {end.grad_fn: name for name, end in ends.items()}
    for name, end in ends.items():
        other = next((at[node] for node in nodes(end, set()) if at.get(node, name) != name), None)
        if other is not None:
            raise RuntimeError(f"the gradient of block {name!r} crosses into block {other!r}")


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
