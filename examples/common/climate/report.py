"""The table of climate_vit.py's networks at the paper's sizes, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from common import devices, figures, runs
from common.climate.figures import NAMES
from common.tables import NOT_YET, markdown, mean, plus_minus

# arXiv:2409.12965, section 4. Its errors are in a figure only (3b), and it states no times.
PAPER_PARAMETERS = {"vit": "200 million, 134 with feedback", "mlp": "1.3 billion, 1.03 with feedback"}
COLUMNS = (
    "network",
    "parameters",
    "in the paper",
    "RMSE, years (K)",
    "RMSE, decade means (K)",
    "seconds a run",
    "kJ a run",
    "GPU memory",
    "seeds",
)


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Return a row for each network and method: means over the seeds, or that there is no run yet."""
    rows = []
    for network in NAMES:
        for method in runs.METHODS:
            some = [r for r in results if (r["network"], r["method"]) == (network, method)]
            cells = [NOT_YET, "", "", "", "", ""]
            if some:
                cells = [
                    plus_minus([r["rmse"] for r in some], ".3f"),
                    plus_minus([r["decade_rmse"] for r in some], ".3f"),
                    mean([r["seconds"] for r in some], 1, ".0f"),
                    mean([r["joules"] for r in some], 1e-3, ".1f"),
                    mean([r["peak_memory"] for r in some], 1e-9, ".1f", " GB"),
                    ", ".join(str(seed) for seed in sorted(r["seed"] for r in some)),
                ]
            name = f"{NAMES[network]}, {figures.METHOD_STYLE[method][0]}"
            parameters = f"{some[0]['parameters']:,}" if some else ""
            rows.append([name, parameters, PAPER_PARAMETERS[network], *cells])
    text = markdown(COLUMNS, rows)
    return f"{text}\n\n{', '.join(devices.names(results))}" if results else text
