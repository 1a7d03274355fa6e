"""An optical reservoir: micromirrors show the camera's last image of speckle, which makes the next one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import opuproj
from numpy.typing import NDArray

Array = NDArray[np.float64]
# Full scale in mean intensities: e⁻⁵, under 1 %, of all pixels saturate.
CAMERA = opuproj.Camera(bits=8, full_scale=5.0)


def mackey_glass(n: int, *, delay: int = 17, seed: int = 0, steps: int = 10) -> Array:
    """Return n values, one per unit of time, of ẋ = 0.2 x(t−τ)/(1 + x(t−τ)¹⁰) − 0.1 x (Mackey and Glass, 1977).

    The series is chaotic for τ = 17. Heun's method integrates it from a random start and omits the first 1,000 units.

    Parameters
    ----------
    n
        The number of values.
    delay
        τ in units of time.
    seed
        Seed of the start.
    steps
        Integration steps per unit of time.
    """
    skipped, lag = 1000, delay * steps
    x = np.empty((n + skipped) * steps + lag + 1)
    x[: lag + 1] = 1.2 + 0.2 * (np.random.default_rng(seed).random(lag + 1) - 0.5)
    for t in range(lag, len(x) - 1):
        past, next_past = x[t - lag], x[t - lag + 1]
        slope = 0.2 * past / (1 + past**10) - 0.1 * x[t]
        guess = x[t] + slope / steps
        x[t + 1] = x[t] + (slope + 0.2 * next_past / (1 + next_past**10) - 0.1 * guess) / (2 * steps)
    series: Array = x[lag + 1 + skipped * steps :: steps][:n]
    return series


def thermometer(values: NDArray[Any], thresholds: NDArray[Any]) -> NDArray[np.int8]:
    """Return −1 and 1, of shape (…, n_thresholds): 1 if a value exceeds the threshold.

    Near values have near codes, as on a thermometer. The number of nonzeros is constant.
    """
    code: NDArray[np.int8] = np.where(values[..., None] > thresholds, 1, -1).astype(np.int8)
    return code


class OpticalReservoir:
    r"""x_{t+1} = camera(\|T [code(x_t), code(u_t)]\|²): recurrent, random, and never trained (Rafayelyan et al., 2020).

    Parameters
    ----------
    nodes
        Pixels of the camera that are fed back.
    levels
        Thresholds in the code of a node's intensity, at quantiles of the exponential distribution of speckle.
    input_pixels
        Thresholds in the code of the input, at equal distances over its range. Their number sets its share of light.
    input_range
        The least and the greatest input.
    seed
        Seed of the medium.
    device
        The device that projects.
    """

    def __init__(
        self,
        nodes: int,
        *,
        levels: int,
        input_pixels: int,
        input_range: tuple[float, float],
        seed: int,
        device: str = "cpu",
    ) -> None:
        self.nodes = nodes
        self.levels = -np.log1p(-np.arange(1, levels + 1) / (levels + 1))
        self.input_levels = np.linspace(*input_range, input_pixels + 2)[1:-1]
        self.operator = opuproj.Projector(
            nodes * levels + input_pixels,
            nodes,
            seed=seed,
            mode="intensity",
            camera=CAMERA,
            dtype=np.float64,
            device=device,
        )

    def run(
        self, inputs: NDArray[Any], start: NDArray[Any] | None = None, progress: Callable[[], object] = lambda: None
    ) -> Array:
        """Return the camera's images, of shape (times, nodes), in mean intensities; the default start is dark."""
        state = np.zeros(self.nodes) if start is None else start
        states = np.empty((len(inputs), self.nodes))
        codes = thermometer(inputs, self.input_levels)
        for t, code in enumerate(codes):
            light = np.concatenate([thermometer(state, self.levels).ravel(), code])
            states[t] = state = self.operator(light) / self.operator.n_inputs
            progress()
        return states
