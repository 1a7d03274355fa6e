"""The camera's noise: its distribution, its effect on recovery, and its seeds."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import optics
import opuproj
import pytest
from helpers import CAMERA_MODES, assert_same_bits, ternary
from opuproj import Camera, Projector

stats = pytest.importorskip("scipy.stats")
LEVEL = 1e-6


# The distribution of the noise


def repeated(camera: Camera, n: int, n_rows: int = 64, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Relative intensities of some rows, and n readings of each."""
    x = np.ones(50, np.int8)
    exact = opuproj.project(x, n_rows, dtype=float) / 50
    return exact, opuproj.project(np.tile(x, (n, 1)), n_rows, camera=camera, dtype=float, noise_seed=1, **options) / 50


@pytest.mark.parametrize("photons", [0.5, 4.0, 9.0, 40.0, 3000.0])
def test_shot_noise_is_poisson(photons: float) -> None:
    n = 20_000
    exact, seen = repeated(Camera(bits=None, full_scale=1e9, photons=photons), n)
    counts = np.rint(seen * photons)
    np.testing.assert_allclose(counts, seen * photons, atol=1e-6)
    mean = exact * photons
    z_mean = (counts.mean(axis=0) - mean) / np.sqrt(mean / n)
    # The variance of a Poisson sample's variance.
    z_variance = (counts.var(axis=0, ddof=1) - mean) / np.sqrt((mean + 2 * mean**2) / n)
    for z in (z_mean, z_variance):
        assert stats.chi2.sf((z**2).sum(), z.size) > LEVEL
    # The whole distribution, for rows with small and large counts.
    for row in np.argsort(mean)[[5, 32, 60]]:
        values = np.arange(stats.poisson.ppf(1e-4, mean[row]), stats.poisson.ppf(1 - 1e-4, mean[row]) + 1)
        edges = np.quantile(values, np.linspace(0, 1, 12)).round()
        chances = np.diff(stats.poisson.cdf(np.unique(np.r_[-1, edges, 1e9]), mean[row]))
        found = np.histogram(counts[:, row], np.unique(np.r_[-0.5, edges + 0.5, 1e9]))[0]
        few = chances * n < 5
        assert abs(found[few].sum() - chances[few].sum() * n) < 40
        found, chances = found[~few], chances[~few]
        assert stats.chisquare(found, chances / chances.sum() * found.sum()).pvalue > LEVEL


def test_read_noise_is_gaussian() -> None:
    exact, seen = repeated(Camera(bits=None, full_scale=1e9, read_noise=0.01, exposure=50), 20_000)
    bright = exact > 0.1
    z = ((seen - exact) / 0.01)[:, bright]
    assert stats.kstest(z.ravel(), "norm").pvalue > LEVEL
    correlations = np.corrcoef(z.T)[np.triu_indices(bright.sum(), 1)]
    assert abs(correlations).max() < 6 / math.sqrt(20_000)


def test_photons_and_electronics_are_independent() -> None:
    exact, seen = repeated(Camera(bits=None, full_scale=1e9, photons=100, read_noise=0.2), 20_000)
    bright = exact > 1.0
    variance = seen.var(axis=0, ddof=1)[bright]
    np.testing.assert_allclose(variance, (exact / 100 + 0.04)[bright], rtol=0.06)


def test_averaged_frames_have_less_noise() -> None:
    spread = [
        (seen - exact)[:, exact > 0.5].std()
        for exact, seen in (
            repeated(Camera(bits=None, full_scale=1e9, photons=50, frames=frames), 4000) for frames in (1, 16)
        )
    ]
    assert abs(spread[0] / spread[1] - 4) < 0.1


