"""One training of diffusion.py: the images, the steps, the held-out loss, samples, the stored result."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from opuproj import Projector, dfa
from torch import Tensor
from tqdm import tqdm

from common import devices, energy, runs
from common.climate.networks import Network
from common.climate.training import adam, begun
from common.diffusion.model import Denoiser, Sizes
from common.diffusion.process import STEPS, Process
from common.diffusion.quality import frechet
from common.fashion import data as fashion

Blocks = Literal["each", "one"]
BATCH = 16
# Training images that are held out to choose rates and to draw curves.
VALIDATION = 1000
CURVE_POINTS = 20
# Groups of noise levels, of which the result has the mean loss.
LEVELS = 10
# Samples, and the steps of each.
SAMPLES, QUICK_SAMPLES = (256, 50), (64, 10)
QUICK_TEST = 1000
# Seeds of what is the same in all runs: the noise on held-out images, and the noise from which samples begin.
HELD_OUT_SEED, SAMPLE_SEED = 1, 2


@dataclass(frozen=True)
class Job:
    """One training run: everything that its result depends on, besides the data.

    Attributes
    ----------
    blocks
        "each": every layer is a block. "one": all layers are one block, which backpropagation trains inside.
    aligned
        Whether the head starts as the transpose of the blocks' random matrices, in all methods.
    """

    method: dfa.Method
    seed: int
    rates: tuple[float, float]
    steps: int
    blocks: Blocks
    aligned: bool
    ternarize: dfa.Ternarize
    sizes: Sizes = field(default_factory=Sizes)

    @property
    def name(self) -> str:
        """The name of the run's files."""
        return f"{self.method}-{self.seed}"

    def settings(self) -> dict[str, Any]:
        """Return the settings with which a stored result must agree to be used again."""
        return {
            "rates": list(self.rates),
            "steps": self.steps,
            "batch": BATCH,
            "blocks": self.blocks,
            "aligned": self.aligned,
            "ternarize": str(self.ternarize) if self.method == "odfa" else None,
            "sizes": asdict(self.sizes),
        }


@dataclass(frozen=True)
class HeldOut:
    """Held-out images with the steps and the noise on which every method is measured."""

    images: Tensor
    steps: Tensor
    noise: Tensor

    @classmethod
    def of(cls, images: Tensor, device: devices.Device) -> HeldOut:
        """Spread the images evenly over all steps, each with a noise of its own."""
        random = torch.Generator().manual_seed(HELD_OUT_SEED)
        noise = torch.randn(images.shape, generator=random)
        steps = torch.arange(len(images)) * STEPS // len(images)
        return cls(*(tensor.to(device.name) for tensor in (images, steps, noise)))


class Task:
    """The images on a device, and the process.

    Parameters
    ----------
    split
        Fashion-MNIST.
    device
        The device of images and models.
    quick
        Whether to use few test images, and few samples in few steps.
    """

    def __init__(self, split: fashion.Split, device: devices.Device, *, quick: bool = False):
        self.device, self.process = device, Process(device.name)
        self.n_samples, self.sample_steps = QUICK_SAMPLES if quick else SAMPLES
        n_test = QUICK_TEST if quick else None
        darkest, brightest = split.train_x.min(), split.train_x.max()

        def images(pixels: Tensor) -> Tensor:
            scaled = (pixels - darkest) / (brightest - darkest) * 2 - 1
            return scaled.view(-1, fashion.SIDE, fashion.SIDE)

        self.train = images(split.train_x[:-VALIDATION]).to(device.name)
        self.validate = HeldOut.of(images(split.train_x[-VALIDATION:]), device)
        self.test = HeldOut.of(images(split.test_x[:n_test]), device)

    def loss(self, model: torch.nn.Module) -> Tensor:
        """Return the mean square error of the noise in a random batch, at random steps."""
        # The CPU draws, so that all devices train on the same images and noise.
        images = self.train[torch.randint(len(self.train), (BATCH,)).to(self.device.name)]
        steps = torch.randint(STEPS, (BATCH,)).to(self.device.name)
        noise = torch.randn(images.shape).to(self.device.name)
        with self.device.casting():
            return self.process.squares(model, images, steps, noise).mean()

    def fixed_loss(self, model: torch.nn.Module) -> Tensor:
        """Return the loss of a quarter of the validation images, the same in every call."""
        held = (tensor[::4] for tensor in (self.validate.images, self.validate.steps, self.validate.noise))
        with self.device.casting():
            return self.process.squares(model, *held).mean()

    @torch.no_grad()
    def squares(self, model: torch.nn.Module, held: HeldOut) -> Tensor:
        """Return the mean square error of the noise in each held-out image."""
        parts = zip(*(tensor.split(250) for tensor in (held.images, held.steps, held.noise)), strict=True)
        with self.device.casting():
            return torch.cat([self.process.squares(model, *part) for part in parts]).float().cpu()

    def samples(self, model: torch.nn.Module) -> NDArray[np.float32]:
        """Return images from −1 to 1, which begin from the same noise for every model."""
        random = torch.Generator().manual_seed(SAMPLE_SEED)
        noise = torch.randn(self.n_samples, fashion.SIDE, fashion.SIDE, generator=random).to(self.device.name)
        with self.device.casting():
            parts = [self.process.sample(model, part, self.sample_steps) for part in noise.split(64)]
        images: NDArray[np.float32] = torch.cat(parts).float().cpu().numpy()
        return images


