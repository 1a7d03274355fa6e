"""One training on Fashion-MNIST: networks, settings of the methods, measurements during training."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from opuproj import dfa
from torch import nn
from torch.nn.functional import cross_entropy

from common import devices, figures, runs
from common.fashion import data as fashion

if TYPE_CHECKING:
    from collections.abc import Callable

    from tqdm import tqdm

BATCH = 128


def fully_connected(width: int) -> Any:
    """Three hidden layers of tanh."""
    widths = (fashion.SIDE**2, width, width, width)
    hidden = [nn.Sequential(nn.Linear(below, above), nn.Tanh()) for below, above in pairwise(widths)]
    return nn.Sequential(*hidden, nn.Linear(widths[-1], fashion.CLASSES))


def convolutional() -> Any:
    """Two convolutions and a fully connected hidden layer, tanh."""
    image = nn.Unflatten(1, (1, fashion.SIDE, fashion.SIDE))
    return nn.Sequential(
        nn.Sequential(image, nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.Tanh()),
        nn.Sequential(nn.Conv2d(16, 32, 5, stride=2, padding=2), nn.Tanh()),
        nn.Sequential(nn.Flatten(), nn.Linear(32 * 7 * 7, 256), nn.Tanh()),
        nn.Linear(256, fashion.CLASSES),
    )


NETWORKS: dict[str, Callable[[], Any]] = {
    "fc": partial(fully_connected, 256),
    "wide": partial(fully_connected, 1024),
    "conv": convolutional,
}


class Ternary(NamedTuple):
    """The settings for ODFA's ternary error."""

    rule: str
    threshold: float
    norm: Literal["row", "batch", "none"]

    def made(self) -> dfa.Ternarize:
        """Return the same for opuproj."""
        if self.rule == "TopK":
            return dfa.Ternarize(dfa.TopK(int(self.threshold)), norm=self.norm)
        # A loss averaged over the batch divides each image's error by the number of images.
        threshold = self.threshold / BATCH if self.rule == "Fixed" else self.threshold
        return dfa.Ternarize(getattr(dfa, self.rule)(threshold), norm=self.norm)


@dataclass(frozen=True)
class Run:
    """One training, which its settings determine."""

    network: str
    method: dfa.Method
    seed: int
    rate: float
    epochs: int
    ternary: Ternary | None = None  # for ODFA
    ensemble: Literal["gaussian", "structured"] = "gaussian"

    @property
    def name(self) -> str:
        """The name of its files."""
        ternary = "-{}{:g}-{}".format(*self.ternary) if self.ternary else ""
        ensemble = "" if self.ensemble == "gaussian" else f"-{self.ensemble}"
        return f"{self.network}-{self.method}{ensemble}{ternary}-rate{self.rate:g}-{self.epochs}epochs-seed{self.seed}"


