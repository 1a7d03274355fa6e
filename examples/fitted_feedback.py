"""Where direct feedback by random matrices is weak: a convolutional network, and a deep Transformer with many blocks.

The program trains both networks in the same number of steps by backpropagation (BP), by direct feedback (DFA), by the
same with a ternary error (ODFA), by shallow training (SHLW), and by method "fitted", which fits the feedback matrices
to the gradients of one step of backpropagation in 20, or in 100. A comparison shows what these steps do alone:
shallow training with one step of backpropagation in 20. Each way has its own learning rate.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import torch
from common import devices, figures, runs, tables
from common.checks import Checks, conclude
from common.fitted.tasks import TASKS, Data, Task, measured
from opuproj import dfa
from torch.nn.functional import cross_entropy
from tqdm import tqdm

EXAMPLES = """examples:
  python examples/fitted_feedback.py --quick --threads 1           both tasks, one seed, few examples
  python examples/fitted_feedback.py --threads 1                   three seeds: 40 minutes of one core
  python examples/fitted_feedback.py --threads 1 --tasks images    one task
  python examples/fitted_feedback.py --threads 1 --tune            learning rates, on examples held out for this"""


class Way(NamedTuple):
    """A way to train: a method, and one pass by backpropagation in so many."""

    label: str
    method: dfa.Method
    every: int | None = None

    @property
    def share(self) -> float:
        """The share of steps whose backward pass goes through all layers, one after the other."""
        return 1.0 if self.method == "bp" else 1 / self.every if self.every else 0.0

    @property
    def name(self) -> str:
        """The name of its files."""
        return self.method + (f"-every{self.every}" if self.every else "")


WAYS = (
    Way("BP", "bp"),
    Way("fitted, 1 in 20", "fitted", 20),
    Way("fitted, 1 in 100", "fitted", 100),
    Way("DFA", "dfa"),
    Way("ODFA", "odfa"),
    Way("SHLW with BP, 1 in 20", "shallow", 20),
    Way("SHLW", "shallow"),
)


class Rates(NamedTuple):
    """Adam's rates: of the layers above the blocks, and of the blocks relative to it."""

    top: float
    blocks: float = 1.0

    def __str__(self) -> str:
        """Write them as the tables do."""
        return f"{self.top:.2g}" + (f" (blocks × {self.blocks:.2g})" if self.blocks != 1 else "")


# Found by --tune.
RATES: dict[str, dict[str, Rates]] = {
    "images": {
        "bp": Rates(9e-3),
        "fitted-every20": Rates(2.7e-2),
        "fitted-every100": Rates(2.7e-2),
        "dfa": Rates(2.7e-2),
        "odfa": Rates(2.7e-2),
        "shallow-every20": Rates(9e-3),
        "shallow": Rates(2.7e-2),
    },
    "text": {
        "bp": Rates(9e-3),
        "fitted-every20": Rates(9e-3, 1 / 3),
        "fitted-every100": Rates(9e-3, 1 / 3),
        "dfa": Rates(9e-3, 1 / 3),
        "odfa": Rates(9e-3, 1 / 3),
        "shallow-every20": Rates(9e-3, 1 / 3),
        "shallow": Rates(9e-3),
    },
}
QUICK_EPOCHS = 2
TOP, BLOCKS = (3e-3, 9e-3, 2.7e-2), (1.0, 1 / 3)


def main() -> None:
    """Train, print, draw, check."""
    arguments = parser().parse_args()
    device = runs.begin(arguments)
    if arguments.tune:
        tune(arguments, device)
        return
    seeds = range(arguments.seeds or (1 if arguments.quick else 3))
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for name in arguments.tasks:
        data = TASKS[name].load(arguments.quick, arguments.out / "text").to(device.name)
        wanted = [(way, seed) for seed in seeds for way in WAYS]
        found[name] = {way.name: [] for way in WAYS}
        for way, seed in tqdm(wanted, desc=name, unit="run", disable=arguments.no_progress):
            rates, epochs = RATES[name][way.name], QUICK_EPOCHS if arguments.quick else TASKS[name].epochs
            found[name][way.name].append(finished_run(arguments, name, data, way, seed, rates, epochs, device))
    results = {"tasks": found, "seeds": len(seeds)}
    checks = Checks()
    if not arguments.quick:
        check(checks, found)
    conclude(arguments, results, checks, draw, report)


def finished_run(
    arguments: argparse.Namespace,
    name: str,
    data: Data,
    way: Way,
    seed: int,
    rates: Rates,
    epochs: int,
    device: devices.Device,
) -> dict[str, Any]:
    """Return the result of a run, from the file of an earlier one if there is one."""
    folder = arguments.out / f"{'quick-' * arguments.quick}{name}"
    path = folder / f"{way.name}-{epochs}epochs-rates{rates.top:.3g}-{rates.blocks:.2g}-seed{seed}.json"
    result = runs.read_json(path)
    if result is None:
        result = run(TASKS[name], data, way, seed, rates, epochs, device, progress=not arguments.no_progress)
        runs.write_json(path, {**result, "computed": device.beginning()})
    else:
        device.computed(result["computed"], path)
    return result


