"""A model of the time of a projection over several machines, with a few measured parameters.

A job projects n dense ternary vectors of d elements to m outputs over k ranks, one per node, each with all its cores.
Each rank generates its share of T's 2 d m components (real and imaginary) once and multiplies each n times. It computes
for

    rows      2 d ⌈m/k⌉ (entry + n multiply) / cores + n ⌈m/k⌉ read / cores
    columns   2 ⌈d/k⌉ m (entry + n multiply) / cores + n ⌈m/k⌉ read / cores

and waits for

    rows      n d pack (rank 0 packs for all) + ⌈log₂ k⌉ (2 latency + n d/4 / bandwidth): a tree of broadcasts
    columns   n ⌈d/k⌉ pack + 2 ⌈log₂ k⌉ latency + (k − 1) latency + 8 n m (k − 1)/k / bandwidth: all to all

The model assumes that nothing of this overlaps, that all cores of a node together are as fast as one alone, and that
results stay where they are computed. `latency` is that of a message, `bandwidth` that of a node's link.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

# The size to which a packed vector is rounded up.
_WORD_BITS, _WORD_BYTES = 64, 16


@dataclass(frozen=True)
class Node:
    """One machine: seconds on one core, and the number of cores."""

    cores: float
    entry: float
    multiply: float
    pack: float
    read: float


@dataclass(frozen=True)
class Network:
    """Seconds of a message, and bytes per second of a node's link."""

    latency: float
    bandwidth: float


@dataclass(frozen=True)
class Job:
    """n dense vectors of d elements to m outputs, divided by rows or by columns of T."""

    n: int
    d: int
    m: int
    shard: Literal["rows", "columns"] = "rows"


@dataclass(frozen=True)
class Plan:
    """Seconds of a job: computing of a rank, and waiting for packing and for messages."""

    compute: float
    wait: float
    link_bytes: float

    @property
    def seconds(self) -> float:
        """Seconds of the whole job."""
        return self.compute + self.wait


def link_bytes(job: Job, ranks: int) -> float:
    """Return the bytes that a rank receives from others, up to a few hundred."""
    if ranks == 1:
        return 0.0
    if job.shard == "rows":
        return float(job.n * -(-job.d // _WORD_BITS) * _WORD_BYTES)
    return 8.0 * job.n * -(-job.m // ranks) * (ranks - 1)


def plan(job: Job, ranks: int, node: Node, network: Network) -> Plan:
    """Return the time of a job on this many ranks, one per node."""
    own_rows = -(-job.m // ranks)
    rows, columns = (own_rows, job.d) if job.shard == "rows" else (job.m, -(-job.d // ranks))
    compute = 2 * rows * columns * (node.entry + job.n * node.multiply) / node.cores
    compute += job.n * own_rows * node.read / node.cores
    wait, moved = job.n * columns * node.pack, link_bytes(job, ranks)
    if ranks > 1:
        hops = math.ceil(math.log2(ranks))
        if job.shard == "rows":
            wait += hops * (2 * network.latency + moved / network.bandwidth)
        else:
            wait += (2 * hops + ranks - 1) * network.latency + moved / network.bandwidth
    return Plan(compute, wait, moved)
