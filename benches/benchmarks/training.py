"""Seconds of one eager training step of a fully connected network, by backpropagation and by direct feedback."""

from itertools import pairwise
from typing import Any

WIDTH, LAYERS, BATCH, SIDES = 512, 8, 64, 1000
# Gradient descent so slow that all steps see nearly the same network.
RATE = 1e-6


class Step:
    """Forward pass, backward pass and gradient descent, on the CPU and on a GPU where there is one.

    "bp" is PyTorch without feedback. "stack" is `opuproj.dfa.StackStep` with a ternary error, which has no other
    optimizer than its own.
    """

    params = (["cpu", "cuda"], ["bp", "dfa", "odfa", "shallow", "stack"])
    param_names = ("device", "method")
    rounds, repeat = 1, (5, 30, 5.0)

    def setup(self, device: str, method: str) -> None:
        try:
            import torch
        except ImportError:
            raise NotImplementedError from None  # asv then skips the case
        if device == "cuda" and not torch.cuda.is_available():
            raise NotImplementedError  # asv skips this case, too
        self.wait = torch.cuda.synchronize if device == "cuda" else lambda: None
        self.step = stack_step(device) if method == "stack" else autograd_step(device, method)
        self.step()  # what is computed once is not timed
        self.wait()

    def time_step(self, device: str, method: str) -> None:
        self.step()
        self.wait()


def autograd_step(device: str, method: Any) -> Any:
    """Return a function that trains once with autograd and torch's SGD, and returns the loss."""
    import torch
    from opuproj import dfa

    model, x, y = network(device)
    if method != "bp":
        dfa.attach(model, list(model)[:-1], method=method, mode="real", seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)

    def step() -> Any:
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


def stack_step(device: str) -> Any:
    """Return the same with the step for stacks of equal layers."""
    import torch
    from opuproj import dfa

    model, x, y = network(device)
    first, *layers, head = model
    step = dfa.StackStep(first, layers, head, torch.nn.functional.cross_entropy, lr=RATE, mode="real", seed=0)
    return lambda: step(x, y)


def network(device: str) -> tuple[Any, Any, Any]:
    """Return a network of tanh layers, its inputs and its targets."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    widths = [SIDES, *[WIDTH] * LAYERS]
    hidden = [nn.Sequential(nn.Linear(a, b), nn.Tanh()) for a, b in pairwise(widths)]
    model = nn.Sequential(*hidden, nn.Linear(WIDTH, SIDES)).to(device)
    return model, torch.randn(BATCH, SIDES).to(device), torch.randint(SIDES, (BATCH,)).to(device)
