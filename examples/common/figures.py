"""One style for all figures: the name, colour and line of each training method."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

from common import runs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Label, colour, line style. Colour-blind readers can distinguish the colours; line styles differ in print.
METHOD_STYLE: dict[str, tuple[str, str, str]] = {
    "bp": ("BP", "#000000", "-"),
    "dfa": ("DFA", "#0072b2", "--"),
    "odfa": ("ODFA", "#d55e00", "-."),
    "fitted": ("fitted", "#cc79a7", "--"),
    "odfa, optical": ("ODFA, optical", "#009e73", "-"),
    "shallow": ("SHLW", "#7f7f7f", ":"),
}


def style() -> None:
    """Draw into files, clean and readable. Call before importing pyplot's figures."""
    mpl.use("Agg")
    mpl.rcParams.update(
        {
            "axes.grid": True,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlesize": 11,
            "figure.constrained_layout.use": True,
            "figure.titlesize": 12,
            "font.size": 10.5,
            "grid.alpha": 0.3,
            "grid.linewidth": 0.6,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "lines.markersize": 4.5,
            "savefig.dpi": 150,
            "savefig.facecolor": "white",
        }
    )


def plain_log_ticks(axis: Any) -> None:
    """Mark 1, 2 and 5 of every decade of a logarithmic axis, as numbers and not as powers."""
    from matplotlib.ticker import LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter("{x:g}")


def save(fig: Figure, path: str | Path) -> None:
    """Write the figure atomically and close it."""
    from matplotlib import pyplot as plt

    runs.replace(Path(path), fig.savefig)
    plt.close(fig)
