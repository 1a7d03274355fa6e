"""How much light a Transformer needs on an optical accelerator, after Anderson et al. (arXiv:2302.10360, TMLR 2024).

The program trains small GPTs of several widths by backpropagation, converts their linear layers by
opuproj.optical.convert, and measures the validation loss over the number of photons. It finds the photons at which the
loss is a given fraction above the one without shot noise, and fits how the photons of a multiply-accumulate depend on
the width. It computes the energy of whole systems with the constants of opuproj.optical.energy, compares it with 300 fJ
a multiply-accumulate, and looks for the width from which on the paper's statements hold.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from common import devices, figures, plays, runs
from common.checks import Checks, conclude
from common.gpt.model import Shape
from common.optical.losses import HEAD, Measurement, measured
from opuproj.optical import energy
from tqdm import tqdm

EXAMPLES = """examples:
  python examples/optical_transformers.py --quick --threads 1         narrow networks on two plays
  python examples/optical_transformers.py --threads 1                 four widths, two seeds
  python examples/optical_transformers.py --wide                      widths up to 2,048, for a GPU
  python examples/optical_transformers.py --widths 64 128 256 512     other widths
  python examples/optical_transformers.py --fraction 0.003            photons for a loss 0.3 % above"""


@dataclass(frozen=True)
class Study:
    """The models of a study: their sizes, the plays they learn, and the windows and photons they are measured with."""

    name: str
    widths: tuple[int, ...]
    layers: int
    plays: int
    windows: int
    photons: tuple[float, ...]


MANY = tuple(float(2**k) for k in range(4, 15))
STANDARD = Study("", (32, 64, 128, 256), 2, 16, 256, MANY)
QUICK = Study("quick-", (16, 32, 64), 2, 2, 48, tuple(float(2**k) for k in range(10)))
WIDE = Study("wide-", (128, 256, 512, 1024, 2048), 4, 34, 256, MANY)
# Around the excess that is looked for, the excesses between which a power of the photons is fitted.
BELOW, ABOVE = 1 / 4, 4.0
SYSTEM_PHOTONS = 1000.0  # a dot product, for the energy: light is then a small part of it
# Sizes of known and of future models: (name, width, layers).
MODELS = (("GPT-2", 1600, 48), ("GPT-3", 12_288, 96), ("10¹³", 70_000, 170), ("10¹⁵", 650_000, 200))
# The abstract of the paper: for the largest models of its time, for 10¹⁵ parameters, and with its improvements.
STATEMENTS = (("about 100 ×", 100.0, False), ("> 8,000 ×", 8000.0, False), ("> 100,000 ×", 100_000.0, True))


def main() -> None:
    """Train and measure what is not measured yet; compute, print, draw, check."""
    arguments = parser().parse_args()
    if arguments.fraction >= 1:
        raise SystemExit(f"--fraction is {arguments.fraction}, but must be below 1")
    study = QUICK if arguments.quick else WIDE if arguments.wide else STANDARD
    widths, layers = tuple(arguments.widths or study.widths), arguments.layers or study.layers
    if len(set(widths)) < 3:
        raise SystemExit(f"--widths has {len(set(widths))} different widths, but needs at least 3 for a fit")
    odd = [width for width in widths if width > HEAD and width % HEAD]
    if odd:
        raise SystemExit(f"--widths has {odd[0]}, but must be multiples of {HEAD}, or below it")
    if layers < 2:
        raise SystemExit(f"--layers is {layers}, but must be at least 2")
    device = runs.begin(arguments)
    corpus = plays.load(None, arguments.plays or study.plays, Shape().vocabulary, arguments.out / "text")
    print(f"{corpus.description}\n")
    windows = arguments.windows or study.windows
    found = []
    with tqdm(unit="step", disable=arguments.no_progress, leave=False) as bar:
        for seed in range(arguments.seeds or (1 if arguments.quick else 2)):
            for width in widths:
                chosen = Measurement(width, layers, seed, arguments.epochs, windows, study.photons)
                folder = arguments.out / f"{study.name}runs" / str(width)
                found.append(measured(chosen, corpus, folder, device, arguments.save_seconds, bar))
    devices.tell_mixture(found)
    rows = [evaluate(result, arguments.fraction) for result in found]
    results = {
        "corpus": corpus.description,
        "fraction": arguments.fraction,
        "models": rows,
        "exponents": {
            name: power_law([r["width"] for r in rows], [r[name] for r in rows])
            for name in ("needed", "needed_a_mac", "cancellation", "tolerated_noise", "one_sign_a_mac")
        },
        "systems": systems(),
        "statements": statements(),
    }
    checks = Checks()
    for row in rows:
        label = f"width {row['width']}, seed {row['seed']}"
        checks.within(f"{label}: loss with 8 bits and no shot noise, relative to floats", row["rounding"], 0.99, 1.01)
        checks.within(f"{label}: the excess of the loss falls as the photons to the power", row["slope"], -1.5, -0.5)
    conclude(arguments, results, checks, draw, report)


def evaluate(result: dict[str, Any], fraction: float) -> dict[str, Any]:
    """Find the photons that a model needs, and the noise that it tolerates then."""
    photons = np.array(result["photons"])
    excess = np.array(result["losses"]) / result["rounded_loss"] - 1
    needed, slope = crossing(photons, excess, fraction)
    shape = energy.Transformer(result["width"], result["layers"])
    # Layers differ by an order of magnitude, so the mean is that of logarithms.
    cancellation = float(np.exp(np.mean(np.log(list(result["cancellation"].values())))))
    return {
        **{name: result[name] for name in ("width", "seed", "parameters", "float_loss", "rounded_loss", "losses")},
        "photons": result["photons"],
        "rounding": result["rounded_loss"] / result["float_loss"],
        "excess": excess.tolist(),
        "slope": slope,
        "needed": needed,
        "photons_a_mac": (photons * shape.outputs / shape.macs).tolist(),
        "needed_a_mac": needed * shape.outputs / shape.macs,
        "cancellation": cancellation,
        "tolerated_noise": cancellation / needed,
        # If all terms of a dot product had one sign, κ would be 1.
        "one_sign_a_mac": needed / cancellation * shape.outputs / shape.macs,
    }


def crossing(photons: Any, excess: Any, fraction: float) -> tuple[float, float]:
    """Return where the excess crosses the fraction, and its power of the photons there; NaN if it is not near.

    The expected excess is in proportion to the variance of the noise, 1/photons. The measured one has an error, so a
    straight line between logarithms is fitted to several points.
    """
    near = (excess > BELOW * fraction) & (excess < ABOVE * fraction)
    if near.sum() < 2:
        return math.nan, math.nan
    slope, start = np.polyfit(np.log(photons[near]), np.log(excess[near]), 1)
    return float(np.exp((math.log(fraction) - start) / slope)), float(slope)


def power_law(widths: Sequence[float], values: Sequence[float]) -> dict[str, float]:
    """Return the exponent of a power law by least squares of logarithms, with its standard error from the residuals."""
    x, y = np.log(widths), np.log(values)
    slope, start = np.polyfit(x, y, 1)
    residuals = y - start - slope * x
    spread = float(((x - x.mean()) ** 2).sum())
    error = math.sqrt(float((residuals**2).sum()) / (len(x) - 2) / spread)
    return {"exponent": float(slope), "error": error}


def constants() -> dict[str, energy.Constants]:
    """Return the four sets of constants that are compared."""
    today = energy.Constants()
    better = today.improved()
    return {
        "today": today,
        "today, weights need no power": replace(today, hold=0.0),
        "improved": better,
        "improved, weights need no power": replace(better, hold=0.0),
    }


def systems() -> list[dict[str, Any]]:
    """Return the parts of the energy a multiply-accumulate, and the advantages of whole systems."""
    rows = []
    for name, width, layers in MODELS:
        model = energy.Transformer(width, layers)
        costs = {label: energy.forward(model, SYSTEM_PHOTONS, chosen) for label, chosen in constants().items()}
        parts = {part: getattr(costs["today"], part) / model.macs for part in ("light", "dac", "adc", "memory", "hold")}
        advantages = {label: cost.advantage for label, cost in costs.items()}
        rows.append(
            {
                "name": name,
                "width": width,
                "parameters": model.parameters,
                "joules_a_mac": parts,
                "advantages": advantages,
            }
        )
    return rows


def statements() -> list[dict[str, Any]]:
    """Return the width from which on each statement holds, with weights that need power and without; or None."""
    sets = constants()
    rows = []
    for claim, advantage, improved in STATEMENTS:
        label = "improved" if improved else "today"
        widths = {
            chosen: needed_width(advantage, sets[chosen]) for chosen in (label, f"{label}, weights need no power")
        }
        rows.append({"claim": claim, "widths": widths})
    return rows


def needed_width(advantage: float, chosen: energy.Constants) -> int | None:
    """Return the smallest width with this advantage, or None if none has it. The number of layers has no influence."""

    def reached(width: int) -> bool:
        return energy.forward(energy.Transformer(width, 1), SYSTEM_PHOTONS, chosen).advantage >= advantage

    low, high = 0, 2**31
    if not reached(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def report(results: dict[str, Any]) -> None:
    """Print the tables."""
    print(f"photons for a loss {100 * results['fraction']:g} % above the one without shot noise\n")
    print(
        "| width | seed | loss, floats | 8 bits | photons a dot product | a MAC | κ | noise/signal that is tolerated |"
    )
    print("| --- |" + " --- |" * 7)
    for r in sorted(results["models"], key=lambda r: (r["width"], r["seed"])):
        print(
            f"| {r['width']} | {r['seed']} | {r['float_loss']:.4f} | {r['rounded_loss']:.4f} | {r['needed']:,.0f} "
            f"| {r['needed_a_mac']:.2f} | {r['cancellation']:.1f} | {r['tolerated_noise']:.4f} |"
        )
    print("\npowers of the width, with standard errors:")
    for name, fitted in results["exponents"].items():
        print(f"  {name:<16}{fitted['exponent']:>7.2f} ± {fitted['error']:.2f}")
    print("\nenergy a multiply-accumulate today, in fJ, and advantages over 300 fJ")
    for system in results["systems"]:
        parts = ", ".join(f"{part} {1e15 * joules:.3g}" for part, joules in system["joules_a_mac"].items())
        print(f"  {system['name']}, width {system['width']:,}, {system['parameters']:.1e} parameters: {parts}")
        for label, advantage in system["advantages"].items():
            print(f"    {label:<34}{advantage:>10,.0f} ×")
    print("\nwidth from which on the paper's statements hold")
    for row in results["statements"]:
        for label, width in row["widths"].items():
            print(f"  {row['claim']:<12}{label:<34}{'none' if width is None else f'{width:,}':>10}")


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw losses over photons, photons over the width, and advantages over parameters."""
    figures.style()
    from matplotlib import pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14.5, 4.4))
    rows = results["models"]
    widths = sorted({row["width"] for row in rows})
    for row in rows:
        shade = plt.get_cmap("viridis")(0.9 * widths.index(row["width"]) / (len(widths) - 1))
        label = f"d = {row['width']}" if row["seed"] == 0 else None
        left.semilogx(row["photons_a_mac"], row["losses"], ".-", color=shade, linewidth=1.2, label=label)
        left.axhline(row["rounded_loss"], color=shade, linestyle=":", linewidth=1.0)
    levels = [row["rounded_loss"] for row in rows]
    left.set_ylim(min(levels) - 0.05, max(levels) + 0.6)
    left.set(
        xlabel="photons a multiply-accumulate",
        ylabel="validation loss (nats a token)",
        title="Trained Transformers of width d;\ndotted: 8 bits without shot noise",
    )
    left.legend()

    x, y = np.array([row["width"] for row in rows]), np.array([row["needed_a_mac"] for row in rows])
    fitted = results["exponents"]["needed_a_mac"]
    ends, centre = np.array([widths[0], widths[-1]]), np.exp(np.log(x).mean())
    level = np.exp(np.log(y).mean())
    text = f"fit: d to the power {fitted['exponent']:.2f} ± {fitted['error']:.2f}".replace("-", "−")
    middle.loglog(x, y, "o", color="#d55e00", label="measured")
    middle.loglog(ends, level * (ends / centre) ** fitted["exponent"], color="#d55e00", linewidth=1.2, label=text)
    one_sign = [row["one_sign_a_mac"] for row in rows]
    middle.loglog(x, one_sign, "s", color="#0072b2", label="if all terms had one sign")
    middle.loglog(ends, y[x == widths[0]].mean() * widths[0] / ends, "k:", linewidth=1.2, label="1/d")
    middle.set_xticks(widths, [str(width) for width in widths])
    middle.minorticks_off()
    figures.plain_log_ticks(middle.yaxis)
    middle.set(
        xlabel="width d",
        ylabel="photons a MAC",
        title=f"Photons for a loss {100 * results['fraction']:g} % above\nthat without shot noise",
    )
    middle.legend()

    parameters = [system["parameters"] for system in results["systems"]]
    for label, style, colour in zip(
        constants(), ("o-", "o--", "s-", "s--"), ("#0072b2", "#0072b2", "#d55e00", "#d55e00"), strict=True
    ):
        right.loglog(parameters, [s["advantages"][label] for s in results["systems"]], style, color=colour, label=label)
    right.set(
        xlabel="parameters",
        ylabel="advantage over 300 fJ a MAC",
        title="Energy of whole systems,\nfrom GPT-2 to 10¹⁵ parameters",
    )
    right.legend(fontsize=9)
    figures.save(figure, path)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = runs.parser(__doc__ or "", EXAMPLES, methods=False)
    positive, number = runs.positive, runs.positive_number
    made.add_argument(
        "--fraction",
        type=number,
        default=0.01,
        metavar="F",
        help="excess of the loss that is accepted (default: %(default)s)",
    )
    made.add_argument("--widths", type=positive, nargs="+", metavar="N", help="widths of the models")
    made.add_argument("--layers", type=positive, metavar="N", help=f"layers of the models (default: {STANDARD.layers})")
    made.add_argument(
        "--wide",
        action="store_true",
        help=f"{WIDE.layers} layers of widths {WIDE.widths[0]} to {WIDE.widths[-1]:,}, trained on all plays",
    )
    made.add_argument("--seeds", type=positive, metavar="N", help="models of each width, with seeds 0 … N−1")
    made.add_argument("--plays", type=positive, metavar="N", help="plays to train on")
    made.add_argument("--epochs", type=positive, default=1, metavar="N", help="passes (default: %(default)s)")
    made.add_argument("--windows", type=positive, metavar="N", help="held-out windows to measure on")
    made.add_argument(
        "--save-seconds",
        type=number,
        default=60.0,
        metavar="S",
        help="seconds between two checkpoints of a training (default: %(default)s)",
    )
    return made


if __name__ == "__main__":
    main()
