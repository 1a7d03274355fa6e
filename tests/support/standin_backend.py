"""The CUDA backend on a GPU that the CPU stands in for: its kernels run by gpu_standin, on CPU tensors."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

# The device under which it is registered.
DEVICE = "standin"


class StandIn:
    """A GPU of three multiprocessors."""

    multiprocessors = 3

    def launch(
        self,
        file: str,
        kernel: str,
        grid: int,
        threads: int,
        shared: int,
        arguments: Sequence[Any],
        macros: Sequence[str] = (),
    ) -> None:
        import gpu_standin
        from opuproj.backends.cuda._gpu import values_of

        values = [np.uint64(value) if isinstance(value, int) else value for value in values_of(arguments)]
        assert shared <= 227 * 1024
        gpu_standin.launch(file, kernel, grid, threads, *values, macros=tuple(macros))

    def product(self, x: Any, panel: Any, out: Any) -> None:
        # What torch._int_mm asks for on a GPU.
        assert len(x) > 16
        assert x.shape[1] == panel.shape[1]
        assert (x.shape[1] % 8, len(panel) % 8, len(x) % 8) == (0, 0, 0)
        out.copy_(x.double() @ panel.double().t())  # exact, because the sums stay below 2**53

    def capturing(self) -> bool:
        return False

    def wait(self) -> None:
        pass


def register() -> None:
    """Register the backend, if torch and a compiler are there."""
    if find_spec("torch") is None or shutil.which("g++") is None:
        return
    import torch
    from opuproj import _device_batch, backends
    from opuproj.backends.cuda._backend import Cuda

    cuda = Cuda(lambda device: StandIn(), lambda name: torch.device("cpu"))
    backends.register(DEVICE, cuda)
    _device_batch.register_mover(DEVICE, cuda.moved)


def tensor_rows(name: str, x: Any) -> Any:
    """Rows of a CPU tensor, as those of a tensor on a GPU."""
    from opuproj.inputs.tensors import DeviceRows

    rows = DeviceRows(name, x)
    rows.device = DEVICE
    return rows
