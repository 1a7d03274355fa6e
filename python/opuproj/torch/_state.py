"""What tells a layer's matrix from others, as tensors: for a state_dict, and for a stack of layers."""

from __future__ import annotations

import struct
from typing import Any

import torch

from .._spec import Spec
from . import _numbers

VERSION = 1

# Their places are part of the format: only add at the end.
_MODES = ("intensity", "linear", "complex")
_ENSEMBLES = ("gaussian", "structured")

# version; shape and rows; seed; mode; n_anchor; ensemble
_STATE = struct.Struct("<B4qQBHB")
# seed; what else layers of a stack must have in common
_MEMBER = struct.Struct("<QI")


def tensor_of(spec: Spec, n_outputs: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """Return the specification of rows of a matrix of n_outputs rows as a tensor."""
    data = _STATE.pack(
        VERSION,
        n_outputs,
        spec.n_inputs,
        spec.row_start,
        spec.row_stop,
        spec.seed,
        _MODES.index(spec.mode),
        spec.n_anchor,
        _ENSEMBLES.index(spec.ensemble),
    )
    return _numbers.tensor_of(data, device=device)


def read(state: Any) -> dict[str, Any]:
    """Return the state that a tensor stands for, or a dict of a version that had no tensors."""
    if isinstance(state, torch.Tensor):
        return _state_of(state)
    if not isinstance(state, dict):
        raise TypeError(f"the state is a {type(state).__name__}, but must be a tensor, or a dict of an earlier version")
    state = {"ensemble": "gaussian", **state}  # what was saved before there was another
    for name in ("version", "shape", "rows", "seed", "mode", "n_anchor"):
        if name not in state:
            raise ValueError(f"the state has no {name!r}: it is not that of a Projection")
    pairs = {name: tuple(state[name]) if isinstance(state[name], list) else state[name] for name in ("shape", "rows")}
    return {**state, **pairs}


def _state_of(tensor: torch.Tensor) -> dict[str, Any]:
    data = _numbers.bytes_of(tensor, "the state of a Projection")
    version = data[0] if data else 0
    if version != VERSION:
        raise ValueError(f"the state's version is {version}, but this Projection's is {VERSION}")
    if len(data) != _STATE.size:
        raise ValueError(f"the state has {tensor.numel()} numbers: it is not that of a Projection")
    _, n_outputs, n_inputs, start, stop, seed, mode, n_anchor, ensemble = _STATE.unpack(data)
    return {
        "version": version,
        "shape": (n_outputs, n_inputs),
        "rows": (start, stop),
        "seed": seed,
        "mode": _MODES[mode] if mode < len(_MODES) else mode,  # what is unknown is refused by its name
        "n_anchor": n_anchor,
        "ensemble": _ENSEMBLES[ensemble] if ensemble < len(_ENSEMBLES) else ensemble,
    }


def member_of(seed: int, kin: int, dtype: torch.dtype, device: torch.device | str) -> torch.Tensor:
    """Return a layer's seed as a tensor, and `kin`: a check value of what else layers of a stack have in common."""
    return _numbers.tensor_of(_MEMBER.pack(seed, kin), dtype, device)


def seed_of(member: torch.Tensor, kin: int) -> int:
    """Return the seed of another layer that takes a layer's place; raise ValueError if more than it is another."""
    data = _numbers.bytes_of(member, "the buffer '_member' of a Projection")
    seed, other = _MEMBER.unpack(data) if len(data) == _MEMBER.size else (0, None)
    if other != kin:
        raise ValueError(
            "the buffer '_member' is that of another Projection, whose place this one cannot take: layers of a stack "
            "(torch.func.stack_module_state, functional_call) may have seeds of their own, but must share n_inputs, "
            "rows, mode, n_anchor, ensemble, digits, ternarize and camera"
        )
    return int(seed)
