"""Tensors that identify a layer's matrix, for a state_dict and for a stack of layers."""

from __future__ import annotations

import struct
from typing import Any

import torch

from .._spec import Spec
from ..camera import Camera, imperfect
from . import _numbers

VERSION = 1

# The indices are part of the format: add new names only at the end.
_MODES = ("intensity", "linear", "complex", "real")
_ENSEMBLES = ("gaussian", "structured")

# version; shape and rows; seed; mode; n_anchor; ensemble
_STATE = struct.Struct("<B4qQBHB")
# seed; fingerprint of the settings that layers of a stack share
_SEED = struct.Struct("<QI")


def tensor_of(spec: Spec, n_outputs: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """Return the identity of rows of a matrix with n_outputs rows as a tensor."""
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
    """Return the fields of a state: a tensor, or a dict of an earlier version."""
    if isinstance(state, torch.Tensor):
        return _state_of(state)
    if not isinstance(state, dict):
        raise TypeError(f"the state is a {type(state).__name__}, but must be a tensor, or a dict of an earlier version")
    state = {"ensemble": "gaussian", **state}  # older states lack it
    for name in ("version", "shape", "rows", "seed", "mode", "n_anchor"):
        if name not in state:
            raise ValueError(f"the state has no {name!r}: it does not belong to a Projection")
    pairs = {name: tuple(state[name]) if isinstance(state[name], list) else state[name] for name in ("shape", "rows")}
    return {**state, **pairs}


def _state_of(tensor: torch.Tensor) -> dict[str, Any]:
    data = _numbers.bytes_of(tensor, "the state of a Projection")
    version = data[0] if data else 0
    if version != VERSION:
        raise ValueError(f"the state's version is {version}, but this Projection's is {VERSION}")
    if len(data) != _STATE.size:
        raise ValueError(f"the state has {tensor.numel()} numbers: it does not belong to a Projection")
    _, n_outputs, n_inputs, start, stop, seed, mode, n_anchor, ensemble = _STATE.unpack(data)
    return {
        "version": version,
        "shape": (n_outputs, n_inputs),
        "rows": (start, stop),
        "seed": seed,
        "mode": _MODES[mode] if mode < len(_MODES) else mode,  # the check of the argument rejects unknown ones
        "n_anchor": n_anchor,
        "ensemble": _ENSEMBLES[ensemble] if ensemble < len(_ENSEMBLES) else ensemble,
    }


def seed_tensor(seed: int, fingerprint: int, dtype: torch.dtype, device: torch.device | str) -> torch.Tensor:
    """Return a tensor of a layer's seed and of `fingerprint`, a checksum of the settings that a stack shares."""
    return _numbers.tensor_of(_SEED.pack(seed, fingerprint), dtype, device)


def seed_of(tensor: torch.Tensor, fingerprint: int) -> int:
    """Return the seed of a layer's tensor; raise ValueError if its settings have another fingerprint."""
    data = _numbers.bytes_of(tensor, "the buffer '_seed_tensor' of a Projection")
    seed, other = _SEED.unpack(data) if len(data) == _SEED.size else (0, None)
    if other != fingerprint:
        raise ValueError(
            "the buffer '_seed_tensor' belongs to a Projection with other settings: layers of a stack "
            "(torch.func.stack_module_state, functional_call) may have different seeds, but must share n_inputs, "
            "rows, mode, n_anchor, ensemble, digits, ternarize and camera"
        )
    return int(seed)


def noise_for(camera: Camera | None) -> torch.Tensor | None:
    """Draw a seed for a camera's noise from torch's generator, which users can seed, save and restore."""
    if not imperfect(camera):
        return None
    return torch.randint(2**63 - 1, (), dtype=torch.int64, device="cpu")
