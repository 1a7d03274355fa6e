"""How much memory calls take, beyond what they are given and give."""

from __future__ import annotations

import textwrap
from pathlib import Path

import opuproj
import pytest
from helpers import linux, run, ternary

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


@pytest.mark.long
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


@pytest.mark.long
@linux
def test_a_memory_map_of_a_billion_elements_stays_within_the_bound(tmp_path: Path) -> None:
    """Also with more nonzeros than 32-bit sums hold. Pages of the file do not count: the system can drop them."""
    code = f"""
        import threading, numpy as np, opuproj
        x = np.memmap({str(tmp_path / "x")!r}, np.int8, "w+", shape=(10**9,))
        x[:: 10**7] = 1
        x[500_000_000:525_000_000] = -1
        x.flush()
        op = opuproj.Projector(10**9, 20, mode="real", dtype=float)
        opuproj.project(np.ones((40, 300), np.int8), 500, mode="linear")  # threads, tables and code
        def anonymous():
            (line,) = [line for line in open("/proc/self/status") if line.startswith("RssAnon")]
            return int(line.split()[1]) / 1024
        before, most, done = anonymous(), 0.0, threading.Event()
        def watch():
            global most
            while not done.wait(0.002):
                most = max(most, anonymous())
        watching = threading.Thread(target=watch)
        watching.start()
        y = op(x)
        done.set()
        watching.join()
        assert most - before <= 64, most - before
        assert np.array_equal(y, op(opuproj.pack(x)))
    """
    run(code, timeout=900)


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
