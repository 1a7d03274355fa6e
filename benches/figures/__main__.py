"""Measure and draw the pictures of speed; write figures to docs/data and pictures to docs/images.

Measuring and drawing are separate: --draw-only draws earlier measurements.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benches import saved
from benches.figures import density, roofline, size, threads
from benches.figures.effort import QUICK, THOROUGH

FIGURES = {module.NAME: module for module in (size, roofline, density, threads)}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, unless --draw-only is given, then draw."""
    arguments = _parser().parse_args(argv)
    effort = QUICK if arguments.quick else THOROUGH
    for name in arguments.only:
        data, image = arguments.data / f"{name}.json", arguments.images / f"{name}.png"
        if not arguments.draw_only:
            saved.write(data, FIGURES[name].measure(effort))
        elif not data.exists():
            print(f"{name}: left out, for nothing was measured yet ({data})")
            continue
        FIGURES[name].draw(saved.read(data), image)
        print(f"Drew {image}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benches.figures", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--draw-only", action="store_true", help="draw the saved figures again, measure nothing")
    parser.add_argument(
        "--quick", action="store_true", help="few points, short calls: to try the programs, not to keep"
    )
    parser.add_argument("--only", nargs="+", choices=FIGURES, default=list(FIGURES), help="which ones (default: all)")
    parser.add_argument("--data", type=Path, default=saved.DATA, help="folder of the figures (default: docs/data)")
    images = saved.DATA.with_name("images")
    parser.add_argument("--images", type=Path, default=images, help="folder of the pictures (default: docs/images)")
    return parser


if __name__ == "__main__":
    main()
