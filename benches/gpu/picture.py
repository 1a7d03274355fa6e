"""Draw the speed on a GPU, from what `python -m benches.gpu --json` wrote: rates, and times beside stored matrices."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benches.figures.style import BLUE, GREEN, GREY, ORANGE, picture

_DTYPES = {"bfloat16": (BLUE, "o"), "float32": (ORANGE, "s"), "int8": (GREEN, "^")}


def draw(document: dict[str, Any], path: Path) -> None:
    """Draw what was measured in two panels."""
    cases = {case["name"]: case["value"] for case in document["cases"]}
    with picture(path, 2, "Speed on a GPU", document) as (figure, (rates, times)):
        _rates(cases, rates)
        _times(cases, times)
        figure.tight_layout()


def _rates(cases: dict[str, float], axes: Any) -> None:
    few = {batch: cases[f"10^6 inputs, 10^5 rows, batch {batch}"] for batch in (1, 8, 16)}
    many = {batch: cases[f"32,768 inputs, batch {batch}"] for batch in (64, 256, 1024)}
    product = {batch: cases[f"32,768 inputs, batch {batch}, the int8 product alone"] for batch in many}
    batches = [*few, *many]
    axes.plot(batches, [*few.values(), *many.values()], "o-", color=BLUE, label="opuproj, T generated anew")
    axes.plot(list(product), list(product.values()), "s--", color=ORANGE, label="int8 product with a stored T")
    axes.axhline(cases["generation into memory"], linestyle=":", color=GREY, label="generating alone")
    axes.set(xlabel="batch", ylabel="10¹² entries of T a second", xscale="log", yscale="log")
    axes.legend(frameon=False)


def _times(cases: dict[str, float], axes: Any) -> None:
    for dtype, (colour, marker) in _DTYPES.items():
        found = {}
        for name, value in cases.items():
            match = re.fullmatch(rf"10\^4 -> 2 10\^4 real, batch (\d+), against stored {dtype}", name)
            if match:
                found[int(match[1])] = 1 / value if dtype == "float32" else value
        axes.plot(list(found), list(found.values()), f"{marker}-", color=colour, label=f"stored {dtype}")
    axes.axhline(1, linestyle=":", color=GREY)
    axes.set(xlabel="batch", ylabel="time relative to a stored matrix", xscale="log", yscale="log")
    axes.set_title("10⁴ → 2·10⁴", fontsize=11)
    axes.legend(frameon=False)


def main(argv: Sequence[str] | None = None) -> None:
    """Draw a file's measurements to a picture."""
    parser = argparse.ArgumentParser(prog="python -m benches.gpu.picture")
    parser.add_argument("json", type=Path, help="what `python -m benches.gpu --json` wrote")
    parser.add_argument("image", type=Path, help="the picture to write")
    arguments = parser.parse_args(argv)
    draw(json.loads(arguments.json.read_text(encoding="utf-8")), arguments.image)


if __name__ == "__main__":
    main()