class Trainer:
    """Trains networks on one split of the data and writes the measurements of each run to a file.

    Parameters
    ----------
    data
        The images for training and for measuring the accuracy.
    folder
        The folder of the files. Runs with a file are not repeated.
    measures
        Number of measurements of accuracy and alignment per epoch; 0 for the end only.
    save_seconds
        The time between two checkpoints.
    device
        The device of the models and the images.
    """

    def __init__(
        self,
        data: fashion.Split,
        folder: Path,
        measures: int,
        save_seconds: float,
        device: devices.Device = devices.CPU,
    ):
        self.data = data.to(device.name)
        self.device = device
        self.folder = folder
        self.save_seconds = save_seconds
        self.steps_per_epoch = len(data.train_x) // BATCH
        self.measured_at = {self.steps_per_epoch * i // measures for i in range(measures)}

    def path(self, run: Run) -> Path:
        """Where the results of this run go."""
        return self.folder / f"{run.name}.json"

    def train(self, run: Run, bar: tqdm[Any]) -> dict[str, Any]:
        """Train one network, resume its training, or read the result of an earlier training."""
        steps = run.epochs * self.steps_per_epoch
        found = runs.read_json(self.path(run))
        if found is not None:
            self.device.computed(found.get("computed"), self.path(run))
            bar.update(steps)
            return found

        training = _Training(run, steps, self.device)
        checkpoint = runs.Checkpoint(self.path(run).with_suffix(".pt"), self.save_seconds, **training.parts())
        record = checkpoint.load()
        if record is None:
            record = {"step": 0, "seconds": 0.0, "losses": [], "curve": [], "computed": self.device.beginning()}
        record["computed"] = self.device.computing(record.get("computed"), checkpoint.path)
        bar.update(record["step"])
        for step in range(record["step"], steps):
            if checkpoint.due():
                checkpoint.save(record)
            if step % self.steps_per_epoch in self.measured_at:
                self._measure(training, record)
            started = perf_counter()
            loss = training.step(*self._batch(run.seed, step))
            record["seconds"] += perf_counter() - started
            record["losses"].append(loss)
            record["step"] = step + 1
            label, epoch = figures.METHOD_STYLE[run.method][0], step // self.steps_per_epoch + 1
            bar.set_description(f"{label}, seed {run.seed}, epoch {epoch}, loss {loss:.2f}", refresh=False)
            bar.update()
        self._measure(training, record)

        result = {**asdict(run), **{key: record[key] for key in ("seconds", "curve", "computed")}}
        runs.write_json(self.path(run), result)
        checkpoint.remove()
        return result

    def _batch(self, seed: int, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        epoch, position = divmod(step, self.steps_per_epoch)
        # Drawn again each time, which costs little, so that a resumed run has the same order.
        order = np.random.default_rng([seed, epoch]).permutation(len(self.data.train_x))
        chosen = torch.from_numpy(order[BATCH * position : BATCH * (position + 1)])
        return self.data.train_x[chosen], self.data.train_y[chosen]

    def _measure(self, training: _Training, record: dict[str, Any]) -> None:
        """Add a point to the curve: mean loss since the last one, accuracy, alignment."""
        losses = record["losses"]
        record["curve"].append(
            {
                "epoch": record["step"] / self.steps_per_epoch,
                "loss": sum(losses) / len(losses) if losses else None,
                "accuracy": training.accuracy(self.data.test_x, self.data.test_y),
                # Always the same images, as many as in a training batch, because thresholds may depend on the batch.
                "alignment": training.alignment(self.data.train_x[:BATCH], self.data.train_y[:BATCH]),
            }
        )
        record["losses"] = []


class _Training:
    """A network with its feedback and optimizer."""

    def __init__(self, run: Run, steps: int, device: devices.Device):
        torch.manual_seed(run.seed)
        self.run, self.device = run, device
        self.model = NETWORKS[run.network]().to(device.name)
        self.feedback = dfa.attach(
            self.model,
            list(self.model)[:-1],
            method=run.method,
            ternarize=run.ternary.made() if run.ternary else None,
            seed=run.seed,
            ensemble=run.ensemble,
        )
        device.compiled(self.model)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=run.rate, fused=True)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, steps)

    def parts(self) -> dict[str, runs.HasState]:
        """Return all that changes during training."""
        return {
            "model": self.model,
            "feedback": self.feedback,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
        }

    def step(self, x: torch.Tensor, y: torch.Tensor) -> float:
        """Train on one batch. The code is the same with and without feedback."""
        self.optimizer.zero_grad()
        loss = self.loss(x, y)
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        return float(loss.detach())

    def loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return the loss of a batch."""
        with self.device.casting():
            return cross_entropy(self.model(x), y)

    def accuracy(self, x: torch.Tensor, y: torch.Tensor) -> float:
        """Return the fraction of correctly classified images."""
        with torch.no_grad(), self.device.casting():
            right = [
                (self.model(some).argmax(1) == of).sum() for some, of in zip(x.split(1000), y.split(1000), strict=True)
            ]
        return float(sum(right)) / len(y)

    def alignment(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, float]:
        """Return the cosine between each hidden layer's gradient and backpropagation's, if both exist."""
        if self.run.method not in ("dfa", "odfa"):
            return {}
        return dict(self.feedback.alignment(lambda: self.loss(x, y)))
