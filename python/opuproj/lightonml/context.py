"""Metadata of results: how and when they were measured."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .internal.types import FeaturesFormat

Pair = tuple[int, int]
Roi = tuple[Pair, Pair]


class Context:
    """Metadata of a transform, as a device reports them.

    Parameters
    ----------
    frametime, exposure : int, optional
        How long an input is shown, and the camera's exposure (µs).
    output_roi, input_roi : (offset, size), optional
        The regions of the output device that is read and of the input device that is lit, as pairs of pairs of pixels.
    start, end : datetime, optional
        The start and the end of the transform. The transform of a single vector has no end.
    gain : float, optional
        The camera's gain (dB).
    n_ones : int, optional
        The average number of lit pixels. A simulated device does not count them.
    fmt_type : FeaturesFormat, optional
        The layout of features on the input device.
    fmt_factor : int, optional
        The number of pixels of each feature.

    Attributes
    ----------
    frametime_us, exposure_us, output_roi_upper, output_roi_shape, input_roi_upper, input_roi_shape, start, end, gain, \
n_ones, fmt_type, fmt_factor
        As above.
    info : object
        The argument of :meth:`add_info`.
    """

    # Contexts are mutable, so they have no hash.
    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self,
        frametime: int | None = None,
        exposure: int | None = None,
        output_roi: Roi | None = None,
        start: dt.datetime | None = None,
        end: dt.datetime | None = None,
        gain: float | None = None,
        input_roi: Roi | None = None,
        n_ones: int | None = None,
        fmt_type: FeaturesFormat | None = None,
        fmt_factor: int | None = None,
    ) -> None:
        self.info: Any = None
        self.exposure_us = exposure
        self.frametime_us = frametime
        self.output_roi_upper, self.output_roi_shape = _ends(output_roi)
        self.input_roi_upper, self.input_roi_shape = _ends(input_roi)
        self.start = start
        self.end = end
        self.gain = gain
        self.n_ones = n_ones
        self.fmt_type = fmt_type
        self.fmt_factor = fmt_factor

    def from_opu(self, opu: Any, start: dt.datetime, end: dt.datetime | None = None) -> None:
        """Copy times, gain and region from a device; set the start and the end of the transform."""
        self.frametime_us = opu.frametime_us
        self.exposure_us = opu.exposure_us
        self.output_roi_upper, self.output_roi_shape = opu.output_roi
        self.gain = opu.gain_dB
        self.start = start
        self.end = end

    @staticmethod
    def from_timestamps(start: dt.datetime | float, end: dt.datetime | float | None = None) -> Context:
        """Return a context with only the times, given as datetimes or seconds since 1970."""
        nowhere = ((-1, -1), (-1, -1))
        return Context(-1, -1, nowhere, _time("start", start), None if end is None else _time("end", end))

    @staticmethod
    def from_dict(d: dict[str, Any]) -> Context:
        """Return the context of a dict from :meth:`as_dict` or :meth:`as_flat_dict`."""
        context = Context(
            d["frametime_us"],
            d["exposure_us"],
            d.get("output_roi") or d.get("ROI") or _flat_roi(d, "output_roi") or _flat_roi(d, "roi"),
            d["start"],
            d.get("end"),
            d.get("gain_dB", d.get("gain_db")),
            d.get("input_roi") or _flat_roi(d, "input_roi"),
            d.get("n_ones"),
            FeaturesFormat[d["fmt_type"]] if "fmt_type" in d else None,
            d.get("fmt_factor"),
        )
        context.add_info(d.get("info"))
        return context

    def add_info(self, info: object) -> None:
        """Set the attribute `info` to any object."""
        self.info = info

    def as_dict(self) -> dict[str, Any]:
        """Return the known values by name, with regions as pairs of pairs."""
        known: dict[str, Any] = {
            "exposure_us": self.exposure_us,
            "frametime_us": self.frametime_us,
            "output_roi": (self.output_roi_upper, self.output_roi_shape),
            "start": self.start,
        }
        optional = {
            "gain_dB": self.gain,
            "info": self.info,
            "end": self.end,
            "input_roi": None if self.input_roi_upper is None else (self.input_roi_upper, self.input_roi_shape),
            "n_ones": self.n_ones,
            "fmt_type": self.fmt_type and self.fmt_type.name,
            "fmt_factor": self.fmt_factor,
        }
        known.update((name, value) for name, value in optional.items() if value is not None)
        return known

    def as_flat_dict(self) -> dict[str, Any]:
        """Return the known values by name, with four numbers for each region, for tables."""
        flat = self.as_dict()
        for name in ("output_roi", "input_roi"):
            roi = flat.pop(name, None)
            if roi is not None and roi[0] is not None:
                for what, pair in zip(("position", "shape"), roi, strict=True):
                    flat[f"{name}_{what}_0"], flat[f"{name}_{what}_1"] = pair
        return flat

    def __str__(self) -> str:
        return str(self.as_dict())

    def __eq__(self, other: object) -> bool:
        return self.__dict__ == other.__dict__ if isinstance(other, Context) else NotImplemented


class ContextArray(np.ndarray[Any, np.dtype[Any]]):
    """An array with an attribute ``context``, which slices and results of arithmetic keep.

    Parameters
    ----------
    input_array : ndarray
        The array, whose memory is shared.
    context : Context
    """

    context: Context | None

    def __new__(cls, input_array: NDArray[Any], context: Context) -> ContextArray:  # noqa: D102
        array = np.asarray(input_array).view(cls)
        array.context = context
        return array

    def __array_finalize__(self, obj: object) -> None:
        self.context = getattr(obj, "context", None)

    def __reduce__(self) -> tuple[Any, ...]:
        made: tuple[Any, ...] = tuple(super().__reduce__())
        return made[0], made[1], (self.context, made[2])

    def __setstate__(self, state: Any) -> None:
        self.context, array_state = state
        super().__setstate__(array_state)


def _ends(roi: Roi | None) -> tuple[Pair | None, Pair | None]:
    return (None, None) if roi is None else roi


def _time(name: str, value: Any) -> dt.datetime:
    if isinstance(value, dt.datetime):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return dt.datetime.fromtimestamp(value)
    raise ValueError(f"{name} is {value!r}, but must be a datetime, or seconds since 1970")


def _flat_roi(d: dict[str, Any], name: str) -> Roi | None:
    if f"{name}_position_0" not in d:
        return None
    return (
        (d[f"{name}_position_0"], d[f"{name}_position_1"]),
        (d[f"{name}_shape_0"], d[f"{name}_shape_1"]),
    )
