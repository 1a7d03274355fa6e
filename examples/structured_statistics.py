"""Compare the structured ensemble with the Gaussian one: moments, orthogonality and kernel.

A block is S = H D3 H D2 H D1 / n for each part of T = (S_re + i S_im) / sqrt 2. Over the signs, entries of S have mean
0 and variance 1 and are uncorrelated, as a Gaussian's. Two properties differ. The columns of a part of a block are
orthogonal, so |Sx|^2 = n |x|^2 exactly. Fourth moments are smaller by a fraction of about 2/n, so the kernel of |Tx|^2,
|x|^2 |y|^2 + (xy)^2, is smaller by (|x|^2 |y|^2 + 2 (xy)^2) / n. The program measures these on inputs of several kinds,
and the error of the kernel for both ensembles. It prints every number and fails if one disagrees with theory.
"""

from __future__ import annotations

import argparse
import math
from typing import Any, Literal

import numpy as np
from common import runs
from common.checks import Checks
from numpy.typing import NDArray
from opuproj import Projector, project
from tqdm import tqdm

EXAMPLES = """examples:
  python examples/structured_statistics.py             all figures of docs/structured.md, in about a minute
  python examples/structured_statistics.py --quick     fewer seeds"""

SIGMAS = 5.0
OUTPUTS = (256, 1024, 4096, 16384)
Ensemble = Literal["gaussian", "structured"]
Array = NDArray[np.float64]


