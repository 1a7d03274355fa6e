"""The figures of the Fashion-MNIST experiments, drawn from results alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common import figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Results = dict[str, list[dict[str, Any]]]  # for each method, one per seed

NORM_STYLE = {
    "none": ("not scaled back", "#009e73", "s-"),
    "batch": ("scaled to the norm of the batch's error", "#d55e00", "o-"),
    "row": ("each image scaled to the norm of its error", "#56b4e9", "^-"),
}
RULE_LABEL = {
    "Dither": "Dither: largest threshold in root\nmean squares of the batch",
    "Fixed": "Fixed: threshold on the error\nof an image",
    "BatchMax": "BatchMax: threshold as a fraction of\nthe batch's largest error",
    "RowMax": "RowMax: threshold as a fraction of\nthe image's largest error",
    "RowStd": "RowStd: threshold in deviations of\nthe image's error",
    "TopK": "TopK: how many of an image's\n10 errors are kept",
}


def accuracy(results: Results, network: str, path: Path) -> None:
    """Draw test accuracy over training, one line per method."""
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(7.5, 4.8))
    for method, of_seeds in results.items():
        label, colour, line = figures.METHOD_STYLE[method]
        epochs, values = _curves(of_seeds, lambda point: 100 * point["accuracy"])
        final = f"{label} ({values[:, -1].mean():.1f} %)"
        axes.plot(epochs[1:], values.mean(0)[1:], line, color=colour, label=final)
        axes.fill_between(epochs[1:], values.min(0)[1:], values.max(0)[1:], color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel="epochs of training", ylabel="test accuracy (%)")
    axes.legend(loc="lower right", title=_seeds(results, "last value; band:"))
    axes.set_title(
        f"Fashion-MNIST, {network}: hidden layers trained by backpropagation (BP),\n"
        "by random feedback of the error (DFA), of the ternary error (ODFA), or not at all (SHLW)"
    )
    figures.save(figure, path)


def alignment(results: Results, network: str, path: Path) -> None:
    """Draw alignment over training, one panel per hidden layer."""
    methods = [method for method in ("dfa", "odfa") if method in results]
    if not methods:
        return
    layers = list(results[methods[0]][0]["curve"][-1]["alignment"])
    plt = _pyplot()
    figure, panels = plt.subplots(1, len(layers), figsize=(3.4 * len(layers), 4), sharey=True, squeeze=False)
    for layer, name, axes in zip(range(len(layers)), layers, panels[0], strict=True):
        for method in methods:
            label, colour, line = figures.METHOD_STYLE[method]
            epochs, values = _curves(results[method], lambda point, name=name: point["alignment"][name])
            axes.plot(epochs, values.mean(0), line, color=colour, label=label)
            axes.fill_between(epochs, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set(xlabel="epochs of training", title=f"hidden layer {layer + 1}")
    panels[0, 0].set_ylabel("cosine with backpropagation's gradient")
    panels[0, 0].legend(loc="best", title=_seeds(results, "band:"))
    figure.suptitle(f"Fashion-MNIST, {network}: does feedback point where backpropagation does? (1: yes)")
    figures.save(figure, path)


def search(found: dict[str, Any], network: str, path: Path) -> None:
    """Draw accuracy against threshold, one panel per rule and one line per norm."""
    plt = _pyplot()
    figure, panels = plt.subplots(2, len(RULE_LABEL) // 2, figsize=(11, 7.6), sharey=True)
    for rule, axes in zip(RULE_LABEL, panels.flat, strict=True):
        _search_panel(axes, rule, found)
    references = [100 * point["accuracy"] for point in found["points"] if not point["ternary"]]
    best = 100 * found["best"]["accuracy"]
    panels[0, 0].set_ylim(min(references) - 4, max(best, *references) + 0.7)
    for axes in panels[:, 0]:
        axes.set_ylabel("validation accuracy (%)")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.suptitle(
        f"Fashion-MNIST, {network}, ODFA: which errors become −1 or 1, and how the ternary error\nis scaled back, "
        "decides what is learned (star: the best; what is far worse than SHLW is cut off)"
    )
    figures.save(figure, path)


def _search_panel(axes: Axes, rule: str, found: dict[str, Any]) -> None:
    of_rule = [point for point in found["points"] if point["ternary"] and point["ternary"][0] == rule]
    for norm, (label, colour, marker) in NORM_STYLE.items():
        line = sorted((p["ternary"][1], 100 * p["accuracy"]) for p in of_rule if p["ternary"][2] == norm)
        axes.plot([x for x, _ in line], [y for _, y in line], marker, color=colour, label=label)
    for point in found["points"]:
        if not point["ternary"]:
            label, colour, dashes = figures.METHOD_STYLE[point["method"]]
            axes.axhline(100 * point["accuracy"], color=colour, linestyle=dashes, label=label)
    best = found["best"]
    if best["ternary"][0] == rule:
        axes.plot(best["ternary"][1], 100 * best["accuracy"], "*", color="black", markersize=11)
    axes.set_xlabel(RULE_LABEL[rule])


def _curves(of_seeds: Sequence[dict[str, Any]], value: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    epochs = np.array([point["epoch"] for point in of_seeds[0]["curve"]])
    return epochs, np.array([[value(point) for point in run["curve"]] for run in of_seeds])


def _seeds(results: Results, before: str) -> str:
    n = max(len(of_seeds) for of_seeds in results.values())
    return f"mean, {before} range of {n} seeds" if n > 1 else "one seed"


def _pyplot() -> Any:
    figures.style()
    from matplotlib import pyplot as plt

    return plt
