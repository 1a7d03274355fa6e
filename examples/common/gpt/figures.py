"""The figures of the language model: loss curves and the alignment of the blocks' gradients."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from common import devices, figures, runs


def label(method: str) -> str:
    """Return the name of a method."""
    return figures.METHOD_STYLE[method][0]


def draw(results: list[dict[str, Any]], directory: Path) -> list[Path]:
    """Draw all figures from the results of finished runs; return their files."""
    figures.style()
    drawn = [losses(results, directory / "losses.png")]
    # Older results have no seconds in their curves.
    if all("seconds" in result["curve"][0] for result in results):
        drawn.append(over_time(results, directory / "losses-over-time.png"))
    fed = [result for result in results if "alignment" in result["curve"][0]]
    if fed:
        drawn.append(alignment(fed, directory / "alignment.png"))
    return drawn


def losses(results: list[dict[str, Any]], path: Path) -> Path:
    """Draw training and validation loss against epochs, mean over the seeds."""
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(10, 4.6), sharey=True)
    titles = {"training_loss": "on the training text", "validation_loss": "on held-out works"}
    for (quantity, title), axes in zip(titles.items(), panels, strict=True):
        for method in runs.METHODS:
            curves = [r["curve"][1:] for r in results if r["settings"]["method"] == method]
            if curves:
                name, colour, line = figures.METHOD_STYLE[method]
                epochs = [point["epoch"] for point in curves[0]]
                values = np.array([[point[quantity] for point in curve] for curve in curves])
                axes.plot(epochs, values.mean(axis=0), color=colour, linestyle=line, label=name)
                axes.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15, linewidth=0)
        axes.set_title(title)
        axes.set_xlabel("passes over the text (epochs)")
    panels[0].set_ylabel("cross-entropy of the next token (nats)")
    # The first points are high and equal for all, and would flatten the rest.
    lowest = min(point[quantity] for r in results for point in r["curve"][1:] for quantity in titles)
    start = max(r["curve"][len(r["curve"]) // 10]["validation_loss"] for r in results)
    panels[0].set_ylim(lowest - 0.1, start + 0.1)
    panels[1].legend(title=_seeds(results))
    figure.suptitle(
        "Lower decoder layers trained by random feedback (DFA), by that of the ternary error (ODFA),\n"
        "by backpropagation (BP) or not at all (SHLW)"
    )
    figures.save(figure, path)
    return path


def over_time(results: list[dict[str, Any]], path: Path) -> Path:
    """Draw validation loss against the minutes of training, a curve for each run."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7.5, 4.8))
    for method in runs.METHODS:
        name, colour, line = figures.METHOD_STYLE[method]
        for i, result in enumerate(r for r in results if r["settings"]["method"] == method):
            points = result["curve"][1:]
            minutes = [point["seconds"] / 60 for point in points]
            losses = [point["validation_loss"] for point in points]
            axes.plot(minutes, losses, color=colour, linestyle=line, label=None if i else name)
    axes.set_xlabel(f"minutes of training ({', '.join(devices.names(results))})")
    axes.set_ylabel("cross-entropy of the next token\non held-out works (nats)")
    axes.set_title("Loss against time, without the time of measurements")
    axes.legend(title="a curve for each seed")
    figures.save(figure, path)
    return path


def alignment(results: list[dict[str, Any]], path: Path) -> Path:
    """Draw the cosine between each block's gradient and backpropagation's against epochs, mean over the seeds."""
    from matplotlib import pyplot as plt

    blocks = list(results[0]["curve"][0]["alignment"])
    rows, columns = math.ceil(len(blocks) / 5), min(len(blocks), 5)
    figure, grid = plt.subplots(
        rows, columns, figsize=(3.6 * columns + 2, 3.4 * rows + 1), sharex=True, sharey=True, squeeze=False
    )
    panels = grid.flatten()[: len(blocks)]
    for axes in grid.flatten()[len(blocks) :]:
        axes.axis("off")
    # A block has the name of its last layer and begins after the previous block.
    lasts = [int(block.rpartition(".")[2]) for block in blocks]
    firsts = [0, *(last + 1 for last in lasts[:-1])]
    for i, (block, axes) in enumerate(zip(blocks, panels, strict=True)):
        for method in ("dfa", "odfa"):
            curves = [r["curve"] for r in results if r["settings"]["method"] == method]
            if curves:
                name, colour, line = figures.METHOD_STYLE[method]
                values = np.array([[point["alignment"][block] for point in curve] for curve in curves])
                epochs = [point["epoch"] for point in curves[0]]
                axes.plot(epochs, values.mean(axis=0), color=colour, linestyle=line, label=name)
        axes.axhline(0, color="black", linewidth=0.8)
        first, last = firsts[i] + 1, lasts[i] + 1
        layers = f"decoder layer {last}" if first == last else f"decoder layers {first} to {last}"
        axes.set_title(layers + (" and embedding" if i == 0 else ""))
        if i + columns >= len(blocks):
            axes.set_xlabel("passes over the text (epochs)")
    for axes in grid[:, 0]:
        axes.set_ylabel("cosine with\nbackpropagation's gradient")
    panels[-1].legend(title=_seeds(results))
    figure.suptitle("Does feedback's gradient point\nwhere backpropagation's does? (1: yes)")
    figures.save(figure, path)
    return path


def photons(rows: list[dict[str, Any]], lines: dict[str, float], path: Path) -> Path:
    """Draw ODFA's loss against the photons per pixel of its camera, and other losses as lines."""
    from matplotlib import pyplot as plt

    figures.style()
    figure, axes = plt.subplots(figsize=(7.5, 4.8))
    name, colour, _ = figures.METHOD_STYLE["odfa"]
    seen = [(row["photons"], row["validation_loss"]) for row in rows]
    axes.semilogx(*zip(*seen, strict=True), color=colour, marker="o", label=f"{name} through a camera of 8 bits")
    for method, loss in lines.items():
        text, colour, line = figures.METHOD_STYLE[method]
        axes.axhline(loss, color=colour, linestyle=line, label=f"{text}, no camera")
    axes.set_xlabel("photons detected per pixel and frame at the mean intensity")
    axes.set_ylabel("cross-entropy of the next token\non held-out works (nats)")
    axes.set_title("Feedback recovered from fewer and fewer photons")
    axes.legend()
    figures.save(figure, path)
    return path


def _seeds(results: list[dict[str, Any]]) -> str:
    n = len({result["settings"]["seed"] for result in results})
    return f"mean of {n} seeds" if n > 1 else "one seed"
