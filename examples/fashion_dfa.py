"""Compare four methods to train the same network on Fashion-MNIST, among them direct feedback alignment.

BP is backpropagation. DFA sends a random projection of the output's error to every hidden layer, in place of the error
that backpropagation would bring there. ODFA makes the error ternary first, so that an optical processing unit can
project it. SHLW trains the last layer only; the gain of a method over SHLW shows what its hidden layers have learned.
The program measures the test accuracy during training and, for every hidden layer, the alignment: the cosine between
the gradient that it receives and that of backpropagation.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any, Literal

from common import devices, figures, runs
from common.fashion import figures as fashion_figures
from common.fashion import options as fashion_options
from common.fashion.training import NETWORKS, Run, Ternary, Trainer
from opuproj import dfa
from tqdm import tqdm

EXAMPLES = """examples:
  python examples/fashion_dfa.py --quick           every method on 20,000 images, within two minutes
  python examples/fashion_dfa.py                   fully connected, three hidden layers of 256, three seeds
  python examples/fashion_dfa.py --network wide    three hidden layers of 1,024
  python examples/fashion_dfa.py --network conv    two convolutions and a hidden layer
  python examples/fashion_dfa.py --only 1          seed 1: processes with a seed each share the work
  python examples/fashion_dfa.py --search          which ternary error is best?
  python examples/fashion_dfa.py --tune            which learning rates are best?
  python examples/fashion_dfa.py --figures-only    draw again what was measured

