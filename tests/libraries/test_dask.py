"""The operator on dask arrays: the bits of opuproj.project, on a real cluster, whatever becomes of its workers."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import opuproj
import pytest
from helpers import assert_same_bits, ternary

da = pytest.importorskip("dask.array")
distributed = pytest.importorskip("distributed")

import opuproj.dask  # noqa: E402
from opuproj import Camera  # noqa: E402
from opuproj._check import MODES  # noqa: E402

CAMERA = Camera(photons=50, read_noise=0.01)

# What the cluster's own machinery says is not the subject here.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:distributed"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def computed(y: Any) -> Any:
    return y.compute(scheduler="threads", num_workers=2)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(130,), (1, 130), (0, 130), (9, 130), (3, 4, 130)])
def test_the_bits_are_those_of_project(mode: Any, shape: tuple[int, ...]) -> None:
    x = ternary(*shape)
    expected = opuproj.project(x, 200, seed=5, mode=mode)
    for chunks, outputs in (((2,) * (len(shape) - 1) + (50,), 64), (-1, "auto"), (-1, (1, 150, 49))):
        y = opuproj.dask.project(da.from_array(x, chunks=chunks), 200, seed=5, mode=mode, chunks=outputs)
        assert (y.shape, y.dtype) == (expected.shape, expected.dtype)
        assert_same_bits(computed(y), expected)


def test_chunks() -> None:
    x = da.from_array(ternary(10, 30), chunks=(4, 7))
    assert opuproj.dask.project(x, 300, chunks=128).chunks == ((4, 4, 2), (128, 128, 44))
    assert opuproj.dask.project(x, 300, chunks=(290, 10), rows=None).chunks[1] == (290, 10)
    assert opuproj.dask.project(x, 300, rows=(5, 25)).chunks[1] == (20,)
    assert opuproj.dask.project(x, 300, chunks=-1).chunks[1] == (300,)
    for chunks in ("auto", -1, 7):
        empty = opuproj.dask.project(x, 300, rows=(5, 5), chunks=chunks)
        assert computed(empty).shape == empty.shape == (10, 0)
    import dask

    with dask.config.set({"array.chunk-size": "2kiB"}):
        assert opuproj.dask.project(x, 300, dtype="float64").chunks[1] == (64, 64, 64, 64, 44)
        assert opuproj.dask.project(x, 300).chunks[1] == (128, 128, 44)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bool", "uint8", "int64"])
def test_other_arguments(dtype: str) -> None:
    x = np.abs(ternary(6, 40)).astype(dtype) if dtype in ("bool", "uint8") else ternary(6, 40).astype(dtype)
    arguments: Any = {"seed": 2**64 - 1, "mode": "linear", "rows": (3, 77), "n_anchor": 3, "dtype": "float64"}
    y = opuproj.dask.project(da.from_array(x, chunks=(4, 40)), 99, chunks=32, **arguments)
    assert_same_bits(computed(y), opuproj.project(x, 99, **arguments))


def test_real_numbers_in_digits() -> None:
    x = np.random.default_rng(0).standard_normal((5, 40))
    y = opuproj.dask.project(da.from_array(x, chunks=(2, 30)), 70, mode="complex", digits=4, chunks=40)
    assert_same_bits(computed(y), opuproj.project(x, 70, mode="complex", digits=4))


@pytest.mark.parametrize("shape", [(40,), (7, 40), (3, 2, 5, 40)])
@pytest.mark.parametrize("digits", [None, 2])
def test_a_camera_s_noise_goes_by_the_vector_s_place_in_the_whole(shape: tuple[int, ...], digits: Any) -> None:
    x = ternary(*shape)
    chunks = (*(2 for _ in shape[:-1]), 40)
    arguments: Any = {"mode": "linear", "camera": CAMERA, "digits": digits}
    y = opuproj.dask.project(da.from_array(x, chunks=chunks), 70, noise_seed=8, chunks=33, **arguments)
    assert_same_bits(computed(y), opuproj.project(x, 70, noise_seed=8, **arguments))
    drawn = opuproj.dask.project(da.from_array(x, chunks=chunks), 70, chunks=33, **arguments)
    assert_same_bits(computed(drawn), computed(drawn))
    assert not np.array_equal(computed(drawn), computed(y))


def test_nothing_is_computed_before_it_is_asked_for() -> None:
    def fail(block: Any) -> Any:
        raise AssertionError("computed")

    x = da.from_array(ternary(6, 40), chunks=(3, 40)).map_blocks(fail, dtype=np.int8, meta=np.empty((0, 0), np.int8))
    y = opuproj.dask.project(x, 10**6, chunks=10**5)[:, ::2]
    with pytest.raises(AssertionError, match="computed"):
        computed(y)


def test_tasks_pickle_small() -> None:
    x = da.zeros((10**6, 10**6), chunks=(10**5, 10**6), dtype=np.int8)
    y = opuproj.dask.project(x, 2 * 10**6, chunks=10**6, camera=CAMERA)
    sizes = [len(pickle.dumps(task)) for task in y.__dask_graph__().to_dict().values() if "project" in str(task)]
    assert len(sizes) >= 20
    assert max(sizes) < 4000


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": np.zeros((2, 3))}, TypeError, "x is a ndarray, but must be a dask array"),
        ({"x": da.zeros(())}, ValueError, r"x is a single number, but must have shape \(\.\.\., n_inputs\)"),
        ({"x": da.zeros((2, 0))}, ValueError, r"x has shape \(2, 0\), but needs at least one input"),
        ({"x": da.zeros((2, 3), dtype=complex)}, TypeError, "x has dtype complex128"),
        ({"x": da.zeros((2, 3))[da.ones(2, dtype=bool)]}, ValueError, "its shape must be known: call x.compute_chunk"),
        ({"n_outputs": 0}, ValueError, "n_outputs is 0"),
        ({"chunks": 0}, ValueError, "chunks is 0"),
        ({"chunks": 2.5}, TypeError, "chunks is 2.5, but must be an integer, a tuple of integers or 'auto'"),
        ({"chunks": (3, 4)}, ValueError, r"chunks is \(3, 4\), 7 outputs in total, but there are 5"),
        ({"rows": (3, 9)}, ValueError, "rows is 3 to 9"),
        ({"digits": 21}, ValueError, "digits is 21"),
        ({"noise_seed": 3}, ValueError, "noise_seed is 3, but there is no camera"),
        ({"camera": CAMERA, "digits": 2}, ValueError, "mode is 'intensity', but a camera sees digits"),
    ],
)
def test_bad_arguments_are_named_at_once(arguments: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        opuproj.dask.project(**{"x": da.zeros((2, 3)), "n_outputs": 5, **arguments})


def test_a_bad_value_is_placed() -> None:
    x = ternary(10, 40).astype(float)
    x[7, 3] = 0.5
    y = opuproj.dask.project(da.from_array(x, chunks=(4, 40)), 5)
    with pytest.raises(ValueError, match=r"x\[3, 3\] is 0.5, .*here x is the chunk that begins at \[4, 0\]"):
        computed(y)


# On a cluster


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=2, memory_limit="300MiB", dashboard_address=":0", silence_logs=60
    )
    with cluster, distributed.Client(cluster) as connected:
        yield connected


@pytest.mark.long
def test_on_a_cluster(client: Any) -> None:
    x = ternary(50, 100)
    y = opuproj.dask.project(da.from_array(x, chunks=(20, 100)), 3000, seed=1, chunks=1000)
    assert_same_bits(client.compute(y).result(timeout=60), opuproj.project(x, 3000, seed=1))


@pytest.mark.long
def test_results_larger_than_memory_go_to_zarr(client: Any, tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    x = ternary(1000, 64)
    # 360 MB, where a worker may have 315.
    y = opuproj.dask.project(da.from_array(x, chunks=(500, 64)), 90_000, mode="linear", chunks=10_000)
    y.to_zarr(str(tmp_path / "y.zarr"))
    stored = zarr.open(str(tmp_path / "y.zarr"), mode="r")
    assert stored.shape == (1000, 90_000)
    assert_same_bits(
        stored[470:510, 9_990:10_010], opuproj.project(x[470:510], 90_000, mode="linear", rows=(9_990, 10_010))
    )
    assert_same_bits(stored[999, 89_000:], opuproj.project(x[999], 90_000, mode="linear", rows=(89_000, 90_000)))


def test_a_killed_worker_s_tasks_run_again_and_bits_do_not_change(client: Any) -> None:
    x = ternary(64, 20_000)
    arguments: Any = {"mode": "linear", "camera": CAMERA, "noise_seed": 2}
    y = opuproj.dask.project(da.from_array(x, chunks=(8, 20_000)), 4000, chunks=1000, **arguments)
    pids = client.run(os.getpid)
    future = client.compute(y)
    until = time.monotonic() + 60
    while not client.run_on_scheduler(_in_memory) and time.monotonic() < until:
        time.sleep(0.02)
    assert not future.done()
    os.kill(next(iter(pids.values())), signal.SIGKILL)
    assert_same_bits(future.result(timeout=90), opuproj.project(x, 4000, **arguments))
    assert set(client.run(os.getpid).values()) != set(pids.values())


def _in_memory(dask_scheduler: Any) -> int:
    """Results that workers hold of projections."""
    return sum("project" in key and task.state == "memory" for key, task in _named(dask_scheduler.tasks))


def _named(tasks: Any) -> list[tuple[str, Any]]:
    return [(str(key), task) for key, task in list(tasks.items())]


@pytest.mark.parametrize(("nthreads", "asked", "expected"), [(1, None, 1), (3, None, 3), (3, 2, 2), (2, 9, 2)])
def test_a_worker_s_threads_bound_those_of_its_projections(
    nthreads: int, asked: int | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opuproj import _core

    monkeypatch.setenv("OPUPROJ_NUM_THREADS", "16")
    real, lock, at_once, seen = _core.project, threading.Lock(), [0, 0], set()

    def watched(*arguments: Any, threads: int, **others: Any) -> None:
        with lock:
            seen.add(threads)
            at_once[0] += threads
            at_once[1] = max(at_once)
        time.sleep(0.01)
        real(*arguments, threads=threads, **others)
        with lock:
            at_once[0] -= threads

    monkeypatch.setattr(_core, "project", watched)
    x = ternary(32, 50)
    y = opuproj.dask.project(da.from_array(x, chunks=(4, 50)), 200, chunks=100, threads=asked)
    cluster = distributed.LocalCluster(
        n_workers=1, threads_per_worker=nthreads, processes=False, dashboard_address=":0", silence_logs=60
    )
    with cluster, distributed.Client(cluster) as connected:
        connected.compute(y).result(timeout=60)
    assert seen == {expected}
    assert at_once[1] <= nthreads
