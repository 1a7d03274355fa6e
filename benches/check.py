"""Check that the kernels are as fast as before: compare their ratios to their limits with benches/expected.json.

A ratio is of two times measured in turn in one run, so a change of load affects both equally. It depends on the
processor, so the file has expectations for each kind of processor. Exit code 0: as fast as expected; 1: a kernel became
slower; 2: the file does not list this kind of processor.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import opuproj
from opuproj import _core
from tqdm import tqdm

from benches import inputs, limits, machine
from benches.call import Call
from benches.limits import Limit
from benches.setting import Setting
from benches.timing import alternate

EXPECTED = Path(__file__).with_name("expected.json")
RECORDED_PASSES = 5  # the median of these is recorded
TOLERANCE = 0.20  # relative to the expected ratio, for a new file
FORMS = ("one vector", "batch 256", "few nonzeros", "batch 256, 10 % nonzeros")


@dataclass(frozen=True)
class Comparison:
    """The measured and the expected ratio of a kernel."""

    kernel: str
    measured: float
    expected: float
    tolerance: float

    @property
    def verdict(self) -> str:
        """The result of the comparison."""
        if self.measured < self.expected * (1 - self.tolerance):
            return "slower"
        if self.measured > self.expected * (1 + self.tolerance):
            return "faster: record it"
        return "as expected"


def kernels() -> list[str]:
    """Return every instruction set of this CPU, with every form of its inner loops."""
    return [f"{isa}, {form}" for isa, found in _core.instruction_sets() if found for form in FORMS]


def measure(kernel: str, budget: float = 2.0) -> float:
    """Return the rate of a call on one thread, divided by the kernel's rate of generating or multiplying alone."""
    isa, _, form = kernel.partition(", ")
    at = Setting(isa, threads=1, call_seconds=0.3, budget=budget)
    with machine.forced(isa):
        if form == "one vector":
            call = Call(at, inputs.dense(1, 20_000), 200_000, "complex")
            return _ratio(call, limits.keystream(isa, 1), call.components)
        if form == "batch 256":
            call = Call(at, inputs.dense(256, 4_000), 20_000, "complex")
            return _ratio(call, limits.multiply(isa, 1), call.multiply_adds)
        if form == "batch 256, 10 % nonzeros":
            # Only the multiply-adds of nonzeros count, so that a kernel that skips zeros may exceed 1.
            x = inputs.sparse(256, 4_000, 0.1)
            call = Call(at, x, 20_000, "complex")
            return _ratio(call, limits.multiply(isa, 1), _of_nonzeros(call))
        # 100 of 100,000: the kernel generates other columns of T for every vector, one byte of keystream per component.
        x = inputs.sparse(32, 100_000, 1e-3)
        call = Call(at, x, 20_000, "complex")
        return _ratio(call, limits.keystream(isa, 1), _of_nonzeros(call))


def _of_nonzeros(call: Call) -> int:
    return 2 * int((call.x != 0).sum()) * call.n_outputs


def _ratio(call: Call, limit: Limit, amount: int) -> float:
    # Processor time of one thread, so that other programs do not count.
    rounds = alternate({"limit": limit.work, "call": call.run}, budget=call.at.budget, clock=process_time)
    return rounds.ratio("limit", "call") * amount / limit.amount


def compare(measured: Mapping[str, float], expected: Mapping[str, float], tolerance: float) -> list[Comparison]:
    """Compare the kernels that both have."""
    return [Comparison(name, measured[name], expected[name], tolerance) for name in measured if name in expected]


def load(path: Path) -> dict[str, Any]:
    """Read the expectations; there are none if the file does not exist."""
    if not path.exists():
        return {"tolerance": TOLERANCE, "machines": {}}
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def record(path: Path, ratios: Mapping[str, float]) -> None:
    """Write the ratios as the expectations for this kind of processor; keep those of others."""
    document = load(path)
    document["machines"][machine.kind()] = {
        "cpu": machine.cpu_name(),
        "opuproj": opuproj.__version__,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "ratios": {name: round(ratio, 3) for name, ratio in ratios.items()},
    }
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and compare, or record."""
    arguments = _parser().parse_args(argv)
    document, kind = load(arguments.file), machine.kind()
    known = document["machines"].get(kind)
    if known is None and not arguments.record:
        print(
            f"{arguments.file} tells nothing about this processor ({kind}). On a commit whose speed you trust, and "
            "while the machine is idle, run\n    make bench-check ARGS=--record\n"
            "and commit the file; then check other commits against it."
        )
        return 2
    passes = [
        {name: measure(name, arguments.budget) for name in tqdm(kernels(), unit="kernel", leave=False, disable=None)}
        for _ in range(RECORDED_PASSES if arguments.record else 1)
    ]
    ratios = {name: median(each[name] for each in passes) for name in passes[0]}
    if arguments.record:
        record(arguments.file, ratios)
        for name, ratio in ratios.items():
            print(f"{name:24}  {ratio:.3f}")
        print(f"Recorded in {arguments.file} for {kind}.")
        return 0
    expected, tolerance = known["ratios"], float(document["tolerance"])
    for slow in compare(ratios, expected, tolerance):
        if slow.verdict == "slower":  # measure again: the machine may have been busy
            ratios[slow.kernel] = max(slow.measured, measure(slow.kernel, 2 * arguments.budget))
    compared = compare(ratios, expected, tolerance)
    print(f"{kind}, recorded {known['date']}, tolerance {tolerance:.0%}\n")
    for one in compared:
        print(f"{one.kernel:24}  {one.measured:.3f}  expected {one.expected:.3f}  {one.verdict}")
    for name in ratios.keys() - expected.keys():
        print(f"{name:24}  {ratios[name]:.3f}  not recorded yet: use --record")
    return 1 if any(one.verdict == "slower" for one in compared) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benches.check", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--record", action="store_true", help="make what is measured now the expectation")
    parser.add_argument("--file", type=Path, default=EXPECTED, help="the expectations (default: benches/expected.json)")
    parser.add_argument("--budget", type=float, default=2.0, help="seconds for a kernel (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
