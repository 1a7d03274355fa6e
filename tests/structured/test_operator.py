"""ensemble="structured" as an operator: its matrix, its mistakes, and what only the Gaussian ensemble has."""

from __future__ import annotations

import copy
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from typing import Any

import numpy as np
import opuproj
import pytest
from helpers import LINEAR_MODES, assert_same_bits, ternary
from opuproj import Camera, Projector
from structured_calls import project, reals

# The operator


def test_it_is_linear_and_multiplies_by_its_matrix() -> None:
    x = reals(6, 300)
    for mode in LINEAR_MODES:
        op = Projector(300, 700, seed=1, mode=mode, ensemble="structured", dtype=np.float64)[200:]
        matrix = op.matrix()
        assert matrix.shape == op.shape == (500, 300)
        assert matrix.dtype == op.dtype
        np.testing.assert_allclose(op(x), x @ matrix.T, rtol=0, atol=2e-5)
        assert_same_bits(op(np.eye(300)), matrix.T)
    op = Projector(300, 700, mode="intensity", ensemble="structured")
    np.testing.assert_allclose(op(x), np.abs(x @ op.matrix().T) ** 2, rtol=1e-4, atol=1e-3)
    assert op.matrix().dtype == np.complex64


def test_windows_of_its_matrix() -> None:
    op = Projector(300, 2000, seed=3, ensemble="structured")
    whole = op.matrix()
    for rows, columns in (
        (slice(3, 1800, 100), slice(290, None)),
        ([1999, 0, 0, -1], [-300, 299, 5]),
        (np.array([700], np.uint16), None),
        ([], [1]),
        ((1, 2), []),
    ):
        i = np.arange(2000)[rows if isinstance(rows, slice) else np.array(rows, int)]
        j = np.arange(300)[
            slice(None) if columns is None else columns if isinstance(columns, slice) else np.array(columns, int)
        ]
        assert_same_bits(op.matrix(rows, columns), whole[np.ix_(i, j)])
    big = Projector(10**6, 2 * 10**6, mode="complex", ensemble="structured")
    unit = np.zeros(10**6, np.int8)
    unit[999_999] = 1
    assert_same_bits(big.matrix([5, 1_999_999], [999_999])[:, 0], big(unit)[[5, 1_999_999]])
    real = Projector(300, 2000, seed=3, mode="real", ensemble="structured")  # a block has 1,024 rows
    rows, columns = [1507, 7, 1024, 1023], [299, 5]
    assert_same_bits(real[7:].matrix(np.array(rows) - 7, columns), real.matrix()[np.ix_(rows, columns)])


@pytest.mark.parametrize(
    "op",
    [
        Projector(300, 20, ensemble="structured"),
        Projector(300, 2000, seed=2**64 - 1, mode="complex", ensemble="structured", dtype=np.float64, threads=2),
        Projector(300, 2000, ensemble="structured")[500:800],
        Projector(300, 2000, mode="real", ensemble="structured")[501:800],
    ],
    ids=repr,
)
def test_it_survives_repr_pickle_and_copies(op: Projector) -> None:
    x = ternary(300)
    for other in (
        eval(repr(op)),
        copy.copy(op),
        copy.deepcopy(op),
        pickle.loads(pickle.dumps(op)),
        op.with_camera(None),
    ):
        assert other == op
        assert hash(other) == hash(op)
        assert other.ensemble == "structured"
        assert_same_bits(other(x), op(x))
    assert op != Projector(300, 20)


