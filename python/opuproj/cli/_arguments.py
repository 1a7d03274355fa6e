"""Arguments that several commands share."""

from __future__ import annotations

import argparse
from typing import Any

from ..camera import Camera


def add_command(commands: Any, name: str, purpose: str, examples: str) -> argparse.ArgumentParser:
    """Add a command whose help ends with examples."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=purpose,
        description=f"{purpose[0].upper()}{purpose[1:]}.",
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add --threads."""
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="number of threads (default: OPUPROJ_NUM_THREADS if set, else the cores that the process may use)",
    )


def add_member(parser: argparse.ArgumentParser) -> None:
    """Add --member."""
    parser.add_argument("--member", metavar="NAME", help="name of the array in a .npz file, if it has several")


def rows(text: str) -> tuple[int | None, int | None]:
    """Parse A:B, where A and B are optional."""
    start, colon, stop = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"rows is {text!r}, but must be A:B, as in 0:1000")
    try:
        return (int(start) if start else None), (int(stop) if stop else None)
    except ValueError:
        raise argparse.ArgumentTypeError(f"rows is {text!r}, but must be A:B of two integers") from None


def positive(text: str) -> int:
    """Parse a positive integer."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return number


def seconds(text: str) -> float:
    """Parse a duration in seconds."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not number >= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds of at least 0")
    return number


def camera(text: str) -> Camera:
    """Parse a camera: lighton or ideal, lighton with fields that differ, or fields alone."""
    first, *rest = text.split(",")
    presets = {"lighton": Camera.lighton, "ideal": Camera.ideal}
    if first == "ideal" and rest:
        raise argparse.ArgumentTypeError("an ideal camera takes no fields: give the fields without it")
    make: Any = presets.get(first, Camera)
    try:
        return make(**dict(_field(part) for part in ([first, *rest] if make is Camera else rest)))  # type: ignore[no-any-return]
    except (TypeError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _field(text: str) -> tuple[str, float | int | None]:
    name, equals, value = text.partition("=")
    fields = Camera.__dataclass_fields__
    if not equals or name not in fields:
        raise ValueError(f"{text!r} is neither lighton, ideal nor FIELD=VALUE with one of {', '.join(fields)}")
    if value.lower() == "none":
        return name, None
    for number in (int, float):
        try:
            return name, number(value)
        except ValueError:
            pass
    raise ValueError(f"{name} is {value!r}, but must be a number, inf or none")
