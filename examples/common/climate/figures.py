"""Table and figures of climate_vit.py."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common import figures, runs
from common.climate.data import Array, Climate

NAMES = {"vit": "vision Transformer", "mlp": "fully connected"}
Summary = dict[str, dict[str, dict[str, Any]]]


def summarise(results: Sequence[Mapping[str, Any]]) -> Summary:
    """Mean and standard error over the seeds, by network and method."""
    summary: Summary = {}
    for network in NAMES:
        for method in runs.METHODS:
            chosen = [r for r in results if (r["network"], r["method"]) == (network, method)]
            if chosen:
                values = {key: [r[key] for r in chosen] for key in ("rmse", "decade_rmse", "validate_rmse", "seconds")}
                entry = {key: runs.mean_and_error(numbers) for key, numbers in values.items()}
                summary.setdefault(network, {})[method] = {**entry, "seeds": [r["seed"] for r in chosen]}
    return summary


def print_table(summary: Summary, baselines: Mapping[str, Mapping[str, float]]) -> None:
    """Print test errors of networks and baselines."""
    print(f"\n{'':<32}{'RMSE on held-out years (K)':>28}{'of decade means (K)':>22}{'against BP':>12}{'seconds':>9}")
    for network, methods in summary.items():
        for method, entry in methods.items():
            errors = [f"{m:.3f}" + ("" if math.isnan(e) else f" ± {e:.3f}") for m, e in (entry[key] for key in ERRORS)]
            against = f"{entry['rmse'][0] / methods['bp']['rmse'][0]:.3f}" if "bp" in methods else ""
            name = f"{NAMES[network]}, {figures.METHOD_STYLE[method][0]}"
            print(f"{name:<32}{errors[0]:>28}{errors[1]:>22}{against:>12}{entry['seconds'][0]:>9.0f}")
    for name, errors_of in baselines.items():
        print(f"{name:<32}{errors_of['rmse']:>28.3f}{errors_of['decade_rmse']:>22.3f}")


ERRORS = ("rmse", "decade_rmse")


def draw(
    folder: Path,
    data: Climate,
    results: Sequence[Mapping[str, Any]],
    baselines: Mapping[str, Mapping[str, float]],
    linear: Array,
) -> None:
    """Draw bars of the errors, curves of the training, and maps of one held-out year for each network."""
    figures.style()
    summary = summarise(results)
    bars(folder / "rmse.png", data, summary, results, baselines)
    curves(folder / "curves.png", results)
    for network in summary:
        maps(folder / f"maps-{network}.png", folder, data, network, list(summary[network]), linear)


def bars(
    path: Path,
    data: Climate,
    summary: Summary,
    results: Sequence[Mapping[str, Any]],
    baselines: Mapping[str, Mapping[str, float]],
) -> None:
    """Draw test errors: a bar is the mean over the seeds, a dot one seed."""
    from matplotlib import pyplot as plt

    fig, axes = plt.subplots(2, len(summary), figsize=(4.6 * len(summary), 6.4), squeeze=False, sharey="row")
    labels = ("RMSE of single years (K)", "RMSE of ten-year means (K)")
    for row, (key, label) in enumerate(zip(ERRORS, labels, strict=True)):
        for axis, network in zip(axes[row], summary, strict=True):
            for place, (method, entry) in enumerate(summary[network].items()):
                _, colour, _ = figures.METHOD_STYLE[method]
                axis.bar(place, entry[key][0], color=colour, alpha=0.75, width=0.65)
                seeds = [r[key] for r in results if (r["network"], r["method"]) == (network, method)]
                axis.plot([place] * len(seeds), seeds, "o", color="white", markeredgecolor="black")
                axis.text(place, 0.02 * entry[key][0], f"{entry[key][0]:.3f}", ha="center", va="bottom", color="white")
            axis.axhline(baselines["ridge"][key], color="#009e73", linestyle=(0, (5, 2)), label="ridge regression")
            axis.set_xticks(range(len(summary[network])), [figures.METHOD_STYLE[m][0] for m in summary[network]])
            axis.set_ylabel(label)
            axis.grid(axis="x", visible=False)
    for axis, network in zip(axes[0], summary, strict=True):
        axis.set_title(NAMES[network])
    axes[0, -1].legend(loc="upper right")
    fig.suptitle(
        f"{data.name}: error on decades that were held out (bar: mean over seeds, dot: one seed).\n"
        f"The training years' mean alone errs by {baselines['training mean']['rmse']:.2f} K; "
        "what weather adds to a single year, no method can know."
    )
    figures.save(fig, path)


def curves(path: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Draw the validation error against the epoch."""
    from matplotlib import pyplot as plt

    networks = [network for network in NAMES if any(r["network"] == network for r in results)]
    fig, axes = plt.subplots(1, len(networks), figsize=(4.8 * len(networks), 3.8), squeeze=False, sharey=True)
    for axis, network in zip(axes[0], networks, strict=True):
        for method in runs.METHODS:
            seeds = [r["validate"] for r in results if (r["network"], r["method"]) == (network, method)]
            if seeds:
                shortest = min(map(len, seeds))
                errors = np.array([seed[:shortest] for seed in seeds])
                name, colour, line = figures.METHOD_STYLE[method]
                epochs = np.arange(1, shortest + 1)
                axis.plot(epochs, errors.mean(axis=0), line, color=colour, label=name)
                axis.fill_between(epochs, errors.min(axis=0), errors.max(axis=0), color=colour, alpha=0.15, linewidth=0)
        axis.set(xlabel="epoch", title=NAMES[network])
    least = min(min(r["validate"]) for r in results)
    axes[0, 0].set_ylim(0.95 * least, 1.6 * least)
    axes[0, 0].set_ylabel("RMSE on the validation decades (K)")
    axes[0, 0].legend()
    fig.suptitle("How the error falls during training: mean and range over the seeds")
    figures.save(fig, path)


