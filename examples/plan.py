"""Predict the time of a projection on two cores and on up to a thousand nodes, from measurements on this machine.

The program measures, on one core, the times to generate an entry of T, to multiply it, to pack an element and to read
an output. It also measures messages between processes, and whole projections over 1, 2 and 4 processes of this
machine, by rows and by columns, to check the model in common/cluster/model.py. The table shows the prediction of the
model for nodes with cores like this machine's and for a network with the given latency and bandwidth.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common import runs
from common.cluster import model as cluster
from common.cluster import timing as cluster_timing
from common.cluster.model import Job, Network, Node, Plan

EXAMPLES = """examples:
  python examples/plan.py --quick                                     small measurements, then the table
  python examples/plan.py                                             on an otherwise idle machine
  python examples/plan.py --calibration FILE                          the table from numbers measured before
  python examples/plan.py --cores 128 --latency 2e-6 --bandwidth 25e9     for other nodes and networks"""

RANKS = (1, 2, 4)
NODES = (1, 10, 100, 1000)
INPUTS, OUTPUTS = 1_000_000, 2_000_000
BATCHES = (1, 64, 1024)


def main() -> None:
    """Measure or read a calibration, then plan and print."""
    arguments = parser().parse_args()
    runs.begin(arguments)
    path = arguments.calibration or arguments.out / "calibration.json"
    calibration = runs.read_json(path)
    if calibration is None:
        if arguments.calibration:
            raise SystemExit(f"--calibration is {path}, but there is no such file")
        calibration = measure(arguments.quick)
        runs.write_json(path, calibration)
    print(report(calibration, arguments.cores, Network(arguments.latency, arguments.bandwidth)))


def measure(quick: bool) -> dict[str, Any]:
    """Measure the parameters of the model, and jobs to compare it with."""
    size, rounds = (3000, 3) if quick else (16_000, 7)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    node = cluster_timing.node(size, rounds)
    jobs = [Job(64, size, 2 * size, "rows"), Job(64, size, 2 * size, "columns")]
    networks = {ranks: cluster_timing.network(ranks, rounds) for ranks in RANKS if ranks > 1}
    compared = [
        {**asdict(job), "ranks": ranks, "seconds": cluster_timing.seconds(job, ranks, rounds)}
        for job in jobs
        for ranks in RANKS
    ]
    return {
        "cores": cores,
        "node": asdict(node),
        "networks": {str(ranks): asdict(network) for ranks, network in networks.items()},
        "jobs": compared,
        "quick": quick,
    }


def report(calibration: dict[str, Any], cores: int, network: Network) -> str:
    """Return the comparison and the table as text."""
    core = Node(**calibration["node"])
    lines = [
        f"One core of {calibration['made']['cpu'] if 'made' in calibration else 'this machine'}: "
        f"{1e-9 / core.entry:.2f} G components/s generated, {1e-9 / max(core.multiply, 1e-15):.1f} G multiply-adds/s, "
        f"{1e-9 / core.pack:.2f} G elements/s packed, {1e-9 / core.read:.2f} G outputs/s read",
        "",
        "| job on this machine | processes | measured | model |",
        "| --- | --- | --- | --- |",
    ]
    for measured in calibration["jobs"]:
        job = Job(*(measured[name] for name in ("n", "d", "m", "shard")))
        planned = here(job, measured["ranks"], calibration)
        lines.append(
            f"| {job.n} vectors, {job.d:,} → {job.m:,}, {job.shard} | {measured['ranks']} | "
            f"{time(measured['seconds'])} | {time(planned.seconds)} |"
        )
    two = Node(**{**calibration["node"], "cores": 2})
    node = Node(**{**calibration["node"], "cores": cores})
    lines += [
        "",
        f"{INPUTS:,} → {OUTPUTS:,}, dense; nodes of {cores} such cores, {network.latency * 1e6:g} µs and "
        f"{network.bandwidth / 1e9:g} GB/s",
        "",
        "| vectors | by | 2 cores | "
        + " | ".join(f"{k:,} node{'s' if k > 1 else ''} (waiting)" for k in NODES)
        + " | to each node at 1,000 |",
        "| --- | --- | --- |" + " --- |" * (len(NODES) + 1),
    ]
    for n in BATCHES:
        for shard in ("rows", "columns"):
            job = Job(n, INPUTS, OUTPUTS, shard)
            plans = [cluster.plan(job, k, node, network) for k in NODES]
            cells = [f"{time(p.seconds)} ({100 * p.wait / p.seconds:.0f} %)" for p in plans]
            alone = time(cluster.plan(job, 1, two, network).seconds)
            lines.append(f"| {n:,} | {shard} | {alone} | " + " | ".join(cells) + f" | {size(plans[-1].link_bytes)} |")
    return "\n".join(lines)


def here(job: Job, ranks: int, calibration: dict[str, Any]) -> Plan:
    """Return the model's plan for processes of one thread on the machine of a calibration."""
    share = min(1.0, calibration["cores"] / ranks)
    node = Node(**{**calibration["node"], "cores": share})
    network = Network(**calibration["networks"][str(ranks)]) if ranks > 1 else Network(0.0, 1.0)
    return cluster.plan(job, ranks, node, network)


def time(seconds: float) -> str:
    """Return a time in a unit that fits."""
    for unit, length in (("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3)):
        if seconds >= length or unit == "ms":
            return f"{seconds / length:.3g} {unit}"
    raise AssertionError("unreachable")


def size(n_bytes: float) -> str:
    """Return bytes in a unit that fits."""
    for unit, length in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= length:
            return f"{n_bytes / length:.3g} {unit}"
    return f"{n_bytes:g} B"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    # The model is one of nodes without GPUs.
    made = runs.parser(__doc__ or "", EXAMPLES, methods=False, use="cpu")
    made.add_argument("--calibration", type=Path, metavar="FILE", help="earlier measurements of this program")
    made.add_argument(
        "--cores", type=runs.positive, default=64, metavar="N", help="cores of a node (default: %(default)s)"
    )
    made.add_argument(
        "--latency",
        type=runs.positive_number,
        default=20e-6,
        metavar="S",
        help="latency of a message between nodes in seconds (default: %(default)s)",
    )
    made.add_argument(
        "--bandwidth",
        type=runs.positive_number,
        default=1.25e9,
        metavar="B",
        help="bandwidth of a node's link in bytes per second (default: %(default)s, as of 10 Gbit/s)",
    )
    return made


if __name__ == "__main__":
    main()
