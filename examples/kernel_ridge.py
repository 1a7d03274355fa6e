"""Optical kernel ridge regression on Fashion-MNIST: random features |Tx|² replace a kernel matrix.

The inner product of D intensities behind a scattering medium is ‖x‖²‖y‖² + (x·y)² on average, which is a kernel (Saade
et al., "Random projections through multiple optical scattering", ICASSP 2016; Ohana et al., "Kernel computations from
large-scale random features obtained by optical processing units", ICASSP 2020). The images are made binary, as a
micromirror array shows them. The program compares the distance of the features' Gram matrix from the kernel with the
closed form of that distance, and the accuracy of ridge regression with that of ridge regression on the exact kernel.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from common import figures, optical_kernel, runs
from common.checks import Checks, conclude
from common.fashion import data as fashion
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from tqdm import tqdm

EXAMPLES = """examples:
  python examples/kernel_ridge.py --quick          1,500 images, up to 2,048 features
  python examples/kernel_ridge.py                  5,000 images, up to 16,384 features
  python examples/kernel_ridge.py --images 10000   more images: memory and time grow with their square"""

COUNTS = [64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384]
QUICK_COUNTS = COUNTS[:6]
PENALTIES = 10.0 ** np.arange(-6, -1)  # relative to the mean of the kernel's diagonal times the number of images
GRAM_IMAGES, GRAM_REPEATS = 200, 128


def main() -> None:
    """Run the experiment, print, draw, check."""
    arguments = parser().parse_args()
    device = runs.begin(arguments).name
    counts = QUICK_COUNTS if arguments.quick else COUNTS
    n_train = arguments.images or (1500 if arguments.quick else 5000)
    x, y = load(arguments.data, n_train, 1000 if arguments.quick else 2000)

    distances = gram_distances(x[:GRAM_IMAGES], counts[: 6 if arguments.quick else 7], arguments.no_progress, device)
    classified = accuracies(x, y, n_train, counts, arguments.no_progress, device)

    checks = Checks()
    check(checks, distances, classified, len(x) - n_train)
    results = {"images": n_train, "distances": distances, **classified}
    conclude(arguments, results, checks, draw, report)


def load(folder: Path, n_train: int, n_test: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return binary images, those for training first, and their classes; a pixel is 1 above the mean of all pixels."""
    try:
        split = fashion.load(folder)
    except FileNotFoundError as error:
        sys.exit(str(error))
    if n_train > len(split.train_x):
        sys.exit(f"--images is {n_train}, but there are {len(split.train_x)} images for training")
    pixels = np.concatenate([split.train_x[:n_train].numpy(), split.test_x[:n_test].numpy()])
    classes = np.concatenate([split.train_y[:n_train].numpy(), split.test_y[:n_test].numpy()])
    x = (pixels > 0).astype(np.uint8)
    x[x.sum(1) == 0, 0] = 1  # one pixel in a black image, so that its kernel is finite
    return x, classes


def gram_distances(x: NDArray[np.uint8], counts: list[int], quiet: bool, device: str) -> list[dict[str, float]]:
    """Measure the distance of Gram matrices from the kernel, in units of ‖x‖²‖y‖², and compute it by theory.

    Squares are averaged over all pairs of images and over many media, others for every number of features.
    """
    squares = optical_kernel.cosine_squares(x, x)
    variance = optical_kernel.gram_variance(squares).mean()
    rows = []
    with tqdm(total=len(counts) * GRAM_REPEATS, unit="medium", leave=False, disable=quiet) as bar:
        for count in counts:
            errors = []
            for repeat in range(GRAM_REPEATS):
                _, gram, _ = next(optical_kernel.grams(x, len(x), [count], seed=1000 * count + repeat, device=device))
                errors.append(((gram - (1 + squares)) ** 2).mean())
                bar.update()
            mean, error = runs.mean_and_error(errors)
            rows.append(
                {"features": count, "rms": mean**0.5, "theory": (variance / count) ** 0.5, "error": error / mean / 2}
            )
    return rows


def accuracies(
    x: NDArray[np.uint8], y: NDArray[np.int64], n_train: int, counts: list[int], quiet: bool, device: str
) -> dict[str, Any]:
    """Measure the test accuracy of ridge regression on the features, on the kernel and on the pixels."""
    with tqdm(total=counts[-1] + 2 * len(x), unit="feature", leave=False, disable=quiet) as bar:
        optical = [
            {"features": count, **fit(train, test, y, n_train)}
            for count, train, test in optical_kernel.grams(
                x, n_train, counts, seed=0, device=device, progress=bar.update
            )
        ]
        squares = optical_kernel.cosine_squares(x, x[:n_train])
        bar.update(len(x))
        exact = fit(1 + squares[:n_train], 1 + squares[n_train:], y, n_train)
        pixels = x.astype(np.float32) / np.sqrt(x.sum(1, dtype=np.float32))[:, None]
        linear = (pixels @ pixels[:n_train].T).astype(np.float64)
        plain = fit(linear[:n_train], linear[n_train:], y, n_train)
        bar.update(len(x))
    return {"optical": optical, "exact": exact, "pixels": plain}


