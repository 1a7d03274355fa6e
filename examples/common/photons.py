"""Shot noise of a linear projection recovered from intensities: simulation, theory, and the energy of the light.

x = p − q has d/2 ones and d/2 minus ones, and the anchor uses a = d/2 inputs. The four frames switch on d/2, d/2, d and
d inputs, so their total mean intensity is 3d. Let the camera detect P photons per pixel at an intensity of d. Then an
output y = Re(conj(r)·Tx)·√2/|r|, of variance d, has noise of variance (d/P)(1 + 2/u), where the anchor's intensity is
u times its mean. u is exponentially distributed, and outputs with u < f are discarded. The others have

    relative error² = (1 + 2 eᶠ E₁(f)) / P,    photons per output N = 3 eᶠ P,

with the exponential integral E₁. N includes the light on discarded outputs. Neither formula depends on d.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import opuproj
from numpy.typing import NDArray
from opuproj import Camera, hardware
from scipy.constants import c, h
from scipy.special import exp1

DARK_FLOOR = 0.1
FRAMES_LIGHT = 3.0  # the mean intensity of the four frames together, over d
SEED = 1


def error(photons: float) -> float:
    """Return the theoretical relative error with N photons per output."""
    per_pixel = photons * math.exp(-DARK_FLOOR) / FRAMES_LIGHT
    return math.sqrt((1 + 2 * math.exp(DARK_FLOOR) * float(exp1(DARK_FLOOR))) / per_pixel)


def needed(target: float) -> float:
    """Return the theoretical number of photons per output for a relative error."""
    return error(1.0) ** 2 / target**2


def vectors(n: int, size: int) -> NDArray[np.int8]:
    """Return vectors with equal numbers of ones and minus ones, in random order, of shape (n, size)."""
    half = np.repeat(np.array([1, -1], dtype=np.int8), size // 2)
    return np.random.default_rng(size).permuted(np.tile(half, (n, 1)), axis=1)


def measured_errors(size: int, photons: list[float], n: int, n_outputs: int, device: str = "cpu") -> list[float]:
    """Return the relative error of dot products of a size, for every number of photons per output, by simulation."""
    x = opuproj.pack(vectors(n, size))
    settings: dict[str, Any] = {"seed": SEED, "mode": "linear", "n_anchor": size // 2, "dtype": np.float64}
    settings["device"] = device
    exact = opuproj.project(x, n_outputs, **settings)
    dark = Camera(bits=None, full_scale=1e9, dark_floor=DARK_FLOOR)
    # All vectors share an anchor, so a discarded output is 0 for all of them.
    kept = opuproj.project(x, n_outputs, camera=dark, noise_seed=0, **settings).any(axis=0)
    errors = []
    for k, number in enumerate(photons):
        per_pixel = number * kept.mean() / FRAMES_LIGHT
        camera = Camera(bits=None, full_scale=1e9, photons=per_pixel, dark_floor=DARK_FLOOR)
        seen = opuproj.project(x, n_outputs, camera=camera, noise_seed=k, **settings)
        away = (seen - exact)[:, kept]
        errors.append(float(np.sqrt((away**2).mean() / (exact[:, kept] ** 2).mean())))
    return errors


def light_energy(photons: float, wavelength: float, efficiency: float) -> float:
    """Return the energy (J) of the light of which so many photons are detected; wavelength in metres."""
    return photons * h * c / wavelength / efficiency


def device_energy(size: int) -> float:
    """Return the energy (J) of LightOn's device per multiply-accumulate of a linear projection to all its outputs."""
    n_outputs = max(row.max_outputs for row in hardware.LIGHTON.rows)
    # The smallest anchor, which leaves most inputs to the data.
    return hardware.cost(1, size, n_outputs, mode="linear", n_anchor=1).joules / (size * n_outputs)
