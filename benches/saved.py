"""Measured figures as JSON, with the machine that they were measured on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benches import machine

DATA = Path(__file__).resolve().parents[1] / "docs" / "data"


def write(path: Path, figures: Mapping[str, Any]) -> None:
    """Save figures and machine atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"machine": machine.describe(), **figures}
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        temporary.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read(path: Path) -> dict[str, Any]:
    """Read figures that `write` saved."""
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document
