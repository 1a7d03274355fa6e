"""The forms in which a training step can be computed: eager or at best, in which precision, by which code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch
from opuproj import dfa
from torch.nn import functional as F  # noqa: N812

from common import devices
from common.scaling.handwritten import StackedBackpropagation
from common.scaling.steps import RATE, Size, Trainee, perceptron

Precision = Literal["float32", "TF32", "bfloat16", "autocast"]
Method = Literal["bp by hand", "bp", "shallow", "dfa", "odfa", "odfa stack"]
# What torch itself runs before it captures a step.
STEPS_BEFORE_CAPTURE = 3


@dataclass(frozen=True)
class Form:
    """A form of a step.

    Attributes
    ----------
    method
        "bp by hand" is :class:`StackedBackpropagation`, "odfa stack" is :class:`opuproj.dfa.StackStep`. The others use
        autograd, with feedback attached for all but "bp".
    precision
        "TF32": float32 with products in TF32, on a GPU. "bfloat16": weights and all else. "autocast": weights in
        float32, products in bfloat16.
    best
        Whether elementwise work is compiled, gradients are applied within the backward pass and, on a GPU, the whole
        step is one CUDA graph.
    mode
        The random matrix, for methods with feedback.
    """

    method: Method
    precision: Precision
    best: bool
    mode: Literal["linear", "real"] | None = None

    @property
    def name(self) -> str:
        """Its name in results and tables."""
        parts = [self.method, *([] if self.mode is None else [self.mode]), self.precision]
        return ", ".join([*parts, "at best" if self.best else "eager"])


def forms(device: devices.Device, family: str) -> list[Form]:
    """Return all forms that a device can compute; those of Transformers have no code by hand."""
    precisions: tuple[Precision, ...] = ("TF32", "bfloat16", "autocast") if device.is_gpu else ("float32", "autocast")
    by_hand = family == "mlp"
    plain: tuple[Method, ...] = ("bp", "shallow")
    fed: tuple[Method, ...] = ("dfa", "odfa", "odfa stack") if by_hand else ("dfa", "odfa")
    found = []
    for precision in precisions:
        for best in (False, True):
            if by_hand and precision != "autocast":
                found.append(Form("bp by hand", precision, best))
            found += [Form(method, precision, best) for method in plain]
            found += [Form(method, precision, best, "linear") for method in fed]
            found += [Form(method, precision, best, "real") for method in fed]
    return found


def base_of(form: Form, family: str) -> Form:
    """Return the form with which a form is compared.

    It is backpropagation by hand at its best, without a cast of the weights; autograd's at its best for Transformers.
    """
    if family != "mlp":
        return Form("bp", form.precision, True)
    return Form("bp by hand", "bfloat16" if form.precision == "autocast" else form.precision, True)


@contextmanager
def precise(precision: Precision) -> Iterator[None]:
    """Let products of float32 have the precision of a form."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = precision == "TF32"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def step_of(form: Form, size: Size, device: devices.Device) -> Callable[[], Any]:
    """Return a function that takes one step of a network of this size in this form, and does not wait for it."""
    on = devices.Device(device.name, autocast=form.precision == "autocast")
    dtype = torch.bfloat16 if form.precision == "bfloat16" else torch.float32
    if form.method in ("bp by hand", "odfa stack"):
        x, y = (tensor.to(device.name) for tensor in _data(size))
        x = x.to(dtype)
        if form.method == "bp by hand":
            shape = (size.n_inputs, size.width, size.layers, size.n_outputs)
            network = StackedBackpropagation(*shape, rate=RATE, device=device.name, dtype=dtype, compiled=form.best)
            step: Callable[[], Any] = lambda: network.step(x, y)  # noqa: E731
        else:
            return _stack_step(form, size, on, x, y, dtype)
    else:
        step = _autograd_step(form, size, on, dtype)
    return captured(step) if form.best and device.is_gpu else step


def _data(size: Size) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(size.batch, size.n_inputs, generator=random)
    return x, torch.randint(size.n_outputs, (size.batch,), generator=random)


def _stack_step(
    form: Form, size: Size, device: devices.Device, x: torch.Tensor, y: torch.Tensor, dtype: torch.dtype
) -> Callable[[], Any]:
    model = perceptron(size, bias=False).to(device.name, dtype)
    first, *layers, head = model.children()
    step = dfa.StackStep(first, layers, head, F.cross_entropy, lr=RATE, mode=form.mode or "linear")

    def run() -> torch.Tensor:
        with device.casting():
            return step(x, y)

    if form.best and device.is_gpu:
        with device.casting():
            step.capture(x, y)
    return run


def _autograd_step(form: Form, size: Size, device: devices.Device, dtype: torch.dtype) -> Callable[[], Any]:
    on = replace(device, compile=form.best)
    mode = form.mode or "linear"
    trainee = Trainee(size, attached=form.method != "bp", device=on, dtype=dtype, mode=mode, bias=False)
    if trainee.feedback is not None:
        trainee.feedback.method = cast(dfa.Method, form.method)
    if form.best:
        for parameter in trainee.model.parameters():
            parameter.register_post_accumulate_grad_hook(descend)

    def step() -> torch.Tensor:
        with device.casting():
            loss = trainee.loss()
        loss.backward()
        if not form.best:
            trainee.optimizer.step()
            trainee.optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step


@torch.no_grad()
def descend(parameter: torch.Tensor) -> None:
    """Apply a gradient by gradient descent as soon as it is ready, and free it: a hook of a parameter."""
    assert parameter.grad is not None
    parameter.sub_(parameter.grad, alpha=RATE)
    parameter.grad = None


def captured(step: Callable[[], Any]) -> Callable[[], Any]:
    """Capture a step in a CUDA graph, and return the function that replays it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(STEPS_BEFORE_CAPTURE):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = step()

    def replay(kept: Any = kept) -> Any:
        graph.replay()
        return kept

    return replay
