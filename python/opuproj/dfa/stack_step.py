"""A whole training step for a stack of equal layers: their feedback and their updates are computed many at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from .. import _check
from .._check import Ensemble
from .._spec import Spec
from ..projector import Projector
from ..torch import Ternarize
from ._error import Error, TernaryError, float_error, has_backend, is_captured, is_on_gpu
from ._groups import most_blocks, most_bytes, parameter_bytes
from ._layout import OUTPUT, Axes, Layout, as_vectors, from_vectors
from ._passes import PassNumbers
from ._projection import Projection, bytes_a_row, project
from ._stacked import DESCENT, GRADIENT, Layers, ModuleLayers, Targets, dense_layers, stacked
from ._ternary import ErrorTernarizer
from .feedback import MatrixMode, checked_mode, checked_ternarize

StackMethod = Literal["odfa", "dfa"]
_METHODS: tuple[StackMethod, ...] = ("odfa", "dfa")
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
MakeOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


class StackStep:
    r"""A training step by direct feedback for a stack of equal layers, faster than autograd's and with less memory.

    The model is ``first``, then ``layers`` one after the other, then ``head``. A call runs a forward pass, takes the
    error at the head's output and updates all parameters. ``first`` and each layer are blocks, as in :func:`attach`,
    and get the same feedback: ``attach(step.model, [first, *layers])`` with the same arguments and an optimizer
    trains the same parameters, up to rounding.

    It differs from :func:`attach` in how the step is computed. Equal parameters of the layers lie in one tensor.
    Feedback is computed for many layers at once. Gradient descent is part of the pass, so that no gradients are
    stored. For fully connected layers (``nn.Linear``, alone or followed by ``nn.Tanh``, ``nn.Sigmoid`` or
    ``nn.ReLU``, of equal widths, without hooks) the weights of many layers are updated by one batched product. Other
    layers, such as those of a Transformer, have a graph of autograd each.

    Parameters
    ----------
    first : Module or None
        What comes before the layers, such as an embedding or the first layer. None if the layers get the input.
    layers : sequence of Module
        Equal layers: modules whose parameters have the same names, shapes and dtypes, all of them trained. Each takes
        one tensor and returns one of the same shape. Their parameters are moved to common tensors, and remain theirs:
        move a model to its device and dtype before.
    head : Module
        What comes after the layers. It gets its true gradient. The error is taken at its output.
    loss_function : callable
        ``loss_function(output, target)`` returns the loss, a scalar.
    lr : float, optional
        The learning rate of gradient descent, without momentum. It may be set at any time: ``step.lr = 0.01``.
    optimizer : callable, optional
        In place of `lr`: returns an optimizer for a list of parameters, for instance ``lambda parameters:
        torch.optim.AdamW(parameters, lr=1e-3)``. It is in ``step.optimizer``. Equal parameters of the layers are one
        parameter there, and all gradients are stored until its step.
    method : {"odfa", "dfa"}, default "odfa"
        Whether the error is made ternary.
    ternarize : Ternarize or "auto", optional
        How ``"odfa"`` makes the error ternary, as in :func:`attach`; by default ``Ternarize()``.
    seed, mode, ensemble, gain, n_anchor, threads
        As in :func:`attach`. ``mode="real"`` takes half the time of ``"linear"``, the default.
    batch_axes : int, default 1
        The number of leading axes of the layers' outputs and of the error that count vectors; 2 for a Transformer
        whose positions have errors of their own.

    Attributes
    ----------
    model : Sequential
        The whole model, with the same parameters, for evaluation and for its state dict.
    optimizer : Optimizer or None
        What `optimizer` returned.

    Raises
    ------
    ValueError, TypeError
        If the layers are not equal, share parameters, or have parameters that are not trained; if both `lr` and
        `optimizer` are given, or neither; or if an argument is out of range. The message names it.

    Notes
    -----
    On a GPU, a step that was captured (:meth:`capture`) runs as one CUDA graph. Under ``torch.autocast`` the products
    of fully connected layers take its dtype, and parameters keep theirs.

    The model must not be moved or cast afterwards, because its parameters would no longer be those of the step. An
    exception or an interruption within a step may leave some layers updated and others not. Hooks on parameters do
    not run. Feedback through a camera, gradient scalers and several ranks need :func:`attach`.

    References
    ----------
    As in :func:`attach`.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from opuproj import dfa
    >>> def layer(n_inputs, width):
    ...     return nn.Sequential(nn.Linear(n_inputs, width), nn.Tanh())
    >>> step = dfa.StackStep(
    ...     layer(20, 50), [layer(50, 50) for _ in range(8)], nn.Linear(50, 10), nn.functional.cross_entropy, lr=0.1
    ... )
    >>> loss = step(torch.randn(8, 20), torch.arange(8))
    >>> step.model(torch.randn(3, 20)).shape
    torch.Size([3, 10])
    """

    def __init__(
        self,
        first: nn.Module | None,
        layers: Sequence[nn.Module],
        head: nn.Module,
        loss_function: Loss,
        *,
        lr: float | None = None,
        optimizer: MakeOptimizer | None = None,
        method: StackMethod = "odfa",
        ternarize: Ternarize | Literal["auto"] | None = None,
        seed: int = 0,
        mode: MatrixMode = "linear",
        ensemble: Ensemble = "gaussian",
        gain: float = 1.0,
        batch_axes: int = 1,
        n_anchor: int = 64,
        threads: int | None = None,
    ) -> None:
        if method not in _METHODS:
            raise ValueError(f"method is {method!r}, but must be 'odfa' or 'dfa'")
        if (lr is None) == (optimizer is None):
            raise ValueError(f"lr is {lr!r} and optimizer is {optimizer!r}, but one of them must be given")
        rate = 1.0 if lr is None else _check.real("lr", lr, above=0.0)
        self._method = method
        self._ternarize = checked_ternarize(Ternarize() if ternarize is None else ternarize)
        self._matrix = Spec.checked(
            1, 1, seed=seed, mode=checked_mode(mode), ensemble=_check.ensemble(ensemble), n_anchor=n_anchor
        )
        self._gain = _check.real("gain", gain)
        self._batch_axes = _check.integer("batch_axes", batch_axes, 1, 64)
        self._threads = _check.threads(threads)
        _check_modules(first, layers, head)
        self._first, self._layers, self._head, self._loss = first, list(layers), head, loss_function
        self._head_parameters = [p for p in head.parameters() if p.requires_grad]
        if not self._head_parameters:
            raise ValueError(
                "head has no parameter that is trained, and feedback alone does not learn: give it a layer"
            )
        self._first_parameters = [] if first is None else [p for p in first.parameters() if p.requires_grad]
        self._stacks = stacked(self._layers, (*self._first_parameters, *self._head_parameters))
        self.model = nn.Sequential(*([] if first is None else [first]), *self._layers, head)
        self._parameter_bytes = parameter_bytes(self.model)
        device = next(iter(self._stacks.values())).device
        self._rate = torch.tensor(rate, dtype=torch.float64 if self._is_double() else torch.float32, device=device)
        self._ternarizer, self._numbers, self._n_passes = ErrorTernarizer(self._matrix.seed), PassNumbers(), 0
        self._layout: Layout | None = None
        self._kind: Layers | None = None
        self._captured: _Captured | None = None
        self.optimizer: torch.optim.Optimizer | None = None
        if optimizer is None:
            self._targets = Targets(DESCENT, self._stacks)
        else:
            self._make_optimizer(optimizer)

    def _is_double(self) -> bool:
        return any(stack.dtype == torch.float64 for stack in self._stacks.values())

    def _make_optimizer(self, make: MakeOptimizer) -> None:
        parameters = [nn.Parameter(stack) for stack in self._stacks.values()]
        gradients = {}
        for name, parameter in zip(self._stacks, parameters, strict=True):
            parameter.grad = gradients[name] = torch.zeros_like(parameter)
        self._targets = Targets(GRADIENT, gradients)
        others = {id(p): p for p in (*self._first_parameters, *self._head_parameters)}
        self.optimizer = make([*parameters, *others.values()])
        if not isinstance(self.optimizer, torch.optim.Optimizer):
            raise TypeError(
                f"optimizer returned a {type(self.optimizer).__name__}, but must return a torch.optim.Optimizer"
            )

    # Settings

    @property
    def lr(self) -> float:
        """The learning rate of gradient descent.

        Raises
        ------
        AttributeError
            If there is an optimizer, whose ``param_groups`` have the rates.
        """
        if self.optimizer is not None:
            raise AttributeError("the step has an optimizer: its rates are in step.optimizer.param_groups")
        return float(self._rate)

    @lr.setter
    def lr(self, value: float) -> None:
        if self.optimizer is not None:
            raise AttributeError("the step has an optimizer: set its rates in step.optimizer.param_groups")
        self._rate.fill_(_check.real("lr", value, above=0.0))  # in place, so that a CUDA graph reads it

    def __repr__(self) -> str:
        how = f"lr={self.lr:g}" if self.optimizer is None else type(self.optimizer).__name__
        return (
            f"StackStep({len(self._layers)} layers, method={self._method!r}, {how}, seed={self._matrix.seed}, "
            f"mode={self._matrix.mode!r})"
        )

    # The step

    def __call__(self, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Train once, and return the loss.

        Parameters
        ----------
        x : Tensor
            The input of the model.
        target : Tensor
            What the loss function compares the output with.

        Returns
        -------
        Tensor
            The loss before the update, a scalar without a graph.

        Raises
        ------
        RuntimeError
            If the model was moved or cast after the step was made.
        ValueError
            If a layer's output or the error has a shape that does not fit.
        """
        self._check_views()
        if self._captured is not None and self._captured.fits(x, target):
            return self._captured.replay(x, target)
        return self._run(x, target)

    def capture(self, x: torch.Tensor, target: torch.Tensor) -> None:
        """Capture the step for inputs of these shapes in a CUDA graph, which later calls replay.

        It trains on these inputs three times, because a graph needs steps before it is captured. An optimizer must be
        made with ``capturable=True`` where it has this option.

        Parameters
        ----------
        x, target : Tensor
            As in a call, on a GPU.

        Raises
        ------
        RuntimeError
            If x is not on a GPU, or if a part of the step cannot be captured.
        """
        if not x.is_cuda:
            raise RuntimeError(f"x is on {x.device}, but only a GPU captures a step: call the step itself")
        self._check_views()
        self._captured = None
        stream = torch.cuda.Stream(x.device)
        stream.wait_stream(torch.cuda.current_stream(x.device))
        with torch.cuda.stream(stream):
            for _ in range(_STEPS_BEFORE_CAPTURE):
                self._run(x, target)
        torch.cuda.current_stream(x.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        inputs = x.clone(), target.clone()
        with torch.cuda.graph(graph):
            loss = self._run(*inputs)
        self._captured = _Captured(graph, *inputs, loss)

    def _run(self, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Train once, without a graph."""
        torch.clear_autocast_cache()  # of an autocast around several steps: it has casts of parameters before a step
        try:
            with torch.enable_grad():
                h = x if self._first is None else self._first(x)
            if not isinstance(h, torch.Tensor) or not h.is_floating_point():
                what = "x" if self._first is None else "what first returned"
                raise TypeError(f"{what} is {_shown(h)}, but must be a floating-point tensor")
            layers = self._layers_for(h)
            top = layers.forward(h.detach())
            loss, e = self._above(top, target)
            error, factor = self._error(e, h.shape)
            self._below(error, factor, h, layers)
        finally:
            if self._kind is not None:
                self._kind.forget()
            torch.clear_autocast_cache()
        if self.optimizer is not None:
            self.optimizer.step()
        return loss

    def _layers_for(self, h: torch.Tensor) -> Layers:
        """Return the layers in the form that computes this input."""
        if self._kind is None:
            one_axis = h.ndim == 1 + self._batch_axes
            fully_connected = dense_layers(self._layers, self._stacks) if one_axis else None
            self._kind = fully_connected or ModuleLayers(self._layers, self._stacks, self._batch_axes)
        return self._kind

    def _above(self, top: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Update the head; return the loss and the error."""
        with torch.enable_grad():
            output = self._head(top)
            if not isinstance(output, torch.Tensor) or not output.is_floating_point():
                raise TypeError(f"head returned {_shown(output)}, but must return a floating-point tensor")
            end = output.detach().requires_grad_()
            loss = self._loss(end, target)
        (e,) = torch.autograd.grad(loss, end)
        gradients = torch.autograd.grad(output, self._head_parameters, e, allow_unused=True)
        for parameter, gradient in zip(self._head_parameters, gradients, strict=True):
            if self.optimizer is not None:
                parameter.grad = gradient
            elif gradient is not None:
                parameter.data.sub_(gradient.to(self._rate.dtype) * self._rate)
        return loss.detach(), e

    def _error(self, e: torch.Tensor, outputs: Sequence[int]) -> tuple[Error, float | torch.Tensor]:
        """Return the error, and the factor of the feedback without that of its width."""
        shapes = {"layers": [tuple(outputs)]}  # all have the shape of the first one's input
        axes = Axes(self._batch_axes, None)
        if self._layout is None:
            self._layout = Layout.of(e.shape, shapes, axes)
        else:
            widths = {"layers": self._layout.n_rows}
            self._layout.check_shapes(e.shape, shapes, widths, {"layers": 0, OUTPUT: 0}, axes)
        vectors = as_vectors(e.detach(), self._layout.batch_axes, 0)
        number = self._n_passes
        content: Any
        factor: float | torch.Tensor = self._gain
        if self._method == "odfa":
            captured = is_captured(vectors)
            on_device = self._numbers.of(number, vectors.device, captured=captured) if has_backend(vectors) else number
            batch, factors = self._ternarizer(vectors, self._ternarize, rank=0, number=on_device)
            content, factor = TernaryError(batch, factors, None), factors * self._gain
            self._n_passes += not captured  # replays are counted on the GPU
        else:
            content = float_error(vectors, encoded=self._matrix.ensemble == "gaussian")
            self._n_passes += 1
        return Error(number, tuple(e.shape), 1.0, content, None), factor

    def _below(self, error: Error, factor: float | torch.Tensor, h: torch.Tensor, layers: Layers) -> None:
        """Update the layers, from the last to the first, and what comes before them."""
        assert self._layout is not None
        width = self._layout.n_rows
        factor = factor * max(1, width) ** -0.5
        if self.optimizer is None:  # all gradients are multiples of the feedback
            factor = factor * self._rate
        offset = 0 if self._first is None else 1  # the first rows are those of what comes before
        operator = self._operator(error, (offset + len(self._layers)) * width)
        per_row = bytes_a_row(error, self._matrix.components) + h.numel() // max(1, width) * h.element_size()
        on_gpu = is_on_gpu(error)
        limit = most_bytes(self._parameter_bytes + layers.output_bytes, on_gpu=on_gpu)
        most = max(1, min(most_blocks(len(self._layers), on_gpu=on_gpu), limit // max(1, per_row * width)))
        for stop in range(len(self._layers), 0, -most):
            group = range(max(0, stop - most), stop)
            rows = operator.rows((offset + group.start) * width, (offset + group.stop) * width)
            layers.update(group, project(error, rows), factor, self._targets)
        if self._first_parameters and h.requires_grad:
            projection: Projection = project(error, operator.rows(0, width))
            part = projection.part(0, width, factor, h.device, h.dtype)
            feedback = from_vectors(part, h.shape, 0).to(h.dtype)
            gradients = torch.autograd.grad(h, self._first_parameters, feedback, allow_unused=True)
            for parameter, gradient in zip(self._first_parameters, gradients, strict=True):
                shared = any(parameter is other for other in self._head_parameters)
                if self.optimizer is None:
                    if gradient is not None:
                        parameter.data.sub_(gradient)  # the rate is in the feedback
                elif not shared or parameter.grad is None:
                    parameter.grad = gradient
                elif gradient is not None:
                    parameter.grad = parameter.grad + gradient

    def _operator(self, error: Error, n_rows: int) -> Projector:
        n_inputs = error.content.shape[1]
        dtype = "float64" if error.content.dtype == torch.float64 else "float32"
        return Projector._of(self._matrix.with_shape(n_inputs, n_rows, dtype), self._threads, None)

    def _check_views(self) -> None:
        for i in (0, len(self._layers) - 1):
            for name, parameter in self._layers[i].named_parameters():
                if parameter.data_ptr() != self._stacks[name][i].data_ptr():
                    raise RuntimeError(
                        f"{name!r} of layers[{i}] is no longer in the memory of the step: move or cast a model before "
                        "StackStep is made, and load its state with load_state_dict(…, assign=False)"
                    )

    # State

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the step: how many passes it made, and its optimizer's state. The model has its own.

        It waits for the GPU.
        """
        return {
            "passes": self._n_passes + self._numbers.replayed(),
            "optimizer": None if self.optimizer is None else self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state. A captured graph is dropped.

        Raises
        ------
        ValueError
            If it is not a state of such a step.
        """
        if set(state) != {"passes", "optimizer"}:
            raise ValueError(
                f"state has {sorted(state)}, but must have 'optimizer' and 'passes': it is not a StackStep's"
            )
        if (state["optimizer"] is None) != (self.optimizer is None):
            has = "no optimizer" if state["optimizer"] is None else "an optimizer"
            raise ValueError(f"state is of a step with {has}, but this step is {self!r}")
        passes = _check.integer("passes of the state", state["passes"], 0, 2**63 - 1)
        if self.optimizer is not None:
            self.optimizer.load_state_dict(state["optimizer"])
        self._n_passes, self._captured = passes, None
        self._numbers.restart(passes)


# As torch's own capture of modules runs.
_STEPS_BEFORE_CAPTURE = 3


class _Captured(NamedTuple):
    """A CUDA graph of a step, with the tensors that it reads and writes."""

    graph: Any
    x: torch.Tensor
    target: torch.Tensor
    loss: torch.Tensor

    def fits(self, x: torch.Tensor, target: torch.Tensor) -> bool:
        """Return whether the graph computes this step."""
        pairs = ((self.x, x), (self.target, target))
        return all(a.shape == b.shape and a.dtype == b.dtype and a.device == b.device for a, b in pairs)

    def replay(self, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Train once, and return the loss."""
        self.x.copy_(x, non_blocking=True)
        self.target.copy_(target, non_blocking=True)
        self.graph.replay()
        return self.loss.clone()


def _check_modules(first: Any, layers: Any, head: Any) -> None:
    named = {"first": first, "head": head}
    if not isinstance(layers, (Sequence, nn.ModuleList, nn.Sequential)):
        raise TypeError(f"layers is {_shown(layers)}, but must be a sequence of modules")
    named.update({f"layers[{i}]": layer for i, layer in enumerate(layers)})
    for name, module in named.items():
        if not isinstance(module, nn.Module) and not (name == "first" and module is None):
            raise TypeError(f"{name} is {_shown(module)}, but must be a torch.nn.Module")


def _shown(value: Any) -> str:
    return f"a tensor of {value.dtype}" if isinstance(value, torch.Tensor) else f"a {type(value).__name__}"
