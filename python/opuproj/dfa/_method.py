"""The training methods."""

from __future__ import annotations

from typing import Literal

Method = Literal["odfa", "dfa", "bp", "shallow"]
METHODS: tuple[Method, ...] = ("odfa", "dfa", "bp", "shallow")
