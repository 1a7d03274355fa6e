"""The speed table: every case of `benches.cases` once, each as a ratio of times measured alternately in this run.

It reports and never fails: what a machine reaches depends on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path

import opuproj
from opuproj import _core
from tqdm import tqdm

from benches import machine
from benches.cases import CASES, Result, Setting, UnavailableError


def main() -> None:
    """Measure, print, and save if asked to."""
    arguments = _parser().parse_args()
    isa = _core.choose_isa(arguments.isa or os.environ.get("OPUPROJ_ISA") or None)
    setting = Setting(isa, arguments.threads, arguments.call_seconds)
    print(f"{machine.cpu_name()}, {isa}, {setting.threads} threads, opuproj {opuproj.__version__}\n")

    results: dict[str, Result] = {}
    chosen = [name for name in CASES if arguments.only in name]
    with tqdm(chosen, unit="case", leave=False) as names:
        for name in names:
            names.set_postfix_str(name)
            try:
                results[name] = CASES[name](setting)
            except UnavailableError as reason:
                tqdm.write(f"{name}: left out, {reason}")
    _show(results)
    if arguments.json:
        document = {
            "machine": machine.describe() | {"isa": isa, "threads": setting.threads},
            "cases": {name: asdict(result) | {"reached": result.reached} for name, result in results.items()},
        }
        arguments.json.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"\nSaved to {arguments.json}.")


def _show(results: dict[str, Result]) -> None:
    head = ("case", "opuproj", "against", "ratio", "must be", "reached")
    rows = [head, *((name, *_cells(result)) for name, result in results.items())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _cells(result: Result) -> tuple[str, ...]:
    must = f"{'≤' if result.at_most else '≥'} {result.required:g}"
    if result.aim is not None:
        must += f" (aim {result.aim:g})"
    return result.figure, result.against, f"{result.ratio:.3g}", must, "yes" if result.reached else "no"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benches.table", description=(__doc__ or "").partition("\n")[0])
    names = [name for name, _ in _core.instruction_sets()]
    parser.add_argument("--isa", choices=names, help="instruction set to force (default: the best this CPU has)")
    parser.add_argument("--threads", type=int, default=min(2, machine.cores()), help="threads (default: %(default)s)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the cases whose name contains TEXT")
    parser.add_argument(
        "--call-seconds", type=float, default=10.0, help="longest call; slower ones compute fewer outputs"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="save the figures and the machine")
    return parser


if __name__ == "__main__":
    main()