def test_quantization_errs_by_a_uniform_part_of_a_level() -> None:
    x = np.ones(300, np.int8)
    exact = opuproj.project(x, 200_000, dtype=float) / 300
    seen = opuproj.project(x, 200_000, camera=Camera(bits=8, full_scale=5.0), dtype=float) / 300
    level = 5.0 / 255
    error = ((seen - exact) / level)[(exact < 4.9) & (exact > level)]
    assert abs(error).max() <= 0.5 + 1e-9
    assert abs(error.std() - 1 / math.sqrt(12)) < 0.002


@pytest.mark.parametrize("full_scale", [1.0, 3.0, 5.0])
def test_speckle_saturates_exponentially(full_scale: float) -> None:
    n = 400_000
    levels = opuproj.project(np.ones(500, np.int8), n, camera=Camera(bits=10, full_scale=full_scale), dtype=np.uint16)
    # The top level begins half a level early.
    part = math.exp(-full_scale * (1 - 0.5 / 1023))
    assert abs((levels == 1023).mean() - part) < 6 * math.sqrt(part / n)


BALANCED = np.tile([1, -1], 64).astype(np.int8)


@functools.cache
def anchor_strength(n_rows: int) -> np.ndarray:
    """|r| of an anchor as bright as BALANCED, relative to its root mean square."""
    n = BALANCED.size
    return abs(optics.anchor_fields(0, n, 1, range(n_rows))[0]) / math.sqrt(2048 * n)


# Known correlations of a linear recovery with the truth: an anchor as bright as x, photons per unit of its intensity.


@pytest.mark.parametrize(("photons", "masked", "raw"), [(10, 0.844, 0.913), (100, 0.980, 0.990), (1000, 0.998, 0.999)])
def test_recovery_correlates_with_the_truth(photons: float, masked: float, raw: float) -> None:
    x, n, n_rows = BALANCED, BALANCED.size, 40_000
    floor = -math.log(1 - 0.03)
    camera = Camera(bits=None, full_scale=1e9, photons=photons, exposure=n, dark_floor=floor)
    truth = opuproj.project(x, n_rows, mode="linear", n_anchor=n, dtype=float)
    seen = opuproj.project(x, n_rows, mode="linear", n_anchor=n, camera=camera, noise_seed=4, dtype=float)
    r = anchor_strength(n_rows)
    lit = r**2 >= floor
    assert abs(lit.mean() - 0.97) < 0.005
    assert not seen[~lit].any()
    assert abs(np.corrcoef(truth[lit], seen[lit])[0, 1] - masked) < 0.015
    # Without the division by |r|, dark pixels have no large noise.
    assert abs(np.corrcoef((truth * r)[lit], (seen * r)[lit])[0, 1] - raw) < 0.015


@pytest.mark.parametrize(("bits", "correlation"), [(6, 0.989), (8, 0.998), (10, 0.9992)])
def test_bits_correlate_with_the_truth(bits: int, correlation: float) -> None:
    x, n, n_rows = BALANCED, BALANCED.size, 40_000
    camera = Camera(bits=bits, full_scale=5.0, exposure=2 * n)
    truth = opuproj.project(x, n_rows, mode="linear", n_anchor=n)
    seen = opuproj.project(x, n_rows, mode="linear", n_anchor=n, camera=camera)
    assert abs(np.corrcoef(truth, seen)[0, 1] - correlation) < 0.005


@pytest.mark.parametrize("mode", CAMERA_MODES)
def test_noise_has_the_simulations_distribution(mode: str) -> None:
    camera = Camera(photons=30, read_noise=0.02, dark_floor=0.05, frames=2)
    x, rows = ternary(4, 150), range(3000)
    dtype = complex if mode == "complex" else float
    truth = opuproj.project(x, 3000, mode=mode, n_anchor=50, dtype=dtype)
    seen = opuproj.project(x, 3000, mode=mode, n_anchor=50, dtype=dtype, camera=camera, noise_seed=2)
    simulated = optics.see(0, x, rows, mode, camera, 50, np.random.default_rng(1))
    for part in ("real", "imag") if mode == "complex" else ("real",):
        ours, theirs = (getattr(y - truth, part).ravel() for y in (seen, simulated))
        assert stats.ks_2samp(ours, theirs).pvalue > LEVEL
        np.testing.assert_allclose(ours.std(), theirs.std(), rtol=0.1)


