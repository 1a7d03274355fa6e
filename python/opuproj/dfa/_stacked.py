"""Parameters of equal layers in one tensor each, and layers that train on them with their own feedback."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from ..backends import Activation
from ._layout import from_vectors
from ._projection import Projection

_ACTIVATIONS: dict[type[nn.Module], Activation] = {nn.Tanh: "tanh", nn.Sigmoid: "sigmoid", nn.ReLU: "relu"}
_FUNCTIONS = {"tanh": torch.tanh_, "sigmoid": torch.sigmoid_, "relu": torch.relu_}


@dataclass(frozen=True)
class Target:
    """Tensors that take gradients: `tensor` becomes keep · tensor + factor · gradient."""

    keep: int
    factor: int

    def take(self, tensor: torch.Tensor, gradient: torch.Tensor) -> None:
        """Add a gradient to a tensor, or write it there."""
        if self.keep:
            tensor.add_(gradient, alpha=self.factor)
        else:
            tensor.copy_(gradient)

    def take_products(self, tensor: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> None:
        """Add the products of two batches of matrices to a tensor, or write them there."""
        if a.dtype == tensor.dtype:
            tensor.baddbmm_(a, b, beta=self.keep, alpha=self.factor)
        else:  # under autocast
            self.take(tensor, torch.bmm(a, b))


# A step of gradient descent, whose rate is in the gradients; and gradients for an optimizer.
DESCENT, GRADIENT = Target(1, -1), Target(0, 1)


def stacked(layers: Sequence[nn.Module], others: Sequence[nn.Parameter]) -> dict[str, torch.Tensor]:
    """Move the parameters of equal layers to one tensor each, of shape (n_layers, ...), of which theirs become views.

    `others` are the parameters of the rest of the model.

    Raises
    ------
    ValueError
        If the layers are not equal, share parameters, or have parameters that are not trained.
    """
    if not layers:
        raise ValueError("layers is empty, but must have at least one layer")
    first = dict(layers[0].named_parameters())
    if not first:
        raise ValueError(f"layers[0] is a {type(layers[0]).__name__} without parameters, so there is nothing to train")
    seen: dict[int, int] = {}
    outside = {id(parameter) for parameter in others}
    for i, layer in enumerate(layers):
        mine = dict(layer.named_parameters())
        for name, parameter in mine.items():
            if not parameter.requires_grad:
                raise ValueError(
                    f"{name!r} of layers[{i}] has requires_grad=False, but every parameter must be trained"
                )
            if id(parameter) in outside:
                raise ValueError(f"layers[{i}] shares {name!r} with first or head, but must be separate")
            if seen.setdefault(id(parameter), i) != i:
                raise ValueError(f"layers[{seen[id(parameter)]}] and layers[{i}] share {name!r}, but must be separate")
        for name in dict.fromkeys([*first, *mine]):
            one, other = _described(first.get(name)), _described(mine.get(name))
            if one != other:
                raise ValueError(
                    f"{name!r} of layers[{i}] is {other}, but that of layers[0] is {one}: all layers must be equal"
                )
    found = {}
    for name in first:
        parameters = [dict(layer.named_parameters())[name] for layer in layers]
        found[name] = stack = torch.stack([parameter.detach() for parameter in parameters])
        for parameter, view in zip(parameters, stack, strict=True):
            parameter.data = view
    return found


def _described(parameter: torch.Tensor | None) -> str:
    return "missing" if parameter is None else f"{tuple(parameter.shape)}, {parameter.dtype} on {parameter.device}"


class Layers(Protocol):
    """Equal layers, one after the other, each of which trains on feedback of its own."""

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """Return the output of the last layer, without a graph, and keep what :meth:`update` needs."""

    def update(self, layers: range, projection: Projection, factor: float | torch.Tensor, targets: Targets) -> None:
        """Pass the gradients of some layers to targets. Their feedback is in the columns of a projection, in order."""

    @property
    def output_bytes(self) -> int:
        """The memory of the outputs that are kept."""

    def forget(self) -> None:
        """Free what a pass kept."""


@dataclass(frozen=True)
class Targets:
    """Where the gradients of stacked parameters go, by their names."""

    kind: Target
    tensors: dict[str, torch.Tensor]


def dense_layers(layers: Sequence[nn.Module], stacks: dict[str, torch.Tensor]) -> DenseLayers | None:
    """Return fully connected layers of equal widths, with their activation function; None for other layers."""
    kinds = set()
    for layer in layers:
        parts = list(layer) if type(layer) is nn.Sequential else [layer]
        if any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in (layer, *parts)):
            return None
        linear, *functions = parts
        if type(linear) is not nn.Linear or linear.in_features != linear.out_features or len(functions) > 1:
            return None
        kinds.add(type(functions[0]) if functions else None)
    kind = kinds.pop()
    if kinds or not (kind is None or kind in _ACTIVATIONS):
        return None
    return DenseLayers(stacks, None if kind is None else _ACTIVATIONS[kind])


class DenseLayers:
    """Fully connected layers, whose weights are updated by one batched product for many layers.

    The derivative of the activation function follows from the outputs, so nothing else is kept.
    """

    def __init__(self, stacks: dict[str, torch.Tensor], activation: Activation) -> None:
        names = {"weight" if name.endswith("weight") else "bias": name for name in stacks}
        self._weight_name, self._bias_name = names["weight"], names.get("bias")
        self._weights = stacks[self._weight_name]
        self._biases = None if self._bias_name is None else stacks[self._bias_name]
        self._activation = activation
        self._outputs: torch.Tensor | None = None

    @property
    def output_bytes(self) -> int:
        return 0 if self._outputs is None else self._outputs.nbytes

    @torch.no_grad()
    def forward(self, h: torch.Tensor) -> torch.Tensor:
        n_layers, width = len(self._weights), self._weights.shape[2]
        if h.shape[-1] != width or h.dtype not in (self._weights.dtype, torch.bfloat16, torch.float16):
            wanted = f"{self._weights.dtype} of shape (..., {width})"
            raise ValueError(f"the layers get {h.dtype} of shape {tuple(h.shape)}, but must get {wanted}")
        kind = h.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else h.dtype
        vectors = h.reshape(-1, width).to(dtype)
        outputs = vectors.new_empty((n_layers + 1, *vectors.shape))
        outputs[0] = vectors
        with torch.autocast(h.device.type, enabled=False):
            for i in range(n_layers):
                weight = self._weights[i].to(dtype).t()
                if self._biases is None:
                    torch.mm(outputs[i], weight, out=outputs[i + 1])
                else:
                    torch.addmm(self._biases[i].to(dtype), outputs[i], weight, out=outputs[i + 1])
                if self._activation is not None:
                    _FUNCTIONS[self._activation](outputs[i + 1])
        self._outputs = outputs
        return outputs[n_layers].reshape(h.shape)

    def update(self, layers: range, projection: Projection, factor: float | torch.Tensor, targets: Targets) -> None:
        assert self._outputs is not None
        these = slice(layers.start, layers.stop)
        after = self._outputs[layers.start + 1 : layers.stop + 1]
        deltas = projection.layers(0, factor, after, self._activation)
        with torch.autocast(deltas.device.type, enabled=False):
            products = (targets.tensors[self._weight_name][these], deltas.transpose(1, 2), self._outputs[these])
            targets.kind.take_products(*products)
        if self._bias_name is not None:
            targets.kind.take(targets.tensors[self._bias_name][these], deltas.sum(dim=1))

    def forget(self) -> None:
        self._outputs = None


class ModuleLayers:
    """Layers of any kind, each with a graph of its own."""

    def __init__(self, layers: Sequence[nn.Module], stacks: dict[str, torch.Tensor], batch_axes: int) -> None:
        self._layers, self._names = layers, list(stacks)
        self._parameters = [[dict(layer.named_parameters())[name] for name in stacks] for layer in layers]
        self._batch_axes, self._width = batch_axes, 0
        self._outputs: list[torch.Tensor] = []

    @property
    def output_bytes(self) -> int:
        return sum(output.nbytes for output in self._outputs)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        self._outputs, self._width = [], math.prod(h.shape[self._batch_axes :])
        for i, layer in enumerate(self._layers):
            with torch.enable_grad():
                output = layer(h)
            if not isinstance(output, torch.Tensor) or output.shape != h.shape:
                what = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
                raise ValueError(
                    f"layers[{i}] returned {what}, but must return a tensor of its input's shape {tuple(h.shape)}"
                )
            self._outputs.append(output)
            h = output.detach()
        return h

    def update(self, layers: range, projection: Projection, factor: float | torch.Tensor, targets: Targets) -> None:
        for i in reversed(layers):
            output = self._outputs[i]
            start = (i - layers.start) * self._width
            part = projection.part(start, start + self._width, factor, output.device, output.dtype)
            feedback = from_vectors(part, output.shape, 0).to(output.dtype)
            gradients = torch.autograd.grad(output, self._parameters[i], feedback, allow_unused=True)
            for name, gradient in zip(self._names, gradients, strict=True):
                if gradient is not None:
                    targets.kind.take(targets.tensors[name][i], gradient)
                elif not targets.kind.keep:
                    targets.tensors[name][i].zero_()
            self._outputs[i] = output.detach()  # frees its graph

    def forget(self) -> None:
        self._outputs = []
