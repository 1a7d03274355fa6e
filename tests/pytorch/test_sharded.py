"""The operator over several processes: the bits of one, however many there are, and no process left waiting."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import time
from itertools import product
from typing import Any

import numpy as np
import opuproj
import pytest
import standin_backend
from helpers import assert_same_bits, ternary
from ranks import on_ranks

torch = pytest.importorskip("torch")
dist = pytest.importorskip("torch.distributed")
if not dist.is_available():
    pytest.skip("torch without torch.distributed", allow_module_level=True)

from opuproj import Camera, _core, backends  # noqa: E402
from opuproj._check import MODES  # noqa: E402
from opuproj.torch import Projection, RowMax, ShardedProjection, Ternarize  # noqa: E402

# What gathers a DTensor of complex128 or bfloat16.
needs_gloo = pytest.mark.skipif(torch.__version__ < (2, 5), reason="torch 2.4 cannot gather these dtypes by gloo")
WORLDS = (1, 2, 4)
SHARDS = ("rows", "columns")
# More outputs and inputs than ranks, as many as no rank has all of, and fewer than ranks.
SIZES = ((130, 75), (37, 64), (3, 2), (64, 3), (2, 41))


def vectors(*shape: int, seed: int = 0) -> Any:
    return torch.from_numpy(ternary(*shape, seed=seed))


def given(layer: Any, x: Any, rank: int) -> Any:
    """What a rank is to be given of x."""
    if layer.shard == "columns":
        return x[..., slice(*layer.shard_columns)]
    return x if layer.replicated or rank == layer.src else None


def whole(y: Any) -> Any:
    return y.full_tensor() if hasattr(y, "full_tensor") else y


def same_bits(rank: int, world: int) -> int:
    compared = 0
    for (n_inputs, n_outputs), shard, mode in product(SIZES, SHARDS, MODES):
        seed = n_inputs + 2**63
        for leading in ((5,), (), (2, 3), (0,)):
            x = vectors(*leading, n_inputs, seed=n_outputs)
            for replicated, gather in ((False, False), (shard == "rows", True)):
                layer = ShardedProjection(
                    n_inputs,
                    n_outputs,
                    seed=seed,
                    mode=mode,
                    shard=shard,
                    replicated=replicated,
                    gather=gather,
                    src=world - 1 if shard == "rows" and not replicated else 0,
                )
                y = layer(given(layer, x, rank))
                expected = opuproj.project(x.numpy(), n_outputs, seed=seed, mode=mode)
                assert y.shape == expected.shape
                if not gather:
                    start, stop = layer.shard_rows
                    assert_same_bits(y.to_local(), expected[..., start:stop])
                assert_same_bits(whole(y), expected)
                compared += 1
    return compared


@pytest.mark.long
@pytest.mark.parametrize("world", WORLDS)
def test_the_bits_are_those_of_one_process(world: int) -> None:
    assert on_ranks(same_bits, world) == [len(SIZES) * 2 * len(MODES) * 4 * 2] * world


def options(rank: int, world: int) -> None:
    x, n_inputs, n_outputs = vectors(1500, 70), 70, 50
    for shard in SHARDS:
        # Rows of the matrix, other precisions and anchors, more vectors than are summed at a time.
        for dtype, mode in ((torch.float64, "linear"), (torch.complex128, "complex"), (torch.float64, "real")):
            arguments: Any = {"seed": 3, "mode": mode, "rows": (7, 48), "n_anchor": 5, "dtype": dtype, "threads": 1}
            layer = ShardedProjection(n_inputs, n_outputs, shard=shard, **arguments)
            y = layer(given(layer, x, rank))
            assert_same_bits(y.full_tensor(), Projection(n_inputs, n_outputs, **arguments)(x))
    e = torch.randn(4, 2, n_inputs, generator=torch.Generator().manual_seed(1))
    e[1, 1, 5] = torch.nan
    for mode in MODES:
        arguments = {"mode": mode, "ternarize": Ternarize(RowMax(0.25), norm="row")}
        for replicated in (False, True):
            layer = ShardedProjection(n_inputs, n_outputs, replicated=replicated, **arguments)
            y = layer(given(layer, e, rank))
            y, expected = y.full_tensor(), Projection(n_inputs, n_outputs, **arguments)(e)
            assert torch.equal(y.isnan(), expected.isnan())
            assert y[1, 1].isnan().all()
            assert_same_bits(y[~y.isnan()], expected[~y.isnan()])  # a NaN has many bits
    # Noise that all ranks have alike, whatever their own generators have given before.
    camera = Camera(photons=50, read_noise=0.01)
    for replicated in (False, True):
        layer = ShardedProjection(n_inputs, n_outputs, camera=camera, replicated=replicated, gather=True)
        torch.manual_seed(4 if rank == 0 else rank)
        y = layer(given(layer, x[:9], rank))
        torch.manual_seed(4)
        assert_same_bits(y, Projection(n_inputs, n_outputs, camera=camera)(x[:9]))


@needs_gloo
@pytest.mark.parametrize("world", [1, 3])
def test_options_are_those_of_one_process(world: int) -> None:
    on_ranks(options, world)


def small_tiles(rank: int, world: int) -> None:
    from opuproj.torch import sharded

    sharded._FIELD_BYTES, sharded._VECTORS = 1, 2
    x = vectors(5, 33)
    for mode, rows in (("linear", (0, 71)), ("real", (0, 71)), ("real", (5, 70))):
        layer = ShardedProjection(33, 71, mode=mode, rows=rows, shard="columns")
        expected = opuproj.project(x.numpy(), 71, mode=mode, rows=rows)
        assert_same_bits(layer(given(layer, x, rank)).full_tensor(), expected)


def test_sums_in_many_tiles_have_the_same_bits() -> None:
    on_ranks(small_tiles, 2)


def many_nonzeros(rank: int, world: int) -> None:
    n_inputs = _core.INT32_NONZEROS + 2
    layer = ShardedProjection(n_inputs, 3, shard="columns", mode="complex", dtype=torch.complex128)
    start, stop = layer.shard_columns
    x = torch.ones(1, stop - start, dtype=torch.int8)
    batch = np.ones((1, n_inputs), np.int8)
    assert_same_bits(layer(x).full_tensor(), opuproj.project(batch, 3, mode="complex", dtype="complex128"))
    x[0, :1] = 0
    batch[0, [0, -(-n_inputs // 2)]] = 0
    assert_same_bits(layer(x).full_tensor(), opuproj.project(batch, 3, mode="complex", dtype="complex128"))


@pytest.mark.long
def test_more_nonzeros_over_all_ranks_than_fit_32_bits() -> None:
    on_ranks(many_nonzeros, 2)


def on_a_mesh(rank: int, world: int) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Replicate, Shard

    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "model"))
    x = vectors(7, 50)
    expected = opuproj.project(x.numpy(), 30, seed=1)
    inputs = DTensor.from_local(x, mesh, [Replicate(), Replicate()], run_check=False)
    for shard, last in (("rows", Replicate()), ("columns", Shard(1))):
        for which in ({"mesh": mesh, "mesh_dim": "model"}, {"mesh": mesh, "mesh_dim": 1}, {"mesh": mesh["model"]}):
            layer = ShardedProjection(50, 30, seed=1, mode="intensity", shard=shard, **which)
            y = layer(inputs.redistribute(placements=[Shard(0), last]))
            assert y.placements == (Shard(0), Shard(1))
            assert y.shape == (7, 30)
            assert_same_bits(y.full_tensor(), expected)
            plain = layer(given(layer, x, rank % 2))
            assert_same_bits(plain.full_tensor(), expected)
        gathering = ShardedProjection(50, 30, seed=1, mode="intensity", shard=shard, mesh=mesh["model"], gather=True)
        y = gathering(inputs.redistribute(placements=[Shard(0), last]))
        assert y.placements == (Shard(0), Replicate())
        assert_same_bits(y.full_tensor(), expected)
    with pytest.raises(ValueError, match=r"x has placements .*, but shard 'columns' needs .* on dimension 1"):
        layer(inputs)
    with pytest.raises(ValueError, match="mesh has 2 dimensions: choose one with mesh_dim"):
        ShardedProjection(50, 30, mesh=mesh)
    other = init_device_mesh("cpu", (4,))
    with pytest.raises(ValueError, match="none of its dimensions has this layer's ranks"):
        layer(DTensor.from_local(x, other, [Replicate()], run_check=False))


def in_a_group(rank: int, world: int) -> None:
    group, x = dist.new_group([1, 2]), vectors(4, 50)
    if rank == 0:
        with pytest.raises(ValueError, match="the process group does not hold this process, rank 0 of all"):
            ShardedProjection(50, 30, group=group)
        return
    for shard in SHARDS:
        layer = ShardedProjection(50, 30, shard=shard, group=group, src=0 if shard == "columns" else 1)
        y = layer(given(layer, x, rank - 1))
        assert y.to_local().shape == (4, 15)
        assert_same_bits(y.full_tensor(), opuproj.project(x.numpy(), 30, mode="linear"))


def test_ranks_of_a_group() -> None:
    on_ranks(in_a_group, 3)


@pytest.mark.long
def test_tensors_spread_over_a_mesh() -> None:
    on_ranks(on_a_mesh, 4)


def readout(x: Any) -> Any:
    return (x[:, :3].float() * torch.tensor([1.0, -2.0, 0.5])).sum(1, keepdim=True)


def in_parallel(rank: int, world: int) -> dict[str, Any]:
    """Train a readout of random features: vectors spread over two ranks, features and weights over two others."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard
    from torch.distributed.tensor.parallel import RowwiseParallel, parallelize_module

    torch.manual_seed(0)
    top = torch.nn.Linear(64, 1)
    x = vectors(16, 40)
    if world == 1:
        features: Any = Projection(40, 64, seed=2)
    else:
        mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "model"))
        features = ShardedProjection(40, 64, seed=2, mesh=mesh, mesh_dim="model", replicated=True)
        parallelize_module(top, mesh["model"], RowwiseParallel(input_layouts=Shard(-1)))
        x = x[8 * mesh.get_local_rank("data") :][:8]
    optimizer = torch.optim.SGD(top.parameters(), 1e-3)
    for _ in range(5):
        optimizer.zero_grad()
        (top(features(x)) - readout(x)).square().mean().backward()
        for p in top.parameters() if world > 1 else ():
            gradient = p.grad.to_local()
            dist.all_reduce(gradient, group=mesh.get_group("data"))
            gradient /= 2
        optimizer.step()
    return {name: whole(p).detach() for name, p in top.named_parameters()}


