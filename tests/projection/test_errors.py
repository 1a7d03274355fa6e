"""Every mistake is named before work starts: which argument, what it was, what it must be."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import numpy as np
import opuproj
import pytest
from helpers import ternary
from opuproj import Camera, Projector

X = ternary(3, 50)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_outputs": 0}, ValueError, r"n_outputs is 0, but must be from 1 to 2\*\*63 - 1"),
        ({"n_outputs": -5}, ValueError, "n_outputs is -5"),
        ({"n_outputs": 2**63}, ValueError, "n_outputs is 9223372036854775808"),
        ({"n_outputs": 10.0}, TypeError, r"n_outputs is 10\.0, but must be an integer"),
        ({"n_outputs": True}, TypeError, "n_outputs is True"),
        ({"n_outputs": None}, TypeError, "n_outputs is None"),
        ({"seed": -1}, ValueError, r"seed is -1, but must be from 0 to 2\*\*64 - 1"),
        ({"seed": 2**64}, ValueError, "seed is 18446744073709551616"),
        ({"seed": 1.5}, TypeError, r"seed is 1\.5"),
        ({"seed": True}, TypeError, "seed is True"),
        ({"seed": "0"}, TypeError, "seed is '0'"),
        ({"dtype": {"names": ["a"]}}, TypeError, r"dtype is \{'names': \['a'\]\}, but must be a floating-point dtype"),
        (
            {"mode": "Linear"},
            ValueError,
            "mode is 'Linear', but must be one of 'intensity', 'linear', 'complex', 'real'",
        ),
        ({"mode": None}, ValueError, "mode is None"),
        ({"mode": np.arange(3)}, ValueError, "mode is array"),
        ({"n_anchor": 0}, ValueError, "n_anchor is 0, but must be from 1 to 4096"),
        ({"n_anchor": 4097}, ValueError, "n_anchor is 4097"),
        ({"threads": 0}, ValueError, "threads is 0, but must be from 1"),
        ({"threads": 1.0}, TypeError, r"threads is 1\.0"),
        ({"dtype": "float16"}, ValueError, "dtype is float16, but mode 'intensity' gives float32 or float64"),
        ({"dtype": ">f4"}, ValueError, "other byte order"),
        ({"dtype": int}, ValueError, "dtype is int64"),
        ({"dtype": "no such"}, TypeError, "dtype is 'no such'"),
        ({"dtype": complex}, ValueError, "only mode 'complex' gives complex numbers"),
        ({"dtype": np.int8, "mode": "complex"}, ValueError, "complex64"),
        (
            {"dtype": complex, "mode": "real"},
            ValueError,
            "dtype is complex128, but mode 'real' gives float32 or float64",
        ),
        ({"dtype": np.uint8, "mode": "real"}, ValueError, "dtype is uint8, but mode 'real' gives float32 or float64"),
        (
            {"camera": Camera(), "mode": "real"},
            ValueError,
            "camera is Camera.*but mode is 'real', .* use mode 'linear'",
        ),
        ({"rows": (0, 21)}, ValueError, "rows is 0 to 21, but must satisfy .* n_outputs, which is 20"),
        ({"rows": (-1, 5)}, ValueError, "rows is -1 to 5"),
        ({"rows": (6, 5)}, ValueError, "rows is 6 to 5"),
        ({"rows": slice(0, 21)}, ValueError, "rows is 0 to 21"),
        ({"rows": slice(0, 20, 2)}, ValueError, "rows has step 2"),
        ({"rows": range(0, 20, 2)}, ValueError, "rows has step 2"),
        ({"rows": range(15, 25)}, ValueError, "rows is 15 to 25"),
        ({"rows": 5}, TypeError, "rows is 5"),
        ({"rows": (1, 2, 3)}, TypeError, r"rows is \(1, 2, 3\)"),
        ({"rows": (1.0, 2)}, TypeError, r"rows is 1\.0"),
        ({"rows": (1, None)}, TypeError, "rows is None"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_arguments(arguments: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        opuproj.project(X, **{"n_outputs": 20, **arguments})
    if not {"rows"} & set(arguments):
        with pytest.raises(error, match=message):
            Projector(50, **{"n_outputs": 20, "mode": "intensity", **arguments})


@pytest.mark.parametrize("n_inputs", [0, -1, 2**63])
def test_sizes_of_an_operator(n_inputs: int) -> None:
    with pytest.raises(ValueError, match="n_inputs is"):
        Projector(n_inputs, 5)


@pytest.mark.parametrize(
    ("value", "shown"), [(2, "2"), (-2, "-2"), (127, "127"), (0.5, "0.5"), (1e300, "1e[+]300"), (np.inf, "inf")]
)
@pytest.mark.parametrize("dtype", ["b", "i8", "e", "f4", "f8", "g", ">f8"])
def test_values_other_than_ternary(value: float, shown: str, dtype: str) -> None:
    x = np.zeros((3, 4, 90), dtype)
    kind = np.dtype(dtype)
    if (kind.kind == "i" and value != int(value if np.isfinite(value) else 0)) or (
        abs(value) > 1e4 and kind.itemsize < 8
    ):
        return
    if kind.kind == "i" and (not np.isfinite(value) or abs(value) > 127):
        return
    x[2, 1, 77] = value
    calls = {
        "use opuproj.ternarize for other values": opuproj.pack,
        "use opuproj.ternarize, or digits=, for other values": lambda x: opuproj.project(x, 5),
        "use op(x, digits=…) or op.matvec(x) for real numbers, or opuproj.ternarize": Projector(90, 5),
        "use op(x, digits=…) for real numbers, or opuproj.ternarize": Projector(90, 5, mode="intensity"),
    }
    for advice, call in calls.items():
        match = rf"x\[2, 1, 77\] is {shown}(\.0)?, but must be -1, 0 or 1; {re.escape(advice)}$"
        with pytest.raises(ValueError, match=match):
            call(x)


def test_255_is_not_minus_one() -> None:
    with pytest.raises(ValueError, match=r"x\[1\] is 255"):
        opuproj.pack(np.array([0, 255], np.uint8))
    with pytest.raises(ValueError, match="is 18446744073709551615"):
        opuproj.pack(np.array([0, 2**64 - 1], np.uint64))


def test_almost_one_is_not_one() -> None:
    for almost in (
        np.nextafter(np.float32(1), np.float32(2)),
        np.nextafter(1.0, 0.0),
        5e-324,
        np.longdouble(1) + np.finfo(np.longdouble).eps,
    ):
        with pytest.raises(ValueError, match=r"x\[0\] is"):
            opuproj.pack(np.array([almost]))


@pytest.mark.parametrize("dtype", ["e", "f", "d", "g"])
def test_nan(dtype: str) -> None:
    x = np.zeros((3, 50), dtype)
    x[1, 2] = np.nan
    with pytest.raises(ValueError, match=r"x\[1, 2\] is NaN, but must be -1, 0 or 1$"):
        opuproj.project(x, 20)


def test_the_first_bad_value_is_shown() -> None:
    x = np.zeros((3, 50))
    x[1, 2], x[1, 1], x[2, 0] = 5, 4, 3
    with pytest.raises(ValueError, match=r"x\[1, 1\] is 4"):
        opuproj.pack(x)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (1, ValueError, "x is a single number"),
        (np.zeros((3, 0)), ValueError, r"x has shape \(3, 0\)"),
        ([], ValueError, "its last axis is empty"),
        (np.zeros(3, complex), TypeError, "x has dtype complex128"),
        (np.array([1, None]), TypeError, "x has dtype object"),
        ("101", TypeError, "x has dtype <U3"),
        (["a", "b"], TypeError, "x has dtype <U1"),
        ([[1, 0], [1]], ValueError, "x cannot be converted to an array"),
        (np.zeros(3, "m8[s]"), TypeError, "x has dtype timedelta64"),
        (np.zeros(3, [("a", int)]), TypeError, "x has dtype"),
        (np.ma.masked_equal([1, 0, 1], 0), TypeError, r"x is a masked array; .*x\.filled\(0\)"),
        (None, TypeError, "x has dtype object"),
    ],
    ids=repr,
)
def test_what_is_no_batch_of_vectors(x: object, error: type, message: str) -> None:
    for call in (opuproj.pack, lambda x: opuproj.project(x, 5), Projector(3, 5)):
        with pytest.raises(error, match=message):
            call(x)


def test_a_wrong_last_dimension() -> None:
    op = Projector(50, 20)
    with pytest.raises(ValueError, match=r"x has shape \(3, 49\), so its vectors have 49 inputs, but .* takes 50$"):
        op(X[:, :49])
    with pytest.raises(ValueError, match=r"for columns use op\(x\.T\)\.T"):
        op @ X.T
    with pytest.raises(ValueError, match="takes 50"):
        op(opuproj.pack(X[:, :49]))


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (np.empty((3, 21), np.float32), ValueError, r"out has shape \(3, 21\), but must have shape \(3, 20\)"),
        (np.empty((1, 3, 20), np.float32), ValueError, "out has shape"),
        (np.empty((3, 20)), ValueError, "out has dtype float64, but must have dtype float32"),
        (np.empty((3, 20), ">f4"), ValueError, "out has dtype >f4"),
        (np.broadcast_to(np.float32(0), (3, 20)), ValueError, "out is read-only"),
        (np.empty((20, 3), np.float32).T, ValueError, "out has strides"),
        (np.empty((3, 40), np.float32)[:, ::2], ValueError, "out has strides"),
        (np.empty((3, 20), np.float32)[::-1], ValueError, "out has strides"),
        (np.empty((3, 20), np.float32)[:, ::-1], ValueError, "out has strides"),
        (np.lib.stride_tricks.as_strided(np.empty(60, np.float32), (3, 20), (4, 4)), ValueError, "out has strides"),
        ([[0.0] * 20] * 3, TypeError, "out is a list"),
        (np.ma.zeros((3, 20), np.float32), TypeError, "out is a MaskedArray"),
    ],
    ids=range(12),
)
def test_out(out: object, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        opuproj.project(X, 20, out=out)


def test_out_that_is_a_view_that_conjugates_or_negates() -> None:
    torch = pytest.importorskip("torch")
    field = torch.zeros((3, 20), dtype=torch.complex64)
    for mode, out in (("complex", field.conj()), ("linear", field.conj().imag)):
        with pytest.raises(ValueError, match="out is a conjugated or negated view"):
            opuproj.project(X, 20, mode=mode, out=out)


def test_out_whose_vectors_are_unevenly_spaced() -> None:
    out = np.zeros((2, 5, 20), np.float32)[:, :3]
    with pytest.raises(ValueError, match="evenly spaced"):
        opuproj.project(ternary(2, 3, 50), 20, out=out)


def test_out_is_untouched_by_a_failed_call() -> None:
    out = np.full((3, 20), 7, np.float32)
    x = X.copy()
    x[2, 49] = 2
    with pytest.raises(ValueError, match="is 2"):
        opuproj.project(x, 20, out=out)
    assert (out == 7).all()


@pytest.mark.parametrize("n_outputs", [10**13, 2**62, 2**63 - 1])
def test_outputs_that_no_memory_holds(n_outputs: int) -> None:
    n_bytes = 3 * n_outputs * 4
    with pytest.raises(MemoryError, match=rf"{n_bytes:,} bytes .*rows=.*out="):
        opuproj.project(X, n_outputs)


def test_an_output_of_a_little_more_than_the_memory() -> None:
    from opuproj import _memory

    n_outputs = int(_memory.available() // 4) + 2**30
    with pytest.raises(MemoryError, match="rows="):
        opuproj.project(X[0], n_outputs)


def test_memory_that_would_be_handed_out_but_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    from opuproj import _memory

    # Linux may promise more than it has, and then kill whoever uses it: what is available decides, not the promise.
    monkeypatch.setattr(_memory, "available", lambda: 1e8)
    with pytest.raises(MemoryError, match=r"200,000,000 bytes \(200 MB\)"):
        opuproj.project(X[0], 50_000_000)
    with pytest.raises(MemoryError, match="packed"):
        opuproj.pack(np.broadcast_to(np.int8(1), (1000, 1_000_000)))
    assert opuproj.project(X[0], 50_000_000, rows=(0, 10)).shape == (10,)


def test_what_is_available_is_part_of_the_machine() -> None:
    from opuproj import _memory

    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 2**26 < _memory.available() <= 2 * total or _memory.available() == float("inf")
    assert [_memory.readable(n) for n in (12, 4e3, 1.6e13, 3e18)] == ["12 bytes", "4 kB", "16 TB", "3 EB"]


def test_available_memory_of_other_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    from opuproj import _memory

    pytest.importorskip("psutil")  # first, as it reads the platform when it is imported
    here = _memory._of_machine()
    if sys.platform == "linux":
        monkeypatch.setattr(sys, "platform", "darwin")
    assert abs(_memory._of_machine() - here) < 0.2 * here  # other processes use memory in between


@pytest.mark.parametrize(
    ("line", "folder", "limit", "usage"),
    [
        ("0::/slurm/job_7/step_0", "/sys/fs/cgroup/", "memory.max", "memory.current"),
        ("9:memory:/slurm/job_7/step_0", "/sys/fs/cgroup/memory/", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ],
)
@pytest.mark.parametrize("limited", ["", "slurm/", "slurm/job_7/", "slurm/job_7/step_0/"])
def test_limits_of_all_groups_above_count(
    line: str, folder: str, limit: str, usage: str, limited: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opuproj import _memory

    groups = [f"{folder}{group}" for group in ("", "slurm/", "slurm/job_7/", "slurm/job_7/step_0/")]
    files = {f"{group}{usage}": "300" for group in groups} | {f"{group}{limit}": "max" for group in groups}
    files[f"{folder}{limited}{limit}"] = "1000"
    files["/proc/self/cgroup"] = f"1:cpu:/elsewhere\n{line}\n"

    def read_text(path: Path) -> str:
        if str(path) not in files:
            raise FileNotFoundError(str(path))
        return files[str(path)]

    monkeypatch.setattr(Path, "read_text", read_text)
    assert _memory._of_cgroup() == 700
    files[f"{folder}{limited}{limit}"] = "max"
    assert _memory._of_cgroup() == float("inf")


def test_windows_and_batches_that_no_memory_holds() -> None:
    op = Projector(10**6, 2 * 10**6, mode="complex")
    with pytest.raises(MemoryError, match=r"a window of shape \(2000000, 1000000\) takes .* \(16 TB\)"):
        op.matrix()
    with pytest.raises(MemoryError, match="packed"):
        opuproj.pack(np.broadcast_to(np.int8(1), (10**8, 10**6)))
    with pytest.raises(MemoryError, match="packed"):
        opuproj.ternarize(np.broadcast_to(np.float32(1), (10**8, 10**6)), 0.1)


@pytest.mark.parametrize(
    ("rows", "columns", "error", "message"),
    [
        ([20], None, IndexError, "rows holds 20, but must lie in -20 to 19"),
        (None, [-51], IndexError, "columns holds -51"),
        (range(15, 21), None, IndexError, r"rows is range\(15, 21\)"),
        (range(-1, 3), None, IndexError, r"rows is range\(-1, 3\)"),
        (3, None, TypeError, "rows is 3"),
        (None, [0.5], TypeError, r"columns is \[0\.5\]"),
        ([[1]], None, TypeError, "rows is"),
        ([True] * 20, None, TypeError, "rows is"),
        (None, np.array([2**64 - 1], np.uint64), IndexError, "columns holds 18446744073709551615"),
    ],
)
def test_windows(rows: object, columns: object, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        Projector(50, 20).matrix(rows, columns)  # type: ignore[arg-type]


def test_ranges_of_an_operator() -> None:
    op = Projector(50, 20)
    with pytest.raises(TypeError, match=r"op\[i:i \+ 1\]"):
        op[3]  # type: ignore[index]
    with pytest.raises(TypeError, match="slice"):
        op[1:3, 2]  # type: ignore[index]
    with pytest.raises(ValueError, match="step 2"):
        op[::2]
    with pytest.raises(ValueError, match="rows is 5 to 21"):
        op.rows(5, 21)
    with pytest.raises(ValueError, match="which is 10"):
        op.rows(5, 15).rows(0, 11)
    with pytest.raises(TypeError, match="rows is None"):
        op.rows(None, 3)  # type: ignore[arg-type]
