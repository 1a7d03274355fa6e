"""The speed cases: what is measured, against what, and what must be reached. The table and asv run these same ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Literal

import numpy as np
import opuproj
from numpy.typing import NDArray

from benches import inputs, limits, machine, peers
from benches.timing import Rounds, Work, alternate, seconds

Mode = Literal["intensity", "linear", "complex"]


class UnavailableError(Exception):
    """This machine or environment lacks what a case needs."""


@dataclass(frozen=True)
class Setting:
    """How the cases run: on which instruction set, on how many threads, and how long one call may last."""

    isa: str
    threads: int
    call_seconds: float = 10.0


@dataclass(frozen=True)
class Result:
    """One measured ratio and what it must be."""

    figure: str  # what opuproj reached, in the field's units
    against: str  # what it is compared with
    ratio: float
    required: float
    aim: float | None = None
    at_most: bool = False  # the ratio must not exceed `required`, instead of reaching it

    @property
    def reached(self) -> bool:
        """Whether the requirement is met."""
        return self.ratio <= self.required if self.at_most else self.ratio >= self.required


def one_vector(at: Setting) -> Result:
    """10⁵ → 10⁵ "complex", batch 1: T's components generated and used, against the bare keystream."""
    call = Call(at, inputs.dense(1, 100_000), 100_000, "complex")
    return _against_limit(call, limits.keystream(at.isa, at.threads), "components/s", required=0.60, aim=0.80)


def large_batch(at: Setting) -> Result:
    """10⁴ → 2·10⁴ "complex", batch 1024: multiply-adds, against the bare multiply."""
    call = Call(at, inputs.dense(1024, 10_000), 20_000, "complex")
    return _against_limit(call, limits.multiply(at.isa, at.threads), "MAC/s", required=0.75, aim=0.90)


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
    """Token errors, 3 nonzeros in 50,257, batch 256, 10⁵ outputs "linear": against NumPy filling such a result."""
    errors = Call(at, inputs.token_errors(256, 50_257), 100_000, "linear", whole=True)
    filled = np.empty((256, 100_000), dtype=np.float32)
    rounds = alternate({"fill": partial(filled.fill, 1.0), "errors": errors.run})
    return Result(
        figure=duration(rounds.median("errors")),
        against=f"{duration(rounds.median('fill'))} to fill",
        ratio=rounds.ratio("errors", "fill"),
        required=2.5,
        at_most=True,
    )


def stored_matrix(at: Setting, batch: int) -> Result:
    """10⁴ → 2·10⁴ "linear": against PyTorch with a stored real matrix, the faster of float32 and bfloat16."""
    if find_spec("torch") is None:
        raise UnavailableError("PyTorch is not installed")
    peers.use_threads(at.threads)
    x = inputs.dense(batch, 10_000)
    call = Call(at, x, 20_000, "linear")
    stored = peers.stored_pair(20_000, 10_000)
    rounds = alternate({"opuproj": call.run} | {dtype: matrix.multiply(x) for dtype, matrix in stored.items()})
    fastest = min(stored, key=rounds.median)
    return Result(
        figure=duration(rounds.median("opuproj") * call.scale) + call.note,
        against=f"{duration(rounds.median(fastest))} torch {fastest}",
        ratio=rounds.ratio(fastest, "opuproj") / call.scale,
        required=1,
    )


def noise(at: Setting, mode: Mode) -> Result:
    """10⁴ → 10⁵, batch 32: what the noise of LightOn's camera adds to frames without it, in exact projections."""
    x = inputs.dense(32, 10_000)
    exact = Call(at, x, 100_000, mode)
    frames = Call(at, x, 100_000, mode, whole=True, camera=opuproj.Camera(bits=8))
    noisy = Call(at, x, 100_000, mode, whole=True, camera=opuproj.Camera.lighton())
    rounds = alternate({"exact": exact.run, "frames": frames.run, "noisy": noisy.run})
    return Result(
        figure=f"{duration(rounds.median('noisy'))}; {duration(rounds.median('frames'))} without noise",
        against=f"{duration(rounds.median('exact') * exact.scale)} exact",
        ratio=(rounds.ratio("noisy", "exact") - rounds.ratio("frames", "exact")) / exact.scale,
        required=0.5,
        at_most=True,
    )


def five_digits(at: Setting) -> Result:
    """10⁴ → 2·10⁴ "linear", batch 32: real numbers in five digits, encoded on the way, against ternary ones."""
    ternary = Call(at, inputs.dense(32, 10_000), 20_000, "linear")
    x = np.random.default_rng(0).standard_normal((32, 10_000), dtype=np.float32)
    digits = Call(at, x, 20_000, "linear", whole=True, digits=5)
    return _times_as_long(digits, ternary, "ternary", required=1.3)


