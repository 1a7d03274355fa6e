"""Differentially private training by noisy random projections, on Fashion-MNIST.

Direct feedback alignment trains hidden layers on random projections of the error. An optical processing unit measures
these with noise, and privacy needs noise (Ohana et al., "Photonic differential privacy with direct feedback alignment",
NeurIPS 2021). Each example's projection is clipped and noisy. Dark frames, which are projections of a zero error, make
the noise cover every direction. ε bounds how much a network reveals of any one image; common/private/privacy.py has the
mechanism, the bound and its theorems. The program compares ODFA (each example's error made ternary), SHLW (only the
last layer trained, so noise on one layer only), and both without noise and clipping.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import devices, figures, runs
from common.checks import Checks, conclude
from common.fashion import data as fashion
from common.private import checks as private_checks
from common.private import privacy
from common.private.network import PrivateNetwork
from opuproj import dfa
from tqdm import tqdm

EXAMPLES = """examples:
  python examples/private_training.py --quick       20,000 images, two levels of noise
  python examples/private_training.py               60,000 images, four levels of noise
  python examples/private_training.py --snr 0.2     projections five times as noisy as they are strong"""

WIDTHS = (fashion.SIDE**2, 256, 256, fashion.CLASSES)
DELTA = 1e-5
BATCH, EPOCHS, QUICK_EPOCHS = 1000, 6, 4
MULTIPLIERS = (0.6, 0.9, 1.5, 3.0)
QUICK_MULTIPLIERS = (0.6, 1.5)
METHODS: tuple[dfa.Method, ...] = ("odfa", "shallow")
HIDDEN_RATE, LAST_RATE = 3e-3, 3e-2  # chosen on 10,000 held-out training images, with a multiplier of 1


def main() -> None:
    """Train, print, draw, check."""
    arguments = parser().parse_args()
    device = runs.begin(arguments)
    data = load(arguments.data)
    epochs, multipliers = EPOCHS, [*MULTIPLIERS]
    if arguments.quick:
        data, epochs, multipliers = data.first(20_000), QUICK_EPOCHS, [*QUICK_MULTIPLIERS]
    there = data.to(device.name)
    rate = BATCH / len(data.train_x)
    steps = round(epochs / rate)

    wanted = [(method, multiplier) for method in METHODS for multiplier in (0.0, *multipliers)]
    results = []
    with tqdm(total=steps * len(wanted), unit="step", leave=False, disable=arguments.no_progress) as bar:
        for method, multiplier in wanted:
            bar.set_description(f"{figures.METHOD_STYLE[method][0]}, noise {multiplier:g}")
            results.append(train(there, method, multiplier, arguments.snr, rate, steps, device, bar))

    checks = Checks()
    private_checks.divergence(checks)
    private_checks.sampling(checks)
    private_checks.contributions(checks, WIDTHS, data, arguments.snr)
    private_checks.noise(checks, arguments.snr)
    found = {"images": len(data.train_x), "delta": DELTA, "rate": rate, "steps": steps, "snr": arguments.snr}
    found = {**found, "results": results}
    conclude(arguments, found, checks, draw, report)


def load(folder: Path) -> fashion.Split:
    """Read the images. The mean and deviation of a pixel over all images count as public."""
    try:
        return fashion.load(folder)
    except FileNotFoundError as error:
        sys.exit(str(error))


def train(
    data: fashion.Split,
    method: dfa.Method,
    multiplier: float,
    snr: float,
    rate: float,
    steps: int,
    device: devices.Device,
    bar: tqdm[Any],
) -> dict[str, Any]:
    """Train one network on Poisson samples; return its accuracy and its ε, which is None without noise."""
    network = PrivateNetwork(WIDTHS, method, multiplier, snr, clipped=multiplier > 0, seed=0, device=device)
    rates = [HIDDEN_RATE] * (len(network.weights) - 1) + [LAST_RATE]
    groups = [{"params": [weight], "lr": lr} for weight, lr in zip(network.weights, rates, strict=True)]
    optimizer = torch.optim.Adam(groups)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        chosen = torch.from_numpy(np.flatnonzero(rng.random(len(data.train_x)) < rate))
        network.sums(data.train_x[chosen], data.train_y[chosen])
        for weight in network.weights:
            # Divided by the expected size of the batch, because its true size is not public.
            weight.grad.div_(rate * len(data.train_x))
        optimizer.step()
        scheduler.step()
        bar.update()
    with torch.no_grad(), device.casting():
        accuracy = float((network.model(data.test_x).argmax(1) == data.test_y).double().mean())
    spent, order = privacy.epsilon(network.layers, rate=rate, steps=steps, delta=DELTA) if multiplier else (None, None)
    return {"method": method, "multiplier": multiplier, "accuracy": accuracy, "epsilon": spent, "order": order}


def report(found: dict[str, Any]) -> None:
    """Print one line per training."""
    print(f"{'method':<8}{'noise multiplier':>18}{'ε at δ = 1e-5':>16}{'order':>8}{'test accuracy (%)':>20}")
    for row in found["results"]:
        spent = "∞" if row["epsilon"] is None else f"{row['epsilon']:.2f}"
        label = figures.METHOD_STYLE[row["method"]][0]
        print(f"{label:<8}{row['multiplier']:>18g}{spent:>16}{row['order'] or '':>8}{100 * row['accuracy']:>20.2f}")


def draw(found: dict[str, Any], path: Path) -> None:
    """Draw accuracy over ε."""
    figures.style()
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7.8, 4.9))
    labels = {
        "odfa": "ODFA, all layers: noisy projections",
        "shallow": "SHLW, last layer only",
    }
    for method, label in labels.items():
        rows = [row for row in found["results"] if row["method"] == method]
        colour = figures.METHOD_STYLE[method][1]
        private = sorted((row["epsilon"], 100 * row["accuracy"]) for row in rows if row["epsilon"] is not None)
        axes.semilogx(*zip(*private, strict=True), "o-", color=colour, label=f"{label}, private")
        free = next(100 * row["accuracy"] for row in rows if row["epsilon"] is None)
        axes.axhline(free, color=colour, linestyle=":", label=f"the same without noise and clipping ({free:.1f} %)")
    figures.plain_log_ticks(axes.xaxis)
    axes.set(
        xlabel="ε at δ = 10⁻⁵ (less is more private)",
        ylabel="test accuracy (%)",
        title=(
            f"Fashion-MNIST, {found['images']:,} images, 784 → 256 → 256 → 10, {found['steps']} steps:\n"
            "what privacy costs when hidden layers learn from noisy projections"
        ),
    )
    axes.legend(fontsize=9)
    figures.save(figure, path)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = runs.parser(__doc__ or "", EXAMPLES, methods=False)
    made.add_argument(
        "--data", type=Path, default=fashion.FOLDER, metavar="DIR", help="folder with Fashion-MNIST's files"
    )
    made.add_argument(
        "--snr",
        type=runs.positive_number,
        default=1.0,
        metavar="R",
        help="norm of a clipped projection divided by that of the detector's noise (default: %(default)s)",
    )
    return made


if __name__ == "__main__":
    main()
