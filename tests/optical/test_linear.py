"""OpticalLinear against exact products, a calculation in NumPy, and the theory of shot noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from opuproj.optical import OpticalLinear

EXACT: dict[str, Any] = {"weight_bits": None, "activation_bits": None, "output_bits": None}


def vectors(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layer(n_inputs: int = 30, n_outputs: int = 20, **settings: Any) -> OpticalLinear:
    torch.manual_seed(1)
    return OpticalLinear(n_inputs, n_outputs, **settings)


def test_without_noise_and_rounding_it_is_the_exact_product() -> None:
    one, x = layer(**EXACT), vectors(2, 5, 30)
    torch.testing.assert_close(one(x), torch.nn.functional.linear(x, one.weight, one.bias))


def test_the_error_falls_by_half_with_each_bit() -> None:
    x = vectors(200, 30)
    errors = []
    for bits in (5, 6, 7, 8, 9):
        one = layer(weight_bits=bits, activation_bits=bits, output_bits=bits)
        errors.append(float((one(x) - torch.nn.functional.linear(x, one.weight, one.bias)).std().detach()))
    ratios = np.divide(errors[:-1], errors[1:])
    np.testing.assert_allclose(ratios, 2.0, rtol=0.1)


def rounded(value: NDArray[Any], scale: Any, bits: int) -> NDArray[Any]:
    steps = np.rint(np.minimum(np.abs(value) / scale, 1) * (2**bits - 1))
    return np.asarray(np.sign(value) * scale * steps / (2**bits - 1))


def test_levels_agree_with_numpy() -> None:
    one = layer(weight_bits=3, activation_bits=4, output_bits=5, bias=False).double()
    x = vectors(7, 30).double()
    w, v = one.weight.detach().numpy(), x.numpy()
    w = rounded(w, np.abs(w).max(), 3)
    v = rounded(v, np.abs(v).max(axis=1, keepdims=True), 4)
    parts = {(s, t): np.maximum(s * v, 0) @ np.maximum(t * w, 0).T for s in (1, -1) for t in (1, -1)}
    full = np.max(list(parts.values()), axis=(0, 2))[:, None]
    expected = sum(s * t * rounded(part, full, 5) for (s, t), part in parts.items())
    np.testing.assert_allclose(one(x).detach().numpy(), expected, rtol=1e-12, atol=1e-12)


def test_a_table_of_levels_replaces_uniform_ones() -> None:
    one = layer(1, 1, levels=[0.0, 0.1, 0.7, 1.0], **EXACT)
    one.input_range.fill_(1.0)
    one.weight.data.fill_(1.0)
    one.bias.data.zero_()  # type: ignore[union-attr]
    shown = one(torch.tensor([[0.04], [0.06], [-0.38], [0.42], [0.9], [-7.0]]))
    expected = torch.tensor([[0.0], [0.1], [-0.1], [0.7], [1.0], [-1.0]])
    torch.testing.assert_close(shown.detach(), expected)


def test_the_table_of_levels_holds_for_weights_and_activations() -> None:
    table = np.array([0.0, 0.05, 0.3, 0.35, 0.8, 1.0])
    one, x = layer(bias=False, levels=table.tolist(), **EXACT).double(), vectors(7, 30).double()

    def nearest(value: NDArray[Any], scale: Any) -> NDArray[Any]:
        places = np.abs(np.abs(value / scale)[..., None] - table).argmin(-1)
        return np.asarray(np.sign(value) * scale * table[places])

    w, v = one.weight.detach().numpy(), x.numpy()
    expected = nearest(v, np.abs(v).max(axis=1, keepdims=True)) @ nearest(w, np.abs(w).max()).T
    # The table is stored in float32.
    np.testing.assert_allclose(one(x).detach().numpy(), expected, rtol=1e-6, atol=1e-6)


def test_the_four_products_are_non_negative_and_add_up() -> None:
    one, x = layer(bias=False, **EXACT), vectors(5, 30)
    parts = one.readings(x)
    assert parts.shape == (4, 5, 20)
    assert bool((parts >= 0).all())
    torch.testing.assert_close(parts.sum(0), x.abs() @ one.weight.detach().abs().T)
    torch.testing.assert_close(one.readout(parts), x @ one.weight.detach().T)


@pytest.mark.parametrize("photons", [3.0, 200.0])
def test_shot_noise_has_the_mean_and_the_variance_of_theory(photons: float) -> None:
    one, x, n = layer(bias=False, photons=photons, **EXACT).double(), vectors(1, 30).double(), 20_000
    torch.manual_seed(2)
    with torch.no_grad():
        y = one(x.expand(n, 30))
        light = (x.abs() @ one.weight.abs().T)[0]
        exact = (x @ one.weight.T)[0]
    variance = light * light.mean() / photons
    assert float(((y.mean(0) - exact) / (variance / n).sqrt()).abs().max()) < 4.5
    # The variance of a variance of nearly Gaussian numbers is 2/n; of few counts it is larger.
    np.testing.assert_allclose((y.var(0) / variance).numpy(), 1.0, atol=0.08)


@pytest.mark.parametrize("photons", [10.01, 17.3, 200.0, 5000.0])
def test_many_photons_are_poisson_distributed(photons: float, monkeypatch: pytest.MonkeyPatch) -> None:
    n = 1_000_000
    # A sample without chance: the normal variable at equal steps of probability.
    steps = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    monkeypatch.setattr(torch, "randn_like", lambda like: torch.special.ndtri(steps).expand(4, n).clone().view_as(like))
    one = layer(1, 1, bias=False, photons=photons, **EXACT).double()
    one.weight.data.fill_(1.0)
    counts = (one(torch.ones(n, 1, dtype=torch.float64)) * photons).detach().round().long().flatten()
    frequencies = torch.bincount(counts).double() / n
    k = torch.arange(len(frequencies), dtype=torch.float64)
    theory = torch.exp(k * np.log(photons) - photons - torch.lgamma(k + 1))
    assert float((frequencies - theory).abs().sum()) / 2 < 6e-4
    assert float(counts.double().mean()) == pytest.approx(photons, rel=1e-5)
    assert float(counts.double().var()) == pytest.approx(photons, rel=1e-3)


def test_autocast_does_not_round_the_light() -> None:
    one, x = layer(bias=False), vectors(4, 30)
    expected = one(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(one(x), expected)


def test_a_vector_gets_its_photons_whatever_else_is_in_the_batch() -> None:
    one = layer(photons=50.0, **EXACT).double()
    x = torch.stack((vectors(30), 100 * vectors(30, seed=1))).double()
    exact = x.abs() @ one.weight.detach().abs().T
    torch.manual_seed(3)
    counts = one.readings(x.expand(2000, 2, 30)).sum(0) * 50.0 / exact.mean(1)[:, None]
    np.testing.assert_allclose(counts.mean((0, 2)).numpy(), 50.0, rtol=0.01)
    torch.testing.assert_close(counts, counts.round(), rtol=0, atol=1e-6)


def test_a_seed_repeats_the_noise() -> None:
    one, x = layer(photons=20.0), vectors(4, 30)
    results = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        results.append(one(x))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_zeros_send_no_light_and_empty_batches_are_allowed() -> None:
    one = layer(photons=20.0, bias=False)
    assert not one(torch.zeros(3, 30)).any()
    assert one(torch.zeros(0, 30)).shape == (0, 20)


def test_gradients_are_those_of_the_exact_product() -> None:
    one, x = layer(photons=5.0), vectors(4, 30).requires_grad_()
    weights = vectors(4, 20, seed=9)
    (one(x) * weights).sum().backward()
    torch.testing.assert_close(x.grad, weights @ one.weight.detach())
    torch.testing.assert_close(one.weight.grad, weights.T @ x.detach())
    torch.testing.assert_close(one.bias.grad, weights.sum(0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_results_have_the_dtype_of_the_input(dtype: torch.dtype) -> None:
    assert layer(photons=5.0).to(dtype)(vectors(4, 30).to(dtype)).dtype == dtype


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"weight_bits": 0}, ValueError, "weight_bits is 0"),
        ({"activation_bits": 25}, ValueError, "activation_bits is 25"),
        ({"output_bits": 2.5}, TypeError, "output_bits is 2.5"),
        ({"photons": 0}, ValueError, "photons is 0"),
        ({"photons": "many"}, TypeError, "photons is 'many'"),
        ({"levels": [0.0, 1.0]}, ValueError, "levels replace bits"),
        ({"levels": [0.0, 0.6, 0.5, 1.0], **EXACT}, ValueError, "must increase from 0 to 1"),
        ({"levels": [0.1, 1.0], **EXACT}, ValueError, "must increase from 0 to 1"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        layer(**settings)


def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="in_features = 30"):
        layer()(vectors(4, 31))
