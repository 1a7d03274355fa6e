"""One style for all pictures of speed, readable on light and on dark pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Medium tones that colour-blind readers can distinguish.
GREY, BLUE, ORANGE, GREEN = "#848d97", "#2f81f7", "#db6d28", "#2da44e"


@contextmanager
def picture(path: Path, columns: int, title: str, made_on: Mapping[str, Any]) -> Iterator[tuple[Figure, list[Axes]]]:
    """Panels side by side under a title that names the machine; saved when the block ends."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    look = dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), GREY)
    with mpl.rc_context({**look, "font.size": 11}):
        figure, panels = plt.subplots(1, columns, figsize=(10 if columns > 1 else 7.2, 4.6), squeeze=False)
        for axes in panels[0]:
            axes.grid(color=GREY, alpha=0.25, linewidth=0.6)
            axes.patch.set_alpha(0)
        figure.suptitle(f"{title}, {_machine(made_on)}", fontsize=11)
        try:
            yield figure, list(panels[0])
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(path, dpi=160, transparent=True)
        finally:
            plt.close(figure)


def _machine(made_on: Mapping[str, Any]) -> str:
    return made_on["gpu"] if "gpu" in made_on else f"{made_on['cpu']} ({made_on['isa']}), {made_on['cores']} cores"


def legend_above(figure: Figure, axes: Axes, columns: int = 3) -> None:
    """Put the legend above the panels, where it covers no curve."""
    figure.legend(
        *axes.get_legend_handles_labels(), frameon=False, loc="upper center", ncol=columns, bbox_to_anchor=(0.5, 0.94)
    )
    figure.tight_layout(rect=(0, 0, 1, 0.93 - 0.05 * ((len(axes.get_legend_handles_labels()[0]) - 1) // columns)))