@pytest.mark.long
def test_it_composes_with_data_and_tensor_parallel_training() -> None:
    (alone,) = on_ranks(in_parallel, 1)
    together = on_ranks(in_parallel, 4)
    for name, p in alone.items():
        for other in together:
            assert_same_bits(other[name], together[0][name])
            torch.testing.assert_close(other[name], p, rtol=1e-5, atol=1e-7)
    assert alone["weight"].abs().max() > 0.01


def trained(rank: int, world: int, shard: Any, steps: range, saved: Any) -> Any:
    torch.manual_seed(0)
    layer = ShardedProjection(40, 65, seed=11, shard=shard, gather=True)
    model = torch.nn.ModuleDict({"features": layer, "top": torch.nn.Linear(65, 1)})
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    if saved is not None:
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
    for step in steps:
        x = vectors(8, 40, seed=step)
        y = model["top"](layer(given(layer, x, rank)))
        optimizer.zero_grad()
        (y - readout(x)).square().mean().backward()
        optimizer.step()
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}


@pytest.mark.long
@pytest.mark.parametrize("shard", SHARDS)
def test_a_run_resumed_with_another_number_of_ranks_goes_on_as_it_was(shard: Any) -> None:
    uninterrupted = on_ranks(trained, 1, shard, range(6), None)[0]
    for before, after in ((2, 4), (4, 1)):
        saved = on_ranks(trained, before, shard, range(3), None)[0]
        resumed = on_ranks(trained, after, shard, range(3, 6), saved)
        for state in resumed:
            assert torch.equal(state["model"]["features._extra_state"], saved["model"]["features._extra_state"])
            assert_same_bits(state["model"]["top.weight"], uninterrupted["model"]["top.weight"])
            assert_same_bits(state["model"]["top.bias"], uninterrupted["model"]["top.bias"])