def run(
    task: Task, data: Data, way: Way, seed: int, rates: Rates, epochs: int, device: devices.Device, *, progress: bool
) -> dict[str, Any]:
    """Train once; return what was measured on the held-out examples."""
    model, blocks, output = task.network(data, seed)
    model.to(device.name)
    feedback = dfa.attach(
        model,
        blocks,
        output=output,
        method=way.method,
        seed=seed,
        batch_axes=task.batch_axes,
        fitting=dfa.Fitting(way.every or 20),
    )
    device.compiled(model)
    above = {name: p for name, p in model.named_parameters() if name.startswith(task.top)}
    below = [p for name, p in model.named_parameters() if name not in above]
    groups = [{"params": list(above.values())}, {"params": below}]
    optimizer = torch.optim.Adam(groups, rates.top, betas=(0.9, 0.98), fused=True)
    steps = epochs * (len(data.x) // task.batch)
    most = [rates.top, rates.top * rates.blocks]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, most, steps, pct_start=0.05, cycle_momentum=False)
    order = torch.Generator().manual_seed(seed)
    seconds = []
    with tqdm(total=steps, desc=f"{way.label}, seed {seed}", unit="step", leave=False, disable=not progress) as bar:
        for step in range(steps):
            place = step % (len(data.x) // task.batch)
            if place == 0:
                examples = torch.randperm(len(data.x), generator=order).split(task.batch)
            x, y = data.x[examples[place]], data.y[examples[place]]
            if way.method == "shallow" and way.every:
                feedback.method = "bp" if (step + 1) % way.every == 0 else way.method
            started = perf_counter()
            optimizer.zero_grad()
            with device.casting():
                loss = cross_entropy(model(x).flatten(0, -2), y.flatten())
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.set_postfix(loss=f"{float(loss.detach()):.3f}", refresh=False)  # waits for the device
            seconds.append(perf_counter() - started)
            bar.update()
    aligned = {}
    if way.method in ("fitted", "dfa", "odfa"):
        aligned = feedback.alignment(lambda: cross_entropy(model(x).flatten(0, -2), y.flatten()))
    return {
        "tuning": measured(task, model, data.tuning_x, data.tuning_y),
        "test": measured(task, model, data.test_x, data.test_y),
        "alignment": aligned,
        "seconds_a_step": statistics.mean(seconds),
        "steps": steps,
        "rates": rates._asdict(),
    }


def tune(arguments: argparse.Namespace, device: devices.Device) -> None:
    """Print what each way reaches at several rates after half of the epochs, on the examples for tuning."""
    grid = [Rates(top, blocks) for top in TOP for blocks in BLOCKS]
    for name in arguments.tasks:
        task = TASKS[name]
        data = task.load(arguments.quick, arguments.out / "text").to(device.name)
        print(tables.markdown([task.measure, *map(str, grid), "best"], []), flush=True)
        for way in tqdm(WAYS, desc=name, unit="way", disable=arguments.no_progress):
            found = {
                rates: finished_run(arguments, name, data, way, 0, rates, task.epochs // 2, device)["tuning"]
                for rates in grid
                if way.method != "shallow" or way.every or rates.blocks == 1  # shallow training does not train blocks
            }
            best = (max if task.larger else min)(found, key=lambda rates: found[rates])
            cells = [f"{found[rates]:.3f}" if rates in found else "" for rates in grid]
            print(f"| {' | '.join([way.label, *cells, str(best)])} |", flush=True)


def check(checks: Checks, found: dict[str, dict[str, list[dict[str, Any]]]]) -> None:
    """Check that fitted feedback ends above direct feedback and shallow training with as many steps of BP."""
    for name, of_ways in found.items():
        sign = 1 if TASKS[name].larger else -1
        fitted = of_ways["fitted-every20"]
        for other in ("dfa", "shallow-every20"):
            gains = [sign * (a["test"] - b["test"]) for a, b in zip(fitted, of_ways[other], strict=True)]
            checks.within(f"{name}: fitted, 1 in 20, better than {other} by", sum(gains) / len(gains), 0, 100)


def report(results: dict[str, Any]) -> None:
    """Print a table for each task."""
    for name, of_ways in results["tasks"].items():
        task = TASKS[name]
        print(f"\n{task.title}, mean ± standard error of {results['seeds']} seeds\n")
        rows = []
        base = statistics.mean(r["seconds_a_step"] for r in of_ways["bp"])
        for way in WAYS:
            some = of_ways[way.name]
            cosines = [f"{statistics.mean(r['alignment'][b] for r in some):.2f}" for b in some[0]["alignment"]]
            rows.append(
                [
                    way.label,
                    tables.plus_minus([r["test"] for r in some], ".2f" if task.larger else ".3f"),
                    f"{100 * way.share:.0f} %",
                    f"{statistics.mean(r['seconds_a_step'] for r in some) / base:.2f}",
                    str(RATES[name][way.name]),
                    ", ".join(cosines),
                ]
            )
        columns = ["way", task.measure, "steps of BP", "time, BP = 1", "learning rate", "alignment of the blocks"]
        print(tables.markdown(columns, rows))


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw what each seed reaches in each way, one panel for each task."""
    figures.style()
    from matplotlib import pyplot as plt

    tasks = results["tasks"]
    figure, panels = plt.subplots(1, len(tasks), figsize=(5.2 * len(tasks), 3.9), squeeze=False)
    for panel, (name, of_ways) in zip(panels[0], tasks.items(), strict=True):
        for place, way in enumerate(WAYS):
            values = [r["test"] for r in of_ways[way.name]]
            colour = figures.METHOD_STYLE[way.method][1]
            panel.plot(values, [place] * len(values), "o", color=colour, alpha=0.6)
            panel.plot([sum(values) / len(values)] * 2, [place - 0.25, place + 0.25], color=colour)
        panel.set_yticks(range(len(WAYS)), [way.label for way in WAYS])
        panel.invert_yaxis()
        panel.set(title=TASKS[name].title, xlabel=f"test {TASKS[name].measure}")
    figures.save(figure, path)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = runs.parser(__doc__ or "", EXAMPLES, methods=False)
    runs.add_tasks(made, TASKS)
    made.add_argument("--tune", action="store_true", help="compare learning rates instead")
    return made


if __name__ == "__main__":
    main()
