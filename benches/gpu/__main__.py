"""Measure all cases on the GPU at hand: `make gpu-check`, and the end of `make bench`.

The exit status is 1 if a requirement is missed. Without a GPU the program says so, and ends.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import opuproj

from benches.gpu.cases import CASES, Case
from benches.gpu.timing import Gpu, why_not


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and save the cases, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benches.gpu", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], help="the cases to measure (default: all)")
    arguments = parser.parse_args(argv)
    why = why_not()
    if why is not None:
        print(f"No GPU is measured: {why}.")
        return 0
    return measure(Gpu(), arguments.cases or list(CASES), arguments.json)


def measure(gpu: Gpu, names: Iterable[str], saved: Path | None = None) -> int:
    """Measure cases on a GPU, and return the exit status."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    print(f"{gpu.name}, torch {torch.__version__}, opuproj {opuproj.__version__}")
    found: list[Case] = []
    for name in names:
        for case in CASES[name](gpu):
            print(case, flush=True)
            found.append(case)
    missed = sum(not case.met() for case in found)
    print(f"{missed} requirements missed" if missed else "All requirements are met")
    if saved is not None:
        saved.write_text(json.dumps(document(gpu, found), indent=1) + "\n", encoding="utf-8")
    return int(missed > 0)


def document(gpu: Gpu, cases: Iterable[Case]) -> dict[str, Any]:
    """Return what was measured, for a file that `benches.gpu.picture` draws."""
    import torch

    return {
        "gpu": gpu.name,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "torch": torch.__version__,
        "opuproj": opuproj.__version__,
        "cases": [case._asdict() for case in cases],
    }


if __name__ == "__main__":
    sys.exit(main())
