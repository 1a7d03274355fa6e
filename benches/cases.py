"""The speed cases: measurement, comparison and requirement. The table and asv run the same cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np
import opuproj
from numpy.typing import NDArray
from opuproj import _core, _memory

from benches import inputs, limits, machine
from benches.call import Call
from benches.peers.threads import torch_threads
from benches.peers.threads import use as use_threads
from benches.peers.torch_stored import TorchBfloat16, TorchFloat32, TorchStored
from benches.result import Result, duration, rate
from benches.setting import Mode, Setting, UnavailableError
from benches.timing import alternate

CALL_SECONDS = 15e-6  # the most time of a call from Python with almost nothing to compute


def run(name: str, at: Setting) -> Result:
    """Measure a case; raises UnavailableError where it cannot run."""
    with machine.forced(at.isa):
        return CASES[name](at)


def one_vector(at: Setting) -> Result:
    """10⁵ → 10⁵ "complex", batch 1: components of T generated and used, against generating alone."""
    call = Call(at, inputs.dense(1, 100_000), 100_000, "complex")
    return _against_limit(call, limits.keystream(at.isa, at.threads), "components/s", required=0.75, aim=0.85)


def medium_batch(at: Setting) -> Result:
    """10⁴ → 2·10⁴ "complex", batch 128: against the slower of generating T once and multiplying alone."""
    call = Call(at, inputs.dense(128, 10_000), 20_000, "complex")
    generate, multiply = limits.keystream(at.isa, at.threads), limits.multiply(at.isa, at.threads)
    rounds = alternate({"generate": generate.work, "multiply": multiply.work, "call": call.run}, budget=at.budget)

    def limit(took: Mapping[str, float]) -> float:
        return max(
            took["generate"] * call.components / generate.amount,
            took["multiply"] * call.multiply_adds / multiply.amount,
        )

    return Result(
        figure=duration(rounds.median("call")) + call.note,
        against=f"{duration(rounds.median_of(limit))}, the slower limit",
        ratio=rounds.median_of(lambda took: limit(took) / took["call"]),
        required=0.70,
    )


def large_batch(at: Setting) -> Result:
    """10⁴ → 2·10⁴ "complex", batch 1024: multiply-adds, against multiplying alone."""
    call = Call(at, inputs.dense(1024, 10_000), 20_000, "complex")
    return _against_limit(call, limits.multiply(at.isa, at.threads), "MAC/s", required=0.90)


def forced_batch(at: Setting, isa: str) -> Result:
    """10⁴ → 2·10⁴ "complex", batch 256, on a forced instruction set: against its own multiplying alone."""
    if not dict(_core.instruction_sets())[isa]:
        raise UnavailableError(f"this CPU lacks {isa}")
    with machine.forced(isa):
        call = Call(replace(at, isa=isa), inputs.dense(256, 10_000), 20_000, "complex")
        return _against_limit(call, limits.multiply(isa, at.threads), "MAC/s", required=0.75)


def overhead(at: Setting) -> Result:
    """16 → 16 "linear", batch 1: seconds of `project` and of an operator's call, in units of 15 µs."""
    x = inputs.dense(1, 16)[0]
    operator = opuproj.Projector(16, 16)
    rounds = alternate(
        {"project": lambda: opuproj.project(x, 16, mode="linear"), "operator": lambda: operator(x)}, budget=at.budget
    )
    project, operate = rounds.median("project"), rounds.median("operator")
    return Result(
        figure=f"{duration(project)} project, {duration(operate)} operator",
        against=duration(CALL_SECONDS),
        ratio=max(project, operate) / CALL_SECONDS,
        required=1,
        at_most=True,
    )


def packing(at: Setting) -> Result:
    """384 MiB of int8 to two bits per element, in blocks as in a projection: bytes moved, against NumPy's.

    Both use one thread, as packing does. The note gives the rate of packing as one batch, into memory that the system
    clears first.
    """
    if machine.available_bytes() < 3 << 29:
        raise UnavailableError("it takes 1.5 GiB of memory, which is more than there is")
    x = inputs.dense(384, 1 << 20)
    memory = limits.bandwidth(x)
    block = _memory.rows_within(len(x), _memory.packed_bytes(*x.shape))

    def in_blocks() -> None:
        for start in range(0, len(x), block):
            opuproj.pack(x[start : start + block])

    moved = x.nbytes + opuproj.pack(x).nbytes
    rounds = alternate(
        {name: limit.work for name, limit in memory.items()} | {"pack": in_blocks, "whole": lambda: opuproj.pack(x)},
        budget=at.budget,
    )
    fastest = max(memory, key=lambda name: memory[name].amount / rounds.median(name))
    whole = f"{rate(moved / rounds.median('whole'), 'B/s')} whole"
    return Result(
        figure=f"{rate(moved / rounds.median('pack'), 'B/s')}, {whole}",
        against=f"{rate(memory[fastest].amount / rounds.median(fastest), 'B/s')}, NumPy's {fastest}",
        ratio=rounds.ratio(fastest, "pack") * moved / memory[fastest].amount,
        required=0.5,
    )


