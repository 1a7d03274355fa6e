"""Settings of the hardware, which a simulated device accepts and reports."""

from __future__ import annotations

from enum import Enum


class InputRoiStrategy(Enum):
    """How features are shown on the input device. A simulated one has no pixels: the strategy changes nothing."""

    full = 1
    """Zoomed, so that they fill the display."""
    small = 2
    """One pixel a feature, in the middle."""
    auto = 3
    """Whichever of the two gives the better signal."""


class FeaturesFormat(Enum):
    """How features were laid out on the input device."""

    lined = 1
    """One after the other."""
    macro_2d = 2
    """As squares of pixels."""
    auto = 3
    """Lined if they are 1-D, squares if they are 2-D."""
    none = 4
    """Not at all: what a simulated device reports."""
