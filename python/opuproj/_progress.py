"""Progress of a long computation: a bar in a terminal or notebook, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

# Seconds between the lines that a file or a pipe gets.
_LINE_INTERVAL = 60.0
_LINE = "{desc}: {percentage:3.0f}%, {n_fmt}/{total_fmt}{unit} [{elapsed}<{remaining}, {rate_fmt}]"


def part_of(advance: Callable[[float], None], start: float, share: float) -> Callable[[float], None]:
    """Return a function that reports the progress of one part of the work: the `share` of it that begins at `start`."""
    return lambda fraction: advance(start + share * fraction)


@contextmanager
def bar(n_outputs: int) -> Iterator[Callable[[float], None]]:
    """Show the progress of `n_outputs` outputs; yield the function that takes the fraction done.

    A terminal or a notebook shows a bar. A file or a pipe, which cannot redraw a line, gets one line a minute and one
    at the end. Without a standard error nothing is shown. The bar is closed even if the work fails.
    """
    from tqdm.auto import tqdm  # imports the notebook's widgets, so only when a bar is wanted

    # The core limits how often it reports, so each report may be drawn.
    how: dict[str, Any] = {"mininterval": 0}
    if sys.stderr is None:
        how = {"disable": True}
    elif not (sys.stderr.isatty() or _in_notebook()):
        # The delay suppresses the first line, at 0 %.
        how = {"mininterval": _LINE_INTERVAL, "delay": 1e-9, "bar_format": _LINE, "file": _Lines(sys.stderr)}
    with tqdm(total=n_outputs, unit=" outputs", unit_scale=True, desc="opuproj", **how) as shown:

        def advance(fraction: float) -> None:
            shown.update(round(fraction * n_outputs) - shown.n)

        yield advance


@contextmanager
def shown(progress: bool | Callable[[float], None], n_outputs: int) -> Iterator[Callable[[float], None]]:
    """Yield the function that receives the fraction done: the one that is given, or that of a new bar."""
    if callable(progress):
        yield progress
        return
    with bar(n_outputs) as advance:
        yield advance


@contextmanager
def reported(progress: bool | Callable[[float], None], n_outputs: int) -> Iterator[Callable[[float], None] | None]:
    """Yield the function that receives the fraction done, as `shown`, or None if no progress is to be shown."""
    if not progress:
        yield None
        return
    with shown(progress, n_outputs) as advance:
        yield advance


class _Lines:
    """A stream that writes each state of a bar once, as a line of its own, without carriage returns."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._last = stream, ""

    def write(self, text: str) -> None:
        line = text.strip()
        if line and line != self._last:
            self._stream.write(f"{line}\n")
            self._last = line

    def flush(self) -> None:
        self._stream.flush()


def _in_notebook() -> bool:
    """Whether a Jupyter kernel runs this process."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None