def fit(train: NDArray[Any], test: NDArray[Any], y: NDArray[np.int64], n_train: int) -> dict[str, float]:
    """Return the test accuracy of kernel ridge regression on ±1 per class; a fifth of training sets the penalty."""
    targets = 2.0 * (y[:n_train, None] == np.arange(fashion.CLASSES)) - 1
    n = n_train - n_train // 5
    unit = np.trace(train) / n_train

    def predict(gram: NDArray[Any], rows: NDArray[Any], goal: NDArray[Any], penalty: float) -> NDArray[Any]:
        regular = gram.copy()
        regular.flat[:: len(gram) + 1] += penalty * unit * len(gram)
        factor = cho_factor(regular, overwrite_a=True, check_finite=False)
        chosen: NDArray[Any] = (rows @ cho_solve(factor, goal)).argmax(1)
        return chosen

    held_out = [(predict(train[:n, :n], train[n:, :n], targets[:n], p) == y[n:n_train]).mean() for p in PENALTIES]
    penalty = float(PENALTIES[int(np.argmax(held_out))])
    right = (predict(train, test, targets, penalty) == y[n_train:]).mean()
    return {"accuracy": float(right), "penalty": penalty}


def check(checks: Checks, distances: list[dict[str, float]], classified: dict[str, Any], n_test: int) -> None:
    """Compare with the closed form, and the most features with the exact kernel."""
    for row in distances:
        # Five standard errors of the measured mean, never less than 5 %.
        margin = max(5 * row["error"], 0.05)
        claim = f"distance of {row['features']:,} features' Gram matrix from the kernel, as a multiple of theory"
        checks.within(claim, row["rms"] / row["theory"], 1 - margin, 1 + margin)
    slope = np.polyfit(np.log([r["features"] for r in distances]), np.log([r["rms"] for r in distances]), 1)[0]
    checks.within("the distance falls as D to the power", slope, -0.55, -0.45)
    exact, most = classified["exact"]["accuracy"], classified["optical"][-1]
    noise = 100 * (2 * exact * (1 - exact) / n_test) ** 0.5
    claim = f"accuracy with {most['features']:,} features minus that with the exact kernel, points"
    checks.within(claim, 100 * (most["accuracy"] - exact), -2 * noise, 2 * noise)


def report(results: dict[str, Any]) -> None:
    """Print one line per number of features."""
    by_count = {row["features"]: row for row in results["distances"]}
    print(f"{'features':>10}{'distance from the kernel':>26}{'theory':>10}{'test accuracy (%)':>20}")
    for row in results["optical"]:
        known = by_count.get(row["features"])
        distance = f"{known['rms']:>26.4f}{known['theory']:>10.4f}" if known else " " * 36
        print(f"{row['features']:>10,}{distance}{100 * row['accuracy']:>20.2f}")
    print(f"{'exact kernel':<46}{100 * results['exact']['accuracy']:>20.2f}")
    print(f"{'pixels, linear':<46}{100 * results['pixels']['accuracy']:>20.2f}")


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw distance and accuracy against the number of features."""
    figures.style()
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.4))
    counts = [row["features"] for row in results["distances"]]
    left.loglog(
        counts, [row["theory"] for row in results["distances"]], "k-", label="theory: √(variance of a feature/D)"
    )
    label = f"measured: {GRAM_REPEATS} media each, ± standard error"
    measured = [row["rms"] for row in results["distances"]]
    bars = [row["rms"] * row["error"] for row in results["distances"]]
    left.errorbar(counts, measured, bars, fmt="o", color="#d55e00", elinewidth=1.2, capsize=2.5, label=label)
    left.set(
        xlabel="number of optical features D",
        ylabel="root mean square error of the kernel,\nin units of ‖x‖²‖y‖²",
        title="The Gram matrix of |Tx|² approaches\nthe kernel ‖x‖²‖y‖² + (x·y)² as 1/√D",
    )
    left.legend()
    figures.plain_log_ticks(left.yaxis)
    counts = [row["features"] for row in results["optical"]]
    values = [100 * row["accuracy"] for row in results["optical"]]
    right.semilogx(counts, values, "o-", color="#d55e00", label="ridge on D optical features")
    for key, line, name in (("exact", "-", "ridge on the exact kernel"), ("pixels", ":", "ridge on the binary pixels")):
        accuracy = 100 * results[key]["accuracy"]
        right.axhline(accuracy, color="black", linestyle=line, linewidth=1.3, label=f"{name} ({accuracy:.1f} %)")
    right.set(
        xlabel="number of optical features D",
        ylabel="test accuracy (%)",
        title=f"Fashion-MNIST, {results['images']:,} binary images:\naccuracy approaches that of the exact kernel",
    )
    right.legend(loc="lower right")
    figures.save(figure, path)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = runs.parser(__doc__ or "", EXAMPLES, methods=False, use="project")
    made.add_argument(
        "--data", type=Path, default=fashion.FOLDER, metavar="DIR", help="folder with Fashion-MNIST's files"
    )
    made.add_argument("--images", type=runs.positive, metavar="N", help="images to train on (default: 5000)")
    return made


if __name__ == "__main__":
    main()
