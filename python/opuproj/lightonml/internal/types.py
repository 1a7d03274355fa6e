"""Settings of the hardware, which a simulated device accepts and reports."""

from __future__ import annotations

from enum import Enum


class InputRoiStrategy(Enum):
    """The layout of features on the input device. A simulated device has no pixels, so it has no effect."""

    full = 1
    """Enlarged to fill the display."""
    small = 2
    """One pixel for each feature, in the middle."""
    auto = 3
    """Whichever of the two gives the better signal."""


class FeaturesFormat(Enum):
    """The layout of features on the input device."""

    lined = 1
    """One after the other."""
    macro_2d = 2
    """As squares of pixels."""
    auto = 3
    """``lined`` for 1-D features, ``macro_2d`` for 2-D features."""
    none = 4
    """No layout, as a simulated device reports."""
