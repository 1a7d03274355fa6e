"""The speed table: every case of `benches.cases` and every peer once, as ratios of times measured in turn in this run.

At the end it lists which requirements this CPU meets. It never fails, because the figures depend on the machine;
`benches.check` can fail.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import opuproj
from opuproj import _core
from tqdm import tqdm

from benches import cases, comparison, machine, report
from benches.comparison import Standing
from benches.peers import PEERS
from benches.result import Result
from benches.setting import Setting, UnavailableError


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, and save if asked to."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        isa = _core.choose_isa(arguments.isa or os.environ.get("OPUPROJ_ISA") or None)
    except (RuntimeError, ValueError) as error:
        parser.error(str(error))
    setting = Setting(isa, arguments.threads, arguments.call_seconds, arguments.budget)
    results: dict[str, Result] = {}
    standings: list[Standing] = []
    left_out: dict[str, str] = {}
    chosen = [name for name in cases.CASES if arguments.only in name]
    peers = [peer for peer in PEERS if arguments.only in peer.name and not arguments.no_peers]
    if not chosen and not peers:
        parser.error(f"--only is {arguments.only!r}, but the cases are {', '.join(cases.CASES)}")
    print(f"{machine.cpu_name()}, {isa}, {setting.threads} threads, opuproj {opuproj.__version__}")
    with tqdm(total=len(chosen) + len(peers), unit="case", leave=False, disable=None) as bar:
        for name in chosen:
            bar.set_postfix_str(name)
            try:
                results[name] = cases.run(name, setting)
            except UnavailableError as reason:
                left_out[name] = str(reason)
            bar.update()
        for peer in peers:
            bar.set_postfix_str(peer.name)
            try:
                standings += comparison.against(peer, setting)
            except UnavailableError as reason:
                left_out[peer.name] = str(reason)
            bar.update()
    measured = report.document(setting, results, standings, left_out)
    if results:
        head = ("case", "opuproj", "against", "ratio", "must be", "verdict")
        _show([head, *((name, *_cells(case)) for name, case in measured["cases"].items())])
    if standings:
        print(f"\nPeers: {comparison.N_INPUTS:,} inputs, {comparison.N_OUTPUTS:,} outputs, every x dense.", end="")
        _show([comparison.HEAD, *(standing.cells() for standing in standings)])
    print(f"\nRequirements: {report.heading(measured['machine'])}")
    for title, entries in report.summary(measured).items():
        print(f"{title} ({len(entries)})", *entries, sep="\n  ")
    if arguments.json:
        arguments.json.write_text(json.dumps(measured, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(
            f"\nSaved to {arguments.json}; `python -m benches.markdown {arguments.json}` prints a section for a page."
        )


def _show(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    print()
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _cells(case: dict[str, Any]) -> tuple[str, ...]:
    return case["figure"], case["against"], f"{case['ratio']:.3g}", case["must be"], case["verdict"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benches.table", description=(__doc__ or "").partition("\n")[0])
    names = [name for name, _ in _core.instruction_sets()]
    parser.add_argument("--isa", choices=names, help="instruction set to force (default: the best this CPU has)")
    parser.add_argument("--threads", type=int, default=min(2, machine.cores()), help="threads (default: %(default)s)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only cases and peers whose name contains TEXT")
    parser.add_argument("--no-peers", action="store_true", help="leave the peers out")
    parser.add_argument(
        "--call-seconds",
        type=float,
        default=Setting.call_seconds,
        help="longest call; slower ones compute fewer outputs (default: %(default)s)",
    )
    parser.add_argument(
        "--budget",
        type=float,
        default=Setting.budget,
        help="seconds for the rounds of a comparison, of which there are at least three (default: %(default)s)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="save the figures and the machine")
    return parser


if __name__ == "__main__":
    main()
