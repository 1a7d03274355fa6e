"""Mixed calls from several threads for an hour: every result has the bits that it had at first, and memory stays flat.

    python tests/programs/soak.py [--minutes 60] [--workers 4]

It ends with exit code 1 at the first wrong bit, or where memory, open files or threads grew.
"""

from __future__ import annotations

import argparse
import os
import pickle
import random
import statistics
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import opuproj

# What the last quarter of the time may use more than the second one: 0.1 MB a job for a hundred jobs would show.
MOST_GROWTH = 8 << 20

Job = Callable[[], Any]
Mode = Literal["intensity", "linear", "complex", "real"]


def jobs(folder: Path) -> dict[str, Job]:
    """Return calls of all kinds, each of milliseconds, and each with the same result every time."""
    generator = np.random.default_rng(0)
    x = generator.integers(-1, 2, (40, 3000)).astype(np.int8)
    few = x * (generator.random(x.shape) < 0.01).astype(np.int8)
    real = generator.standard_normal((16, 3000)).astype(np.float32)
    packed = opuproj.pack(x)
    camera = opuproj.Camera(bits=8, photons=100, read_noise=0.01)
    kept, damaged = folder / "kept", folder / "damaged"
    packed.save(kept)
    damaged.write_bytes(kept.read_bytes()[:-1])

    def projected(mode: Mode, value: Any, threads: int) -> Job:
        return lambda: opuproj.Projector(3000, 700, seed=3, mode=mode, threads=threads)(value)

    def refused(call: Job) -> Job:
        def refuse() -> str:
            try:
                call()
            except ValueError as error:
                return str(error)
            raise AssertionError("it was taken")

        return refuse

    def saved() -> Any:
        path = folder / f"saved-{threading.get_ident()}"
        packed.save(path)
        return path.read_bytes()

    made: dict[str, Job] = {
        f"{mode}, {name}": projected(mode, value, threads)
        for mode in get_args(Mode)
        for name, value, threads in (("dense", x, 2), ("packed", packed, 3), ("sparse", few, 1), ("single", x[0], 2))
    }
    made |= {
        "digits": lambda: opuproj.project(real, 300, mode="linear", digits=5, threads=2),
        "planes of megabytes": lambda: opuproj.pack(np.broadcast_to(x[0], (12_000, 3000))).nnz_per_row,
        "structured": lambda: opuproj.project(real, 700, mode="linear", ensemble="structured", threads=2),
        "adjoint": lambda: opuproj.Projector(700, 3000, threads=2).H(real),
        "camera": lambda: opuproj.project(x[:4], 300, mode="linear", camera=camera, noise_seed=1, threads=2),
        "entries": lambda: opuproj.Projector(3000, 700).matrix(slice(5, 40), slice(0, 200)),
        "ternarize": lambda: opuproj.ternarize(real, 0.5).to_numpy(),
        "relative": lambda: opuproj.ternarize(real, relative=0.25).to_numpy(),
        "pickle": lambda: pickle.loads(pickle.dumps(packed)).to_numpy(),
        "load": lambda: opuproj.TernaryBatch.load(kept).to_numpy(),
        "save": saved,
        "a bad value": refused(lambda: opuproj.project(x + 1, 10)),
        "a damaged file": refused(lambda: opuproj.TernaryBatch.load(damaged)),
    }
    if hasattr(os, "fork"):
        made["fork"] = lambda: in_a_child(projected("intensity", x[:2], 2))
    return made


def in_a_child(job: Job) -> bytes:
    """Return what a job's result is in a forked process."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking while there are threads: that is the point
        child = os.fork()
    if child == 0:
        try:
            os.write(writing, frozen(job())[:4096])
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return told


def frozen(result: Any) -> bytes:
    """Return a result as bytes."""
    if isinstance(result, np.ndarray):
        return f"{result.dtype} {result.shape} ".encode() + result.tobytes()
    return result if isinstance(result, bytes) else str(result).encode()


class Soak:
    """Workers that draw jobs until the time is over or one of them finds a fault."""

    def __init__(self, made: dict[str, Job], seconds: float) -> None:
        self.made = made
        self.expected = {name: frozen(job()) for name, job in made.items()}
        self.end = time.monotonic() + seconds
        self.faults: list[str] = []
        self.done: Counter[str] = Counter()
        self._lock = threading.Lock()

    def over(self) -> bool:
        """Whether to stop."""
        return bool(self.faults) or time.monotonic() > self.end

    def work(self, number: int) -> None:
        """Run jobs drawn at random."""
        draw = random.Random(number)
        names = sorted(self.made)
        while not self.over():
            name = draw.choice(names)
            try:
                same = frozen(self.made[name]()) == self.expected[name]
            except BaseException as error:
                self.faults.append(f"{name}: {error!r}")
                return
            if not same:
                self.faults.append(f"{name}: not the bits that it had at first")
            with self._lock:
                self.done[name] += 1


def usage() -> dict[str, int]:
    """Return what must not grow, as Linux tells it; nothing elsewhere."""
    try:
        status = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return {}
    fields = {line.split(":")[0]: line.split()[1] for line in status if line.split()[1:]}
    return {
        "bytes": 1024 * int(fields["VmRSS"]),
        "open files": len(os.listdir("/proc/self/fd")),
        "threads": int(fields["Threads"]),
    }


def growths(samples: list[dict[str, int]]) -> dict[str, int]:
    """Return by how much the median of the last quarter exceeds that of the second; the first is for warming up."""
    quarter = len(samples) // 4

    def middle(name: str, first: int) -> float:
        return statistics.median(sample[name] for sample in samples[first * quarter : (first + 1) * quarter])

    return {name: round(middle(name, 3) - middle(name, 1)) for name in samples[0]} if quarter else {}


def main(arguments: list[str] | None = None) -> int:
    """Soak, and say what came of it."""
    parser = argparse.ArgumentParser(description="Mixed concurrent calls for a long time.")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--workers", type=int, default=4)
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(jobs(Path(folder)), 60 * asked.minutes)
        workers = [threading.Thread(target=soak.work, args=(number,)) for number in range(asked.workers)]
        for worker in workers:
            worker.start()
        samples = []
        while not soak.over():
            samples.append(usage())
            time.sleep(min(0.2, asked.minutes))
        for worker in workers:
            worker.join()
    grown = growths(samples)
    limits = {"bytes": MOST_GROWTH, "open files": asked.workers, "threads": 2 * asked.workers}
    soak.faults += [f"{grown[name]:,} more {name}" for name in grown if grown[name] > limits[name]]
    if missing := set(soak.made) - set(soak.done):
        soak.faults.append(f"not reached: {', '.join(sorted(missing))}")
    print(f"{sum(soak.done.values()):,} calls of {len(soak.made)} kinds in {asked.minutes:g} minutes; growth {grown}")
    for fault in soak.faults:
        print(f"fault: {fault}")
    return 1 if soak.faults else 0


if __name__ == "__main__":
    sys.exit(main())
