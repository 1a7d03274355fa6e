"""What the CUDA backend needs of a GPU: launches of kernels, and the int8 product of a library.

Memory is torch's: scratch and results are tensors, so they come from torch's allocator, on the caller's stream.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from ...inputs.tensors import captured
from ._device import device, relaxed

# Shared memory of the tables of the entries of T: the round table with 32 copies, and 16 tables of the last round.
TABLE_BYTES = 256 * 32 * 4 + 16 * 256
# Bytes between two entries of the round table. An argument, so that the compiler makes addresses by multiply-adds.
TABLE_STRIDE = np.uint32(128)


# The address of the current stream of a device. `torch.cuda.current_stream` also makes an object for it.
_current_stream: Callable[[int], int] | None = getattr(torch._C, "_cuda_getCurrentRawStream", None)


def dtype_name(x: torch.Tensor) -> str:
    """Return the name of a tensor's dtype, by which kernels are named."""
    return str(x.dtype).removeprefix("torch.")


def values_of(arguments: Sequence[Any]) -> list[Any]:
    """Return the arguments of a kernel, with an address in place of each tensor, and 0 in place of None."""
    return [a.data_ptr() if isinstance(a, torch.Tensor) else 0 if a is None else a for a in arguments]


class Gpu(Protocol):
    """One GPU."""

    multiprocessors: int

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
        """Launch a kernel on the current stream. A tensor passes its address, and None a null pointer."""

    def product(self, x: torch.Tensor, panel: torch.Tensor, out: torch.Tensor) -> None:
        """Write the product of int8 rows with the rows of a panel to `out`, of int32."""

    def capturing(self) -> bool:
        """Return whether the current stream is captured into a graph, so that nothing may wait for it."""

    def wait(self) -> None:
        """Wait until the current stream has done its work, except while it is captured."""


class Hardware:
    """A GPU of this machine."""

    def __init__(self, index: int) -> None:
        self._device = device(index)
        self._index = index
        self._place = torch.device("cuda", index)
        self.multiprocessors = self._device.multiprocessors

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
        if _current_stream is None:
            stream = torch.cuda.current_stream(self._index).cuda_stream
        else:
            stream = _current_stream(self._index)
        self._device.launch(stream, file, kernel, grid, threads, shared, values_of(arguments), tuple(macros))

    def product(self, x: torch.Tensor, panel: torch.Tensor, out: torch.Tensor) -> None:
        if not self.capturing():
            torch._int_mm(x, panel.t(), out=out)
            return
        with relaxed():  # the first product of a thread makes the library's handle
            torch._int_mm(x, panel.t(), out=out)

    def capturing(self) -> bool:
        return captured(self._place)

    def wait(self) -> None:
        if not self.capturing():
            torch.cuda.current_stream(self._index).synchronize()


def used_here(*tensors: torch.Tensor) -> None:
    """Let nothing overwrite the memory of tensors before the current stream is done, even if they are freed earlier.

    A caller who uses a batch on another stream cannot say so by ``record_stream``, because it hides its tensors.
    """
    if tensors[0].is_cuda:
        stream = torch.cuda.current_stream(tensors[0].device)
        for tensor in tensors:
            tensor.record_stream(stream)


def grid_for(gpu: Gpu, n_threads: int, threads: int, most: int) -> int:
    """Return the number of blocks of `threads` threads for `n_threads` of work, at most `most` a multiprocessor."""
    return max(1, min(most * gpu.multiprocessors, -(-n_threads // threads)))
