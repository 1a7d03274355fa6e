"""Projections against the limits of the CPU: generating alone, multiplying alone, and memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import opuproj
from opuproj import _core, _memory

from benches import inputs, limits, machine
from benches.call import Call
from benches.result import Result, duration, rate
from benches.setting import Setting, UnavailableError
from benches.timing import alternate


def one_vector(at: Setting) -> Result:
    """Components of T generated and used for one vector, against generating alone."""
    call = Call(at, inputs.dense(1, 100_000), 100_000, "complex")
    return _against(limits.keystream(at.isa, at.threads), call, "components/s")


def medium_batch(at: Setting) -> Result:
    """A batch between both limits, against the slower of generating T once and multiplying alone."""
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
    )


def large_batch(at: Setting, threads: int | None = None) -> Result:
    """Multiply-adds of a batch of 1,024, against multiplying alone, on a number of threads if it is given."""
    if threads is not None:
        machine.need_cores(threads)
        at = replace(at, threads=threads)
    call = Call(at, inputs.dense(1024, 10_000), 20_000, "complex")
    return _against(limits.multiply(at.isa, at.threads), call, "MAC/s")


def forced_batch(at: Setting, isa: str) -> Result:
    """Multiply-adds of a batch of 256 on a forced instruction set, against its own multiplying alone."""
    if not dict(_core.instruction_sets())[isa]:
        raise UnavailableError(f"this CPU lacks {isa}")
    with machine.forced(isa):
        call = Call(replace(at, isa=isa), inputs.dense(256, 10_000), 20_000, "complex")
        return _against(limits.multiply(isa, at.threads), call, "MAC/s")


def packing(at: Setting) -> Result:
    """384 MiB of int8 to two bits per element, in blocks as in a projection: bytes moved, against NumPy's.

    Both use one thread, as packing does. The figure has the rate of packing as one batch too, into memory that the
    system clears first.
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
    )


def _against(limit: limits.Limit, call: Call, unit: str) -> Result:
    rounds = alternate({"limit": limit.work, "call": call.run}, budget=call.at.budget)
    return Result(
        figure=rate(call.multiply_adds / rounds.median("call"), unit) + call.note,
        against=f"{rate(limit.amount / rounds.median('limit'), unit)} bare",
        ratio=rounds.ratio("limit", "call") * call.multiply_adds / limit.amount,
    )
