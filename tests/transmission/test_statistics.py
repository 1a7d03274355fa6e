"""T, R, G and what comes out have the laws that are promised.

Seeds are fixed, so each test gives the same answer always. Levels are stated as the probability that a perfect random
matrix would fail: they are chosen so that all tests together would fail one seed in about ten thousand.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import opuproj
import oracle
import pytest
from helpers import integers, ternary
from opuproj import Projector

stats = pytest.importorskip("scipy.stats")

LEVEL = 1e-6
SIGMAS = 5.5  # a normal variable is further out with probability 4e-8


def parts(op: Projector) -> tuple[np.ndarray, np.ndarray]:
    """Entries of T as integers: real and imaginary parts."""
    return integers(op.matrix())


def z_of_mean(sample: np.ndarray, expected: float) -> float:
    """How many standard errors the mean of a sample is off."""
    return float((sample.mean() - expected) / (sample.std() / math.sqrt(sample.size)))


# Entries


@pytest.mark.parametrize("seed", [0, 1, 2**63 + 12345])
def test_entries_follow_the_table(seed: int) -> None:
    values, weights = np.unique(oracle.GAUSSIAN, return_counts=True)
    for part in parts(Projector(1000, 1000, seed=seed, mode="complex", dtype=complex)):
        seen, counts = np.unique(part, return_counts=True)
        assert np.array_equal(seen, values)
        p = stats.chisquare(counts, weights / 256 * part.size).pvalue
        assert LEVEL < p < 1 - LEVEL  # an agreement too good is not random either


def test_pairs_in_a_block_follow_the_product_of_the_table() -> None:
    # Real and imaginary part; neighbouring rows of one block and of two; neighbouring columns.
    re, im = parts(Projector(1500, 1600, seed=3, mode="complex", dtype=complex))
    edges = np.array([-100.5, -37.5, -21.5, -10.5, 0.5, 10.5, 21.5, 37.5, 100.5])
    share = np.histogram(oracle.GAUSSIAN, edges)[0] / 256
    for a, b in [
        (re, im),
        (re[:-1], re[1:]),
        (re[7:-1:8], re[8::8]),
        (re[:-8], re[8:]),
        (re[:, :-1], re[:, 1:]),
        (im[:-1, :-1], re[1:, 1:]),
    ]:
        counts = np.histogram2d(a.ravel(), b.ravel(), [edges, edges])[0]
        p = stats.chisquare(counts.ravel(), np.outer(share, share).ravel() * a.size).pvalue
        assert LEVEL < p < 1 - LEVEL


def correlations(rows: np.ndarray) -> np.ndarray:
    """Correlations between rows, in standard errors."""
    r = np.corrcoef(rows)
    return r[np.triu_indices_from(r, 1)] * math.sqrt(rows.shape[1])


def assert_independent(rows: np.ndarray) -> None:
    """Rows show no correlation, nor do their squares: neither at most nor on average."""
    for sample in (rows, rows**2, np.abs(rows)):
        z = correlations(sample.astype(np.float64))
        assert np.abs(z).max() < stats.norm.isf(LEVEL / len(z) / 2)
        assert abs((z**2).mean() - 1) < SIGMAS * math.sqrt(2 / len(z))


def test_rows_are_independent() -> None:
    re, im = parts(Projector(20_000, 100, seed=4, mode="complex", dtype=complex))
    assert_independent(np.concatenate([re, im]))  # real and imaginary parts as well


def test_columns_are_independent() -> None:
    re, im = parts(Projector(100, 20_000, seed=4, mode="complex", dtype=complex))
    assert_independent(np.concatenate([re.T, im.T]))


def test_seeds_are_independent() -> None:
    seeds = [0, 1, 2, 3, 4, 7, 8, 2**31, 2**32, 2**32 + 1, 2**63, 2**64 - 2, 2**64 - 1]
    pairs = [parts(Projector(200, 200, seed=seed, mode="complex", dtype=complex)) for seed in seeds]
    assert_independent(np.stack([part.ravel() for pair in pairs for part in pair]))


def test_the_linear_matrix_is_centred_with_unit_variance() -> None:
    for n_anchor in (1, 2, 64, 4096):
        r = Projector(2000, 500, seed=5, mode="linear", n_anchor=n_anchor, dtype=np.float64).matrix()
        assert abs(z_of_mean(r, 0)) < SIGMAS
        assert abs(z_of_mean(r**2, 1)) < SIGMAS
        # R is a rotation of complex entries: the fourth moment tells a Gaussian's from anything else of unit variance
        assert abs(z_of_mean(r**4, 3)) < SIGMAS


def test_entries_of_the_linear_matrix_are_independent() -> None:
    assert_independent(Projector(20_000, 150, seed=6, dtype=np.float64).matrix())
    assert_independent(Projector(150, 20_000, seed=6, dtype=np.float64).matrix().T.copy())


def test_the_real_matrix_is_centred_with_unit_variance() -> None:
    for seed in (0, 5, 2**64 - 1):
        g = Projector(1000, 1000, seed=seed, mode="real", dtype=np.float64).matrix()
        assert abs(z_of_mean(g, 0)) < SIGMAS
        assert abs(z_of_mean(g**2, 1)) < SIGMAS
        assert abs(z_of_mean(g**4, 3)) < SIGMAS


def test_entries_of_the_real_matrix_are_independent() -> None:
    rows = Projector(20_000, 160, seed=6, mode="real", dtype=np.float64).matrix()
    assert_independent(rows)  # rows 2k and 2k + 1, the two parts of a row of T, among them
    assert_independent(Projector(160, 20_000, seed=6, mode="real", dtype=np.float64).matrix().T.copy())
    pairs = rows[0::2] * rows[1::2]
    assert abs(z_of_mean(pairs, 0)) < SIGMAS
    assert abs(z_of_mean(pairs**2, 1)) < SIGMAS


def test_the_anchor_leaves_no_common_offset() -> None:
    # An anchor that overlapped with the data would give R a mean: 300 ones would add up to an offset of 300 means.
    x = np.zeros(1000, np.int8)
    x[:300] = 1
    y = opuproj.project(x, 200_000, seed=7, mode="linear", dtype=np.float64)
    assert abs(z_of_mean(y, 0)) < SIGMAS
    assert abs(z_of_mean(y**2, 300)) < SIGMAS


# Outputs


@pytest.mark.parametrize("n_nonzeros", [300, 1000])
def test_outputs_have_the_laws_of_speckle(n_nonzeros: int) -> None:
    x = np.zeros(1000, np.int8)
    x[:n_nonzeros] = ternary(n_nonzeros, density=1)
    n_outputs = 100_000
    field = opuproj.project(x, n_outputs, seed=8, mode="complex") / math.sqrt(n_nonzeros / 2)
    linear, real = (
        opuproj.project(x, n_outputs, seed=8, mode=mode) / math.sqrt(n_nonzeros) for mode in ("linear", "real")
    )
    intensity = opuproj.project(x, n_outputs, seed=8) / n_nonzeros
    normal = (field.real, field.imag, linear, real)
    for sample, law in (*((sample, "norm") for sample in normal), (intensity, "expon")):
        assert stats.kstest(sample, law).pvalue > LEVEL
    phase = np.angle(field) / (2 * np.pi) + 0.5
    assert stats.kstest(phase, "uniform").pvalue > LEVEL
    assert abs(z_of_mean(field.real * field.imag, 0)) < SIGMAS


def test_outputs_of_different_vectors_are_correlated_as_their_angle_says() -> None:
    x = ternary(2, 400, density=1)
    x[1, :250] = x[0, :250]
    inner = float(x[0].astype(int) @ x[1])
    field = opuproj.project(x, 200_000, seed=9, mode="complex")
    product = field[0] * field[1].conj()
    assert abs(z_of_mean(product.real, inner)) < SIGMAS
    assert abs(z_of_mean(product.imag, 0)) < SIGMAS
    assert abs(z_of_mean((field[0] * field[1]).real, 0)) < SIGMAS  # E[T T] = 0: the medium has no preferred phase
    for mode in ("linear", "real"):
        y = opuproj.project(x, 200_000, seed=9, mode=mode)
        assert abs(z_of_mean(y[0].astype(float) * y[1], inner)) < SIGMAS


def excess_kurtosis() -> float:
    """gamma of the table, by exact rational arithmetic."""
    g = [Fraction(int(value)) for value in oracle.MAGNITUDES]
    return float((sum(v**4 for v in g) / 128) / (sum(v**2 for v in g) / 128) ** 2 - 3)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([1, 0, 0], [1, 0, 0]),  # the fourth moment of one entry: 2 + gamma / 2
        ([1, 0, 0], [-1, 0, 0]),
        ([1, 0, 0], [0, 1, 0]),
        ([1, 1, 0], [0, 1, -1]),
        ([1, -1, 1], [1, 1, 1]),
        (ternary(200, seed=1), ternary(200, seed=2)),
        (ternary(200, seed=1), ternary(200, seed=1)),
    ],
    ids=range(7),
)
def test_the_kernel_of_intensities(x: list, y: list) -> None:
    """E[|t.x|^2 |t.y|^2] = |x|^2 |y|^2 + (x.y)^2 + (gamma / 2) sum x^2 y^2."""
    a, b = np.array(x, int), np.array(y, int)
    expected = (a @ a) * (b @ b) + (a @ b) ** 2 + excess_kurtosis() / 2 * (a**2 @ b**2)
    intensity = opuproj.project(np.stack([a, b]), 1_000_000, seed=10, dtype=np.float64)
    assert abs(z_of_mean(intensity[0] * intensity[1], expected)) < SIGMAS
    assert abs(z_of_mean(intensity[0], a @ a)) < SIGMAS


def test_the_fourth_moment_term_is_what_the_table_was_chosen_for() -> None:
    # 2 + gamma / 2 to five digits from the entries themselves, each weighted by its exact probability
    assert abs(excess_kurtosis()) < 1e-4
    values, weights = np.unique(oracle.GAUSSIAN, return_counts=True)
    law = weights / 256
    square = (values[:, None] ** 2 + values[None, :] ** 2) / 2048.0
    assert np.isclose(law @ square @ law, 1, rtol=1e-15)
    assert np.isclose(law @ square**2 @ law, 2 + excess_kurtosis() / 2, rtol=1e-14)


# R from intensities


@pytest.mark.parametrize("n_anchor", [1, 64, 1000])
def test_four_intensities_give_the_linear_projection(n_anchor: int) -> None:
    """|T(p+a)|^2 - |Tp|^2 - (|T(q+a)|^2 - |Tq|^2) = 2 Re(conj(r) T(p-q)), in integers, for the anchor a of field r."""
    n_outputs = 2000
    x = ternary(3, 500)
    p, q = (x > 0).astype(np.int8), (x < 0).astype(np.int8)
    op = Projector(500, n_outputs, seed=11, mode="complex", dtype=np.complex128)
    (p_re, p_im), (q_re, q_im) = integers(op(p)), integers(op(q))
    r_re, r_im = oracle.anchor_field(11, n_anchor, range(n_outputs))

    def intensity(re: np.ndarray, im: np.ndarray) -> np.ndarray:
        return re**2 + im**2

    seen = intensity(p_re + r_re, p_im + r_im) - intensity(p_re, p_im)
    seen -= intensity(q_re + r_re, q_im + r_im) - intensity(q_re, q_im)

    linear = opuproj.project(x, n_outputs, seed=11, mode="linear", n_anchor=n_anchor, dtype=np.float64)
    modulus = np.hypot(r_re, r_im)
    lit = modulus > 0
    recovered = linear * modulus * np.sqrt(2.0) * oracle.SCALE  # 2 |r| times what was measured
    assert lit.sum() > 0.99 * n_outputs
    assert np.abs(recovered - seen)[:, lit].max() < 1e-4
    assert np.array_equal(np.rint(recovered[:, lit]).astype(np.int64), seen[:, lit])


# Subspaces


def hadamard(n: int) -> np.ndarray:
    h = np.ones((1, 1), np.int8)
    while len(h) < n:
        h = np.block([[h, h], [h, -h]])
    return h


@pytest.mark.parametrize("mode", ["linear", "real"])
@pytest.mark.parametrize(("d", "k"), [(10, 1000), (64, 2000), (200, 3000)])
def test_singular_values_of_a_sketched_basis(d: int, k: int, mode: str) -> None:
    """A Gaussian k x d matrix / sqrt(k) has its singular values within 1 +- (sqrt(d/k) + t), each side but with
    probability exp(-k t^2 / 2) (Davidson and Szarek, 2001). Each entry here sums 1024 of R or G, so it is one.
    """
    basis = hadamard(1024)[100 : 100 + d]  # orthogonal rows of -1 and 1
    t = math.sqrt(2 * math.log(1 / LEVEL) / k)
    sketch = opuproj.project(basis, k, seed=12, mode=mode, dtype=np.float64) / math.sqrt(1024 * k)
    values = np.linalg.svd(sketch, compute_uv=False)
    assert values.max() < 1 + math.sqrt(d / k) + t
    assert values.min() > 1 - math.sqrt(d / k) - t
    assert values.max() > 1 + math.sqrt(d / k) - 3 * t  # and it spreads as a random one does
    field = opuproj.project(basis, k, seed=12, mode="complex", dtype=complex) / math.sqrt(1024 * k)
    values = np.linalg.svd(field, compute_uv=False)
    assert values.max() < 1 + math.sqrt(d / k) + t
    assert values.min() > 1 - math.sqrt(d / k) - t


@pytest.mark.parametrize("mode", ["linear", "real"])
def test_distances_are_kept(mode: str) -> None:
    """Johnson and Lindenstrauss: |R(x-y)|^2 / k is |x-y|^2 within 1 +- eps but with probability
    2 exp(-k (eps^2 - eps^3) / 4), for all pairs at once (Dasgupta and Gupta, 2003).
    """
    n, k = 60, 3000
    pairs = n * (n - 1) // 2
    eps = math.sqrt(4 * math.log(2 * pairs / LEVEL) / k) * 1.15
    assert (eps**2 - eps**3) * k / 4 > math.log(2 * pairs / LEVEL)
    x = ternary(n, 700, density=0.5)
    y = opuproj.project(x, k, seed=13, mode=mode, dtype=np.float64)
    i, j = np.triu_indices(n, 1)
    before = ((x[i].astype(int) - x[j]) ** 2).sum(axis=1)
    after = ((y[i] - y[j]) ** 2).sum(axis=1) / k
    assert np.abs(after / before - 1).max() < eps
