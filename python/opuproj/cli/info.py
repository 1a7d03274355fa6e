"""`opuproj info`: prints the configuration of this machine, or the header of a file."""

from __future__ import annotations

import argparse
import json
import os
import platform
from contextlib import closing
from pathlib import Path
from typing import Any

from .. import _config, _memory
from . import _arguments
from ._npy import NpzReader
from ._open import open_input

_EXAMPLES = """\
  opuproj info                    # version, processor, instruction sets, threads, GPUs
  opuproj info x.ternary          # shape, dtype and bytes, from the header alone
  opuproj info --json x.npy | jq .shape"""


def add_parser(commands: Any) -> None:
    """Describe the command line."""
    parser = _arguments.add_command(
        commands, "info", "print this machine's configuration or a file's header", _EXAMPLES
    )
    parser.add_argument("file", metavar="FILE", nargs="?", help="a file of vectors, as IN of the other commands")
    parser.add_argument("--json", action="store_true", help="print JSON")
    _arguments.add_member(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Print the configuration or the header."""
    if arguments.file is None and arguments.member is not None:
        raise ValueError(f"member is {arguments.member!r}, but there is no FILE")
    found = machine() if arguments.file is None else _file(arguments.file, arguments.member)
    if arguments.json:
        print(json.dumps(found, indent=1))
        return
    if arguments.file is None:
        missing = f" (not found: {', '.join(found['missing'])})" if found["missing"] else ""
        found = {
            "opuproj": found["version"],
            "Python": f"{found['python']}, NumPy {found['numpy']}",
            "processor": found["cpu"],
            "instruction sets": f"{', '.join(found['found'])}{missing}",
            "chosen": f"{found['chosen']} ({found['chosen_by']})",
            "threads": f"{found['threads']} ({found['threads_by']})",
            "memory": f"{_memory.readable(found['available_bytes'])} available",
            **_config.gpu_lines(found),
        }
    for name, value in found.items():
        print(f"{name:<17} {', '.join(map(str, value)) if isinstance(value, list) else value}")


def machine() -> dict[str, Any]:
    """Return the configuration of `opuproj.show_config`, the processor and the memory."""
    return {**_config.config(), "cpu": _cpu(), "available_bytes": int(min(_memory.available(), 2**63))}


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _file(path: str, member: str | None) -> dict[str, Any]:
    """Return the information in the header of a file."""
    with closing(open_input(path, member)) as reader:
        found: dict[str, Any] = {"file": reader.name, "kind": reader.kind}
        if isinstance(reader, NpzReader):
            found["members"] = reader.members
        found |= {
            "shape": list(reader.shape),
            "dtype": "ternary" if reader.kind == "a packed file" else reader.dtype.name,
            "vectors": reader.n_rows,
            "inputs": reader.n_inputs,
        }
        if os.path.isfile(path):
            found["bytes"] = os.path.getsize(path)
        return found