def in_half(rank: int, world: int) -> None:
    x = vectors(7, 50)
    for shard in SHARDS:
        for mode, dtype in zip(MODES, (torch.float16, torch.bfloat16, torch.float64, torch.bfloat16), strict=True):
            for gather in (False, True):
                layer = ShardedProjection(50, 30, seed=1, mode=mode, shard=shard, gather=gather).to(dtype)
                y = whole(layer(given(layer, x, rank)))
                assert y.dtype == layer.dtype
                assert torch.equal(y, Projection(50, 30, seed=1, mode=mode).to(dtype)(x))
        layer = ShardedProjection(50, 30, shard=shard, gather=True, dtype=torch.float16)
        assert torch.equal(layer(given(layer, x, rank)), Projection(50, 30, dtype=torch.float16)(x))


@needs_gloo
def test_results_in_half_precision_are_those_of_one_process() -> None:
    on_ranks(in_half, 2)


def in_data_parallel(rank: int, world: int) -> None:
    """DistributedDataParallel makes the buffers of all ranks those of the first: here each has rows of its own."""
    torch.manual_seed(0)
    mine = Projection(12, 20, seed=rank, rows=(10 * rank, 10 * rank + 10), digits=5)
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Sequential(torch.nn.Linear(8, 12), mine))
    x = torch.randn(4, 8)
    for _ in range(2):
        y = model(x)
        y.sum().backward()
        assert_same_bits(
            y.detach(), Projection(12, 20, seed=rank, digits=5)(model.module[0](x)).detach()[:, mine.rows[0] :][:, :10]
        )
    assert mine.seed == rank