CASES: dict[str, Callable[[Setting], Result]] = {
    "one vector": one_vector,
    "batch 1024": large_batch,
    "2 threads, one vector": threads_one_vector,
    "2 threads, batch 1024": threads_large_batch,
    "1 % nonzeros": sparse_vector,
    "token errors, dense": errors_against_dense,
    "token errors, fill": errors_against_fill,
    "stored, batch 1": partial(stored_matrix, batch=1),
    "stored, batch 32": partial(stored_matrix, batch=32),
    "stored, batch 256": partial(stored_matrix, batch=256),
    "noise, intensity": partial(noise, mode="intensity"),
    "noise, linear": partial(noise, mode="linear"),
    "five digits": five_digits,
}


class Call:
    """One call of `opuproj.project` with a result that already exists, packing of x included.

    Where the call would last longer than the setting allows, fewer outputs are computed: with dense input the time is
    proportional to them. `scale` is the factor that was left out, `note` says so.
    """

    def __init__(
        self,
        at: Setting,
        x: NDArray[np.int8] | NDArray[np.float32],
        n_outputs: int,
        mode: Mode,
        *,
        whole: bool = False,
        camera: opuproj.Camera | None = None,
        digits: int | None = None,
    ):
        self.at = at
        self.camera, self.digits = camera, digits
        self.x = x
        self.mode = mode
        self.n_outputs = n_outputs
        if not whole:
            self.n_outputs = self._affordable(n_outputs)
        self.scale = n_outputs / self.n_outputs
        self.note = "" if self.scale == 1 else f" (from {self.n_outputs:,} of the outputs)"
        self.run = self.with_threads(at.threads)

    @property
    def multiply_adds(self) -> int:
        """Real multiply-adds of one call, two for an entry of T."""
        return 2 * self.x.size * self.n_outputs

    def with_threads(self, threads: int) -> Work:
        """The call on this many threads."""
        return self._work(self.n_outputs, threads)

    def _work(self, n_outputs: int, threads: int) -> Work:
        out = np.zeros((len(self.x), n_outputs), dtype=np.complex64 if self.mode == "complex" else np.float32)

        def run() -> None:
            with machine.forced(self.at.isa):
                opuproj.project(
                    self.x,
                    n_outputs,
                    mode=self.mode,
                    digits=self.digits,
                    camera=self.camera,
                    out=out,
                    threads=threads,
                )

        return run

    def _affordable(self, n_outputs: int) -> int:
        trial = max(1024, n_outputs // 64)
        took = seconds(self._work(trial, self.at.threads))
        affordable = int(trial * self.at.call_seconds / took)
        return n_outputs if affordable >= n_outputs else max(trial, affordable // 1000 * 1000)


def _times_as_long(call: Call, other: Call, name: str, *, required: float) -> Result:
    rounds = alternate({"call": call.run, "other": other.run})
    return Result(
        figure=duration(rounds.median("call")),
        against=f"{duration(rounds.median('other') * other.scale)} {name}",
        ratio=rounds.ratio("call", "other") / other.scale,
        required=required,
        at_most=True,
    )


def rate(per_second: float, unit: str) -> str:
    """A rate in thousands of millions, the scale of everything measured here: 21.3 G components/s."""
    return f"{per_second / 1e9:.3g} G {unit}"


def duration(of_seconds: float) -> str:
    """A time in the unit that reads best."""
    if of_seconds >= 1:
        return f"{of_seconds:.2f} s"
    if of_seconds >= 1e-3:
        return f"{of_seconds * 1e3:.3g} ms"
    return f"{of_seconds * 1e6:.3g} µs"


def _against_limit(call: Call, limit: limits.Limit, unit: str, *, required: float, aim: float) -> Result:
    rounds = alternate({"limit": limit.work, "call": call.run})
    limit_rate = limit.amount / rounds.median("limit")
    return Result(
        figure=rate(call.multiply_adds / rounds.median("call"), unit) + call.note,
        against=f"{rate(limit_rate, unit)} bare",
        ratio=rounds.ratio("limit", "call") * call.multiply_adds / limit.amount,
        required=required,
        aim=aim,
    )


def _against_dense(sparse: Call, dense: Call, *, required: float) -> Result:
    rounds = alternate({"dense": dense.run, "sparse": sparse.run})
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
    rounds: Rounds = alternate({"one": call.with_threads(1), "two": call.with_threads(2)})
    return Result(
        figure=duration(rounds.median("two")) + call.note,
        against=f"{duration(rounds.median('one'))} on one",
        ratio=rounds.ratio("one", "two"),
        required=1.85,
    )
