"""Long work beside other work: Ctrl-C, threads, fork, workers. What may hang or die has a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import opuproj
import pytest
from helpers import MODES, assert_same_bits, linux, long_call, run, ternary
from opuproj import TernaryBatch

# Work that takes minutes on any machine.
ENDLESS = {
    "one dense vector": "opuproj.project(np.ones(1_000_000, np.int8), 250_000_000, progress=True)",
    "a dense batch": "opuproj.project(np.ones((256, 200_000), np.int8), 1_000_000)",
    "sparse vectors": "opuproj.project(np.repeat(np.eye(512, dtype=np.int8), 300, axis=1), 500_000)",
    "linear": "opuproj.project(np.ones(1_000_000, np.int8), 250_000_000, mode='linear')",
    "real": "opuproj.project(np.ones(1_000_000, np.int8), 500_000_000, mode='real')",
    "packing": "[opuproj.pack(np.broadcast_to(np.int8(1), (2000, 1_000_000))) for _ in range(1000)]",
    "a window": "[op.matrix(slice(0, 8000), slice(0, 8000)) for _ in range(1000)]",
    "one structured vector": "opuproj.project(np.ones(1 << 25, np.float32), 1 << 27, ensemble='structured')",
}

# One call on packed vectors of 250 MB, which takes some tenths of a second at least.
ON_A_BATCH = {
    "unpacking": "large.to_numpy()",
    "unpacking to another dtype": "large.to_numpy(np.float16)",
    "planes": "large.planes()",
    "from planes": "TernaryBatch.from_planes(*planes)",
    "from planes in another order": "TernaryBatch.from_planes(*(plane[:, ::-1] for plane in planes))",
    "joining": "TernaryBatch.concatenate([large, large])",
    "a part": "large[::-1]",
    "counting": "[large.nnz for _ in range(10)]",
    "saving": "large.save(folder + '/large')",
    "loading": "TernaryBatch.load(path)",
    "to bytes": "large._packed.to_bytes()",
    "from bytes": "_core.Packed.from_bytes(data)",
    "digits": "[encoded.to_numpy() for _ in range(3)]",
    "one long vector": "opuproj.pack(row)",
    "digits of one long vector": "opuproj.encode(row, digits=20)",
}


@pytest.mark.long
@linux
@pytest.mark.parametrize("work", ON_A_BATCH)
def test_ctrl_c_returns_control_during_one_call_on_a_batch(work: str, tmp_path: Path) -> None:
    prepared = {
        "planes": "planes = large.planes()",
        "path": f"path = {str(tmp_path / 'kept')!r}; large.save(path)",
        "data": "data = large._packed.to_bytes()",
        "encoded": "encoded = opuproj.encode(np.ones((100, 300_000), np.float32), digits=5)",
        "row": "row = np.ones(1 << 27, np.float32)",
        "folder": f"folder = {str(tmp_path)!r}",
    }
    needed = "; ".join(line for name, line in prepared.items() if name in ON_A_BATCH[work])
    assert_prompt(
        f"""
        from opuproj import TernaryBatch, _core
        large = TernaryBatch.concatenate([opuproj.pack(np.ones((100, 1_000_000), np.int8))] * 10)
        {needed}
        """,
        f"while True: {ON_A_BATCH[work]}",
        delay=0.1,
    )
    assert {path.name for path in tmp_path.iterdir()} <= {"kept", "large"}
    if (tmp_path / "large").exists():
        assert TernaryBatch.load(tmp_path / "large").shape == (1000, 1_000_000)


@pytest.mark.long
@linux
@pytest.mark.parametrize("work", ENDLESS)
def test_ctrl_c_returns_control_at_once(work: str) -> None:
    assert_prompt("", ENDLESS[work], delay=0.5)


def assert_prompt(prepared: str, work: str, delay: float) -> None:
    """Run work in a process, interrupt it after a while, and see when control is back."""
    code = f"""
        import signal, time
        import numpy as np, opuproj
        signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
        op = opuproj.Projector(10_000, 10_000)
        x = np.arange(10_000) % 3 - 1
        before = op(x)
{textwrap.indent(textwrap.dedent(prepared).strip(), " " * 8)}
        print("ready", flush=True)
        try:
            {work}
            print("it ended")
        except KeyboardInterrupt:
            print(time.time(), flush=True)
        assert np.array_equal(op(x), before)
        print("usable", flush=True)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n", child.communicate()
        time.sleep(delay)
        sent = time.time()
        child.send_signal(signal.SIGINT)
        output, errors = child.communicate(timeout=30)
    finally:
        child.kill()
    lines = output.split()
    assert lines[-1:] == ["usable"], output + errors
    assert float(lines[0]) - sent < 0.3


def test_python_threads_run_meanwhile() -> None:
    op, x = long_call(0.5)
    ticks: list[float] = []
    stop = threading.Event()

    def tick() -> None:
        while not stop.wait(0.001):
            ticks.append(time.perf_counter())

    counter = threading.Thread(target=tick)
    counter.start()
    time.sleep(0.05)
    start = time.perf_counter()
    op(x)
    end = time.perf_counter()
    stop.set()
    counter.join()
    during = [start, *(t for t in ticks if start < t < end), end]
    assert len(during) > 50
    assert max(np.diff(during)) < 0.25  # never shut out for long


