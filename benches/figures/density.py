"""The time of a vector over its share of nonzeros: columns of zero inputs are not generated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tqdm import tqdm

from benches import inputs, machine
from benches.call import Call
from benches.figures.effort import Effort
from benches.figures.style import BLUE, GREY, ORANGE, legend_above, picture
from benches.setting import Setting
from benches.timing import alternate

NAME = "speed-density"
# Nonzeros per million.
DENSITIES = (10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
# Batch, inputs, outputs.
SHAPES = {"one vector, 10⁶ to 2·10⁴": (1, 1_000_000, 20_000), "256 vectors, 5·10⁴ to 5·10³": (256, 50_000, 5_000)}
LOOK = ((BLUE, "o-"), (ORANGE, "s-"))


def measure(effort: Effort) -> dict[str, Any]:
    """Each density in the same rounds as the dense projection."""
    at = Setting(machine.instruction_set(), machine.cores(), min(effort.call_seconds, 10.0), effort.budget)
    points = []
    for name, (batch, n_inputs, n_outputs) in SHAPES.items():
        dense = Call(at, inputs.dense(batch, n_inputs), n_outputs, "linear")
        for millionths in tqdm(effort.of(DENSITIES), unit="density", desc=f"{NAME}, {name}", disable=None):
            density = millionths / 1e6
            call = Call(at, inputs.sparse(batch, n_inputs, density), n_outputs, "linear")
            rounds = alternate({"call": call.run, "dense": dense.run}, budget=at.budget)
            points.append(
                {
                    "shape": name,
                    "density": density,
                    "seconds": rounds.median("call") * call.scale / batch,
                    "of_dense": rounds.ratio("call", "dense") * call.scale / dense.scale,
                }
            )
    return {"threads": at.threads, "points": points}


def draw(document: dict[str, Any], path: Path) -> None:
    """Draw the time relative to the dense one, and the share of nonzeros."""
    with picture(path, 1, "Cost over density", document["machine"]) as (figure, panels):
        axes = panels[0]
        for name, (colour, line) in zip(SHAPES, LOOK, strict=True):
            points = [point for point in document["points"] if point["shape"] == name]
            axes.plot([p["density"] for p in points], [p["of_dense"] for p in points], line, color=colour, label=name)
        span = [min(p["density"] for p in document["points"]), 1]
        axes.plot(span, span, "--", color=GREY, label="in proportion to the nonzeros")
        axes.set(xscale="log", yscale="log", xlabel="share of nonzeros", ylabel="time, dense = 1")
        legend_above(figure, axes, columns=2)
