"""The cost of projections on an optical processing unit: frames, seconds and joules.

    from opuproj import hardware
    print(hardware.cost(64, 10_000, 300_000, mode="linear"))    # 256 frames at 1900 Hz: 135 ms, 4.04 J

Every frame takes the same time and energy, so the number of frames determines the cost. The figures come from a
published table of LightOn's device, :data:`LIGHTON`. They are not measurements of ours, and they do not include the
time to load frames into the device and results out of it.

Examples
--------
>>> from opuproj import Camera, hardware
>>> one = hardware.cost(1, 1_000_000, 2048 * 1088)
>>> print(one)
1 frame at 340 Hz: 2.94 ms, 88.2 mJ
>>> print(f"{one.operations * one.rate:.1e} multiply-adds a second")
1.5e+15 multiply-adds a second
>>> hardware.frames("complex", Camera(anchors=5, frames=2), n_vectors=10)
240
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from . import _check
from ._check import Mode
from .camera import Camera, checked_camera

__all__ = ["LIGHTON", "Cost", "Generation", "Setting", "cost", "frames", "rate"]

_PLANES_LIMIT = 64
_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))


class Setting(NamedTuple):
    """A frame rate, and the largest sizes at which the device reaches it."""

    rate: float
    """Frames a second (Hz)."""
    max_inputs: int
    """Mirrors of the modulator that are in use."""
    max_outputs: int
    """Pixels of the camera that are read."""


@dataclass(frozen=True)
class Generation:
    """A device: its frame rates for each size, and its power.

    Parameters
    ----------
    name : str
        The device's name in messages.
    rows : sequence of (rate, max_inputs, max_outputs)
        Frames a second (Hz), and the largest numbers of inputs and outputs at this rate.
    watts : float
        Electrical power of the whole device while it runs (W).
    source : str
        The source of the figures.

    Raises
    ------
    ValueError, TypeError
        If a field is out of range or of the wrong type. The message names it.
    """

    name: str
    rows: tuple[Setting, ...]
    watts: float
    source: str

    def __post_init__(self) -> None:
        for name, text in (("name", self.name), ("source", self.source)):
            if not isinstance(text, str):
                raise TypeError(f"{name} is {text!r}, but must be a string")
        if not isinstance(self.rows, (list, tuple)) or not self.rows:
            raise ValueError(f"rows is {self.rows!r}, but must hold at least one (rate, max_inputs, max_outputs)")
        settings = []
        for i, row in enumerate(self.rows):
            if not isinstance(row, (list, tuple)) or len(row) != 3:
                raise ValueError(f"rows[{i}] is {row!r}, but must be (rate, max_inputs, max_outputs)")
            settings.append(
                Setting(
                    _check.real(f"rows[{i}].rate", row[0], above=0.0),
                    _check.size(f"rows[{i}].max_inputs", row[1]),
                    _check.size(f"rows[{i}].max_outputs", row[2]),
                )
            )
        object.__setattr__(self, "rows", tuple(settings))
        object.__setattr__(self, "watts", _check.real("watts", self.watts))

    @property
    def max_inputs(self) -> int:
        """The largest number of inputs that the device can show at once."""
        return max(row.max_inputs for row in self.rows)

    def setting(self, n_inputs: int, n_outputs: int) -> tuple[Setting, int]:
        """Return the setting with the fewest passes (the fastest if there are several), and the number of passes.

        If there are more outputs than any setting reads, several passes each read another part of the speckle. They
        have the same inputs and, as nearly as possible, the same number of outputs. Moving the camera is not counted.

        Raises
        ------
        ValueError
            If `n_inputs` is more than the device can show at once, or an argument is less than 1.
        TypeError
            If an argument is not an integer.
        """
        n_inputs, n_outputs = _check.size("n_inputs", n_inputs), _check.size("n_outputs", n_outputs)
        if n_inputs > self.max_inputs:
            raise ValueError(
                f"n_inputs is {n_inputs}, but must be at most {self.max_inputs}, the most that the {self.name} can "
                "show at once: in modes 'linear' and 'complex', project parts of the vectors and add the results"
            )
        rows = [row for row in self.rows if row.max_inputs >= n_inputs]
        passes = -(-n_outputs // max(row.max_outputs for row in rows))
        read = -(-n_outputs // passes)
        return max((row for row in rows if row.max_outputs >= read), key=lambda row: row.rate), passes


LIGHTON = Generation(
    name="LightOn OPU",
    rows=(
        Setting(8000.0, 145_000, 81_000),
        Setting(6300.0, 290_000, 81_000),
        Setting(3800.0, 583_000, 163_000),
        Setting(1900.0, 1140 * 912, 326_000),
        Setting(1000.0, 1140 * 912, 600_000),
        Setting(340.0, 1140 * 912, 2048 * 1088),
    ),
    watts=30.0,
    source="https://github.com/joneswack/opu-kernel-experiments",
)
"""LightOn's device, with a micromirror array of 1140 × 912 and a camera of 2048 × 1088 pixels of 8 bits.

