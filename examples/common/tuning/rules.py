"""The largest threshold of dithered errors over 10, 100 and 1,000 classes: fixed factors, and the automatic one."""

from __future__ import annotations

from typing import Any

import torch
from opuproj import dfa
from sklearn.datasets import load_digits
from torch import Tensor, nn
from tqdm import tqdm

from common import devices, runs
from common.checks import Checks

FACTORS: tuple[Any, ...] = (2.0, 4.0, 8.0, 16.0, 32.0, "auto")
# Digits side by side: their number, training examples, passes over them, Adam's rate, width of two hidden layers.
PROBLEMS = {
    "10 classes": (1, 1_300, 8, 3e-3, 128),
    "100 classes": (2, 5_000, 6, 3e-3, 128),
    "1,000 classes": (3, 15_000, 4, 2e-3, 256),
}
TRAINED_ON = 1_300  # of the 1,797 digits; the test combines the others
N_TEST = 1_500
STEP = 64
# Shallow training needs a higher rate.
SHALLOW = 10.0

Examples = tuple[Tensor, Tensor]


def study(seeds: int, *, quick: bool, device: devices.Device, progress: bool) -> dict[str, dict[str, list[float]]]:
    """Return test accuracies in percent, by problem, then by rule, of each seed."""
    found: dict[str, dict[str, list[float]]] = {}
    problems = dict(list(PROBLEMS.items())[:2]) if quick else PROBLEMS
    rules: dict[str, tuple[dfa.Method, Any]] = {"shallow": ("shallow", None), "float error (dfa)": ("dfa", None)}
    rules |= {f"Dither({factor!r})": ("odfa", dfa.Ternarize(dfa.Dither(factor))) for factor in FACTORS}
    with tqdm(total=len(problems) * len(rules) * seeds, unit="run", disable=not progress) as bar:
        for problem, (side_by_side, n, epochs, rate, width) in problems.items():
            train = examples(n, side_by_side, device, test=False)
            test = examples(N_TEST, side_by_side, device, test=True)
            found[problem] = {}
            for rule, (method, ternarize) in rules.items():
                found[problem][rule] = []
                for seed in range(seeds):
                    found[problem][rule].append(
                        accuracy(train, test, method, ternarize, rate, width, 1 if quick else epochs, seed, device)
                    )
                    bar.update()
    return found


def examples(n: int, side_by_side: int, device: devices.Device, *, test: bool) -> Examples:
    """Return images of several digits side by side, and the number that they write as the class."""
    pixels, digits = load_digits(return_X_y=True)
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))
    mine = order[TRAINED_ON:] if test else order[:TRAINED_ON]
    x, y = torch.tensor(pixels / 16, dtype=torch.float32)[mine], torch.tensor(digits)[mine]
    generator = torch.Generator().manual_seed(1)
    picked = torch.randint(len(x), (side_by_side, n), generator=generator)
    if side_by_side == 1:
        picked = torch.arange(min(n, len(x)))[None]
    powers = 10 ** torch.arange(side_by_side - 1, -1, -1)
    return torch.cat(list(x[picked]), 1).to(device.name), (powers[:, None] * y[picked]).sum(0).to(device.name)


def accuracy(
    train: Examples,
    test: Examples,
    method: dfa.Method,
    ternarize: dfa.Ternarize | None,
    rate: float,
    width: int,
    epochs: int,
    seed: int,
    device: devices.Device,
) -> float:
    """Return the test accuracy in percent after a training."""
    (x, y), (test_x, test_y) = train, test
    torch.manual_seed(seed)
    n_classes = 10 ** (x.shape[1] // 64)
    model = nn.Sequential(
        nn.Linear(x.shape[1], width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, n_classes)
    ).to(device.name)
    dfa.attach(model, blocks=["1", "3"], method=method, ternarize=ternarize, seed=seed)
    device.compiled(model)
    optimizer = torch.optim.Adam(model.parameters(), rate * (SHALLOW if method == "shallow" else 1.0))
    order = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for part in torch.randperm(len(x), generator=order).split(STEP):
            optimizer.zero_grad()
            with device.casting():
                logits = model(x[part])
            nn.functional.cross_entropy(logits.float(), y[part]).backward()
            optimizer.step()
    with torch.no_grad(), device.casting():
        return 100 * float((model(test_x).argmax(1) == test_y).double().mean())


def check(checks: Checks, found: dict[str, dict[str, list[float]]], most: float) -> None:
    """Check that the automatic factor is not far below the best of the fixed ones."""
    for problem, of_rule in found.items():
        means = {rule: runs.mean_and_error(values)[0] for rule, values in of_rule.items()}
        best = max(means[f"Dither({factor!r})"] for factor in FACTORS[:-1])
        checks.within(
            f"{problem}: automatic factor minus the best fixed one, points", means["Dither('auto')"] - best, -most, 100
        )


def report(found: dict[str, dict[str, list[float]]], seeds: int) -> None:
    """Print the table."""
    print(f"test accuracy in %, mean ± standard error of {seeds} seeds\n")
    print(f"| rule | {' | '.join(found)} |")
    print("| --- |" + " --- |" * len(found))
    for rule in next(iter(found.values())):
        cells = []
        for of_rule in found.values():
            mean, error = runs.mean_and_error(of_rule[rule])
            cells.append(f"{mean:.1f}" if seeds < 2 else f"{mean:.1f} ± {error:.1f}")
        name = f"`{rule}`" if rule.startswith("Dither") else rule
        print(f"| {name} | {' | '.join(cells)} |")
