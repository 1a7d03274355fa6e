"""The learning rates of an optimizer: one for the parameters that blocks train, one for all others."""

from __future__ import annotations

import copy
from collections.abc import Set
from typing import Any

import torch


def parameters_of(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """Return the parameters of an optimizer."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def rate_of(optimizer: torch.optim.Optimizer, of_blocks: Set[int], *, blocks: bool) -> float:
    """Return the learning rate of the first group that holds parameters of the blocks, or of the rest."""
    groups = optimizer.param_groups
    return next(float(g["lr"]) for g in groups if any((id(p) in of_blocks) is blocks for p in g["params"]))


def set_rates(optimizer: torch.optim.Optimizer, of_blocks: Set[int], block_rate: float, top_rate: float) -> None:
    """Give the parameters of the blocks one learning rate and all others another.

    A group that holds both becomes two groups. Each keeps the group's other settings, and the optimizer its state.

    Parameters
    ----------
    optimizer : Optimizer
        The optimizer.
    of_blocks : set of int
        The ids of the parameters that blocks train.
    block_rate, top_rate : float
        The learning rates.
    """
    divided = []
    for group in optimizer.param_groups:
        for blocks, rate in ((True, block_rate), (False, top_rate)):
            places = [i for i, p in enumerate(group["params"]) if (id(p) in of_blocks) is blocks]
            if places:
                divided.append({**group, **_part(group, places), **_rates(group, rate)})
    optimizer.param_groups[:] = divided


def copy_of(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return a copy of an optimizer, with its state but without its hooks, for the same parameters."""
    return copy.deepcopy(optimizer, {id(p): p for p in parameters_of(optimizer)})


def _part(group: dict[str, Any], places: list[int]) -> dict[str, Any]:
    """Return the parameters at some places of a group, and their names if it has names."""
    return {key: [group[key][i] for i in places] for key in ("params", "param_names") if key in group}


def _rates(group: dict[str, Any], rate: float) -> dict[str, Any]:
    """Return a group's learning rates, the initial one too if a scheduler set it; a tensor stays one."""
    return {
        key: torch.full_like(group[key], rate) if isinstance(group[key], torch.Tensor) else rate
        for key in ("lr", "initial_lr")
        if key in group
    }