def make(job: Job) -> tuple[Network, dfa.Feedback]:
    """Return a new network with its feedback attached, the same weights for every method of a seed."""
    torch.manual_seed(job.seed)
    model = Denoiser(job.sizes)
    layers = list(model.layers)
    # All patches share the head, and each patch has its own error, so each patch receives its own feedback.
    network = Network(model, layers if job.blocks == "each" else layers[-1:], [model.norm, model.head], model.head, 2)
    if job.aligned:
        align(model, len(network.blocks), job.seed)
    feedback = dfa.attach(
        model,
        network.blocks,
        output=network.output,
        method=job.method,
        ternarize=job.ternarize,
        seed=job.seed,
        batch_axes=network.batch_axes,
    )
    return network, feedback


def align(model: Denoiser, n_blocks: int, seed: int) -> None:
    """Start the head as the transpose of the blocks' random matrices, summed and scaled so that it keeps norms."""
    n_errors, width = model.head.weight.shape
    matrix = torch.from_numpy(Projector(n_errors, n_blocks * width, seed=seed, mode="linear").matrix())
    with torch.no_grad():
        model.head.weight.copy_(matrix.view(n_blocks, width, n_errors).sum(0).T / math.sqrt(n_blocks * width))


def train(job: Job, task: Task, folder: Path, save_seconds: float, bar: tqdm[Any], *, name: str = "") -> dict[str, Any]:
    """Train one network, from its checkpoint if there is one, and store its result; keep stored results.

    A run with a `name` is a trial: it is measured on the validation images alone, and draws no samples.
    """
    path = folder / f"{name or job.name}.json"
    stored = runs.read_json(path)
    if stored and stored["settings"] == job.settings():
        task.device.computed(stored.get("computed"), path)
        bar.update(job.steps)
        return stored
    network, feedback = make(job)
    model = network.model.to(task.device.name)
    runs.check_room(task.device, sum(parameter.numel() for parameter in model.parameters()), folder)
    task.device.compiled(model)
    optimizer = adam(network, job.rates)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, job.steps)
    checkpoint = runs.Checkpoint(
        path.with_suffix(".pt"), save_seconds, model=model, optimizer=optimizer, schedule=schedule, feedback=feedback
    )
    record = begun(checkpoint, job.settings(), task.device, {"step": 0, "sum": 0.0, "curve": []})
    bar.update(record["step"])
    meter = energy.Meter(task.device, record)
    every = max(1, job.steps // CURVE_POINTS)
    meter.start()
    for step in range(record["step"], job.steps):
        optimizer.zero_grad(set_to_none=True)
        loss = task.loss(model)
        loss.backward()
        optimizer.step()
        schedule.step()
        record["sum"] += loss.item()
        record["step"] = step + 1
        bar.update()
        if (step + 1) % every == 0 or step + 1 == job.steps:
            with meter.paused():
                held_out = task.squares(model, task.validate).mean().item()
                done = step + 1 - (record["curve"][-1]["step"] if record["curve"] else 0)
                record["curve"].append({"step": step + 1, "train": record["sum"] / done, "validate": held_out})
                record["sum"] = 0.0
            bar.set_description_str(f"{job.method} seed {job.seed} loss {held_out:.4f}")
        if checkpoint.due():
            with meter.paused():
                checkpoint.save({**record, **meter.reading()})
    meter.stop()
    result = {**finish(job, task, record, feedback, folder, trial=bool(name)), **meter.reading()}
    runs.write_json(path, result)
    checkpoint.remove()
    return result


def finish(
    job: Job, task: Task, record: dict[str, Any], feedback: dfa.Feedback, folder: Path, *, trial: bool
) -> dict[str, Any]:
    """Return the result of a finished run, and store its samples."""
    model = feedback.model
    result = {
        "method": job.method,
        "seed": job.seed,
        "settings": job.settings(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "curve": record["curve"],
        "validate": record["curve"][-1]["validate"],
        "computed": record["computed"],
    }
    if trial:
        return result
    squares = task.squares(model, task.test)
    samples = task.samples(model)
    runs.replace(
        folder / f"{job.name}.npz", lambda temporary: np.savez_compressed(temporary, samples=samples.astype(np.float16))
    )
    alignment: dict[str, float] = {}
    if job.method in ("dfa", "odfa"):
        cosines = feedback.alignment(lambda: task.fixed_loss(model))
        alignment = {block: float(cosine) for block, cosine in cosines.items()}
    return result | {
        "test": squares.mean().item(),
        "levels": [float(part.mean()) for part in squares.tensor_split(LEVELS)],
        "frechet": frechet(samples, task.test.images.cpu().numpy(), task.train.cpu().numpy()),
        "alignment": alignment,
    }
