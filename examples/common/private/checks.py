"""Checks of private training: the bound against numerical divergences, the network against its assumptions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from common.checks import Checks
from common.fashion import data as fashion
from common.private import privacy
from common.private.network import CLIP, PrivateNetwork

Array = NDArray[np.float64]


def divergence(checks: Checks) -> None:
    """Compare one step of a layer of two inputs and one output, integrated numerically, with closed form and bound."""
    layer = privacy.NoisyLayer(rows=1, clip=CLIP, length=1.5, noise=0.4, floor=1.7)
    others = np.random.default_rng(0).normal(size=(3, 2))
    own = layer.length * np.array(
        [0.6, 0.8]
    )  # the longest input, the steepest slope, the largest error: the worst case
    for name, examples in (("alone", others[:0]), ("among three", others)):
        without = layer.noise**2 * examples.T @ examples + layer.floor**2 * np.eye(2)
        added = without + layer.noise**2 * np.outer(own, own)
        grid, weight = _plane(9 * np.sqrt(added.max() + added.trace()), 801)
        p, q = _normal(grid, layer.clip * own, added), _normal(grid, np.zeros(2), without)
        leverage = own @ np.linalg.solve(without, own)
        for order in (2, 5):
            for log_p, log_q, flip in ((p, q, False), (q, p, True)):
                integral = weight * np.exp(order * log_p + (1 - order) * log_q).sum()
                numerical = np.log(integral) / (order - 1)
                ratio = 1 + layer.noise**2 * float(leverage)
                exact = privacy.gaussian_divergence(
                    order, layer.clip**2 * float(leverage), *((1.0, ratio) if flip else (ratio, 1.0))
                )
                what = f"{'removing' if flip else 'adding'} an example {name}, order {order}: numerical divergence"
                checks.within(f"{what} over the closed form", numerical / exact, 1 - 1e-6, 1 + 1e-6)
                checks.within(
                    f"{what} over the bound", numerical / privacy.step_divergence(order, [layer]), 0, 1 + 1e-6
                )


def sampling(checks: Checks) -> None:
    """Compare the bound for sampled batches with the divergence of the mixture, integrated numerically, both ways."""
    layer = privacy.NoisyLayer(rows=1, clip=CLIP, length=1.0, noise=0.1, floor=1.0)
    rate = 0.05
    x, step = np.linspace(-14, 14, 20001, retstep=True)
    variance = 1 + layer.excess
    q = -(x**2) / 2 - np.log(2 * np.pi) / 2
    p = -((x - np.sqrt(layer.distance_square)) ** 2) / (2 * variance) - np.log(2 * np.pi * variance) / 2
    mixture = np.logaddexp(np.log(rate) + p, np.log1p(-rate) + q)
    for order in (2, 4, 8):
        bound = privacy.sampled_divergence(order, rate, lambda j: privacy.step_divergence(j, [layer]))
        largest = max(
            np.log(step * np.exp(order * one + (1 - order) * other).sum()) / (order - 1)
            for one, other in ((mixture, q), (q, mixture))
        )
        checks.within(
            f"sampled batches, order {order}: numerical divergence over the bound", largest / bound, 0, 1 + 1e-9
        )


def contributions(checks: Checks, widths: Sequence[int], data: fashion.Split, snr: float) -> None:
    """Compare the contribution of each real image to the sums with the norm that the bound assumes."""
    quiet = PrivateNetwork(widths, "odfa", 0.0, snr, clipped=True, seed=1)
    largest = 0.0
    for x, y in zip(data.train_x[:64].split(1), data.train_y[:64].split(1), strict=True):
        quiet.sums(3 * x, y)  # brighter than any image, to test the clipping
        norms = [float(weight.grad.norm()) / (CLIP * weight.shape[1] ** 0.5) for weight in quiet.weights]
        largest = max(largest, *norms)
    checks.within("largest contribution of 64 images to a layer, as a part of the limit", largest, 0.05, 1 + 1e-5)


def noise(checks: Checks, snr: float, repeats: int = 4000) -> None:
    """Compare the covariance of a row's sums, over repeated steps of a small network, with what the bound assumes."""
    network = PrivateNetwork((3, 4, 2), "odfa", 0.5, snr, clipped=True, seed=2)
    x, y = torch.randn(5, 3), torch.tensor([0, 1, 0, 1, 1])
    samples = []
    for _ in range(repeats):
        network.sums(x, y)
        samples.append(network.weights[0].grad[0].double().numpy().copy())
    with torch.no_grad():
        inputs: Any = network.model[0](x)
        slopes = 1 - torch.tanh(inputs @ network.weights[0].T)[:, 0] ** 2
    h, f, layer = inputs.double().numpy(), slopes.double().numpy(), network.layers[0]
    expected = layer.noise**2 * (h.T * f**2) @ h + layer.floor**2 * np.eye(3)
    # Whitened, the sample covariance has entries of deviation √(2/n) on its diagonal and √(1/n) beside it.
    inverse = np.linalg.inv(np.linalg.cholesky(expected))
    away = inverse @ np.cov(np.array(samples).T) @ inverse.T - np.eye(3)
    checks.within(
        "covariance of the noise: largest deviation from the formula", np.abs(away).max(), 0, 5 * (2 / repeats) ** 0.5
    )


def _plane(half: float, n: int) -> tuple[Array, float]:
    """Return points of a square grid, of shape (n², 2), and the area of each."""
    x, step = np.linspace(-half, half, n, retstep=True)
    return np.stack(np.meshgrid(x, x), axis=-1).reshape(-1, 2), float(step) ** 2


def _normal(x: Array, mean: Array, covariance: Array) -> Array:
    """Return the logarithm of a normal density at points."""
    away = x - mean
    quadratic = np.einsum("ni,ij,nj->n", away, np.linalg.inv(covariance), away)
    density: Array = -(quadratic + np.log(np.linalg.det(2 * np.pi * covariance))) / 2
    return density
