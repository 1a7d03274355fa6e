"""Train a vision Transformer on maps of surface temperature from emissions, without backpropagation through it.

The program trains the same network by four methods, each with its own learning rates: backpropagation (BP), direct
feedback alignment (DFA), DFA with a ternary error as an optical processing unit requires (ODFA), and the last layer
alone (SHLW). The network is a vision Transformer or fully connected. Its input is a year's emissions of CO₂, CH₄, SO₂
and black carbon, its output the surface temperature of that year at every point of a map. The program reports the
area-weighted root mean square error in kelvin on held-out decades, beside ridge regression and the mean of the training
years.

Install the data by name (pip install --no-deps iris-sample-data==2.5.2 fair==1.6.4, and pip install h5py). --data reads
ClimateBench from a folder. examples/common/climate/data.py describes the data and how they are split.

--size paper trains networks of 202 million and 1.29 billion parameters, as large as in arXiv:2409.12965, on maps of
96 × 144 points. It reports seconds, joules and memory of the GPU.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
from common import devices, energy, runs
from common.climate import data as climate
from common.climate import figures as climate_figures
from common.climate import report as climate_report
from common.climate.networks import PAPER, SMALL, Sizes
from common.climate.training import Job, Task, train
from opuproj import dfa
from tqdm import tqdm

NETWORKS = ("vit", "mlp")
EPOCHS = 30
# What --size paper --quick trains, with the paper's maps.
QUICK_PAPER = Sizes(vit_width=32, vit_layers=2, vit_heads=4, vit_expansion=4, mlp_widths=(64, 48, 32))
# Learning rates of the blocks and of the layers above them: the best of --tune by the error on the validation decades.
RATES = {
    "vit": {"bp": (3e-4, 3e-2), "dfa": (9e-4, 3e-2), "odfa": (3e-4, 3e-2), "shallow": (0.0, 3e-2)},
    "mlp": {"bp": (3e-4, 1e-4), "dfa": (1e-4, 3e-4), "odfa": (1e-4, 3e-4), "shallow": (0.0, 3e-4)},
}
# The middle of a plateau: with norm="row", thresholds from 0 to half of the largest error give the same accuracy. The
# Transformer fails if only few elements remain, or if the sizes of the patches' errors are lost (the other norms).
TERNARIZE = dfa.Ternarize(dfa.RowMax(0.25), norm="row")
# --tune tries these factors of the rates, and, at the rates above, these rules and norms for the ternary error.
FACTORS = (0.3, 1, 3)
CANDIDATES = [
    *(dfa.Ternarize(dfa.RowMax(fraction), norm="row") for fraction in (0.0, 0.1, 0.25, 0.5)),
    *(dfa.Ternarize(dfa.RowStd(factor), norm="row") for factor in (0.5, 1.0, 1.5, 2.0)),
    *(dfa.Ternarize(dfa.TopK(k), norm="row") for k in (5, 50)),
    dfa.Ternarize(dfa.BatchMax(0.25), norm="batch"),
    dfa.Ternarize(dfa.RowMax(0.25), norm="batch"),
    dfa.Ternarize(dfa.RowMax(0.25), norm="none"),
]


def experiment(arguments: Namespace, task: Task) -> None:
    """Train every method with every seed, then write results and figures."""
    epochs = epochs_of(arguments)
    # Seed by seed, so that a study that is cut off has complete comparisons.
    seeds = range(arguments.seeds or (1 if arguments.quick else 3)) if arguments.only is None else [arguments.only]
    jobs = [
        Job(network, method, seed, rates_of(arguments, network, method), epochs, TERNARIZE, sizes_of(arguments))
        for seed in seeds
        for network in arguments.network
        for method in arguments.methods
    ]
    with tqdm(total=sum(job.epochs for job in jobs), unit="epoch", disable=arguments.no_progress) as bar:
        for job in jobs:
            name = f"{job.network}-{job.method}-{job.seed}"
            train(job, task, arguments.out, name, arguments.save_seconds, bar)
    report(arguments, task)


def tune(arguments: Namespace, task: Task) -> None:
    """Try learning rates around the stored ones and, for ODFA, ternary errors, with one seed."""
    epochs, sizes = epochs_of(arguments), sizes_of(arguments)
    factors, candidates = (FACTORS[:2], []) if arguments.quick else (FACTORS, CANDIDATES)
    jobs = []
    for network in arguments.network:
        for method in arguments.methods:
            blocks, top = default_rates(arguments, network, method)
            pairs = {(blocks, top * factor) for factor in factors} | {(blocks * factor, top) for factor in factors}
            jobs += [Job(network, method, 0, rounded(pair), epochs, TERNARIZE, sizes) for pair in sorted(pairs)]
        if "odfa" in arguments.methods:
            rates = default_rates(arguments, network, "odfa")
            jobs += [Job(network, "odfa", 0, rates, epochs, candidate, sizes) for candidate in candidates]
    table = {}
    path = arguments.out / "tune.json"
    found: dict[str, list[dict[str, Any]]] = (runs.read_json(path) or {}).get("found", {})
    for job in jobs:
        found[f"{job.network} {job.method}"] = []
    with tqdm(total=sum(job.epochs for job in jobs), unit="epoch", disable=arguments.no_progress) as bar:
        for job in jobs:
            line = f"{job.network} {job.method:<8}{job.rates[0]:<8g}{job.rates[1]:<8g}"
            line += str(job.ternarize) if job.method == "odfa" else ""
            name = "".join(c if c.isalnum() or c in ".-" else "_" for c in " ".join(line.split()))
            result = train(job, task, arguments.out / "tune", name, arguments.save_seconds, bar)
            table[line] = result["validate_rmse"]
            if job.ternarize == TERNARIZE:
                tried = {"rates": job.rates, "validate_rmse": result["validate_rmse"]}
                found[f"{job.network} {job.method}"].append(tried)
    runs.write_json(path, {"data": task.data.name, "found": found})
    print(f"\n{'validation RMSE (K)':<21}network, method, learning rates of blocks and top, ternary error")
    for line, error in sorted(table.items(), key=lambda entry: (entry[0].split()[:2], entry[1])):
        print(f"{error:<21.4f}{line}")


def sizes_of(arguments: Namespace) -> Sizes:
    """Return the sizes of the networks."""
    if arguments.size == "small":
        return SMALL
    return QUICK_PAPER if arguments.quick else PAPER


def rates_of(arguments: Namespace, network: str, method: dfa.Method) -> tuple[float, float]:
    """Return the learning rates of a run: the best of --tune if that was asked for."""
    if not arguments.tuned:
        return default_rates(arguments, network, method)
    path = arguments.out / "tune.json"
    tried = (runs.read_json(path) or {}).get("found", {}).get(f"{network} {method}")
    if not tried:
        raise SystemExit(f"{path} has no rates of {network} {method}: run --tune with the same options first")
    blocks, top = min(tried, key=lambda entry: float(entry["validate_rmse"]))["rates"]
    return blocks, top


def default_rates(arguments: Namespace, network: str, method: dfa.Method) -> tuple[float, float]:
    """Return the small networks' rates, and those times the ratio of the widths for larger ones, which is not tuned."""
    blocks, top = RATES[network][method]
    if arguments.size == "small":
        return blocks, top
    sizes = sizes_of(arguments)
    widths = {"vit": (SMALL.vit_width, sizes.vit_width), "mlp": (max(SMALL.mlp_widths), max(sizes.mlp_widths))}
    small, large = widths[network]
    return rounded((blocks * small / large, top * small / large))


