"""The README's picture: time to project one vector against the size of the matrix, generated or stored.

Measures, saves the figures to docs/images/speed.json and draws docs/images/speed.png; `--draw` only draws.
"""

from __future__ import annotations

import argparse
import json
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
from benches.peers import threads as threads_of_peers
from benches.peers.torch_stored import TorchFloat32
from benches.timing import Work, alternate, timed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
SIZES = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
BATCHES = (1, 256)
ENTRY_BYTES = 4  # of a stored matrix, float32
# Middle tones, which stand out from a light page and from a dark one.
GREY, BLUE, ORANGE = "#848d97", "#2f81f7", "#db6d28"


@dataclass(frozen=True)
class Point:
    """Seconds a vector for an n × n matrix; those of PyTorch are missing where the matrix cannot be stored."""

    n: int
    batch: int
    opuproj: float
    torch: float | None = None
    torch_build: float | None = None  # of the matrix, once


def measure(longest: float) -> Iterator[Point]:
    """Every size and batch for which one call stays below `longest` seconds."""
    threads = machine.cores()
    threads_of_peers.use(threads)
    # The largest matrix that leaves room for everything else is a size of its own: the last point of the stored curve.
    storable = int(math.sqrt(0.6 * machine.memory_bytes() / ENTRY_BYTES)) // 1000 * 1000
    rate = dict.fromkeys(BATCHES, 1e9)  # entries times vectors a second, as the last size had it
    for n in tqdm(sorted({*SIZES, storable}), unit="size"):
        stored, build = timed(partial(TorchFloat32.build, n, n)) if n <= storable else (None, None)
        for batch in BATCHES:
            expected = n * n * batch / rate[batch]
            if expected > longest:
                continue
            x = inputs.dense(batch, n)
            works: dict[str, Work] = {"opuproj": _projection(x, threads)}
            if stored is not None:
                works["torch"] = stored.multiply(x)
            rounds = alternate(works, budget=10.0, least=1 if expected > 10 else 3)
            rate[batch] = n * n * batch / rounds.median("opuproj")
            torch = None if stored is None else rounds.median("torch") / batch
            yield Point(n, batch, rounds.median("opuproj") / batch, torch, build)


def _projection(x: inputs.Ternary, threads: int) -> Work:
    batch, n = x.shape
    out = np.zeros((batch, n), dtype=np.float32)
    return partial(opuproj.project, x, n, mode="linear", out=out, threads=threads)


def draw(points: list[Point], made_on: dict[str, Any], path: Path) -> None:
    """One panel a batch size, on logarithmic axes."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    style = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), GREY)
    with mpl.rc_context({**style, "font.size": 11}):
        figure, panels = plt.subplots(1, len(BATCHES), figsize=(10, 4.6), sharex=True, sharey=True)
        for axes, batch in zip(panels, BATCHES, strict=True):
            _draw_panel(axes, [point for point in points if point.batch == batch], made_on["memory_bytes"])
            axes.set_title("one vector" if batch == 1 else f"a batch of {batch}", fontsize=12)
        panels[0].set_ylabel("seconds a vector")
        # Above the panels, where no curve can run behind it.
        figure.legend(
            *panels[0].get_legend_handles_labels(),
            frameon=False,
            loc="upper center",
            ncol=3,
            bbox_to_anchor=(0.5, 0.94),
        )
        figure.suptitle(
            f"Real random projection of n inputs to n outputs, {made_on['cpu']} ({made_on['isa']}), "
            f"{made_on['cores']} cores",
            fontsize=11,
        )
        figure.tight_layout(rect=(0, 0, 1, 0.93))
        figure.savefig(path, dpi=160, transparent=True)
    plt.close(figure)


def _draw_panel(axes: Axes, points: list[Point], memory_bytes: int) -> None:
    stored = [(point.n, point.torch, point.torch_build) for point in points if point.torch and point.torch_build]
    sizes = [n for n, _, _ in stored]
    built_for_one = [each + build / points[0].batch for _, each, build in stored]
    axes.plot([p.n for p in points], [p.opuproj for p in points], "o-", color=BLUE, label="opuproj, nothing stored")
    axes.plot(sizes, [each for _, each, _ in stored], "s-", color=ORANGE, label="torch float32, matrix at hand")
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
    axes.grid(color=GREY, alpha=0.25, linewidth=0.6)
    axes.patch.set_alpha(0)


def main() -> None:
    """Measure unless told not to, then draw."""
    parser = argparse.ArgumentParser(prog="python -m benches.figure", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--draw", action="store_true", help="draw the saved figures again, measure nothing")
    parser.add_argument("--longest", type=float, default=120.0, help="seconds that one call may last")
    parser.add_argument("--to", type=Path, default=IMAGES, metavar="FOLDER", help="where both files go")
    arguments = parser.parse_args()
    saved = arguments.to / "speed.json"
    if not arguments.draw:
        document = {"machine": machine.describe(), "points": [asdict(p) for p in measure(arguments.longest)]}
        arguments.to.mkdir(parents=True, exist_ok=True)
        saved.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    document = json.loads(saved.read_text(encoding="utf-8"))
    draw([Point(**point) for point in document["points"]], document["machine"], arguments.to / "speed.png")
    print(f"Drew {arguments.to / 'speed.png'}")


if __name__ == "__main__":
    main()
