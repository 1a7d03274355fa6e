"""Table and figures of diffusion.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common import figures, runs
from common.diffusion.process import STEPS
from common.tables import plus_minus

Results = Sequence[Mapping[str, Any]]
# Samples of a method in the picture.
ROWS, COLUMNS = 4, 6


def of_method(results: Results, method: str) -> list[Mapping[str, Any]]:
    """Return the results of one method."""
    return [result for result in results if result["method"] == method]


def print_table(results: Results, floor: float) -> None:
    """Print losses, the part of the gap between SHLW and BP that is closed, distances of samples, and alignments."""
    columns = (
        f"{'loss on test images':>22}{'of SHLW − BP closed':>21}{'Fréchet distance':>20}{'seeds':>7}{'seconds':>9}"
    )
    print(f"\n{'':<8}{columns}   alignment of the blocks")
    means = {m: np.mean([r["test"] for r in of_method(results, m)]) for m in runs.METHODS if of_method(results, m)}
    for method in means:
        some = of_method(results, method)
        loss, distance = (plus_minus([r[key] for r in some], how) for key, how in (("test", ".4f"), ("frechet", ".2f")))
        closed = ""
        if {"bp", "shallow"} <= set(means):
            closed = f"{(means['shallow'] - means[method]) / (means['shallow'] - means['bp']):.0%}"
        seconds = np.mean([r["seconds"] for r in some])
        cosines = [f"{np.mean([r['alignment'][block] for r in some]):.2f}" for block in some[0]["alignment"]]
        print(f"{figures.METHOD_STYLE[method][0]:<8}{loss:>22}{closed:>21}{distance:>20}{len(some):>7}", end="")
        print(f"{seconds:>9.0f}   {'  '.join(cosines)}")
    print(f"\nAs many training images as samples have a Fréchet distance of {floor:.2f} from the test images.")


def draw(folder: Path, results: Results, real: np.ndarray[Any, Any]) -> None:
    """Draw losses over the training and over the noise level, and the samples of one seed."""
    figures.style()
    losses(folder / "losses.png", results)
    samples(folder / "samples.png", folder, results, real)


def losses(path: Path, results: Results) -> None:
    """Draw the validation loss over the steps, and the test loss at each noise level relative to SHLW."""
    from matplotlib import pyplot as plt

    fig, (left, right) = plt.subplots(1, 2, figsize=(11.5, 4.2))
    shallow = of_method(results, "shallow")
    base = np.mean([r["levels"] for r in shallow], axis=0) if shallow else 1.0
    for method in runs.METHODS:
        some = of_method(results, method)
        if not some:
            continue
        name, colour, line = figures.METHOD_STYLE[method]
        curves = np.array([[point["validate"] for point in r["curve"]] for r in some])
        steps = [point["step"] for point in some[0]["curve"]]
        left.semilogy(steps, curves.mean(0), line, color=colour, label=name)
        left.fill_between(steps, curves.min(0), curves.max(0), color=colour, alpha=0.15, linewidth=0)
        levels = np.array([r["levels"] for r in some]) / base
        centres = (np.arange(levels.shape[1]) + 0.5) * STEPS / levels.shape[1]
        right.plot(centres, levels.mean(0), line, marker="o", color=colour, label=name)
    left.set(xlabel="training step", ylabel="mean square error of the noise", title="Validation images")
    figures.plain_log_ticks(left.yaxis)
    left.legend()
    right.set(
        xlabel="step of the diffusion process (from little noise to noise alone)",
        ylabel="error / that of SHLW" if shallow else "mean square error of the noise",
        title="Test images, by noise level",
    )
    right.set_ylim(bottom=0)
    n_seeds = max(len(of_method(results, method)) for method in runs.METHODS)
    seeds = f"mean and range of {n_seeds} seeds" if n_seeds > 1 else "one seed"
    fig.suptitle(f"Diffusion on Fashion-MNIST: the noise in held-out images, {seeds}; the same noise for every method")
    figures.save(fig, path)


def samples(path: Path, folder: Path, results: Results, real: np.ndarray[Any, Any]) -> None:
    """Draw images of each method's first seed, which begin from the same noise, beside real ones."""
    from matplotlib import pyplot as plt

    shown = {"test images": real[: ROWS * COLUMNS]}
    for method in runs.METHODS:
        some = of_method(results, method)
        if some and (file := folder / f"{method}-{some[0]['seed']}.npz").exists():
            with np.load(file) as stored:
                shown[figures.METHOD_STYLE[method][0]] = stored["samples"][: ROWS * COLUMNS]
    fig, axes = plt.subplots(1, len(shown), figsize=(2.6 * len(shown), 2.3), squeeze=False)
    for axis, (name, images) in zip(axes[0], shown.items(), strict=True):
        axis.imshow(grid(images), cmap="gray_r", vmin=-1, vmax=1)
        axis.set_title(name)
        axis.axis("off")
    fig.suptitle("Samples of each method after training; images at one place begin from the same noise")
    figures.save(fig, path)


def grid(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Put images of shape (rows, 28, 28) into one picture of COLUMNS images a row."""
    side = images.shape[1]
    framed = np.full((ROWS * COLUMNS, side + 2, side + 2), -1.0)
    framed[: len(images), 1:-1, 1:-1] = images
    table = framed.reshape(ROWS, COLUMNS, side + 2, side + 2).transpose(0, 2, 1, 3)
    picture: np.ndarray[Any, Any] = table.reshape(ROWS * (side + 2), COLUMNS * (side + 2))
    return picture
