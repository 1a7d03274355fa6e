"""The speed-up of several threads for a vector and for a batch, beside that of the limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tqdm import tqdm

from benches import inputs, limits, machine
from benches.call import Call
from benches.figures.effort import Effort
from benches.figures.style import BLUE, GREY, ORANGE, legend_above, picture
from benches.setting import Setting
from benches.timing import Work, alternate

NAME = "speed-threads"
# Batch, and the loop that limits it.
BOUNDS = {1: ("generating", limits.keystream), 256: ("multiplying", limits.multiply)}
LOOK = {1: (BLUE, "o"), 256: (ORANGE, "s")}


def counts(cores: int) -> list[int]:
    """One thread, two, four, … and all cores."""
    return sorted({1 << k for k in range(cores.bit_length()) if 1 << k <= cores} | {cores})


def measure(effort: Effort) -> dict[str, Any]:
    """10⁴ → 2·10⁴ "complex", dense: all numbers of threads in the same rounds."""
    isa = machine.instruction_set()
    threads = counts(machine.cores())
    points = []
    for batch, (_, bound) in tqdm(BOUNDS.items(), unit="batch", desc=NAME, disable=None):
        at = Setting(isa, 1, min(effort.call_seconds, 5.0), effort.budget)
        call = Call(at, inputs.dense(batch, 10_000), 20_000, "complex")
        works: dict[str, Work] = {}
        amounts = {}
        for n in threads:
            limit = bound(isa, n)
            works |= {f"call {n}": call.with_threads(n), f"limit {n}": limit.work}
            amounts[n] = limit.amount
        rounds = alternate(works, budget=at.budget * len(threads))
        for n in threads:
            points.append(
                {
                    "batch": batch,
                    "threads": n,
                    "speedup": rounds.ratio("call 1", f"call {n}"),
                    "limit_speedup": rounds.ratio("limit 1", f"limit {n}") * amounts[n] / amounts[1],
                }
            )
    return {"points": points}


def draw(document: dict[str, Any], path: Path) -> None:
    """Draw speed-ups, with the number of threads as the maximum."""
    with picture(path, 1, "Several threads", document["machine"]) as (figure, panels):
        axes = panels[0]
        for batch, (name, _) in BOUNDS.items():
            points = [point for point in document["points"] if point["batch"] == batch]
            threads = [point["threads"] for point in points]
            colour, marker = LOOK[batch]
            what = "one vector" if batch == 1 else f"a batch of {batch}"
            axes.plot(threads, [p["speedup"] for p in points], f"{marker}-", color=colour, label=what)
            alone = [p["limit_speedup"] for p in points]
            axes.plot(threads, alone, f"{marker}--", color=colour, alpha=0.6, label=f"{name} alone")
        axes.plot(threads, threads, ":", color=GREY, label="as many times as threads")
        axes.set(xlabel="threads", ylabel="times as fast as one thread", xticks=threads)
        legend_above(figure, axes)