def test_concurrent_calls() -> None:
    x = ternary(20, 3000)
    jobs = [(seed, mode, threads) for seed in range(4) for mode in MODES for threads in (1, 2, 3)]

    def work(job: tuple[int, str, int]) -> np.ndarray:
        seed, mode, threads = job
        return opuproj.project(x, 500, seed=seed, mode=mode, threads=threads)

    expected = [work(job) for job in jobs]
    with ThreadPoolExecutor(6) as pool:
        for result, alone in zip(pool.map(work, jobs), expected, strict=True):
            assert_same_bits(result, alone)


def test_a_call_does_not_wait_for_that_of_another_thread() -> None:
    output = run(f"""
        import os, threading, time
        import numpy as np, opuproj
        x = np.ones((32, 20_000), np.int8)
        expected = opuproj.project(x, 20_000, threads=2)
        long = threading.Thread(target=lambda: {ENDLESS["linear"]}, daemon=True)
        long.start()
        time.sleep(0.3)
        same = np.array_equal(opuproj.project(x, 20_000, threads=2), expected)
        print(same, long.is_alive(), flush=True)
        os._exit(0)
    """)
    assert output.split() == ["True", "True"]


def test_one_operator_and_one_batch_in_many_threads() -> None:
    op, batch = opuproj.Projector(2000, 400), opuproj.pack(ternary(30, 2000))
    expected = op(batch)
    y = np.empty_like(expected)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda i: op(batch[i], out=y[i]), range(30)))
    assert_same_bits(y, expected)


FORK = """
    import os, signal, sys
    import numpy as np, opuproj
    x = np.arange(100_000).reshape(20, 5000) % 3 - 1
    op = opuproj.Projector(5000, 2000, threads=2)
    BEFORE
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # a child that hangs is killed
        np.save(sys.argv[1] + "/child", op(x))
        grandchild = os.fork()
        if grandchild == 0:
            signal.alarm(60)
            np.save(sys.argv[1] + "/grandchild", op(x))
            os._exit(0)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]))
    np.save(sys.argv[1] + "/parent", op(x))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    np.save(sys.argv[1] + "/after", op(x))
"""


@linux
@pytest.mark.parametrize("before", ["pass", "op(x)"], ids=["before use", "after use"])
def test_fork(before: str, tmp_path: Any) -> None:
    code = FORK.replace("BEFORE", before).replace("sys.argv[1]", repr(str(tmp_path)))
    run(code)
    expected = opuproj.Projector(5000, 2000)(np.arange(100_000).reshape(20, 5000) % 3 - 1)
    for name in ("parent", "child", "grandchild", "after"):
        assert_same_bits(np.load(tmp_path / f"{name}.npy"), expected)


@pytest.mark.long
@linux
def test_fork_while_another_thread_projects(tmp_path: Any) -> None:
    code = """
        import os, signal, threading, time
        import numpy as np, opuproj
        op = opuproj.Projector(20_000, 20_000, threads=2)
        x = np.ones(20_000, np.int8)
        expected = op(x)
        busy = threading.Thread(target=lambda: [op(x) for _ in range(20)])
        busy.start()
        children = []
        for _ in range(5):
            time.sleep(0.01)
            children.append(os.fork())
            if children[-1] == 0:
                signal.alarm(60)
                os._exit(0 if np.array_equal(op(x), expected) else 1)
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 5
        busy.join()
        print("right")
    """
    assert run(code).split()[-1] == "right"


@pytest.mark.long
@linux
def test_workers_of_a_data_loader() -> None:
    pytest.importorskip("torch")
    code = """
        import numpy as np, opuproj, torch
        x = np.arange(80_000).reshape(16, 5000) % 3 - 1
        op = opuproj.Projector(5000, 300, threads=2)
        class Features(torch.utils.data.Dataset):
            def __len__(self):
                return 16
            def __getitem__(self, i):
                return op(x[i])
        loader = torch.utils.data.DataLoader(
            Features(), batch_size=4, num_workers=2, timeout=60, multiprocessing_context="fork",
            collate_fn=np.stack,
        )
        before = np.concatenate(list(loader))
        assert np.array_equal(before, op(x))
        after = np.concatenate(list(loader))
        assert np.array_equal(after, before)
        print("right")
    """
    assert run(code).split()[-1] == "right"


def test_workers_that_are_spawned() -> None:
    code = """
        import concurrent.futures, multiprocessing
        import numpy as np, opuproj
        if __name__ == "__main__":
            op = opuproj.Projector(500, 300)
            x = np.arange(5000).reshape(10, 500) % 3 - 1
            context = multiprocessing.get_context("spawn")
            with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
                parts = list(pool.map(op[:100], x)), list(pool.map(op[100:], x))
            assert np.array_equal(np.concatenate([np.stack(part) for part in parts], axis=1), op(x))
            print("right")
    """
    assert run(code).split()[-1] == "right"
