"""The options that the studies on Fashion-MNIST share."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from common.fashion import data as fashion


def add(parser: argparse.ArgumentParser) -> None:
    """Add the folder of the images, and the parts of a study that can run alone."""
    parser.add_argument(
        "--data",
        type=Path,
        default=fashion.FOLDER,
        metavar="DIR",
        help="folder with Fashion-MNIST's four .gz files (default: %(default)s)",
    )
    parser.add_argument("--only", type=int, metavar="SEED", help="train this seed only; print and draw all results")
    parser.add_argument("--figures-only", action="store_true", help="train nothing; draw the existing results")
    parser.add_argument("--tune", action="store_true", help="try learning rates around the rate of each method")


def load(arguments: argparse.Namespace) -> fashion.Split:
    """Read the images, or end the program with a message that says how to get them."""
    try:
        return fashion.load(arguments.data)
    except FileNotFoundError as error:
        sys.exit(str(error))
