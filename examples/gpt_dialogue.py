"""A language model on plays, trained by backpropagation and by direct feedback alignment.

A decoder-only Transformer learns Shakespeare's dialogues, or Cornell Movie-Dialogs, as in arXiv:2409.12965: byte-pair
tokens of a vocabulary of 1,016, a context of 24, two passes over the text. Four methods train the same model from the
same parameters. BP is backpropagation. DFA gives a random projection of the error to every decoder layer except the
last. ODFA makes the error ternary first, as an optical processing unit requires. SHLW trains only the last layer and
the layers after it, which backpropagation trains in all methods. The gain of DFA and ODFA over SHLW comes from the
feedback.

--size 1b trains the paper's 1.07 billion parameters by the same loop, on a GPU. It reports seconds, joules and
memory beside the paper's figures.

The program writes results, loss curves, figures and the text that the model generates after 0, 20 and 100 % of the
training to --out.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import devices, energy, plays, runs
from common.gpt import at_size as gpt_at_size
from common.gpt import figures as gpt_figures
from common.gpt import report as gpt_report
from common.gpt.model import Shape
from common.gpt.training import ERRORS, Run, Settings
from opuproj import dfa
from tqdm import tqdm

# Found by --tune: AdamW's peak learning rate, and the rate of the blocks as a fraction of it.
RATES = {"bp": 4e-3, "dfa": 4e-3, "odfa": 6e-3, "shallow": 6e-3}
BLOCK_RATES = {"bp": 1.0, "dfa": 0.5, "odfa": 0.3, "shallow": 1.0}
TUNE_FACTORS = (0.25, 0.5, 1.0, 2.0)
# A short search on this many plays gives the same order of methods as the whole text.
TUNE_PLAYS = 8
QUICK_PLAYS = 2
QUICK = Shape(width=64, n_layers=3, n_heads=2)
# At the paper's size a search takes so many steps of the whole text. --memory and --quick take fewer.
TUNE_STEPS = 300
MEMORY_STEPS = 3
QUICK_STEPS = 20

EXAMPLES = """examples:
  python examples/gpt_dialogue.py --quick                     all methods on two plays, once, in a minute or two
  python examples/gpt_dialogue.py --threads 1                 all plays, four methods, three seeds: 90 core-minutes
  python examples/gpt_dialogue.py --threads 1 --only 0 &      one seed a process, for as many cores as there are; the
  python examples/gpt_dialogue.py --threads 1 --only 1        last one to finish draws the figures
  python examples/gpt_dialogue.py --figures-only              draw again, from finished runs
  python examples/gpt_dialogue.py --tune --methods dfa        losses at several learning rates
  python examples/gpt_dialogue.py --photons 3 10 100 1000     ODFA through a camera with so many photons a pixel
  python examples/gpt_dialogue.py --unturned --plays 8        what a random start does to feedback
  python examples/gpt_dialogue.py --data cornell              movie_lines.txt and movie_conversations.txt are there
  python examples/gpt_dialogue.py --size 1b --autocast --tune      the paper's 1.07 billion parameters: learning rates
  python examples/gpt_dialogue.py --size 1b --autocast --tuned     four methods, three seeds, at the best of these rates
  python examples/gpt_dialogue.py --size 1b --report               a table of the finished runs, beside the paper
  python examples/gpt_dialogue.py --size 1b --quick                the same with a small network, on any computer
  python examples/gpt_dialogue.py --size 1b --memory               three steps at full size, on any computer: memory

