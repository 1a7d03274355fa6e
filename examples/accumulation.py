"""Gradient accumulation with ternary feedback: a step of 64 vectors as one part, as 16 parts of 4, as 64 parts of 1.

A network of two hidden layers learns scikit-learn's digits by ternary direct feedback, with the defaults of
`opuproj.dfa.attach`. With backpropagation, the number of parts makes no difference. Here the error of each part is made
ternary separately. `Dither` computes a threshold for each vector from counters of passes and vectors, so that 64 passes
of one vector spread their thresholds as one pass of 64 vectors does. A seed determines initialisation, feedback and
order of the data. All ways to divide a step share the seeds, and the program compares them seed by seed.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import devices, figures, runs
from common.checks import Checks, conclude
from opuproj import dfa
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from tqdm import tqdm

EXAMPLES = """examples:
  python examples/accumulation.py --quick --threads 1     3 seeds, 2 epochs
  python examples/accumulation.py --threads 1             10 seeds, 5 epochs: five minutes of one core
  python examples/accumulation.py --epochs 30 --seeds 5   a longer training"""

STEP = 64  # vectors between two steps of the optimizer
WHOLE = f"1 part of {STEP}"
PARTS = {WHOLE: 1, f"16 parts of {STEP // 16}": 16, f"{STEP} parts of 1": STEP}
SHALLOW = "shallow"
WAYS = (*PARTS, SHALLOW)
WIDTH = 128
OPTIMIZERS = {
    "SGD, momentum 0.9, rate 0.2": partial(torch.optim.SGD, lr=0.2, momentum=0.9),
    "Adam, rate 4e-3": partial(torch.optim.Adam, lr=4e-3),
}
# The most points of accuracy that dividing a step may change on average, as the documentation states. The quick
# version has fewer seeds and steps, so its averages scatter more.
MOST, MOST_QUICK = 1.0, 3.0

Digits = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def main() -> None:
    """Train, print, draw, check."""
    arguments = parser().parse_args()
    device = runs.begin(arguments)
    seeds = arguments.seeds or (3 if arguments.quick else 10)
    epochs = arguments.epochs or (2 if arguments.quick else 5)
    x, y, x_test, y_test = (part.to(device.name) for part in digits())
    data = x, y, x_test, y_test

    accuracies: dict[str, dict[str, list[float]]] = {optimizer: {way: [] for way in WAYS} for optimizer in OPTIMIZERS}
    with tqdm(total=seeds * len(OPTIMIZERS) * len(WAYS), unit="run", disable=arguments.no_progress) as bar:
        for seed in range(seeds):
            for optimizer, of_way in accuracies.items():
                for way in WAYS:
                    of_way[way].append(accuracy(data, way, optimizer, seed, epochs, device))
                    bar.update()

    results = {
        "accuracies": accuracies,
        "differences": {
            optimizer: {way: runs.mean_and_error(differences(of_way, way)) for way in WAYS[1:]}
            for optimizer, of_way in accuracies.items()
        },
        "seeds": seeds,
        "epochs": epochs,
        "train": len(data[0]),
        "test": len(data[2]),
    }
    checks = Checks()
    check(checks, results, MOST_QUICK if arguments.quick else MOST)
    conclude(arguments, results, checks, draw, report)


def digits() -> Digits:
    """Return images and classes to train on, and a quarter to test on, the same in all runs."""
    images, classes = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(images / 16, classes, test_size=0.25, random_state=0, stratify=classes)
    as_float = partial(torch.tensor, dtype=torch.float32)
    return as_float(x), torch.tensor(y), as_float(x_test), torch.tensor(y_test)


def accuracy(
    data: Digits, way: str, optimizer: str, seed: int, epochs: int, device: devices.Device = devices.CPU
) -> float:
    """Return the test accuracy, in percent, after a training whose steps are divided as `way` says."""
    x, y, x_test, y_test = data
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(x.shape[1], WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 10)
    ).to(device.name)
    dfa.attach(model, blocks=["1", "3"], method="shallow" if way == SHALLOW else "odfa", seed=seed)
    device.compiled(model)
    stepping = OPTIMIZERS[optimizer](model.parameters())
    parts = PARTS.get(way, 1)
    order = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for step in torch.randperm(len(x), generator=order).split(STEP):
            if len(step) < STEP:  # the rest does not divide into the same parts
                continue
            for part in step.chunk(parts):
                with device.casting():
                    loss = nn.functional.cross_entropy(model(x[part]), y[part]) / parts
                loss.backward()
            stepping.step()
            stepping.zero_grad()
    with torch.no_grad(), device.casting():
        return 100 * float((model(x_test).argmax(1) == y_test).double().mean())


def differences(of_way: dict[str, list[float]], way: str) -> list[float]:
    """Return by how much each seed's accuracy differs from that of the undivided step."""
    return [mine - whole for mine, whole in zip(of_way[way], of_way[WHOLE], strict=True)]


def check(checks: Checks, results: dict[str, Any], most: float) -> None:
    """Check that dividing a step changes at most `most` points and that feedback beats shallow training."""
    for optimizer, of_way in results["differences"].items():
        for way in WAYS[1:-1]:
            claim = f"{optimizer}: accuracy with {way} minus that with {WHOLE}, mean over seeds, points"
            checks.within(claim, of_way[way][0], -most, most)
        checks.within(f"{optimizer}: {SHALLOW} minus {WHOLE}, points", of_way[SHALLOW][0], -100, 0)


def report(results: dict[str, Any]) -> None:
    """Print the table."""
    print(f"test accuracy in %, mean ± standard error of {results['seeds']} seeds; difference seed by seed\n")
    print("| step of 64 vectors | " + " | ".join(f"{optimizer} | difference" for optimizer in OPTIMIZERS) + " |")
    print("| --- |" + " --- | --- |" * len(OPTIMIZERS))
    for way in WAYS:
        cells = []
        for optimizer in OPTIMIZERS:
            mean, error = runs.mean_and_error(results["accuracies"][optimizer][way])
            cells.append(f"{mean:.2f} ± {error:.2f}")
            cells.append("" if way == WHOLE else "{:+.2f} ± {:.2f}".format(*results["differences"][optimizer][way]))
        print(f"| {way} | {' | '.join(cells)} |")


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw each seed's accuracy and their mean, for every way to divide a step."""
    figures.style()
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(OPTIMIZERS), figsize=(10, 4), sharey=True)
    for panel, (optimizer, of_way) in zip(panels, results["accuracies"].items(), strict=True):
        for place, way in enumerate(WAYS):
            colour = figures.METHOD_STYLE["shallow" if way == SHALLOW else "odfa"][1]
            panel.plot([place] * len(of_way[way]), of_way[way], "o", color=colour, alpha=0.35)
            mean, error = runs.mean_and_error(of_way[way])
            panel.errorbar(place + 0.15, mean, error, fmt="s", color=colour, capsize=4)
        panel.set_xticks(range(len(WAYS)), WAYS, fontsize=9)
        panel.set(title=optimizer, ylabel="test accuracy (%)")
    figure.suptitle(
        f"Digits, ternary feedback: a step of {STEP} vectors in parts ({results['seeds']} seeds, mean and error)"
    )
    figures.save(figure, path)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = runs.parser(__doc__ or "", EXAMPLES, methods=False)
    made.add_argument("--seeds", type=runs.positive, metavar="N", help="runs of each kind, with seeds 0 … N−1")
    made.add_argument("--epochs", type=runs.positive, metavar="N", help="passes over the 1,347 training images")
    return made


if __name__ == "__main__":
    main()