Rates, sizes and power come from the table in github.com/joneswack/opu-kernel-experiments, which rounds the full array
to 1M inputs and the full camera to 2M outputs. Beyond 2.5 kHz, exposures must be shorter than the usual 400 µs.
"""


@dataclass(frozen=True)
class Cost:
    """The cost of projections on a device. Costs can be added: ``a + b``, ``sum(costs)``.

    Attributes
    ----------
    frames : int
        Frames shown and read.
    seconds : float
        The time these frames take (s).
    joules : float
        The electrical energy of the whole device in this time (J).
    rate : float
        Frames a second (Hz); for a sum of costs, the average.
    operations : int
        Real multiply-adds that light carries out: two for each entry of T and frame, because an entry has a real and an
        imaginary part. The 1500 TeraOPS of LightOn's paper [1]_ count these for full frames: 340 Hz × 2 · 10⁶ × 2048 ·
        1088. A processor needs fewer for the same results: a ternary linear projection takes four frames, so eight of
        these operations where a processor needs one multiply-add.

    References
    ----------
    .. [1] C. Brossollet et al., "LightOn Optical Processing Unit: scaling-up AI and HPC with a non von Neumann
       co-processor", arXiv:2107.11814, 2021.
    """

    frames: int
    seconds: float
    joules: float
    rate: float
    operations: int

    def __add__(self, other: object) -> Cost:
        if not isinstance(other, Cost):
            return NotImplemented
        n, seconds = self.frames + other.frames, self.seconds + other.seconds
        mean = n / seconds if n and self.rate != other.rate else self.rate
        return Cost(n, seconds, self.joules + other.joules, mean, self.operations + other.operations)

    def __radd__(self, other: object) -> Cost:
        # sum() begins with 0.
        return self if isinstance(other, int) and other == 0 else NotImplemented

    def __str__(self) -> str:
        counted = f"{self.frames:,} frame{'' if self.frames == 1 else 's'}"
        seconds, joules = format_quantity(self.seconds, "s"), format_quantity(self.joules, "J")
        return f"{counted} at {self.rate:.4g} Hz: {seconds}, {joules}"


def frames(mode: Mode, camera: Camera | None = None, planes: int = 1, n_vectors: int = 1) -> int:
    """Return the number of frames of projections.

    Parameters
    ----------
    mode : {"intensity", "linear", "complex"}
        As in :func:`opuproj.project`: 1, 4 or 2 (1 + anchors) exposures for each vector. ``"real"`` is refused,
        because it exists in software only.
    camera : Camera, optional
        Its anchors and repeated frames count; by default ``Camera()``.
    planes : int, default 1
        The number of ternary or binary vectors that represent one vector of floats: bit planes, or digits.
    n_vectors : int, default 1
        The number of vectors; 0 is allowed.

    Returns
    -------
    int

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type. The message names it.

    Examples
    --------
    >>> from opuproj import Camera, hardware
    >>> [hardware.frames(mode) for mode in ("intensity", "linear", "complex")]
    [1, 4, 8]
    >>> hardware.frames("linear", Camera(frames=3), planes=6, n_vectors=100)
    7200
    """
    mode, camera = _check.mode(mode), checked_camera(camera) or Camera()
    planes = _check.integer("planes", planes, 1, _PLANES_LIMIT)
    n_vectors = _check.integer("n_vectors", n_vectors, 0, _check.MAX_SIZE)
    return camera.exposures(mode) * camera.frames * planes * n_vectors


def rate(n_inputs: int, n_outputs: int, generation: Generation = LIGHTON) -> float:
    """Return the best frame rate (Hz) for given numbers of inputs and outputs.

    Outputs that exceed the largest camera take several such frames: see :meth:`Generation.setting`.

    Parameters
    ----------
    n_inputs, n_outputs : int
        Inputs shown at once, including an anchor's, and outputs read.
    generation : Generation, default LIGHTON
        The device.

    Returns
    -------
    float

    Raises
    ------
    ValueError, TypeError
        If there are more inputs than the device can show at once, or an argument is out of range or of the wrong type.

    Examples
    --------
    >>> from opuproj import hardware
    >>> hardware.rate(10_000, 10_000), hardware.rate(10_000, 200_000), hardware.rate(1_000_000, 5_000_000)
    (8000.0, 1900.0, 340.0)
    """
    return checked_generation(generation).setting(n_inputs, n_outputs)[0].rate


def cost(
    n_vectors: int,
    n_inputs: int,
    n_outputs: int,
    *,
    mode: Mode = "intensity",
    camera: Camera | None = None,
    planes: int = 1,
    n_anchor: int = 64,
    generation: Generation = LIGHTON,
) -> Cost:
    """Return the cost of projections on the hardware.

    Parameters
    ----------
    n_vectors : int
        The number of vectors; 0 is allowed.
    n_inputs, n_outputs : int
        The shape of the projection. Outputs that exceed the largest camera take several passes.
    mode : {"intensity", "linear", "complex"}, default "intensity"
        As in :func:`opuproj.project`. ``"real"`` is refused, because it exists in software only.
    camera : Camera, optional
        Its anchors and repeated frames count; by default ``Camera()``.
    planes : int, default 1
        As in :func:`frames`.
    n_anchor : int, default 64
        Pixels of an anchor, as in :func:`opuproj.project`. They take space on the device in addition to the data.
    generation : Generation, default LIGHTON
        The device.

    Returns
    -------
    Cost

    Raises
    ------
    ValueError
        If data and anchors have more inputs than the device can show at once, or an argument is out of range.
    TypeError
        If an argument is of the wrong type.

    Examples
    --------
    >>> from opuproj import hardware
    >>> training = 1000 * [hardware.cost(128, 10, 3072, mode="linear")]
    >>> print(sum(training))
    512,000 frames at 8000 Hz: 64 s, 1.92 kJ
    """
    generation = checked_generation(generation)
    shown = frames(mode, camera, planes, n_vectors)
    n_inputs, n_outputs = _check.size("n_inputs", n_inputs), _check.size("n_outputs", n_outputs)
    anchors = {"intensity": 0, "linear": 1, "complex": (camera or Camera()).anchors}[mode] * _check.n_anchor(n_anchor)
    generation.setting(n_inputs, n_outputs)  # raises if the data alone is too long
    if n_inputs + anchors > generation.max_inputs:
        raise ValueError(
            f"n_inputs is {n_inputs}, but must be at most {generation.max_inputs - anchors} in mode {mode!r}: anchors "
            f"take {anchors} of the {generation.max_inputs} inputs that the {generation.name} can show at once"
        )
    setting, passes = generation.setting(n_inputs + anchors, n_outputs)
    seconds = shown * passes / setting.rate
    operations = 2 * shown * n_inputs * n_outputs
    return Cost(shown * passes, seconds, generation.watts * seconds, setting.rate, operations)


def format_quantity(value: float, unit: str) -> str:
    """Format a quantity with three digits and a prefix; long times in minutes, hours or days."""
    for span, name in ((86400, "days"), (3600, "h"), (60, "min")):
        if unit == "s" and value >= 2 * span:
            return f"{value / span:,.1f} {name}"
    # From 0.9995 on, three digits round up to 1 of the larger prefix.
    size, prefix = next((p for p in _PREFIXES if value >= 0.9995 * p[0]), _PREFIXES[-1] if value else (1.0, ""))
    return f"{value / size:.3g} {prefix}{unit}"


def checked_generation(generation: object) -> Generation:
    """Return a device, or raise TypeError for anything else."""
    if not isinstance(generation, Generation):
        raise TypeError(f"generation is {generation!r}, but must be an opuproj.hardware.Generation")
    return generation
