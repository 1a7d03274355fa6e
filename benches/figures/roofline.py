"""Multiply-adds per second over the batch, with the two limits of each instruction set: generating and multiplying."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from opuproj import _core
from tqdm import tqdm

from benches import inputs, limits, machine
from benches.call import Call
from benches.figures.effort import Effort
from benches.figures.style import BLUE, GREEN, ORANGE, legend_above, picture
from benches.setting import Setting
from benches.timing import alternate

NAME = "speed-roofline"
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
COLOURS = {"amx": ORANGE, "avx512": BLUE, "avx2": GREEN}  # the portable kernel is too slow for the scale of the picture


def measure(effort: Effort) -> dict[str, Any]:
    """10⁴ → 2·10⁴ "complex", dense, on all cores: each point in the same rounds as its two limits."""
    threads = machine.cores()
    found = dict(_core.instruction_sets())
    points = []
    for isa in (isa for isa in COLOURS if found[isa]):
        at = Setting(isa, threads, min(effort.call_seconds, 2.0), effort.budget)
        with machine.forced(isa):
            generate, multiply = limits.keystream(isa, threads), limits.multiply(isa, threads)
            for batch in tqdm(effort.of(BATCHES), unit="batch", desc=f"{NAME}, {isa}", disable=None):
                call = Call(at, inputs.dense(batch, 10_000), 20_000, "complex")
                rounds = alternate(
                    {"call": call.run, "generate": generate.work, "multiply": multiply.work}, budget=at.budget
                )
                points.append(
                    {
                        "isa": isa,
                        "batch": batch,
                        "multiply_adds": call.multiply_adds / rounds.median("call"),
                        "keystream": generate.amount / rounds.median("generate"),
                        "multiply": multiply.amount / rounds.median("multiply"),
                    }
                )
    return {"threads": threads, "points": points}


def draw(document: dict[str, Any], path: Path) -> None:
    """Draw measured rates and their limits."""
    with picture(path, 1, "Rate of a dense projection and its limits", document["machine"]) as (figure, panels):
        axes = panels[0]
        for isa, colour in COLOURS.items():
            points = [point for point in document["points"] if point["isa"] == isa]
            if not points:
                continue
            generate, multiply = (median(point[limit] for point in points) for limit in ("keystream", "multiply"))
            batches = np.array([point["batch"] for point in points])
            rates = [point["multiply_adds"] for point in points]
            axes.plot(batches, rates, "o-", color=colour, label=f"{isa}, projected")
            ridge = np.clip(multiply / generate, batches[0], batches[-1])
            roof = np.unique([batches[0], ridge, batches[-1]])
            axes.plot(
                roof,
                np.minimum(roof * generate, multiply),
                "--",
                color=colour,
                alpha=0.7,
                label=f"{isa}, its two limits",
            )
        axes.set_xscale("log", base=2)
        axes.set(yscale="log", xlabel="vectors in a batch", ylabel="real multiply-adds per second")
        axes.xaxis.set_major_formatter("{x:g}")
        legend_above(figure, axes, columns=2)
