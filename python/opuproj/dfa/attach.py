"""Attaches feedback to a model: finds the modules and checks the arguments."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal, TypeAlias

import torch

from .. import _check
from .._check import Ensemble
from .._spec import Spec
from ..camera import Camera
from ..torch import Ternarize
from . import _sequence_first
from ._engine import Engine, Settings
from ._hooks import owners
from ._layout import OUTPUT, Axes
from ._pass import Method
from ._pipeline import Pipeline
from .feedback import (
    Feedback,
    MatrixMode,
    camera_for,
    checked_fitting,
    checked_method,
    checked_mode,
    checked_ternarize,
)
from .fitting import Fitting

Which: TypeAlias = str | torch.nn.Module
Feed: TypeAlias = Literal["first", "all"]

_FEEDS: tuple[Feed, ...] = ("first", "all")

# The number of module names that an error suggests.
_MAX_SUGGESTIONS = 5
# PyTorch's own limit.
_MAX_AXES = 64


def attach(
    model: torch.nn.Module,
    blocks: Sequence[Which] | Mapping[str, Which],
    *,
    output: Which | None = None,
    method: Method = "odfa",
    ternarize: Ternarize | Literal["auto"] | None = None,
    seed: int = 0,
    mode: MatrixMode = "linear",
    ensemble: Ensemble = "gaussian",
    gain: float | Mapping[str, float] = 1.0,
    batch_axes: int | None = None,
    batch_dim: int | Mapping[str, int] | None = None,
    feed: Feed | Mapping[str, Feed] = "first",
    n_anchor: int = 64,
    camera: Camera | None = None,
    fitting: Fitting | None = None,
    threads: int | None = None,
    scaler: Any = None,
    rank: int | None = None,
    process_group: Any = None,
) -> Feedback:
    r"""Train blocks of a model by direct feedback alignment. Neither the model nor its training loop changes.

    Afterwards each forward pass detaches the graph at the end of each block. Each backward pass takes the error e at
    the model's output, projects it once, and gives each block its own part of the projection in place of its gradient
    [1]_ [2]_. :class:`Feedback` has the formula.

    Parameters
    ----------
    model : Module
        The model, which is called as before: ``model(x)``. Attach before wrapping it in ``DistributedDataParallel``,
        with the same seed on all ranks. Attach before or after ``torch.compile``: code that was compiled before is
        compiled again.
    blocks : sequence of Module or str, or mapping of names to such
        The modules whose outputs receive feedback, or their names in the model. A mapping gives them names of your own.
        Each module may occur once, and none may lie inside another. Their order is the order of their rows of the
        matrix. Layers between two blocks train with the later block; an embedding before the first block trains with
        the first.
    output : Module or str, optional
        The module at whose output the error is taken, such as the one that returns the logits, or the hidden state
        before a large vocabulary. By default the model itself. It must run after all blocks. Everything after the last
        block gets its true gradient.
    method : {"odfa", "dfa", "fitted", "bp", "shallow"}, default "odfa"
        ``"odfa"`` projects the error made ternary, as an optical processing unit does. ``"dfa"`` projects the error in
        floating point. ``"fitted"`` multiplies it by stored matrices, which are fitted to the gradients of an
        occasional pass by backpropagation (see `fitting`): for convolutional networks and many blocks. ``"bp"`` is
        backpropagation. ``"shallow"`` trains only the layers above the last block.
    ternarize : Ternarize or "auto", optional
        How ``"odfa"`` makes the error ternary; by default ``Ternarize()``. ``"auto"`` is ``Ternarize(Dither("auto"))``,
        whose thresholds fit the errors of each batch, however many elements an error has.
    seed : int, default 0
        The seed of the random matrix.
    mode : {"linear", "real"}, default "linear"
        The matrix of ``"odfa"`` and ``"dfa"``, as in :func:`opuproj.project`. ``"linear"`` is the device's own, whose
        projections are recovered from intensities. ``"real"`` has entries of the same distribution and takes half the
        time, but no device has it, so it cannot have a `camera`.
    ensemble : {"gaussian", "structured"}, default "gaussian"
        The distribution of the matrix, as in :func:`opuproj.project`: independent entries, or the fast transforms of
        ``"structured"``, which project the floating-point error of ``"dfa"`` directly and have no camera.
    gain : float or mapping of block names to float, default 1.0
        The factor of the feedback. With a gain of 1, the feedback of each block has the norm of the error on average.
    batch_axes : int, optional
        The number of leading axes of the error and of the blocks' outputs that count vectors. The other axes form one
        vector. With 1, the default, the error of an example is one vector, and so is a block's whole output for it
        (all channels, pixels or positions). Pass 2 if each position of a sequence has an error of its own, as in a
        language model of shape (batch, position, feature). If the error has three axes or more and neither this nor
        `batch_dim` is given, a warning names the assumption: 2 for an error of three axes if the output of every block
        has the same first two axes, otherwise 1.
    batch_dim : int or mapping of block names to int, optional
        The one axis that counts examples, by default 0. Pass 1 for modules with ``batch_first=False``, whose output is
        (step, example, feature). An int applies to the error and to all blocks' outputs, except to those with fewer
        axes than others, such as the state after the last step: there axis 0 counts. A mapping gives the axis for
        blocks by their names and for the error by ``"output"``; others have 0.
    feed : {"first", "all"} or mapping of block names to such, default "first"
        Which outputs receive feedback if a block returns several: the first floating-point tensor, or all of them,
        concatenated to one vector. Other outputs are detached. Parameters that only they depend on are not trained,
        and a warning names them.
    n_anchor : int, default 64
        The number of pixels of the anchor of mode ``"linear"``, as in :func:`opuproj.project`.
    camera : Camera, optional
        For ``"odfa"`` with mode ``"linear"``: recover the projection of the ternary error from the frames of this
        camera, as the hardware does. Each pass has new noise, whose seed torch's generator draws.
    fitting : Fitting, optional
        For ``"fitted"``: how often a pass is one by backpropagation, to whose gradients the blocks' matrices are
        fitted, and how long it counts. By default ``Fitting()``: one pass in 20. The matrix of a block has as many rows
        as its output has elements for each vector, and as many columns as an error vector has elements (at most 8,192).
    threads : int, optional
        The number of threads of the projection, as in :func:`opuproj.project`.
    scaler : torch.amp.GradScaler, optional
        The gradient scaler in use, if any. The error is divided by its scale before it is made ternary, and the
        feedback multiplied by it. With `process_group`, the scaler of the last rank counts.
    rank : int, optional
        The number of this replica, if several replicas of the model train on different data: replicas get different
        thresholds of ``Dither``. By default the rank in ``torch.distributed``, or that of the first rank of
        `process_group`. Pass the data-parallel rank if several processes compute one replica, as in tensor parallelism.
    process_group : ProcessGroup, optional
        The ranks over which the model is divided, in the order of their blocks. `model` is then this rank's part, and
        `blocks` are the blocks in it (possibly none). Name them as in the whole model if their names differ here:
        ``{"layers.7": module}``. The error is taken at the output of the last rank's part, which calls
        ``loss.backward()``. All other ranks call :meth:`Feedback.backward`, which receives the packed error. Each rank
        computes the feedback of its own blocks, with the same bits as in one process.

    Returns
    -------
    Feedback
        The feedback: set its method, diagnose it (:meth:`Feedback.alignment`, :meth:`Feedback.check`), save it, or
        :meth:`~Feedback.remove` it.

    Raises
    ------
    ValueError, TypeError
        If the model already has feedback; if a block or the output is not part of it, occurs twice, lies inside another
        or has feedback of another model; or if an argument is out of range. The message names it.

    Notes
    -----
    A block may return a tensor, or tensors in tuples, lists and dicts. Its first floating-point tensor is its output
    and receives feedback; all tensors are detached (see `feed`). A path of the model that goes around a block, such as
    a long skip connection, is not detached: it carries gradients of the block in which it ends, and of no other.

    Misuse raises RuntimeError, whose message names the block. Misuse is: a block that does not run, runs twice, runs
    after the output or runs outside the model; a second backward pass through the same error; a backward pass with
    ``create_graph=True``, because feedback has no derivative; a transform of ``torch.func`` around the model; a step of
    an optimizer before any error has reached the blocks.

    Forward hooks of a block see its output before it is detached, whenever they were registered. If a hook computes an
    auxiliary loss from the output, its gradient is added to the block's feedback. Backward hooks of a block get its
    feedback. Several threads may run and train one model at the same time: each pass belongs to the thread (the
    ``contextvars`` context) that runs it.

    A copy of the model (``copy.deepcopy``, pickle) has a copy of the feedback, which acts only when the copy runs with
    gradients. ``Feedback.of(copied).remove()`` removes it.

    References
    ----------
    .. [1] A. Nøkland, "Direct feedback alignment provides learning in deep neural networks", NeurIPS 2016.
    .. [2] Z. Wang, K. Müller, M. Filipovich et al., "Streamlined optical training of large-scale modern deep learning
       architectures with direct feedback alignment", PNAS, 2026. arXiv:2409.12965.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from opuproj import dfa
    >>> model = nn.Sequential(nn.Linear(20, 50), nn.Tanh(), nn.Linear(50, 50), nn.Tanh(), nn.Linear(50, 10))
    >>> feedback = dfa.attach(model, blocks=["1", "3"], method="odfa", seed=0)
    >>> loss = nn.functional.cross_entropy(model(torch.randn(8, 20)), torch.arange(8))
    >>> loss.backward()
    >>> feedback.rows
    {'1': range(0, 50), '3': range(50, 100)}
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model is a {type(model).__name__}, but must be a torch.nn.Module")
    attached = Feedback.of(model)
    if attached is not None:
        raise ValueError(
            f"model already has feedback for {', '.join(map(repr, attached.blocks)) or 'no block here'}, and a second "
            "one would use the same rows of T: attach all blocks at once, or call Feedback.of(model).remove() first"
        )
    names = {id(module): name for name, module in reversed(list(model.named_modules()))}
    pipeline = None if process_group is None else Pipeline(process_group)
    found = _find_blocks(model, names, blocks, pipeline is not None)
    if output is not None and pipeline is not None and not pipeline.is_last:
        raise ValueError(
            f"output is {_shown(output)} on {pipeline.rank_text}, but the error is taken on the last rank: leave "
            "output out on the other ranks"
        )
    output_name, output_module = _find(model, names, "output", model if output is None else output)
    axes = _axes(batch_axes, batch_dim, tuple(found))
    mode, ensemble = checked_mode(mode), _check.ensemble(ensemble)
    settings = Settings(
        checked_method(method, pipelined=pipeline is not None),
        checked_ternarize(Ternarize() if ternarize is None else ternarize),
        camera_for(camera, mode, ensemble),
        checked_fitting(Fitting() if fitting is None else fitting),
    )
    matrix = Spec.checked(1, 1, seed=seed, mode=mode, ensemble=ensemble, n_anchor=n_anchor)
    gains, feed_all = _gains(gain, tuple(found)), _feed_all(feed, tuple(found))
    scaler, rank = _scaler(scaler), None if rank is None else _check.integer("rank", rank, 0, 2**63 - 1)
    _sequence_first.refuse_states(found, feed_all)
    sequence_first = {} if axes.known else _sequence_first.outside_blocks(model, found)
    engine = Engine(
        model,
        found,
        output_name,
        settings,
        matrix,
        threads=_check.threads(threads),
        gains=gains,
        feed_all=feed_all,
        axes=axes,
        scaler=scaler,
        rank=rank,
        pipeline=pipeline,
    )
    return Feedback(engine, found, output_module, sequence_first)


