"""Classify texts by random projections: find the play of Shakespeare from which a passage comes.

The tf-idf vector of a passage has about 21,000 numbers, nearly all of them 0. OpticalRandomProjection reduces them to a
few hundred or thousand, which preserve the distances between passages (Johnson and Lindenstrauss). The program compares
the errors of squared distances with theory, and the accuracy of a ridge classifier with that of the same classifier on
tf-idf. It also compares the features |Tx|² with their exact kernel. Vectorizer, projection and classifier are a
pipeline of scikit-learn.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from common import figures, passages, plays, runs
from common.checks import Checks, conclude
from numpy.typing import NDArray
from opuproj.sklearn import OpticalRandomFeatures, OpticalRandomProjection
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.pipeline import make_pipeline
from sklearn.random_projection import GaussianRandomProjection
from tqdm import tqdm

EXAMPLES = """examples:
  python examples/text_classification.py --quick        10 plays, up to 4,096 components
  python examples/text_classification.py                38 plays, up to 16,384 components
  python examples/text_classification.py --words 50     shorter passages are harder"""

COUNTS = [64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384]
QUICK_COUNTS = COUNTS[:7]
PENALTY = 1.0  # for all, because projections preserve inner products and so the meaning of a penalty
EPS = 0.2
STORED = 1024  # components of the stored Gaussian matrix
PAIRS_OF, MEDIA = 1000, 4  # passages whose distances are compared, and number of matrices to average over


def main() -> None:
    """Run the experiment, print, draw, check."""
    arguments = parser().parse_args()
    runs.begin(arguments)
    works = plays.shakespeare()
    if arguments.quick:
        works = works[::4]
    data = passages.load(arguments.words, works)
    counts = QUICK_COUNTS if arguments.quick else COUNTS

    tfidf = TfidfVectorizer(sublinear_tf=True, dtype=np.float32).fit(data.train_x)
    train, test = tfidf.transform(data.train_x), tfidf.transform(data.test_x)
    some = test[:PAIRS_OF]
    true = squared_distances(some)
    rows = []
    for count in tqdm(counts, unit="size", leave=False, disable=arguments.no_progress):
        media = [OpticalRandomProjection(count, random_state=seed, mode=arguments.mode) for seed in range(MEDIA)]
        squares = [((squared_distances(r.fit_transform(some)) / true - 1) ** 2).mean() for r in media]
        row: dict[str, Any] = {"components": count, "distances": float(np.mean(squares) ** 0.5)}
        for name, transformer in (
            ("projection", media[0]),
            ("features", OpticalRandomFeatures(count, random_state=0)),
        ):
            model = make_pipeline(transformer, RidgeClassifier(alpha=PENALTY)).fit(train, data.train_y)
            row[name] = float(model.score(test, data.test_y))
        rows.append(row)
    safe = OpticalRandomProjection("auto", eps=EPS, random_state=0, mode=arguments.mode).fit(train)
    results: dict[str, Any] = {
        "plays": len(works),
        "words": arguments.words,
        "mode": arguments.mode,
        "train": len(data.train_y),
        "test": len(data.test_y),
        "features_of_tfidf": train.shape[1],
        "sizes": rows,
        "exact": float(RidgeClassifier(alpha=PENALTY).fit(train, data.train_y).score(test, data.test_y)),
        "exact_kernel": kernel_accuracy(train, test, data),
        "gaussian": gaussian_accuracy(train, test, data),
        "commonest": float((data.test_y == np.bincount(data.train_y).argmax()).mean()),
        "safe_components": safe.n_components_,
        "safe_largest": float(np.abs(squared_distances(safe.transform(some)) / true - 1).max()),
    }
    checks = Checks()
    check(checks, results)
    conclude(arguments, results, checks, draw, report)


def squared_distances(x: Any) -> NDArray[np.float64]:
    """Return the squared distances of all pairs of rows, each pair once."""
    squares: NDArray[np.float64] = euclidean_distances(x.astype(np.float64), squared=True)
    return squares[np.triu_indices(x.shape[0], 1)]


def gaussian_accuracy(train: Any, test: Any, data: passages.Passages) -> float:
    """Return the accuracy with scikit-learn's projection by a stored Gaussian matrix of STORED components."""
    model = make_pipeline(GaussianRandomProjection(STORED, random_state=0), RidgeClassifier(alpha=PENALTY))
    return float(model.fit(train, data.train_y).score(test, data.test_y))


def kernel_accuracy(train: Any, test: Any, data: passages.Passages) -> float:
    """Return the accuracy of ridge classification on the kernel of the features, (x·y)² + 1 for tf-idf of norm 1.

    As with the features, there is an intercept: kernel and targets are centred.
    """
    gram = np.asarray((train @ train.T).toarray(), dtype=np.float64) ** 2
    rows = np.asarray((test @ train.T).toarray(), dtype=np.float64) ** 2
    targets = np.where(data.train_y[:, None] == np.unique(data.train_y), 1.0, -1.0)
    mean, total = gram.mean(0), gram.mean()
    gram += total - mean - mean[:, None]
    rows += total - mean - rows.mean(1, keepdims=True)
    gram.flat[:: len(gram) + 1] += PENALTY
    predicted = rows @ np.linalg.solve(gram, targets - targets.mean(0)) + targets.mean(0)
    return float((np.unique(data.train_y)[predicted.argmax(1)] == data.test_y).mean())


