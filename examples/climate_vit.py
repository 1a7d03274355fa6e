"""Train a vision Transformer on maps of surface temperature from emissions, without backpropagation through it.

The program trains the same network by four methods, each with its own learning rates: backpropagation (BP), direct
feedback alignment (DFA), DFA with a ternary error as an optical processing unit requires (ODFA), and the last layer
alone (SHLW). The network is a vision Transformer or fully connected. Its input is a year's emissions of CO₂, CH₄, SO₂
and black carbon, its output the surface temperature of that year at every point of a map. The program reports the
area-weighted root mean square error in kelvin on held-out decades, beside ridge regression and the mean of the training
years.

Install the data by name (pip install --no-deps iris-sample-data==2.5.2 fair==1.6.4, and pip install h5py). --data reads
ClimateBench from a folder. examples/common/climate/data.py describes the data and how they are split.
"""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from common import devices, runs
from common.climate import data as climate
from common.climate import figures as climate_figures
from common.climate.data import Array, Climate
from common.climate.networks import Network, make
from opuproj import dfa
from torch import Tensor, nn
from tqdm import tqdm

NETWORKS = ("vit", "mlp")
EPOCHS = 30
BATCH = 16
# Learning rates of the blocks and of the layers above them: the best of --tune by the error on the validation decades.
RATES = {
    "vit": {"bp": (3e-4, 3e-2), "dfa": (9e-4, 3e-2), "odfa": (3e-4, 3e-2), "shallow": (0.0, 3e-2)},
    "mlp": {"bp": (3e-4, 1e-4), "dfa": (1e-4, 3e-4), "odfa": (1e-4, 3e-4), "shallow": (0.0, 3e-4)},
}
# The middle of a plateau: with norm="row", thresholds from 0 to half of the largest error give the same accuracy. The
# Transformer fails if only few elements remain, or if the sizes of the patches' errors are lost (the other norms).
TERNARIZE = dfa.Ternarize(dfa.RowMax(0.25), norm="row")
# --tune tries these factors of the rates, and, at the rates above, these rules and norms for the ternary error.
FACTORS = (0.3, 1, 3)
CANDIDATES = [
    *(dfa.Ternarize(dfa.RowMax(fraction), norm="row") for fraction in (0.0, 0.1, 0.25, 0.5)),
    *(dfa.Ternarize(dfa.RowStd(factor), norm="row") for factor in (0.5, 1.0, 1.5, 2.0)),
    *(dfa.Ternarize(dfa.TopK(k), norm="row") for k in (5, 50)),
    dfa.Ternarize(dfa.BatchMax(0.25), norm="batch"),
    dfa.Ternarize(dfa.RowMax(0.25), norm="batch"),
    dfa.Ternarize(dfa.RowMax(0.25), norm="none"),
]


@dataclass(frozen=True)
class Job:
    """One training run: everything that its result depends on, besides the data."""

    network: str
    method: dfa.Method
    seed: int
    rates: tuple[float, float]
    epochs: int
    ternarize: dfa.Ternarize

    def settings(self) -> dict[str, Any]:
        """Return the settings with which a stored result must agree to be used again."""
        ternarize = str(self.ternarize) if self.method == "odfa" else None
        return {"rates": list(self.rates), "epochs": self.epochs, "batch": BATCH, "ternarize": ternarize}


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
    torch.manual_seed(job.seed)
    network = make(job.network, task.data)
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
    record: dict[str, Any] = {"settings": job.settings(), "epoch": 0, "seconds": 0.0, "loss": [], "validate": []}
    record["computed"] = task.device.beginning()
    if checkpoint.path.exists() and peek(checkpoint.path) == job.settings():
        record = checkpoint.load() or record
        record["computed"] = task.device.computing(record.get("computed"), checkpoint.path)
    bar.update(record["epoch"])
    for epoch in range(record["epoch"], job.epochs):
        started = perf_counter()
        loss = one_epoch(model, optimizer, task)
        schedule.step()
        record["seconds"] += perf_counter() - started
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


def adam(network: Network, rates: tuple[float, float]) -> torch.optim.Optimizer:
    """Return an optimizer with one learning rate for the blocks and the layers before them, and one for the top."""
    top = [parameter for module in network.top for parameter in module.parameters()]
    rest = [parameter for parameter in network.model.parameters() if all(parameter is not other for other in top)]
    return torch.optim.Adam([{"params": rest, "lr": rates[0]}, {"params": top, "lr": rates[1]}])


def peek(path: Path) -> Any:
    """Return the settings of a checkpoint's run."""
    return torch.load(path, map_location="cpu", weights_only=True)["record"]["settings"]


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
        "seconds": record["seconds"],
        "computed": record["computed"],
    }


def experiment(arguments: Namespace, task: Task) -> None:
    """Train every method with every seed, then write results and figures."""
    epochs = epochs_of(arguments)
    jobs = [
        Job(network, method, seed, RATES[network][method], epochs, TERNARIZE)
        for network in arguments.network
        for seed in range(arguments.seeds or (1 if arguments.quick else 3))
        for method in arguments.methods
        if arguments.only is None or seed == arguments.only
    ]
    with tqdm(total=sum(job.epochs for job in jobs), unit="epoch", disable=arguments.no_progress) as bar:
        for job in jobs:
            name = f"{job.network}-{job.method}-{job.seed}"
            train(job, task, arguments.out, name, arguments.save_seconds, bar)
    report(arguments, task)


