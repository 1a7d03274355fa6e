"""What threads save, and what a call, a camera, digits and the adjoint cost."""

from __future__ import annotations

import numpy as np
import opuproj
from numpy.typing import NDArray

from benches import inputs, machine
from benches.call import Call
from benches.result import Result, duration
from benches.setting import Mode, Setting
from benches.timing import alternate

CALL_SECONDS = 15e-6  # the most time of a call from Python with almost nothing to compute


def threads_one_vector(at: Setting) -> Result:
    """One vector: two threads against one."""
    return _two_threads(at, inputs.dense(1, 100_000), 100_000)


def threads_large_batch(at: Setting) -> Result:
    """A batch of 1,024: two threads against one."""
    return _two_threads(at, inputs.dense(1024, 10_000), 20_000)


def overhead(at: Setting) -> Result:
    """16 → 16 "linear": seconds of `project` and of an operator's call, in units of 15 µs."""
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
    )


def noise(at: Setting, mode: Mode) -> Result:
    """The time for the noise of LightOn's camera, relative to an exact projection."""
    x = inputs.dense(32, 10_000)
    exact = Call(at, x, 100_000, mode)
    frames = Call(at, x, 100_000, mode, whole=True, camera=opuproj.Camera(bits=8))
    noisy = Call(at, x, 100_000, mode, whole=True, camera=opuproj.Camera.lighton())
    rounds = alternate({"exact": exact.run, "frames": frames.run, "noisy": noisy.run}, budget=at.budget)
    return Result(
        figure=f"{duration(rounds.median('noisy'))}; {duration(rounds.median('frames'))} without noise",
        against=f"{duration(rounds.median('exact') * exact.scale)} exact",
        ratio=(rounds.ratio("noisy", "exact") - rounds.ratio("frames", "exact")) / exact.scale,
    )


def five_digits(at: Setting) -> Result:
    """Real numbers in five digits, with their encoding, against ternary ones."""
    ternary = Call(at, inputs.dense(32, 10_000), 20_000, "linear")
    x = np.random.default_rng(0).standard_normal((32, 10_000), dtype=np.float32)
    digits = Call(at, x, 20_000, "linear", whole=True, digits=5)
    rounds = alternate({"digits": digits.run, "ternary": ternary.run}, budget=at.budget)
    return Result(
        figure=duration(rounds.median("digits")),
        against=f"{duration(rounds.median('ternary') * ternary.scale)} ternary",
        ratio=rounds.ratio("digits", "ternary") / ternary.scale,
    )


def adjoint(at: Setting, mode: Mode) -> Result:
    """op.H in ten digits, against the projection of real numbers in ten digits."""
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
    )


def _two_threads(at: Setting, x: NDArray[np.int8], n_outputs: int) -> Result:
    machine.need_cores(2)
    call = Call(at, x, n_outputs, "complex")
    rounds = alternate({"one": call.with_threads(1), "two": call.with_threads(2)}, budget=at.budget)
    return Result(
        figure=duration(rounds.median("two")) + call.note,
        against=f"{duration(rounds.median('one'))} on one",
        ratio=rounds.ratio("one", "two"),
    )
