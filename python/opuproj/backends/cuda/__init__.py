"""The CUDA backend: T on an NVIDIA GPU, with the CPU's bits.

`kernels/` holds the kernels in CUDA C++, readable beside the scalar definition of the Rust core. `_compile.py`
compiles them at first use, and `_device.py` launches them. The memory is torch's (`_gpu.py`). `projection.py` divides a
projection into ranges of rows; `_packing.py`, `_fields.py` and `_readout.py` are its three steps. `adjoint.py` computes
the adjoint. `packing.py` makes packed batches, which `packed.py` keeps on the GPU. `_values.py` raises errors about
values, which the GPU finds after a call has returned.

This file imports neither torch nor CUDA. :func:`load` does, when the first CUDA tensor arrives.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from ..._device_batch import DeviceBatch, register_mover
from .. import Backend, named, register_loader


def load() -> Backend | None:
    """Return the backend, or None where CUDA cannot be used; the CPU backend then serves CUDA tensors."""
    if why_not() is not None:
        return None
    from ._backend import Cuda

    return Cuda()


def move(packed: Any, device: str) -> DeviceBatch:
    """Copy a packed batch of the compiled core to a GPU, or raise RuntimeError if it cannot be used."""
    name, cuda = named(device)
    from ._backend import Cuda

    assert isinstance(cuda, Cuda)
    return cuda.moved(packed, name)


def why_not() -> str | None:
    """Return why the GPU cannot be used and what to do about it, or None if it can."""
    from . import _device

    return _device.why_not() or _why_no_torch()


def _why_no_torch() -> str | None:
    """Return why torch, which holds the memory of the GPU, cannot be used, or None if it can."""
    if find_spec("torch") is None:
        return "torch is not installed: install it with CUDA"
    import torch

    return None if torch.version.cuda else f"torch {torch.__version__} was built without CUDA: install it with CUDA"


register_loader("cuda", load, why_not)
register_mover("cuda", move)
