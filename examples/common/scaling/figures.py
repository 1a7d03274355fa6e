"""Figures of scaling.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common import figures

Result = dict[str, Any]
UNITS = {"mlp": "example", "gpt": "window of 24 tokens"}
NETWORKS = {"mlp": "Fully connected networks", "gpt": "Transformers"}


def draw(folder: Path, family: str, results: Sequence[Result]) -> None:
    """Draw time, ratio, memory and the parts of a step."""
    figures.style()
    title, unit = NETWORKS[family], UNITS[family]
    batch = results[0]["batch"]
    panels(
        folder / f"{family}-time.png",
        results,
        lambda r, method: 1e3 * r["methods"][method]["step"] / r["batch"],
        f"ms per {unit}",
        f"{title}: time of a training step per {unit}\n(batch {batch}, median of steps that the methods took in turn)",
    )
    with_memory = [r for r in results if r["memory"] and None not in r["memory"].values()]
    if with_memory:
        panels(
            folder / f"{family}-memory.png",
            with_memory,
            lambda r, method: r["memory"][method] / 1e6,
            "MB",
            f"{title}: memory that two training steps need\n(batch {batch}, the most beyond an idle process)",
        )
    ratios(folder / f"{family}-ratio.png", title, results)
    parts(folder / f"{family}-parts.png", title, unit, results)


def draw_optics(folder: Path, family: str, results: Sequence[Result]) -> None:
    """Draw the time of a step with the optical one beside it, over width and over layers."""
    figures.style()
    title, unit = NETWORKS[family], UNITS[family]
    for over in ("width", "layers"):
        panels(
            folder / f"{family}-hardware-{over}.png",
            results,
            lambda r, method: 1e3 * r["methods"][method]["step"] / r["batch"],
            f"ms per {unit}",
            f"{title}: time of a training step per {unit}, batch {results[0]['batch']};\noptically: the projection's "
            "time here replaced by four frames an error on LightOn's device",
            over,
        )


def draw_forms(path: Path, family: str, results: Sequence[Result]) -> None:
    """Draw the time of each form of a step relative to backpropagation at its best, with a panel for each size."""
    from matplotlib import pyplot as plt

    figures.style()
    measured = [r for r in results if "ratio" in r]
    sizes = sorted({(r["batch"], r["layers"], r["width"]) for r in measured})
    if not sizes:
        return
    most = max(sum((r["batch"], r["layers"], r["width"]) == size for r in measured) for size in sizes)
    fig, axes = plt.subplots(1, len(sizes), figsize=(4 * len(sizes) + 3, 0.26 * most + 1.6), squeeze=False)
    for axis, size in zip(axes[0], sizes, strict=True):
        here = [r for r in measured if (r["batch"], r["layers"], r["width"]) == size]
        here.sort(key=lambda r: -r["ratio"])
        style = figures.METHOD_STYLE
        colours = [style[r["method"].removesuffix(" by hand").removesuffix(" stack")][1] for r in here]
        axis.barh([r["form"] for r in here], [r["ratio"] for r in here], color=colours)
        for place, r in enumerate(here):
            axis.text(r["ratio"], place, f" {r['ratio']:.2f}", va="center", fontsize=8)
        axis.axvline(1, color="black", linewidth=1)
        axis.margins(x=0.12, y=0.01)
        axis.tick_params(axis="y", labelsize=8.5)
        axis.grid(axis="y", visible=False)
        axis.set_xlabel("time of a step / BP's at its best")
        axis.set_title(f"batch {size[0]}, {size[1]} layers of {size[2]}")
    fig.suptitle(f"{NETWORKS[family]}: a training step in several forms.\nLeft of the line: faster than BP at its best")
    figures.save(fig, path)


def panels(
    path: Path,
    results: Sequence[Result],
    value: Callable[[Result, str], float],
    label: str,
    title: str,
    over: str = "width",
) -> None:
    """Draw a quantity against the width, with one panel per number of layers, or the other way round."""
    from matplotlib import pyplot as plt

    per = "layers" if over == "width" else "width"
    found = sorted({r[per] for r in results})
    fig, axes = plt.subplots(1, len(found), figsize=(3 * len(found) + 1, 3.8), squeeze=False, sharey=True)
    for axis, one in zip(axes[0], found, strict=True):
        for method in results[0]["methods"]:
            points = sorted((r[over], value(r, method)) for r in results if r[per] == one)
            name, colour, line = figures.METHOD_STYLE[method]
            axis.loglog(*zip(*points, strict=True), line, marker="o", color=colour, label=name)
        axis.set_title(f"hidden width {one}" if per == "width" else f"{one} layer" + ("s" if one > 1 else ""))
        show_sizes(axis, results, over)
    axes[0, 0].set_ylabel(label)
    axes[0, 0].legend()
    fig.suptitle(title)
    figures.save(fig, path)


def show_sizes(axis: Any, results: Sequence[Result], over: str = "width") -> None:
    """Mark the widths, or numbers of layers, that were measured."""
    sizes = sorted({r[over] for r in results})
    axis.set_xticks(sizes, [str(size) for size in sizes], rotation=60 if over == "width" else 0, fontsize=9)
    axis.set_xticks([], minor=True)
    axis.set_xlabel("hidden width" if over == "width" else "hidden layers")


def ratios(path: Path, title: str, results: Sequence[Result]) -> None:
    """Draw the step's time relative to backpropagation's."""
    from matplotlib import pyplot as plt

    methods = [m for m in results[0]["methods"] if m != "bp" and "ratio" in results[0]["methods"][m]]
    if not methods:
        return
    depths = sorted({r["layers"] for r in results})
    fig, axes = plt.subplots(1, len(methods), figsize=(4.4 * len(methods), 3.8), squeeze=False, sharey=True)
    for axis, method in zip(axes[0], methods, strict=True):
        for place, depth in enumerate(depths):
            points = [(r["width"], r["methods"][method]["ratio"]) for r in results if r["layers"] == depth]
            shade = plt.get_cmap("viridis")(0.85 * place / max(1, len(depths) - 1))
            axis.semilogx(
                *zip(*points, strict=True), marker="o", color=shade, label=f"{depth} layer" + ("s" if depth > 1 else "")
            )
        axis.axhline(1, color="black", linewidth=1)
        axis.set_title(figures.METHOD_STYLE[method][0])
        show_sizes(axis, results)
    axes[0, 0].set_ylabel("time of a step / BP's")
    axes[0, 0].legend()
    fig.suptitle(f"{title}: time of a step relative to backpropagation.\nBelow the line, DFA is faster.")
    figures.save(fig, path)


def parts(path: Path, title: str, unit: str, results: Sequence[Result]) -> None:
    """Draw the parts of a step's time for the widest network of each depth."""
    from matplotlib import pyplot as plt

    depths = sorted({r["layers"] for r in results})
    widest = [max((r for r in results if r["layers"] == depth), key=lambda r: int(r["width"])) for depth in depths]
    fig, axes = plt.subplots(1, len(depths), figsize=(2.6 * len(depths) + 2, 3.8), squeeze=False)
    colours = {"forward": "#56b4e9", "backward": "#0072b2", "projection": "#d55e00", "optimizer": "#999999"}
    for axis, r in zip(axes[0], widest, strict=True):
        for place, m in enumerate(r["methods"].values()):
            bottom = 0.0
            for part, colour in colours.items():
                seconds = m[part] - (m["projection"] if part == "backward" else 0.0)
                height = 1e3 * seconds / r["batch"]
                label = "backward, rest" if part == "backward" else part
                axis.bar(place, height, bottom=bottom, color=colour, width=0.65, label=label if place == 0 else None)
                bottom += height
        axis.set_xticks(range(len(r["methods"])), [figures.METHOD_STYLE[m][0] for m in r["methods"]])
        axis.set_title(f"{r['layers']} × {r['width']}")
        axis.grid(axis="x", visible=False)
    axes[0, 0].set_ylabel(f"ms per {unit}")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper")
    fig.suptitle(f"{title}: what a training step consists of, layers × width")
    figures.save(fig, path)
