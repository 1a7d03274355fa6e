"""Training with the weights in the host's memory: a step by backpropagation and one by direct feedback.

The network is a stack of equal layers, h ← tanh(W h), and a head. The weights of the layers, and what the optimizer
keeps of each, lie in the host's memory. The device has room for the weights of a few layers. A window brings a layer
before it is needed, while others compute, and takes it back after its update, in streams of their own. The outputs of
all layers, the head and the projection stay on the device.

What moves in a step, in copies of all weights:

- **Backpropagation** brings every weight twice: for the forward pass, and for the gradient of the layer below in the
  backward pass. There the weight is updated, and goes back. So two copies come and one goes.
- **Direct feedback** needs a weight for the forward pass alone, because a layer's gradient consists of its feedback and
  its outputs. The error is known only after the forward pass. So the update of a layer waits until its weight comes for
  the next forward pass, is made there, and the weight goes back. One copy comes and one goes. Each weight is up to date
  when it is used, so this is the same gradient descent as with an update at once.
- What the optimizer keeps comes once and goes back once, by both methods, with the update.

A few layers stay in the window where a pass turns, and do not move.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from opuproj import Projector, dfa
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from common.devices import CPU, Device
from common.scaling.handwritten import error_of, through_tanh
from common.scaling.steps import RATE

Optimizer = Literal["sgd", "adam"]
STATES: dict[Optimizer, int] = {"sgd": 0, "adam": 2}
# One layer computes, one comes and one goes.
SLOTS = 3
BETAS, EPSILON = (0.9, 0.999), 1e-8


@dataclass(frozen=True)
class Stack:
    """A network whose weights can be larger than the device's memory: layers × width × width, and a head.

    Attributes
    ----------
    width, layers, n_outputs
        The size. The inputs have the width of the layers.
    batch
        Examples per step.
    optimizer
        "sgd": gradient descent, which keeps nothing. "adam" keeps two averages of each weight.
    """

    width: int
    layers: int
    batch: int
    n_outputs: int = 1000
    optimizer: Optimizer = "sgd"

    @property
    def parameters(self) -> int:
        """The number of parameters."""
        return self.layers * self.width**2 + self.n_outputs * self.width

    @property
    def host_bytes(self) -> int:
        """The memory of the layers' weights and of what the optimizer keeps of them."""
        return 4 * self.layers * self.width**2 * (1 + STATES[self.optimizer])


class Copies:
    """Copies between host and device, in a stream to each side. On the CPU, plain copies in turn.

    Parameters
    ----------
    device
        The device that computes.
    """

    def __init__(self, device: Device):
        self.device = device
        self._up, self._down = (torch.cuda.Stream(device.name) if device.is_gpu else None for _ in range(2))

    def host(self, tensor: Tensor) -> Tensor:
        """Return a tensor in the host's memory, from which a GPU can copy while it computes."""
        return tensor.pin_memory() if self.device.is_gpu else tensor

    def up(self, target: Tensor, source: Tensor, after: Sequence[Any]) -> Any:
        """Copy to the device when these events have happened, and return the event of its end."""
        return self._copy(self._up, target, source, after)

    def down(self, target: Tensor, source: Tensor, after: Sequence[Any]) -> Any:
        """Copy to the host when these events have happened, and return the event of its end."""
        return self._copy(self._down, target, source, after)

    def computed(self) -> Any:
        """Return the event that what was given to the device until now is computed."""
        return torch.cuda.current_stream(self.device.name).record_event() if self.device.is_gpu else None

    def wait(self, event: Any) -> None:
        """Let the device wait for an event before it computes what follows."""
        if event is not None:
            torch.cuda.current_stream(self.device.name).wait_event(event)

    def _copy(self, stream: Any, target: Tensor, source: Tensor, after: Sequence[Any]) -> Any:
        context: AbstractContextManager[Any] = nullcontext() if stream is None else torch.cuda.stream(stream)
        with context:
            for event in after:
                if event is not None:
                    stream.wait_event(event)
            target.copy_(source, non_blocking=stream is not None)
            return None if stream is None else stream.record_event()


