"""`opuproj project` can be stopped at any moment, and resumes."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import opuproj
import pytest
from cli_runs import ASKED, COMMAND, SMALL, Crash, X, names, project, saved, stop_at, zarr_library
from helpers import assert_same_bits, ternary
from opuproj.cli import _lock, _partial, _plan, _writers, main

pytestmark = pytest.mark.usefixtures("in_a_folder")

EXPECTED = saved(opuproj.project(X, 150))


@pytest.mark.parametrize("what", ["fsync", "replace"])
def test_a_machine_that_stops_at_any_moment(what: str, small_tiles: None, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save("x.npy", X)
    number, stopped = 0, True
    while stopped:
        number += 7
        with monkeypatch.context() as patched:
            stop_at(patched, number, os, what, Crash())
            try:
                stopped = False
                assert project(*ASKED) == 0
            except Crash:
                stopped = True
        if stopped:
            assert not Path("y.npy").exists()
            assert project(*ASKED) == 0
        assert Path("y.npy").read_bytes() == EXPECTED
        assert names() == {"x.npy", "y.npy"}
        Path("y.npy").unlink()
    assert number > 3 * 7


def test_a_machine_that_stops_between_the_last_two_steps(monkeypatch: pytest.MonkeyPatch, small_tiles: None) -> None:
    np.save("x.npy", X)
    with monkeypatch.context() as patched:
        stop_at(patched, 1, _partial, "sync_folder", Crash())  # the one after the last renaming
        with pytest.raises(Crash):
            project(*ASKED)
    assert Path("y.npy").read_bytes() == EXPECTED
    assert "y.npy.partial.json" in names()
    with monkeypatch.context() as patched:
        calls = stop_at(patched, 0, _writers.NpyWriter, "write", Crash())
        assert project(*ASKED) == 0
        assert calls == [0]  # nothing is computed again
    assert names() == {"x.npy", "y.npy"}


def test_another_pipe_is_not_taken_for_the_one_before_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    def piped(x: np.ndarray) -> int:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(saved(x))))
        return project("-", "y.npy", "--outputs", 150)

    with monkeypatch.context() as patched:
        stop_at(patched, 1, _partial, "sync_folder", Crash())  # the one after the last renaming
        with pytest.raises(Crash):
            piped(X)
    assert names() == {"y.npy", "y.npy.partial.json"}
    assert piped(X[::-1]) == 0
    assert Path("y.npy").read_bytes() == saved(opuproj.project(X[::-1], 150))
    assert names() == {"y.npy"}


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (OSError(errno.ENOSPC, "full"), 1)])
@pytest.mark.parametrize("checkpoint", [0, 1000])
def test_what_is_done_before_a_stop_is_not_done_again(
    error: BaseException,
    code: int,
    checkpoint: int,
    small_tiles: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    np.save("x.npy", X)
    arguments = [*ASKED[:4], "--batch-rows", 5, "--checkpoint", checkpoint]
    with monkeypatch.context() as patched:
        stop_at(patched, 11, _writers.NpyWriter, "write", error)
        assert project(*arguments) == code
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "42% is kept in y.npy.partial: the same command continues" in said  # 10 of 24
    if code == 1:
        assert "opuproj: error: y.npy.partial: No space left on device" in said
    with monkeypatch.context() as patched:
        calls = stop_at(patched, 0, _writers.NpyWriter, "write", error)
        assert project(*ASKED[:4], "--batch-rows", 9, "--threads", 2) == 0  # arguments that change no bits may differ
        assert calls == [14]
    assert Path("y.npy").read_bytes() == EXPECTED


def test_what_a_disk_refuses_to_make_safe_is_not_counted(
    small_tiles: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("x.npy", X)
    with monkeypatch.context() as patched:
        calls = stop_at(patched, 11, _writers.NpyWriter, "sync", OSError(errno.EIO, "Input/output error"))
        assert project(*ASKED) == 1
        assert calls == [11]  # a second sync might wrongly report success
    said = (
        "opuproj: error: y.npy.partial: Input/output error; 42% is kept in y.npy.partial: the same command continues\n"
    )
    assert capsys.readouterr().err == said
    assert json.loads(Path("y.npy.partial.json").read_bytes())["tiles"] == 10
    assert project(*ASKED) == 0
    assert Path("y.npy").read_bytes() == EXPECTED


def test_zarr_continues(small_tiles: None, monkeypatch: pytest.MonkeyPatch) -> None:
    zarr = zarr_library()
    from opuproj.cli import _zarr

    np.save("x.npy", X)
    arguments = ["x.npy", "y.zarr", "--outputs", 150, *SMALL]
    for number in (1, 2, 11, 24):
        with monkeypatch.context() as patched:
            stop_at(patched, number, _zarr.ZarrWriter, "sync", Crash())
            with pytest.raises(Crash):
                project(*arguments)
        assert "y.zarr" not in names()
        with monkeypatch.context() as patched:
            calls = stop_at(patched, 0, _zarr.ZarrWriter, "write", Crash())
            assert project(*arguments) == 0
            assert calls == [24 - (number - 1)]
        assert_same_bits(zarr.open_array("y.zarr", mode="r")[:], opuproj.project(X, 150))
        shutil.rmtree("y.zarr")


def test_npz_and_packed_input_continue(small_tiles: None, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed("x.npz", X)
    opuproj.pack(X).save("x.ternary")
    for name in ("x.npz", "x.ternary"):
        arguments = [name, "y.npy", "--outputs", 150, *SMALL]
        with monkeypatch.context() as patched:
            stop_at(patched, 13, _writers.NpyWriter, "write", Crash())
            with pytest.raises(Crash):
                project(*arguments)
        assert project(*arguments) == 0
        assert Path("y.npy").read_bytes() == EXPECTED


def test_drawn_noise_goes_on(small_tiles: None, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    np.save("x.npy", X)
    arguments = [*ASKED, "--camera", "lighton"]
    with monkeypatch.context() as patched:
        stop_at(patched, 11, _writers.NpyWriter, "write", Crash())
        with pytest.raises(Crash):
            project(*arguments)
    seed = int(capsys.readouterr().err.split()[-1])
    assert project(*arguments) == 0
    assert_same_bits(np.load("y.npy"), opuproj.project(X, 150, camera=opuproj.Camera.lighton(), noise_seed=seed))


def test_what_is_counted_is_on_disk_before(small_tiles: None, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    for owner, name in (
        (_writers.NpyWriter, "write"),
        (_writers.NpyWriter, "sync"),
        (_partial.Partial, "count"),
        (_partial.Partial, "finish"),
    ):
        original = getattr(owner, name)

        def noted(*arguments: Any, _name: str = name, _original: Any = original, **named: Any) -> Any:
            events.append(_name)
            return _original(*arguments, **named)

        monkeypatch.setattr(owner, name, noted)
    np.save("x.npy", X)
    assert project(*ASKED) == 0
    unsafe = False
    for event in events:
        assert not (unsafe and event in ("count", "finish"))
        unsafe = event == "write" or (unsafe and event != "sync")
    assert events.count("write") == 24
    assert events.count("count") == 25
    assert events.index("finish") > max(i for i, event in enumerate(events) if event == "sync")


@pytest.fixture
def unfinished(small_tiles: None, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save("x.npy", X)
    with monkeypatch.context() as patched:
        stop_at(patched, 11, _writers.NpyWriter, "write", Crash())
        with pytest.raises(Crash):
            project(*ASKED)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (["--seed", 1], "seed is 0 there and 1 here"),
        (["--mode", "linear"], "mode is intensity there and linear here"),
        (["--mode", "real"], "mode is intensity there and real here"),
        (["--rows", "1:151", "--outputs", 151], "rows is [0, 150] there and [1, 151] here"),
        (["--camera", "lighton"], "camera is None there and {'bits': 8"),
        (["--digits", 1], "digits is None there and 1 here"),
        (["--dtype", "float64"], "dtype is float32 there and float64 here"),
    ],
)
def test_another_request_is_refused(
    unfinished: None, changed: list[object], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path("y.npy.partial").read_bytes(), Path("y.npy.partial.json").read_bytes()
    assert project(*ASKED, *changed) == 1
    err = capsys.readouterr().err
    assert err.startswith("opuproj: error: y.npy.partial is of another request: ")
    assert said in err
    assert "--restart deletes it" in err
    assert (Path("y.npy.partial").read_bytes(), Path("y.npy.partial.json").read_bytes()) == before
    assert project(*ASKED) == 0  # the first request can still be completed
    assert Path("y.npy").read_bytes() == EXPECTED


def test_restart_throws_it_away(unfinished: None) -> None:
    assert project(*ASKED, "--seed", 1, "--restart") == 0
    assert Path("y.npy").read_bytes() == saved(opuproj.project(X, 150, seed=1))
    assert names() == {"x.npy", "y.npy"}


def test_a_changed_input_is_refused(unfinished: None, capsys: pytest.CaptureFixture[str]) -> None:
    os.utime("x.npy", (1, 1))
    assert project(*ASKED) == 1
    assert "is of another request: input is" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "y.npy.partial.json is not a state that this program wrote"),
        (b"[" * 100_000, "y.npy.partial.json is not a state that this program wrote"),
        (b"[1, 2]", "y.npy.partial.json is not a state that this program wrote"),
        (b'{"request": {}, "tiles": -1, "rows": 1, "columns": 1}', "is not a state that this program wrote"),
        (b'{"request": {}, "tiles": 1, "rows": 1, "columns": 1}', "is of another request: opuproj is None there"),
        (None, "is there without y.npy.partial.json, so its content is unknown"),
    ],
)
def test_a_state_that_makes_no_sense(
    unfinished: None, content: bytes | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is None:
        Path("y.npy.partial.json").unlink()
    else:
        Path("y.npy.partial.json").write_bytes(content)
    assert project(*ASKED) == 1
    assert said in capsys.readouterr().err
    assert project(*ASKED, "--restart") == 0
    assert Path("y.npy").read_bytes() == EXPECTED


def test_more_tiles_than_there_are(unfinished: None, capsys: pytest.CaptureFixture[str]) -> None:
    state = json.loads(Path("y.npy.partial.json").read_text())
    Path("y.npy.partial.json").write_text(json.dumps({**state, "tiles": 99}))
    assert project(*ASKED) == 1
    assert "is not a state that this program wrote" in capsys.readouterr().err


def test_a_partial_file_that_is_gone_or_cut(unfinished: None, capsys: pytest.CaptureFixture[str]) -> None:
    os.truncate("y.npy.partial", 1000)
    assert project(*ASKED) == 1
    assert "has another size than when it was begun: --restart deletes it" in capsys.readouterr().err
    Path("y.npy.partial").unlink()
    assert project(*ASKED) == 1
    assert "y.npy.partial is gone" in capsys.readouterr().err
    assert project(*ASKED, "--restart") == 0
    assert Path("y.npy").read_bytes() == EXPECTED


@pytest.mark.parametrize("system", ["this one", "Windows"])
def test_two_at_once(
    system: str, unfinished: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if system == "Windows":
        monkeypatch.setattr(_lock, "fcntl", None)
    first = _partial.Partial(Path("y.npy"), folder=False)
    assert project(*ASKED) == 1
    assert "y.npy.partial is being written by another process" in capsys.readouterr().err
    assert project(*ASKED, "--restart") == 1
    first.close()
    assert project(*ASKED) == 0
    assert Path("y.npy").read_bytes() == EXPECTED
    assert names() == {"x.npy", "y.npy"}


@pytest.mark.skipif(_lock.fcntl is None, reason="needs the locks of Unix")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF])
def test_a_file_system_without_locks_will_do(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save("x.npy", X)
    stop_at(monkeypatch, 1, _lock.fcntl, "flock", OSError(number, os.strerror(number)))
    assert project(*ASKED) == 0
    assert Path("y.npy").read_bytes() == EXPECTED
    assert names() == {"x.npy", "y.npy"}


# Signals


LONG = ["project", "x.npy", "y.npy", "--outputs", "2000", "--batch-rows", "2", "--checkpoint", "0"]


def started(*arguments: str) -> subprocess.Popen[bytes]:
    """Start a long projection, and wait until some of it is on disk."""
    np.save("x.npy", ternary(3000, 500))
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    state, deadline = Path("y.npy.partial.json"), time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if state.exists() and json.loads(state.read_bytes())["tiles"] >= 5:
            return process
        time.sleep(0.01)
    process.kill()
    raise AssertionError(process.communicate()[1])


@pytest.mark.long
@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGKILL, -9, ""),
        (signal.SIGINT, 130, "opuproj: interrupted; "),
        (signal.SIGTERM, 143, "opuproj: terminated; "),
    ],
)
def test_signals(number: int, code: int, said: str) -> None:
    process = started(*LONG)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert not Path("y.npy").exists()
    assert err.decode().startswith(said)
    assert "Traceback" not in err.decode()
    if said:
        assert "is kept in y.npy.partial: the same command continues" in err.decode()
    counted = json.loads(Path("y.npy.partial.json").read_bytes())["tiles"]
    assert 5 <= counted < 1500
    written: list[int] = []
    original = _writers.NpyWriter.write
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            _writers.NpyWriter, "write", lambda self, tile, y: (written.append(tile.number), original(self, tile, y))
        )
        assert main([*LONG[:-2], "--checkpoint", "10"]) == 0
    assert written == list(range(counted, 1500))
    assert Path("y.npy").read_bytes() == saved(opuproj.project(np.load("x.npy"), 2000))
    assert names() == {"x.npy", "y.npy"}


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_an_interrupted_pipe_leaves_nothing() -> None:
    process = subprocess.Popen(
        [*COMMAND, "project", "-", "y.npy", "--outputs", "99"], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(saved(X)[:1000])
    process.stdin.flush()
    deadline = time.monotonic() + 60
    while not Path("y.npy.partial.json").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (143, b"opuproj: terminated\n")
    assert names() == set()


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_a_pipe_that_nobody_reads_is_quiet() -> None:
    np.save("x.npy", ternary(3000, 100))
    with subprocess.Popen(
        [*COMMAND, "project", "x.npy", "-", "--outputs", "3000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(6) == b"\x93NUMPY"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


# The disk is full


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs posix_fallocate")
def test_too_large_a_file_is_refused_before_any_work() -> None:
    np.save("x.npy", X)
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "from opuproj.cli import main; sys.exit(main(['project', 'x.npy', 'y.npy', '--outputs', '1000']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "opuproj: error: y.npy.partial: File too large: it takes 148,128 bytes\n"
    assert names() == {"x.npy"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = (
        shutil.which("mount")
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False
        ).returncode
    )
    if not mounted:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("name", ["y.npy", "y.zarr"])
def test_a_full_disk(
    name: str, small_disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("x.npy", X)
    other, out = small_disk / "other", small_disk / name
    other.write_bytes(bytes(900_000))
    # As if space could not be reserved, and another process used the free space.
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2**40))
    monkeypatch.setattr(_plan, "TILE_BYTES", 20_000)
    arguments = ["x.npy", out, "--outputs", 3000, *SMALL]  # 444,000 bytes
    if name == "y.zarr":
        zarr_library()
    assert project(*arguments) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "No space left on device" in said
    assert f"is kept in {out}.partial: the same command continues" in said
    assert not out.exists()
    assert project(*arguments) == 1  # fails again, and loses nothing
    other.unlink()
    assert project(*arguments) == 0
    y = np.load(out) if name == "y.npy" else zarr_library().open_array(out, mode="r")[:]
    assert_same_bits(y, opuproj.project(X, 3000))
    assert [path.name for path in small_disk.iterdir()] == [name]


def test_a_full_disk_is_told_before_any_work(small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not hasattr(os, "posix_fallocate"):
        pytest.skip("needs posix_fallocate")
    np.save("x.npy", X)
    assert project("x.npy", small_disk / "y.npy", "--outputs", 10_000) == 1
    said = capsys.readouterr().err
    assert said.endswith("y.npy.partial: No space left on device: it takes 1,480,128 bytes\n")
    assert list(small_disk.iterdir()) == []
    zarr_library()
    assert project("x.npy", small_disk / "y.zarr", "--outputs", 10_000) == 1
    assert "y.zarr.partial: No space left on device: it takes 1,480,000 bytes, and there are" in capsys.readouterr().err
    assert list(small_disk.iterdir()) == []
