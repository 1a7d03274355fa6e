"""A camera and its noise as an operator of torch can take them: a text, and a tensor that holds a seed."""

from __future__ import annotations

import json
from dataclasses import asdict

import torch

from ..camera import Camera, imperfect


def text_of(camera: Camera | None) -> str:
    """Return a camera as text, which an operator of torch can take; without one, no text."""
    return "" if camera is None else json.dumps(asdict(camera))


def camera_of(text: str) -> Camera | None:
    """Return the camera that a text stands for."""
    return Camera(**json.loads(text)) if text else None


def noise_for(camera: Camera | None) -> torch.Tensor | None:
    """Draw a seed for a camera's noise from torch's generator, as dropout does: it can be set, saved and resumed."""
    if not imperfect(camera):
        return None
    return torch.randint(2**63 - 1, (), dtype=torch.int64, device="cpu")


def seed_of(noise: torch.Tensor | None) -> int | None:
    """Return a drawn seed as a number."""
    return None if noise is None else int(noise)
