"""The cases: what is measured on a GPU, and what it must be.

An entry is one real component of T. Times include the readout. Peers are measured beside, in the same run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import opuproj

from benches.gpu.timing import Gpu

_TERA = 1e12
_FIRST_USE = """
import time, torch, opuproj
x = torch.ones(1, 3, device="cuda")
start = time.perf_counter()
opuproj.project(x, 8)
torch.cuda.synchronize()
print(time.perf_counter() - start)
"""


class Case(NamedTuple):
    """What one measurement found, and what it must be, if anything."""

    name: str
    value: float
    unit: str
    least: float | None = None
    most: float | None = None

    def met(self) -> bool:
        """Return whether the requirement is met."""
        return (self.least is None or self.value >= self.least) and (self.most is None or self.value <= self.most)

    def __str__(self) -> str:
        bound = "" if self.most is None else f"at most {self.most:g}"
        bound = bound if self.least is None else f"at least {self.least:g}"
        return f"{'  ' if self.met() else '! '}{self.name:72} {self.value:10.4g} {self.unit:14} {bound}"


def first_use(gpu: Gpu) -> Iterator[Case]:
    """The first projection of a process, with an empty cache of kernels and with a full one."""
    with tempfile.TemporaryDirectory() as folder:
        for cache in ("empty", "full"):
            found = subprocess.run(
                [sys.executable, "-c", _FIRST_USE],
                env={**os.environ, "OPUPROJ_CACHE_DIR": folder},
                check=True,
                capture_output=True,
                text=True,
            )
            yield Case(f"first use, {cache} cache", float(found.stdout), "s")


def generation(gpu: Gpu) -> Iterator[Case]:
    """T into memory, as int8 and as float32, against PyTorch's random numbers."""
    import torch
    from opuproj.backends.cuda._gpu import TABLE_BYTES, TABLE_STRIDE

    kernels, columns, blocks = gpu.kernels(), max(128, gpu.of(131_072) // 128 * 128), gpu.of(1024)
    out = torch.empty((16 * blocks, columns), dtype=torch.int8, device=_device(gpu))
    arguments = (
        out, np.int64(columns), np.uint64(3), np.uint64(0), np.int32(blocks), np.uint64(0), None, np.int32(0),
        np.int32(columns), None, None, np.int32(0), np.int32(256), TABLE_STRIDE,
    )  # fmt: skip
    panel = partial(kernels.launch, "projection.cu", "panel", kernels.multiprocessors, 512, TABLE_BYTES, arguments)
    rate = out.numel() / gpu.seconds(panel)
    normal = torch.empty(gpu.of(1 << 28), device=_device(gpu))
    peer = normal.numel() / gpu.seconds(normal.normal_)
    yield Case("generation into memory", rate / _TERA, "T entries/s", least=1.05)
    yield Case("the same against torch's normal_ of float32", rate / peer, "times", least=2.3)
    op = opuproj.Projector(gpu.of(131_072), gpu.of(16_384), mode="real")
    rate = op.n_inputs * op.n_outputs / gpu.seconds(lambda: op.matrix(device=gpu.device))
    yield Case("op.matrix, float32", rate / _TERA, "T entries/s")


def few_vectors(gpu: Gpu) -> Iterator[Case]:
    """Up to 16 vectors of 10⁶ inputs."""
    for n_vectors in (1, 8, 16):
        op = opuproj.Projector(gpu.of(1_000_000), gpu.of(100_000), mode="complex")
        x = _ternary(gpu, n_vectors, op.n_inputs)
        rate = 2 * op.n_inputs * op.n_outputs / gpu.seconds(partial(op, x))
        yield Case(f"10^6 inputs, 10^5 rows, batch {n_vectors}", rate / _TERA, "T entries/s", least=1.0)


def batches(gpu: Gpu) -> Iterator[Case]:
    """Batches, with scratch memory of 1.5 GiB and of 256 MiB, and the limit that the int8 product sets."""
    for n_vectors, least in ((64, 0.75), (256, 0.65), (1024, 0.32)):
        op = opuproj.Projector(gpu.of(32_768), gpu.of(65_536), mode="complex")
        x, entries = _ternary(gpu, n_vectors, op.n_inputs), 2 * op.n_inputs * op.n_outputs
        name = f"32,768 inputs, batch {n_vectors}"
        yield Case(name, entries / gpu.seconds(partial(op, x)) / _TERA, "T entries/s", least=least)
        with _scratch(256):
            rate = entries / gpu.seconds(partial(op, x)) / _TERA
        yield Case(f"{name}, 256 MiB of scratch memory", rate, "T entries/s")
        yield Case(f"{name}, the int8 product alone", entries / _product(gpu, op, x) / _TERA, "T entries/s")


def largest(gpu: Gpu) -> Iterator[Case]:
    """The device's own task: a twentieth of the rows is measured."""
    whole = opuproj.Projector(gpu.of(1_000_000), gpu.of(2_000_000), mode="linear")
    part = whole[: whole.n_outputs // 20]
    x = _ternary(gpu, 1024 if gpu.smaller == 1 else 40, whole.n_inputs)
    rate = len(x) / (gpu.seconds(partial(part, x)) * whole.n_outputs / part.n_outputs)
    yield Case("10^6 -> 2 10^6 linear, batch 1024", rate, "vectors/s", least=80)
    yield Case("the same against the hardware's 85 vectors/s", rate / 85, "times")


def stored(gpu: Gpu) -> Iterator[Case]:
    """A stored matrix of 10⁴ × 2·10⁴, of three dtypes."""
    import torch

    op = opuproj.Projector(gpu.of(10_000), gpu.of(20_000), mode="real")
    matrices = {
        dtype: torch.randn(op.n_outputs, op.n_inputs, device=_device(gpu)).to(dtype)
        for dtype in (torch.bfloat16, torch.float32)
    }
    for n_vectors, most in ((1, 4.0), (32, 4.0), (256, 4.0), (4096, 1.25)):
        n_vectors = n_vectors if gpu.smaller == 1 else min(40, n_vectors)
        x = _ternary(gpu, n_vectors, op.n_inputs)
        ours = gpu.seconds(partial(op, x))
        stored_seconds = {
            dtype: gpu.seconds(partial(torch.matmul, x.to(dtype), matrix.T)) for dtype, matrix in matrices.items()
        }
        name = f"10^4 -> 2 10^4 real, batch {n_vectors}"
        of_bfloat16, of_float32 = stored_seconds[torch.bfloat16], stored_seconds[torch.float32]
        yield Case(f"{name}, against stored bfloat16", ours / of_bfloat16, "times its time", most=most)
        least = 10.0 if n_vectors == 4096 else None
        yield Case(f"{name}, against stored float32", of_float32 / ours, "times faster", least=least)
        yield Case(f"{name}, against stored int8", ours / _product(gpu, op, x), "times its time")
    # n × 2n numbers of bfloat16 take 4 n² bytes.
    yield Case(
        "inputs n from which a stored matrix n -> 2 n of bfloat16 does not fit", (gpu.memory / 4) ** 0.5, "inputs"
    )


def other_inputs(gpu: Gpu) -> Iterator[Case]:
    """Real numbers, the adjoint and very sparse errors."""
    import torch

    op = opuproj.Projector(gpu.of(10_000), gpu.of(20_000), mode="real")
    x, y = _ternary(gpu, 256, op.n_inputs), torch.randn(256, op.n_outputs, device=_device(gpu))
    numbers = torch.randn(256, op.n_inputs, device=_device(gpu))
    forward = gpu.seconds(partial(op, x))
    digits = gpu.seconds(partial(op, numbers, digits=5))
    yield Case("five digits, batch 256, against ternary", digits / forward, "times its time", most=1.2)
    adjoint = gpu.seconds(partial(op.H, y, digits=10))
    yield Case("adjoint, ten digits, batch 256, against forward", adjoint / forward, "times its time", most=2.5)
    tokens = opuproj.Projector(gpu.of(50_257), gpu.of(100_000), mode="real")
    errors = torch.zeros(256, tokens.n_inputs, device=_device(gpu), dtype=torch.int8)
    errors.scatter_(1, torch.randint(0, tokens.n_inputs, (256, 3), device=_device(gpu)), 1)
    filled = torch.empty(256, tokens.n_outputs, device=_device(gpu))
    ratio = gpu.seconds(partial(tokens, errors)) / gpu.seconds(partial(filled.fill_, 1.0))
    yield Case("256 errors of 3 nonzeros in 50,257, 10^5 outputs, against filling", ratio, "times its time", most=8)


def structured(gpu: Gpu) -> Iterator[Case]:
    """The structured ensemble at the device's size."""
    import torch

    op = opuproj.Projector(gpu.of(1_000_000), gpu.of(2_000_000), mode="intensity", ensemble="structured")
    x = torch.randn(64, op.n_inputs, device=_device(gpu))
    least = 25_000 if "H200" in gpu.name else 20_000
    rate = len(x) / gpu.seconds(partial(op, x))
    yield Case("structured, 10^6 -> 2 10^6, batch 64, intensities", rate, "vectors/s", least=least)


def to_host(gpu: Gpu) -> Iterator[Case]:
    """Results that are copied to the host, range by range."""
    op = opuproj.Projector(gpu.of(10_000), gpu.of(2_000_000), mode="real")
    x, out = _ternary(gpu, 64, op.n_inputs), np.empty((64, op.n_outputs), np.float32)

    def work() -> Any:
        return op(x, out=out)

    work()
    start = time.perf_counter()
    work()
    yield Case("results to NumPy's out=, batch 64", out.nbytes / (time.perf_counter() - start) / 1e9, "GB/s")


def host_time(gpu: Gpu) -> Iterator[Case]:
    """The time of a call on the host, without waiting for the GPU."""
    from opuproj.torch import Projection

    x = _ternary(gpu, 8, 1000)
    op, layer = opuproj.Projector(1000, 1000, mode="real"), Projection(1000, 1000, mode="real")
    yield Case("host time of op(x)", gpu.host_seconds(partial(op, x)) * 1e6, "us", most=25)
    yield Case("host time of torch.Projection", gpu.host_seconds(lambda: layer(x)) * 1e6, "us", most=40)


CASES: dict[str, Callable[[Gpu], Iterator[Case]]] = {
    case.__name__: case
    for case in (
        first_use,
        generation,
        few_vectors,
        batches,
        largest,
        stored,
        other_inputs,
        structured,
        to_host,
        host_time,
    )
}


def _device(gpu: Gpu) -> Any:
    import torch

    return torch.device("cpu" if gpu.device != "cuda" else gpu.device)


def _ternary(gpu: Gpu, *shape: int) -> Any:
    import torch

    return torch.randint(-1, 2, shape, device=_device(gpu), dtype=torch.int8)


def _product(gpu: Gpu, op: opuproj.Projector, x: Any) -> float:
    """Return the time of the product of x with a stored int8 matrix of all components, into existing memory.

    `torch._int_mm` takes more than 16 rows, and multiples of 8. The rows that are added are paid for.
    """
    import torch

    kernels, components = gpu.kernels(), 1 if op.mode == "real" else 2
    rows, columns = max(32, -(-len(x) // 32) * 32), -(-op.n_inputs // 8) * 8
    padded = torch.nn.functional.pad(x, (0, columns - op.n_inputs, 0, rows - len(x)))
    # Few rows of the matrix at a time, so that it fits in memory.
    n_outputs = min(op.n_outputs * components, 1 << 15) // 8 * 8
    matrix = torch.randint(-90, 91, (n_outputs, columns), device=x.device, dtype=torch.int8)
    out = torch.empty((rows, n_outputs), dtype=torch.int32, device=x.device)
    return gpu.seconds(partial(kernels.product, padded, matrix, out)) * op.n_outputs * components / n_outputs


@contextmanager
def _scratch(mebibytes: int) -> Iterator[None]:
    """Set the scratch memory of calls."""
    name = "OPUPROJ_GPU_SCRATCH"
    before = os.environ.get(name)
    os.environ[name] = str(mebibytes)
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
