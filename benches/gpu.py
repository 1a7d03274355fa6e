"""The speed of the CUDA backend against its requirements, on the GPU at hand: `make gpu-check`.

An entry is one real component of T. Times include the readout, and are medians of several, measured by CUDA's events.
The exit status is 1 if a requirement is missed. Without a GPU the program says so, and ends.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import opuproj

# A case is measured until this many seconds have passed, but at least three times.
_SECONDS = 1.0
_TERA = 1e12


class Case(NamedTuple):
    """What one measurement found, and what it must be."""

    name: str
    value: float
    unit: str
    least: float | None = None
    most: float | None = None

    def met(self) -> bool:
        """Return whether the requirement is met."""
        return (self.least is None or self.value >= self.least) and (self.most is None or self.value <= self.most)

    def __str__(self) -> str:
        bound = f"at least {self.least:g}" if self.least is not None else f"at most {self.most:g}"
        return f"{'  ' if self.met() else '! '}{self.name:64} {self.value:10.4g} {self.unit:14} {bound}"


def main() -> int:
    """Measure all cases, print them, and return the exit status."""
    try:
        import torch
    except ImportError:
        print("gpu-check: torch is not installed")
        return 0
    if not torch.cuda.is_available():
        print("gpu-check: there is no GPU")
        return 0
    from opuproj.backends.cuda import _device

    why = _device.why_not()
    if why is not None:
        print(f"gpu-check: the GPU cannot be used: {why}")
        return 1
    torch.backends.cuda.matmul.allow_tf32 = False
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, opuproj {opuproj.__version__}")
    start = time.perf_counter()
    opuproj.project(torch.ones(1, 3, device="cuda"), 8)
    torch.cuda.synchronize()
    print(f"first use: {time.perf_counter() - start:.1f} s (with cached kernels less)")
    missed = 0
    for case in _cases(torch):
        print(case, flush=True)
        missed += not case.met()
    print(f"{missed} requirements missed")
    return int(missed > 0)


def _seconds(torch: Any, work: Callable[[], Any]) -> float:
    """Return the median time of some work on the GPU."""
    work()
    torch.cuda.synchronize()
    times: list[float] = []
    end = time.perf_counter() + _SECONDS
    while len(times) < 3 or time.perf_counter() < end:
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        first.record()
        work()
        last.record()
        last.synchronize()
        times.append(first.elapsed_time(last) * 1e-3)
    opuproj.synchronize()
    return statistics.median(times)


def _host_seconds(torch: Any, work: Callable[[], Any]) -> float:
    """Return the median time after which a call returns, without waiting for the GPU."""
    times = []
    for _ in range(200):
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _cases(torch: Any) -> Iterator[Case]:
    yield from _generation(torch)
    yield from _rates(torch)
    yield from _stored(torch)
    yield from _other_inputs(torch)
    yield from _structured(torch)
    yield from _host(torch)


def _ternary(torch: Any, *shape: int) -> Any:
    return torch.randint(-1, 2, shape, device="cuda", dtype=torch.int8)


def _generation(torch: Any) -> Iterator[Case]:
    from opuproj.backends.cuda._gpu import TABLE_BYTES, TABLE_STRIDE, Hardware

    gpu, columns, blocks = Hardware(torch.cuda.current_device()), 131_072, 1024
    out = torch.empty((16 * blocks, columns), dtype=torch.int8, device="cuda")
    arguments = (
        out, np.int64(columns), np.uint64(3), np.uint64(0), np.int32(blocks), np.uint64(0), None, np.int32(0),
        np.int32(columns), None, None, np.int32(0), np.int32(256), TABLE_STRIDE,
    )  # fmt: skip
    work = lambda: gpu.launch("projection.cu", "panel", gpu.multiprocessors, 512, TABLE_BYTES, arguments)  # noqa: E731
    rate = out.numel() / _seconds(torch, work)
    normal = torch.empty(1 << 28, device="cuda")
    peer = normal.numel() / _seconds(torch, normal.normal_)
    yield Case("generation into memory", rate / _TERA, "T entries/s", least=1.05)
    yield Case("the same against torch's normal_ of float32", rate / peer, "times", least=2.3)


def _rates(torch: Any) -> Iterator[Case]:
    for n_vectors in (1, 8, 16):
        x, rows = _ternary(torch, n_vectors, 1_000_000), 100_000
        op = opuproj.Projector(1_000_000, rows, mode="complex")
        rate = 2 * rows * 1e6 / _seconds(torch, partial(op, x))
        yield Case(f"10^6 inputs, 10^5 rows, batch {n_vectors}", rate / _TERA, "T entries/s", least=1.0)
    for n_vectors, least in ((64, 0.75), (256, 0.65), (1024, 0.32)):
        x, rows = _ternary(torch, n_vectors, 32_768), 65_536
        op = opuproj.Projector(32_768, rows, mode="complex")
        rate = 2 * rows * 32_768 / _seconds(torch, partial(op, x))
        yield Case(f"32,768 inputs, batch {n_vectors}", rate / _TERA, "T entries/s", least=least)
    x, part = _ternary(torch, 1024, 1_000_000), 100_000
    op = opuproj.Projector(1_000_000, 2_000_000, mode="linear")[:part]
    rate = 1024 / (_seconds(torch, lambda: op(x)) * 2_000_000 / part)
    yield Case("10^6 -> 2 10^6 linear, batch 1024 (a twentieth of the rows)", rate, "vectors/s", least=80)


def _stored(torch: Any) -> Iterator[Case]:
    op = opuproj.Projector(10_000, 20_000, mode="real")
    matrices = {
        dtype: torch.randn(20_000, 10_000, device="cuda", dtype=dtype) for dtype in (torch.bfloat16, torch.float32)
    }
    for n_vectors, most in ((1, 4.0), (32, 4.0), (256, 4.0), (4096, 1.25)):
        x = _ternary(torch, n_vectors, 10_000)
        ours = _seconds(torch, partial(op, x))
        stored = {
            dtype: _seconds(torch, partial(torch.matmul, x.to(dtype), matrix.T)) for dtype, matrix in matrices.items()
        }
        name = f"10^4 -> 2 10^4 real, batch {n_vectors}"
        yield Case(f"{name}, against stored bfloat16", ours / stored[torch.bfloat16], "times its time", most=most)
        if n_vectors == 4096:
            yield Case(f"{name}, against stored float32", stored[torch.float32] / ours, "times faster", least=10)


def _other_inputs(torch: Any) -> Iterator[Case]:
    x, y = _ternary(torch, 256, 10_000), torch.randn(256, 20_000, device="cuda")
    op = opuproj.Projector(10_000, 20_000, mode="real")
    forward = _seconds(torch, lambda: op(x))
    numbers = torch.randn(256, 10_000, device="cuda")
    digits = _seconds(torch, lambda: op(numbers, digits=5))
    yield Case("five digits, batch 256, against ternary", digits / forward, "times its time", most=1.2)
    adjoint = _seconds(torch, lambda: op.H(y))
    yield Case("adjoint, ten digits, batch 256, against forward", adjoint / forward, "times its time", most=2.5)
    errors = torch.zeros(256, 50_257, device="cuda", dtype=torch.int8)
    errors.scatter_(1, torch.randint(0, 50_257, (256, 3), device="cuda"), 1)
    tokens = opuproj.Projector(50_257, 100_000, mode="real")
    filled = torch.empty(256, 100_000, device="cuda")
    ratio = _seconds(torch, lambda: tokens(errors)) / _seconds(torch, lambda: filled.fill_(1.0))
    yield Case("256 errors of 3 nonzeros in 50,257, 10^5 outputs, against filling", ratio, "times its time", most=8)


def _structured(torch: Any) -> Iterator[Case]:
    x = torch.randn(64, 1_000_000, device="cuda")
    op = opuproj.Projector(1_000_000, 2_000_000, mode="intensity", ensemble="structured")
    least = 25_000 if "H200" in torch.cuda.get_device_name() else 20_000
    rate = 64 / _seconds(torch, lambda: op(x))
    yield Case("structured, 10^6 -> 2 10^6, batch 64, intensities", rate, "vectors/s", least=least)


def _host(torch: Any) -> Iterator[Case]:
    from opuproj.torch import Projection

    x = _ternary(torch, 8, 1000)
    op = opuproj.Projector(1000, 1000, mode="real")
    layer = Projection(1000, 1000, mode="real")
    yield Case("host time of op(x)", _host_seconds(torch, lambda: op(x)) * 1e6, "us", most=25)
    yield Case("host time of torch.Projection", _host_seconds(torch, lambda: layer(x)) * 1e6, "us", most=40)


if __name__ == "__main__":
    sys.exit(main())