A run that was killed goes on where it was, with the same result, when the same command is given again."""


def main() -> None:
    """Run the part that the command line selects."""
    arguments = parser().parse_args()
    # A second thread slows down such a small model.
    arguments.threads = arguments.threads or (1 if arguments.quick else None)
    check(arguments)
    arguments.on = runs.begin(arguments)
    base = settings(arguments)
    if arguments.size == "1b":
        # Folders of their own, so that no result of another size or of other blocks is in the way.
        name = "1b-quick" if arguments.quick else "1b"
        arguments.out /= name if base.block_layers == 1 else f"{name}-blocks-of-{base.block_layers}"
    if arguments.report:
        report(arguments.out)
        return
    corpus = plays.load(arguments.data, works(arguments), base.shape.vocabulary, arguments.out / "text")
    print(f"{corpus.description}\n{energy.told(arguments.on)}\n")
    if arguments.memory:
        measure_memory(arguments, base, corpus)
    elif arguments.photons:
        compare_photons(arguments, base, corpus)
    elif arguments.tune:
        tune(arguments, base, corpus)
    else:
        train(arguments, base, corpus)


def check(arguments: argparse.Namespace) -> None:
    """Refuse options that do not fit together."""
    if arguments.memory and arguments.size != "1b":
        raise SystemExit("--memory is for --size 1b")
    if arguments.report and arguments.size != "1b":
        raise SystemExit("--report is for --size 1b; --figures-only summarises the small study")
    if arguments.photons and arguments.size == "1b":
        raise SystemExit("--photons is for --size small")
    if arguments.tuned and (arguments.tune or arguments.rate):
        raise SystemExit("--tuned takes the rates that --tune found: leave out --tune and --rate")


def works(arguments: argparse.Namespace) -> int | None:
    """Return the number of plays to train on; None for all."""
    if arguments.plays or arguments.quick:
        return arguments.plays or QUICK_PLAYS
    searches = arguments.tune or arguments.photons
    return TUNE_PLAYS if searches and arguments.size == "small" else None


def settings(arguments: argparse.Namespace) -> Settings:
    """Return the settings that all runs share."""
    shape = QUICK if arguments.quick else Shape()
    block_layers, steps = 3, None
    if arguments.size == "1b":
        # Each layer but the last is a block, as in the paper.
        block_layers = 1
        paper = gpt_at_size.PAPER if arguments.memory else gpt_at_size.STUDY
        shape = replace(paper, width=64, n_layers=3, n_heads=2) if arguments.quick else paper
        steps = QUICK_STEPS if arguments.quick else TUNE_STEPS if arguments.tune else None
    sizes = {"width": arguments.width, "n_layers": arguments.layers, "n_heads": arguments.heads}
    shape = replace(shape, **_given(sizes))
    if shape.width % shape.n_heads:
        raise SystemExit(f"--heads {shape.n_heads} must divide --width {shape.width}")
    base = Settings(
        "bp",
        seed=0,
        rate=0.0,
        shape=shape,
        block_layers=block_layers,
        epochs=1 if arguments.quick else 2,
        steps=steps,
    )
    names = ("error", "rule", "norm", "gain", "batch", "epochs", "steps", "block_layers")
    return replace(base, turned=not arguments.unturned, **_given({name: getattr(arguments, name) for name in names}))


def measure_memory(arguments: argparse.Namespace, base: Settings, corpus: plays.Corpus) -> None:
    """Measure memory and time of a few steps at the paper's size."""
    plan = gpt_at_size.Plan(
        base.shape,
        base.error,
        arguments.optimizer,
        arguments.rate or 1e-4,
        arguments.batch or 4,
        arguments.threads,
        not arguments.no_progress,
        arguments.on,
    )
    n_steps = arguments.steps or MEMORY_STEPS
    gpt_at_size.measure_all(plan, arguments.methods, corpus, n_steps, arguments.out)


def report(folder: Path) -> None:
    """Print the table of the finished runs at the paper's size, and keep it."""
    results = [result for path in sorted((folder / "runs").glob("*.json")) if (result := runs.read_json(path))]
    text = f"{gpt_report.table(results)}\n\n{gpt_report.description(results)}\n"
    runs.replace(folder / "report.md", lambda temporary: temporary.write_text(text, encoding="utf-8"))
    print(text)


def of(base: Settings, method: dfa.Method, seed: int, arguments: argparse.Namespace) -> Settings:
    """Return the settings of one run: the shared ones, and the method's rates unless others are given."""
    rate = arguments.rate or default_rate(base, method, arguments)
    block_rate = BLOCK_RATES[method] if arguments.block_rate is None else arguments.block_rate
    return replace(base, method=method, seed=seed, rate=rate, block_rate=block_rate)


def default_rate(base: Settings, method: dfa.Method, arguments: argparse.Namespace) -> float:
    """Return a method's learning rate: the small study's, that times the ratio of the widths, or the best of --tune."""
    if arguments.tuned:
        path = arguments.out / "tune.json"
        losses = (runs.read_json(path) or {}).get("losses", {}).get(method)
        if not losses:
            raise SystemExit(f"{path} has no rates of {method}: run --tune with the same options first")
        return float(min(losses, key=losses.get))
    # With Adam, the best rate falls like 1 / width if the size of the outputs' changes decides.
    return RATES[method] * (Shape().width / base.shape.width if arguments.size == "1b" else 1)


def train(arguments: argparse.Namespace, base: Settings, corpus: plays.Corpus) -> None:
    """Train every method with every seed, unless done before, and summarise the finished runs."""
    seeds = [arguments.only] if arguments.only is not None else range(arguments.seeds or (1 if arguments.quick else 3))
    folder = arguments.out / "runs"
    if not arguments.figures_only:
        for seed in seeds:
            for method in arguments.methods:
                trained(of(base, method, seed, arguments), corpus, folder, arguments)
    results = finished(folder)
    summary = summarise(results)
    print_summary(summary)
    devices.tell_mixture(results)
    runs.write_json(arguments.out / "results.json", {"corpus": corpus.description, "methods": summary, "runs": results})
    write_texts(arguments.out / "texts.txt", results)
    for path in gpt_figures.draw(results, arguments.out):
        print(path)
    if arguments.size == "1b":
        report(arguments.out)