def test_data_parallel_leaves_each_rank_its_matrix() -> None:
    on_ranks(in_data_parallel, 2)


# On GPUs, for which the CPU stands in


def _noted(called: list[str], name: str, method: Any) -> Any:
    def call(*arguments: Any) -> Any:
        called.append(name)
        return method(*arguments)

    return call


def on_a_standin(first: int, rank: int) -> list[str]:
    """Let the tensors of ranks from the first on be on the stand-in; return a list of its calls."""
    standin_backend.register()
    called: list[str] = []
    if rank >= first:
        from opuproj.inputs import tensors

        tensors.tensor_rows = standin_backend.tensor_rows
        gpu = backends.backend(standin_backend.DEVICE)
        host = gpu._host

        class NoHost:
            def __getattr__(self, name: str) -> Any:
                called.append(f"{name} on the host")
                return getattr(host, name)

        gpu._host = NoHost()
        for name in ("project", "fields", "read_fields"):
            setattr(gpu, name, _noted(called, name, getattr(gpu, name)))
    return called


def on_gpus(rank: int, world: int, first: int) -> None:
    from opuproj.torch import sharded

    called = on_a_standin(first, rank)
    # Several tiles and groups of vectors. Ranks whose tiles have unlike sizes would not understand each other.
    sharded._FIELD_BYTES, sharded._GPU_FIELD_BYTES, sharded._VECTORS = 1 << 12, 1 << 13, 16
    # More inputs than ranks, shares that begin at any column, and a rank that has no column.
    for (n_inputs, n_outputs), mode in product(((130, 75), (96, 3), (4, 41)), MODES):
        x = vectors(2, 20, n_inputs, seed=n_outputs)
        arguments: Any = {"seed": 2**63, "mode": mode, "rows": (1, n_outputs)}
        expected = opuproj.project(x.numpy(), n_outputs, **arguments)
        for shard, gather in product(SHARDS, (False, True)):
            layer = ShardedProjection(n_inputs, n_outputs, shard=shard, gather=gather, **arguments)
            called.clear()
            y = layer(given(layer, x, rank))
            assert_same_bits(whole(y), expected)
            has = rank < n_inputs if shard == "columns" else rank == layer.src
            if rank >= first and has and len(range(*layer.shard_rows)) and n_inputs > 4:
                assert set(called) == ({"project"} if shard == "rows" else {"fields", "read_fields"})
        layer = ShardedProjection(n_inputs, n_outputs, replicated=True, **arguments)
        assert_same_bits(layer(x).full_tensor(), expected)
    e = torch.randn(4, 70, generator=torch.Generator().manual_seed(1))
    arguments = {"ternarize": Ternarize(RowMax(0.25), norm="row"), "camera": Camera(photons=50)}
    layer = ShardedProjection(70, 50, gather=True, **arguments)
    torch.manual_seed(4)
    y = layer(given(layer, e, rank))
    torch.manual_seed(4)
    assert_same_bits(y, Projection(70, 50, **arguments)(e))


