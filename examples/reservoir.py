"""Optical reservoir computing: predict the chaotic Mackey–Glass series from images of speckle.

The next state of the reservoir is the image |T [s; u]|² of the previous state s and the input u behind a scattering
medium. This is a recurrent network of fixed random weights (Rafayelyan et al., "Large-scale optical reservoir computing
for spatiotemporal chaotic systems prediction", Phys. Rev. X 10, 041037, 2020). Micromirrors show binary frames. So each
node of the state is one bit, which says whether its intensity exceeds the median, and the input is a thermometer code.
Only a linear readout of the last image is trained. For every horizon the program compares it with a linear
autoregression on the last 30 inputs and with persistence.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import figures, runs
from common.checks import Checks, conclude
from common.reservoirs import OpticalReservoir, mackey_glass
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from tqdm import tqdm

EXAMPLES = """examples:
  python examples/reservoir.py --quick          500 nodes, 3,000 steps of training
  python examples/reservoir.py                  2,000 nodes, 8,000 steps of training
  python examples/reservoir.py --nodes 4000     time grows with the square of the nodes"""

Array = NDArray[np.float64]
STEP = 6  # units of the series' time between two inputs
HORIZONS = 16  # predicted, in steps
SHOWN = 3  # the horizon of the check and the figure
LAGS = 30  # inputs of the autoregression
INPUT_PIXELS_PER_NODE = 6
WASHOUT, TEST = 100, 1000
PENALTIES = 10.0 ** np.arange(-9, -2)
# The largest error of the reservoir at the horizon shown, relative to the errors of the others, that passes the check.
AGAINST_AUTOREGRESSION, AGAINST_PERSISTENCE = 0.67, 0.33
STYLE = {
    "reservoir": ("optical reservoir", "#d55e00", "o-"),
    "autoregression": (f"linear autoregression, {LAGS} lags", "#0072b2", "s--"),
    "persistence": ("persistence", "#7f7f7f", "^:"),
}


@dataclass(frozen=True)
class Task:
    """A series, the targets at every time, and the times that train, validate and test.

    Attributes
    ----------
    inputs
        Of shape (times,).
    targets
        The next values, of shape (times, HORIZONS).
    """

    inputs: Array
    targets: Array
    train: slice
    validate: slice
    test: slice


def main() -> None:
    """Run the experiment, print, draw, check."""
    arguments = parser().parse_args()
    device = runs.begin(arguments).name
    nodes = arguments.nodes or (500 if arguments.quick else 2000)
    task = make_task(3000 if arguments.quick else 8000)

    reservoir = OpticalReservoir(
        nodes,
        levels=1,
        input_pixels=INPUT_PIXELS_PER_NODE * nodes,
        input_range=(float(task.inputs.min()), float(task.inputs.max())),
        seed=0,
        device=device,
    )
    with tqdm(total=len(task.inputs), unit="image", leave=False, disable=arguments.no_progress) as bar:
        states = reservoir.run(task.inputs, progress=bar.update)

    predicted = {
        "reservoir": read_out(states, task),
        "autoregression": read_out(lagged(task.inputs, LAGS), task),
        "persistence": np.repeat(task.inputs[task.test, None], HORIZONS, axis=1),
    }
    truth = task.targets[task.test]
    deviation = float(task.inputs[task.train].std())
    errors = {name: np.sqrt(((values - truth) ** 2).mean(0)) / deviation for name, values in predicted.items()}

    checks = Checks()
    check(checks, errors)
    results = {
        "nodes": nodes,
        "horizons": [STEP * (h + 1) for h in range(HORIZONS)],
        "errors": errors,
    }
    conclude(arguments, results, checks, partial(draw, predicted, truth), report)


def make_task(n_train: int) -> Task:
    """Return the Mackey–Glass series, sampled every six units of time, and its future."""
    n = WASHOUT + n_train + HORIZONS + TEST
    series = mackey_glass((n + HORIZONS) * STEP)[::STEP]
    targets = np.stack([series[h : h + n] for h in range(1, HORIZONS + 1)], axis=1)
    end = WASHOUT + n_train
    # A gap as long as the farthest horizon, so that no target of one part lies in the next.
    validate = slice(end - n_train // 5, end)
    return Task(
        inputs=series[:n],
        targets=targets,
        train=slice(WASHOUT, validate.start - HORIZONS),
        validate=validate,
        test=slice(end + HORIZONS, n),
    )


def lagged(series: Array, n: int) -> Array:
    """Return the last n values at every time, of shape (times, n)."""
    padded = np.concatenate([np.full(n - 1, series[0]), series])
    windows: Array = np.lib.stride_tricks.sliding_window_view(padded, n)
    return windows


def read_out(features: Array, task: Task) -> Array:
    """Return the test predictions of ridge regression on features for all horizons, each with its own penalty.

    The validation times determine the penalties. Then training and validation times are fitted together.
    """
    x = np.concatenate([np.ones((len(features), 1)), features], axis=1)

    def fitted(rows: slice, used: slice) -> Array:
        gram, products = x[rows].T @ x[rows], x[rows].T @ task.targets[rows]
        unit = np.trace(gram) / len(gram)
        solved = [cho_solve(cho_factor(gram + p * unit * np.eye(len(gram))), products) for p in PENALTIES]
        return np.stack([x[used] @ weights for weights in solved])

    squares = ((fitted(task.train, task.validate) - task.targets[task.validate]) ** 2).mean(1)
    candidates = fitted(slice(task.train.start, task.validate.stop), task.test)
    return np.stack([candidates[best, :, h] for h, best in enumerate(squares.argmin(0))], axis=1)


def check(checks: Checks, errors: dict[str, Array]) -> None:
    """Compare with the linear methods at the horizon shown."""
    mine = errors["reservoir"][SHOWN - 1]
    for name, most in (("autoregression", AGAINST_AUTOREGRESSION), ("persistence", AGAINST_PERSISTENCE)):
        claim = f"error {STEP * SHOWN} units of time ahead, as a part of that of {STYLE[name][0]}"
        checks.within(claim, mine / errors[name][SHOWN - 1], 0, most)
    means = {name: values[: 2 * SHOWN].mean() for name, values in errors.items()}
    claim = f"mean error up to {2 * STEP * SHOWN} units of time ahead, as a part of that of linear autoregression"
    checks.within(claim, means["reservoir"] / means["autoregression"], 0, 0.75)


def report(results: dict[str, Any]) -> None:
    """Print one line per horizon."""
    print(f"{'units ahead':>12}" + "".join(f"{label:>32}" for label, _, _ in STYLE.values()))
    for h, horizon in enumerate(results["horizons"]):
        print(f"{horizon:>12}" + "".join(f"{results['errors'][name][h]:>32.3f}" for name in STYLE))


def draw(predicted: dict[str, Array], truth: Array, results: dict[str, Any], path: Path) -> None:
    """Draw truth, prediction and error over some of the test, and errors over horizons."""
    figures.style()
    from matplotlib import pyplot as plt

    shown = slice(0, 150)
    time = STEP * np.arange(150)
    figure, panels = plt.subplot_mosaic(
        [["series", "horizons"], ["error", "horizons"]], figsize=(12, 5), width_ratios=[1.7, 1], height_ratios=[1.6, 1]
    )
    panels["series"].plot(time, truth[shown, SHOWN - 1], "k-", linewidth=3, alpha=0.35, label="truth")
    for name in ("reservoir", "autoregression"):
        label, colour, line = STYLE[name]
        values = predicted[name][shown, SHOWN - 1]
        panels["series"].plot(time, values, line[1:], color=colour, linewidth=1.3, label=label)
        panels["error"].plot(time, values - truth[shown, SHOWN - 1], line[1:], color=colour, linewidth=1.3)
    panels["series"].set(
        ylabel="x", title=f"Mackey–Glass (τ = 17), predicted {STEP * SHOWN} units of time ahead, part of the test"
    )
    panels["series"].set_ylim(top=truth.max() + 0.25)
    panels["series"].legend(ncols=3, loc="upper center")
    panels["error"].set(xlabel="time", ylabel="prediction − truth")
    for name, (label, colour, line) in STYLE.items():
        panels["horizons"].plot(results["horizons"], results["errors"][name], line, color=colour, label=label)
    panels["horizons"].axhline(1, color="black", linewidth=0.8)
    panels["horizons"].set_ylim(0, 2.6)  # with room for the legend
    panels["horizons"].set(
        xlabel="horizon (units of time)",
        ylabel="root mean square error / deviation of the series",
        title="Error over the horizon\n(1: no better than the mean)",
    )
    panels["horizons"].legend(loc="upper right")
    figure.suptitle(
        f"Optical reservoir of {results['nodes']:,} nodes: binary state and input, linear read-out of |Tx|²"
    )
    figures.save(figure, path)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = runs.parser(__doc__ or "", EXAMPLES, methods=False, use="project")
    made.add_argument("--nodes", type=runs.positive, metavar="N", help="nodes of the reservoir (default: 2000)")
    return made


if __name__ == "__main__":
    main()
