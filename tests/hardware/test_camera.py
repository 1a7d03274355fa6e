"""opuproj.Camera: an independent simulation of the whole chain, exactly without noise and in distribution with it."""

from __future__ import annotations

import copy
import functools
import math
import pickle
import re
from typing import Any

import numpy as np
import optics
import opuproj
import pytest
from helpers import MODES, assert_same_bits, ternary
from opuproj import Camera, Projector

stats = pytest.importorskip("scipy.stats")
# No noise, but frames all the same.
QUIET = Camera(bits=None, full_scale=1e9)
LEVEL = 1e-6


# Without noise


@pytest.mark.every_isa
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("density", [0.02, 1.0])
def test_an_ideal_camera_changes_no_bit(mode: str, density: float) -> None:
    x = ternary(20, 300, density=density)
    for dtype in ("float32", "float64"):
        exact = opuproj.project(x, 130, mode=mode, dtype=dtype)
        assert_same_bits(opuproj.project(x, 130, mode=mode, dtype=dtype, camera=Camera.ideal()), exact)
        changed = Camera(bits=None, full_scale=math.inf, frames=7, anchors=9, exposure=3)
        assert_same_bits(opuproj.project(x, 130, mode=mode, dtype=dtype, camera=changed), exact)


@pytest.mark.every_isa
@pytest.mark.parametrize(
    "camera",
    [
        QUIET,
        Camera(),
        Camera(bits=4, full_scale=2.0),
        Camera(bits=12, full_scale=3.0, dark_floor=0.1),
        Camera(bits=10, exposure=77.0, frames=3),
        Camera(bits=None, full_scale=1.5, anchors=2),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_frames_without_noise_are_those_of_a_plain_simulation(camera: Camera, mode: str) -> None:
    x = ternary(9, 120)
    x[3] = abs(x[3])  # nothing to subtract
    x[4] = 0
    rows = range(5, 150)
    seen = opuproj.project(
        x, 150, seed=3, mode=mode, rows=rows, camera=camera, n_anchor=30, dtype=complex if mode == "complex" else float
    )
    if mode == "intensity":
        seen, x = np.delete(seen, 4, 0), np.delete(x, 4, 0)  # a plain mean of no light divides by 0
    expected = optics.see(3, x, rows, mode, camera, 30)
    np.testing.assert_allclose(seen, expected, rtol=1e-9, atol=1e-9 if mode != "complex" else 1e-7)


@pytest.mark.parametrize("mode", MODES)
def test_recovery_from_exact_frames_is_the_projection(mode: str) -> None:
    x = ternary(6, 200)
    exact = opuproj.project(x, 500, mode=mode, dtype=complex if mode == "complex" else float)
    seen = opuproj.project(x, 500, mode=mode, dtype=exact.dtype, camera=QUIET)
    np.testing.assert_allclose(seen, exact, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_a_dark_vector_is_dark(mode: str) -> None:
    camera = Camera(photons=20, read_noise=0.1)
    y = opuproj.project(np.zeros((2, 50), np.int8), 100, mode=mode, camera=camera, noise_seed=0)
    assert np.isfinite(y).all()
    if mode == "intensity":
        assert not y.any()


def test_a_camera_gives_its_own_integers() -> None:
    x = np.ones((3, 80), np.int8)
    for bits, dtype in [(8, np.uint8), (6, "uint8"), (8, np.uint16), (12, np.uint16)]:
        camera = Camera(bits=bits, full_scale=2.0)
        levels = opuproj.project(x, 1000, camera=camera, dtype=dtype)
        assert levels.dtype == dtype
        assert levels.max() == 2**bits - 1
        calibrated = opuproj.project(x, 1000, camera=camera, dtype=float)
        np.testing.assert_allclose(levels * (80 * 2.0 / (2**bits - 1)), calibrated, rtol=1e-12)
    out = np.empty((3, 1000), np.uint8)
    assert opuproj.project(x, 1000, camera=Camera(), dtype=np.uint8, out=out) is out


def test_a_fixed_exposure_compares_vectors() -> None:
    x = np.zeros((2, 100), np.int8)
    x[0, :20] = x[1, :80] = 1
    automatic = opuproj.project(x, 20_000, camera=Camera(), dtype=np.uint8)
    fixed = opuproj.project(x, 20_000, camera=Camera(exposure=80), dtype=np.uint8)
    assert abs(automatic[0].mean() / automatic[1].mean() - 1) < 0.05
    assert abs(fixed[1].mean() / fixed[0].mean() - 4) < 0.2


# The laws of the noise


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
    # The whole distribution, for rows of which counts are small and large.
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
    # Not divided by |r|, dark pixels do no harm.
    assert abs(np.corrcoef((truth * r)[lit], (seen * r)[lit])[0, 1] - raw) < 0.015


@pytest.mark.parametrize(("bits", "correlation"), [(6, 0.989), (8, 0.998), (10, 0.9992)])
def test_bits_correlate_with_the_truth(bits: int, correlation: float) -> None:
    x, n, n_rows = BALANCED, BALANCED.size, 40_000
    camera = Camera(bits=bits, full_scale=5.0, exposure=2 * n)
    truth = opuproj.project(x, n_rows, mode="linear", n_anchor=n)
    seen = opuproj.project(x, n_rows, mode="linear", n_anchor=n, camera=camera)
    assert abs(np.corrcoef(truth, seen)[0, 1] - correlation) < 0.005


@pytest.mark.parametrize("mode", MODES)
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
@pytest.mark.parametrize("mode", MODES)
def test_extreme_cameras_give_numbers(camera: Camera, mode: str) -> None:
    assert np.isfinite(opuproj.project(ternary(3, 60), 200, mode=mode, camera=camera)).all()


def test_no_reading_is_below_0() -> None:
    camera = Camera(bits=None, full_scale=math.inf, read_noise=0.5)
    y = opuproj.project(np.ones(50, np.int8), 5000, camera=camera)
    assert y.min() == 0
    assert 0.1 < (y == 0).mean() < 0.5


# Which noise


NOISY = Camera(photons=20, read_noise=0.01)


@pytest.mark.every_isa
@pytest.mark.parametrize("mode", MODES)
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
    # In several blocks, as a batch too large to be packed at once is.
    monkeypatch.setattr("opuproj._inputs.BLOCK_BYTES", 600)
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


# What a camera is


def test_a_camera_is_a_value() -> None:
    camera = Camera.lighton(frames=2)
    assert camera == Camera.lighton(frames=2) != Camera.lighton()
    assert hash(camera) == hash(Camera.lighton(frames=2))
    assert pickle.loads(pickle.dumps(camera)) == copy.deepcopy(camera) == camera
    with pytest.raises(AttributeError):
        camera.bits = 4  # type: ignore[misc]
    op = Projector(10, 20, camera=camera)
    assert pickle.loads(pickle.dumps(op)) == op != Projector(10, 20)
    assert op[3:5].camera == camera
    assert repr(camera) in repr(op)
    assert eval(repr(op), {"Projector": Projector, "Camera": Camera, "inf": math.inf}) == op


def test_exposures_are_counted() -> None:
    camera = Camera(anchors=4, frames=3)
    assert [camera.exposures(mode) for mode in ("intensity", "linear", "complex")] == [1, 4, 10]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bits": 0}, "bits is 0, but must be from 1 to 16"),
        ({"bits": 17}, "bits is 17"),
        ({"bits": 8.0}, "bits is 8.0, but must be an integer"),
        ({"full_scale": 0}, "full_scale is 0.0, but must be from 1e-12 to 1e+15, or inf"),
        ({"full_scale": math.inf}, "full_scale is inf, but must be finite"),
        ({"full_scale": 5e-324}, "full_scale is 5e-324"),
        ({"read_noise": 10**400}, "read_noise is inf"),
        ({"full_scale": math.nan}, "full_scale is nan"),
        ({"exposure": -1}, "exposure is -1.0"),
        ({"exposure": math.inf}, "exposure is inf"),
        ({"photons": 0}, "photons is 0.0, but must be from 1e-12"),
        ({"photons": "many"}, "photons is 'many', but must be a number"),
        ({"read_noise": -0.1}, "read_noise is -0.1, but must be from 0 to 1e+15"),
        ({"frames": 0}, "frames is 0"),
        ({"frames": 5000}, "frames is 5000, but must be from 1 to 4096"),
        ({"dark_floor": -1}, "dark_floor is -1.0"),
        ({"anchors": 1}, "anchors is 1, but must be from 2 to 64"),
        ({"anchors": True}, "anchors is True"),
    ],
)
def test_bad_fields_are_refused_by_name(fields: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        Camera(**fields)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"camera": "lighton"}, "camera is 'lighton', but must be an opuproj.Camera"),
        ({"noise_seed": 3}, "noise_seed is 3, but there is no camera"),
        ({"noise_seed": -1, "camera": Camera()}, "noise_seed is -1"),
        ({"dtype": np.uint8}, "dtype is uint8, but only a camera of some bits gives integers"),
        ({"dtype": np.uint8, "camera": Camera.ideal()}, "dtype is uint8, but only a camera of some bits"),
        ({"dtype": np.uint8, "camera": Camera(bits=10)}, "dtype is uint8, but a camera of 10 bits needs uint16"),
        ({"dtype": np.uint8, "camera": Camera(frames=2)}, "dtype is uint8, but the mean of 2 frames is no integer"),
        ({"dtype": np.uint8, "camera": Camera(), "mode": "linear"}, "dtype is uint8, but mode 'linear' gives float32"),
    ],
)
def test_bad_options_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        opuproj.project(ternary(10), 5, **options)