def trained(some: Settings, corpus: plays.Corpus, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the result of a run; train it unless a result exists."""
    run = Run(some, corpus, folder, arguments.save_seconds, arguments.on)
    result = run.finished()
    if result is None:
        with tqdm(unit="step", disable=arguments.no_progress, leave=False) as bar:
            result = run.train(bar)
    return result


def finished(folder: Path) -> list[dict[str, Any]]:
    """Return the results of all finished runs."""
    results = [runs.read_json(path) for path in sorted(folder.glob("*.json"))]
    if not results:
        raise SystemExit(f"{folder} holds no finished run")
    return [result for result in results if result is not None]


def of_method(results: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Sort results by method."""
    methods = {name: [r for r in results if r["settings"]["method"] == name] for name in runs.METHODS}
    return {name: some for name, some in methods.items() if some}


def summarise(results: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return each method's mean loss over the seeds and its differences to BP and SHLW, seed by seed."""
    methods = of_method(results)
    summary: dict[str, dict[str, Any]] = {}
    for name, some in methods.items():
        losses = {r["settings"]["seed"]: r["validation_loss"] for r in some}
        mean, error = runs.mean_and_error(list(losses.values()))
        row: dict[str, Any] = {"validation_loss": mean, "standard_error": error, "seeds": sorted(losses)}
        for other in ("bp", "shallow"):
            others = {r["settings"]["seed"]: r["validation_loss"] for r in methods.get(other, [])}
            differences = [losses[seed] - others[seed] for seed in losses if seed in others]
            if other != name and differences:
                row[f"minus_{other}"] = runs.mean_and_error(differences)
        row["seconds"] = runs.mean_and_error([r["seconds"] for r in some])[0]
        row["rate"] = some[0]["settings"]["rate"]
        summary[name] = row
    return summary


def print_summary(summary: dict[str, dict[str, Any]]) -> None:
    """Print the summary as a table."""
    columns = ("validation loss", "more than BP", "more than SHLW")
    print(" " * 6 + "".join(f"{column:>20}" for column in columns) + f"{'rate':>9}{'seconds':>9}{'seeds':>7}")
    for name, row in summary.items():
        cells = [_plus_minus((row["validation_loss"], row["standard_error"]))]
        cells += [_plus_minus(row.get(f"minus_{other}"), sign="+") for other in ("bp", "shallow")]
        label = gpt_figures.label(name)
        print(f"{label:<6}" + "".join(f"{cell:>20}" for cell in cells), end="")
        print(f"{row['rate']:>9.2g}{row['seconds']:>9.0f}{len(row['seeds']):>7}")
    print("\nNats per token on held-out works; ± is the standard error over the seeds; differences seed by seed.\n")


def write_texts(path: Path, results: list[dict[str, Any]]) -> None:
    """Write the texts that each method's model generates, for the first seed."""
    blocks = []
    for name, some in of_method(results).items():
        for text in some[0]["texts"]:
            title = f"{gpt_figures.label(name)}, {100 * text['part']:.0f} % of the training"
            blocks.append(f"{title}\n{'-' * len(title)}\n{text['text'].strip()}\n")
    head = "What the model makes of the beginning of a held-out work; it begins after the bar │.\n\n"
    runs.replace(path, lambda temporary: temporary.write_text(head + "\n".join(blocks), encoding="utf-8"))


def tune(arguments: argparse.Namespace, base: Settings, corpus: plays.Corpus) -> None:
    """Print a table of losses at learning rates around the tuned ones."""
    factors = TUNE_FACTORS[1:3] if arguments.quick else TUNE_FACTORS
    print(f"Validation loss of seed 0\n\n{'':<6}" + "".join(f"{f'× {factor:g}':>18}" for factor in factors))
    path = arguments.out / "tune.json"
    losses: dict[str, dict[str, float]] = (runs.read_json(path) or {}).get("losses", {})
    for method in arguments.methods:
        print(f"{gpt_figures.label(method):<6}", end="", flush=True)
        some = of(base, method, 0, arguments)
        losses[method] = {}
        for factor in factors:
            rate = float(f"{some.rate * factor:.3g}")
            folder = arguments.out / "tune" / f"{rate:.3g}"
            result = trained(replace(some, rate=rate), corpus, folder, arguments)
            losses[method][f"{rate:.3g}"] = result["validation_loss"]
            print(f"{result['validation_loss']:>9.4f}{f'({rate:.2g})':>9}", end="", flush=True)
        print()
        runs.write_json(path, {"corpus": corpus.description, "losses": losses})


def compare_photons(arguments: argparse.Namespace, base: Settings, corpus: plays.Corpus) -> None:
    """Train ODFA with fewer and fewer photons, and the methods to compare; print a table and draw it."""
    seed = arguments.only or 0

    def loss(some: Settings, folder: str) -> float:
        return float(trained(some, corpus, arguments.out / "photons" / folder, arguments)["validation_loss"])

    others: tuple[dfa.Method, ...] = ("shallow", "odfa", "bp")
    lines: dict[str, float] = {method: loss(of(base, method, seed, arguments), "none") for method in others}
    odfa = of(base, "odfa", seed, arguments)
    rows = [
        {"photons": photons, "validation_loss": loss(replace(odfa, photons=photons), f"{photons:g}")}
        for photons in sorted(arguments.photons)
    ]
    print("Validation loss of ODFA with feedback recovered from an 8-bit camera, one seed\n\nphotons     loss")
    for row in rows:
        print(f"{row['photons']:>7g}{row['validation_loss']:>9.4f}")
    print("\nwithout a camera: " + ", ".join(f"{gpt_figures.label(m)} {value:.4f}" for m, value in lines.items()))
    runs.write_json(arguments.out / "photons.json", {"corpus": corpus.description, "lines": lines, "rows": rows})
    print(gpt_figures.photons(rows, lines, arguments.out / "photons.png"))


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = runs.parser(__doc__ or "", EXAMPLES)
    made.add_argument("--only", type=int, metavar="SEED", help="train this seed only")
    made.add_argument("--figures-only", action="store_true", help="summarise and draw the finished runs")
    made.add_argument("--tune", action="store_true", help=f"try learning rates, on {TUNE_PLAYS} plays or --plays")
    made.add_argument(
        "--photons",
        type=runs.positive_number,
        nargs="+",
        metavar="N",
        help="compare cameras, on as many plays as --tune",
    )
    made.add_argument("--unturned", action="store_true", help="do not start the last layer aligned with the feedback")
    made.add_argument("--data", type=Path, metavar="DIR", help="Cornell Movie-Dialogs instead of the plays")
    made.add_argument("--plays", type=runs.positive, metavar="N", help="train on N plays (or films) instead of all")
    made.add_argument(
        "--error", choices=list(ERRORS), help="where the error is taken: after the last layer norm, or at the logits"
    )
    made.add_argument(
        "--rule", metavar="NAME:X", help="rule for the ternary error, for example dither:3 or rowmax:0.25"
    )
    made.add_argument(
        "--norm", choices=["row", "batch", "none"], help="which norm of the error the ternary error preserves"
    )
    made.add_argument("--gain", type=float, metavar="X", help="gain of the feedback")
    made.add_argument("--rate", type=float, metavar="X", help="learning rate (default: each method's)")
    made.add_argument(
        "--block-rate", type=float, metavar="X", help="learning rate of the blocks, as a fraction of --rate"
    )
    made.add_argument("--block-layers", type=runs.positive, metavar="N", help="layers per block")
    made.add_argument("--batch", type=runs.positive, metavar="N", help="windows per step")
    made.add_argument("--epochs", type=runs.positive, metavar="N", help="passes over the text")
    made.add_argument("--size", choices=["small", "1b"], default="small", help="1b is the paper's size")
    made.add_argument(
        "--memory", action="store_true", help="measure the memory of --size 1b in a few steps, also on a CPU"
    )
    made.add_argument("--report", action="store_true", help="print the table of the finished runs of --size 1b")
    made.add_argument("--tuned", action="store_true", help="use the best rates that --tune found in the same --out")
    made.add_argument(
        "--steps", type=runs.positive, metavar="N", help="steps, if fewer than --epochs (--memory: default 3)"
    )
    made.add_argument(
        "--optimizer", choices=list(gpt_at_size.OPTIMIZERS), default="adafactor", help="optimizer of --memory"
    )
    made.add_argument("--width", type=runs.positive, metavar="N", help="width of the embedding")
    made.add_argument("--layers", type=runs.positive, metavar="N", help="decoder layers")
    made.add_argument("--heads", type=runs.positive, metavar="N", help="attention heads")
    return made


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _plus_minus(pair: tuple[float, float] | None, sign: str = "") -> str:
    return "" if pair is None else f"{pair[0]:{sign}.4f} ± {pair[1]:.4f}"


if __name__ == "__main__":
    main()
