"""The other commands, help, completion, and the examples of docs/cli.md."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import opuproj
import pytest
from cli_runs import COMMAND, REAL, X, names, saved, zarr_library
from helpers import MODES, ROOT, linux, ternary
from opuproj.cli import bench, demo, main

COMMANDS = ("project", "pack", "info", "bench", "demo", "completion")

pytestmark = pytest.mark.usefixtures("in_a_folder")


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


# pack


@pytest.mark.parametrize("shape", [(37, 70), (70,), (5, 3, 129), (0, 5), (1, 64)])
def test_pack_writes_what_save_writes(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opuproj._memory.BLOCK_BYTES", 200)  # many blocks
    x = ternary(*shape)
    np.save("x.npy", x)
    np.savez("x.npz", x)
    opuproj.pack(x).save("x.ternary")
    for name in ("x.npy", "x.npz", "x.ternary"):
        assert run("pack", name, "y") == 0
        assert Path("y").read_bytes() == Path("x.ternary").read_bytes()
    assert names() == {"x.npy", "x.npz", "x.ternary", "y"}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4", "int16"])
@pytest.mark.parametrize(
    ("arguments", "same"),
    [
        (["--threshold", "0.5"], {"threshold": 0.5}),
        (["--threshold", "0"], {"threshold": 0.0}),
        (["--relative", "0.3"], {"relative": 0.3}),
        (["--relative", "0.3", "--scale", "row"], {"relative": 0.3}),
        (["--relative", "0.1", "--scale", "global"], {"relative": 0.1, "scale": "global"}),
    ],
)
def test_pack_ternarizes(
    arguments: list[str], same: dict[str, Any], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("opuproj._memory.BLOCK_BYTES", 500)
    monkeypatch.setattr("opuproj._memory.PIECE_BYTES", 1000)
    e = (10 * REAL if dtype == "int16" else REAL).astype(dtype)
    np.save("e.npy", e)
    assert run("pack", "e.npy", "e.ternary", *arguments) == 0
    assert opuproj.TernaryBatch.load("e.ternary") == opuproj.ternarize(e, **same)


def test_pack_takes_zarr_and_pipes() -> None:
    zarr_library().create_array("e.zarr", shape=REAL.shape, chunks=(5, 70), dtype="f4")[:] = REAL
    assert run("pack", "e.zarr", "a", "--relative", 0.2, "--scale", "global") == 0
    assert opuproj.TernaryBatch.load("a") == opuproj.ternarize(REAL, relative=0.2, scale="global")
    subprocess.run([*COMMAND, "pack", "-", "b", "--relative", "0.2"], input=saved(REAL), check=True, timeout=60)
    assert opuproj.TernaryBatch.load("b") == opuproj.ternarize(REAL, relative=0.2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["e.npy", "y"], "e.npy[0, 0] is 2.0409"),
        (["nan.npy", "y", "--threshold", "1"], "nan.npy[30, 7] is NaN, but must be a number"),
        (["nan.npy", "y", "--relative", "0.5"], "nan.npy[30, 7] is NaN, but must be finite for a relative threshold"),
        (["e.npy", "y", "--threshold", "-1"], "threshold is -1.0, but must be finite and not negative"),
        (["e.npy", "y", "--relative", "1"], "relative is 1.0, but must be at least 0 and less than 1"),
        (["e.npy", "y", "--scale", "row"], "scale is 'row', but --scale needs --relative"),
        (["x.ternary", "y", "--threshold", "1"], "x.ternary is a packed file, which is ternary"),
        (["x.ternary", "x.ternary"], "OUT is x.ternary, which is also IN"),
        (["e.npy", "-"], "OUT is -, but a packed file is not written in order"),
        (["e.npy", "y.npy", "--threshold", "1"], "OUT is y.npy, but a packed file must not end in"),
        (["e.npy", "y.NPZ", "--threshold", "1"], "OUT is y.NPZ, but a packed file must not end in"),
        (["e.npy", "y.zarr", "--threshold", "1"], "give another ending, as in x.ternary"),
        (["e.npy", "folder", "--threshold", "1"], "folder: Is a directory"),
        (["e.npy", "no/y", "--threshold", "1"], "No such file or directory"),
        (["-", "y", "--relative", "0.1", "--scale", "global"], "which must read standard input twice"),
    ],
)
def test_pack_refuses(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(saved(X))))
    bad = REAL.copy()
    bad[30, 7] = np.nan
    np.save("e.npy", REAL)
    np.save("nan.npy", bad)
    opuproj.pack(X).save("x.ternary")
    Path("folder").mkdir()
    before = names()
    assert run("pack", *arguments) == 1
    err = capsys.readouterr().err
    assert err.startswith("opuproj: error: ")
    assert err.count("\n") == 1
    assert said in err
    assert names() == before


@linux
@pytest.mark.parametrize("rows", [2**48, 2**59])
def test_pack_begins_nothing_that_no_disk_holds(rows: int, capsys: pytest.CaptureFixture[str]) -> None:
    zarr_library().create_array("x.zarr", shape=(rows, 1), chunks=(2**20, 1), dtype="i1")
    assert run("pack", "x.zarr", "y", "--relative", "0.25") == 1
    assert " bytes" in capsys.readouterr().err
    assert names() == {"x.zarr"}


def test_pack_leaves_what_was_there_when_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opuproj._memory.BLOCK_BYTES", 200)
    x = X.copy()
    x[-1, -1] = 3
    np.save("x.npy", x)
    Path("y").write_bytes(b"before")
    assert run("pack", "x.npy", "y") == 1
    assert Path("y").read_bytes() == b"before"
    assert names() == {"x.npy", "y"}


# info


def test_info_of_the_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["version"] == opuproj.__version__
    assert found["threads"] == 1
    assert found["threads_by"] == "OPUPROJ_NUM_THREADS"
    assert found["chosen"] in found["found"]
    assert found["cpu"]
    assert run("info") == 0
    shown = capsys.readouterr().out
    for text in (opuproj.__version__, np.__version__, found["cpu"], *found["found"], *found["missing"]):
        assert text in shown


def test_info_of_files(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("x.npy", X)
    np.savez_compressed("x.npz", a=REAL, b=X)
    opuproj.pack(X.reshape(37, 7, 10)).save("x.ternary")
    for arguments, expected in (
        (["x.npy"], {"kind": "a .npy file", "shape": [37, 70], "dtype": "int8", "vectors": 37, "inputs": 70}),
        (["x.npz", "--member", "a"], {"file": "x.npz[a]", "dtype": "float32", "members": ["a", "b"]}),
        (["x.ternary"], {"kind": "a packed file", "shape": [37, 7, 10], "vectors": 259, "dtype": "ternary"}),
    ):
        assert run("info", "--json", *arguments) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["bytes"] == os.path.getsize(arguments[0])
        assert expected.items() <= found.items()
    assert run("info", "x.npy") == 0
    assert "shape             37, 70" in capsys.readouterr().out
    assert run("info", "--member", "a") == 1
    assert "member is 'a', but there is no FILE" in capsys.readouterr().err
    with open("long.npy", "wb") as file:  # only the header is read
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (10**9, 1000)})
        file.truncate(file.tell() + 4 * 10**12)
    assert run("info", "long.npy") == 0


# bench


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_bench(library: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip(library)
    arguments = ["--inputs", 300, "--outputs", 200, "--batch", 4, "--seconds", 0, "--against", library]
    assert run("bench", "--json", *arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["inputs"], found["outputs"], found["batch"], found["threads"]) == (300, 200, 4, 1)
    assert found["mode"] == "real"
    assert found["stored_bytes"] == 4 * 300 * 200
    assert found["rounds"] >= 3
    assert set(found["seconds"]) == {"opuproj", library}
    assert min(found["seconds"].values()) > 0
    assert run("bench", *arguments, "--mode", "linear") == 0
    shown = capsys.readouterr().out
    assert re.search(r"(opuproj|the stored matrix) is \d+\.\d\d × as fast", shown)
    assert "300 inputs to 200 outputs, Rx" in shown


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_bench_times_a_product_of_the_whole_batch(library: str) -> None:
    pytest.importorskip(library)
    x = ternary(5, 2000)
    limited, make = bench._STORED[library](1)
    with limited:
        work = make((3000, 2000), x)
        y = np.asarray(work())
        y = y.copy()
    assert y.shape == (5, 3000)
    # Gaussian entries: each vector's results have its norm as their deviation.
    assert np.allclose(y.std(1), np.sqrt((x != 0).sum(1)), rtol=0.1)


def test_bench_shows_rounds_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--inputs", 300, "--outputs", 200, "--batch", 4, "--seconds", 0, "--against", "numpy"]
    assert run("bench", *arguments) == 0
    assert capsys.readouterr().err == ""
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    assert run("bench", *arguments) == 0
    shown = terminal.getvalue()
    assert "making the matrix:   0%" in shown
    assert re.search(r"measuring: .* 3/15 ", shown)


def test_bench_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        (["--inputs", 10**8, "--outputs", 10**6], "the stored matrix of shape (1000000, 100000000) takes"),
        (["--batch", 0], "batch is 0"),
        (["--outputs", 0], "n_outputs is 0"),
    ):
        assert run("bench", *arguments) == 1
        assert said in capsys.readouterr().err


# demo


def test_demo(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("demo") == 0
    shown = capsys.readouterr().out
    accuracies = [float(value) for value in re.findall(r"([\d.]+)% correct", shown)]
    assert accuracies[0] < 30 < 85 < accuracies[-1]
    assert len(re.findall(r"standard errors", shown)) == 4
    assert "a stored T would take 160 GB" in shown


def test_demo_fails_where_theory_is_not_met(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def linear(x: Any, n: int, **options: Any) -> Any:
        return opuproj.project(x, n, mode="linear", **options)

    monkeypatch.setattr(demo, "project", linear)
    assert run("demo") == 1
    assert "error: accuracy on the features: the result differs from theory" in capsys.readouterr().err


def test_digits_are_digits() -> None:
    x, labels = demo.digits(500)
    assert set(np.unique(x)) == {-1, 1}
    assert set(labels) == set(range(10))
    assert 0.4 < (x[:, 0] == -1).mean() < 0.6  # half of them inverted


# The command itself


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    shown = capsys.readouterr().out
    for command in COMMANDS:
        assert command in shown
    for command in COMMANDS:
        assert run(command, "--help") == 0
        shown = capsys.readouterr().out
        assert shown.startswith(f"usage: opuproj {command}")
        examples = shown.partition("\nexamples:\n")[2]
        assert f"opuproj {command}" in examples
        assert max(map(len, examples.splitlines())) <= 120


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"opuproj {opuproj.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["frobnicate"], ["info", "a", "b"], ["completion", "tcsh"], ["--no"]])
def test_what_is_not_understood(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    assert capsys.readouterr().err.startswith("usage: opuproj")


def test_the_entry_point_is_main() -> None:
    declared = re.search(r'\[project\.scripts\]\nopuproj = "(.*)"', (ROOT / "pyproject.toml").read_text())
    assert declared is not None
    assert declared[1] == "opuproj.cli:main"
    done = subprocess.run([*COMMAND, "--version"], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == f"opuproj {opuproj.__version__}\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*COMMAND, "info"], stdout=full, stderr=subprocess.PIPE, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (1, b"opuproj: error: No space left on device\n")


def test_main_leaves_the_process_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    import signal

    before = signal.getsignal(signal.SIGTERM)
    codes: list[int] = []
    assert run("info") == 0
    thread = threading.Thread(target=lambda: codes.append(run("info")))  # where no signal can be taken
    thread.start()
    thread.join()
    assert codes == [0]
    assert signal.getsignal(signal.SIGTERM) is before
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(saved(X))))
    assert run("info", "-") == 0


# Completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_code(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("argcomplete")
    assert run("completion", shell) == 0
    code = capsys.readouterr().out
    assert "opuproj" in code
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=code, text=True, check=True)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("opuproj ", set(COMMANDS)),
        ("opuproj pr", {"project"}),
        ("opuproj project --mode ", set(MODES)),
        ("opuproj project --ch", {"--checkpoint"}),
        ("opuproj completion ", {"bash", "zsh", "fish"}),
    ],
)
def test_completion(line: str, expected: set[str]) -> None:
    pytest.importorskip("argcomplete")
    environment = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": "found",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    subprocess.run(COMMAND, env={**os.environ, **environment}, check=True, timeout=60)
    found = {word.strip() for word in Path("found").read_text().split("\n")}
    assert expected <= found
    assert not found & (set(COMMANDS) - expected)


def test_completion_is_optional(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "argcomplete", None)
    assert run("completion", "bash") == 1
    assert "needs the argcomplete package: pip install 'opuproj[cli]'" in capsys.readouterr().err


# Documentation


@pytest.mark.long
@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
def test_the_examples_of_the_page_run(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, command in (("opuproj", f'"{sys.executable}" -m opuproj'), ("python", f'"{sys.executable}"')):
        (programs / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (programs / name).chmod(0o755)
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "cli.md").read_text(), re.DOTALL)
    assert len(blocks) == 4
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(blocks)],
        env={**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    x, e = np.load("x.npy"), np.load("e.npy")
    assert np.array_equal(np.load("y.npy"), opuproj.project(x, 2000, seed=7))
    assert np.array_equal(np.load("p.npy"), opuproj.project(x, 100))
    assert np.array_equal(np.load("r.npy"), opuproj.project(x, 2000, mode="linear", rows=(0, 500)))
    assert np.array_equal(np.load("g.npy"), opuproj.project(x, 2000, mode="real"))
    assert np.array_equal(np.load("z.npy"), opuproj.project(opuproj.ternarize(e, relative=0.25), 2000))


def test_the_options_that_the_page_names_exist(capsys: pytest.CaptureFixture[str]) -> None:
    shown = ""
    for command in COMMANDS:
        run(command, "--help")
        shown += capsys.readouterr().out
    named = set(re.findall(r"`(--[a-z-]+)`", (ROOT / "docs" / "cli.md").read_text()))
    assert len(named) >= 8
    for option in named:
        assert option in shown, option
