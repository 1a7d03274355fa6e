"""Projections at the size of the hardware, to a file, with their peak memory; and how time grows with the sizes.

The default is 10⁶ inputs and 2·10⁶ outputs, which takes up to an hour on two cores. Every case runs in a separate
process and is saved when it is done: start the command again to continue. If all outputs of a case would take longer
than --call-seconds, only the first ones are measured; the time is proportional to their number, and the record has
their share.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import opuproj
from tqdm import tqdm

from benches import growth, inputs, machine, saved
from benches.result import duration, size

MOST_BYTES = 64 << 20  # beyond the inputs and the outputs, which are in a file


@dataclass(frozen=True)
class Case:
    """One projection."""

    n_inputs: int
    n_outputs: int
    density: float
    batch: int
    threads: int
    isa: str

    @property
    def name(self) -> str:
        """The name under which the case is saved."""
        return (
            f"{self.n_inputs:,} to {self.n_outputs:,}, {self.density:.3g} nonzero, batch {self.batch}, "
            f"{self.threads} threads, {self.isa}"
        )


@dataclass(frozen=True)
class Measured:
    """The time and memory of a case."""

    seconds_a_vector: float  # for all outputs
    part: float  # the share of computed outputs, by which the time is divided
    peak_bytes: int  # beyond the memory of the process with its inputs
    output_bytes: int  # of the file
    matrix_bytes: int  # the size of the matrix as complex64


class PeakMemory:
    """The peak of this process's memory without mapped files, sampled every few milliseconds, on Linux."""

    def __init__(self, every: float = 0.005):
        self.bytes = 0
        self.every = every

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Sample while the block runs; then `bytes` is the peak beyond the memory at its start."""
        before, done = _anonymous(), threading.Event()
        most = before

        def watch() -> None:
            nonlocal most
            while not done.wait(self.every):
                most = max(most, _anonymous())

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
            self.bytes = max(most, _anonymous()) - before


def _anonymous() -> int:
    """Return the resident bytes of this process without those of files, such as a mapped output."""
    resident, shared = Path("/proc/self/statm").read_text(encoding="ascii").split()[1:3]
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def measure(case: Case, call_seconds: float, folder: Path, progress: bool) -> Measured:
    """Project in this process, which must be new: memory kept by an earlier call would not be counted."""
    dense = case.density >= 1
    x = inputs.dense(case.batch, case.n_inputs) if dense else inputs.sparse(case.batch, case.n_inputs, case.density)
    shape = (case.batch, case.n_outputs)
    file = folder / "projected.f32"
    out = np.memmap(file, dtype=np.float32, mode="w+", shape=shape)
    peak = PeakMemory()

    def project(rows: int, progress: bool) -> float:
        start = perf_counter()
        opuproj.project(
            x,
            case.n_outputs,
            mode="linear",
            rows=(0, rows),
            out=out[:, :rows],
            threads=case.threads,
            progress=progress,
        )
        return perf_counter() - start

    with machine.forced(case.isa), peak.watched():
        trial = min(case.n_outputs, max(1024, case.n_outputs // 1000))
        project(min(trial, 64), False)  # start threads and fill tables
        took = project(trial, False)
        rows = case.n_outputs
        if took * rows / trial > call_seconds:
            rows = max(trial, int(call_seconds / took * trial))
        took = project(rows, progress)
    return Measured(
        seconds_a_vector=took / case.batch * case.n_outputs / rows,
        part=rows / case.n_outputs,
        peak_bytes=peak.bytes,
        output_bytes=out.nbytes,
        matrix_bytes=8 * case.n_inputs * case.n_outputs,
    )


def measure_in_a_process(case: Case, call_seconds: float, folder: Path, progress: bool) -> Measured:
    """Measure in a new process, with its progress bar."""
    order = {"case": asdict(case), "call_seconds": call_seconds, "folder": str(folder.resolve()), "progress": progress}
    done = subprocess.run(
        [sys.executable, "-m", "benches.large", "--order", json.dumps(order)],
        stdout=subprocess.PIPE,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        cwd=Path(__file__).resolve().parents[1],
    )
    return Measured(**json.loads(done.stdout))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure the cases that the file does not have yet."""
    arguments = _parser().parse_args(argv)
    if arguments.order:
        order = json.loads(arguments.order)
        case = Case(**order.pop("case"))
        print(json.dumps(asdict(measure(case, order["call_seconds"], Path(order["folder"]), order["progress"]))))
        return
    if not Path("/proc/self/statm").exists():
        sys.exit("Memory is read from /proc/self/statm, which this system lacks: run on Linux.")
    figures = _figures(arguments.out)
    isa = machine.instruction_set()
    cases = [
        Case(arguments.inputs, arguments.outputs, density, batch, arguments.threads, isa)
        for density, batch in product(arguments.densities, arguments.batches)
    ]
    missing = [case for case in cases if case.name not in figures["cases"]]
    _check_room(missing, arguments.folder or Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for case in tqdm(missing, unit="case", disable=arguments.no_progress):
            tqdm.write(case.name)
            measured = measure_in_a_process(case, arguments.call_seconds, Path(folder), not arguments.no_progress)
            figures["cases"][case.name] = asdict(measured)
            saved.write(arguments.out, figures)
    growth_name = f"{min(arguments.growth_sizes)} to {max(arguments.growth_sizes)}, {arguments.threads} threads, {isa}"
    if growth_name not in figures["growth"]:
        grown = growth.measure(arguments.threads, arguments.growth_seconds, sorted(set(arguments.growth_sizes)))
        figures["growth"][growth_name] = grown
        saved.write(arguments.out, figures)
    _show(figures)


def _check_room(cases: Sequence[Case], folder: Path) -> None:
    """Exit if the outputs' file or the inputs do not fit, because writing to a full disk would kill the process."""
    if not folder.is_dir():
        sys.exit(f"--folder is {folder}, but must be a folder that exists")
    most_output = max((4 * case.batch * case.n_outputs for case in cases), default=0)
    most_input = max((3 * case.batch * case.n_inputs for case in cases), default=0)
    free, available = shutil.disk_usage(folder).free, machine.available_bytes()
    if most_output > free:
        sys.exit(f"{folder} has {size(free)} free, but the outputs take {size(most_output)}: choose another --folder")
    if most_input > available:
        sys.exit(
            f"{size(available)} of memory are available, but the inputs take {size(most_input)} while they are made"
        )


def _figures(path: Path) -> dict[str, Any]:
    """Return the saved figures, if they are from this machine."""
    if not path.exists():
        return {"cases": {}, "growth": {}}
    figures = saved.read(path)
    told, here = figures.pop("machine"), machine.describe()
    other = [name for name in ("cpu", "cores", "opuproj") if told[name] != here[name]]
    if other:
        differences = ", ".join(f"{name} {told[name]}, here {here[name]}" for name in other)
        sys.exit(f"{path} was measured elsewhere ({differences}): remove it, or choose another --out")
    return figures


def _show(figures: dict[str, Any]) -> None:
    for name, took in figures["cases"].items():
        one = Measured(**took)
        part = "" if one.part == 1 else f" (from {one.part:.2g} of the outputs)"
        bound = "" if one.peak_bytes <= MOST_BYTES else f", MORE than {MOST_BYTES >> 20} MiB"
        print(
            f"{name}: {duration(one.seconds_a_vector)} a vector{part}, "
            f"{one.peak_bytes / 2**20:.1f} MiB of memory{bound}; the matrix would take {size(one.matrix_bytes)}"
        )
    for name, both in figures["growth"].items():
        for what, grown in both.items():
            sizes = list(grown["seconds"])
            power = f"to the power of {grown['exponent']:.3f}"
            print(f"{name}: seconds grow with {what} {power}, from {sizes[0]} to {sizes[-1]}")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and up to 1")
    return share


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benches.large", description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--inputs", type=_count, default=1_000_000, help="default: %(default)s")
    add("--outputs", type=_count, default=2_000_000, help="default: %(default)s")
    add("--densities", type=_share, nargs="+", default=[0.01, 0.1, 1.0], help="shares of nonzeros")
    add("--batches", type=_count, nargs="+", default=[1, 64], help="vectors in a call")
    add("--threads", type=_count, default=machine.cores(), help="default: %(default)s")
    add("--call-seconds", type=float, default=600.0, help="longest call, fewer outputs beyond (default: %(default)s)")
    add("--growth-seconds", type=float, default=60.0, help="for either fit of an exponent (default: %(default)s)")
    add("--growth-sizes", type=_count, nargs="+", default=list(growth.SIZES), help="numbers of inputs and of outputs")
    add("--out", type=Path, default=saved.DATA / "full-size.json", help="the record (default: %(default)s)")
    add("--folder", type=Path, help="where the output's file goes while it is measured (default: the system's)")
    add(
        "--no-progress",
        action="store_true",
        default=not sys.stderr.isatty(),
        help="show no progress bars (the default if standard error is not a terminal)",
    )
    add("--order", help=argparse.SUPPRESS)  # the case for a separate process
    return parser


if __name__ == "__main__":
    main()
