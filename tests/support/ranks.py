"""Several processes that form a gloo group, for tests of what is spread over them."""

from __future__ import annotations

import multiprocessing
import pickle
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any

# Forked from a process that has imported torch once and has no threads yet.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["opuproj.torch", "opuproj.dfa", "torch._dynamo", "torch.distributed.tensor.parallel"])


def on_ranks(
    program: Callable[..., Any], world: int, *arguments: Any, timeout: float = 30, lost: tuple[int, ...] = ()
) -> list[Any]:
    """Run program(rank, world, *arguments) in so many processes and return what each of them returns.

    A rank of `lost` is expected to end without a word, and gives None. Any other that fails fails the test.
    """
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            _context.Process(target=_work, args=(program, rank, world, pickle.dumps(arguments), folder, timeout))
            for rank in range(world)
        ]
        for process in processes:
            process.start()
        until = monotonic() + 90
        for process in processes:
            process.join(max(0.1, until - monotonic()))
        late = [rank for rank, process in enumerate(processes) if process.is_alive()]
        for rank in late:
            processes[rank].kill()
            processes[rank].join()
        assert not late, f"ranks {late} did not end"
        results = []
        for rank in range(world):
            path = Path(folder, f"{rank}.pickle")
            assert path.exists() is (rank not in lost), f"rank {rank} ended with {processes[rank].exitcode}"
            done, result = pickle.loads(path.read_bytes()) if path.exists() else (True, None)
            assert done, f"rank {rank}: {result}"
            results.append(result)
        return results


def _work(program: Any, rank: int, world: int, arguments: bytes, folder: str, timeout: float) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    try:
        dist.init_process_group(
            "gloo", f"file://{folder}/rendezvous", rank=rank, world_size=world, timeout=timedelta(seconds=timeout)
        )
        result = True, program(rank, world, *pickle.loads(arguments))
        dist.destroy_process_group()
    except BaseException:
        result = False, traceback.format_exc()
    partial = Path(folder, f"{rank}.partial")
    partial.write_bytes(pickle.dumps(result))
    partial.rename(Path(folder, f"{rank}.pickle"))