def test_more_anchors_recover_better() -> None:
    x = ternary(3, 300)
    truth = opuproj.project(x, 20_000, mode="complex", n_anchor=100)
    error = [
        np.median(
            abs(
                opuproj.project(
                    x,
                    20_000,
                    mode="complex",
                    n_anchor=100,
                    camera=Camera(photons=100, anchors=anchors),
                    noise_seed=0,
                )
                - truth
            )
        )
        for anchors in (2, 4, 16)
    ]
    assert error[0] > 1.2 * error[1] > 1.2 * 1.2 * error[2]


@pytest.mark.parametrize(
    "camera",
    [
        Camera(bits=None, full_scale=math.inf, photons=1e15),
        Camera(bits=None, full_scale=math.inf, photons=1e-12),
        Camera(bits=None, full_scale=math.inf, read_noise=1e15),
        Camera(full_scale=1e15, exposure=1e-12, photons=1e15),
        Camera(full_scale=1e-12, exposure=1e15, photons=1e-12, read_noise=1e15),
    ],
)
@pytest.mark.parametrize("mode", CAMERA_MODES)
def test_extreme_cameras_give_numbers(camera: Camera, mode: str) -> None:
    assert np.isfinite(opuproj.project(ternary(3, 60), 200, mode=mode, camera=camera)).all()


def test_no_reading_is_below_0() -> None:
    camera = Camera(bits=None, full_scale=math.inf, read_noise=0.5)
    y = opuproj.project(np.ones(50, np.int8), 5000, camera=camera)
    assert y.min() == 0
    assert 0.1 < (y == 0).mean() < 0.5


# Seeds of the noise

NOISY = Camera(photons=20, read_noise=0.01)


@pytest.mark.every_backend
@pytest.mark.parametrize("mode", CAMERA_MODES)
def test_noise_depends_on_its_seed_the_vector_and_the_row(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = ternary(30, 200)
    op = Projector(200, 300, mode=mode, camera=NOISY)
    y = op(x, noise_seed=5)
    assert_same_bits(op(x, noise_seed=5), y)
    assert_same_bits(opuproj.project(x, 300, mode=mode, camera=NOISY, noise_seed=5), y)
    assert_same_bits(op[77:130](x, noise_seed=5), y[:, 77:130])
    assert_same_bits(Projector(200, 300, mode=mode, camera=NOISY, threads=5)(x, noise_seed=5), y)
    assert_same_bits(op(x[:7], noise_seed=5), y[:7])
    assert (op(x, noise_seed=6) != y).mean() > 0.5
    assert (op(np.tile(x[0], (2, 1)), noise_seed=5)[1] != y[0]).mean() > 0.5
    # In several blocks, like a batch that is too large to be packed at once.
    monkeypatch.setattr("opuproj._memory.BLOCK_BYTES", 600)
    monkeypatch.setattr("opuproj._memory.PIECE_BYTES", 600)
    assert_same_bits(op(x, noise_seed=5), y)


def test_noise_is_fresh_unless_asked_otherwise() -> None:
    op = Projector(100, 1000, mode="intensity", camera=NOISY)
    x = ternary(100)
    assert (op(x) != op(x)).mean() > 0.5
    assert (op @ x != op @ x).mean() > 0.5


def test_noise_is_the_same_on_every_machine() -> None:
    levels = opuproj.project(
        np.ones((2, 9), np.int8), 6, camera=Camera(photons=5, read_noise=0.1), noise_seed=3, dtype="u1"
    )
    assert levels.tolist() == LEVELS


LEVELS = [[255, 38, 22, 65, 28, 32], [255, 63, 77, 94, 0, 21]]
