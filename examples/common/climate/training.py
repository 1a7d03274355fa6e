"""One training of climate_vit.py: the task, epochs, the stored result."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from opuproj import dfa
from torch import Tensor, nn
from tqdm import tqdm

from common import devices, energy, runs
from common.climate.data import Array, Climate
from common.climate.networks import SMALL, Network, Sizes, make

BATCH = 16


@dataclass(frozen=True)
class Job:
    """One training run: everything that its result depends on, besides the data."""

    network: str
    method: dfa.Method
    seed: int
    rates: tuple[float, float]
    epochs: int
    ternarize: dfa.Ternarize
    sizes: Sizes = SMALL

    def settings(self) -> dict[str, Any]:
        """Return the settings with which a stored result must agree to be used again."""
        ternarize = str(self.ternarize) if self.method == "odfa" else None
        settings = {"rates": list(self.rates), "epochs": self.epochs, "batch": BATCH, "ternarize": ternarize}
        # Results of the small networks need not say their sizes.
        return settings if self.sizes == SMALL else {**settings, "sizes": _plain(self.sizes)}


class Task:
    """The data as tensors on a device, and the loss."""

    def __init__(self, data: Climate, device: devices.Device = devices.CPU):
        self.data, self.device = data, device
        self.weights = torch.from_numpy(data.weights).flatten().to(device.name)
        self.target = torch.from_numpy((data.temperature - data.normal) / data.spread).flatten(1).to(device.name)
        self.scalars = torch.from_numpy(data.scalars).to(device.name)
        self.maps = torch.from_numpy(data.maps).to(device.name)
        self.rows = {part: torch.from_numpy(data.rows(part)) for part in ("train", "validate", "test")}

    def inputs(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the forcings of these years."""
        return self.scalars[rows], self.maps[rows]

    def loss(self, model: nn.Module, rows: Tensor) -> Tensor:
        """Area-weighted mean square error, in units of the training years' spread."""
        with self.device.casting():
            out = model(*self.inputs(rows))
        error: Tensor = (self.weights * (out - self.target[rows]).square()).mean()
        return error

    @torch.no_grad()
    def predict(self, model: nn.Module, part: str) -> Array:
        """Temperature maps in K of all years of a part."""
        with self.device.casting():
            out = torch.cat([model(*self.inputs(rows)) for rows in self.rows[part].split(64)]).float().cpu()
        maps: Array = out.numpy().reshape(-1, *self.data.normal.shape) * self.data.spread + self.data.normal
        return maps


def train(job: Job, task: Task, folder: Path, name: str, save_seconds: float, bar: tqdm[Any]) -> dict[str, Any]:
    """Train one network, from its checkpoint if there is one, and store its result; keep stored results."""
    stored = runs.read_json(folder / f"{name}.json")
    if stored and stored["settings"] == job.settings():
        task.device.computed(stored.get("computed"), folder / f"{name}.json")
        bar.update(job.epochs)
        return stored
    with torch.device("meta"):
        n_parameters = sum(p.numel() for p in make(job.network, task.data, job.sizes).model.parameters())
    runs.check_room(task.device, n_parameters, folder)
    torch.manual_seed(job.seed)
    network = make(job.network, task.data, job.sizes)
    model = network.model.to(task.device.name)
    feedback = dfa.attach(
        model,
        network.blocks,
        output=network.output,
        method=job.method,
        ternarize=job.ternarize,
        seed=job.seed,
        batch_axes=network.batch_axes,
    )
    task.device.compiled(model)
    optimizer = adam(network, job.rates)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, job.epochs)
    checkpoint = runs.Checkpoint(
        folder / f"{name}.pt", save_seconds, model=model, optimizer=optimizer, schedule=schedule, feedback=feedback
    )
    record = begun(checkpoint, job.settings(), task.device, {"epoch": 0, "loss": [], "validate": []})
    bar.update(record["epoch"])
    meter = energy.Meter(task.device, record)
    for epoch in range(record["epoch"], job.epochs):
        meter.start()
        loss = one_epoch(model, optimizer, task)
        schedule.step()
        meter.stop()
        record |= meter.reading()
        record["loss"].append(loss)
        record["validate"].append(task.data.rmse(task.data.rows("validate"), task.predict(model, "validate")))
        record["epoch"] = epoch + 1
        bar.set_description_str(f"{job.network} {job.method} seed {job.seed} epoch {epoch + 1} loss {loss:.4f}")
        bar.update()
        if checkpoint.due():
            checkpoint.save(record)
    predicted = task.predict(model, "test")
    result = finish(job, task, record, feedback, predicted)
    runs.replace(folder / f"{name}.npz", lambda temporary: np.savez_compressed(temporary, test=predicted))
    runs.write_json(folder / f"{name}.json", result)
    checkpoint.remove()
    return result


def begun(
    checkpoint: runs.Checkpoint, settings: dict[str, Any], device: devices.Device, first: dict[str, Any]
) -> dict[str, Any]:
    """Return the record of a run: that of its checkpoint, if it has the same settings, or else a first one."""
    record = {"settings": settings, **first, "computed": device.beginning(), **energy.Meter(device).reading()}
    if checkpoint.path.exists() and peek(checkpoint.path) == settings:
        record = checkpoint.load() or record
        record["computed"] = device.computing(record.get("computed"), checkpoint.path)
    return record


def adam(network: Network, rates: tuple[float, float]) -> torch.optim.Optimizer:
    """Return an optimizer with one learning rate for the blocks and the layers before them, and one for the top."""
    top = [parameter for module in network.top for parameter in module.parameters()]
    rest = [parameter for parameter in network.model.parameters() if all(parameter is not other for other in top)]
    return torch.optim.Adam([{"params": rest, "lr": rates[0]}, {"params": top, "lr": rates[1]}])


def peek(path: Path) -> Any:
    """Return the settings of a checkpoint's run."""
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)["record"]["settings"]


def one_epoch(model: nn.Module, optimizer: torch.optim.Optimizer, task: Task) -> float:
    """Train one epoch in random order; return the mean loss."""
    rows = task.rows["train"]
    total = 0.0
    for batch in rows[torch.randperm(len(rows))].split(BATCH):
        optimizer.zero_grad(set_to_none=True)
        loss = task.loss(model, batch)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(batch)
    return total / len(rows)


def finish(job: Job, task: Task, record: dict[str, Any], feedback: dfa.Feedback, predicted: Array) -> dict[str, Any]:
    """Return the result of a finished run."""
    model = feedback.model
    rows = task.data.rows("test")
    batch = task.rows["train"][::4]
    alignment = feedback.alignment(lambda: task.loss(model, batch)) if job.method in ("dfa", "odfa") else {}
    return {
        "network": job.network,
        "method": job.method,
        "seed": job.seed,
        "settings": job.settings(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "rmse": task.data.rmse(rows, predicted),
        "decade_rmse": task.data.decade_rmse(rows, predicted),
        "validate_rmse": record["validate"][-1],
        "loss": record["loss"],
        "validate": record["validate"],
        "alignment": {str(block): float(cosine) for block, cosine in alignment.items()},
        **{name: record[name] for name in ("seconds", "joules", "peak_memory")},
        "computed": record["computed"],
    }


def _plain(sizes: Sizes) -> dict[str, Any]:
    """Return sizes as JSON gives them back."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(sizes).items()}
