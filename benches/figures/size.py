"""Time to project a vector against the size of the matrix, generated or stored, as far as it fits into memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import opuproj
from tqdm import tqdm

from benches import inputs, machine
from benches.figures.effort import Effort
from benches.figures.style import BLUE, ORANGE, legend_above, picture
from benches.peers import threads as threads_of_peers
from benches.peers.torch_stored import TorchFloat32
from benches.timing import Work, alternate, timed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "speed"
SIZES = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
BATCHES = (1, 256)
ENTRY_BYTES = 4  # per entry of a stored float32 matrix


@dataclass(frozen=True)
class Point:
    """Seconds per vector for an n × n matrix, without those of PyTorch if the matrix cannot be stored."""

    n: int
    batch: int
    opuproj: float
    torch: float | None = None
    torch_build: float | None = None  # to build the matrix once


def measure(effort: Effort) -> dict[str, Any]:
    """Measure every size and batch whose call is short enough, and PyTorch if it can store the matrix."""
    return {"points": [asdict(point) for point in _points(effort)]}


def _points(effort: Effort) -> Iterator[Point]:
    threads = machine.cores()
    threads_of_peers.use(threads)
    # The largest matrix that fits is an additional size: the last point of the stored curve.
    storable = int(math.sqrt(0.6 * machine.memory_bytes() / ENTRY_BYTES)) // 1000 * 1000
    sizes = effort.of(SIZES)
    rate = dict.fromkeys(BATCHES, 1e9)  # entries times vectors per second, from the last size
    for n in tqdm(sizes if effort.every > 1 else sorted({*sizes, storable}), unit="size", desc=NAME, disable=None):
        within = any(n * n * batch / rate[batch] <= effort.call_seconds for batch in BATCHES)
        stored, build = timed(partial(TorchFloat32.build, n, n)) if n <= storable and within else (None, None)
        for batch in BATCHES:
            expected = n * n * batch / rate[batch]
            if expected > effort.call_seconds:
                continue
            x = inputs.dense(batch, n)
            works: dict[str, Work] = {"opuproj": _projection(x, threads)}
            if stored is not None:
                works["torch"] = stored.multiply(x)
            rounds = alternate(works, budget=effort.budget, least=1 if expected > 10 else 3)
            rate[batch] = n * n * batch / rounds.median("opuproj")
            torch = None if stored is None else rounds.median("torch") / batch
            yield Point(n, batch, rounds.median("opuproj") / batch, torch, build)


def _projection(x: inputs.Ternary, threads: int) -> Work:
    batch, n = x.shape
    out = np.zeros((batch, n), dtype=np.float32)
    return partial(opuproj.project, x, n, mode="linear", out=out, threads=threads)


def draw(document: dict[str, Any], path: Path) -> None:
    """Draw one panel per batch size, on logarithmic axes."""
    points = [Point(**point) for point in document["points"]]
    made_on = document["machine"]
    each = [(p.opuproj, p.torch, p.torch_build) for p in points if p.batch == 1]
    drawn = [seconds for point in [*each, *((p.opuproj, p.torch) for p in points)] for seconds in point if seconds]
    with picture(path, len(BATCHES), "Real random projection of n inputs to n outputs", made_on) as (figure, panels):
        for axes, batch in zip(panels, BATCHES, strict=True):
            _draw_panel(axes, [point for point in points if point.batch == batch], made_on["memory_bytes"])
            axes.set_title("one vector" if batch == 1 else f"a batch of {batch}", fontsize=12)
            axes.set_ylim(0.5 * min(drawn), 2 * max(drawn))
        panels[0].set_ylabel("seconds per vector")
        legend_above(figure, panels[0])


def _draw_panel(axes: Axes, points: list[Point], memory_bytes: int) -> None:
    stored = [(point.n, point.torch, point.torch_build) for point in points if point.torch and point.torch_build]
    sizes = [n for n, _, _ in stored]
    axes.plot([p.n for p in points], [p.opuproj for p in points], "o-", color=BLUE, label="opuproj, nothing stored")
    axes.plot(sizes, [each for _, each, _ in stored], "s-", color=ORANGE, label="torch float32, matrix stored")
    if points:
        built_for_one = [each + build / points[0].batch for _, each, build in stored]
        axes.plot(sizes, built_for_one, "s--", color=ORANGE, alpha=0.7, label="torch float32, built for this batch")
    wall = math.sqrt(memory_bytes / ENTRY_BYTES)
    axes.axvspan(wall, 2 * max(SIZES), color=ORANGE, alpha=0.12, linewidth=0)
    axes.axvline(wall, color=ORANGE, linewidth=1)
    axes.text(
        wall * 1.15,
        0.03,
        f"matrix no longer fits\nin {memory_bytes / 2**30:.0f} GiB",
        color=ORANGE,
        fontsize=10,
        transform=axes.get_xaxis_transform(),
    )
    axes.set(xscale="log", yscale="log", xlim=(0.7 * min(SIZES), 1.5 * max(SIZES)), xlabel="n")