@needs_gloo
@pytest.mark.skipif(standin_backend.DEVICE not in backends.registered(), reason="needs g++")
@pytest.mark.parametrize(("world", "first"), [(3, 0), (3, 1)])
def test_gpus_compute_what_they_have(world: int, first: int) -> None:
    on_ranks(on_gpus, world, first)


@pytest.mark.skipif(standin_backend.DEVICE not in backends.registered(), reason="needs g++")
def test_received_vectors_go_to_the_device_of_the_group() -> None:
    from opuproj.torch.sharded import _received

    packed = opuproj.pack(ternary(3, 70))._packed
    for device_type in ("cpu", "mps"):
        assert _received(packed, device_type) is packed
    there = _received(packed, standin_backend.DEVICE)
    assert there.device_type == standin_backend.DEVICE
    assert there == packed


def bad_values_on_gpus(rank: int, world: int) -> None:
    on_a_standin(0, rank)
    x = vectors(4, 20)
    bad = x.clone()
    bad[2, 19] = 5
    rows = ShardedProjection(20, 9, gather=True)
    columns = ShardedProjection(20, 9, shard="columns", gather=True)
    with pytest.raises(ValueError if rank == 0 else RuntimeError, match=r"x\[2, 19\] is 5, but must be -1, 0 or 1"):
        rows(given(rows, bad, rank))
    message = r"x\[2, 9\] is 5, but must be -1, 0 or 1" if rank == 1 else "rank 1 refused its part of x"
    with pytest.raises(ValueError if rank == 1 else RuntimeError, match=message):
        columns(given(columns, bad, rank))
    for layer in (rows, columns):
        assert_same_bits(layer(given(layer, x, rank)), opuproj.project(x.numpy(), 9, mode="linear"))


@pytest.mark.skipif(standin_backend.DEVICE not in backends.registered(), reason="needs g++")
def test_bad_values_on_a_gpu_are_refused_by_all_ranks() -> None:
    on_ranks(bad_values_on_gpus, 2)


# Nobody waits for what does not come