def epochs_of(arguments: Namespace) -> int:
    """Return how long to train."""
    return EPOCHS // (3 if arguments.quick else 1)


def rounded(rates: tuple[float, float]) -> tuple[float, float]:
    """Keep one digit: 9e-5 instead of 8.999999e-05."""
    return float(f"{rates[0]:.1g}"), float(f"{rates[1]:.1g}")


def report(arguments: Namespace, task: Task) -> None:
    """Collect the runs of the folder in results.json, print a table, draw the figures."""
    results = finished(arguments.out)
    if not results:
        raise SystemExit(f"no finished runs in {arguments.out}")
    rows = task.data.rows("test")
    linear, penalty = climate.ridge(task.data)
    mean = np.broadcast_to(task.data.normal, linear["test"].shape)
    baselines = {
        name: {"rmse": task.data.rmse(rows, predicted), "decade_rmse": task.data.decade_rmse(rows, predicted)}
        for name, predicted in (("ridge", linear["test"]), ("training mean", mean))
    }
    summary = climate_figures.summarise(results)
    climate_figures.print_table(summary, baselines)
    devices.tell_mixture(results)
    if arguments.size == "paper":
        tell_paper(arguments, results)
    weather = task.data.weather(rows)
    print(
        f"\nA held-out year differs by {weather:.3f} K from its decade's mean: weather that emissions do not explain."
    )
    runs.write_json(
        arguments.out / "results.json",
        {
            "data": task.data.name,
            "weather": weather,
            "ridge penalty": penalty,
            "baselines": baselines,
            "summary": summary,
            "runs": results,
        },
    )
    climate_figures.draw(arguments.out, task.data, results, baselines, linear["test"])


