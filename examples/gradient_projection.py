"""Project gradients of all parameters of a model, as data attribution does (TRAK), and compare accuracy and speed.

The gradients of single examples are those of a convolutional network on Fashion-MNIST and of a Transformer on plays,
after a short training. `opuproj.attribution.GradientProjector` projects them. The program compares the results with a
product in float64 by the same matrix, for several numbers of digits and with one scale for a whole gradient in place of
one for each block. Then it compares the speed with a matrix of torch.randn that is drawn again in chunks, as others do
that cannot store it, and with a sparse sketch (SJLT: one entry in each column of the matrix).
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from common import devices, figures, runs, tables
from common.checks import Checks, conclude
from common.fitted.tasks import TASKS
from opuproj import Projector
from opuproj.attribution import GradientProjector
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm

EXAMPLES = """examples:
  python examples/gradient_projection.py --quick --threads 1
  python examples/gradient_projection.py --threads 1               accuracy and speed: three minutes of one core
  python examples/gradient_projection.py --params 10000000         speed with more parameters"""

STEPS, QUICK_STEPS, BATCH = 200, 20, 64
EXAMPLES_OF_EACH, OUTPUTS = 16, 64  # of the comparison of accuracy
# (label, digits, elements that share a scale)
WHOLE = 1 << 24
ROUNDINGS = (
    ("5 digits, one scale", 5, WHOLE),
    ("5 digits, blocks", 5, 65_536),
    ("10 digits, one scale", 10, WHOLE),
    ("10 digits, blocks (default)", 10, 65_536),
    ("20 digits, blocks", 20, 65_536),
)
PARAMS, QUICK_PARAMS = 1_000_000, 200_000
PROJ_DIM, QUICK_PROJ_DIM = 512, 128
ROUNDS = 3


def main() -> None:
    """Measure accuracy and speed; print, draw, check."""
    arguments = parser().parse_args()
    device = runs.begin(arguments)
    results: dict[str, Any] = {
        "accuracy": {name: accuracy(name, arguments, device) for name in TASKS},
        "speed": speed(arguments, device),
    }
    checks = Checks()
    for name, found in results["accuracy"].items():
        checks.within(f"{name}: error of the projection by default", found["errors"][ROUNDINGS[3][0]], 0, 1e-3)
    conclude(arguments, results, checks, draw, report)


def accuracy(name: str, arguments: argparse.Namespace, device: devices.Device) -> dict[str, Any]:
    """Return the errors of projections of real gradients, relative to their norm."""
    grads = real_gradients(name, arguments, device)
    n_params = grads.shape[1]
    wanted = product(grads)
    errors = {}
    for label, digits, block in ROUNDINGS:
        projector = GradientProjector(n_params, OUTPUTS, digits=digits, block_size=block)
        found = projector.project(grads, model_id=0).double()
        errors[label] = float(((found - wanted).norm(dim=1) / wanted.norm(dim=1)).mean())
    largest = grads.abs().amax(dim=1) / grads.pow(2).mean(dim=1).sqrt()
    return {"parameters": n_params, "largest": float(largest.mean()), "errors": errors}


def product(grads: Tensor) -> Tensor:
    """Return the product with the stored matrix in float64, chunk by chunk."""
    op = Projector(grads.shape[1], OUTPUTS, mode="real", dtype="float64")
    sums = torch.zeros(len(grads), OUTPUTS, dtype=torch.float64, device=grads.device)
    for start in range(0, grads.shape[1], 1 << 16):
        columns = range(start, min(start + (1 << 16), grads.shape[1]))
        matrix = torch.from_numpy(op.matrix(columns=columns)).to(grads.device)
        sums += grads[:, start : columns.stop].double() @ matrix.T
    return sums


def real_gradients(name: str, arguments: argparse.Namespace, device: devices.Device) -> Tensor:
    """Train a network of the task for some steps; return the gradients of single examples, of shape (n, parameters)."""
    task = TASKS[name]
    data = task.load(True, arguments.out / "text").to(device.name)
    model, _, _ = task.network(data, 0)
    model.to(device.name)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    order = torch.Generator().manual_seed(0)
    for _ in tqdm(range(QUICK_STEPS if arguments.quick else STEPS), desc=name, disable=arguments.no_progress):
        some = torch.randint(len(data.x), (BATCH,), generator=order)
        optimizer.zero_grad()
        cross_entropy(model(data.x[some]).flatten(0, -2), data.y[some].flatten()).backward()
        optimizer.step()
    model.eval()
    parameters = list(model.parameters())
    rows = []
    for x, y in zip(data.x[:EXAMPLES_OF_EACH], data.y[:EXAMPLES_OF_EACH], strict=True):
        loss = cross_entropy(model(x[None]).flatten(0, -2), y[None].flatten())
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)]))
    return torch.stack(rows)


def speed(arguments: argparse.Namespace, device: devices.Device) -> dict[str, Any]:
    """Return the seconds for each gradient of several ways to project, in turn."""
    n_params = arguments.params or (QUICK_PARAMS if arguments.quick else PARAMS)
    proj_dim = QUICK_PROJ_DIM if arguments.quick else PROJ_DIM
    found: dict[str, Any] = {"parameters": n_params, "proj_dim": proj_dim, "seconds": {}}
    for batch in arguments.batches:
        grads = torch.randn(batch, n_params, device=device.name)
        ways: dict[str, Callable[[], object]] = {
            label: partial(GradientProjector(n_params, proj_dim, **options).project, grads, 0)
            for label, options in (
                ("opuproj, 10 digits", {}),
                ("opuproj, 5 digits", {"digits": 5}),
                ("opuproj, structured", {"ensemble": "structured"}),
            )
        }
        ways["torch.randn in chunks"] = partial(in_chunks, grads, proj_dim)
        ways["SJLT"] = partial(sjlt, grads, proj_dim)
        times: dict[str, list[float]] = {label: [] for label in ways}
        rounds = 1 if arguments.quick else ROUNDS
        for _ in tqdm(range(rounds), desc=f"batch {batch}", unit="round", disable=arguments.no_progress):
            for label, way in ways.items():
                started = perf_counter()
                way()
                device.wait()
                times[label].append(perf_counter() - started)
        found["seconds"][batch] = {label: statistics.median(some) / batch for label, some in times.items()}
    return found


def in_chunks(grads: Tensor, proj_dim: int, chunk: int = 4096) -> Tensor:
    """Multiply by a Gaussian matrix that is drawn chunk by chunk from a seeded generator."""
    generator = torch.Generator(grads.device).manual_seed(0)
    sums = torch.zeros(len(grads), proj_dim, device=grads.device)
    for start in range(0, grads.shape[1], chunk):
        part = grads[:, start : start + chunk]
        sums += part @ torch.randn(part.shape[1], proj_dim, generator=generator, device=grads.device)
    return sums


def sjlt(grads: Tensor, proj_dim: int) -> Tensor:
    """Add each element, with a random sign, to one random output."""
    generator = torch.Generator(grads.device).manual_seed(0)
    n = grads.shape[1]
    places = torch.randint(proj_dim, (n,), generator=generator, device=grads.device)
    signs = 2 * torch.randint(2, (n,), generator=generator, device=grads.device) - 1
    return torch.zeros(len(grads), proj_dim, device=grads.device).index_add_(1, places, grads * signs)


def report(results: dict[str, Any]) -> None:
    """Print both tables."""
    print("error of a projection, relative to its norm\n")
    columns = ["gradients of", "parameters", "largest / rms", *(label for label, _, _ in ROUNDINGS)]
    rows = [
        [
            TASKS[name].title,
            f"{found['parameters']:,}",
            f"{found['largest']:.0f}",
            *(f"{error:.1e}" for error in found["errors"].values()),
        ]
        for name, found in results["accuracy"].items()
    ]
    print(tables.markdown(columns, rows))
    found = results["speed"]
    print(f"\nmilliseconds for each gradient of {found['parameters']:,} parameters to {found['proj_dim']:,} numbers\n")
    ways = list(next(iter(found["seconds"].values())))
    rows = [[str(n), *(f"{1e3 * seconds[way]:.1f}" for way in ways)] for n, seconds in found["seconds"].items()]
    print(tables.markdown(["batch", *ways], rows))


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw the time for each gradient over the batch."""
    figures.style()
    from matplotlib import pyplot as plt

    found = results["speed"]
    figure, axis = plt.subplots(figsize=(6.4, 4.2))
    batches = list(found["seconds"])
    for way, mark in zip(found["seconds"][batches[0]], "os^Dv", strict=True):
        axis.loglog(batches, [found["seconds"][n][way] for n in batches], f"{mark}-", label=way)
    axis.set(
        xlabel="gradients in a batch",
        ylabel="seconds for each gradient",
        title=f"{found['parameters']:,} parameters to {found['proj_dim']:,} numbers",
    )
    axis.legend()
    figures.save(figure, path)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = runs.parser(__doc__ or "", EXAMPLES, methods=False, use="project")
    made.add_argument("--params", type=runs.positive, metavar="N", help="parameters of the comparison of speed")
    made.add_argument(
        "--batches",
        type=runs.positive,
        nargs="+",
        default=[1, 8, 32],
        metavar="N",
        help="gradients in a batch (default: 1 8 32)",
    )
    return made


if __name__ == "__main__":
    main()
