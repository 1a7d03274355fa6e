"""How the blocks of a model are trained."""

from __future__ import annotations

from typing import Literal

Method = Literal["odfa", "dfa", "bp", "shallow"]
METHODS: tuple[Method, ...] = ("odfa", "dfa", "bp", "shallow")