def threads_one_vector(at: Setting) -> Result:
    """10⁵ → 10⁵ "complex", batch 1: two threads against one."""
    return _two_threads(at, inputs.dense(1, 100_000), 100_000)


def threads_large_batch(at: Setting) -> Result:
    """10⁴ → 2·10⁴ "complex", batch 1024: two threads against one."""
    return _two_threads(at, inputs.dense(1024, 10_000), 20_000)


def sparse_vector(at: Setting) -> Result:
    """10⁶ → 10⁵ "complex", batch 1: 1 % nonzeros against dense."""
    dense = Call(at, inputs.dense(1, 1_000_000), 100_000, "complex")
    sparse = Call(at, inputs.sparse(1, 1_000_000, 0.01), 100_000, "complex", whole=True)
    return _against_dense(sparse, dense, required=50)


def errors_against_dense(at: Setting) -> Result:
    """Token errors, 3 nonzeros in 50,257, batch 256, 10⁵ outputs "linear": against the same batch dense."""
    dense = Call(at, inputs.dense(256, 50_257), 100_000, "linear")
    errors = Call(at, inputs.token_errors(256, 50_257), 100_000, "linear", whole=True)
    return _against_dense(errors, dense, required=10)


def errors_against_fill(at: Setting) -> Result:
    """Token errors, 3 nonzeros in 50,257, batch 256, 10⁵ outputs "linear": against NumPy filling the result."""
    errors = Call(at, inputs.token_errors(256, 50_257), 100_000, "linear", whole=True)
    filled = np.empty((256, 100_000), dtype=np.float32)
    rounds = alternate({"fill": partial(filled.fill, 1.0), "errors": errors.run}, budget=at.budget)
    return Result(
        figure=duration(rounds.median("errors")),
        against=f"{duration(rounds.median('fill'))} to fill",
        ratio=rounds.ratio("errors", "fill"),
        required=2.5,
        at_most=True,
    )


def stored_matrix(at: Setting, batch: int) -> Result:
    """10⁴ → 2·10⁴ "linear": against PyTorch with a stored real matrix, the faster of float32 and bfloat16."""
    x = inputs.dense(batch, 10_000)
    call = Call(at, x, 20_000, "linear")
    peers = {peer.dtype: _built(peer, 10_000, 20_000, at.threads) for peer in (TorchFloat32, TorchBfloat16)}
    rounds = alternate(
        {"opuproj": call.run} | {dtype: peer.multiply(x) for dtype, peer in peers.items()}, budget=at.budget
    )
    fastest = min(peers, key=rounds.median)
    return Result(
        figure=duration(rounds.median("opuproj") * call.scale) + call.note,
        against=f"{duration(rounds.median(fastest))} torch {fastest}",
        ratio=rounds.ratio(fastest, "opuproj") / call.scale,
        required=1,
    )


def small_matrix(at: Setting) -> Result:
    """10³ → 10³ "linear", batch 1: against PyTorch's stored float32 matrix, on its faster number of threads."""
    x = inputs.dense(1, 1000)
    call = Call(at, x, 1000, "linear")
    multiply = _built(TorchFloat32, 1000, 1000, at.threads).multiply(x)

    def stored(threads: int) -> None:
        torch_threads(threads)
        multiply()

    on = {f"torch float32, threads: {n}": partial(stored, n) for n in sorted({1, at.threads})}
    rounds = alternate({"opuproj": call.run} | on, budget=at.budget)
    fastest = min(on, key=rounds.median)
    return Result(
        figure=duration(rounds.median("opuproj")),
        against=f"{duration(rounds.median(fastest))} {fastest}",
        ratio=rounds.ratio("opuproj", fastest),
        required=2,
        at_most=True,
    )


def noise(at: Setting, mode: Mode) -> Result:
    """10⁴ → 10⁵, batch 32: the time for the noise of LightOn's camera, relative to an exact projection."""
    x = inputs.dense(32, 10_000)
    exact = Call(at, x, 100_000, mode)
    frames = Call(at, x, 100_000, mode, whole=True, camera=opuproj.Camera(bits=8))
    noisy = Call(at, x, 100_000, mode, whole=True, camera=opuproj.Camera.lighton())
    rounds = alternate({"exact": exact.run, "frames": frames.run, "noisy": noisy.run}, budget=at.budget)
    return Result(
        figure=f"{duration(rounds.median('noisy'))}; {duration(rounds.median('frames'))} without noise",
        against=f"{duration(rounds.median('exact') * exact.scale)} exact",
        ratio=(rounds.ratio("noisy", "exact") - rounds.ratio("frames", "exact")) / exact.scale,
        required=0.5,
        at_most=True,
    )


def five_digits(at: Setting) -> Result:
    """10⁴ → 2·10⁴ "linear", batch 32: real numbers in five digits, with their encoding, against ternary ones."""
    ternary = Call(at, inputs.dense(32, 10_000), 20_000, "linear")
    x = np.random.default_rng(0).standard_normal((32, 10_000), dtype=np.float32)
    digits = Call(at, x, 20_000, "linear", whole=True, digits=5)
    return _times_as_long(digits, ternary, "ternary", required=1.3)


