"""Conversion of a camera and its noise to arguments that a torch op accepts: a text, and a tensor with a seed."""

from __future__ import annotations

import json
from dataclasses import asdict

import torch

from ..camera import Camera, imperfect


def text_of(camera: Camera | None) -> str:
    """Return a camera as text, which a torch op accepts. The text is empty without a camera."""
    return "" if camera is None else json.dumps(asdict(camera))


def camera_of(text: str) -> Camera | None:
    """Return the camera that `text_of` wrote as this text."""
    return Camera(**json.loads(text)) if text else None


def noise_for(camera: Camera | None) -> torch.Tensor | None:
    """Draw a seed for a camera's noise from torch's generator, which users can seed, save and restore."""
    if not imperfect(camera):
        return None
    return torch.randint(2**63 - 1, (), dtype=torch.int64, device="cpu")


def seed_of(noise: torch.Tensor | None) -> int | None:
    """Return a drawn seed as an integer."""
    return None if noise is None else int(noise)
