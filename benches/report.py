"""What a run of the table measured, as one document, and which requirements the CPU meets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benches import machine
from benches.cases import CASES
from benches.comparison import Standing
from benches.requirement import MET, MISSED, NONE
from benches.result import Result
from benches.setting import Setting


def document(
    at: Setting, results: Mapping[str, Result], standings: Sequence[Standing], left_out: Mapping[str, str]
) -> dict[str, Any]:
    """Return everything that was measured, for a JSON file."""
    cases = {name: _case(name, result, at.isa) for name, result in results.items()}
    return {
        "machine": machine.describe() | {"isa": at.isa, "threads": at.threads},
        "requirements": {
            verdict: [name for name, case in cases.items() if case["verdict"] == verdict]
            for verdict in (MET, MISSED, NONE)
        },
        "left out": dict(left_out),
        "cases": cases,
        "peers": [asdict(standing) for standing in standings],
    }


def _case(name: str, result: Result, isa: str) -> dict[str, Any]:
    case = CASES[name]
    return {
        "what": case.what,
        **asdict(result),
        "required": case.requirement.on(isa),
        "must be": case.requirement.text(isa),
        "verdict": case.requirement.verdict(result.ratio, isa),
    }


def heading(here: Mapping[str, Any]) -> str:
    """Return the CPU, its instruction set and cores, and the date."""
    cores = "1 core" if here["cores"] == 1 else f"{here['cores']} cores"
    return f"{here['cpu']}, {here['isa']}, {cores}, {here['date']}"


def summary(measured: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the cases by whether they meet their requirements, with the ratio or the reason of those that do not."""
    isa, verdicts = measured["machine"]["isa"], measured["requirements"]

    def ratios(verdict: str) -> list[str]:
        cases = ((name, measured["cases"][name]) for name in verdicts[verdict])
        return [f"{name}: {case['ratio']:.3g}, must be {case['must be']}" for name, case in cases]

    return {
        "Met": verdicts[MET],
        "Not met": ratios(MISSED),
        f"No requirement on {isa}": ratios(NONE),
        "Left out": [f"{name}: {why}" for name, why in measured["left out"].items()],
    }
