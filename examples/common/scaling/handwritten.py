"""Backpropagation written by hand: the fastest step that we know without direct feedback, as a base of comparison."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F  # noqa: N812


class StackedBackpropagation:
    """A fully connected tanh network whose step is a forward pass and gradient descent within the backward pass.

    It stores no gradients: each layer's weight is updated by one product. `n_inputs` → width, n_layers times, →
    `n_outputs`, without biases, and the loss is the mean cross-entropy.

    Parameters
    ----------
    n_inputs, width, n_layers, n_outputs
        The size. All layers but the first are in one tensor.
    rate
        The learning rate.
    device, dtype
        Those of the weights and of all that is computed.
    compiled
        Whether elementwise work is compiled.
    """

    def __init__(
        self,
        n_inputs: int,
        width: int,
        n_layers: int,
        n_outputs: int,
        *,
        rate: float,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        compiled: bool = False,
    ) -> None:
        random = torch.Generator().manual_seed(0)

        def weights(*shape: int) -> torch.Tensor:
            return (torch.randn(shape, generator=random) / shape[-1] ** 0.5).to(device, dtype)

        self.first, self.last = weights(width, n_inputs), weights(n_outputs, width)
        self.weights = torch.stack([weights(width, width) for _ in range(n_layers - 1)]) if n_layers > 1 else None
        self.rate, self.n_layers = rate, n_layers
        self._through: Callable[..., torch.Tensor] = torch.compile(through_tanh) if compiled else through_tanh

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the input and the output of each hidden layer."""
        outputs = [x, torch.mm(x, self.first.t()).tanh_()]
        for i in range(self.n_layers - 1):
            assert self.weights is not None
            outputs.append(torch.mm(outputs[-1], self.weights[i].t()).tanh_())
        return outputs

    @torch.no_grad()
    def step(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Train once, and return the loss."""
        outputs = self.forward(x)
        logits = outputs[-1] @ self.last.t()
        loss = F.cross_entropy(logits, y)
        error = error_of(logits, y)
        delta = self._through(error @ self.last, outputs[-1])
        self.last.addmm_(error.t(), outputs[-1], alpha=-self.rate)
        for i in range(self.n_layers - 1, 0, -1):
            assert self.weights is not None
            below = self._through(delta @ self.weights[i - 1], outputs[i])
            self.weights[i - 1].addmm_(delta.t(), outputs[i], alpha=-self.rate)
            delta = below
        self.first.addmm_(delta.t(), x, alpha=-self.rate)
        return loss


def error_of(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the gradient of the mean cross-entropy with respect to the logits."""
    error = torch.softmax(logits, -1)
    error.scatter_add_(1, y[:, None], torch.full_like(error[:, :1], -1.0))
    return error / len(logits)


def through_tanh(gradient: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """Return the gradient before a tanh from that after it."""
    return gradient * (1 - output * output)