def _find_blocks(
    model: torch.nn.Module,
    names: dict[int, str],
    blocks: Sequence[Which] | Mapping[str, Which],
    may_be_empty: bool,
) -> dict[str, torch.nn.Module]:
    if isinstance(blocks, (str, torch.nn.Module)) and not isinstance(
        blocks, (torch.nn.Sequential, torch.nn.ModuleList)
    ):
        raise TypeError(f"blocks is {_shown(blocks)}, but must be a list of modules or names")
    if not isinstance(blocks, Iterable):
        raise TypeError(f"blocks is {blocks!r}, but must be a list of modules or names")
    for name in blocks if isinstance(blocks, Mapping) else ():
        if not isinstance(name, str):
            raise TypeError(f"blocks has the key {name!r}, but the keys of a mapping must be names")
    found: dict[str, torch.nn.Module] = {}
    called: dict[str, str] = {}
    for given, which in blocks.items() if isinstance(blocks, Mapping) else ((None, which) for which in blocks):
        name, block = _find(model, names, "blocks", which)
        if name in found:
            raise ValueError(f"blocks has {name!r} twice")
        called[name] = name if given is None else given
        if block is model:
            raise ValueError(
                "blocks has the model itself, but the error is taken at its output or earlier: name its parts"
            )
        if owners(block):
            raise ValueError(f"block {name!r} already has feedback: remove() that first")
        found[name] = block
    if not found and not may_be_empty:
        raise ValueError("blocks is empty, but must name at least one block to train")
    for name in found:
        inside = next((other for other in found if other != name and name.startswith(f"{other}.")), None)
        if inside is not None:
            raise ValueError(
                f"block {name!r} lies inside block {inside!r}: name only one of them, or modules that do not overlap"
            )
    return {called[name]: block for name, block in found.items()}


