"""The cost of a training step: seconds of its parts, measured in turn, and memory in a separate process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Literal

import torch
from opuproj import dfa
from torch import nn
from torch.nn import functional as F  # noqa: N812

from common import devices, runs
from common.gpt.model import GPT, Shape
from common.memory import resident, return_freed_memory

N_FEATURES = 1000
N_CLASSES = 1000
# The learning rate of gradient descent.
RATE = 1e-4
PARTS = ("forward", "backward", "projection", "optimizer")


@dataclass(frozen=True)
class Size:
    """A network to measure.

    Attributes
    ----------
    family
        "mlp": hidden layers of one width with tanh, from `n_inputs` to `n_outputs`. "gpt": the decoder-only Transformer
        of the dialogue, its error taken after the last layer norm.
    width, layers, batch
        Hidden units, hidden layers (all are blocks; for "gpt" all but the last of several), examples per step.
    """

    family: str
    width: int
    layers: int
    batch: int
    n_inputs: int = N_FEATURES
    n_outputs: int = N_CLASSES

    @property
    def name(self) -> str:
        """The name of its results."""
        return f"{self.family}-width{self.width}-layers{self.layers}-batch{self.batch}"

    @property
    def gpt(self) -> Shape:
        """The same as a Transformer's shape."""
        return Shape(width=self.width, n_layers=self.layers, n_heads=max(1, self.width // 32))

    @property
    def projection(self) -> tuple[int, int, int]:
        """The projection of a step: numbers of errors, elements and rows."""
        if self.family == "gpt":
            return self.batch * self.gpt.context, self.width, max(1, self.layers - 1) * self.width
        return self.batch, self.n_outputs, self.layers * self.width

    @property
    def parameters(self) -> int:
        """The number of parameters without biases and norms."""
        if self.family == "gpt":
            return 12 * self.layers * self.width**2 + (2 * self.gpt.vocabulary + self.gpt.context) * self.width
        return (self.layers - 1) * self.width**2 + (self.n_inputs + self.n_outputs) * self.width


class Trainee:
    """A network with feedback attached, an optimizer and one batch of random data.

    Parameters
    ----------
    size
        Size of the network.
    make_optimizer
        Called with the parameters; the default is SGD, which needs no memory.
    attached
        Whether feedback is attached; without it, steps are PyTorch's backpropagation.
    device
        The device of the network and the batch.
    dtype
        That of the network.
    mode
        The random matrix of the feedback.
    bias
        Whether the layers of a fully connected network have biases.
    """

    def __init__(
        self,
        size: Size,
        make_optimizer: Callable[..., torch.optim.Optimizer] | None = None,
        attached: bool = True,
        device: devices.Device = devices.CPU,
        dtype: torch.dtype = torch.float32,
        mode: Literal["linear", "real"] = "linear",
        *,
        bias: bool = True,
    ):
        random = torch.Generator().manual_seed(0)
        if size.family == "gpt":
            self.model: nn.Module = GPT(size.gpt).initialise(random)
            shape = (size.batch, size.gpt.context)
            self.x = torch.randint(size.gpt.vocabulary, shape, generator=random)
            self.y = torch.randint(size.gpt.vocabulary, shape, generator=random).flatten()
        else:
            self.model = perceptron(size, bias=bias)
            self.x = torch.randn(size.batch, size.n_inputs, generator=random).to(dtype)
            self.y = torch.randint(size.n_outputs, (size.batch,), generator=random)
        self.device = device
        self.model.to(device.name, dtype)
        self.x, self.y = self.x.to(device.name), self.y.to(device.name)
        self.feedback = attach(self.model, size, mode) if attached else None
        device.compiled(self.model)
        make = make_optimizer or (lambda parameters: torch.optim.SGD(parameters, lr=RATE))
        self.optimizer = make(self.model.parameters())

    def loss(self) -> torch.Tensor:
        """Run the forward pass, and return the loss."""
        return F.cross_entropy(self.model(self.x).flatten(0, -2), self.y)

    def step(self, method: dfa.Method) -> dict[str, float]:
        """Take one step; return the seconds of its parts ("projection" is within "backward").

        On a GPU, "projection" is the time in which the host gives the GPU this work.
        """
        before = 0.0
        if self.feedback is not None:
            self.feedback.method = method
            before = self.feedback.statistics.seconds
        self.device.wait()
        start = perf_counter()
        with self.device.casting():
            loss = self.loss()
        self.device.wait()
        forward = perf_counter()
        loss.backward()
        self.device.wait()
        backward = perf_counter()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.device.wait()
        end = perf_counter()
        projection = self.feedback.statistics.seconds - before if self.feedback is not None else 0.0
        return {
            "forward": forward - start,
            "backward": backward - forward,
            "projection": projection,
            "optimizer": end - backward,
            "step": end - start,
        }


def perceptron(size: Size, *, bias: bool = True) -> nn.Sequential:
    """Return a fully connected network: hidden layers, then the last layer."""
    widths = [size.n_inputs, *[size.width] * size.layers]
    hidden = [nn.Sequential(nn.Linear(a, b, bias=bias), nn.Tanh()) for a, b in pairwise(widths)]
    return nn.Sequential(*hidden, nn.Linear(size.width, size.n_outputs, bias=bias))


def attach(model: nn.Module, size: Size, mode: Literal["linear", "real"] = "linear") -> dfa.Feedback:
    """Attach feedback to the hidden layers."""
    if isinstance(model, GPT):
        blocks = [f"layers.{i}" for i in range(max(1, size.layers - 1))]
        return dfa.attach(model, blocks, output="norm", batch_axes=2, mode=mode)
    return dfa.attach(model, list(model.children())[:-1], mode=mode)


def interleave(
    steps: Mapping[str, Callable[[], dict[str, float]]], least: int, most: int, budget: float
) -> dict[str, list[dict[str, float]]]:
    """Take steps of all methods in turn, round after round, after one step of each that does not count.

    There are at least `least` and at most `most` rounds, and no round begins after `budget` seconds.
    """
    for step in steps.values():
        step()
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in steps}
    start = perf_counter()
    for done in range(most):
        if done >= least and perf_counter() - start > budget:
            break
        for name, step in steps.items():
            measured[name].append(step())
    return measured


def medians(measured: Mapping[str, list[dict[str, float]]], against: str = "bp") -> dict[str, dict[str, float]]:
    """Median seconds of each part, and the median over the rounds of the step's ratio to another method's step."""
    summary = {}
    for name, rounds in measured.items():
        summary[name] = {part: median(r[part] for r in rounds) for part in (*PARTS, "step")}
        summary[name]["rounds"] = len(rounds)
        if against in measured:
            pairs = zip(rounds, measured[against], strict=True)
            summary[name]["ratio"] = median(mine["step"] / theirs["step"] for mine, theirs in pairs)
    return summary


def peak_memory(
    size: Size, method: dfa.Method, threads: int | None, device: devices.Device = devices.CPU
) -> int | None:
    """Bytes that two training steps need beyond an idle process: parameters, gradients, activations, feedback.

    Measured in a new process, as its peak resident memory minus that before the network was made, or of torch's memory
    on a GPU. None if the system does not give it.
    """
    return_freed_memory()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(_peak_memory, size, method, threads, device).result()


def _peak_memory(size: Size, method: dfa.Method, threads: int | None, device: devices.Device) -> int | None:
    runs.use_threads(threads)
    small = Trainee(Size(size.family, 32, 2, 1), device=device)  # allocations of libraries at their first use
    small.step(method)
    del small

    def two_steps() -> None:
        trainee = Trainee(size, device=device)
        for _ in range(2):
            trainee.step(method)

    return peak_of(two_steps, device)


def peak_of(work: Callable[[], object], device: devices.Device) -> int | None:
    """Return the most bytes that a work takes beyond what this process has: of torch's memory on a GPU, else resident.

    None if the system does not give it.
    """
    if device.is_gpu:
        torch.cuda.reset_peak_memory_stats(device.name)
        allocated = torch.cuda.memory_allocated(device.name)
        work()
        device.wait()
        return int(torch.cuda.max_memory_allocated(device.name) - allocated)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # reset the peak to the present
    before = resident("VmRSS")
    work()
    most = resident("VmHWM")
    return None if most is None or before is None else max(0, most - before)
