"""What a measured training step would take if an optical processing unit did its projection."""

from __future__ import annotations

from typing import Any

from opuproj import hardware

from common.scaling.steps import Size

Result = dict[str, Any]
OPTICAL = "odfa, optical"


def cost(size: Size) -> hardware.Cost:
    """Return what the projection of a step costs on LightOn's device: four frames for each ternary error."""
    vectors, n_inputs, n_outputs = size.projection
    return hardware.cost(vectors, n_inputs, n_outputs, mode="linear")


def with_optics(result: Result) -> Result:
    """Add a method to a size's results: ODFA's step without its projection, and the device's time in its place.

    The device works while the host waits, and moving data to it and back is not counted. Making the error ternary and
    scaling the result goes with the projection that is taken out: it is little, and measured as a part of it.
    """
    size = Size(result["family"], result["width"], result["layers"], result["batch"])
    measured, optical = result["methods"]["odfa"], cost(size).seconds
    rest = {part: measured[part] - measured["projection"] for part in ("backward", "step")}
    method = {**measured, **{part: seconds + optical for part, seconds in rest.items()}, "projection": optical}
    method.pop("ratio", None)  # of medians it would be another number than of the rounds
    return {**result, "methods": {**result["methods"], OPTICAL: method}}