def inputs(n: int) -> dict[str, Array]:
    """Return vectors of several kinds, each of norm 1."""
    random = np.random.default_rng(n)
    one, two, first = np.zeros(n), np.zeros(n), np.zeros(n)
    one[n // 3] = 1
    two[[5, n // 2]] = 1
    first[: n // 2] = 1
    kinds = {
        "one-hot": one,
        "two-hot": two,
        "constant": np.ones(n),
        "half ones": first,
        "ternary": random.integers(-1, 2, n).astype(float),
        "normal": random.standard_normal(n),
    }
    return {name: x / np.linalg.norm(x) for name, x in kinds.items()}


def entries(checks: Checks, n: int, n_blocks: int) -> None:
    """Measure moments of the entries, orthogonality in a block, correlation between blocks and parts."""
    op = Projector(n, n_blocks * n, mode="complex", ensemble="structured", dtype=np.float64)
    t = op.matrix() * math.sqrt(2)
    parts = [part[b * n : (b + 1) * n] for b in range(n_blocks) for part in (t.real, t.imag)]
    size = t.size * 2
    mean, variance = (sum(float((part**k).sum()) for part in parts) / size for k in (1, 2))
    fourth = sum(float((part**4).sum()) for part in parts) / size
    orthogonal = max(float(np.abs(part @ part.T / n - np.eye(n)).max()) for part in parts)
    across = [parts[i] @ parts[j].T / math.sqrt(n) for i in range(len(parts)) for j in range(i)]
    correlations = np.concatenate([a.ravel() for a in across])
    tqdm.write(
        f"n = {n}, {n_blocks} blocks, {size:,} entries: mean {mean:+.1e}, variance {variance:.6f}, 4th {fourth:.4f}"
    )
    tqdm.write(f"  rows of a part of a block: products / n differ from the identity by at most {orthogonal:.0e}")
    tqdm.write(
        f"  rows of two: {correlations.size:,} products / sqrt n, mean {correlations.mean():+.1e}, variance "
        f"{correlations.var():.4f}, largest {np.abs(correlations).max():.2f}"
    )
    checks.within(f"mean of entries, n = {n}, standard errors", mean * math.sqrt(size), -SIGMAS, SIGMAS)
    checks.within(f"variance of entries, n = {n}", variance, 1 - 1e-6, 1 + 1e-6)
    checks.within(f"orthogonality in a block, n = {n}", orthogonal, 0, 1e-5)
    checks.within(f"variance of products of two blocks' rows, n = {n}", correlations.var(), 0.98, 1.02)
    expected = math.sqrt(2 * math.log(correlations.size))
    checks.within(f"largest of them, over a normal law's, n = {n}", np.abs(correlations).max() / expected, 0.9, 1.3)


def moments(checks: Checks, n: int, seeds: int, device: str, bar: tqdm[Any]) -> None:
    """Measure mean, variance and fourth moment of outputs, and the correlation of intensities of two blocks."""
    tqdm.write(f"n = {n}: outputs of {seeds} seeds, two blocks each")
    tqdm.write(f"  {'x':<10} {'mean':>9} {'variance':>9} {'4th moment':>11} {'(3 - 6/n)':>10} {'blocks':>8}")
    for name, x in inputs(n).items():
        fields = [
            project(x, 2 * n, seed=s, mode="complex", ensemble="structured", dtype=np.float64, device=device)
            for s in range(seeds)
        ]
        s = np.array([part for y in fields for part in (y.real, y.imag)]) * math.sqrt(2)
        squares = np.array([np.abs(y) ** 2 for y in fields])
        bar.update()
        first, second = squares[:, :n].ravel() - 1, squares[:, n:].ravel() - 1
        blocks = float(np.mean(first * second)) * math.sqrt(first.size)
        fourth = (s**4).mean(axis=1)
        error = fourth.std() / math.sqrt(len(fourth))
        tqdm.write(
            f"  {name:<10} {s.mean():>+9.1e} {s.var():>9.6f} {fourth.mean():>5.3f}±{error:.3f} {3 - 6 / n:>10.3f} "
            f"{blocks:>+8.1f}"
        )
        checks.within(
            f"mean of outputs, {name}, n = {n}, standard errors", s.mean() * math.sqrt(s.size), -SIGMAS, SIGMAS
        )
        checks.within(f"variance of outputs, {name}, n = {n}", float((s**2).mean()), 1 - 1e-5, 1 + 1e-5)
        low, high = (3 - 6 / n + sign * (SIGMAS * error + 20 / n**2) for sign in (-1, 1))
        checks.within(f"fourth moment of outputs, {name}, n = {n}", float(fourth.mean()), low, high)
        checks.within(f"intensities of two blocks, {name}, n = {n}, standard errors", blocks, -SIGMAS, SIGMAS)


def kernels(checks: Checks, n_inputs: int, seeds: int, device: str, bar: tqdm[Any]) -> None:
    """Measure the error of the kernel of intensities, over the number of outputs, for both ensembles."""
    random = np.random.default_rng(0)
    common = random.integers(-1, 2, n_inputs)
    keep = random.random((40, n_inputs)) < random.random((40, 1))
    x = np.where(keep, common, random.integers(-1, 2, (40, n_inputs))).astype(float)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    exact = 1 + (x @ x.T) ** 2
    pairs = np.triu_indices(len(x))
    tqdm.write(
        f"kernel of intensities, 40 vectors of {n_inputs}, {seeds} seeds: root mean square error, and mean error"
    )
    tqdm.write(f"  {'outputs':>8} {'gaussian':>10} {'structured':>11} {'mean, g':>10} {'mean, s':>10}")
    for m in OUTPUTS:
        found: dict[Ensemble, Array] = {}
        ensembles: tuple[Ensemble, ...] = ("gaussian", "structured")
        for ensemble in ensembles:
            digits = 5 if ensemble == "gaussian" else None
            errors = []
            for seed in range(seeds):
                y = project(x, m, seed=seed, ensemble=ensemble, digits=digits, dtype=np.float64, device=device)
                errors.append((y @ y.T / m - exact)[pairs])
            found[ensemble] = np.array(errors)
            bar.update()
        rms = {name: float(np.sqrt((errors**2).mean())) for name, errors in found.items()}
        mean = {name: float(errors.mean()) for name, errors in found.items()}
        tqdm.write(
            f"  {m:>8} {rms['gaussian']:>10.4f} {rms['structured']:>11.4f} {mean['gaussian']:>+10.4f} "
            f"{mean['structured']:>+10.4f}"
        )
        checks.within(
            f"error of the kernel, structured over gaussian, {m} outputs", rms["structured"] / rms["gaussian"], 0, 1.25
        )


def main() -> None:
    """Measure, print and check."""
    arguments = parser().parse_args()
    device, quick = runs.begin(arguments).name, arguments.quick
    checks = Checks()
    sizes = (256, 4096)
    total = len(sizes) * len(inputs(sizes[0])) + 2 * len(OUTPUTS)
    with tqdm(total=total, unit="statistic", leave=False, disable=arguments.no_progress) as bar:
        for n in (256, 1024):
            entries(checks, n, 3)
        for n in sizes:
            moments(checks, n, (100 if quick else 1000) * 256 // n, device, bar)
        kernels(checks, 1000, 10 if quick else 40, device, bar)
    path = arguments.out / f"{'quick' if quick else 'results'}.json"
    runs.write_json(path, {"checks": checks.plain()})
    print(f"\nResults: {path}")
    checks.finish()


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    return runs.parser(__doc__ or "", EXAMPLES, methods=False, use="project")


if __name__ == "__main__":
    main()
