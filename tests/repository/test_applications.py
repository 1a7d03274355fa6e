"""The theory that the application programs check themselves against is right, in cases that can be worked out apart."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np
import opuproj
import pytest

pytest.importorskip("torch")
integrate = pytest.importorskip("scipy.integrate")


pytestmark = pytest.mark.usefixtures("examples")


def module(name: str) -> Any:
    return importlib.import_module(f"common.{name}")


def test_optical_features_have_the_kernel_and_the_variance_of_the_closed_forms() -> None:
    kernels = module("optical_kernel")
    x = np.array([[1, 1, 1, 1, 1, 1, 0, 0], [0, 0, 0, 1, 1, 1, 1, 1]], dtype=np.int8)
    assert kernels.cosine_squares(x, x)[0, 1] == pytest.approx(9 / 30)
    intensity = opuproj.project(x, 400_000, seed=3, dtype=np.float64) / np.array([[6], [5]])
    products = intensity[0] * intensity[1]
    mean, variance = 1 + 9 / 30, float(kernels.gram_variance(np.array(9 / 30)))
    assert variance == pytest.approx(3 + 14 * 0.3 + 3 * 0.09)
    assert abs(products.mean() - mean) < 5 * math.sqrt(variance / len(products))
    # A product of intensities has heavy tails: 3 % is what this many of them allow.
    assert products.var() == pytest.approx(variance, rel=0.03)


def test_gram_matrices_of_more_features_contain_those_of_fewer() -> None:
    kernels = module("optical_kernel")
    x = np.random.default_rng(0).integers(0, 2, size=(7, 30)).astype(np.uint8)
    features = opuproj.project(x, 1500, seed=1).astype(np.float64) / x.sum(1)[:, None]
    found = list(kernels.grams(x, 5, [10, 1500], seed=1))
    assert [count for count, _, _ in found] == [10, 1500]
    for count, train, test in found:
        gram = features[:, :count] @ features[:5, :count].T / count
        np.testing.assert_allclose(np.concatenate([train, test]), gram, rtol=1e-5)


def test_a_graph_is_simple_and_its_range_finder_bound_is_that_of_the_theorem() -> None:
    graphs = module("graphs")
    adjacency = graphs.geometric_graph(60, 8.0, seed=1)
    assert set(np.unique(adjacency)) == {0.0, 1.0}
    assert (adjacency == adjacency.T).all()
    assert not adjacency.diagonal().any()
    values = np.array([4.0, 2.0, 1.0, 0.5])
    by_hand = min(math.sqrt(21.25), math.sqrt(1 + 1 / 1) * math.sqrt(5.25))  # k = 0 and 1 of three projections
    assert graphs.rangefinder_bound(values, 3) == pytest.approx(by_hand)


def test_hutchinson_deviation_is_that_of_gaussian_vectors() -> None:
    matrix = np.array([[2.0, 1.0], [1.0, -1.0]])
    r = np.random.default_rng(0).normal(size=(200_000, 2))
    estimates = np.einsum("ni,ij,nj->n", r, matrix, r)
    assert estimates.std() == pytest.approx(module("graphs").hutchinson_deviation(matrix), rel=0.01)


def test_shot_noise_leaves_the_error_of_least_squares() -> None:
    retrieval = module("retrieval")
    random, n, m, photons = np.random.default_rng(0), 20, 300, 400.0
    x = random.random(n)
    t = opuproj.Projector(n, m, seed=2, mode="complex", dtype=complex).matrix()
    field = t @ x
    rows = (np.conj(field / np.abs(field))[:, None] * t).real
    # The amplitudes' noise through the pseudoinverse of their own derivative.
    noise = np.stack([retrieval.counted(np.abs(field) ** 2, photons, random) for _ in range(2000)]) - np.abs(field)
    errors = np.linalg.norm(noise @ np.linalg.pinv(rows).T, axis=1) / np.linalg.norm(x)
    assert np.sqrt((errors**2).mean()) == pytest.approx(retrieval.shot_noise_error(n, m, photons), rel=0.05)


def test_an_image_is_recovered_up_to_its_sign() -> None:
    retrieval = module("retrieval")
    image = retrieval.photograph(8)
    assert image.shape == (8, 8)
    assert 0 < image.min() < image.max() < 1
    x = image.ravel()
    op = retrieval.operator(64, 8 * 64, seed=0)
    amplitudes = np.abs(op.matrix() @ x)
    found = retrieval.recovered(op, np.stack([amplitudes, 2 * amplitudes]), power_steps=20, steps=80)
    assert retrieval.relative_error(found[0], x) == retrieval.relative_error(-found[0], x) < 1e-7
    assert retrieval.relative_error(found[1], 2 * x) < 1e-7


def test_mackey_glass_obeys_its_equation() -> None:
    series = module("reservoirs").mackey_glass(400, steps=20)
    fine = module("reservoirs").mackey_glass(400, steps=40)
    assert 0.2 < series.min() < 0.6
    assert 1.1 < series.max() < 1.5
    # Central differences of a unit of time, against the right-hand side.
    slope = (fine[19:-1] - fine[17:-3]) / 2
    right = 0.2 * fine[1:-19] / (1 + fine[1:-19] ** 10) - 0.1 * fine[18:-2]
    assert np.abs(slope - right).max() < 0.01


def test_near_values_have_near_codes() -> None:
    code = module("reservoirs").thermometer(np.array([0.0, 0.35, 0.5, 9.0]), np.array([0.1, 0.3, 0.45, 0.6]))
    assert code.tolist() == [[-1, -1, -1, -1], [1, 1, -1, -1], [1, 1, 1, -1], [1, 1, 1, 1]]


def test_a_reservoir_is_the_dense_recursion() -> None:
    reservoirs = module("reservoirs")
    reservoir = reservoirs.OpticalReservoir(20, levels=2, input_pixels=9, input_range=(0.0, 1.0), seed=4)
    states = reservoir.run(np.array([0.2, 0.9]))
    matrix = reservoir.operator.matrix().astype(np.complex128)
    for t, value in enumerate([0.2, 0.9]):
        before = states[t - 1] if t else np.zeros(20)
        light = [1 if v > math.log(1 / (1 - q)) else -1 for v in before for q in (1 / 3, 2 / 3)]
        light += [1 if value > (k + 1) / 10 else -1 for k in range(9)]
        intensity = np.abs(matrix @ np.array(light)) ** 2 / len(light)
        # An intensity midway between two grey levels may be told as either.
        assert np.abs(states[t] - np.minimum(intensity, 5)).max() <= 2.5 / 255 * (1 + 1e-4)


@pytest.mark.parametrize("order", [1.5, 2, 7])
@pytest.mark.parametrize("variances", [(1.0, 1.0), (1.1, 1.0), (1.0, 1.1)])
def test_the_divergence_of_gaussians_is_its_integral(order: float, variances: tuple[float, float]) -> None:
    p, q = variances
    mean = 0.7

    def integrand(x: float) -> float:
        logs = [-((x - m) ** 2) / (2 * v) - math.log(2 * math.pi * v) / 2 for m, v in ((mean, p), (0.0, q))]
        return math.exp(order * logs[0] + (1 - order) * logs[1])

    integral, _ = integrate.quad(integrand, -60, 60, points=[0, 10], epsabs=0, epsrel=1e-10, limit=500)
    found = module("private.privacy").gaussian_divergence(order, mean**2, p, q)
    assert found == pytest.approx(math.log(integral) / (order - 1), rel=1e-6)


def test_the_divergence_is_infinite_where_the_integral_diverges() -> None:
    assert module("private.privacy").gaussian_divergence(3, 0.0, 1.6, 1.0) == math.inf


def test_without_own_noise_and_sampling_a_training_is_one_gaussian_mechanism() -> None:
    privacy = module("private.privacy")
    layer = privacy.NoisyLayer(rows=5, clip=1.0, length=3.0, noise=0.0, floor=30.0)
    assert privacy.step_divergence(4, [layer, layer]) == pytest.approx(4 * 2 * 0.01 / 2)
    found, order = privacy.epsilon([layer], rate=1.0, steps=100, delta=1e-5)
    # A hundred steps of deviation 10 are one of deviation 1: ε(α) = α/2.
    expected = {
        a: a / 2 + math.log(1 / 1e-5) / (a - 1) + math.log(1 - 1 / a) - math.log(a) / (a - 1) for a in privacy.ORDERS
    }
    assert (found, order) == (pytest.approx(min(expected.values())), min(expected, key=lambda a: expected[a]))


def test_sampling_amplifies_and_ends_at_the_whole_batch() -> None:
    privacy = module("private.privacy")
    bounds = [privacy.sampled_divergence(6, rate, lambda j: j / 2) for rate in (0.001, 0.01, 0.1, 1.0)]
    assert bounds == sorted(bounds)
    assert bounds[-1] == 3.0
    # To second order in the rate: α/2 · q² (e^{ε(2)} − 1).
    assert bounds[0] == pytest.approx(6 / 2 * 1e-6 * (math.e - 1), rel=0.05)


@pytest.mark.long
def test_what_a_private_network_sums_is_clipped_and_noisy_as_it_claims() -> None:
    import torch

    checks = module("checks").Checks()
    fashion = module("fashion.data")
    torch.manual_seed(0)
    x, y = torch.randn(64, 12), torch.randint(3, (64,))
    data = fashion.Split(x, y, x, y)
    private = module("private.checks")
    private.contributions(checks, (12, 8, 8, 3), data, 1.0)
    private.noise(checks, 0.5)
    assert [str(check) for check in checks.made if not check.passed] == []


def test_an_example_alone_decides_its_projection() -> None:
    import torch

    network = module("private.network").PrivateNetwork((6, 5, 4, 3), "odfa", 0.0, 1.0, clipped=True, seed=0)
    x, y = torch.randn(9, 6), torch.tensor([0, 1, 2] * 3)
    network.sums(x, y)
    together = [weight.grad.clone() for weight in network.weights]
    apart = [torch.zeros_like(weight) for weight in network.weights]
    for i in range(9):
        network.sums(x[i : i + 1], y[i : i + 1])
        apart = [total + weight.grad for total, weight in zip(apart, network.weights, strict=True)]
    for whole, summed in zip(together, apart, strict=True):
        torch.testing.assert_close(whole, summed, rtol=1e-4, atol=1e-5)


def test_a_failed_check_ends_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    checks = module("checks").Checks()
    checks.within("one", 1.0, 0, 1)
    checks.finish()
    checks.within("not a number", math.nan, 0, 1)
    with pytest.raises(SystemExit) as ended:
        checks.finish()
    assert ended.value.code == 1
    assert "FAILED: not a number" in capsys.readouterr().out


def test_shot_noise_of_a_projection_is_the_closed_form() -> None:
    photons = module("photons")
    # With integrals done apart: the mean of 1/u over an exponential u above the floor.
    floor = photons.DARK_FLOOR
    mean = integrate.quad(lambda u: math.exp(floor - u) / u, floor, math.inf)[0]
    for per_pixel in (7.0, 300.0):
        # The camera loses the light on a part 1 − exp(−floor) of the pixels, in frames of d/2, d/2, d and d inputs.
        budget = 3 * per_pixel * math.exp(floor)
        assert photons.error(budget) == pytest.approx(math.sqrt((1 + 2 * mean) / per_pixel), rel=1e-9)
    assert photons.error(photons.needed(0.07)) == pytest.approx(0.07)
    x = photons.vectors(5, 64)
    assert (x.sum(1) == 0).all()
    assert (abs(x) == 1).all()
    assert len(np.unique(x, axis=0)) == 5
    budgets = [60.0, 6000.0]
    for seen, budget in zip(photons.measured_errors(64, budgets, 8, 8000), budgets, strict=True):
        assert seen == pytest.approx(photons.error(budget), rel=0.03)


def test_light_and_device_energies_by_hand() -> None:
    photons = module("photons")
    # A photon of 532 nm has 3.734e-19 J; half of them detected, two must arrive for each.
    assert photons.light_energy(1000, 532e-9, 0.5) == pytest.approx(7.468e-16, rel=1e-3)
    # Four frames of 30 W / 340 Hz for 500,000 × 2048 × 1088 multiply-accumulates.
    assert photons.device_energy(500_000) == pytest.approx(4 * 30 / 340 / (500_000 * 2048 * 1088))


@pytest.mark.parametrize(
    ("family", "width", "layers", "projection"),
    [("mlp", 24, 3, (8, 1000, 72)), ("gpt", 64, 1, (8 * 24, 64, 64)), ("gpt", 64, 3, (8 * 24, 64, 128))],
)
def test_the_optical_time_of_a_step_is_that_of_its_own_report(
    family: str, width: int, layers: int, projection: tuple[int, int, int]
) -> None:
    step_timing, optical_time = module("scaling.steps"), module("scaling.optics")
    size = step_timing.Size(family, width, layers, 8)
    assert size.projection == projection
    trainee = step_timing.Trainee(size)
    trainee.step("odfa")
    assert trainee.feedback.hardware_report().cost == optical_time.cost(size)


def test_a_step_with_optics_is_the_measured_one_with_the_projection_exchanged() -> None:
    optical_time = module("scaling.optics")
    odfa = {"forward": 1.0, "backward": 5.0, "projection": 3.0, "optimizer": 2.0, "step": 8.0, "ratio": 0.9}
    result = {"family": "mlp", "width": 3080, "layers": 96, "batch": 64, "methods": {"bp": {"step": 9.0}, "odfa": odfa}}
    optical = 64 * 4 / 1900  # 96 × 3080 outputs are beyond 163,000
    found = optical_time.with_optics(result)["methods"]
    assert found["bp"] == {"step": 9.0}
    assert found["odfa"] == odfa
    assert found[optical_time.OPTICAL] == {
        "forward": 1.0,
        "backward": 2.0 + optical,
        "projection": optical,
        "optimizer": 2.0,
        "step": 5.0 + optical,
    }


def test_passages_are_of_equal_length_without_the_names_of_speakers() -> None:
    pytest.importorskip("tokenizers")
    plays, passages = module("plays"), module("passages")
    long = "".join(f"ANNE: a{i} b{i}\nBEN: c{i}\n" for i in range(14))
    data = passages.load(4, [plays.Work("long", long, False), plays.Work("short", "ANNE: x: y z\n" * 3, False)])
    assert data.titles == ["long", "short"]
    assert data.train_x[:2] == ["a0 b0 c0 a1", "b1 c1 a2 b2"]
    assert data.test_x == ["b5 c5 a6 b6", "a12 b12 c12 a13"]
    assert data.train_x[-2:] == ["x: y z x:", "y z x: y"]
    assert data.train_y.tolist() == [0] * 8 + [1] * 2
    assert data.test_y.tolist() == [0, 0]
