"""Randomized linear algebra on a graph: singular values, edges and triangles from one random projection.

The adjacency matrix A of a graph is binary, so an optical processing unit accepts its rows as inputs. Y = A Rᵀ, with m
numbers per vertex, is one batch (Hesslow et al., "Photonic co-processors in HPC: using LightOn OPUs for randomized
numerical linear algebra", 2021). The program computes everything else from Y:

- randomized SVD: the range of Y contains the leading singular vectors (Halko, Martinsson, Tropp, SIAM Review 53, 2011);
- Hutchinson's trace estimate: ‖Y‖²/m has the mean trace(A²), which is twice the number of edges;
- triangles: yᵢ·yⱼ/m estimates how many neighbours i and j have in common. Summed over the edges it estimates trace(A³),
  which is six times the number of triangles.

It compares each with the dense computation, and each error with theory.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import opuproj
from common import figures, runs
from common.checks import Checks, conclude
from common.graphs import Array, geometric_graph, hutchinson_deviation, rangefinder_bound
from tqdm import tqdm

EXAMPLES = """examples:
  python examples/randomized_linear_algebra.py --quick            800 vertices
  python examples/randomized_linear_algebra.py                    2,000 vertices
  python examples/randomized_linear_algebra.py --vertices 4000    dense computations grow with the cube"""

SIZES = [16, 32, 64, 128, 256, 512]
SHOWN = 256  # size of the sketch whose singular values are drawn
TRACE_REPEATS, SVD_REPEATS = 64, 4


def main() -> None:
    """Run the experiment, print, draw, check."""
    arguments = parser().parse_args()
    device = runs.begin(arguments).name
    n = arguments.vertices or (800 if arguments.quick else 2000)
    adjacency = geometric_graph(n, 30.0, seed=0)
    exact = dense(adjacency)
    sizes = [size for size in SIZES if 3 * size <= n]

    with tqdm(total=len(sizes) * (TRACE_REPEATS + SVD_REPEATS), leave=False, disable=arguments.no_progress) as bar:
        traces = [trace_errors(adjacency, size, exact, device, bar) for size in sizes]
        svds = [svd_errors(adjacency, size, exact, device, bar) for size in sizes]

    checks = Checks()
    check(checks, traces, svds)
    numbers = {key: exact[key] for key in ("vertices", "edges", "triangles")}
    results = {
        **numbers,
        "traces": traces,
        "svd": svds,
        "singular_values": exact["singular_values"],
    }
    conclude(arguments, results, checks, draw, report)


def dense(adjacency: Array) -> dict[str, Any]:
    """Compute everything exactly from dense matrices, and the theoretical errors of the estimates."""
    square = adjacency @ adjacency
    cube = square @ adjacency
    values = np.abs(np.linalg.eigvalsh(adjacency))[::-1]  # the singular values of a symmetric matrix
    return {
        "vertices": len(adjacency),
        "edges": round(adjacency.sum() / 2),
        "triangles": round(np.trace(cube) / 6),
        "singular_values": np.sort(values)[::-1],
        "edges_deviation": hutchinson_deviation(square) / 2,
        "triangles_deviation": hutchinson_deviation(cube) / 6,
    }


def sketch(adjacency: Array, size: int, repeat: int, device: str) -> Array:
    """Return Y = A Rᵀ, of shape (vertices, size): the projections of the neighbourhoods of all vertices.

    Repeats take disjoint rows of one R, so they are independent.
    """
    operator = opuproj.Projector(len(adjacency), (repeat + 1) * size, seed=size, mode="linear", device=device)
    projected: Array = operator.rows(repeat * size, (repeat + 1) * size)(adjacency).astype(np.float64)
    return projected


def trace_errors(adjacency: Array, size: int, exact: dict[str, Any], device: str, bar: tqdm[Any]) -> dict[str, Any]:
    """Estimate edges and triangles many times; return measured and theoretical root mean square errors."""
    i, j = np.nonzero(adjacency)
    edges, triangles = [], []
    for repeat in range(TRACE_REPEATS):
        y = sketch(adjacency, size, repeat, device)
        edges.append((y**2).sum() / size / 2)
        common_neighbours = np.einsum("ek,ek->e", y[i], y[j]) / size
        triangles.append(common_neighbours.sum() / 6)
        bar.update()
    row: dict[str, Any] = {"size": size}
    for name, estimates in (("edges", edges), ("triangles", triangles)):
        away = np.array(estimates) - exact[name]
        row[name] = {
            "rms": np.sqrt((away**2).mean()) / exact[name],
            "theory": exact[f"{name}_deviation"] / np.sqrt(size) / exact[name],
            "bias_in_errors": away.mean() / (exact[f"{name}_deviation"] / np.sqrt(size * len(away))),
            "first": estimates[0],
        }
    return row


def svd_errors(adjacency: Array, size: int, exact: dict[str, Any], device: str, bar: tqdm[Any]) -> dict[str, Any]:
    """Approximate A from the range of its sketch; return the relative error (Frobenius), the minimum, the bound."""
    values = exact["singular_values"]
    norm = np.linalg.norm(values)
    errors = []
    for repeat in range(SVD_REPEATS):
        basis, _ = np.linalg.qr(sketch(adjacency, size, repeat, device))
        small = basis.T @ adjacency
        # ‖A − QQᵀA‖² = ‖A‖² − ‖QᵀA‖², as Q has orthonormal columns.
        errors.append(np.sqrt(max(0.0, norm**2 - (small**2).sum())) / norm)
        if repeat == 0:
            found = np.linalg.svd(small, compute_uv=False)
        bar.update()
    mean, error = runs.mean_and_error(errors)
    return {
        "size": size,
        "error": mean,
        "standard_error": error,
        "best": np.sqrt((values[size:] ** 2).sum()) / norm,
        "bound": rangefinder_bound(values, size) / norm,
        "best_value_ratio": (found[: size // 4] / values[: size // 4]).max(),
        "values": found if size == SHOWN else None,
    }


def check(checks: Checks, traces: list[dict[str, Any]], svds: list[dict[str, Any]]) -> None:
    """Compare errors with theory."""
    # A variance from n samples of a nearly normal estimate has a relative error of √(2/n), a deviation half of that.
    margin = 5 * np.sqrt(2 / TRACE_REPEATS) / 2
    for row in traces:
        for name in ("edges", "triangles"):
            claim = f"error of the {name} from {row['size']} projections, as a multiple of Hutchinson's"
            checks.within(claim, row[name]["rms"] / row[name]["theory"], 1 - margin, 1 + margin)
        claim = f"mean error of the triangles from {row['size']} projections, in standard errors"
        checks.within(claim, row["triangles"]["bias_in_errors"], -5, 5)
    for row in svds:
        claim = f"error of the SVD from {row['size']} projections, between the best of that rank and the bound"
        checks.within(claim, row["error"], row["best"], row["bound"])
    # The singular values of QᵀA can never be larger than those of A.
    claim = "largest ratio of a singular value to the dense one"
    checks.within(claim, svds[-1]["best_value_ratio"], 0.98, 1 + 1e-9)


def report(results: dict[str, Any]) -> None:
    """Print one line per size of the sketch."""
    print(
        f"{results['vertices']:,} vertices, {results['edges']:,} edges, {results['triangles']:,} triangles\n"
        f"{'m':>5}{'edges: rms error, theory (%)':>34}{'triangles: rms error, theory (%)':>36}"
        f"{'SVD: error, best, bound':>32}"
    )
    for trace, svd in zip(results["traces"], results["svd"], strict=True):
        edges, triangles = trace["edges"], trace["triangles"]
        print(
            f"{trace['size']:>5}{100 * edges['rms']:>22.2f}{100 * edges['theory']:>12.2f}"
            f"{100 * triangles['rms']:>24.2f}{100 * triangles['theory']:>12.2f}"
            f"{svd['error']:>14.3f}{svd['best']:>9.3f}{svd['bound']:>9.3f}"
        )


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw the three applications, a panel each."""
    figures.style()
    from matplotlib import pyplot as plt

    figure, (first, second, third) = plt.subplots(1, 3, figsize=(14, 4.3))
    shown = [row for row in results["svd"] if row["values"] is not None]
    values = results["singular_values"]
    first.semilogy(np.arange(1, len(values) + 1), values, "k-", label="dense SVD")
    for row in shown:
        found = row["values"]
        label = f"from {row['size']} random projections"
        first.semilogy(np.arange(1, len(found) + 1), found, ".", color="#d55e00", markersize=3, label=label)
        first.set_xlim(0, 2 * row["size"])
        first.set_ylim(values[min(2 * row["size"], len(values)) - 1] / 2, 2 * values[0])
    first.set(
        xlabel="number of the singular value", ylabel="singular value", title="Singular values of the adjacency matrix"
    )
    first.legend()

    sizes = [row["size"] for row in results["svd"]]
    for key, line, label in (
        ("bound", ":", "bound on the mean (Halko et al.)"),
        ("error", "o-", "measured"),
        ("best", "-", "best matrix of rank m"),
    ):
        values = [row[key] for row in results["svd"]]
        second.loglog(sizes, values, line, label=label, color="#d55e00" if key == "error" else "black")
    second.set(
        xlabel="random projections m",
        ylabel="‖A − QQᵀA‖ / ‖A‖ (Frobenius)",
        title="Randomized SVD: error of the approximation",
    )
    second.legend()
    for name, colour, marker in (("triangles", "#d55e00", "o"), ("edges", "#0072b2", "s")):
        measured = [100 * row[name]["rms"] for row in results["traces"]]
        theory = [100 * row[name]["theory"] for row in results["traces"]]
        third.loglog(sizes, measured, marker, color=colour, label=f"{name} ({results[name]:,}), measured")
        third.loglog(sizes, theory, "-", color=colour, linewidth=1, label=f"{name}, theory √(2/m) ‖·‖")
    third.set(
        xlabel="random projections m",
        ylabel="root mean square error (%)",
        title=f"Trace estimates, {TRACE_REPEATS} repeats:\nedges from trace(A²), triangles from trace(A³)",
    )
    third.legend(fontsize=9)
    figures.plain_log_ticks(first.yaxis)
    for axes in (second, third):
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.set_xticks([], minor=True)
        figures.plain_log_ticks(axes.yaxis)
    figure.suptitle(
        f"A random geometric graph of {results['vertices']:,} vertices, through a random projection of its rows"
    )
    figures.save(figure, path)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = runs.parser(__doc__ or "", EXAMPLES, methods=False, use="project")
    made.add_argument("--vertices", type=runs.positive, metavar="N", help="vertices of the graph (default: 2000)")
    return made


if __name__ == "__main__":
    main()
