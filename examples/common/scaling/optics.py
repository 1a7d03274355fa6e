"""The time of a measured training step if an optical processing unit computed its projection."""

from __future__ import annotations

from typing import Any

from opuproj import hardware

from common.scaling.steps import Size

Result = dict[str, Any]
OPTICAL = "odfa, optical"


def cost(size: Size) -> hardware.Cost:
    """Return the cost of a step's projection on LightOn's device, four frames per ternary error."""
    vectors, n_inputs, n_outputs = size.projection
    return hardware.cost(vectors, n_inputs, n_outputs, mode="linear")


def with_optics(result: Result) -> Result:
    """Add a method to a size's results: ODFA's step with the device's time in place of its projection's.

    The host waits for the device. Moving data to it and back is not counted. The time to make the error ternary and to
    scale the result is omitted with the projection, because it is measured as part of it; it is small.
    """
    size = Size(result["family"], result["width"], result["layers"], result["batch"])
    measured, optical = result["methods"]["odfa"], cost(size).seconds
    rest = {part: measured[part] - measured["projection"] for part in ("backward", "step")}
    method = {**measured, **{part: seconds + optical for part, seconds in rest.items()}, "projection": optical}
    method.pop("ratio", None)  # a ratio of medians differs from the median of ratios
    return {**result, "methods": {**result["methods"], OPTICAL: method}}