def _find(model: torch.nn.Module, names: dict[int, str], argument: str, which: Which) -> tuple[str, torch.nn.Module]:
    if isinstance(which, str):
        try:
            return which, model.get_submodule(which)
        except AttributeError:
            there = [name for name, _ in model.named_modules() if name]
            close = get_close_matches(which, there, _MAX_SUGGESTIONS, cutoff=0.8)
            shown = ", ".join(map(repr, sorted(close, key=there.index) or there[:_MAX_SUGGESTIONS]))
            raise ValueError(
                f"{argument} has {which!r}, but the model has no module of that name; model.named_modules() has "
                f"{shown or 'no parts'}"
            ) from None
    if not isinstance(which, torch.nn.Module):
        raise TypeError(f"{argument} has {which!r}, but must have modules of the model, or their names")
    if id(which) not in names:
        raise ValueError(f"{argument} has {_shown(which)}, which is not part of the model")
    return names[id(which)], which


def _gains(gain: float | Mapping[str, float], blocks: tuple[str, ...]) -> dict[str, float]:
    given = dict(gain) if isinstance(gain, Mapping) else dict.fromkeys(blocks, gain)
    unknown = [name for name in given if name not in blocks]
    if unknown:
        raise ValueError(f"gain has {unknown[0]!r}, but the blocks are {', '.join(map(repr, blocks))}")
    return {name: _check.real(f"gain of block {name!r}", given.get(name, 1.0), above=-math.inf) for name in blocks}


