"""Compute optical random features of handwritten digits, then a projection at the full size of an OPU.

Part 1 makes scikit-learn's bundled digits binary, projects them to intensities |Tx|² and compares a ridge classifier on
these features with the same classifier on the pixels. Part 2 projects a ternary vector of a million inputs to two
million outputs, with a matrix that would take 16 TB to store.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import opuproj
from common import runs
from common.memory import peak_resident, readable
from numpy.typing import NDArray
from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Sequence


def main() -> None:
    """Run both parts and print what they found."""
    arguments = parser().parse_args()
    device = runs.begin(arguments).name
    quiet = arguments.no_progress
    started = perf_counter()
    if arguments.quick:
        found = digits((256, 1024), 3, device, quiet)
        projected = at_scale(100_000, 200_000, device, quiet)
    else:
        found = digits((64, 256, 1024, 4096), 10, device, quiet)
        projected = at_scale(1_000_000, 2_000_000, device, quiet)
    path = arguments.out / f"{'quick' if arguments.quick else 'results'}.json"
    runs.write_json(path, {"accuracies": found, "projection": asdict(projected)})
    print(f"\nDone in {perf_counter() - started:.0f} s. Results: {path}\n")
    print(NEXT)


def digits(feature_counts: Sequence[int], n_splits: int, device: str, quiet: bool) -> dict[str, NDArray[np.float64]]:
    """Compare a ridge classifier on pixels with the same one on growing numbers of optical features."""
    # Imported here, so that the process of the second part needs less memory.
    from sklearn.datasets import load_digits
    from sklearn.model_selection import StratifiedShuffleSplit
    from threadpoolctl import threadpool_limits

    images, labels = load_digits(return_X_y=True)
    x = (images > images.max() / 2).astype(np.uint8)
    splits = list(StratifiedShuffleSplit(n_splits, test_size=0.5, random_state=0).split(x, labels))
    print(
        f"1. Handwritten digits: {len(x):,} images of 8 × 8 pixels made binary, ridge classifier,\n"
        f"   trained on one half and tested on the other, in {n_splits} random splits\n"
    )

    rows = [("64 pixels", x.astype(np.float32))]
    for n in feature_counts:
        rows.append((f"{n:,} features |Tx|²", opuproj.project(x, n, seed=0, device=device)))
    accuracies = {}
    # The fits are too small to gain from a second thread, which slows them down on a busy machine.
    with tqdm(total=len(rows) * n_splits, unit="fit", leave=False, disable=quiet) as bar, threadpool_limits(1):
        for name, features in rows:
            accuracies[name] = accuracy(features, labels, splits, bar)
    print(f"   {'input of the classifier':<26}{'test accuracy (mean ± sd)':>26}")
    for name, values in accuracies.items():
        print(f"   {name:<26}{100 * values.mean():>17.1f} ± {100 * values.std(ddof=1):.1f} %")
    return accuracies


def accuracy(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    splits: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
    bar: tqdm[Any],
) -> NDArray[np.float64]:
    """Return the test accuracy for every split; only the training half determines the penalty."""
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.preprocessing import StandardScaler

    penalties = features.shape[1] * np.logspace(-2, 1, 7)
    values = []
    for train, test in splits:
        scaler = StandardScaler().fit(features[train])
        classifier = RidgeClassifierCV(penalties).fit(scaler.transform(features[train]), labels[train])
        values.append(classifier.score(scaler.transform(features[test]), labels[test]))
        bar.update()
    return np.array(values)


@dataclass(frozen=True)
class Projected:
    """The measurements of the second part."""

    seconds: float
    mean: float
    deviation: float
    resident_before: int | None
    resident_peak: int | None


def at_scale(n_inputs: int, n_outputs: int, device: str, quiet: bool) -> Projected:
    """Project one sparse ternary vector in a new process, whose peak memory is then that of the projection."""
    nonzeros = n_inputs // 100
    print(f"\n2. One ternary vector of {n_inputs:,} inputs, 1 % of them nonzero, to {n_outputs:,} outputs\n")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        done = process.submit(project_one, n_inputs, nonzeros, n_outputs, device, quiet).result()

    entries = nonzeros * n_outputs
    lines = [
        ("time", f"{done.seconds:.2f} s"),
        ("entries of T generated", f"{entries / 1e9:,.3g} billion complex: {nonzeros:,} columns × {n_outputs:,} rows"),
        ("entries a second", f"{entries / done.seconds / 1e9:.2f} billion"),
        ("mean of |Tx|² / ‖x‖²", f"{done.mean:.4f} (expected 1)"),
        ("standard deviation", f"{done.deviation:.4f} (expected 1: fully developed speckle)"),
    ]
    if done.resident_before is not None and done.resident_peak is not None:
        lines.append(("peak memory", memory(done, n_inputs + 4 * n_outputs)))
    lines.append(("storing T would take", readable(8 * n_inputs * n_outputs)))
    for name, value in lines:
        print(f"   {name:<26}{value}")
    return done


def project_one(n_inputs: int, nonzeros: int, n_outputs: int, device: str, quiet: bool) -> Projected:
    """Project one vector and time it, with a progress bar in a terminal."""
    before = peak_resident()
    rng = np.random.default_rng(0)
    x = np.zeros(n_inputs, dtype=np.int8)
    x[rng.choice(n_inputs, nonzeros, replace=False)] = rng.choice(np.array([-1, 1], dtype=np.int8), nonzeros)
    started = perf_counter()
    y = opuproj.project(x, n_outputs, seed=0, device=device, progress=not quiet)
    seconds = perf_counter() - started
    peak = peak_resident()
    return Projected(seconds, float(y.mean()) / nonzeros, float(y.std()) / nonzeros, before, peak)


def memory(done: Projected, arrays: int) -> str:
    """Return the peak memory and its parts as text."""
    before, peak = done.resident_before or 0, done.resident_peak or 0
    return f"{readable(peak)}, of which {readable(before)} Python and NumPy, {readable(arrays)} x and the result"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    return runs.parser(__doc__ or "", EXAMPLES, methods=False, use="project")


EXAMPLES = """examples:
  python examples/demo.py --quick    a few seconds in total
  python examples/demo.py            all sizes"""


NEXT = """Try next, in the same Python:

   import numpy as np, opuproj
   x = np.random.default_rng(0).integers(-1, 2, size=(16, 1_000_000), dtype=np.int8)
   opuproj.project(x, 1_000, mode="linear")       # a real projection Rx
   op = opuproj.Projector(1_000_000, 2_000_000)   # the operator R
   op[1_999_990:] @ x[0]                          # ten of two million outputs, the same bits
   op.matrix(rows=range(3), columns=range(4))     # exact entries of R
   opuproj.ternarize(np.random.randn(4, 1_000), threshold=0.5)   # floats to packed −1, 0, 1
   opuproj.show_config()                          # instruction sets, threads

and in a shell: make bench"""


if __name__ == "__main__":
    main()
