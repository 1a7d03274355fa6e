"""The ternary rule and the camera as plain numbers and names, for a state dict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from ..camera import Camera
from ..torch import BatchMax, Dither, Fixed, RowMax, RowStd, Ternarize, TopK

_RULES: dict[str, Any] = {rule.__name__: rule for rule in (BatchMax, Dither, Fixed, RowMax, RowStd, TopK)}


def ternarize_state(ternarize: Ternarize) -> dict[str, Any]:
    """Return a Ternarize as plain numbers and names."""
    rule: Any = ternarize.rule
    if _RULES.get(type(rule).__name__) is not type(rule):
        raise TypeError(
            f"ternarize has the rule {rule!r}, which a state cannot hold: save it yourself, and set one of "
            f"{', '.join(_RULES)} before calling state_dict"
        )
    numbers = {field.name: getattr(rule, field.name) for field in fields(rule)}
    return {
        "rule": type(rule).__name__,
        **{name: _plain(value) for name, value in numbers.items()},
        "norm": ternarize.norm,
    }


def _plain(value: Any) -> int | float | str:
    if isinstance(value, str):
        return str(value)
    return int(value) if isinstance(value, int) else float(value)


def ternarize_from_state(state: Mapping[str, Any]) -> Ternarize:
    """Return the Ternarize of a state."""
    numbers = dict(state)
    name, norm = numbers.pop("rule", None), numbers.pop("norm", None)
    if name not in _RULES:
        raise ValueError(f"the state's ternarize has the rule {name!r}, but must have one of {', '.join(_RULES)}")
    return Ternarize(_RULES[name](**numbers), norm)  # type: ignore[arg-type]


def camera_state(camera: Camera | None) -> dict[str, Any] | None:
    """Return a camera as plain numbers and names."""
    return None if camera is None else asdict(camera)


def camera_from_state(state: Mapping[str, Any] | None) -> Camera | None:
    """Return the camera of a state."""
    return None if state is None else Camera(**state)
