"""What a machine does to a program: memory that runs out, a disk that is full, a process that is killed, hostile files.

The command line's own are in cli/test_stops.py and cli/test_refusals.py, Ctrl-C and fork in test_concurrency.py.
"""

from __future__ import annotations

import os
import pickle
import random
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import opuproj
import pytest
from helpers import run, ternary
from opuproj import TernaryBatch
from opuproj.cli import main

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")

# Memory

# Each is tried in children of one process. They take all memory that is free and give so many KiB of it back: these are
# what the work finds, and not what was used before.
STARVED = """
    import hashlib, os, pickle, resource
    import numpy as np, opuproj
    x = (np.arange(100 * 30_011).reshape(100, -1) % 3 - 1).astype(np.int8)
    real = x[:20].astype(np.float32) + 0.3
    packed = opuproj.pack(x)
    def many():
        return opuproj.pack(np.broadcast_to(x[0], (1000, x.shape[1])))
    opuproj.project(x[0, :300], 20, mode="linear")  # code and tables; no threads, which a fork would not have
    lone, camera = np.ones((2, 20_000), np.int8), opuproj.Camera.lighton()
    packed.save({path!r})
    def project(value, mode, digits=None, **arguments):
        return opuproj.project(value, 500, mode=mode, digits=digits, threads=3, **arguments)
    def saved():
        packed.save({path!r} + "2")
        return np.zeros(1)
    def end(room):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            end = b"something else"
            try:
                size = 4096 * int(open("/proc/self/statm").read().split()[0])
                taken = []
                if room is not None:
                    resource.setrlimit(resource.RLIMIT_AS, (size + (room + 1024 << 10), -1))
                    held = np.empty(room << 10, np.int8)
                    for size in (1 << 20, 1 << 16, 1 << 12):
                        try:
                            while True:
                                taken.append(np.empty(size, np.int8))
                        except MemoryError:
                            pass
                    del held
                y = {work}
                resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
                end = hashlib.sha256(np.ascontiguousarray(y)).hexdigest().encode()
            except MemoryError:
                end = b"MemoryError"
            finally:
                os.write(writing, end)
                os._exit(0)
        os.close(writing)
        told = os.read(reading, 100).decode()
        os.close(reading)
        return told or f"killed by signal {{os.waitpid(child, 0)[1]}}"
    expected = end(None)
    for room in (16, 64, 128, 300, *(int(1024 * k) for k in (1, 2, 3, 4, 5, 7, 8.5, 12, 16, 20, 24, 32, 48, 96, 192))):
        print({{expected: "right"}}.get(told := end(room), told))
"""


@pytest.mark.long
@linux
@pytest.mark.parametrize(
    "work",
    [
        "project(packed, 'intensity')",
        "project(x, 'linear')",
        "project(real, 'linear', digits=5)",
        "opuproj.project(np.ones(2_000_000, np.int8), 8, mode='complex', threads=3)",
        "opuproj.project(np.ones((2, 10_000_000), np.int8), 8, threads=3)",
        "many().planes()[1][:3]",
        "pickle.loads(pickle.dumps(many())).nnz_per_row",
        "opuproj.TernaryBatch.concatenate([many(), many()]).nnz_per_row",
        "opuproj.Projector(200_000, 30_011, mode='complex', threads=3).H(real[:3])",
        "opuproj.project(lone, 5_000, mode='linear', threads=1)",
        "opuproj.project(lone, 5_000, camera=camera, noise_seed=1, threads=1)",
        "project(packed, 'complex', camera=camera, noise_seed=1)",
        "project(packed, 'complex', ensemble='structured')",
        "project(real, 'linear', ensemble='structured')",
        "opuproj.encode(real, digits=20).to_numpy()",
        "opuproj.TernaryBatch.from_planes(*packed.planes()).nnz_per_row",
        "opuproj.TernaryBatch.load({path!r}).nnz_per_row",
        "saved()",
    ],
)
def test_memory_that_runs_out_is_an_error_or_does_not_matter(work: str, tmp_path: Path) -> None:
    path = str(tmp_path / "x")
    ends = run(STARVED.format(work=work.format(path=path), path=path)).splitlines()
    needed = set() if work == "saved()" else {"MemoryError"}
    assert set(ends) == {"right"} | needed, ends  # neither wrong bits nor a dead process
    assert ends[-1] == "right"


# Files that are written


@posix
def test_a_file_is_the_old_one_or_the_new_one_when_its_writer_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "x"
    batches = [opuproj.pack(ternary(200, 20_000, seed=seed)) for seed in range(2)]
    batches[0].save(path)
    code = """
import sys, opuproj
one = opuproj.TernaryBatch.load(sys.argv[1])
other = opuproj.pack(-one.to_numpy())
print("ready", flush=True)
while True:
    other.save(sys.argv[1])
    one.save(sys.argv[1])
"""
    both = [batches[0], opuproj.pack(-batches[0].to_numpy())]
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            time.sleep(random.uniform(0, 0.1))
            child.kill()
        assert child.returncode == -signal.SIGKILL
        assert TernaryBatch.load(path) in both


