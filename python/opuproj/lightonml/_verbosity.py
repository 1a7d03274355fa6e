"""How much is printed, and whether progress bars are shown."""

from __future__ import annotations

from .. import _check

_level = 0


def set_verbose_level(verbose_level: int) -> None:
    """Set how much all objects of this package tell.

    Parameters
    ----------
    verbose_level : int
        0, the default: nothing. From 1 on: a line and a progress bar for each transform of several vectors.

    Raises
    ------
    TypeError, ValueError
        If it is not an integer, or not from -1 to 3. (-1 is 0.)
    """
    global _level
    _level = max(0, _check.integer("verbose_level", verbose_level, -1, 3))


def get_verbose_level() -> int:
    """Return the level that :func:`set_verbose_level` set."""
    return _level


def tell(text: str) -> None:
    """Print a line for the user, from level 1 on."""
    if _level >= 1:
        print(text)
