"""How many photons a dot product needs, after Anderson et al., "Optical Transformers" (arXiv:2302.10360, 2023).

An optical processing unit computes a dot product of any size d as the intensity of one pixel, and shot noise depends on
the number of photons that this pixel detects. So a fixed number N per output gives a fixed relative error for every d,
and the light per multiply-accumulate falls as N/d. The program compares the errors of linear projections behind a
camera with shot noise only with the closed form in common/photons.py, and finds the N that a target error needs for
every d. It compares the energy of this light with 300 fJ for a digital multiply-accumulate (the reference of that
paper) and with the consumption of LightOn's whole device, most of which is not light.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np
from common import figures, photons, runs
from common.checks import Checks, conclude
from opuproj import hardware
from tqdm import tqdm

EXAMPLES = """examples:
  python examples/photon_budget.py --quick          four sizes, 64 to 4,096
  python examples/photon_budget.py                  eight sizes, 64 to 8,192
  python examples/photon_budget.py --target 0.01    photons for an error of 1 %"""

SIZES = [64, 128, 256, 512, 1024, 2048, 4096, 8192]  # the largest anchor lights 4,096 inputs
BUDGETS = 2.0 ** np.arange(-4, 5)  # relative to what the target needs by theory
DIGITAL = 300e-15


def main() -> None:
    """Run the experiment, print, draw, check."""
    arguments = parser().parse_args()
    if arguments.efficiency > 1:
        sys.exit(f"--efficiency is {arguments.efficiency}, but must be at most 1")
    if arguments.target > 0.5:
        sys.exit(f"--target is {arguments.target}, but must be at most 0.5")
    device = runs.begin(arguments).name
    results = {
        "target": arguments.target,
        "wavelength_nm": arguments.wavelength,
        "efficiency": arguments.efficiency,
        "dark_floor": photons.DARK_FLOOR,
        "photons_by_theory": photons.needed(arguments.target),
        "sizes": measure(arguments, device),
    }
    checks = Checks()
    results |= check(checks, results)
    conclude(arguments, results, checks, draw, report)


def measure(arguments: argparse.Namespace, device: str) -> list[dict[str, Any]]:
    """Measure errors over photons for every size, and find the photons that the target needs."""
    n, n_outputs = (8, 8000) if arguments.quick else (16, 40_000)
    budgets = [float(b) for b in photons.needed(arguments.target) * BUDGETS]
    rows = []
    for size in tqdm(SIZES[:7:2] if arguments.quick else SIZES, unit="size", disable=arguments.no_progress):
        errors = photons.measured_errors(size, budgets, n, n_outputs, device)
        # Between the budgets: the error is a power of the photons, nearly.
        enough = float(np.exp(np.interp(-np.log(arguments.target), -np.log(errors), np.log(budgets))))
        light = photons.light_energy(enough, 1e-9 * arguments.wavelength, arguments.efficiency)
        rows.append(
            {
                "size": size,
                "photons": budgets,
                "errors": errors,
                "theory": [photons.error(b) for b in budgets],
                "needed": enough,
                "photons_per_mac": enough / size,
                "joules_per_mac": light / size,
                "device_joules_per_mac": photons.device_energy(size),
            }
        )
    return rows


def check(checks: Checks, results: dict[str, Any]) -> dict[str, float]:
    """Compare with the closed form and the claim; return the fitted exponents."""
    rows = results["sizes"]
    ratios = np.array([np.divide(row["errors"], row["theory"]) for row in rows])
    checks.within("the smallest measured error as a multiple of theory", ratios.min(), 0.95, 1.05)
    checks.within("the largest measured error as a multiple of theory", ratios.max(), 0.95, 1.05)
    shot = float(np.mean([np.polyfit(np.log(row["photons"]), np.log(row["errors"]), 1)[0] for row in rows]))
    checks.within("the error falls as the photons to the power", shot, -0.52, -0.48)
    sizes, spent = [row["size"] for row in rows], [row["photons_per_mac"] for row in rows]
    exponent = float(np.polyfit(np.log(sizes), np.log(spent), 1)[0])
    checks.within("photons per multiply-accumulate fall as d to the power", exponent, -1.1, -0.9)
    return {"error_exponent": shot, "mac_exponent": exponent}


def report(results: dict[str, Any]) -> None:
    """Print a line a size."""
    print(f"Error {results['target']:g}: {results['photons_by_theory']:,.0f} photons per output by theory, for any d.")
    print(f"Light of {results['wavelength_nm']:g} nm, of which {results['efficiency']:g} is detected.\n")
    print(f"{'d':>6}{'photons per output':>20}{'photons per MAC':>18}{'light per MAC':>16}{'device per MAC':>17}")
    for row in results["sizes"]:
        print(f"{row['size']:>6,}{row['needed']:>20,.0f}{row['photons_per_mac']:>18.3f}", end="")
        print(f"{1e18 * row['joules_per_mac']:>13.2f} aJ{1e12 * row['device_joules_per_mac']:>14.1f} pJ")


def draw(results: dict[str, Any], path: Any) -> None:
    """Draw errors over photons, and energies over d."""
    figures.style()
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.4))
    rows = results["sizes"]
    for place, row in enumerate(rows):
        shade = plt.get_cmap("viridis")(0.9 * place / (len(rows) - 1))
        # Rings around each other: the points coincide.
        style = {"color": shade, "markerfacecolor": "none", "markersize": 3.5 + 1.3 * place, "markeredgewidth": 1.2}
        left.loglog(row["photons"], row["errors"], "o", label=f"d = {row['size']:,}", **style)
    left.loglog(rows[0]["photons"], rows[0]["theory"], "k-", linewidth=1.2, label="theory, for any d")
    left.axhline(results["target"], color="black", linestyle=":", linewidth=1.2)
    left.set(
        xlabel="photons N an output",
        ylabel="relative error of a dot product",
        title="The error depends on the photons per output,\nnot on the size of the dot product",
    )
    left.legend(fontsize=9, loc="lower left", ncols=2)
    figures.plain_log_ticks(left.yaxis)
    sizes = np.array([row["size"] for row in rows])
    far = np.geomspace(sizes[0], hardware.LIGHTON.max_inputs - 1, 50)
    light = rows[0]["joules_per_mac"] * sizes[0]
    right.loglog(far, light / far, "--", color="#d55e00", linewidth=1.2)
    label = f"light at the camera, error {results['target']:g}:\nmeasured, and as 1/d"
    right.loglog(sizes, [row["joules_per_mac"] for row in rows], "o", color="#d55e00", label=label)
    device = [photons.device_energy(int(size)) for size in far]
    right.loglog(far, device, "-", color="#0072b2", label="LightOn's device as a whole,\n30 W, all outputs used")
    right.axhline(DIGITAL, color="black", linestyle=":", label="digital, 300 fJ")
    right.set(
        xlabel="size d of the dot product",
        ylabel="joules per multiply-accumulate",
        title=f"Light falls as d to the power {results['mac_exponent']:.3f};\nthe electronics take most of the energy",
    )
    right.legend(fontsize=9)
    figures.save(figure, path)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = runs.parser(__doc__ or "", EXAMPLES, methods=False, use="project")
    positive = runs.positive_number
    made.add_argument("--target", type=positive, default=0.1, metavar="E", help="relative error (default: %(default)s)")
    made.add_argument(
        "--wavelength",
        type=positive,
        default=532.0,
        metavar="NM",
        help="wavelength of the light (default: %(default)s nm)",
    )
    made.add_argument(
        "--efficiency",
        type=positive,
        default=0.6,
        metavar="Q",
        help="fraction of the arriving photons that the camera detects (default: %(default)s, assumed)",
    )
    return made


if __name__ == "__main__":
    main()
