"""`opuproj pack`: packs a file of numbers to ternary with two bits for each element, block by block."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from .. import _core, _memory
from ..backends import backend_for
from ..packing import checked_threshold
from . import _arguments
from ._open import open_input
from ._packed import PackedReader, write_packed
from ._reader import FileRows, Reader

_EXAMPLES = """\
  opuproj pack x.npy x.ternary                           # values of -1, 0 and 1
  opuproj pack errors.npy errors.ternary --threshold 0.25
  opuproj pack errors.npz errors.ternary --member validation --relative 0.1 --scale global

The result is the file that opuproj.TernaryBatch.save writes. It gets its name when it is complete."""

# Endings of files of numbers. A packed file with such a name would be mistaken for one.
_ENDINGS = (".npy", ".npz", ".zarr")


def add_parser(commands: Any) -> None:
    """Describe the command line."""
    parser = _arguments.add_command(
        commands, "pack", "pack a file of numbers to ternary, 2 bits per element", _EXAMPLES
    )
    parser.add_argument(
        "input", metavar="IN", help="a .npy, .npz or packed file, a Zarr array, or - for standard input"
    )
    parser.add_argument("output", metavar="OUT", help="the packed file")
    rule = parser.add_mutually_exclusive_group()
    rule.add_argument(
        "--threshold", type=float, metavar="T", help="map numbers above T to 1, below -T to -1, others to 0"
    )
    rule.add_argument("--relative", type=float, metavar="R", help="the same with T = R times the largest magnitude")
    parser.add_argument(
        "--scale",
        choices=("row", "global"),
        help="the largest magnitude of each vector (row, the default) or of the whole file (global)",
    )
    _arguments.add_member(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Pack."""
    if arguments.output == "-":
        raise ValueError(
            "OUT is -, but a packed file is not written in order, so it cannot go to a pipe: give a file name"
        )
    if Path(arguments.output).suffix.lower() in _ENDINGS:
        raise ValueError(
            f"OUT is {arguments.output}, but a packed file must not end in {', '.join(_ENDINGS)}: give another ending, "
            "as in x.ternary"
        )
    if arguments.scale is not None and arguments.relative is None:
        raise ValueError(f"scale is {arguments.scale!r}, but --scale needs --relative")
    out = Path(arguments.output)
    with closing(open_input(arguments.input, arguments.member)) as reader:
        if arguments.input != "-" and out.exists() and out.samefile(arguments.input):
            raise ValueError(f"OUT is {out}, which is also IN: give another name")
        write_packed(
            out, reader.shape, _packed_blocks(reader, arguments.threshold, arguments.relative, arguments.scale)
        )


def _packed_blocks(
    reader: Reader, threshold: float | None, relative: float | None, scale: str | None
) -> Iterator[_core.Packed]:
    """Yield the packed vectors in blocks."""
    step = max(1, _memory.BLOCK_BYTES // _memory.packed_bytes(1, reader.n_inputs))
    starts = range(0, reader.n_rows, step)
    parts = ((start, min(start + step, reader.n_rows)) for start in starts)
    if threshold is None and relative is None:
        for start, stop in parts:
            rows = reader.rows(start, stop, "use --threshold or --relative for other values")
            yield backend_for(rows).pack(rows)
        reader.refuse_change()
        return
    if isinstance(reader, PackedReader):
        raise ValueError(f"{reader.name} is a packed file, which is ternary: leave --threshold and --relative out")
    rule = checked_threshold(threshold, relative, scale or "row")
    if scale == "global":
        if not reader.seekable:
            raise ValueError(f"scale is 'global', which must read {reader.name} twice: write it to a file first")
        numbers = FileRows(reader, 0, reader.n_rows)
        rule = rule._replace(level=backend_for(numbers).largest(numbers))
    for start, stop in parts:
        numbers = FileRows(reader, start, stop)
        yield backend_for(numbers).ternarize(numbers, rule)
    reader.refuse_change()
