"""The table of the study at the paper's size, in Markdown, beside what the paper says in numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from common import devices, runs
from common.gpt.figures import label
from common.tables import NOT_YET, markdown, mean, plus_minus

# arXiv:2409.12965, section 3, on the device and the GPU of its authors. Its losses are curves only (figure 2c).
PAPER_HOURS = {"bp": "about 2 h", "odfa": "about 20 h"}
COLUMNS = ("method", "loss", "more than BP", "minutes a run", "kJ a run", "GPU memory", "seeds", "time in the paper")


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Return a row for each method: means over the seeds, or that there is no run yet."""
    rows = []
    losses = {name: {r["settings"]["seed"]: r["validation_loss"] for r in of(results, name)} for name in runs.METHODS}
    for name in runs.METHODS:
        some = of(results, name)
        cells = [NOT_YET, "", "", "", "", ""]
        if some:
            more = [loss - losses["bp"][seed] for seed, loss in losses[name].items() if seed in losses["bp"]]
            cells = [
                plus_minus(list(losses[name].values()), ".4f"),
                plus_minus(more, "+.4f") if more and name != "bp" else "",
                mean([r["seconds"] for r in some], 1 / 60, ".1f"),
                mean([r.get("joules") for r in some], 1e-3, ".1f"),
                mean([r.get("peak_memory") for r in some], 1e-9, ".1f", " GB"),
                ", ".join(str(seed) for seed in sorted(losses[name])),
            ]
        rows.append([label(name), *cells, PAPER_HOURS.get(name, "not stated")])
    return markdown(COLUMNS, rows)


def description(results: Sequence[Mapping[str, Any]]) -> str:
    """Return what the runs have in common: text, parameters, steps, rates, devices."""
    if not results:
        return "No run has finished."
    first = results[0]
    rates = ", ".join(f"{label(m)} {of(results, m)[0]['settings']['rate']:.2g}" for m in runs.METHODS if of(results, m))
    text = (
        f"{first['parameters']:,} parameters, {first['steps']:,} steps of {first['settings']['batch']} windows; "
        f"{first['corpus']}; learning rates {rates}; {', '.join(devices.names(results))}"
    )
    return text + ", bfloat16 autocast" * bool(first["computed"]["autocast"])


def of(results: Sequence[Mapping[str, Any]], method: str) -> list[Mapping[str, Any]]:
    """Return the results of one method."""
    return [r for r in results if r["settings"]["method"] == method]
