"""The detector behind the scattering medium, and what it does to an intensity."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from . import _check
from ._check import Mode

MAX_BITS = 16
MAX_FRAMES = 2**12
# Beyond these, arithmetic in float64 has no room left.
LOW, HIGH = 1e-12, 1e15
MAX_ANCHORS = 64


@dataclass(frozen=True, kw_only=True)
class Camera:
    r"""A camera that reads intensities \|Tx\|² as a real one does: photons, electronics, saturation, quantization.

    Each exposure of a pixel goes this way, its intensity I being relative to what the exposure is set for (the mean of
    \|Tx\|² over pixels is the number of lit inputs):

    1. shot noise: a Poisson number of mean ``photons`` · I, over ``photons``;
    2. read noise: plus a Gaussian number of standard deviation ``read_noise``;
    3. saturation: cut off above ``full_scale``, and below 0;
    4. quantization: rounded to the nearest of 2\ :sup:`bits` levels from 0 to ``full_scale``;
    5. the mean over ``frames`` such readings, back in the units of \|Tx\|².

    Mode ``"intensity"`` returns that reading. Mode ``"linear"`` takes four exposures of each ternary x = p - q, of the
    inputs p, q, p + a and q + a with an anchor a beside the data, and returns what they give [1]_. Mode ``"complex"``
    takes two exposures without an anchor and two with each of ``anchors`` anchors, and returns the least-squares
    solution for the field (the multilateration of [2]_). The anchors' own fields count as calibrated: they are exact.

    Parameters
    ----------
    bits : int or None, default 8
        Of a reading, 1 to 16; None does not quantize. LightOn's devices gave 8.
    full_scale : float, default 5.0
        The intensity that saturates, relative to what the exposure is set for. Intensities of speckle are exponentially
        distributed, so a part exp(-full_scale) of the pixels saturates at the mean it is set for. ``math.inf`` never
        saturates, and needs ``bits=None``.
    exposure : float, optional
        The mean intensity that the exposure is set for, in the units of \|Tx\|²: a number of lit inputs. By default it
        is automatic, as on the device, and for each vector alone, so that results do not depend on the others of a
        batch: the lit inputs, anchor included, of the brightest of the vector's frames.
    photons : float, default math.inf
        Photons detected by a pixel in one frame at the intensity that the exposure is set for. ``math.inf`` has no shot
        noise.
    read_noise : float, default 0.0
        Standard deviation of the electronics' noise, relative to what the exposure is set for: a sensor's read noise in
        electrons over ``photons``.
    frames : int, default 1
        Readings that are averaged, each with noise of its own, at most 4096; they cost as many times the frames.
    dark_floor : float, default 0.0
        Where the anchor's intensity is below this part of its mean, recovery returns 0: it divides by the anchor's
        field, and the noise of dark pixels dominates otherwise. In mode ``"linear"`` a part 1 - exp(-dark_floor) of the
        pixels is lost. In mode ``"complex"`` it is the weaker of the two directions that the anchors together light
        that counts, relative to its mean: with a floor of 0.03, 30 % of the pixels are lost with 2 anchors, 9 % with
        3, 0.7 % with 5 and none with 10.
    anchors : int, default 3
        Anchors of mode ``"complex"``, from 2 to 64; each lights as many inputs as the operator's ``n_anchor``.

    Raises
    ------
    ValueError, TypeError
        If a field is out of range or of the wrong type, which the message names.

    Notes
    -----
    The noise is a function of (noise seed, frame, row): it depends neither on threads nor on which rows are computed
    together. It is fresh at each call unless that is given a ``noise_seed``.

    An anchor about as bright as the data serves best: choose ``n_anchor`` near the number of nonzeros of x, or one half
    of it for ternary x, whose p and q have half of them each.

    References
    ----------
    .. [1] R. Ohana, D. Hesslow, D. Brunner, S. Gigan and K. Müller, "Linear optical random projections without
       holography", Optics Express 31, 25881, 2023.
    .. [2] S. Gupta, R. Gribonval, L. Daudet and I. Dokmanić, "Fast optical system identification by numerical
       interferometry", ICASSP 2020, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> import opuproj
    >>> x = np.ones(64, dtype=np.int8)
    >>> exact = opuproj.project(x, 10_000)
    >>> seen = opuproj.project(x, 10_000, camera=opuproj.Camera(photons=100), noise_seed=1)
    >>> bool(0.98 < np.corrcoef(exact, seen)[0, 1] < 0.999)
    True
    >>> levels = opuproj.project(x, 10_000, camera=opuproj.Camera(full_scale=3), dtype=np.uint8)
    >>> bool(abs((levels == 255).mean() - np.exp(-3)) < 0.01)
    True
    """

    bits: int | None = 8
    full_scale: float = 5.0
    exposure: float | None = None
    photons: float = math.inf
    read_noise: float = 0.0
    frames: int = 1
    dark_floor: float = 0.0
    anchors: int = 3

    def __post_init__(self) -> None:
        checked = {
            "bits": None if self.bits is None else _check.integer("bits", self.bits, 1, MAX_BITS),
            "full_scale": _check.real("full_scale", self.full_scale, low=LOW, high=HIGH, infinite=True),
            "exposure": None if self.exposure is None else _check.real("exposure", self.exposure, low=LOW, high=HIGH),
            "photons": _check.real("photons", self.photons, low=LOW, high=HIGH, infinite=True),
            "read_noise": _check.real("read_noise", self.read_noise, high=HIGH),
            "frames": _check.integer("frames", self.frames, 1, MAX_FRAMES),
            "dark_floor": _check.real("dark_floor", self.dark_floor, high=HIGH),
            "anchors": _check.integer("anchors", self.anchors, 2, MAX_ANCHORS),
        }
        if self.bits is not None and math.isinf(self.full_scale):
            raise ValueError("full_scale is inf, but must be finite for readings of so many bits; or pass bits=None")
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def __setstate__(self, state: dict[str, Any]) -> None:
        type(self).__init__(self, **state)  # a pickled camera is checked as a new one is

    @classmethod
    def ideal(cls) -> Camera:
        """Return a camera without any imperfection: with it every mode gives, bit for bit, what no camera gives."""
        return cls(bits=None, full_scale=math.inf)

    @classmethod
    def lighton(cls, **changes: Any) -> Camera:
        """Return a camera like that of LightOn's largest device, of 2048 × 1088 pixels at 340 frames a second.

        8 bits are what the device returned. Its sensor is not published; the CMV2000 has that format and frame rate,
        and its data sheet (v2.13, 2014) gives a full well of 13,500 electrons and a read noise of 13. With the full
        scale at five times the mean intensity, that is 2,700 detected photons and a read noise of 0.0048 at the mean.
        3 % of the pixels count as too dark for linear recovery; give ``anchors`` of 5 or more for complex.

        Parameters
        ----------
        **changes
            Fields that differ.
        """
        fields: dict[str, Any] = {"bits": 8, "full_scale": 5.0, "photons": 2700.0, "read_noise": 13 / 2700}
        return cls(**{**fields, "dark_floor": 0.03, **changes})

    @property
    def is_ideal(self) -> bool:
        """Whether its readings are the intensities themselves."""
        unlimited = self.bits is None and self.full_scale == math.inf
        return unlimited and self.photons == math.inf and self.read_noise == 0 and self.dark_floor == 0

    def exposures(self, mode: _check.Mode) -> int:
        """Return how many exposures a vector takes in a mode, each of them of ``frames`` frames.

        They are 1 for ``"intensity"``, 4 for ``"linear"``, and 2 (1 + anchors) for ``"complex"``.
        """
        return {"intensity": 1, "linear": 4, "complex": 2 * (1 + self.anchors)}[_check.mode(mode)]


def imperfect(camera: Camera | None) -> bool:
    """Whether results differ from exact ones: there is a camera, and it is not ideal."""
    return camera is not None and not camera.is_ideal


def refuse_digits(mode: Mode, camera: Camera | None, what: str = "digits", given: str = "mode is 'intensity'") -> None:
    """Raise ValueError if a camera would see intensities of digits; `given` says which argument asks for them."""
    if mode == "intensity" and imperfect(camera):
        raise ValueError(
            f"{given}, but a camera sees {what} one after the other, and no intensity of their sum: "
            "use mode 'linear' or 'complex', or no camera"
        )


def checked_camera(camera: Any) -> Camera | None:
    """Return a camera or None, or raise TypeError for anything else."""
    if camera is not None and not isinstance(camera, Camera):
        raise TypeError(f"camera is {camera!r}, but must be an opuproj.Camera, or None")
    return camera