class Window:
    """The tensors of some layers on the device, out of those of all layers in the host's memory.

    Parameters
    ----------
    copies
        How tensors move.
    host
        The tensors of all layers, of one shape.
    slots
        How many of them the device holds. If it holds all, they do not move after they have come once.

    Attributes
    ----------
    moved
        The numbers of tensors that came and went.
    """

    def __init__(self, copies: Copies, host: list[Tensor], slots: int = SLOTS):
        self.copies, self.host = copies, host
        self.resident = slots >= len(host)
        self.moved = {"up": 0, "down": 0}
        # Before the first copies, the device ends what used this memory.
        self._free: deque[tuple[Tensor, Any]] = deque(
            (torch.empty_like(host[0], device=copies.device.name), copies.computed())
            for _ in range(min(slots, len(host)))
        )
        # The layers on the device: their tensors, and the events of their arrival.
        self._here: dict[int, tuple[Tensor, Any]] = {}
        # Those that no one uses, the oldest first, with the events of their last use.
        self._idle: dict[int, Any] = {}
        # The events after which the tensors in the host's memory are up to date.
        self._returned: dict[int, Any] = {}

    def bring(self, layer: int) -> None:
        """Begin to bring a layer to the device, if it is not there."""
        if layer in self._here:
            self._idle.pop(layer, None)
            return
        if self._free:
            tensor, event = self._free.popleft()
            after = [event]
        else:
            oldest = next(iter(self._idle))
            # Before another layer takes its memory, it must be used and, if it changed, back in the host's memory.
            after = [self._idle.pop(oldest), self._returned.get(oldest)]
            tensor, _ = self._here.pop(oldest)
        arrival = self.copies.up(tensor, self.host[layer], [*after, self._returned.get(layer)])
        self._here[layer] = tensor, arrival
        self.moved["up"] += 1

    def take(self, layer: int) -> Tensor:
        """Return a layer's tensor, which is used from now on."""
        self.bring(layer)
        tensor, arrival = self._here[layer]
        self.copies.wait(arrival)
        return tensor

    def leave(self, layer: int, *, changed: bool) -> None:
        """Use a layer's tensor no more. If it changed, it goes back to the host's memory.

        If it is used again and changes before it has arrived there, it is sent again, and the last copy counts.
        """
        self._idle[layer] = used = self.copies.computed()
        if changed and not self.resident:
            self._returned[layer] = self.copies.down(self.host[layer], self._here[layer][0], [used])
            self.moved["down"] += 1

    def read(self) -> list[Tensor]:
        """Return all layers' tensors in the host's memory, up to date."""
        self.copies.device.wait()
        return [self._here[layer][0].cpu() if layer in self._here else host for layer, host in enumerate(self.host)]