def maps(path: Path, folder: Path, data: Climate, network: str, methods: Sequence[str], linear: Array) -> None:
    """Draw a held-out year: the truth, what each method predicts, and the difference."""
    from matplotlib import pyplot as plt

    rows = data.rows("test")
    # The last held-out year of the first scenario: of A1B, of a warm decade.
    first = data.scenario[rows] == data.scenario[rows][0]
    index = int(np.flatnonzero(first)[-1])
    truth = data.temperature[rows[index]] - data.normal
    predicted = {"ridge": linear[index] - data.normal}
    for method in methods:
        found = sorted(folder.glob(f"{network}-{method}-[0-9]*.npz"))
        if found:
            with np.load(found[0]) as file:
                predicted[method] = file["test"][index] - data.normal
    limit = float(np.abs(truth).max())
    wide = float(max(np.quantile(np.abs(p - truth), 0.99) for p in predicted.values()))
    extent = (float(data.longitude[0]), float(data.longitude[-1]), float(data.latitude[0]), float(data.latitude[-1]))
    fig, axes = plt.subplots(2, len(predicted) + 1, figsize=(2.5 * len(predicted) + 3.2, 5.2), sharex=True, sharey=True)
    kwargs = {"origin": "lower", "extent": extent, "aspect": "auto", "cmap": "RdBu_r"}
    above = axes[0, 0].imshow(truth, vmin=-limit, vmax=limit, **kwargs)
    axes[0, 0].set_title("truth")
    axes[1, 0].axis("off")
    for column, (method, values) in enumerate(predicted.items(), start=1):
        axes[0, column].imshow(values, vmin=-limit, vmax=limit, **kwargs)
        below = axes[1, column].imshow(values - truth, vmin=-wide, vmax=wide, **kwargs)
        name = "ridge regression" if method == "ridge" else figures.METHOD_STYLE[method][0]
        rmse = float(np.sqrt((data.weights * (values - truth) ** 2).mean()))
        axes[0, column].set_title(name)
        axes[1, column].set_title(f"error: {rmse:.2f} K")
        axes[1, column].set_xlabel("longitude (° E)")
    for axis in axes.flat:
        axis.grid(visible=False)
        axis.xaxis.set_major_locator(plt.MaxNLocator(4, prune="both"))
    axes[0, 0].set_ylabel("latitude (° N)")
    axes[1, 1].set_ylabel("latitude (° N)")
    fig.colorbar(above, ax=axes[0], label="above the training\nyears' mean (K)")
    fig.colorbar(below, ax=axes[1], label="error (K)")
    year, scenario = data.year[rows[index]], data.scenario[rows[index]]
    fig.suptitle(
        f"Surface temperature of {year} in scenario {scenario}, a held-out year: {NAMES[network]}, seed 0. "
        "Below: predicted − true."
    )
    figures.save(fig, path)