def refusals(rank: int, world: int) -> None:
    x = vectors(4, 20)
    rows = ShardedProjection(20, 9, gather=True)
    columns = ShardedProjection(20, 9, shard="columns", gather=True)
    bad = x.clone()
    bad[2, 19] = 5

    def expect(error: Any, message: str, call: Any) -> None:
        with pytest.raises(error, match=message):
            call()

    at_src = rank == 0
    expect(
        *((ValueError, r"x\[2, 19\] is 5") if at_src else (RuntimeError, r"rank 0 refused x: .*x\[2, 19\] is 5")),
        lambda: rows(given(rows, bad, rank)),
    )
    expect(
        *((ValueError, "must have shape") if at_src else (RuntimeError, "rank 0 refused x: .*must have shape")),
        lambda: rows(given(rows, x[:, :5], rank)),
    )
    expect(
        *(
            (TypeError, "x is a NoneType, but must be a torch.Tensor on rank 0")
            if at_src
            else (RuntimeError, "rank 0 refused x")
        ),
        lambda: rows(None),
    )
    last = rank == world - 1
    expect(
        *((ValueError, "is 5, but must be -1, 0 or 1") if last else (RuntimeError, f"rank {world - 1} refused")),
        lambda: columns(given(columns, bad, rank)),
    )
    expect(
        *((ValueError, r"must have shape \(..., .*elements") if at_src else (RuntimeError, "rank 0 refused")),
        lambda: columns(x if at_src else given(columns, x, rank)),
    )
    expect(ValueError, "ranks have different axes or layers", lambda: columns(given(columns, x, rank)[rank:]))
    unlike = ShardedProjection(20, 9, seed=rank, shard="columns")
    expect(ValueError, "ranks have different axes or layers", lambda: unlike(given(unlike, x, rank)))
    learned = x.float().requires_grad_()
    expect(
        *((NotImplementedError, "has no gradient") if at_src else (RuntimeError, "rank 0 refused x")),
        lambda: rows(given(rows, learned, rank)),
    )
    if rank > 0:
        expect(ValueError, f"x is given on rank {rank}, but rank 0 sends it", lambda: ShardedProjection(20, 9)(x))
    else:
        ShardedProjection(20, 9)(x)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x.float(), x.float())
        expect(
            *((NotImplementedError, "no forward-mode") if at_src else (RuntimeError, "rank 0 refused x")),
            lambda: rows(given(rows, dual, rank)),
        )
    # After all that they still understand each other.
    for layer in (rows, columns):
        assert_same_bits(layer(given(layer, x, rank)), opuproj.project(x.numpy(), 9, mode="linear"))


class OutOfMemory:
    def thresholds(self, e: Any) -> Any:
        raise MemoryError("no room today")


def unforeseen(rank: int, world: int) -> None:
    x, at_src = vectors(4, 20), rank == 0
    rows = ShardedProjection(20, 9, gather=True, ternarize=Ternarize(OutOfMemory()))
    with pytest.raises(MemoryError if at_src else RuntimeError, match="no room today"):
        rows(given(rows, x.float(), rank))
    columns = ShardedProjection(20, 9, gather=True, shard="columns")
    part = given(columns, x, rank)
    if at_src:
        columns._vectors = lambda x, width: OutOfMemory().thresholds(x)
    with pytest.raises(MemoryError if at_src else RuntimeError, match="no room today" if at_src else "rank 0 refused"):
        columns(part)


@pytest.mark.long
def test_what_one_rank_refuses_for_a_reason_of_its_own_all_refuse() -> None:
    on_ranks(unforeseen, 2, timeout=5)


@pytest.mark.long
def test_what_one_rank_refuses_all_refuse() -> None:
    on_ranks(refusals, 3)


def deserted(rank: int, world: int, shard: Any, how: str) -> tuple[str, float] | None:
    x = vectors(4, 50)
    layer = ShardedProjection(50, 30, shard=shard, gather=True)
    layer(given(layer, x, rank))
    if rank == world - 2:
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(5)
        return None
    started = time.monotonic()
    with pytest.raises(RuntimeError) as caught:
        [layer(given(layer, x, rank)) for _ in range(3)]
    return str(caught.value), time.monotonic() - started


@pytest.mark.long
@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("shard", SHARDS)
def test_a_killed_rank_is_an_error_on_all_others(shard: Any, world: int) -> None:
    results = on_ranks(deserted, world, shard, "killed", timeout=10, lost=(world - 2,))
    for rank, result in enumerate(results):
        if rank != world - 2:
            message, seconds = result
            assert f"rank {rank} of {world} could not finish" in message
            assert "another rank has ended, failed or not joined within the group's timeout" in message
            assert seconds < 12


