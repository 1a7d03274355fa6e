"""The ranks of a process group, and their collective operations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist


class Ranks:
    """A process group, from the point of view of one of its ranks.

    Attributes
    ----------
    group : ProcessGroup
        The group.
    rank, size : int
        The index of this process in the group, and the number of processes.
    first : int
        The global rank of the group's first process.
    device : torch.device
        The device on which the group's backend expects tensors.
    nccl : bool
        Whether the group also takes CUDA tensors, which NCCL sends.
    """

    def __init__(self, group: Any = None) -> None:
        if not dist.is_available() or not dist.is_initialized():
            raise RuntimeError("torch.distributed has no process group yet: call init_process_group first")
        self.group = dist.group.WORLD if group is None else group
        self.rank, self.size = dist.get_rank(self.group), dist.get_world_size(self.group)
        if self.rank < 0:
            raise ValueError(f"the process group does not hold this process, rank {dist.get_rank()} of all")
        self.first = dist.get_global_rank(self.group, 0)
        backend = str(dist.get_backend_config(self.group))
        self.device = torch.device("cpu" if "cpu:" in backend else backend.partition(":")[0])
        self.nccl = "nccl" in backend

    # A copy of a module uses the same processes. A pickle is an error, because another process cannot replace this one.

    def __deepcopy__(self, memo: object) -> Ranks:
        return self

    def __reduce__(self) -> Any:
        raise TypeError("an object of a process group cannot be pickled: save its state_dict() and construct it again")

    @contextmanager
    def _collective(self, what: str) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise RuntimeError(
                f"rank {self.rank} of {self.size} could not finish {what}: another rank has ended, failed or not "
                f"joined within the group's timeout ({error})"
            ) from error

    def broadcast(
        self, src: int, what: str, meta: dict[str, Any] | None, data: bytes
    ) -> tuple[dict[str, Any], memoryview]:
        """Return the `meta` and `data` of rank `src`; other ranks pass None and b"". Errors name the operation, `what`.

        `meta` must be serialisable as JSON.
        """
        text = json.dumps(meta).encode() if self.rank == src else b""
        origin = dist.get_global_rank(self.group, src)
        sizes = torch.tensor([len(text), len(data)], dtype=torch.int64, device=self.device)
        with self._collective(what):
            dist.broadcast(sizes, origin, group=self.group)
            n_text, n_data = sizes.tolist()
            if self.rank == src:
                content = torch.frombuffer(bytearray(text + data), dtype=torch.uint8).to(self.device)
            else:
                content = torch.empty(n_text + n_data, dtype=torch.uint8, device=self.device)
            dist.broadcast(content, origin, group=self.group)
        received = memoryview(content.cpu().numpy())
        return json.loads(bytes(received[:n_text])), received[n_text:]

    def largest(self, numbers: list[int], what: str) -> list[int]:
        """Return the largest of each number over all ranks."""
        largest: list[int] = self._reduced(torch.tensor(numbers), dist.ReduceOp.MAX, what).tolist()
        return largest

    def total(self, numbers: torch.Tensor, what: str) -> torch.Tensor:
        """Return the sums of integers over all ranks."""
        return self._reduced(numbers, dist.ReduceOp.SUM, what)

    def _reduced(self, numbers: torch.Tensor, how: Any, what: str) -> torch.Tensor:
        numbers = numbers.to(self.device)
        with self._collective(what):
            dist.all_reduce(numbers, how, group=self.group)
        return numbers.cpu()

    def reduce_scatter(self, parts: torch.Tensor, what: str, *, where: torch.device | None = None) -> torch.Tensor:
        """Return the exact sum over all ranks of this rank's part, on the device of `parts`.

        `parts` holds integers and has shape (size, ...). They are exchanged on the device `where`, by default `device`.
        """
        given = parts.device
        parts = parts.to(self.device if where is None else where)
        theirs = torch.empty_like(parts)
        with self._collective(what):
            # Not reduce_scatter_tensor, for which gloo sends more than each rank's part.
            dist.all_to_all_single(theirs.flatten(0, 1), parts.flatten(0, 1), group=self.group)
        return theirs.sum(0, dtype=parts.dtype).to(given)

    def all_gather(self, part: torch.Tensor, what: str) -> torch.Tensor:
        """Return the parts of all ranks, which have one shape, as a tensor of shape (size, ...)."""
        real = torch.view_as_real(part) if part.is_complex() else part
        real = real.contiguous().to(self.device)
        parts = real.new_empty((self.size, *real.shape))
        with self._collective(what):
            dist.all_gather_into_tensor(parts.flatten(0, 1), real, group=self.group)
        return torch.view_as_complex(parts) if part.is_complex() else parts

    def all_gather_objects(self, mine: dict[str, Any], what: str) -> list[dict[str, Any]]:
        """Return the objects of all ranks, in the order of the ranks."""
        everything: list[Any] = [None] * self.size
        with self._collective(what):
            dist.all_gather_object(everything, mine, group=self.group)
        return everything