def tune(arguments: Namespace, task: Task) -> None:
    """Try learning rates around the stored ones and, for ODFA, ternary errors, with one seed."""
    epochs = epochs_of(arguments)
    jobs = []
    for network in arguments.network:
        for method in arguments.methods:
            blocks, top = RATES[network][method]
            pairs = {(blocks, top * factor) for factor in FACTORS} | {(blocks * factor, top) for factor in FACTORS}
            jobs += [Job(network, method, 0, rounded(pair), epochs, TERNARIZE) for pair in sorted(pairs)]
        if "odfa" in arguments.methods:
            jobs += [Job(network, "odfa", 0, RATES[network]["odfa"], epochs, candidate) for candidate in CANDIDATES]
    table = {}
    with tqdm(total=sum(job.epochs for job in jobs), unit="epoch", disable=arguments.no_progress) as bar:
        for job in jobs:
            line = f"{job.network} {job.method:<8}{job.rates[0]:<8g}{job.rates[1]:<8g}"
            line += str(job.ternarize) if job.method == "odfa" else ""
            name = "".join(c if c.isalnum() or c in ".-" else "_" for c in " ".join(line.split()))
            result = train(job, task, arguments.out / "tune", name, arguments.save_seconds, bar)
            table[line] = result["validate_rmse"]
    print(f"\n{'validation RMSE (K)':<21}network, method, learning rates of blocks and top, ternary error")
    for line, error in sorted(table.items(), key=lambda entry: (entry[0].split()[:2], entry[1])):
        print(f"{error:<21.4f}{line}")


def epochs_of(arguments: Namespace) -> int:
    """Return how long to train."""
    return EPOCHS // (3 if arguments.quick else 1)


def rounded(rates: tuple[float, float]) -> tuple[float, float]:
    """Keep one digit: 9e-5 instead of 8.999999e-05."""
    return float(f"{rates[0]:.1g}"), float(f"{rates[1]:.1g}")


def report(arguments: Namespace, task: Task) -> None:
    """Collect the runs of the folder in results.json, print a table, draw the figures."""
    results = [
        result
        for network in NETWORKS
        for method in runs.METHODS
        for path in sorted(arguments.out.glob(f"{network}-{method}-[0-9]*.json"))
        if (result := runs.read_json(path))
    ]
    if not results:
        raise SystemExit(f"no finished runs in {arguments.out}")
    rows = task.data.rows("test")
    linear, penalty = climate.ridge(task.data)
    mean = np.broadcast_to(task.data.normal, linear["test"].shape)
    baselines = {
        name: {"rmse": task.data.rmse(rows, predicted), "decade_rmse": task.data.decade_rmse(rows, predicted)}
        for name, predicted in (("ridge", linear["test"]), ("training mean", mean))
    }
    summary = climate_figures.summarise(results)
    climate_figures.print_table(summary, baselines)
    devices.tell_mixture(results)
    weather = task.data.weather(rows)
    print(
        f"\nA held-out year differs by {weather:.3f} K from its decade's mean: weather that emissions do not explain."
    )
    runs.write_json(
        arguments.out / "results.json",
        {
            "data": task.data.name,
            "weather": weather,
            "ridge penalty": penalty,
            "baselines": baselines,
            "summary": summary,
            "runs": results,
        },
    )
    climate_figures.draw(arguments.out, task.data, results, baselines, linear["test"])


def parser() -> Any:
    """Return the parser of the command line."""
    description = __doc__ or ""
    made = runs.parser(description, EXAMPLES)
    made.add_argument(
        "--network", type=lambda text: text.split(","), default=list(NETWORKS), help="vit, mlp or vit,mlp (default)"
    )
    made.add_argument("--data", type=Path, metavar="DIR", help="a folder with ClimateBench's inputs_*.nc, outputs_*.nc")
    made.add_argument(
        "--only", type=int, metavar="SEED", help="train this seed only; several processes can share one --out"
    )
    made.add_argument("--tune", action="store_true", help="search learning rates and ternary errors with one seed")
    made.add_argument("--figures-only", action="store_true", help="draw the results in --out")
    return made


EXAMPLES = """examples:
  python examples/climate_vit.py --quick                  both networks, all methods, one seed, a third of the epochs
  python examples/climate_vit.py --threads 1              the whole experiment
  python examples/climate_vit.py --network mlp --tune     search the learning rates and the ternary error
  python examples/climate_vit.py --data ~/climatebench    the same networks on ClimateBench
"""


def main() -> None:
    """Run the part that the command line selects."""
    arguments = parser().parse_args()
    if unknown := set(arguments.network) - set(NETWORKS):
        raise SystemExit(f"--network: unknown {', '.join(sorted(unknown))}; there are {', '.join(NETWORKS)}")
    device = runs.begin(arguments)
    # Separate folders, so that no run overwrites another.
    arguments.out = arguments.out / ("climatebench" if arguments.data else "") / ("quick" if arguments.quick else "")
    task = Task(climate.climate_bench(arguments.data) if arguments.data else climate.north_america(), device)
    if arguments.figures_only:
        report(arguments, task)
    elif arguments.tune:
        tune(arguments, task)
    else:
        experiment(arguments, task)


if __name__ == "__main__":
    main()
