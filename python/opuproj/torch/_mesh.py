"""Device meshes and DTensors, for a layer on the ranks of one process group."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

# Where DTensor is: in torch 2.4 under the second name only.
_MODULES = ("torch.distributed.tensor", "torch.distributed._tensor")


@dataclass(frozen=True)
class DistributedInput:
    """A DTensor's local part and placements; `dim` is the dimension of the mesh that holds the layer's ranks."""

    local: torch.Tensor
    mesh: Any
    placements: tuple[Any, ...]
    dim: int
    leading: tuple[int, ...]


def distributed_input(x: Any, group: Any, shard: str, n_inputs: int) -> DistributedInput | None:
    """Return a DTensor's local part and placements, after a check against the layer's shard; None for other inputs."""
    module = next((module for name in _MODULES if hasattr(module := sys.modules.get(name), "DTensor")), None)
    if module is None or not isinstance(x, module.DTensor):
        return None
    mesh, ranks = x.device_mesh, dist.get_process_group_ranks(group)
    dims = [d for d in range(mesh.ndim) if dist.get_process_group_ranks(mesh.get_group(d)) == ranks]
    if not dims:
        raise ValueError(f"x is a DTensor over {mesh}, but none of its dimensions has this layer's ranks {ranks}")
    dim, last = dims[-1], x.ndim - 1
    wanted = module.Replicate() if shard == "rows" else module.Shard(last)
    others = [p for d, p in enumerate(x.placements) if d != dim]
    if x.placements[dim] != wanted or any(p.is_partial() or p.is_shard(last) for p in others):
        raise ValueError(
            f"x has placements {x.placements}, but shard {shard!r} needs {wanted} on dimension {dim} of the "
            "mesh, and whole vectors on the others: use x.redistribute"
        )
    if x.shape[-1] != n_inputs:
        raise ValueError(f"x has shape {tuple(x.shape)}, but must have shape (..., {n_inputs})")
    return DistributedInput(x.to_local(), mesh, tuple(x.placements), dim, tuple(x.shape[:-1]))


def dtensors() -> Any:
    """Import and return the module of DTensor."""
    module = importlib.import_module(_MODULES[0])
    return module if hasattr(module, "DTensor") else importlib.import_module(_MODULES[1])


def group_of(mesh: Any, mesh_dim: str | int | None, group: Any) -> Any:
    """Return the process group that the arguments select; None means all processes."""
    if mesh is None:
        if mesh_dim is not None:
            raise ValueError(f"mesh_dim is {mesh_dim!r}, but there is no mesh: pass mesh=")
        return group
    if group is not None:
        raise ValueError("both mesh and group are given: pass one of them")
    if mesh_dim is None and mesh.ndim != 1:
        raise ValueError(f"mesh has {mesh.ndim} dimensions: choose one with mesh_dim")
    return mesh.get_group(mesh_dim)