@posix
def test_a_batch_that_does_not_fit_the_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    opuproj.pack(ternary(2, 70)).save(path)
    code = f"""
        import resource
        import numpy as np, opuproj
        large = opuproj.pack(np.ones((100, 10_000), np.int8))
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            large.save({str(path)!r})
        except OSError as error:
            print(error)
    """
    assert "File too large" in run(code)
    assert os.listdir(tmp_path) == ["x"]
    assert TernaryBatch.load(path) == opuproj.pack(ternary(2, 70))


# Files that are read


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def test_nothing_in_a_file_is_executed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sprung, path = tmp_path / "sprung", tmp_path / "x"
    trap = pickle.dumps(Trap(sprung))
    np.save(tmp_path / "x.npy", np.array([Trap(sprung)], dtype=object))
    np.savez(tmp_path / "x.npz", np.array([Trap(sprung)], dtype=object))
    contents = [trap, b"OPUTERN1" + trap, (tmp_path / "x.npy").read_bytes(), (tmp_path / "x.npz").read_bytes()]
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not a packed ternary batch"):
            TernaryBatch.load(path)
        for name in (path, tmp_path / "x.npy", tmp_path / "x.npz"):
            for arguments in (["info", name], ["pack", name, "y"], ["project", name, "y.npy", "--outputs", 3]):
                assert main([str(argument) for argument in arguments]) == 1
                assert capsys.readouterr().err.count("\n") == 1
    assert not sprung.exists()
    pickle.loads(trap)
    assert sprung.exists()  # it would have worked


def header(*shape: int) -> bytes:
    return b"OPUTERN1" + np.array([len(shape), *shape], "<u8").tobytes()


def sealed(content: bytes, n_header: int) -> bytes:
    """The same as a file of the present version, whose checksums are right."""
    content = b"OPUTERN2" + content[8:]
    half = (len(content) - n_header) // 2
    parts = content[:n_header], content[n_header : n_header + half], content[n_header + half :]
    return content + np.array([zlib.crc32(part) for part in parts], "<u4").tobytes()


@pytest.mark.parametrize("shape", [(1 << 40,), (1 << 20, 1 << 20), (1 << 32, 1 << 32), (1 << 63, 2, 1), (3, 0)])
def test_a_claim_is_checked_before_memory_is_taken(shape: tuple[int, ...], tmp_path: Path) -> None:
    path = tmp_path / "x"
    claim = header(*shape)
    for content in (claim + bytes(1000), sealed(claim + bytes(1000), len(claim))):
        path.write_bytes(content)
        start = time.perf_counter()
        with pytest.raises(ValueError, match=r"its shape (makes no sense|asks for [0-9]+ bytes)"):
            TernaryBatch.load(path)
        assert time.perf_counter() - start < 1


@linux
def test_a_file_that_is_larger_than_memory(tmp_path: Path) -> None:
    # Full of holes, so it takes no room on the disk and would take all of the memory.
    path = tmp_path / "x"
    n_inputs = 1 << 42
    path.write_bytes(header(1, n_inputs))
    try:
        os.truncate(path, 32 + n_inputs // 4)
    except OSError:
        pytest.skip("the file system has no such files")
    with pytest.raises(MemoryError, match=r"the batch in '.*' takes 1.1 TB, which cannot be allocated"):
        TernaryBatch.load(path)


@linux
def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(ValueError, match=rf"path is '{path}', which is not a regular file"):
            TernaryBatch.load(path)
    with pytest.raises(IsADirectoryError):
        TernaryBatch.load(tmp_path)


def test_damaged_pickles_are_refused() -> None:
    batch = opuproj.pack(ternary(3, 70))
    whole = pickle.dumps(batch)
    start = whole.index(b"OPUTERN2")
    for position in range(start, start + 32 + 2 * 3 * 16 + 12):
        damaged = bytearray(whole)
        damaged[position] ^= 0x81
        with pytest.raises(ValueError, match="ternary batch"):
            pickle.loads(damaged)


def test_pickles_of_the_version_before_are_refused_or_valid() -> None:
    batch = opuproj.pack(ternary(3, 70))
    restore, (data, shape) = batch.__reduce__()
    before = b"OPUTERN1" + data[8:-12]
    assert restore(before, shape) == batch
    for position in range(len(before)):
        damaged = bytearray(before)
        damaged[position] ^= 0x81
        try:
            batch = restore(bytes(damaged), shape)
        except (ValueError, MemoryError):
            continue
        assert batch.shape == (3, 70)
        assert set(np.unique(batch.to_numpy())) <= {-1, 0, 1}
