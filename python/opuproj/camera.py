"""The camera behind the scattering medium: how it turns an intensity into a reading."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from . import _check
from ._check import Mode

MAX_BITS = 16
MAX_FRAMES = 2**12
# Beyond these limits, float64 does not have enough range or precision.
LOW, HIGH = 1e-12, 1e15
MAX_ANCHORS = 64


@dataclass(frozen=True, kw_only=True)
class Camera:
    r"""A camera that reads intensities \|Tx\|² as a real one does: photons, electronics, saturation, quantization.

    Let I be a pixel's intensity divided by the mean intensity for which the exposure is set. (The mean of \|Tx\|² over
    pixels is the number of lit inputs.) Each exposure reads the pixel in these steps:

    1. shot noise: a Poisson number of mean ``photons`` · I, over ``photons``;
    2. read noise: plus a Gaussian number of standard deviation ``read_noise``;
    3. saturation: clipped to the range from 0 to ``full_scale``;
    4. quantization: rounded to the nearest of 2\ :sup:`bits` levels from 0 to ``full_scale``;
    5. averaging: the mean over ``frames`` such readings, converted back to the units of \|Tx\|².

    Mode ``"intensity"`` returns that reading. Mode ``"linear"`` takes four exposures of each ternary x = p - q: of the
    inputs p, q, p + a and q + a, where the anchor a lights pixels that no data uses. It returns the linear projection
    recovered from them [1]_. Mode ``"complex"`` takes two exposures without an anchor and two with each of ``anchors``
    anchors, and returns the least-squares solution for the field (the multilateration of [2]_). The anchors' own fields
    are taken as exactly calibrated.

    Parameters
    ----------
    bits : int or None, default 8
        The bits of a reading, 1 to 16. None does not quantize. LightOn's devices had 8.
    full_scale : float, default 5.0
        The intensity at which a pixel saturates, relative to the mean for which the exposure is set. Intensities of
        speckle are exponentially distributed, so at that mean a fraction exp(-full_scale) of the pixels saturates.
        ``math.inf`` never saturates, and needs ``bits=None``.
    exposure : float, optional
        The mean intensity for which the exposure is set, in the units of \|Tx\|²: a number of lit inputs. By default
        the exposure is automatic, as on the device: for each vector, it is the number of lit inputs, anchor included,
        of the vector's brightest frame. So results do not depend on the other vectors of a batch.
    photons : float, default math.inf
        Photons that a pixel detects in one frame at the intensity for which the exposure is set. ``math.inf`` means no
        shot noise.
    read_noise : float, default 0.0
        Standard deviation of the electronics' noise, relative to the intensity for which the exposure is set. It is a
        sensor's read noise in electrons divided by ``photons``.
    frames : int, default 1
        The number of readings, each with its own noise, that are averaged: at most 4096. The cost in frames grows by
        this factor.
    dark_floor : float, default 0.0
        Recovery returns 0 for pixels where the anchor's intensity is below this fraction of its mean. Recovery divides
        by the anchor's field, so the noise of dark pixels would dominate. In mode ``"linear"`` this loses a fraction
        1 - exp(-dark_floor) of the pixels. In mode ``"complex"`` the floor applies to the weaker of the two directions
        that the anchors together light, relative to its mean: a floor of 0.03 loses 30 % of the pixels with 2 anchors,
        9 % with 3, 0.7 % with 5 and none with 10.
    anchors : int, default 3
        The number of anchors in mode ``"complex"``, from 2 to 64. Each lights ``n_anchor`` inputs of the operator.

    Raises
    ------
    ValueError, TypeError
        If a field is out of range or of the wrong type. The message names it.

    Notes
    -----
    The noise is a function of (noise seed, frame, row). It depends neither on threads nor on which rows are computed
    together. Each call has new noise unless it has a ``noise_seed``.

    An anchor about as bright as the data works best: choose ``n_anchor`` near the number of nonzeros of x, or near half
    of it for ternary x, because p and q have half of the nonzeros each.

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
            raise ValueError(
                f"full_scale is inf, but must be finite for readings of {self.bits} bits; or pass bits=None"
            )
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def __setstate__(self, state: dict[str, Any]) -> None:
        type(self).__init__(self, **state)  # checks a pickled camera like a new one

    @classmethod
    def ideal(cls) -> Camera:
        """Return a camera without imperfections. Every mode returns the same bits with it as without a camera."""
        return cls(bits=None, full_scale=math.inf)

    @classmethod
    def lighton(cls, **changes: Any) -> Camera:
        """Return a camera like that of LightOn's largest device, of 2048 × 1088 pixels at 340 frames a second.

        The device returned 8 bits. Its sensor is not published. The CMV2000 has the same format and frame rate, and its
        data sheet (v2.13, 2014) gives a full well of 13,500 electrons and a read noise of 13. With the full scale at
        five times the mean intensity, that is 2,700 detected photons and a read noise of 0.0048 at the mean. Linear
        recovery loses 3 % of the pixels as too dark. For mode ``"complex"``, set ``anchors`` to 5 or more.

        Parameters
        ----------
        **changes
            Fields to change.
        """
        fields: dict[str, Any] = {"bits": 8, "full_scale": 5.0, "photons": 2700.0, "read_noise": 13 / 2700}
        return cls(**{**fields, "dark_floor": 0.03, **changes})

    @property
    def is_ideal(self) -> bool:
        """Whether the readings are the exact intensities."""
        unlimited = self.bits is None and self.full_scale == math.inf
        return unlimited and self.photons == math.inf and self.read_noise == 0 and self.dark_floor == 0

    def exposures(self, mode: _check.Mode) -> int:
        """Return the number of exposures of a vector in a mode. Each exposure takes ``frames`` frames.

        It is 1 for ``"intensity"``, 4 for ``"linear"``, and 2 (1 + anchors) for ``"complex"``.

        Raises
        ------
        ValueError
            If the mode is ``"real"``, which exists in software only, or not a mode.
        """
        if _check.mode(mode) == "real":
            raise ValueError(
                "mode is 'real', which exists in software only: for the linear projection that can be recovered from a "
                "camera's readings, use mode 'linear'"
            )
        return {"intensity": 1, "linear": 4, "complex": 2 * (1 + self.anchors)}[mode]


def imperfect(camera: Camera | None) -> bool:
    """Whether a camera changes results: it is neither None nor ideal."""
    return camera is not None and not camera.is_ideal


def refuse_digits(mode: Mode, camera: Camera | None, what: str = "digits", given: str = "mode is 'intensity'") -> None:
    """Raise ValueError if a camera would measure intensities of digits; `given` names the argument that causes it."""
    if mode == "intensity" and imperfect(camera):
        raise ValueError(
            f"{given}, but a camera sees {what} one after the other, not the intensity of their sum: "
            "use mode 'linear' or 'complex', or no camera"
        )


def checked_camera(camera: Any) -> Camera | None:
    """Return a camera or None, or raise TypeError for anything else."""
    if camera is not None and not isinstance(camera, Camera):
        raise TypeError(f"camera is {camera!r}, but must be an opuproj.Camera, or None")
    return camera