@pytest.mark.long
@pytest.mark.parametrize("shard", SHARDS)
def test_a_rank_that_does_not_come_is_an_error_within_the_timeout(shard: Any) -> None:
    (message, seconds) = on_ranks(deserted, 3, shard, "asleep", timeout=2)[0]
    assert "rank 0 of 3 could not finish" in message
    assert seconds < 6


# Without company


@pytest.fixture
def alone() -> Any:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_without_a_process_group() -> None:
    with pytest.raises(RuntimeError, match="call init_process_group first"):
        ShardedProjection(3, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shard": "both"}, "shard is 'both', but must be 'rows' or 'columns'"),
        (
            {"shard": "columns", "replicated": True},
            "replicated is True, but with shard 'columns' no rank has whole vectors",
        ),
        (
            {"shard": "columns", "ternarize": Ternarize()},
            "ternarize is .*, but with shard 'columns' no rank has whole vectors",
        ),
        ({"shard": "columns", "camera": Camera()}, "camera is .*, but with shard 'columns' no rank has whole vectors"),
        ({"mode": "real", "camera": Camera()}, "camera is .*, but mode is 'real', which exists in software only"),
        ({"src": 1}, "src is 1, but must be from 0 to 0"),
        ({"mesh_dim": 0}, "mesh_dim is 0, but there is no mesh"),
        ({"n_inputs": 0}, "n_inputs is 0"),
    ],
)
@pytest.mark.usefixtures("alone")
def test_bad_arguments_are_named(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ShardedProjection(**{"n_inputs": 3, "n_outputs": 2, **arguments})


@pytest.mark.usefixtures("alone")
def test_a_layer_copies_and_prints_but_does_not_leave_its_group() -> None:
    layer = ShardedProjection(5, 4, seed=2, shard="columns")
    assert repr(layer) == "ShardedProjection(5, 4, seed=2, mode='linear', shard='columns', rank 0 of 1)"
    x = vectors(3, 5)
    assert_same_bits(copy.deepcopy(layer)(x).to_local(), layer(x).to_local())
    with pytest.raises(TypeError, match="cannot be pickled: save its state_dict"):
        pickle.dumps(layer)
    plain = Projection(5, 4)
    plain.load_state_dict(layer.state_dict())
    assert_same_bits(plain(x), layer(x).to_local())


@pytest.mark.usefixtures("alone")
def test_a_state_of_another_ensemble_is_refused_and_changes_nothing() -> None:
    layer = ShardedProjection(5, 4, seed=2)
    before = layer.get_extra_state()
    with pytest.raises(
        ValueError, match="the state's ensemble is 'structured', but a ShardedProjection supports 'gaussian'"
    ):
        layer.load_state_dict(Projection(5, 4, seed=3, ensemble="structured").state_dict())
    assert torch.equal(layer.get_extra_state(), before)


@pytest.mark.usefixtures("alone")
def test_transforms_of_torch_func_are_refused_by_name() -> None:
    from torch.func import functional_call, grad, stack_module_state

    x = vectors(3, 5)
    for shard in SHARDS:
        layers = [ShardedProjection(5, 4, seed=seed, shard=shard, gather=True) for seed in (1, 2)]
        with pytest.raises(NotImplementedError, match=r"does not support the transforms of torch\.func"):
            torch.vmap(layers[0])(x)
        with pytest.raises(NotImplementedError, match=r"does not support the transforms of torch\.func"):
            grad(lambda x, layer=layers[0]: layer(x).sum())(x.float())
        _, buffers = stack_module_state(layers)
        with pytest.raises(NotImplementedError, match=r"does not support the transforms of torch\.func"):
            torch.vmap(lambda b, layer=layers[0]: functional_call(layer, ({}, b), (x,)))(buffers)
        with pytest.raises(NotImplementedError, match="cannot run with another layer's buffers"):
            functional_call(layers[0], dict(layers[1].named_buffers()), (x,))
        own = {name: buffer.clone() for name, buffer in layers[0].named_buffers()}
        assert_same_bits(functional_call(layers[0], own, (x,)), layers[0](x))