class Network:
    """What both methods share: weights in the host's memory, the head, one batch, the optimizer.

    Parameters
    ----------
    stack
        The size.
    device
        The device that computes.
    resident
        Whether the device holds all weights, so that nothing moves.
    rate
        The learning rate.
    """

    def __init__(self, stack: Stack, device: Device = CPU, *, resident: bool = False, rate: float = RATE):
        random = torch.Generator().manual_seed(0)
        self.stack, self.device, self.rate = stack, device, rate
        copies = Copies(device)
        slots = stack.layers if resident else SLOTS

        def weight(n_outputs: int) -> Tensor:
            return torch.randn(n_outputs, stack.width, generator=random) / math.sqrt(stack.width)

        # Each layer has the same rows in another order, because billions of random numbers take minutes.
        rows = weight(stack.width)
        hosts = [copies.host(rows.roll(layer, 0)) for layer in range(stack.layers)]
        self.weights = Window(copies, hosts, slots)
        states = STATES[stack.optimizer]
        self.states: Window | None = None
        if states:
            zeros = [copies.host(torch.zeros(states, stack.width, stack.width)) for _ in hosts]
            self.states = Window(copies, zeros, slots)
        self.head = weight(stack.n_outputs).to(device.name)
        self.head_state = torch.zeros(states, *self.head.shape, device=device.name) if states else None
        self.x = torch.randn(stack.batch, stack.width, generator=random).to(device.name)
        self.y = torch.randint(stack.n_outputs, (stack.batch,), generator=random).to(device.name)
        self.n_updates = [0] * (stack.layers + 1)

    def step(self) -> Tensor:
        """Train once, and return the loss before the update; each way to train defines it."""
        raise NotImplementedError

    def finish(self) -> None:
        """Make the updates that wait for the next step, if there are any, so that the weights can be read."""

    def read(self) -> list[Tensor]:
        """Return the weights of all layers, in the host's memory."""
        return self.weights.read()

    def moved(self) -> dict[str, int]:
        """Return how many layers' weights, and states of the optimizer, have come and gone."""
        windows = {"weights": self.weights, "states": self.states}
        return {
            f"{name} {way}": 0 if window is None else window.moved[way]
            for name, window in windows.items()
            for way in ("up", "down")
        }

    def above(self, top: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss and the error at the head's output."""
        logits = top @ self.head.t()
        return F.cross_entropy(logits, self.y), error_of(logits, self.y)

    def through(self, order: Sequence[int], *, update: bool) -> Iterator[tuple[int, Tensor, Tensor | None]]:
        """Take layers in an order, and bring each next one meanwhile; they go back if they are updated.

        Yields
        ------
        layer, weight, state
            The state, what the optimizer keeps, comes only for an update, and is None for gradient descent.
        """
        windows = [self.weights, *([self.states] if update and self.states is not None else [])]
        for place, layer in enumerate(order):
            tensors = [window.take(layer) for window in windows]
            for window in windows if place + 1 < len(order) else ():
                window.bring(order[place + 1])
            yield layer, tensors[0], tensors[1] if len(tensors) > 1 else None
            for window in windows:
                window.leave(layer, changed=update)

    def update(self, layer: int, weight: Tensor, delta: Tensor, below: Tensor, state: Tensor | None) -> None:
        """Update a weight on the device, from the gradient at its product's output and the input of the product."""
        self.n_updates[layer] += 1
        if state is None:
            weight.addmm_(delta.t(), below, alpha=-self.rate)
            return
        gradient = delta.t() @ below
        mean, square = state[0], state[1]
        mean.lerp_(gradient, 1 - BETAS[0])
        square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        first, second = (1 - beta ** self.n_updates[layer] for beta in BETAS)
        weight.addcdiv_(mean, (square / second).sqrt_().add_(EPSILON), value=-self.rate / first)

    def update_head(self, error: Tensor, top: Tensor) -> None:
        """Update the head, which stays on the device."""
        self.update(self.stack.layers, self.head, error, top, self.head_state)


class Backpropagation(Network):
    """A step of backpropagation, with each layer's update in the backward pass."""

    @torch.no_grad()
    def step(self) -> Tensor:
        """Train once, and return the loss before the update."""
        layers = range(self.stack.layers)
        outputs = [self.x]
        for _, weight, _ in self.through(layers, update=False):
            outputs.append(torch.mm(outputs[-1], weight.t()).tanh_())
        loss, error = self.above(outputs[-1])
        delta = through_tanh(error @ self.head, outputs[-1])
        self.update_head(error, outputs[-1])
        for layer, weight, state in self.through(layers[::-1], update=True):
            below = outputs[layer]
            gradient = delta @ weight if layer else None
            self.update(layer, weight, delta, below, state)
            if gradient is not None:
                delta = through_tanh(gradient, below)
        return loss


class DirectFeedback(Network):
    """A step of direct feedback of the ternary error (ODFA), with each layer's update in the next forward pass.

    Parameters
    ----------
    ternarize
        The rule for the error.
    **options
        As of `Network`.
    """

    def __init__(
        self,
        stack: Stack,
        device: Device = CPU,
        *,
        ternarize: dfa.Ternarize | None = None,
        mode: Literal["linear", "real"] = "linear",
        **options: Any,
    ):
        super().__init__(stack, device, **options)
        self.ternarize = ternarize or dfa.Ternarize(dfa.RowMax(0.25), norm="row")
        self.operator = Projector(stack.n_outputs, stack.layers * stack.width, seed=0, mode=mode)
        self._outputs: list[Tensor] = []
        self._error: tuple[Tensor, Tensor] | None = None

    @torch.no_grad()
    def step(self) -> Tensor:
        """Make the updates of the step before, train the head, and return the loss before its update."""
        outputs = [self.x]
        for weight in self._updated():
            outputs.append(torch.mm(outputs[-1], weight.t()).tanh_())
        loss, error = self.above(outputs[-1])
        self.update_head(error, outputs[-1])
        self._error, self._outputs = self.ternarize(error), outputs
        return loss

    @torch.no_grad()
    def finish(self) -> None:
        """Make the updates that wait for the next step, so that the weights can be read."""
        for _ in self._updated():
            pass
        self._error = None

    def _updated(self) -> Iterator[Tensor]:
        """Give the weight of each layer, after the update by its feedback from the step before, if there was one."""
        for layer, weight, state in self.through(range(self.stack.layers), update=self._error is not None):
            if self._error is not None:
                ternary, factor = self._error
                below, above, width = self._outputs[0], self._outputs[1], self.stack.width
                feedback = self.operator.rows(layer * width, (layer + 1) * width)(ternary)
                delta = through_tanh(feedback * (factor / math.sqrt(width)), above)
                self.update(layer, weight, delta, below, state)
                del self._outputs[0]  # the outputs of this step take its place
            yield weight


METHODS: dict[str, type[Network]] = {"bp": Backpropagation, "odfa": DirectFeedback}
