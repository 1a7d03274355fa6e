"""Put what `make bench` saved on a page, as one section for each run, or print the sections.

The page has a place for each file: between the comments <!-- NAME --> and <!-- end of NAME -->, NAME being the file's.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benches import report, saved
from benches.comparison import HEAD, Standing
from benches.requirement import MET, MISSED, NONE

MARKS = {MET: "yes", MISSED: "**no**", NONE: "–"}


def section(measured: Mapping[str, Any]) -> str:
    """Return the section of one run: its machine, its cases with their requirements, and its alternatives."""
    return "\n".join(_lines(measured)) + "\n"


def put(page: str, name: str, text: str) -> str:
    """Return the page with a section between the comments that name its file."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, found, rest = page.partition(begin)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise SystemExit(f"the page has no place for {name}: add the lines\n{begin}{end}")
    return f"{before}{begin}\n{text}\n{end}{after}"


def _lines(measured: Mapping[str, Any]) -> Iterator[str]:
    here, verdicts = measured["machine"], measured["requirements"]
    processor = here["kind"].rpartition(",")[0]
    yield f"### {report.heading(here)}"
    yield ""
    versions = f"opuproj {here['opuproj']}, Python {here['python']}, NumPy {here['numpy']}"
    yield f"{versions}; {here['system']}, {processor}; threads: {here['threads']}."
    yield f"It meets {len(verdicts[MET])} of {len(verdicts[MET]) + len(verdicts[MISSED])} requirements."
    yield ""
    yield from _table(
        ("case", "opuproj", "compared with", "ratio", "must be", "met"),
        (
            (case["what"], case["figure"], case["against"], f"{case['ratio']:.3g}", case["must be"], _mark(case))
            for case in measured["cases"].values()
        ),
    )
    if measured["peers"]:
        yield ""
        yield from _table(HEAD, (Standing(**standing).cells() for standing in measured["peers"]))
    if measured["left out"]:
        yield ""
        yield "Left out:"
        yield ""
        yield from (f"- {name}: {why}" for name, why in measured["left out"].items())


def _mark(case: Mapping[str, Any]) -> str:
    return MARKS[case["verdict"]]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the sections, or put them on a page."""
    parser = argparse.ArgumentParser(prog="python -m benches.markdown", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="FILE", help="what `make bench` saved")
    parser.add_argument("--page", type=Path, help="the page to put them on, such as docs/performance.md")
    arguments = parser.parse_args(argv)
    for run in arguments.runs:
        text = section(saved.read(run))
        if arguments.page is None:
            print(text)
        else:
            page = put(arguments.page.read_text(encoding="utf-8"), run.name, text)
            arguments.page.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
