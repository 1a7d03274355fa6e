"""The speed cases: what is compared, and what it must reach. The table and asv run the same cases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from benches import machine
from benches.cases import costs, limit, nonzeros, stored
from benches.requirement import Requirement, at_least, at_most
from benches.result import Result
from benches.setting import Mode, Setting


@dataclass(frozen=True)
class Case:
    """What is compared, the measurement, and the requirement of its ratio."""

    what: str
    measure: Callable[[Setting], Result]
    requirement: Requirement


def run(name: str, at: Setting) -> Result:
    """Measure a case; raises UnavailableError where it cannot run."""
    with machine.forced(at.isa):
        return CASES[name].measure(at)


def _stored(batch: int, mode: Mode, dtypes: tuple[str, ...], requirement: Requirement) -> Case:
    against = f"time of stored {' or '.join(dtypes)} over opuproj's"
    what = f"{'Gx' if mode == 'real' else 'Rx'}, 10⁴ → 2·10⁴, batch {batch:,}: {against}"
    return Case(what, partial(stored.stored, batch=batch, mode=mode, dtypes=dtypes), requirement)


CASES: dict[str, Case] = {
    "one vector": Case("Tx, 10⁵ → 10⁵, batch 1: share of generating alone", limit.one_vector, at_least(0.85)),
    "batch 128": Case("Tx, 10⁴ → 2·10⁴, batch 128: share of the slower limit", limit.medium_batch, at_least(0.70)),
    "batch 1024": Case("Tx, 10⁴ → 2·10⁴, batch 1,024: share of multiplying alone", limit.large_batch, at_least(0.90)),
    "batch 1024, 16 threads": Case(
        "Tx, 10⁴ → 2·10⁴, batch 1,024, 16 threads: share of multiplying alone",
        partial(limit.large_batch, threads=16),
        at_least(amx=0.90),
    ),
    "avx512, batch 256": Case(
        "Tx, 10⁴ → 2·10⁴, batch 256, AVX-512 forced: share of multiplying alone",
        partial(limit.forced_batch, isa="avx512"),
        at_least(0.75),
    ),
    "avx2, batch 256": Case(
        "Tx, 10⁴ → 2·10⁴, batch 256, AVX2 forced: share of multiplying alone",
        partial(limit.forced_batch, isa="avx2"),
        at_least(0.75),
    ),
    "2 threads, one vector": Case(
        "Tx, 10⁵ → 10⁵, batch 1: time of one thread over two", costs.threads_one_vector, at_least(1.85)
    ),
    "2 threads, batch 1024": Case(
        "Tx, 10⁴ → 2·10⁴, batch 1,024: time of one thread over two", costs.threads_large_batch, at_least(1.85)
    ),
    "1 % nonzeros": Case("Tx, 10⁶ → 10⁵, batch 1: time of dense over 1 % nonzeros", nonzeros.vector, at_least(50)),
    "10 % nonzeros, batch 256": Case(
        "Tx, 10⁴ → 2·10⁴, batch 256: time of dense over 10 % nonzeros",
        nonzeros.batch,
        at_least(avx512=2.5, amx=1.0),
    ),
    "token errors, dense": Case(
        "Rx, 256 errors of 3 nonzeros in 50,257 → 10⁵: time of dense over errors",
        nonzeros.errors_against_dense,
        at_least(10),
    ),
    "token errors, fill": Case(
        "Rx, 256 errors of 3 nonzeros in 50,257 → 10⁵: time of errors over filling the result",
        nonzeros.errors_against_fill,
        at_most(2.5),
    ),
    "small, batch 1": Case(
        "Rx, 10³ → 10³, batch 1: opuproj's time over stored float32", stored.small_matrix, at_most(2)
    ),
    "stored, batch 1": _stored(1, "linear", ("float32", "bfloat16"), at_least(1)),
    "stored, batch 32": _stored(32, "linear", ("float32", "bfloat16"), at_least(1)),
    "stored, batch 256": _stored(256, "linear", ("float32", "bfloat16"), at_least(1)),
    "real, stored, batch 1": _stored(1, "real", ("float32", "bfloat16"), at_least(1)),
    "real, stored, batch 32": _stored(32, "real", ("float32", "bfloat16"), at_least(1)),
    "real, stored, batch 256": _stored(256, "real", ("float32", "bfloat16"), at_least(1)),
    "real, bfloat16, batch 1": _stored(1, "real", ("bfloat16",), at_least(avx512=3.5, amx=1.2)),
    "real, bfloat16, batch 32": _stored(32, "real", ("bfloat16",), at_least(avx512=2.0, amx=1.2)),
    "real, bfloat16, batch 256": _stored(256, "real", ("bfloat16",), at_least(avx512=1.8, amx=1.2)),
    "real, bfloat16, batch 1024": _stored(1024, "real", ("bfloat16",), at_least(avx512=1.8, amx=1.2)),
    "real, int8, batch 32": _stored(32, "real", ("int8",), at_least(avx512=1.0)),
    "real, int8, batch 256": _stored(256, "real", ("int8",), at_least(avx512=1.0)),
    "real, int8, batch 1024": _stored(1024, "real", ("int8",), at_least(avx512=1.0)),
    "noise, intensity": Case(
        "10⁴ → 10⁵, batch 32, intensity: time of the camera's noise over an exact projection",
        partial(costs.noise, mode="intensity"),
        at_most(0.5),
    ),
    "noise, linear": Case(
        "10⁴ → 10⁵, batch 32, linear: time of the camera's noise over an exact projection",
        partial(costs.noise, mode="linear"),
        at_most(0.5),
    ),
    "five digits": Case(
        "Rx, 10⁴ → 2·10⁴, batch 32: time of floats in five digits over ternary", costs.five_digits, at_most(1.3)
    ),
    "overhead": Case("Rx, 16 → 16: time of a call over 15 µs", costs.overhead, at_most(1)),
    "packing": Case("384 MiB of int8 to 2 bits each: share of NumPy's bandwidth", limit.packing, at_least(0.5)),
    "adjoint, linear": Case(
        "10⁴ → 2·10⁴, batch 32, ten digits, linear: time of op.H over forward",
        partial(costs.adjoint, mode="linear"),
        at_most(1.5),
    ),
    # Complex vectors take twice as many multiplications.
    "adjoint, complex": Case(
        "10⁴ → 2·10⁴, batch 32, ten digits, complex: time of op.H over forward",
        partial(costs.adjoint, mode="complex"),
        at_most(2.5),
    ),
}
