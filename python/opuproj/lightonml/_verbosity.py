"""The verbosity of the package: printed lines and progress bars."""

from __future__ import annotations

from .. import _check

_level = 0


def set_verbose_level(verbose_level: int) -> None:
    """Set the verbosity of all objects of this package.

    Parameters
    ----------
    verbose_level : int
        0, the default, prints nothing. 1 or more prints a line and shows a progress bar for each transform of several
        vectors.

    Raises
    ------
    TypeError, ValueError
        If it is not an integer from -1 to 3. (-1 means 0.)
    """
    global _level
    _level = max(0, _check.integer("verbose_level", verbose_level, -1, 3))


def get_verbose_level() -> int:
    """Return the level that :func:`set_verbose_level` set."""
    return _level


def print_verbose(text: str) -> None:
    """Print a line if the verbose level is 1 or more."""
    if _level >= 1:
        print(text)
