"""`opuproj bench`: times a projection against a product with a stored matrix of the same size on this machine."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from .. import _check, _memory
from ..backends.cpu import machine
from ..projector import Projector
from . import _arguments, info

_EXAMPLES = """\
  opuproj bench
  opuproj bench --inputs 20000 --outputs 10000 --batch 256
  opuproj bench --mode linear --against numpy --json > bench.json

Both multiply the same dense ternary vectors by a real Gaussian matrix. opuproj generates it; the other library keeps a
float32 matrix in memory. The time to make that matrix is printed, but not included."""

_LIBRARIES = ("torch", "numpy")
_MODES = {"real": "Gx", "linear": "Rx"}
_ROUNDS = 15


def add_parser(commands: Any) -> None:
    """Describe the command line."""
    parser = _arguments.add_command(
        commands, "bench", "compare the speed with a stored matrix (half a minute)", _EXAMPLES
    )
    for name, default, what in (("inputs", 10_000, "length of a vector"), ("outputs", 10_000, "length of a result")):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{what} (default: {default})")
    parser.add_argument("--batch", type=int, default=32, metavar="N", help="vectors at a time (default: 32)")
    parser.add_argument(
        "--mode",
        choices=_MODES,
        default="real",
        help="opuproj's matrix: real (default), or linear, the device's own, at twice the multiplications",
    )
    parser.add_argument(
        "--against", choices=_LIBRARIES, help="library of the stored matrix (default: torch, else numpy)"
    )
    parser.add_argument(
        "--seconds",
        type=_arguments.seconds,
        default=20.0,
        metavar="S",
        help="measuring time, at most 40 (default: 20)",
    )
    _arguments.add_threads(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Measure and print."""
    batch = _check.size("batch", arguments.batch)
    op = Projector(arguments.inputs, arguments.outputs, mode=arguments.mode, threads=arguments.threads)
    n_bytes = 4 * op.n_inputs * op.n_outputs
    _memory.reserve("the stored matrix", op.shape, n_bytes, "give smaller --inputs and --outputs")
    sizes = (batch, op.n_inputs + 5 * op.n_outputs)
    _memory.reserve("a batch", sizes, 4 * batch * (2 * op.n_inputs + 2 * op.n_outputs), "give a smaller --batch")
    threads = machine.n_threads(op.threads)
    library = arguments.against or ("torch" if importlib.util.find_spec("torch") else "numpy")
    x = (2 * np.random.default_rng(1).integers(0, 2, (batch, op.n_inputs), dtype=np.int8) - 1).astype(np.int8)
    result = np.empty((batch, op.n_outputs), np.float32)
    limited, make = _STORED[library](threads)
    with limited, _progress() as bar:
        start = perf_counter()
        stored = make(op.shape, x)
        built = perf_counter() - start
        generated, multiplied = _alternate(lambda: op(x, out=result), stored, min(arguments.seconds, 40.0), bar)
    here = info.machine()
    found = {
        "cpu": here["cpu"],
        "isa": here["chosen"],
        "opuproj": here["version"],
        "threads": threads,
        "mode": op.mode,
        "inputs": op.n_inputs,
        "outputs": op.n_outputs,
        "batch": batch,
        "against": library,
        "rounds": len(generated),
        "seconds": {"opuproj": median(generated), library: median(multiplied)},
        "ratio": median(b / a for a, b in zip(generated, multiplied, strict=True)),
        "stored_bytes": n_bytes,
        "stored_build_seconds": built,
    }
    print(json.dumps(found, indent=1) if arguments.json else _table(found))


def _progress() -> Any:
    """Return a progress bar of rounds, which only a terminal shows. It is updated between the timed calls."""
    shown = sys.stderr is not None and sys.stderr.isatty()
    return tqdm(total=_ROUNDS, unit=" rounds", desc="opuproj: making the matrix", disable=not shown, mininterval=0)


def _alternate(
    first: Callable[[], object], second: Callable[[], object], budget: float, bar: Any
) -> tuple[list[float], ...]:
    """Time two functions alternately, so that a change of load affects both equally. First calls are not counted."""
    bar.set_description("opuproj: measuring")
    seconds: tuple[list[float], ...] = ([], [])
    functions = (first, second)
    calls = []
    for work in functions:
        work()
        calls.append(max(1, round(0.05 / max(_timed(work, 1), 1e-9))))
    start = perf_counter()
    for done in range(_ROUNDS):
        if done >= 3 and perf_counter() - start > budget:
            break
        for work, n, measured in zip(functions, calls, seconds, strict=True):
            measured.append(_timed(work, n))
        bar.update()
    return seconds


def _timed(work: Callable[[], object], calls: int) -> float:
    start = perf_counter()
    for _ in range(calls):
        work()
    return (perf_counter() - start) / calls


Product = Callable[[tuple[int, int], NDArray[np.int8]], Callable[[], object]]


def _numpy(threads: int) -> tuple[AbstractContextManager[Any], Product]:
    """Return a context that limits NumPy's threads, and a function that makes a matrix and returns its product."""
    limited: AbstractContextManager[Any] = nullcontext()
    if importlib.util.find_spec("threadpoolctl"):
        from threadpoolctl import threadpool_limits

        limited = threadpool_limits(threads)
    elif threads != machine.n_threads(None):
        raise ValueError(
            f"threads is {threads}, but NumPy's number of threads cannot be set without threadpoolctl: install it, or "
            "torch"
        )

    def make(shape: tuple[int, int], x: NDArray[np.int8]) -> Callable[[], object]:
        matrix = np.random.default_rng(0).standard_normal(shape, np.float32).T
        batch, out = x.astype(np.float32), np.empty((len(x), shape[0]), np.float32)
        return lambda: np.matmul(batch, matrix, out=out)

    return limited, make


def _torch(threads: int) -> tuple[AbstractContextManager[Any], Product]:
    """Return a context that limits PyTorch's threads, and a function that makes a matrix and returns its product."""
    try:
        import torch
    except ImportError as error:
        raise ValueError("against is 'torch', which is not installed: use --against numpy") from error

    @contextmanager
    def limited() -> Iterator[None]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def make(shape: tuple[int, int], x: NDArray[np.int8]) -> Callable[[], object]:
        matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0)).t()
        batch, out = torch.from_numpy(x).float(), torch.empty(len(x), shape[0])
        return lambda: torch.mm(batch, matrix, out=out)

    return limited(), make


_STORED = {"numpy": _numpy, "torch": _torch}


def _table(found: dict[str, Any]) -> str:
    library, seconds, ratio = found["against"], found["seconds"], found["ratio"]
    verdict = f"opuproj is {ratio:.2f} × as fast" if ratio >= 1 else f"the stored matrix is {1 / ratio:.2f} × as fast"
    return "\n".join(
        (
            f"{found['cpu']}, {found['isa']}, threads: {found['threads']}",
            f"{found['batch']} dense ternary vectors, {found['inputs']:,} inputs to {found['outputs']:,} outputs, "
            f"{_MODES[found['mode']]}",
            f"  opuproj, matrix generated   {1000 * seconds['opuproj']:10.2f} ms",
            f"  {library + ', matrix stored':<26}  {1000 * seconds[library]:10.2f} ms"
            f"   + {found['stored_build_seconds']:.1f} s to make it, {_memory.readable(found['stored_bytes'])}",
            f"{verdict} (median of {found['rounds']} alternating rounds)",
        )
    )