def adjoint(at: Setting, mode: Mode, required: float) -> Result:
    """10⁴ → 2·10⁴, batch 32: op.H in ten digits, against the projection of real numbers in ten digits."""
    x = np.random.default_rng(1).standard_normal((32, 10_000), dtype=np.float32)
    forward = Call(at, x, 20_000, mode, digits=10)
    op = opuproj.Projector(10_000, forward.n_outputs, mode=mode, threads=at.threads)
    y = np.random.default_rng(0).standard_normal((32, op.n_outputs, 2), dtype=np.float32)
    backward = y[..., 0] + 1j * y[..., 1] if mode == "complex" else y[..., 0]
    out = np.zeros((32, op.n_inputs), dtype=op.dtype)

    def run() -> None:
        with machine.forced(at.isa):
            op.H(backward, out=out)

    rounds = alternate({"adjoint": run, "forward": forward.run})
    return Result(
        figure=duration(rounds.median("adjoint")) + forward.note,
        against=f"{duration(rounds.median('forward'))} forward",
        ratio=rounds.ratio("adjoint", "forward"),
        required=required,
        at_most=True,
    )


CASES: dict[str, Callable[[Setting], Result]] = {
    "one vector": one_vector,
    "batch 128": medium_batch,
    "batch 1024": large_batch,
    "avx512, batch 256": partial(forced_batch, isa="avx512"),
    "avx2, batch 256": partial(forced_batch, isa="avx2"),
    "2 threads, one vector": threads_one_vector,
    "2 threads, batch 1024": threads_large_batch,
    "1 % nonzeros": sparse_vector,
    "token errors, dense": errors_against_dense,
    "token errors, fill": errors_against_fill,
    "small, batch 1": small_matrix,
    "stored, batch 1": partial(stored_matrix, batch=1),
    "stored, batch 32": partial(stored_matrix, batch=32),
    "stored, batch 256": partial(stored_matrix, batch=256),
    "noise, intensity": partial(noise, mode="intensity"),
    "noise, linear": partial(noise, mode="linear"),
    "five digits": five_digits,
    "overhead": overhead,
    "packing": packing,
    "adjoint, linear": partial(adjoint, mode="linear", required=1.5),
    # Complex vectors take twice as many multiplications.
    "adjoint, complex": partial(adjoint, mode="complex", required=2.5),
}


def _built(peer: type[TorchStored], n_inputs: int, n_outputs: int, threads: int) -> TorchStored:
    """Return a stored matrix for PyTorch on this many threads; cached, because building it takes seconds."""
    use_threads(threads)
    return _kept(peer, n_inputs, n_outputs)


@lru_cache(maxsize=2)
def _kept(peer: type[TorchStored], n_inputs: int, n_outputs: int) -> TorchStored:
    peer.check(n_inputs, n_outputs)
    return peer.build(n_inputs, n_outputs)


def _times_as_long(call: Call, other: Call, name: str, *, required: float) -> Result:
    rounds = alternate({"call": call.run, "other": other.run}, budget=call.at.budget)
    return Result(
        figure=duration(rounds.median("call")),
        against=f"{duration(rounds.median('other') * other.scale)} {name}",
        ratio=rounds.ratio("call", "other") / other.scale,
        required=required,
        at_most=True,
    )


def _against_limit(call: Call, limit: limits.Limit, unit: str, *, required: float, aim: float | None = None) -> Result:
    rounds = alternate({"limit": limit.work, "call": call.run}, budget=call.at.budget)
    limit_rate = limit.amount / rounds.median("limit")
    return Result(
        figure=rate(call.multiply_adds / rounds.median("call"), unit) + call.note,
        against=f"{rate(limit_rate, unit)} bare",
        ratio=rounds.ratio("limit", "call") * call.multiply_adds / limit.amount,
        required=required,
        aim=aim,
    )


def _against_dense(sparse: Call, dense: Call, *, required: float) -> Result:
    rounds = alternate({"dense": dense.run, "sparse": sparse.run}, budget=dense.at.budget)
    return Result(
        figure=duration(rounds.median("sparse")),
        against=f"{duration(rounds.median('dense') * dense.scale)} dense{dense.note}",
        ratio=rounds.ratio("dense", "sparse") * dense.scale,
        required=required,
    )


def _two_threads(at: Setting, x: NDArray[np.int8], n_outputs: int) -> Result:
    if machine.cores() < 2:
        raise UnavailableError("this process may use one core only")
    call = Call(at, x, n_outputs, "complex")
    rounds = alternate({"one": call.with_threads(1), "two": call.with_threads(2)}, budget=at.budget)
    return Result(
        figure=duration(rounds.median("two")) + call.note,
        against=f"{duration(rounds.median('one'))} on one",
        ratio=rounds.ratio("one", "two"),
        required=1.85,
    )
