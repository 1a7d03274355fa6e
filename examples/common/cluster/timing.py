"""Measure the parameters of the cluster model on one machine, in one process and in several."""

from __future__ import annotations

import os
import tempfile
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import opuproj
import torch
import torch.distributed as dist
from opuproj.torch import ShardedProjection

from common.cluster.model import Job, Network, Node

_MESSAGE = 1 << 24


def node(size: int, rounds: int) -> Node:
    """Measure one core, by projections of one vector and of many of `size` elements to `size` outputs."""
    many = 256
    x = _vectors(many, size)
    one, all_of_them = opuproj.pack(x[:1]), opuproj.pack(x)
    operator = opuproj.Projector(size, size, mode="intensity", threads=1)
    parts = 2 * size * size
    entry = _seconds(lambda: operator(one), rounds) / parts
    multiply = max(0.0, _seconds(lambda: operator(all_of_them), rounds) / parts - entry) / many
    pack = _seconds(lambda: opuproj.pack(x), rounds) / x.size
    dark = opuproj.pack(np.zeros((many, 1), np.int8))
    reader = opuproj.Projector(1, size, mode="intensity", threads=1)
    read = _seconds(lambda: reader(dark), rounds) / (many * size)
    return Node(1, entry, multiply, pack, read)


def network(ranks: int, rounds: int) -> Network:
    """Measure small and large messages from all to all processes of this machine."""
    return Network(*_spawned(_messages, ranks, rounds))


def seconds(job: Job, ranks: int, rounds: int) -> float:
    """Measure a job over processes of one thread each."""
    taken: float = _spawned(_job, ranks, job, rounds)
    return taken


def _messages(rank: int, ranks: int, rounds: int) -> tuple[float, float]:
    taken = []
    for n_bytes in (8 * ranks, _MESSAGE):
        message, received = torch.zeros(n_bytes, dtype=torch.uint8), torch.empty(n_bytes, dtype=torch.uint8)
        taken.append(_seconds(partial(dist.all_to_all_single, received, message), rounds, dist.barrier))
    return taken[0] / (ranks - 1), _MESSAGE * (ranks - 1) / ranks / max(1e-9, taken[1] - taken[0])


def _job(rank: int, ranks: int, job: Job, rounds: int) -> float:
    layer = ShardedProjection(job.d, job.m, mode="intensity", shard=job.shard, threads=1)
    x: Any = torch.from_numpy(_vectors(job.n, job.d))
    if job.shard == "columns":
        x = x[:, slice(*layer.shard_columns)].contiguous()
    elif rank > 0:
        x = None
    return _seconds(lambda: layer(x), rounds, dist.barrier)


def _spawned(work: Any, ranks: int, *arguments: Any) -> Any:
    """Return what rank 0 of so many processes returns of work(rank, ranks, *arguments)."""
    context = get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        queue = context.SimpleQueue()
        processes = [
            context.Process(target=_process, args=(work, rank, ranks, arguments, folder, queue))
            for rank in range(ranks)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        if any(process.exitcode for process in processes):
            raise RuntimeError(f"{work.__name__} failed on {ranks} processes: see what they printed")
        return queue.get()


def _process(work: Any, rank: int, ranks: int, arguments: Any, folder: str, queue: Any) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{Path(folder, 'rendezvous')}", rank=rank, world_size=ranks)
    result = work(rank, ranks, *arguments)
    dist.barrier()
    if rank == 0:
        queue.put(result)
    dist.destroy_process_group()


def _seconds(call: Any, rounds: int, together: Any = None) -> float:
    """Return the median time of a call, after a first one that does not count."""
    times = []
    for _ in range(rounds + 1):
        if together:
            together()
        started = perf_counter()
        call()
        if together:
            together()  # it ends when every rank has ended
        times.append(perf_counter() - started)
    return median(times[1:])


def _vectors(n: int, d: int) -> np.ndarray:
    return np.random.default_rng(0).integers(-1, 2, (n, d), dtype=np.int8)
