"""A progress bar around long work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


def part_of(advance: Callable[[float], None], start: float, share: float) -> Callable[[float], None]:
    """Return what tells `advance` of a part of the work: the `share` of it that begins at `start`."""
    return lambda fraction: advance(start + share * fraction)


@contextmanager
def bar(n_outputs: int) -> Iterator[Callable[[float], None]]:
    """Show a bar of `n_outputs` computed outputs; yield the function that tells it the fraction done.

    It appears in a terminal as in a notebook, and is closed however the work ends.
    """
    from tqdm.auto import tqdm  # imports the notebook's widgets, so not before somebody asks for a bar

    # The core reports at a bounded rate already: show all it says.
    with tqdm(total=n_outputs, unit=" outputs", unit_scale=True, desc="opuproj", mininterval=0) as shown:

        def advance(fraction: float) -> None:
            shown.update(round(fraction * n_outputs) - shown.n)

        yield advance
