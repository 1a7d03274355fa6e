"""`opuproj project`: projects a file of vectors block by block, and resumes after a stop."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from .. import _check
from . import _arguments
from ._files import refuse_special_file
from ._job import Job
from ._open import open_input

_EXAMPLES = """\
  opuproj project x.npy y.npy --outputs 100000
  opuproj project x.npz y.npy --member test --outputs 100000 --mode linear --digits 5
  opuproj project x.ternary y.zarr --outputs 2000000 --rows 0:500000 --seed 7
  opuproj project x.npy y.npy --outputs 100000 --camera lighton,bits=10 --noise-seed 1
  generate | opuproj project - - --outputs 1000 | consume

After a stop at any moment, even a crash of the machine, the same command resumes the work."""


def add_parser(commands: Any) -> None:
    """Describe the command line."""
    parser = _arguments.add_command(
        commands, "project", "project the vectors of a file: |Tx|², Rx, Tx or Gx", _EXAMPLES
    )
    add = parser.add_argument
    add("input", metavar="IN", help="a .npy, .npz or packed file, a Zarr array, or - for .npy on standard input")
    add("output", metavar="OUT", help="a .npy file or a .zarr folder, or - for .npy on standard output")
    add("--outputs", type=int, required=True, metavar="N", help="number of outputs, that is, rows of the matrix")
    add("--seed", type=int, default=0, help="seed of the random matrix (default: 0)")
    add(
        "--mode",
        choices=_check.MODES,
        default="intensity",
        help="intensity: |Tx|²; linear: Rx, recovered from intensities; complex: Tx; real: Gx, for a real Gaussian "
        "matrix at half the price of linear (default: intensity)",
    )
    add("--rows", type=_arguments.rows, metavar="A:B", help="compute only outputs A to B - 1")
    add("--digits", type=int, metavar="D", help="accept real numbers, encoded in D ternary digits")
    add("--n-anchor", type=int, default=64, metavar="N", help="number of pixels of the anchor (default: 64)")
    camera = "lighton, ideal, FIELD=VALUE,... with fields of opuproj.Camera, or lighton,FIELD=VALUE,..."
    add("--camera", type=_arguments.camera, metavar="CAMERA", help=camera)
    add(
        "--noise-seed",
        type=int,
        metavar="SEED",
        help="seed of the camera's noise (default: a random one, which is printed)",
    )
    dtypes = ("float32", "float64", "complex64", "complex128", "uint8", "uint16")
    add("--dtype", choices=dtypes, default="float32", help="dtype of the results (default: float32)")
    _arguments.add_member(parser)
    _arguments.add_threads(parser)
    add(
        "--batch-rows",
        type=_arguments.positive,
        metavar="N",
        help="number of vectors in a block (default: as many as fit in 16 MiB, packed)",
    )
    add(
        "--checkpoint",
        type=_arguments.seconds,
        default=10.0,
        metavar="SECONDS",
        help="interval between syncs to disk (default: 10)",
    )
    add("--restart", action="store_true", help="delete the unfinished result of an earlier run")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Project."""
    _refuse_output(arguments.input, arguments.output)
    with closing(open_input(arguments.input, arguments.member)) as reader:
        job = Job(arguments, reader)
        if arguments.output == "-":
            job.to_pipe()
        else:
            job.to_file(Path(arguments.output), arguments.restart)


def _refuse_output(given: str, out: str) -> None:
    if out == "-":
        if sys.stdout is None:
            raise ValueError("standard output is closed")
        if sys.stdout.isatty():
            raise ValueError("OUT is -, but standard output is a terminal: send it to a file or a pipe")
        return
    path = Path(out)
    if path.suffix not in (".npy", ".zarr"):
        raise ValueError(f"OUT is {out}, but must end in .npy or .zarr, or be -")
    if path.suffix == ".npy":
        refuse_special_file(path)
    elif path.is_dir():
        if any(path.iterdir()) and not _is_zarr_array(path):
            raise ValueError(
                f"OUT is {out}, a folder that is not a Zarr array, so it is not replaced: give another name"
            )
    elif path.exists():
        raise ValueError(f"OUT is {out}, a file that is not a Zarr array, so it is not replaced: give another name")
    if given != "-" and path.exists() and Path(given).exists() and path.samefile(given):
        raise ValueError(f"OUT is {out}, which is also IN: give another name")
    if not path.parent.is_dir():
        raise ValueError(f"OUT is {out}, but there is no folder {path.parent}: create it")


def _is_zarr_array(folder: Path) -> bool:
    """Whether a folder is a Zarr array, and not a group of arrays."""
    try:
        return bool(json.loads((folder / "zarr.json").read_bytes())["node_type"] == "array")
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return (folder / ".zarray").exists()