def test_operators_pickled_before_there_were_ensembles() -> None:
    make, (state,) = Projector(10, 20, seed=3).__reduce__()
    del state["ensemble"]
    assert make(state) == Projector(10, 20, seed=3)
    assert "ensemble" not in repr(Projector(10, 20))


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"ensemble": "fast"}, ValueError, "ensemble is 'fast', but must be one of 'gaussian', 'structured'"),
        ({"ensemble": None}, ValueError, "ensemble is None"),
        ({"digits": 5}, ValueError, "digits is 5, but ensemble is 'structured'"),
        ({"camera": Camera(photons=10)}, ValueError, "camera is Camera.*but ensemble is 'structured'"),
        ({"camera": Camera.ideal()}, ValueError, "camera is Camera"),
        ({"camera": Camera.ideal(), "mode": "real"}, ValueError, "camera is Camera.*but ensemble is 'structured'"),
        ({"noise_seed": 1}, ValueError, "noise_seed is 1"),
        ({"mode": "phase"}, ValueError, "mode is 'phase'"),
        ({"dtype": np.uint8}, ValueError, "dtype is uint8"),
        ({"rows": (0, 30)}, ValueError, "rows is 0 to 30"),
    ],
    ids=lambda value: str(value),
)
def test_mistakes_are_named(arguments: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        opuproj.project(np.ones(10), 20, **{"ensemble": "structured", **arguments})


def test_numbers_that_are_not_finite_are_refused_by_position() -> None:
    x = reals(3, 4, 500)
    for value in (np.nan, np.inf, -np.inf):
        x[2, 1, 77] = value
        for given_x in (x, x.astype(np.float32)):
            with pytest.raises(ValueError, match=r"x\[2, 1, 77\] is (NaN|inf|-inf), but must be finite"):
                project(given_x, 10)


def test_what_holds_no_vectors_of_real_numbers_is_refused() -> None:
    for x, error in (
        (np.ones(3, complex), TypeError),
        (["a"], TypeError),
        (3.0, ValueError),
        (np.ones((3, 0)), ValueError),
    ):
        with pytest.raises(error, match=r"^x "):
            project(x, 10)
    with pytest.raises(TypeError, match="x is an EncodedBatch"):
        project(opuproj.encode(reals(10)), 10)
    op = Projector(10, 20, ensemble="structured")
    with pytest.raises(ValueError, match="this operator takes 10"):
        op(reals(11))
    with pytest.raises(ValueError, match="camera is Camera"):
        op.with_camera(Camera.ideal())
    with pytest.raises(ValueError, match="digits is 3"):
        op(reals(10), digits=3)
    with pytest.raises(ValueError, match=r"x.* is 2, but must be -1, 0 or 1"):
        Projector(10, 20)(np.full(10, 2))


def test_transforms_that_no_memory_holds_are_refused() -> None:
    from scipy import sparse

    x = sparse.csr_array(([1], ([0], [5])), shape=(1, 2**42))
    with pytest.raises(MemoryError, match=r"transforms on 2 threads, of shape .4398046511104,. takes .* bytes"):
        project(x, 10, threads=2)


def test_ctrl_c_returns_control_at_once() -> None:
    code = """
        import signal, time
        import numpy as np, opuproj
        signal.signal(signal.SIGINT, signal.default_int_handler)
        op = opuproj.Projector(10_000, 10_000, ensemble="structured")
        x = np.linspace(-1, 1, 10_000)
        before = op(x)
        many, out = np.broadcast_to(np.int8(1), (1, 4_000_000)), np.empty((1, 1 << 24), np.float32)
        print("ready", flush=True)
        try:
            while True:
                opuproj.project(many, 1 << 40, rows=(1 << 39, (1 << 39) + (1 << 24)), ensemble="structured", out=out)
        except KeyboardInterrupt:
            print(time.time(), flush=True)
        assert np.array_equal(op(x), before)
        print("usable", flush=True)
    """
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.5)
        sent = time.time()
        child.send_signal(signal.SIGINT)
        output, _ = child.communicate(timeout=30)
    finally:
        child.kill()
    lines = output.split()
    assert lines[-1:] == ["usable"], output
    assert float(lines[0]) - sent < 0.3


# What only the Gaussian ensemble has


def test_there_is_no_adjoint_yet() -> None:
    op = Projector(300, 500, ensemble="structured")
    assert not hasattr(op, "H")
    assert not hasattr(op, "T")
    with pytest.raises(ValueError, match=r"ensemble is 'structured', which has no adjoint"):
        opuproj.Adjoint(op)


def test_solvers_may_multiply_by_it() -> None:
    op, x = Projector(300, 500, ensemble="structured"), np.random.default_rng(0).standard_normal(300)
    assert_same_bits(op.matvec(x), op(x))
    assert_same_bits(op.matmat(np.stack([x, -x], 1)), op(np.stack([x, -x])).T)


def test_entries_are_computed_on_the_threads_of_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPUPROJ_NUM_THREADS", "none")  # would be refused if it were read
    assert opuproj.Projector(10, 20, ensemble="structured", threads=1).matrix().shape == (20, 10)
