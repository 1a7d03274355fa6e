"""Rényi differential privacy of training with noise on random projections of the error.

The mechanism (photonic training: Ohana et al., "Photonic differential privacy with direct feedback alignment", NeurIPS
2021). A step sums the contributions of a batch's examples to the weights of a layer,

    G = Σᵢ ((pᵢ + gᵢ) ⊙ φ′(zᵢ)) hᵢᵀ,   ‖pᵢ‖ ≤ c,  ‖hᵢ‖ ≤ l,  0 ≤ φ′ ≤ 1,  gᵢ ~ N(0, σ²) for each row,

where pᵢ is the clipped projection of the error, gᵢ the noise of its detection and hᵢ the input of the layer. The noise
of a row of G has the covariance σ² Σᵢ φ′ᵢ² hᵢhᵢᵀ. It depends on the data, and is singular if a batch has fewer examples
than the layer has inputs: an example whose h points in another direction changes a place without noise. So every batch
also has dark frames: public examples of zero error, one for each input j with h = (ϱ/σ) eⱼ, whose projections are noise
alone. They add ϱ² 1 to the covariance, and nothing to the mean.

The bound (derived here; it is not a theorem of that paper). Adding an example changes row k from N(m, C) to N(m + a h,
C + b² hhᵀ) with a = φ′ₖ pₖ, b = φ′ₖ σ. Whitened, that is one Gaussian number: N(a √s, 1 + b² s) against N(0, 1), with
s = hᵀ C⁻¹ h ≤ l²/ϱ². A smaller s or φ′ is the same pair with independent noise added to both sides, which does not
increase a divergence (data processing). So the worst case is φ′ = 1, s = l²/ϱ². Because the square of a matters,
Σₖ aₖ² = c². Rows and layers have independent noise, and their divergences add up. Sampling, composition and
conversion are theorems, cited where they are used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

ORDERS = (*range(2, 64), 80, 96, 128, 192, 256)


@dataclass(frozen=True)
class NoisyLayer:
    """The parameters that determine the privacy of one layer.

    Attributes
    ----------
    rows
        The number of its outputs.
    clip
        c, the largest norm of an example's projected error.
    length
        l, the largest norm of its input.
    noise
        σ, the standard deviation of the noise on each projection.
    floor
        ϱ, the standard deviation of the noise that dark frames add to each weight's sum.
    """

    rows: int
    clip: float
    length: float
    noise: float
    floor: float

    @property
    def distance_square(self) -> float:
        """Squared distance of the means, in units of the floor: (c l/ϱ)²."""
        return (self.clip * self.length / self.floor) ** 2

    @property
    def excess(self) -> float:
        """The variance added by an example's own noise, in the same units: (σ l/ϱ)²."""
        return (self.noise * self.length / self.floor) ** 2


def gaussian_divergence(order: float, distance_square: float, variance_p: float, variance_q: float) -> float:
    """Return the Rényi divergence of N(μ, variance_p) from N(0, variance_q), with μ² = `distance_square`.

    It is infinite if the integral diverges. (Gil, Alajaji and Linder, Information Sciences 249, 2013.)
    """
    mixed = order * variance_q + (1 - order) * variance_p
    if mixed <= 0:
        return math.inf
    widths = math.log(variance_q / variance_p) / 2 + math.log(variance_q / mixed) / (2 * (order - 1))
    return widths + order * distance_square / (2 * mixed)


def step_divergence(order: float, layers: Sequence[NoisyLayer]) -> float:
    """Return the bound above for one step on a fixed batch: the larger of adding and of removing an example."""
    both = []
    for added in (True, False):
        total = 0.0
        for layer in layers:
            p, q = (1 + layer.excess, 1.0) if added else (1.0, 1 + layer.excess)
            total += gaussian_divergence(order, layer.distance_square, p, q)
            total += (layer.rows - 1) * gaussian_divergence(order, 0.0, p, q)
        both.append(total)
    return max(both)


def sampled_divergence(order: int, rate: float, divergence: Callable[[int], float]) -> float:
    """Return a bound on the divergence when every example is in the batch with probability `rate`, independently.

    The general upper bound of Zhu and Wang, "Poisson subsampled Rényi differential privacy", ICML 2019, for any
    mechanism.

    Parameters
    ----------
    order
        An integer, at least 2.
    rate
        From 0 to 1.
    divergence
        The divergence of the mechanism on a fixed batch, for integer orders.
    """
    whole = divergence(order)
    if rate == 1 or math.isinf(whole):
        return whole
    rest = 1 - rate
    logs = [(order - 1) * math.log(rest) + math.log(order * rate + rest)]
    for j in range(2, order + 1):
        choose = math.lgamma(order + 1) - math.lgamma(j + 1) - math.lgamma(order - j + 1)
        exponent = (j - 1) * divergence(j) + choose + j * math.log(rate) + (order - j) * math.log(rest)
        logs.append(exponent + (math.log(3) if j > 2 else 0.0))
    largest = max(logs)
    total = largest + math.log(math.fsum(math.exp(value - largest) for value in logs))
    return min(whole, total / (order - 1))


def epsilon(layers: Sequence[NoisyLayer], *, rate: float, steps: int, delta: float) -> tuple[float, int]:
    """Return ε of (ε, δ)-differential privacy of a whole training, and its order.

    Divergences of the steps add up (Mironov, "Rényi differential privacy", CSF 2017, Proposition 1). An
    optimizer's use of the sums is post-processing. ε follows by Canonne, Kamath and Steinke, "The discrete Gaussian
    for differential privacy", NeurIPS 2020, Proposition 12, for the best of ORDERS.
    """
    known: dict[int, float] = {}

    def divergence(order: int) -> float:
        if order not in known:
            known[order] = step_divergence(order, layers)
        return known[order]

    best = math.inf, 0
    for order in ORDERS:
        spent = steps * sampled_divergence(order, rate, divergence)
        slack = math.log(1 / delta) + (order - 1) * math.log1p(-1 / order) - math.log(order)
        best = min(best, (spent + slack / (order - 1), order))
    return best