A killed program goes on where it was when it is called again. --search and --tune hold out 10,000 training images and
measure accuracy on these; they never look at the test images."""

# Found by --tune and --search.
RATES = {
    "fc": {"bp": 1e-3, "dfa": 1e-3, "odfa": 2e-3, "shallow": 1e-1},
    "wide": {"bp": 1e-3, "dfa": 1e-3, "odfa": 1e-3, "shallow": 3e-2},
    "conv": {"bp": 1e-3, "dfa": 1e-3, "odfa": 1e-3, "shallow": 3e-2},
}
TERNARY = Ternary("Dither", 5.0, "batch")
EPOCHS = {"fc": 10, "wide": 10, "conv": 6}
NETWORK_NAME = {
    "fc": "fully connected, 3 × 256",
    "wide": "fully connected, 3 × 1,024",
    "conv": "convolutional",
}

VALIDATION = 10_000
QUICK_IMAGES, QUICK_EPOCHS = 20_000, 6
SEARCH_IMAGES, SEARCH_EPOCHS = 20_000, 3
NORMS: tuple[Literal["none", "batch", "row"], ...] = ("none", "batch", "row")
THRESHOLDS: dict[str, tuple[float, ...]] = {
    "Dither": (1.0, 2.0, 4.0, 6.0, 9.0),
    "Fixed": (0.05, 0.1, 0.2, 0.3, 0.45),
    "BatchMax": (0.05, 0.1, 0.2, 0.3, 0.45),
    "RowMax": (0.1, 0.25, 0.4, 0.6, 0.9),
    "RowStd": (0.5, 1.0, 1.5, 2.0, 2.5),
    "TopK": (1, 2, 3, 5),
}
TUNE_FACTORS = (0.5, 1, 2)


def main() -> None:
    """Run the part that the command line selects."""
    arguments = parser().parse_args()
    device = runs.begin(arguments)
    if arguments.search:
        search(arguments, device)
    elif arguments.tune:
        tune(arguments, device)
    else:
        compare(arguments, device)


def compare(arguments: argparse.Namespace, device: devices.Device) -> None:
    """Train with every method and seed; print and draw the results of all processes so far."""
    network, out = arguments.network, arguments.out
    epochs = QUICK_EPOCHS if arguments.quick else EPOCHS[network]
    seeds = range(arguments.seeds or (1 if arguments.quick else 3))
    wanted = [make_run(arguments, method, seed, epochs) for seed in seeds for method in arguments.methods]
    folder = out / f"{name(arguments)}-runs"
    if not arguments.figures_only:
        data = fashion_options.load(arguments)
        data = data.first(QUICK_IMAGES) if arguments.quick else data
        trainer = Trainer(data, folder, 4, arguments.save_seconds, device)
        train(trainer, [run for run in wanted if arguments.only in (None, run.seed)], arguments)

    results: fashion_figures.Results = {}
    for run in wanted:
        found = runs.read_json(folder / f"{run.name}.json")
        if found is not None:
            results.setdefault(run.method, []).append(found)
    if not results:
        sys.exit(f"nothing was measured yet in {folder}: run without --figures-only first")
    summary = {method: summarise(of_seeds) for method, of_seeds in results.items()}
    runs.write_json(out / f"{name(arguments)}.json", {"network": network, "methods": summary})
    fashion_figures.accuracy(results, NETWORK_NAME[network], out / f"{name(arguments)}-accuracy.png")
    fashion_figures.alignment(results, NETWORK_NAME[network], out / f"{name(arguments)}-alignment.png")
    print_summary(summary)
    devices.tell_mixture(run for of_seeds in results.values() for run in of_seeds)
    print(f"\nResults and figures: {out}/{name(arguments)}*")


def summarise(of_seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """Summarise the seeds of one method."""
    last = [run["curve"][-1] for run in of_seeds]
    mean, error = runs.mean_and_error([point["accuracy"] for point in last])
    alignment = {
        layer: runs.mean_and_error([point["alignment"][layer] for point in last])[0] for layer in last[0]["alignment"]
    }
    return {
        "accuracy": mean,
        "standard_error": error if len(last) > 1 else None,
        "seeds": [run["seed"] for run in of_seeds],
        "alignment": alignment,
        "rate": of_seeds[0]["rate"],
        "epochs": of_seeds[0]["epochs"],
        "ternary": of_seeds[0]["ternary"],
        "devices": devices.names(of_seeds),
        "seconds": sum(run["seconds"] for run in of_seeds) / len(of_seeds),
    }


def print_summary(summary: dict[str, dict[str, Any]]) -> None:
    """Print one line per method."""
    print(
        f"{'method':<8}{'test accuracy (%)':>20}{'seeds':>7}{'rate':>9}{'s a run':>9}   alignment of the hidden layers"
    )
    for method, line in summary.items():
        label = figures.METHOD_STYLE[method][0]
        accuracy = f"{100 * line['accuracy']:.2f}"
        if line["standard_error"] is not None:
            accuracy += f" ± {100 * line['standard_error']:.2f}"
        cosines = "  ".join(f"{value:.2f}" for value in line["alignment"].values())
        print(f"{label:<8}{accuracy:>18}{len(line['seeds']):>7}{line['rate']:>9.1e}{line['seconds']:>9.0f}   {cosines}")


def tune(arguments: argparse.Namespace, device: devices.Device) -> None:
    """Train one seed with rates around the rate of each method."""
    network, rates = arguments.network, RATES[arguments.network]
    epochs = 1 if arguments.quick else EPOCHS[network]
    wanted = [
        make_run(arguments, method, 0, epochs, rate=float(f"{factor * rates[method]:.2g}"))
        for method in arguments.methods
        for factor in arguments.factors
    ]
    points = validated(wanted, arguments, None, device)
    runs.write_json(arguments.out / f"{name(arguments)}-tune.json", {"points": points})
    print(f"{'method':<8}{'rate':>9}{'validation accuracy (%)':>26}")
    for point in points:
        best = max(other["accuracy"] for other in points if other["method"] == point["method"])
        print(
            f"{figures.METHOD_STYLE[point['method']][0]:<8}{point['rate']:>9.1e}{100 * point['accuracy']:>26.2f}"
            f"{'  best' if point['accuracy'] == best else ''}"
        )


def search(arguments: argparse.Namespace, device: devices.Device) -> None:
    """Train ODFA with every rule, threshold and norm, and the methods to compare; print and draw accuracies."""
    network, epochs = arguments.network, 1 if arguments.quick else SEARCH_EPOCHS
    references: tuple[dfa.Method, ...] = ("dfa", "shallow")
    wanted = [make_run(arguments, method, 0, epochs) for method in references]
    for rule, thresholds in THRESHOLDS.items():
        for threshold in thresholds[1:3] if arguments.quick else thresholds:
            ternaries = [Ternary(rule, threshold, norm) for norm in NORMS]
            wanted += [make_run(arguments, "odfa", 0, epochs, ternary=ternary) for ternary in ternaries]
    path = arguments.out / f"{name(arguments)}-search.json"
    if not arguments.figures_only:
        points = validated(wanted, arguments, SEARCH_IMAGES, device)
        best = max((point for point in points if point["ternary"]), key=lambda point: float(point["accuracy"]))
        runs.write_json(path, {"points": points, "best": best, "images": SEARCH_IMAGES, "epochs": epochs})
    found = runs.read_json(path)
    if found is None:
        sys.exit(f"{path} is not there yet: run without --figures-only first")
    print_search(found)
    fashion_figures.search(found, NETWORK_NAME[network], path.with_suffix(".png"))


def print_search(found: dict[str, Any]) -> None:
    """Print one line per threshold and one column per norm."""
    print(f"validation accuracy (%) after {found['epochs']} epochs of {found['images']:,} images")
    print(f"{'rule':<10}{'threshold':>10}" + "".join(f"{f'norm {norm!r}':>14}" for norm in NORMS))
    lines: dict[tuple[str, float], dict[str, float]] = {}
    for point in found["points"]:
        if point["ternary"]:
            rule, threshold, norm = point["ternary"]
            lines.setdefault((rule, threshold), {})[norm] = point["accuracy"]
        else:
            print(f"{figures.METHOD_STYLE[point['method']][0]:<20}{100 * point['accuracy']:>14.2f}")
    for (rule, threshold), accuracies in lines.items():
        print(f"{rule:<10}{threshold:>10g}" + "".join(f"{100 * accuracies[norm]:>14.2f}" for norm in NORMS))
    print("best: {}({:g}), norm {!r}".format(*found["best"]["ternary"]))


def validated(
    wanted: list[Run], arguments: argparse.Namespace, images: int | None, device: devices.Device
) -> list[dict[str, Any]]:
    """Train on some of the training images and measure the accuracy on the others."""
    data = fashion_options.load(arguments).validation(VALIDATION)
    if arguments.quick:
        images = QUICK_IMAGES // 2
    n = images or len(data.train_x)
    folder = arguments.out / f"{arguments.network}-validation-{n}"
    trainer = Trainer(data.first(n), folder, 0, arguments.save_seconds, device)
    return [
        {
            **{key: result[key] for key in ("method", "seed", "rate", "epochs", "ternary", "seconds")},
            "accuracy": result["curve"][-1]["accuracy"],
        }
        for result in train(trainer, wanted, arguments)
    ]


def train(trainer: Trainer, wanted: list[Run], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Train the runs one after the other, with one progress bar for all."""
    steps = trainer.steps_per_epoch * sum(run.epochs for run in wanted)
    with tqdm(total=steps, unit="step", leave=False, disable=arguments.no_progress) as bar:
        return [trainer.train(run, bar) for run in wanted]


