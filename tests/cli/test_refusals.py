"""Hostile files and bad arguments give an error of one line before any work, and leave no files."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import opuproj
import pytest
from cli_runs import ASKED, COMMAND, REAL, SMALL, Crash, X, names, project, saved, stop_at, zarr_library
from helpers import ternary
from opuproj.cli import _files, _npy, _writers, main

pytestmark = pytest.mark.usefixtures("in_a_folder")


def header(shape: object, descr: str = "'<f4'", order: str = "False") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


HOSTILE = [
    (b"", "x.npy is not a .npy, .npz or packed file, nor a Zarr array: it is empty"),
    (b"hello, world", "it begins with b'hello, w'"),
    (b"\x93NUMPY", "is not a readable .npy file"),
    (b"\x93NUMPY\x01\x00", "is not a readable .npy file"),
    (b"\x93NUMPY\x09\x00" + bytes(100), "is a .npy file of version 9.0"),
    (b"\x93NUMPY\x03\x00" + header((1, 2))[8:], "of version 3.0"),
    (header((2, 3))[:30], "is not a readable .npy file"),
    (header((2, 3)) + bytes(23), "ends too early: its header promises 24 bytes of data, but there are 23"),
    (header((2**40, 2**20)), f"promises {2**62:,} bytes of data, but there are 0"),
    (header((2**62, 2**62)), "makes no sense"),
    (header((0, 2**70)), "makes no sense"),
    (header((-1, 4)) + bytes(16), "makes no sense"),
    (header((True, 4)) + bytes(16), "makes no sense"),
    (header((1,) * 40) + bytes(4), "has 40 axes"),
    (header(()) + bytes(4), "is a single number"),
    (header((4, 0)), "needs at least one input"),
    (header((2,), "'|O'") + b"\x80\x04K\x01.", "holds Python objects, which are not unpickled"),
    (header((2,), "[('a', '|O')]") + bytes(16), "holds Python objects"),
    (header((2,), "'<c8'") + bytes(16), "has dtype complex64, but must hold integers"),
    (header((2,), "'<U2'") + bytes(16), "has dtype <U2"),
    (header((2,), "'<M8[s]'") + bytes(16), "has dtype datetime64"),
    (header((2,), "'no such'") + bytes(16), "is not a readable .npy file"),
    (header("__import__('os').system('touch owned')") + bytes(16), "is not a readable .npy file"),
    (header("(" * 400) + bytes(16), "is not a readable .npy file"),
    (header("-" * 9000 + "1") + bytes(16), "is not a readable .npy file"),
    (header("(2," * 30 + ")" * 30) + bytes(16), "is not a readable .npy file"),
    (header((1, 3), "'<f4'") + np.array([0, 1, 2], "f4").tobytes(), "x.npy[0, 2] is 2.0, but must be -1, 0 or 1"),
    (header((1, 3), "'<f4'") + np.array([0, 1, np.nan], "f4").tobytes(), "x.npy[0, 2] is NaN"),
    (b"PK\x03\x04" + bytes(60), "x.npy cannot be read"),
    (b"PK\x05\x06" + bytes(18), "has 0 arrays (none)"),
    (b"OPUTERN1", "is not a packed ternary batch"),
    (b"OPUTERN1" + np.array([2, 2**40], "<u8").tobytes(), "it ends too early"),
    (b"OPUTERN1" + np.array([2, 2**40, 64], "<u8").tobytes(), "is a damaged ternary batch: its shape needs"),
    (b"OPUTERN1" + np.array([2**60], "<u8").tobytes(), "its shape makes no sense"),
    (b"OPUTERN1" + np.array([1, 0], "<u8").tobytes(), "needs at least one input"),
    (b"OPUTERN1" + np.array([1, 3, 1, 1], "<u8").tobytes(), "positive and negative are both set at vector 0, input 0"),
    (b"OPUTERN1" + np.array([1, 3, 8, 0], "<u8").tobytes(), "has bits set beyond its 3 inputs"),
    (b"OPUTERN1" + np.array([1, 3, 256, 0], "<u8").tobytes(), "bits are set beyond the 3 inputs"),
]


@pytest.mark.parametrize(("content", "said"), HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.filterwarnings("error")
def test_hostile_files(content: bytes, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("x.npy").write_bytes(content)
    assert project("x.npy", "y.npy", "--outputs", 10) == 1
    err = capsys.readouterr().err
    assert err.startswith("opuproj: error: ")
    assert err.count("\n") == 1
    assert said in err
    assert names() == {"x.npy"}


@pytest.mark.parametrize("content", [c for c, _ in HOSTILE[4:25] if c[:6] == b"\x93NUMPY"])
def test_hostile_pipes(content: bytes) -> None:
    def read() -> None:
        reader = _npy.PipeReader("standard input", io.BytesIO(content))
        reader.read(0, min(reader.n_rows, 100))

    with pytest.raises((ValueError, TypeError, MemoryError)):
        read()


@pytest.mark.long
def test_a_damaged_byte_of_a_packed_file_is_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    opuproj.pack(ternary(3, 70)).save("x.ternary")
    whole = Path("x.ternary").read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x20
        Path("x.ternary").write_bytes(damaged)
        assert project("x.ternary", "y.npy", "--outputs", 5) == 1
        assert main(["pack", "x.ternary", "z.ternary"]) == 1
        # The first checksum is that of the header.
        in_header = position < 32 or len(whole) - 12 <= position < len(whole) - 8
        assert main(["info", "x.ternary"]) == in_header
        assert names() == {"x.ternary"}
    assert "a damaged ternary batch: its plane of the +1 has another checksum" in capsys.readouterr().err


def test_a_packed_file_without_checksums_is_taken() -> None:
    opuproj.pack(ternary(3, 70)).save("x.ternary")
    Path("old.ternary").write_bytes(b"OPUTERN1" + Path("x.ternary").read_bytes()[8:-12])
    assert project("old.ternary", "y.npy", "--outputs", 5) == 0
    assert np.array_equal(np.load("y.npy"), opuproj.project(ternary(3, 70), 5))
    assert main(["pack", "old.ternary", "new.ternary"]) == 0
    assert Path("new.ternary").read_bytes() == Path("x.ternary").read_bytes()


@pytest.mark.long
def test_any_bytes_in_place_of_a_header(capsys: pytest.CaptureFixture[str]) -> None:
    """The outcome is an error or a result."""
    random = np.random.default_rng(0)
    good = {".npy": saved(X), ".ternary": b"", ".npz": b""}
    opuproj.pack(X).save("x.ternary")
    np.savez_compressed("x.npz", X)
    for name in (".ternary", ".npz"):
        good[name] = Path(f"x{name}").read_bytes()
    for name, content in good.items():
        for _ in range(150):
            damaged = bytearray(content)
            for place in random.integers(0, min(len(damaged), 200), 3):
                damaged[place] = random.integers(256)
            cut = random.integers(len(damaged)) if random.random() < 0.2 else len(damaged)
            Path(f"x{name}").write_bytes(damaged[:cut])
            assert project(f"x{name}", "y.npy", "--outputs", 5) in (0, 1)
            assert names() <= {"x.npy", "x.ternary", "x.npz", "y.npy"}
    assert "Traceback" not in capsys.readouterr().err


def test_damaged_archives(capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("x.npz", ternary(200, 1000))
    content = bytearray(Path("x.npz").read_bytes())
    content[-400] ^= 1  # in the data: 0 becomes 1, which only the checksum detects
    Path("x.npz").write_bytes(content)
    assert project("x.npz", "y.npy", "--outputs", 10) == 1
    assert "x.npz[arr_0] cannot be read: Bad CRC-32" in capsys.readouterr().err
    np.savez("x.npz", a=np.asfortranarray(X), b=np.array([{}], object))
    assert project("x.npz", "y.npy", "--outputs", 10) == 1
    assert "x.npz has 2 arrays (a, b): choose one with --member" in capsys.readouterr().err
    assert project("x.npz", "y.npy", "--outputs", 10, "--member", "a") == 1
    assert "x.npz[a] is in Fortran order" in capsys.readouterr().err
    assert project("x.npz", "y.npy", "--outputs", 10, "--member", "b") == 1
    assert "x.npz[b] holds Python objects" in capsys.readouterr().err
    assert project("x.npz", "y.npy", "--outputs", 10, "--member", "c") == 1
    assert "member is 'c', but x.npz has a, b" in capsys.readouterr().err
    assert names() == {"x.npz"}


def test_zarr_that_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    zarr = zarr_library()
    zarr.create_array("x.zarr/a", shape=(2, 3, 4), chunks=(1, 1, 1), dtype="i1")
    zarr.create_array("x.zarr/b", shape=(2**30, 2**20), chunks=(2**20, 2**20), dtype="f4")
    Path("x.zarr/zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {}}))
    zarr.create_array("x.zarr/c", shape=(2, 3), chunks=(1, 3), dtype="i1")
    hollow = json.loads(Path("x.zarr/c/zarr.json").read_text())
    hollow["chunk_grid"]["configuration"]["chunk_shape"] = [0, 3]
    Path("x.zarr/c/zarr.json").write_text(json.dumps(hollow))
    Path("empty").mkdir()
    Path("bad.zarr").mkdir()
    Path("bad.zarr/zarr.json").write_text("{")
    for name, said in (
        ("x.zarr", "is not a Zarr array: name an array inside it"),
        ("x.zarr/a", "has 3 axes, but a Zarr array may have one or two here"),
        ("x.zarr/b", "a chunk of x.zarr/b"),
        ("x.zarr/c", "x.zarr/c has chunks of shape (0, 3), but chunks must not be empty"),
        ("empty", "empty is a folder, but not a Zarr array"),
        ("bad.zarr", "is not a Zarr array"),
    ):
        assert project(name, "y.npy", "--outputs", 10) == 1
        err = capsys.readouterr().err
        assert said in err
        assert err.count("\n") == 1
    np.save("x.npy", ternary(2, 3, 4))
    assert project("x.npy", "y.zarr", "--outputs", 10) == 1
    assert "the result has shape (2, 3, 10), but a Zarr array may have one or two axes here" in capsys.readouterr().err
    assert "y.zarr.partial" not in names()


def test_names_that_would_break_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "a\nb\x1b[2J\udcff"]) == 1
    assert capsys.readouterr().err == "opuproj: error: a\\nb\\x1b[2J\\udcff: No such file or directory\n"
    Path("a\nb").mkdir()
    assert main(["info", "a\nb"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_zarr_that_needs_too_much_memory(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    zarr = zarr_library()
    zarr.create_array("x.zarr", shape=(2, 3), chunks=(1, 3), dtype="i1")

    def read(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(zarr.Array, "__getitem__", read)
    assert project("x.zarr", "y.npy", "--outputs", 10) == 1
    assert capsys.readouterr().err.startswith("opuproj: error: x.zarr cannot be read: it needs more memory than")


def test_zarr_that_warns(capfd: pytest.CaptureFixture[str]) -> None:
    zarr_library().create_array("x", shape=(2, 3), chunks=(1, 1), dtype="i1")
    Path("x/.zarray").write_text("{}")  # of both formats: zarr warns, and uses the newer one
    assert subprocess.run([*COMMAND, "project", "x", "y.npy", "--outputs", "3"], check=False).returncode == 0
    assert capfd.readouterr().err == ""


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("arguments", [[], ["--digits", "3"]])
def test_numbers_that_no_float_holds(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    x = np.zeros((2, 5), np.longdouble)
    x[1, 2] = np.finfo(np.longdouble).max
    np.save("x.npy", x)
    signalling = np.zeros((2, 5), "<u2")
    signalling[1, 2] = 0x7D01
    np.save("nan.npy", signalling.view(np.float16))
    for name in ("x.npy", "nan.npy"):
        assert project(name, "y.npy", "--outputs", 10, *arguments) == 1
        assert capsys.readouterr().err.startswith(f"opuproj: error: {name}[1, 2] is ")


@pytest.mark.parametrize("n_vectors", [0, 37])
@pytest.mark.parametrize("out", ["y.npy", "y.zarr", "-"])
def test_more_than_any_array_holds(n_vectors: int, out: str, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("x.npy", X[:n_vectors])
    assert project("x.npy", out, "--outputs", 2**63 - 1) == 1
    said = f"the result would have shape ({n_vectors}, {2**63 - 1}), which is too large for any array"
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""
    assert names() == {"x.npy"}


def test_zarr_that_does_not_fit_on_the_disk(capsys: pytest.CaptureFixture[str]) -> None:
    zarr_library()
    np.save("x.npy", X)
    assert project("x.npy", "y.zarr", "--outputs", 2**50) == 1
    needed = 4 * 37 * 2**50
    assert f"y.zarr.partial: No space left on device: it takes {needed:,} bytes, and" in capsys.readouterr().err
    assert names() == {"x.npy"}


def test_a_group_is_not_replaced_by_an_array(capsys: pytest.CaptureFixture[str]) -> None:
    zarr_library().create_array("y.zarr/precious", shape=(2,), chunks=(1,), dtype="i1")
    for metadata in ({"zarr_format": 3, "node_type": "group"}, []):
        Path("y.zarr/zarr.json").write_text(json.dumps(metadata))
        np.save("x.npy", X)
        assert project("x.npy", "y.zarr", "--outputs", 10) == 1
        assert "OUT is y.zarr, a folder that is not a Zarr array, so it is not replaced" in capsys.readouterr().err
    assert Path("y.zarr/precious/zarr.json").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_replaced_by_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("x.npy", X)
    for name, command in (("y.npy", ["project", "x.npy", "y.npy", "--outputs", "10"]), ("y", ["pack", "x.npy", "y"])):
        os.mkfifo(name)
        assert main(command) == 1
        assert f"OUT is {name}, a device or a pipe, which a file cannot replace" in capsys.readouterr().err
        assert Path(name).is_fifo()
    assert names() == {"x.npy", "y.npy", "y"}


def test_zarr_is_optional(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "zarr", None)
    np.save("x.npy", X)
    assert project("x.npy", "y.zarr", "--outputs", 10) == 1
    assert "needs the zarr package: pip install 'opuproj[cli]'" in capsys.readouterr().err
    assert names() == {"x.npy"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.npy", "y.npy"], "none.npy: No such file or directory"),
        (["x.npy", "y.txt"], "OUT is y.txt, but must end in .npy or .zarr, or be -"),
        (["x.npy", "no/y.npy"], "OUT is no/y.npy, but there is no folder no"),
        (["x.npy", "x.npy"], "OUT is x.npy, which is also IN: give another name"),
        (["x.npy", "folder.npy"], "folder.npy: Is a directory"),
        (["x.npy", "folder.zarr"], "OUT is folder.zarr, a folder that is not a Zarr array, so it is not replaced"),
        (["x.npy", "file.zarr"], "OUT is file.zarr, a file that is not a Zarr array, so it is not replaced"),
        (["x.npy", "y.npy", "--member", "a"], "member is 'a', but x.npy is not a .npz file"),
        (["x.npy", "y.npy", "--outputs", "0"], "n_outputs is 0, but must be from 1"),
        (["x.npy", "y.npy", "--seed", "-1"], "seed is -1, but must be from 0"),
        (["x.npy", "y.npy", "--n-anchor", "0"], "n_anchor is 0"),
        (["x.npy", "y.npy", "--threads", "0"], "threads is 0"),
        (["x.npy", "y.npy", "--rows", "5:200"], "rows is 5 to 200"),
        (["x.npy", "y.npy", "--digits", "0"], "digits is 0"),
        (["x.npy", "y.npy", "--dtype", "complex64"], "dtype is complex64"),
        (["x.npy", "y.npy", "--dtype", "uint8"], "only a camera with finite bits gives integers"),
        (["x.npy", "y.npy", "--noise-seed", "1"], "noise_seed is 1, but there is no camera"),
        (
            ["x.npy", "y.npy", "--mode", "real", "--camera", "ideal"],
            "but mode is 'real', which exists in software",
        ),
        (["x.npy", "y.npy", "--digits", "2", "--camera", "lighton"], "a camera sees the digits of x.npy one after"),
        (["x.ternary", "y.npy", "--digits", "2"], "digits is 2, but x.ternary is a packed file"),
        (["x.npy", "y.npy", "--batch-rows", "37", "--outputs", "9999999999999"], "takes"),
    ],
)
def test_refusals(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("x.npy", X)
    opuproj.pack(X).save("x.ternary")
    Path("folder.npy").mkdir()
    Path("folder.zarr").mkdir()
    Path("folder.zarr/precious").touch()
    Path("file.zarr").touch()
    before = names()
    assert project("--outputs", 10, *arguments) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("opuproj: error: ")
    assert captured.err.count("\n") == 1
    assert said in captured.err
    assert captured.out == ""
    assert names() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "required: IN, OUT, --outputs"),
        (["x", "y"], "required: --outputs"),
        (["x", "y", "--outputs", "many"], "invalid int value: 'many'"),
        (["x", "y", "--outputs", "1", "--mode", "phase"], "invalid choice: 'phase'"),
        (["x", "y", "--outputs", "1", "--rows", "5"], "rows is '5', but must be A:B"),
        (["x", "y", "--outputs", "1", "--rows", "a:b"], "rows is 'a:b', but must be A:B of two integers"),
        (["x", "y", "--outputs", "1", "--camera", "kodak"], "'kodak' is neither lighton, ideal nor FIELD=VALUE"),
        (["x", "y", "--outputs", "1", "--camera", "bits=99"], "bits is 99, but must be from 1 to 16"),
        (["x", "y", "--outputs", "1", "--camera", "bits=x"], "bits is 'x', but must be a number, inf or none"),
        (["x", "y", "--outputs", "1", "--camera", "ideal,bits=3"], "an ideal camera takes no fields"),
        (["x", "y", "--outputs", "1", "--batch-rows", "0"], "'0' is not a positive integer"),
        (["x", "y", "--outputs", "1", "--checkpoint", "nan"], "'nan' is not a number of seconds of at least 0"),
    ],
)
def test_what_is_not_understood(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert project(*arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("usage: opuproj project")
    assert said in err


def test_a_bad_value_at_the_end_is_found_before_any_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], small_tiles: None
) -> None:
    x = X.astype(float).reshape(1, 37, 70)
    x[0, 36, 69] = 0.5
    np.save("x.npy", x)
    calls = stop_at(monkeypatch, 0, _writers.NpyWriter, "write", Crash())
    assert project("x.npy", "y.npy", "--outputs", 10, *SMALL) == 1
    said = "opuproj: error: x.npy[0, 36, 69] is 0.5, but must be -1, 0 or 1; use --digits, or opuproj pack --threshold"
    assert capsys.readouterr().err.startswith(said)
    assert calls == [0]
    assert names() == {"x.npy"}


def test_a_file_that_shrinks_while_it_is_read(monkeypatch: pytest.MonkeyPatch, capsys: Any, small_tiles: None) -> None:
    for order in ("C", "F"):
        np.save("x.npy", np.asarray(X, order=order))  # type: ignore[call-overload]
        original = _writers.NpyWriter.write

        def shrinking(self: Any, tile: Any, values: Any, original: Any = original) -> None:
            original(self, tile, values)
            os.truncate("x.npy", 1000)

        with monkeypatch.context() as patched:
            patched.setattr(_writers.NpyWriter, "write", shrinking)
            assert project(*ASKED, "--restart") == 1
        assert "x.npy became shorter while it was read" in capsys.readouterr().err
        assert "y.npy" not in names()


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.ternary"])
def test_a_file_that_changes_while_it_is_read(
    name: str, small_tiles: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("x.npy", X)
    np.savez("x.npz", X)
    opuproj.pack(X).save("x.ternary")
    original = _writers.NpyWriter.write

    def changing(self: Any, tile: Any, values: Any) -> None:
        original(self, tile, values)
        os.utime(name, (1, 1))

    monkeypatch.setattr(_writers.NpyWriter, "write", changing)
    assert project(name, *ASKED[1:]) == 1
    assert "changed while it was read, so the result was deleted" in capsys.readouterr().err
    assert names() == {"x.npy", "x.npz", "x.ternary"}


@pytest.mark.long
def test_a_pipe_that_ends_too_early() -> None:
    for content, said in (
        (saved(X)[:1000], "standard input ends too early"),
        (b"", "standard input is not a readable .npy file"),
        (saved(np.asfortranarray(X)), "standard input is in Fortran order"),
        (saved(REAL), "standard input[0, 0] is "),
        (header((2**20, 2**40)), "standard input, packed, of shape (1, 1099511627776) takes"),
    ):
        done = subprocess.run(
            [*COMMAND, "project", "-", "y.npy", "--outputs", "9"], input=content, capture_output=True, check=False
        )
        assert done.returncode == 1
        assert done.stderr.decode().startswith(f"opuproj: error: {said}")
        assert names() == set()


def test_files_are_replaced_whole() -> None:
    Path("y.npy").write_bytes(b"before")
    np.save("x.npy", X)
    assert project("x.npy", "y.npy", "--outputs", 10) == 0
    assert Path("y.npy").read_bytes() == saved(opuproj.project(X, 10))

    def half() -> None:
        with _files.Replacement(Path("y.npy")) as file:
            file.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert Path("y.npy").read_bytes() == saved(opuproj.project(X, 10))
    assert names() == {"x.npy", "y.npy"}
