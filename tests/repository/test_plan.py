"""The model of a projection over many machines: its bytes are those that really travel, its limits the obvious ones."""

from __future__ import annotations

import importlib
import sys
from itertools import product
from typing import Any

import pytest
from helpers import ROOT, ternary
from ranks import on_ranks

torch = pytest.importorskip("torch")
dist = pytest.importorskip("torch.distributed")
if not dist.is_available():
    pytest.skip("torch without torch.distributed", allow_module_level=True)

JOBS = ((5, 1000, 77), (1, 64, 8), (3, 65, 1001))
# The sizes, shape and options that go before a broadcast, and the header of a packed batch.
OVERHEAD = 200


@pytest.fixture(scope="module")
def cluster() -> Any:
    folder = str(ROOT / "examples")
    for name in [name for name in sys.modules if name.split(".")[0] == "common"]:
        del sys.modules[name]
    sys.path.insert(0, folder)
    try:
        return importlib.import_module("common.cluster.model")
    finally:
        sys.path.remove(folder)


def received(rank: int, ranks: int) -> dict[Any, int]:
    """Bytes that a rank receives from others for each job."""
    from opuproj.torch import ShardedProjection

    counted = [0]
    broadcast, all_to_all, all_reduce = dist.broadcast, dist.all_to_all_single, dist.all_reduce

    def counting_broadcast(tensor: Any, *others: Any, **options: Any) -> None:
        counted[0] += tensor.nbytes
        broadcast(tensor, *others, **options)

    def counting_all_to_all(output: Any, tensor: Any, **options: Any) -> None:
        counted[0] += tensor.nbytes * (ranks - 1) // ranks
        all_to_all(output, tensor, **options)

    def counting_all_reduce(tensor: Any, *others: Any, **options: Any) -> None:
        counted[0] += tensor.nbytes
        all_reduce(tensor, *others, **options)

    dist.broadcast, dist.all_to_all_single = counting_broadcast, counting_all_to_all
    dist.all_reduce = counting_all_reduce
    result = {}
    for (n, d, m), shard in product(JOBS, ("rows", "columns")):
        layer = ShardedProjection(d, m, shard=shard)
        x = torch.from_numpy(ternary(n, d))
        if shard == "columns":
            x = x[:, slice(*layer.shard_columns)]
        counted[0] = 0
        layer(x if shard == "columns" or rank == 0 else None)
        result[n, d, m, shard] = counted[0]
    return result


@pytest.mark.long
@pytest.mark.parametrize("ranks", [2, 4])
def test_the_model_s_bytes_are_those_that_travel(cluster: Any, ranks: int) -> None:
    for result in on_ranks(received, ranks):
        for job, counted in result.items():
            modelled = cluster.link_bytes(cluster.Job(*job), ranks)
            assert modelled <= counted <= modelled + OVERHEAD, job


def test_what_the_model_says_at_its_limits(cluster: Any) -> None:
    node = cluster.Node(cores=4, entry=1e-10, multiply=1e-12, pack=1e-10, read=1e-9)
    free = cluster.Network(latency=0.0, bandwidth=float("inf"))
    slow = cluster.Network(latency=1e-3, bandwidth=1e6)
    for shard in ("rows", "columns"):
        job = cluster.Job(10, 10**6, 10**6, shard)
        alone = cluster.plan(job, 1, node, slow)
        assert alone == cluster.plan(job, 1, node, free)
        assert alone.link_bytes == 0
        parts = 2e12 * (1e-10 + 10e-12)
        assert alone.compute == pytest.approx(parts / 4 + 10 * 1e6 * 1e-9 / 4)
        assert cluster.plan(job, 100, node, free).compute == pytest.approx(alone.compute / 100)
        assert cluster.plan(job, 100, node, slow).wait > cluster.plan(job, 10, node, slow).wait
        # Shares are whole rows or columns: more ranks than those change nothing.
        tiny = cluster.Job(1, 8, 8, shard)
        assert cluster.plan(tiny, 8, node, free).compute == cluster.plan(tiny, 800, node, free).compute
    by_rows, by_columns = (cluster.plan(cluster.Job(10, 10**6, 10**6, s), 10, node, slow) for s in ("rows", "columns"))
    assert by_rows.link_bytes == 10 * 10**6 / 4
    assert by_columns.link_bytes == 10 * 10**6 * 8 * 9 / 10
