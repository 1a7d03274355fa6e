"""Long work behaves: Ctrl-C, other threads, fork, progress, memory. What may hang or die has a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import opuproj
import pytest
from helpers import MODES, assert_same_bits, run, ternary

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")

# Work that takes minutes on any machine.
ENDLESS = {
    "one dense vector": "opuproj.project(np.ones(1_000_000, np.int8), 250_000_000, progress=True)",
    "a dense batch": "opuproj.project(np.ones((256, 200_000), np.int8), 1_000_000)",
    "sparse vectors": "opuproj.project(np.repeat(np.eye(512, dtype=np.int8), 300, axis=1), 500_000)",
    "linear": "opuproj.project(np.ones(1_000_000, np.int8), 250_000_000, mode='linear')",
    "packing": "[opuproj.pack(np.broadcast_to(np.int8(1), (2000, 1_000_000))) for _ in range(1000)]",
    "a window": "[op.matrix(slice(0, 8000), slice(0, 8000)) for _ in range(1000)]",
}


@linux
@pytest.mark.parametrize("work", ENDLESS)
def test_ctrl_c_returns_control_at_once(work: str) -> None:
    code = f"""
        import signal, time
        import numpy as np, opuproj
        signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
        op = opuproj.Projector(10_000, 10_000)
        x = np.arange(10_000) % 3 - 1
        before = op(x)
        print("ready", flush=True)
        try:
            {ENDLESS[work]}
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
        time.sleep(0.5)
        sent = time.time()
        child.send_signal(signal.SIGINT)
        output, errors = child.communicate(timeout=30)
    finally:
        child.kill()
    lines = output.split()
    assert lines[-1:] == ["usable"], output + errors
    assert float(lines[0]) - sent < 0.3


def long_call(seconds: float) -> tuple[opuproj.Projector, np.ndarray]:
    """An operator and a vector whose product takes about this long on this machine, on one thread."""
    x = ternary(30_000, density=1)
    n_outputs = 1000
    while True:
        op = opuproj.Projector(30_000, n_outputs, mode="complex", threads=1)
        start = time.perf_counter()
        op(x)
        taken = time.perf_counter() - start
        if taken > seconds:
            return op, x
        n_outputs = int(n_outputs * min(10.0, 1.5 * seconds / taken + 0.5))


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


# Progress


def test_a_bar_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    x = ternary(3, 50)
    expected = opuproj.project(x, 2000)
    assert capsys.readouterr().err == ""
    assert_same_bits(opuproj.project(x, 2000, progress=True), expected)
    shown = capsys.readouterr().err
    assert "100%" in shown
    assert "6.00k/6.00k" in shown
    assert shown.endswith("\n")


class Recorder:
    """Stands in for tqdm."""

    made: list[Recorder]
    fail = False

    def __init__(self, total: int, **_: object) -> None:
        self.total, self.n, self.closed, self.seen = total, 0, False, [0]
        Recorder.made.append(self)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True

    def update(self, n: int) -> None:
        if self.fail:
            raise RuntimeError("the terminal is gone")
        self.n += n
        self.seen.append(self.n)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    import tqdm.auto

    monkeypatch.setattr(tqdm.auto, "tqdm", Recorder)
    monkeypatch.setattr(Recorder, "made", [], raising=False)
    return Recorder


def test_a_bar_advances_to_its_end(recorder: type[Recorder]) -> None:
    op, x = long_call(0.5)
    op(x, progress=True)
    (bar,) = recorder.made
    assert bar.total == bar.n == op.n_outputs
    assert bar.closed
    assert bar.seen == sorted(bar.seen)
    assert 2 < len(bar.seen) < 100  # neither silent nor a flood


def test_a_bar_over_many_blocks(recorder: type[Recorder], monkeypatch: pytest.MonkeyPatch) -> None:
    from opuproj import _inputs

    monkeypatch.setattr(_inputs, "BLOCK_BYTES", 1000)
    opuproj.project(ternary(50, 300), 20, progress=True)
    (bar,) = recorder.made
    assert bar.total == bar.n == 1000
    assert bar.seen == sorted(bar.seen)
    assert len(bar.seen) > 4


def test_a_bar_is_closed_when_work_fails(recorder: type[Recorder], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recorder, "fail", True)
    x = ternary(50)
    with pytest.raises(RuntimeError, match="the terminal is gone"):
        opuproj.project(x, 20, progress=True)
    assert recorder.made[0].closed
    assert opuproj.project(x, 20).shape == (20,)


