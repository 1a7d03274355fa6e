"""The paper's shape, and memory and time of training it, with all gradients kept or each one used at once.

A gradient is as large as its parameter. If the optimizer steps after the backward pass, all gradients together take as
much memory as the model. If it steps in the backward pass, when a gradient is complete, only one gradient exists at a
time.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from opuproj.dfa import Method
from torch import Tensor
from tqdm import tqdm

from common import devices, plays, runs
from common.gpt.model import GPT, Shape
from common.gpt.training import Settings, attach, loss_of

# A layer as in the paper has 16 width² parameters: 4 for attention and 12 for the perceptron.
PAPER = Shape(width=2040, n_layers=16, n_heads=20, vocabulary=1016, context=24, expansion=6, turn=False)
# The same with the small study's linear map, without which feedback was harmful there: 0.4 % more parameters.
STUDY = replace(PAPER, turn=True)
# Adafactor stores a row and a column per matrix, Adam two matrices.
OPTIMIZERS = {
    "adafactor": partial(torch.optim.Adafactor, foreach=False),
    "adam": partial(torch.optim.Adam, foreach=False),
    "sgd": partial(torch.optim.SGD, foreach=False),
}
GB = 1e9


@dataclass(frozen=True)
class Variant:
    """A method and the time of the optimizer's step."""

    method: Method
    in_backward: bool

    @property
    def name(self) -> str:
        """The name of its result."""
        return f"{self.method}-{'step-in-backward' if self.in_backward else 'gradients-kept'}"


@dataclass(frozen=True)
class Plan:
    """The settings that all variants share."""

    shape: Shape
    error: str
    optimizer: str
    rate: float
    batch: int
    threads: int | None
    progress: bool
    device: devices.Device = devices.CPU


VARIANTS = (Variant("bp", False), Variant("bp", True), Variant("dfa", True), Variant("odfa", True))


def measure_all(plan: Plan, methods: list[str], corpus: plays.Corpus, n_steps: int, directory: Path) -> None:
    """Train every variant for some steps, each in a separate process, and print memory and time."""
    print(f"{GPT(plan.shape).count():,} parameters in float32; {plan.optimizer}, {plan.batch} windows a step\n")
    inputs, targets = plays.windows(corpus.training, plan.shape.context)
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))[: n_steps * plan.batch]
    batches = list(zip(inputs[order].split(plan.batch), targets[order].split(plan.batch), strict=True))
    print(f"{'':<24}{'peak':>10}{'Python':>10}{'model':>10}{'seconds a step':>16}{'loss, first and last':>24}")
    for variant in VARIANTS:
        if variant.method in methods:
            file = directory / f"{variant.name}.json"
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                result = runs.read_json(file)
                if result is None:
                    result = process.submit(measure, variant, plan, batches).result()
                else:
                    plan.device.computed(result.get("computed"), file)
            runs.write_json(file, result)
            print(
                f"{variant.name:<24}{result['peak'] / GB:>7.2f} GB{result['before'] / GB:>7.2f} GB"
                f"{result['model'] / GB:>7.2f} GB{result['seconds_a_step']:>16.2f}"
                f"{result['losses'][0]:>14.3f}{result['losses'][-1]:>10.3f}"
            )


def measure(variant: Variant, plan: Plan, batches: list[tuple[Tensor, Tensor]]) -> dict[str, Any]:
    """Train one variant. The memory is that of the GPU, if the model is on one."""
    runs.use_threads(plan.threads)
    device = plan.device
    before = device.peak_memory()
    model = GPT(plan.shape).initialise(torch.Generator().manual_seed(0)).to(device.name)
    settings = Settings(variant.method, seed=0, rate=plan.rate, shape=plan.shape, error=plan.error, block_layers=1)
    attach(model, settings)
    device.compiled(model)
    make = partial(OPTIMIZERS[plan.optimizer], lr=plan.rate)
    optimizer = None if variant.in_backward else make(list(model.parameters()))
    if variant.in_backward:
        step_in_backward(model, make)

    losses, seconds = [], []
    for inputs, targets in tqdm(batches, desc=variant.name, leave=False, disable=not plan.progress):
        started = perf_counter()
        with device.casting():
            loss = loss_of(model, inputs.to(device.name), targets.to(device.name))
        loss.backward()
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad()
        losses.append(float(loss.detach()))  # waits for a GPU
        device.wait()
        seconds.append(perf_counter() - started)
    return {
        "parameters": model.count(),
        "model": 4 * model.count(),
        "optimizer": plan.optimizer,
        "batch": plan.batch,
        "before": before,
        "peak": device.peak_memory(),
        "computed": device.beginning(),
        # The first step also allocates.
        "seconds_a_step": sum(seconds[1:] or seconds) / len(seconds[1:] or seconds),
        "losses": losses,
        "seconds": seconds,
    }


def step_in_backward(model: GPT, make: Any) -> None:
    """Give each parameter its own optimizer, which steps when the gradient is complete and frees it."""
    optimizers = {parameter: make([parameter]) for parameter in model.parameters()}

    def step(parameter: Tensor) -> None:
        optimizers[parameter].step()
        parameter.grad = None

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(step)