def make_run(
    arguments: argparse.Namespace,
    method: dfa.Method,
    seed: int,
    epochs: int,
    rate: float | None = None,
    ternary: Ternary = TERNARY,
) -> Run:
    """Return a run with the method's settings, unless others are given."""
    network = arguments.network
    return Run(
        network=network,
        method=method,
        seed=seed,
        rate=RATES[network][method] if rate is None else rate,
        epochs=epochs,
        ternary=ternary if method == "odfa" else None,
        ensemble=arguments.ensemble,
    )


def name(arguments: argparse.Namespace) -> str:
    """Return the prefix of the names of all results."""
    parts = [arguments.network, *(["quick"] if arguments.quick else [])]
    return "-".join(parts if arguments.ensemble == "gaussian" else [*parts, arguments.ensemble])


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = runs.parser(__doc__ or "", EXAMPLES)
    made.add_argument("--network", choices=list(NETWORKS), default="fc", help="network to train (default: %(default)s)")
    made.add_argument(
        "--ensemble",
        choices=["gaussian", "structured"],
        default="gaussian",
        help="ensemble of the feedback matrix (default: %(default)s)",
    )
    fashion_options.add(made)
    made.add_argument(
        "--factors",
        type=float,
        nargs="+",
        default=TUNE_FACTORS,
        metavar="F",
        help="factors of the rates for --tune (default: 1/2 1 2)",
    )
    made.add_argument("--search", action="store_true", help="try rules, thresholds and norms for the ternary error")
    return made


if __name__ == "__main__":
    main()