def tell_paper(arguments: Namespace, results: list[dict[str, Any]]) -> None:
    """Print the table of the finished runs at the paper's sizes, and keep it."""
    text = climate_report.table(results) + "\n"
    runs.replace(arguments.out / "report.md", lambda temporary: temporary.write_text(text, encoding="utf-8"))
    print(f"\n{text}", end="")


def finished(folder: Path) -> list[dict[str, Any]]:
    """Return the results of a folder's finished runs."""
    return [
        result
        for network in NETWORKS
        for method in runs.METHODS
        for path in sorted(folder.glob(f"{network}-{method}-[0-9]*.json"))
        if (result := runs.read_json(path))
    ]


def parser() -> Any:
    """Return the parser of the command line."""
    description = __doc__ or ""
    made = runs.parser(description, EXAMPLES)
    made.add_argument(
        "--network", type=lambda text: text.split(","), default=list(NETWORKS), help="vit, mlp or vit,mlp (default)"
    )
    made.add_argument("--data", type=Path, metavar="DIR", help="a folder with ClimateBench's inputs_*.nc, outputs_*.nc")
    made.add_argument(
        "--only", type=int, metavar="SEED", help="train this seed only; several processes can share one --out"
    )
    made.add_argument(
        "--size", choices=["small", "paper"], default="small", help="paper: 202 million and 1.29 billion parameters"
    )
    made.add_argument("--tuned", action="store_true", help="use the best rates that --tune found in the same --out")
    made.add_argument("--report", action="store_true", help="print the table of the finished runs of --size paper")
    made.add_argument("--tune", action="store_true", help="search learning rates and ternary errors with one seed")
    made.add_argument("--figures-only", action="store_true", help="draw the results in --out")
    return made


EXAMPLES = """examples:
  python examples/climate_vit.py --quick                  both networks, all methods, one seed, a third of the epochs
  python examples/climate_vit.py --threads 1              the whole experiment
  python examples/climate_vit.py --network mlp --tune     search the learning rates and the ternary error
  python examples/climate_vit.py --data ~/climatebench    the same networks on ClimateBench
  python examples/climate_vit.py --size paper --autocast --tune     learning rates at the paper's sizes, on a GPU
  python examples/climate_vit.py --size paper --autocast --tuned    four methods, three seeds, at the best rates
  python examples/climate_vit.py --size paper --quick               the same with small networks, on any computer
  python examples/climate_vit.py --size paper --report              a table of the finished runs
"""


def main() -> None:
    """Run the part that the command line selects."""
    arguments = parser().parse_args()
    if unknown := set(arguments.network) - set(NETWORKS):
        raise SystemExit(f"--network: unknown {', '.join(sorted(unknown))}; there are {', '.join(NETWORKS)}")
    if arguments.report and arguments.size == "small":
        raise SystemExit("--report is for --size paper; --figures-only reports the small networks")
    if arguments.tune and arguments.tuned:
        raise SystemExit("--tuned takes the rates that --tune found: leave out --tune")
    device = runs.begin(arguments)
    # Separate folders, so that no run overwrites another.
    for folder in (
        arguments.data and "climatebench",
        arguments.size == "paper" and "paper",
        arguments.quick and "quick",
    ):
        arguments.out /= folder or ""
    if arguments.report:
        tell_paper(arguments, finished(arguments.out))
        return
    data = climate.climate_bench(arguments.data) if arguments.data else climate.north_america()
    print(energy.told(device), flush=True)
    task = Task(climate.on_paper_grid(data) if arguments.size == "paper" else data, device)
    if arguments.figures_only:
        report(arguments, task)
    elif arguments.tune:
        tune(arguments, task)
    else:
        experiment(arguments, task)


if __name__ == "__main__":
    main()