def _axes(batch_axes: Any, batch_dim: Any, blocks: tuple[str, ...]) -> Axes:
    """Check batch_axes and batch_dim."""
    batch_axes = None if batch_axes is None else _check.integer("batch_axes", batch_axes, 1, _MAX_AXES)
    if isinstance(batch_dim, Mapping):
        names = {name: name if name in blocks else OUTPUT for name in (*blocks, "output")}
        unknown = [name for name in batch_dim if name not in names]
        if unknown:
            raise ValueError(
                f"batch_dim has {unknown[0]!r}, but the blocks are {', '.join(map(repr, blocks))}, and the error is "
                "'output'"
            )
        dims: Any = {
            names[name]: _check.integer(f"batch_dim of {name!r}", dim, 0, _MAX_AXES - 1)
            for name, dim in batch_dim.items()
        }
        moved = any(dims.values())
    else:
        dims = None if batch_dim is None else _check.integer("batch_dim", batch_dim, 0, _MAX_AXES - 1)
        moved = bool(dims)
    if moved and batch_axes is not None and batch_axes > 1:
        raise ValueError(
            f"batch_axes is {batch_axes} and batch_dim is {batch_dim}, but batch_dim names the one axis that counts "
            "vectors: give one of them"
        )
    return Axes(batch_axes, dims)


def _feed_all(feed: Any, blocks: tuple[str, ...]) -> frozenset[str]:
    """Return the blocks whose outputs all receive feedback."""
    given = dict(feed) if isinstance(feed, Mapping) else dict.fromkeys(blocks, feed)
    unknown = [name for name in given if name not in blocks]
    if unknown:
        raise ValueError(f"feed has {unknown[0]!r}, but the blocks are {', '.join(map(repr, blocks))}")
    for which in given.values() if given else (feed,):
        if not isinstance(which, Mapping) and which not in _FEEDS:
            raise ValueError(f"feed is {which!r}, but must be one of {', '.join(map(repr, _FEEDS))}")
    return frozenset(name for name, which in given.items() if which == "all")


def _scaler(scaler: Any) -> Any:
    if scaler is not None and not callable(getattr(scaler, "get_scale", None)):
        raise TypeError(f"scaler is {scaler!r}, but must be a torch.amp.GradScaler")
    return scaler


def _shown(which: Which) -> str:
    return repr(which) if isinstance(which, str) else f"a {type(which).__name__}"
