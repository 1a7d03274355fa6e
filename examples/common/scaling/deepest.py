"""The deepest network that one training step of a method fits into a given memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, Literal

import torch
from opuproj import dfa
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.checkpoint import checkpoint

from common import devices, runs
from common.memory import return_freed_memory
from common.scaling.forms import descend
from common.scaling.steps import RATE, Size, peak_of, perceptron

Way = Literal["bp", "bp, checkpoints", "dfa", "odfa", "odfa, stack"]
WAYS: tuple[Way, ...] = ("bp", "bp, checkpoints", "dfa", "odfa", "odfa, stack")
# The first depth that is tried, the least, and the share of a depth within which the deepest one is found.
FIRST, LEAST, SHARE = 8, 2, 0.02


def deepest(
    size: Callable[[int], Size], way: Way, limit: int, peak: Callable[[Size, Way], int | None]
) -> tuple[int, int, list[tuple[int, int | None]]]:
    """Return the most layers whose step takes at most `limit` bytes, what it takes, and all tries.

    Parameters
    ----------
    size
        Returns the network of a number of layers.
    way
        How it is trained.
    limit
        The memory in bytes.
    peak
        Returns the memory that a step takes, or None if it does not fit into the machine.
    """
    tried: dict[int, int | None] = {}
    low, high = 0, 0  # 0: not known yet
    n = FIRST
    while n > low and n >= LEAST:
        used = tried[n] = peak(size(n), way)
        if used is not None and used <= limit:
            low = n
        else:
            high = n
        if high and high - low <= max(1, int(SHARE * low)):
            break
        n = _next(tried, low, high, limit)
    return low, tried.get(low) or 0, sorted(tried.items())


def _next(tried: dict[int, int | None], low: int, high: int, limit: int) -> int:
    """Return the depth to try next: where a line through what was measured meets the limit, else the middle."""
    known = sorted((n, used) for n, used in tried.items() if used is not None)
    if len(known) >= 2:
        (n0, used0), (n1, used1) = known[-2:]
        if used1 > used0:
            n = n0 + int((limit - used0) * (n1 - n0) / (used1 - used0))
            if low < n and (not high or n < high):
                return n if high else min(n, 8 * low)
            if n <= low:
                return low + max(1, int(SHARE * low))  # the line says that the last one was the deepest
    return (low + high) // 2 if high else 2 * low


def peak(size: Size, way: Way, threads: int | None, device: devices.Device) -> int | None:
    """Return the bytes that two steps take beyond an idle process, measured in a process of its own.

    They are torch's memory on a GPU, else the resident memory. None if the machine has not enough, or does not say.
    """
    return_freed_memory()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(_peak, size, way, threads, device).result()


def _peak(size: Size, way: Way, threads: int | None, device: devices.Device) -> int | None:
    runs.use_threads(threads)
    two_steps(Size("mlp", 32, 3, 2), way, device)  # allocations of libraries at their first use
    try:
        return peak_of(lambda: two_steps(size, way, device), device)
    except torch.cuda.OutOfMemoryError:
        return None


def two_steps(size: Size, way: Way, device: devices.Device) -> list[float]:
    """Take two steps of gradient descent, and return the losses.

    Each way applies a layer's gradient as soon as there is one, so that no gradients are stored.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = perceptron(size, bias=False).to(device.name)
    random = torch.Generator().manual_seed(0)
    x = torch.randn(size.batch, size.n_inputs, generator=random).to(device.name)
    y = torch.randint(size.n_outputs, (size.batch,), generator=random).to(device.name)
    if way == "odfa, stack":
        first, *layers, head = model.children()
        step = dfa.StackStep(first, layers, head, F.cross_entropy, lr=RATE, mode="real")
        return [float(step(x, y)) for _ in range(2)]
    if way in ("dfa", "odfa"):
        method: Any = way
        dfa.attach(model, list(model.children())[:-1], method=method, mode="real")
    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(descend)
    losses = []
    for _ in range(2):
        loss = F.cross_entropy(_forward(model, x, checkpoints=way == "bp, checkpoints"), y)
        loss.backward()
        losses.append(float(loss.detach()))
    return losses


def _forward(model: nn.Sequential, x: torch.Tensor, *, checkpoints: bool) -> torch.Tensor:
    """Run a model; with checkpoints, its layers are computed again in the backward pass, √layers of them at a time."""
    if not checkpoints:
        return model(x)  # type: ignore[no-any-return]
    layers = list(model.children())
    n = max(1, round(len(layers) ** 0.5))
    h = x
    for start in range(0, len(layers), n):
        h = checkpoint(nn.Sequential(*layers[start : start + n]), h, use_reentrant=False)
    return h


def show(found: Mapping[Way, Mapping[str, Any]], limit: str) -> None:
    """Print the deepest network of each way."""
    print(f"\nThe deepest network whose training step takes at most {limit}:")
    print(f"{'way':<18}{'layers':>8}{'parameters':>16}{'GB':>8}")
    for way, one in found.items():
        print(f"{way:<18}{one['layers']:>8}{one['parameters']:>16,}{one['bytes'] / 1e9:>8.2f}")