def test_no_bar_for_no_work(recorder: type[Recorder]) -> None:
    opuproj.project(np.zeros((0, 5)), 20, progress=True)
    opuproj.project(np.zeros((3, 5)), 20, rows=(4, 4), progress=True)
    with pytest.raises(ValueError, match=r"x\[0\] is 2"):
        opuproj.project([2], 20, progress=True)
    assert recorder.made == []


# Memory

MEMORY = """
    import numpy as np, opuproj
    def status(name):
        (line,) = [line for line in open("/proc/self/status") if line.startswith(name)]
        return int(line.split()[1]) / 1024
    class Growth:  # the most that memory in use grew by meanwhile, in MiB
        def __enter__(self):
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")  # forget the peak so far: making the inputs may have been higher
            self.before = status("VmRSS")
            assert status("VmHWM") < self.before + 1
            return self
        def __exit__(self, *_):
            self.mebibytes = status("VmHWM") - self.before
"""


def growth(setup: str, work: str, result: str = "0") -> float:
    """The peak of memory while `work` runs, beyond what there was before and the bytes of its result, in MiB."""
    lines = [
        *setup.splitlines(),
        "with Growth() as growth:",
        f"    {work}",
        f"print(growth.mebibytes - {result} / 2**20)",
    ]
    return float(run(textwrap.dedent(MEMORY) + "\n".join(lines)))


@linux
@pytest.mark.parametrize(
    ("x", "k"),
    [
        ("np.ones((402, 1_000_000), np.int8)", 64),
        ("np.asfortranarray(np.ones((100, 1_000_000), np.int8))", 64),
        ("np.ones((40, 3, 1_000_000), np.int8).transpose(1, 0, 2)", 64),
        ("np.ones((20_000, 3_000), np.float16)", 128),
        ("np.ones((1, 1_000_000), np.int8)", 30_000),
        ("np.eye(2000, 50_000, dtype=np.int8)", 5_000),
        ("opuproj.pack(np.ones((300, 1_000_000), np.int8))", 64),
        ("np.ones((1, 2_000), np.int8)", 20_000_000),
    ],
)
def test_working_memory_is_bounded(x: str, k: int) -> None:
    setup = f"""opuproj.project(np.ones((40, 300), np.int8), 500, mode="linear")  # threads, tables and code
x = {x}
out = np.full((*x.shape[:-1], {k}), 7, np.float32)"""
    assert growth(setup, f"opuproj.project(x, {k}, mode='linear', out=out)") <= 64


@linux
@pytest.mark.parametrize("call", ["opuproj.pack(e)", "opuproj.ternarize(e, 0.5)", "opuproj.ternarize(e, relative=0.5)"])
def test_packing_needs_little_more_than_its_result(call: str) -> None:
    setup = f"e = np.ones((2, 10), np.float32)\n{call}\ne = np.ones((100, 1_000_000), np.float32)[:, ::-1]"
    assert growth(setup, f"batch = {call}", "batch.nbytes") <= 32


@linux
def test_no_temporary_of_the_size_of_a_batch_is_made_for_its_nonzeros_or_rows() -> None:
    setup = "batch = opuproj.pack(np.ones((100, 1_000_000), np.int8))\nbatch[:2].nnz"
    assert growth(setup, "batch.nnz, batch.nnz_per_row, batch[3], batch[10:12], batch == batch") <= 8


def test_results_do_not_keep_memory_alive() -> None:
    import gc
    import weakref

    x = ternary(3, 50)
    alive = weakref.ref(x)
    batch, y = opuproj.pack(x), opuproj.project(x, 20)
    del x
    gc.collect()
    assert alive() is None
    assert (batch.shape, y.shape) == ((3, 50), (3, 20))


@linux
def test_nothing_leaks() -> None:
    code = """
        import gc, resource
        import numpy as np, opuproj
        x = np.ones((50, 20_000), np.int8)
        op = opuproj.Projector(20_000, 200)
        def size():
            gc.collect()
            return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
        for _ in range(20):
            op(x)
        before = size()
        for _ in range(200):
            op(x)
            try:
                op(x + 1)
            except ValueError:
                pass
        print((size() - before) / 2**20)
    """
    assert float(run(code)) < 16  # one batch is 0.25 MB packed and 1 MB as it is: a leak of either would show
