"""The base class of peers that compute on an NVIDIA GPU. None of them has ever run on one."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from benches.inputs import Ternary
from benches.peers.base import Peer
from benches.result import size
from benches.setting import UnavailableError
from benches.timing import Work


class CudaPeer(Peer):
    """All that a user pays is counted.

    A call copies x to the GPU as int8, converts it there, multiplies, and copies the result to existing memory of the
    host, which is pinned. The time to build ends when the GPU is done. A program whose data are on the GPU calls
    `product`, which copies nothing to or from the host.
    """

    device: ClassVar[str] = "cuda"  # tests set "cpu"

    @classmethod
    def check(cls, n_inputs: int, n_outputs: int) -> None:
        super().check(0, 0)  # packages; the matrix takes no memory of the host
        # As much again for drawing the matrix, for x and for the result.
        cls._check_device(2 * cls.stored_bytes(n_inputs, n_outputs))

    @classmethod
    def _check_device(cls, needed: int) -> None:
        """Raise UnavailableError if PyTorch finds no CUDA device, or one with too little memory."""
        import torch

        if cls.device != "cuda":
            return
        if not torch.cuda.is_available():
            raise UnavailableError("PyTorch sees no CUDA device")
        available, _ = torch.cuda.mem_get_info()
        if needed > available:
            raise UnavailableError(f"it takes {size(needed)} on the GPU, which has {size(available)}")

    @classmethod
    def wait(cls) -> None:
        """Wait until the GPU is done."""
        if cls.device == "cuda":
            import torch

            torch.cuda.synchronize()

    @abstractmethod
    def product(self, x: Any) -> Any:
        """Convert an int8 tensor of shape (batch, n_inputs) on the GPU and multiply it; this does not wait."""

    def multiply(self, x: Ternary) -> Work:
        import torch

        given = torch.from_numpy(x)
        like = self.product(given.to(self.device))
        result = torch.empty(like.shape, dtype=like.dtype, pin_memory=self.device == "cuda")

        def run() -> Any:
            result.copy_(self.product(given.to(self.device)))  # waits for the GPU
            return result

        return run
