"""Small GPTs of several widths, trained by backpropagation, and their validation losses over photons."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from opuproj import optical
from torch import Tensor, nn
from tqdm import tqdm

from common import devices, plays, runs
from common.gpt.model import GPT, Shape
from common.gpt.training import Run, Settings, loss_of

HEAD = 32  # the size of an attention head
RATE = 4e-3  # of AdamW, up to a width of 64; above, in proportion to 1/√width
BATCH = 16  # windows at a time: their readings fit in the caches of a CPU


@dataclass(frozen=True)
class Measurement:
    """What decides the losses of a trained model.

    Attributes
    ----------
    width, layers
        The sizes of the model.
    seed
        Of the parameters, of the order of the training text, and of the noise.
    epochs
        Passes over the training text.
    windows
        Windows of held-out text, spread over it.
    photons
        Photons a dot product, from few to many.
    """

    width: int
    layers: int
    seed: int
    epochs: int
    windows: int
    photons: tuple[float, ...]


def measured(
    chosen: Measurement, corpus: plays.Corpus, folder: Path, device: devices.Device, save_seconds: float, bar: tqdm[Any]
) -> dict[str, Any]:
    """Return the losses of a model, from the file of an earlier run if there is one."""
    path = folder / f"losses-{chosen.seed}.json"
    key = {**asdict(chosen), "photons": list(chosen.photons), "corpus": corpus.description}
    earlier = runs.read_json(path)
    if earlier is not None and all(earlier[name] == value for name, value in key.items()):
        device.computed(earlier["computed"], path)
        return earlier
    model = trained(chosen, corpus, folder, device, save_seconds, bar)
    result = {**key, **losses(model, chosen, corpus, device, bar), "computed": device.beginning()}
    runs.write_json(path, result)
    return result


def trained(
    chosen: Measurement, corpus: plays.Corpus, folder: Path, device: devices.Device, save_seconds: float, bar: tqdm[Any]
) -> GPT:
    """Return a trained model, from its file if there is one."""
    heads = max(1, chosen.width // HEAD)
    shape = Shape(width=chosen.width, n_layers=chosen.layers, n_heads=heads, turn=False)
    rate = RATE * min(1.0, math.sqrt(64 / chosen.width))
    settings = Settings("bp", chosen.seed, rate, shape=shape, turned=False, epochs=chosen.epochs)
    run = Run(settings, corpus, folder, save_seconds, device)
    weights = folder / f"weights-{chosen.seed}.pt"
    if run.finished() is None or not weights.exists():
        run.train(bar)
        runs.replace(weights, lambda temporary: torch.save(run.model.state_dict(), temporary))
    model = GPT(shape).initialise(torch.Generator().manual_seed(chosen.seed))
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    model.to(device.name).eval()
    return model


@torch.no_grad()
def losses(
    model: GPT, chosen: Measurement, corpus: plays.Corpus, device: devices.Device, bar: tqdm[Any]
) -> dict[str, Any]:
    """Measure the losses of floats, of 8 bits, and of every number of photons; and how much dot products cancel."""
    inputs, targets = plays.windows(corpus.validation.to(device.name), model.shape.context)
    some = torch.linspace(0, len(inputs) - 1, min(len(inputs), chosen.windows)).long().to(device.name)
    batches = list(zip(inputs[some].split(BATCH), targets[some].split(BATCH), strict=True))

    def loss(seed: int) -> float:
        torch.manual_seed(seed)
        with device.casting():
            sums = [float(loss_of(model, x, y)) * len(x) for x, y in batches]
        bar.update()
        return math.fsum(sums) / len(some)

    bar.reset(len(chosen.photons) + 2)
    bar.set_description(f"width {chosen.width} seed {chosen.seed} light")
    found: dict[str, Any] = {"parameters": model.count(), "float_loss": loss(0)}
    # The vocabulary is read out by electronics: its size has nothing to do with the width.
    linear = [name for name, module in model.named_modules() if type(module) is nn.Linear and name != "head"]
    optical.convert(model, layers=linear)
    with cancellations(model) as cancelled:
        found["rounded_loss"] = loss(0)
    found["cancellation"] = {name: lit / signal for name, (lit, signal) in cancelled.items()}
    noisy = []
    for place, photons in enumerate(chosen.photons):
        optical.set_photons(model, photons)
        noisy.append(loss(1000 * (chosen.seed + 1) + place))
    return {**found, "losses": noisy}


@contextmanager
def cancellations(model: nn.Module) -> Iterator[dict[str, list[float]]]:
    """Collect, for each converted layer, the power of shot noise at one photon a dot product and that of the signal.

    An output's noise has variance L mean(L)/N, where L is the sum of the magnitudes of its terms, N the photons, and
    the mean is over the outputs of a vector. So noise has κ/N of the signal's power, where κ is the first of the two
    numbers divided by the second. It is 1 if all terms have one sign. If they cancel like those of random vectors, it
    is in proportion to their number.
    """
    found: dict[str, list[float]] = {}

    def watch(name: str, layer: optical.OpticalLinear) -> Any:
        def record(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            readings = layer.readings(arguments[0])
            power = found.setdefault(name, [0.0, 0.0])
            power[0] += float(readings.sum(0).mean(-1).square().sum())
            power[1] += float(layer.readout(readings).square().mean(-1).sum())

        return layer.register_forward_pre_hook(record)

    layers = {name: module for name, module in model.named_modules() if isinstance(module, optical.OpticalLinear)}
    handles = [watch(name, layer) for name, layer in layers.items()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
