"""Train a diffusion model on images of clothes by four methods, and look at its samples.

The model is a small diffusion Transformer: it predicts the noise in an image of Fashion-MNIST, patch by patch, at any
of 1,000 noise levels (DDPM). Backpropagation (BP), direct feedback alignment (DFA), DFA with a ternary error as an
optical processing unit requires (ODFA), and training of the head alone (SHLW) train it, each with its own learning
rates. The program reports the error of the predicted noise on test images, with the same noise for every method, and
draws samples that begin from the same noise.

The data are Debian's package dataset-fashion-mnist; --data reads the four .gz files from another folder.
"""

from __future__ import annotations

import argparse
from typing import Any

from common import devices, energy, figures, runs
from common.diffusion import figures as diffusion_figures
from common.diffusion.model import Sizes
from common.diffusion.quality import frechet
from common.diffusion.training import Blocks, Job, Task, train
from common.fashion import options as fashion_options
from opuproj import dfa
from tqdm import tqdm

STEPS, QUICK_STEPS = 5000, 40
QUICK_SIZES = Sizes(width=32, layers=2)
BLOCKS: tuple[Blocks, ...] = ("each", "one")
# Learning rates of the layers and of the head with its norm. Rates of 4e-3 are better for feedback in 1,200 steps, but
# diverge in longer trainings. With a block per layer they were not searched.
RATES: dict[str, dict[str, tuple[float, float]]] = {
    "each": {"bp": (8e-3, 2e-3), "dfa": (1e-3, 1e-3), "odfa": (1e-3, 1e-3), "shallow": (0.0, 2e-2)},
    "one": {"bp": (8e-3, 2e-3), "dfa": (1e-3, 1e-3), "odfa": (1e-3, 1e-3), "shallow": (0.0, 2e-2)},
}
TERNARIZE = dfa.Ternarize(dfa.Dither("auto"))
FACTORS = (0.5, 1.0, 2.0)

EXAMPLES = """examples:
  python examples/diffusion.py --quick            every method with a smaller network, within two minutes
  python examples/diffusion.py --threads 1        the whole experiment
  python examples/diffusion.py --blocks each      feedback to every layer instead of one block of all layers
  python examples/diffusion.py --tune             search the learning rates on validation images
  python examples/diffusion.py --only 1           seed 1: processes with a seed each share the work
  python examples/diffusion.py --figures-only     draw again what was measured

A killed program goes on where it was when it is called again."""


def main() -> None:
    """Run the part that the command line selects."""
    arguments = parser().parse_args()
    device = runs.begin(arguments)
    arguments.rates = arguments.rates and tuple(arguments.rates)
    arguments.out /= arguments.blocks
    if not arguments.aligned:
        arguments.out /= "unaligned"
    if arguments.quick:
        arguments.out /= "quick"
    data = fashion_options.load(arguments)
    print(energy.told(device), flush=True)
    task = Task(data, device, quick=arguments.quick)
    if arguments.tune:
        tune(arguments, task)
    elif arguments.figures_only:
        report(arguments, task)
    else:
        experiment(arguments, task)


def experiment(arguments: argparse.Namespace, task: Task) -> None:
    """Train every method with every seed, then write results and figures."""
    # Seed by seed, so that a study that is cut off has complete comparisons.
    seeds = range(arguments.seeds or (1 if arguments.quick else 3)) if arguments.only is None else [arguments.only]
    jobs = [
        job_of(arguments, method, seed, arguments.rates or RATES[arguments.blocks][method])
        for seed in seeds
        for method in arguments.methods
    ]
    with tqdm(total=sum(job.steps for job in jobs), unit="step", disable=arguments.no_progress) as bar:
        for job in jobs:
            train(job, task, arguments.out, arguments.save_seconds, bar)
    report(arguments, task)


def tune(arguments: argparse.Namespace, task: Task) -> None:
    """Try rates of the layers around the stored one, for SHLW of the head, with one seed; print the validation loss."""
    jobs = []
    for method in arguments.methods:
        layers, head = arguments.rates or RATES[arguments.blocks][method]
        pairs = [(layers * factor, head) if layers else (layers, head * factor) for factor in FACTORS]
        jobs += [job_of(arguments, method, 0, pair) for pair in pairs]
    found = []
    with tqdm(total=sum(job.steps for job in jobs), unit="step", disable=arguments.no_progress) as bar:
        for job in jobs:
            name = f"{job.name}-{job.rates[0]:g}-{job.rates[1]:g}"
            result = train(job, task, arguments.out / "tune", arguments.save_seconds, bar, name=name)
            found.append({"method": job.method, "rates": job.rates, "validate": result["validate"]})
    runs.write_json(arguments.out / "tune.json", {"steps": jobs[0].steps, "found": found})
    print(f"\n{'':<8}{'rate of the layers':>20}{'of the head':>14}{'loss on validation images':>28}")
    for one in sorted(found, key=lambda one: (runs.METHODS.index(one["method"]), one["validate"])):
        name = figures.METHOD_STYLE[one["method"]][0]
        print(f"{name:<8}{one['rates'][0]:>20g}{one['rates'][1]:>14g}{one['validate']:>28.4f}")


def job_of(arguments: argparse.Namespace, method: dfa.Method, seed: int, rates: tuple[float, float]) -> Job:
    """Return a run of the network and of the length that the command line chooses."""
    sizes = QUICK_SIZES if arguments.quick else Sizes()
    steps = QUICK_STEPS if arguments.quick else arguments.steps or STEPS
    return Job(method, seed, rates, steps, arguments.blocks, arguments.aligned, TERNARIZE, sizes)


def report(arguments: argparse.Namespace, task: Task) -> None:
    """Collect the runs of the folder in results.json, print a table, draw the figures."""
    results = [
        result
        for method in runs.METHODS
        for path in sorted(arguments.out.glob(f"{method}-[0-9]*.json"))
        if (result := runs.read_json(path))
    ]
    if not results:
        raise SystemExit(f"no finished runs in {arguments.out}")
    images, train_images = (tensor.cpu().numpy() for tensor in (task.test.images, task.train))
    floor = frechet(train_images[-task.n_samples :], images, train_images)
    diffusion_figures.print_table(results, floor)
    devices.tell_mixture(results)
    runs.write_json(arguments.out / "results.json", {"frechet of real images": floor, "runs": results})
    diffusion_figures.draw(arguments.out, results, images)
    print(f"\nResults and figures: {arguments.out}")


def parser() -> Any:
    """Return the parser of the command line."""
    made = runs.parser(__doc__ or "", EXAMPLES)
    made.add_argument(
        "--blocks",
        choices=BLOCKS,
        default="one",
        help="each layer is a block, or all layers are one block (default: %(default)s)",
    )
    made.add_argument(
        "--unaligned",
        dest="aligned",
        action="store_false",
        help="start the head at random, instead of aligned with the feedback",
    )
    made.add_argument("--steps", type=runs.positive, metavar="N", help=f"training steps (default: {STEPS})")
    made.add_argument(
        "--rates",
        type=runs.positive_number,
        nargs=2,
        metavar=("LAYERS", "HEAD"),
        help="learning rates of the layers and of the head, in place of those of each method",
    )
    fashion_options.add(made)
    return made


if __name__ == "__main__":
    main()
