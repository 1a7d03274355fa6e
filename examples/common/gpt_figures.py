"""The figures of the language model: loss curves, and how the blocks' gradients align with backpropagation's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from common import figures, runs


def label(method: str) -> str:
    """Return what a method is called."""
    return figures.METHOD_STYLE[method][0]


def draw(results: list[dict[str, Any]], directory: Path) -> list[Path]:
    """Draw all figures from the results of finished runs; return their files."""
    figures.style()
    drawn = [losses(results, directory / "losses.png")]
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
    # The first points, high and common to all, would flatten the rest.
    lowest = min(point["validation_loss"] for r in results for point in r["curve"])
    start = max(r["curve"][len(r["curve"]) // 10]["validation_loss"] for r in results)
    panels[0].set_ylim(lowest - 0.1, start + 0.1)
    panels[1].legend(title=_seeds(results))
    figure.suptitle(
        "Lower decoder layers trained by random feedback (DFA), by that of the ternary error (ODFA),\n"
        "by backpropagation (BP) or not at all (SHLW)"
    )
    figures.save(figure, path)
    return path


def alignment(results: list[dict[str, Any]], path: Path) -> Path:
    """Draw the cosine between each block's gradient and backpropagation's against epochs, mean over the seeds."""
    from matplotlib import pyplot as plt

    blocks = list(results[0]["curve"][0]["alignment"])
    figure, panels = plt.subplots(1, len(blocks), figsize=(3.6 * len(blocks) + 1, 4.4), sharey=True, squeeze=False)
    for i, (block, axes) in enumerate(zip(blocks, panels[0], strict=True)):
        for method in ("dfa", "odfa"):
            curves = [r["curve"] for r in results if r["settings"]["method"] == method]
            if curves:
                name, colour, line = figures.METHOD_STYLE[method]
                values = np.array([[point["alignment"][block] for point in curve] for curve in curves])
                epochs = [point["epoch"] for point in curves[0]]
                axes.plot(epochs, values.mean(axis=0), color=colour, linestyle=line, label=name)
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set_title(f"decoder layer {i + 1}" + (" and embedding" if i == 0 else ""))
        axes.set_xlabel("passes over the text (epochs)")
    panels[0, 0].set_ylabel("cosine with backpropagation's gradient")
    panels[0, -1].legend(title=_seeds(results))
    figure.suptitle("How far the gradient that feedback gives a layer points where backpropagation's does (1: same)")
    figures.save(figure, path)
    return path


def _seeds(results: list[dict[str, Any]]) -> str:
    n = len({result["settings"]["seed"] for result in results})
    return f"mean of {n} seeds" if n > 1 else "one seed"