def check(checks: Checks, results: dict[str, Any]) -> None:
    """Compare distances with theory, and accuracies with those of the exact models."""
    for row in results["sizes"]:
        theory = (2 / row["components"]) ** 0.5
        claim = f"rms error of squared distances from {row['components']:,} components, as a multiple of theory"
        checks.within(claim, row["distances"] / theory, 0.9, 1.1)
    claim = f"largest error of a squared distance from the {results['safe_components']:,} components for eps = {EPS}"
    checks.within(claim, results["safe_largest"], 0, EPS)
    stored = results["gaussian"]
    mine = next(row["projection"] for row in results["sizes"] if row["components"] == STORED)
    noise = 100 * (2 * stored * (1 - stored) / results["test"]) ** 0.5
    claim = f"accuracy with {STORED:,} components minus that with a stored Gaussian matrix, points"
    checks.within(claim, 100 * (mine - stored), -2 * noise, 2 * noise)
    most = results["sizes"][-1]
    claim = f"accuracy with {most['components']:,} components as a part of that with tf-idf itself"
    checks.within(claim, most["projection"] / results["exact"], 0.9, 1.03)


def report(results: dict[str, Any]) -> None:
    """Print one line per number of components."""
    print(
        f"{results['plays']} plays, {results['train']:,} passages of {results['words']} words to train on, "
        f"{results['test']:,} to test; tf-idf of {results['features_of_tfidf']:,} words\n"
    )
    print(f"{'components':>12}{'distances':>12}{'theory':>10}{'Rx/√n (%)':>14}{'|Tx|² (%)':>14}")
    for row in results["sizes"]:
        print(
            f"{row['components']:>12,}{row['distances']:>12.4f}{(2 / row['components']) ** 0.5:>10.4f}"
            f"{100 * row['projection']:>14.2f}{100 * row['features']:>14.2f}"
        )
    print(f"{'exact':<34}{100 * results['exact']:>14.2f}{100 * results['exact_kernel']:>14.2f}")
    print(f"{f'stored Gaussian matrix, {STORED:,}':<34}{100 * results['gaussian']:>14.2f}")
    print(f"{'always the most frequent play':<34}{100 * results['commonest']:>14.2f}")


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw distances and accuracy against the number of components."""
    figures.style()
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12.5, 4.4), width_ratios=[1, 1.1])
    counts = np.array([row["components"] for row in results["sizes"]])
    left.loglog(counts, np.sqrt(2 / counts), "k-", label="theory: √(2/n)")
    left.loglog(counts, [row["distances"] for row in results["sizes"]], "o", color="#d55e00", label="measured")
    left.set(
        xlabel="number of components n",
        ylabel="root mean square error of\na squared distance, as a part of it",
        title="Distances between passages\nare kept as well as theory says",
    )
    left.legend()
    figures.plain_log_ticks(left.yaxis)
    for name, style, colour, label in (
        ("projection", "o-", "#d55e00", "ridge on Rx/√n"),
        ("features", "s--", "#0072b2", "ridge on |Tx|²/√n"),
    ):
        right.semilogx(counts, [100 * row[name] for row in results["sizes"]], style, color=colour, label=label)
    stored = 100 * results["gaussian"]
    right.plot(STORED, stored, "kx", markersize=8, label=f"ridge, stored Gaussian matrix ({stored:.1f} %)")
    for name, style, label in (
        ("exact", "-", "ridge on tf-idf"),
        ("exact_kernel", "--", "ridge on the kernel of |Tx|²"),
        ("commonest", ":", "always the most frequent play"),
    ):
        accuracy = 100 * results[name]
        right.axhline(accuracy, color="black", linestyle=style, linewidth=1.3, label=f"{label} ({accuracy:.1f} %)")
    right.set_ylim(0, 105 * max(results["exact"], results["exact_kernel"]))
    right.set(
        xlabel="number of components n",
        ylabel="test accuracy (%)",
        title=f"Which of {results['plays']} plays {results['words']} words are from,\n"
        f"{results['features_of_tfidf']:,} tf-idf features",
    )
    right.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    figures.save(figure, path)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    # tf-idf is sparse, and sparse matrices are projected on the CPU.
    made = runs.parser(__doc__ or "", EXAMPLES, methods=False, use="cpu")
    made.add_argument(
        "--words", type=runs.positive, default=100, metavar="N", help="words of a passage (default: %(default)s)"
    )
    made.add_argument(
        "--mode",
        choices=("linear", "real"),
        default="linear",
        help="the matrix: a device's own, or the one that takes half the time (default: %(default)s)",
    )
    return made


if __name__ == "__main__":
    main()
