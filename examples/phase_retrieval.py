"""Phase retrieval: recover a photograph from the intensities that a camera measures behind a scattering medium.

The camera loses the phase of Tx, so x is not the solution of a linear system. The amplitude flow (Wang, Giannakis and
Eldar, IEEE Trans. Inf. Theory 64, 2018) still recovers x, up to its sign, from several times as many intensities as x
has pixels. It follows the gradient Re(Tᴴ(Tx − a·Tx/|Tx|))/m, which takes one projection and one adjoint per step. T is
generated twice per step and never stored.

The program measures the error after each step for several numbers of exact intensities, and compares the error under
shot noise with the closed form in common/retrieval.py.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import figures, retrieval, runs
from common.checks import Checks, conclude
from tqdm import tqdm

EXAMPLES = """examples:
  python examples/phase_retrieval.py --quick          32 × 32 pixels
  python examples/phase_retrieval.py                  128 × 128 pixels, from 131,072 intensities: T has 34 GB
  python examples/phase_retrieval.py --side 64"""

OVERSAMPLING = [3, 4, 6, 8]
MOST = OVERSAMPLING[-1]
POWER_STEPS, STEPS = 30, 100
PHOTONS = [1.0, 10.0, 100.0, 1e3, 1e4, 1e5]
ASYMPTOTIC = 100.0  # the closed form is that of many photons
SHOWN = 100.0
SEED = 1


def main() -> None:
    """Run the experiment, print, draw, check."""
    arguments = parser().parse_args()
    device = runs.begin(arguments).name
    side = arguments.side or (32 if arguments.quick else 128)
    small, repeats = (16, 4) if arguments.quick else (32, 8)
    total = POWER_STEPS + STEPS
    with tqdm(total=total * (1 + len(OVERSAMPLING) + len(PHOTONS)), disable=arguments.no_progress, leave=False) as bar:
        image, start, found, errors = recover(side, MOST, device, bar)
        curves = [{"m_over_n": ratio, "errors": recover(small, ratio, device, bar)[3]} for ratio in OVERSAMPLING]
        noise = [count(small, photons, repeats, device, bar) for photons in PHOTONS]
    results = {
        "side": side,
        "small_side": small,
        "intensities": MOST * side**2,
        "errors": errors,
        "oversampling": curves,
        "noise": [{key: row[key] for key in ("photons", "error", "theory")} for row in noise],
    }
    counted = next(row["image"] for row in noise if row["photons"] == SHOWN)
    checks = Checks()
    check(checks, results)
    conclude(arguments, results, checks, partial(draw, images=[image, start, found, counted]), report)


def recover(side: int, ratio: int, device: str, bar: tqdm[Any]) -> tuple[Any, Any, Any, list[float]]:
    """Recover the photograph from exact intensities; return it, the start, the result and all errors on the way."""
    image = retrieval.photograph(side)
    x = image.ravel()
    op = retrieval.operator(x.size, ratio * x.size, SEED, device)
    amplitudes = np.abs(op(x, digits=retrieval.DIGITS))
    start = retrieval.spectral_start(op, amplitudes, POWER_STEPS)
    bar.update(POWER_STEPS)
    errors = [float(retrieval.relative_error(start, x))]
    for z in retrieval.amplitude_flow(op, amplitudes, start, STEPS):
        errors.append(float(retrieval.relative_error(z, x)))
        bar.update()
    return image, upright(start, x).reshape(image.shape), upright(z, x).reshape(image.shape), errors


def count(side: int, photons: float, repeats: int, device: str, bar: tqdm[Any]) -> dict[str, Any]:
    """Recover the photograph from counted photons, several times."""
    image = retrieval.photograph(side)
    x = image.ravel()
    op = retrieval.operator(x.size, MOST * x.size, SEED, device)
    random = np.random.default_rng(round(photons))
    intensities = np.abs(op(x, digits=retrieval.DIGITS)) ** 2
    amplitudes = np.stack([retrieval.counted(intensities, photons, random) for _ in range(repeats)])
    z = retrieval.recovered(op, amplitudes, POWER_STEPS, STEPS)
    bar.update(POWER_STEPS + STEPS)
    errors = retrieval.relative_error(z, x)
    return {
        "photons": photons,
        "error": float(np.sqrt((errors**2).mean())),
        "theory": retrieval.shot_noise_error(x.size, op.n_outputs, photons),
        "image": upright(z[0], x).reshape(image.shape),
    }


def upright(z: Any, x: Any) -> Any:
    """Return the one of ±z that is nearer to x, because intensities do not determine the sign."""
    return z if z @ x >= 0 else -z


def check(checks: Checks, results: dict[str, Any]) -> None:
    """Compare with the closed form, and with what digits allow."""
    # Elements are right to 2.9e-10 of the largest one, which is below 4 times the root mean square here.
    claim = f"relative error from {results['intensities']:,} exact intensities"
    checks.within(claim, results["errors"][-1], 0, 1e-8)
    for row in results["oversampling"]:
        claim = f"relative error from {row['m_over_n']} intensities per pixel, as a multiple of the start's"
        checks.within(claim, row["errors"][-1] / row["errors"][0], 0, 1e-3)
    for row in results["noise"]:
        if row["photons"] >= ASYMPTOTIC:
            claim = f"error from {row['photons']:g} photons per output, as a multiple of theory"
            checks.within(claim, row["error"] / row["theory"], 0.93, 1.07)


def report(results: dict[str, Any]) -> None:
    """Print the errors."""
    print(f"{results['side']} × {results['side']} pixels from {results['intensities']:,} exact intensities:")
    steps = [step for step in (0, 10, 20, 40, 60, 80, 100) if step < len(results["errors"])]
    print("  step " + "".join(f"{step:>10}" for step in steps))
    print("  error" + "".join(f"{results['errors'][step]:>10.1e}" for step in steps))
    print(f"\n{results['small_side']} × {results['small_side']} pixels:")
    print(f"{'intensities per pixel':>22}{'error of the start':>21}{f'after {STEPS} steps':>18}")
    for row in results["oversampling"]:
        print(f"{row['m_over_n']:>22}{row['errors'][0]:>21.2f}{row['errors'][-1]:>18.1e}")
    print(f"\n{'photons per output':>22}{'error':>21}{'theory':>18}")
    for row in results["noise"]:
        print(f"{row['photons']:>22,.0f}{row['error']:>21.4f}{row['theory']:>18.4f}")


def draw(results: dict[str, Any], path: Path, *, images: list[Any]) -> None:
    """Draw the images, the errors step by step, and those that photons leave."""
    figures.style()
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 4, figsize=(12.5, 6.4), height_ratios=(1, 1.05))
    shown = next(row for row in results["noise"] if row["photons"] == SHOWN)
    titles = (
        "photograph x",
        f"spectral start,\nerror {results['errors'][0]:.2f}",
        f"after {STEPS} steps,\nerror {results['errors'][-1]:.0e}",
        f"{shown['photons']:.0f} photons per output,\nerror {shown['error']:.3f}",
    )
    for place, title, image in zip(axes[0], titles, images, strict=True):
        place.imshow(image, cmap="gray", vmin=0, vmax=1)
        place.set(title=title, xticks=[], yticks=[])
        place.grid(visible=False)
    grid = axes[1, 0].get_gridspec()
    for unused in axes[1]:
        unused.remove()
    left, right = figure.add_subplot(grid[1, :2]), figure.add_subplot(grid[1, 2:])
    large = f"{results['side']} × {results['side']} pixels, m/n = {MOST}"
    left.semilogy(results["errors"], "k-", label=large)
    side = results["small_side"]
    for number, row in enumerate(results["oversampling"]):
        shade = plt.get_cmap("viridis")(0.9 * number / (len(results["oversampling"]) - 1))
        left.semilogy(row["errors"], "--", color=shade, label=f"{side} × {side}, m/n = {row['m_over_n']}")
    left.set(xlabel="step", ylabel="relative error", title="Exact intensities, m of n pixels")
    left.legend(fontsize=9)
    photons = [row["photons"] for row in results["noise"]]
    right.loglog(photons, [row["theory"] for row in results["noise"]], "k-", label="theory, many photons")
    right.loglog(photons, [row["error"] for row in results["noise"]], "o", color="#d55e00", label="measured")
    right.set(
        xlabel="photons per output",
        ylabel="relative error",
        title=f"Counted photons, {side} × {side} pixels, m/n = {MOST}",
    )
    right.legend()
    figures.save(figure, path)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = runs.parser(__doc__ or "", EXAMPLES, methods=False, use="project")
    made.add_argument("--side", type=side_of, metavar="S", help="pixels of a side, 8 to 416 (default: 128)")
    return made


def side_of(text: str) -> int:
    """Return a side that the photograph has."""
    side = runs.positive(text)
    if not 8 <= side <= 416:
        raise argparse.ArgumentTypeError(f"{side} is not from 8 to 416")
    return side


if __name__ == "__main__":
    main()
