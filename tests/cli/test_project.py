"""`opuproj project` writes the same bits as opuproj.project, for all kinds of files."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import opuproj
import pytest
from cli_runs import COMMAND, N_OUTPUTS, REAL, SMALL, X, names, project, saved, zarr_library
from helpers import assert_same_bits, ternary
from opuproj.cli import _plan

pytestmark = pytest.mark.usefixtures("in_a_folder")

CASES: list[tuple[list[str], dict[str, Any]]] = [
    ([], {}),
    (["--seed", "7", "--mode", "linear", "--n-anchor", "32"], {"seed": 7, "mode": "linear", "n_anchor": 32}),
    (["--mode", "complex", "--dtype", "complex128"], {"mode": "complex", "dtype": "complex128"}),
    (["--mode", "real", "--rows", "13:"], {"mode": "real", "rows": slice(13, None)}),
    (["--rows", "100:250"], {"rows": (100, 250)}),
    (["--rows=-1:"], {"rows": slice(-1, None)}),
    (["--rows", "5:5"], {"rows": (5, 5)}),
    (["--camera", "ideal"], {"camera": opuproj.Camera.ideal()}),
    (["--camera", "lighton", "--noise-seed", "5"], {"camera": opuproj.Camera.lighton(), "noise_seed": 5}),
    (
        ["--camera", "lighton,bits=10,photons=50", "--noise-seed", "5", "--mode", "linear"],
        {"camera": opuproj.Camera.lighton(bits=10, photons=50), "noise_seed": 5, "mode": "linear"},
    ),
    (
        ["--camera", "bits=6,full_scale=4.5", "--noise-seed", "1", "--dtype", "uint8"],
        {"camera": opuproj.Camera(bits=6, full_scale=4.5), "noise_seed": 1, "dtype": "uint8"},
    ),
    (
        ["--camera", "bits=none,full_scale=inf,photons=20", "--noise-seed", "1"],
        {"camera": opuproj.Camera(bits=None, full_scale=np.inf, photons=20), "noise_seed": 1},
    ),
]


@pytest.mark.parametrize(
    ("arguments", "same"), CASES, ids=lambda case: " ".join(case) if isinstance(case, list) else ""
)
@pytest.mark.parametrize("tiled", [False, True])
def test_the_bits_are_those_of_the_library(
    arguments: list[str], same: dict[str, Any], tiled: bool, request: pytest.FixtureRequest
) -> None:
    if tiled:
        request.getfixturevalue("small_tiles")
    np.save("x.npy", X)
    assert project("x.npy", "y.npy", "--outputs", N_OUTPUTS, *(SMALL if tiled else []), *arguments) == 0
    assert Path("y.npy").read_bytes() == saved(opuproj.project(X, N_OUTPUTS, **same))
    assert names() == {"x.npy", "y.npy"}


@pytest.mark.parametrize("mode", ["intensity", "linear", "real"])
def test_real_numbers_in_digits(mode: str, small_tiles: None) -> None:
    np.save("x.npy", REAL)
    assert project("x.npy", "y.npy", "--outputs", N_OUTPUTS, "--digits", 4, "--mode", mode, *SMALL) == 0
    assert Path("y.npy").read_bytes() == saved(opuproj.project(REAL, N_OUTPUTS, digits=4, mode=mode))


def test_real_numbers_in_front_of_a_camera(small_tiles: None) -> None:
    np.save("x.npy", REAL)
    camera = ["--camera", "bits=10,photons=300", "--noise-seed", 3, "--mode", "linear"]
    assert project("x.npy", "y.npy", "--outputs", N_OUTPUTS, "--digits", 3, *camera, *SMALL) == 0
    same = opuproj.project(
        REAL, N_OUTPUTS, digits=3, mode="linear", camera=opuproj.Camera(bits=10, photons=300), noise_seed=3
    )
    assert_same_bits(np.load("y.npy"), same)


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint16", "int64", "float16", "float32", "float64", ">f4", ">i8", "g"]
)
def test_any_dtype(dtype: str) -> None:
    x = (abs(X) if dtype in ("bool", "uint16") else X).astype(dtype)
    np.save("x.npy", x)
    assert project("x.npy", "y.npy", "--outputs", 50) == 0
    assert_same_bits(np.load("y.npy"), opuproj.project(x, 50))


@pytest.mark.parametrize("shape", [(70,), (1, 70), (0, 70), (3, 5, 70), (2, 3, 4, 7), (3, 0, 7), (4, 1)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_any_shape_and_order(shape: tuple[int, ...], order: str, small_tiles: None) -> None:
    x = np.asarray(ternary(*shape), order=order)  # type: ignore[call-overload]
    np.save("x.npy", x)
    assert project("x.npy", "y.npy", "--outputs", 100, *SMALL) == 0
    assert Path("y.npy").read_bytes() == saved(opuproj.project(x, 100))


def test_pieces_of_a_large_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opuproj._memory.PIECE_BYTES", 1000)
    x = ternary(301, 333).astype(np.float64)
    for name, array in (("c.npy", x), ("f.npy", np.asfortranarray(x))):
        np.save(name, array)
        assert project(name, "y.npy", "--outputs", 30, "--batch-rows", 7) == 0
        assert_same_bits(np.load("y.npy"), opuproj.project(x, 30))


# Other files


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_members_of_npz(save: Any, small_tiles: None) -> None:
    save("x.npz", a=X, b=ternary(3, 9, seed=1))
    assert project("x.npz", "y.npy", "--member", "a", "--outputs", 100, *SMALL) == 0
    assert_same_bits(np.load("y.npy"), opuproj.project(X, 100))
    save("one.npz", X)
    assert project("one.npz", "y.npy", "--outputs", 100) == 0
    assert_same_bits(np.load("y.npy"), opuproj.project(X, 100))


@pytest.mark.parametrize("shape", [(37, 70), (70,), (64,), (5, 3, 129), (4, 8), (0, 5)])
def test_packed_files(shape: tuple[int, ...], small_tiles: None) -> None:
    x = ternary(*shape)
    opuproj.pack(x).save("x.ternary")
    assert project("x.ternary", "y.npy", "--outputs", 100, *SMALL) == 0
    assert Path("y.npy").read_bytes() == saved(opuproj.project(x, 100))


@pytest.mark.parametrize("chunks", [(37, 70), (4, 16), (1, 70), (10, 7)])
@pytest.mark.parametrize("version", [2, 3])
def test_zarr_in(chunks: tuple[int, int], version: int, small_tiles: None) -> None:
    zarr = zarr_library()
    zarr.create_array("group.zarr/x", shape=X.shape, chunks=chunks, dtype="i1", zarr_format=version)[:] = X
    assert project("group.zarr/x", "y.npy", "--outputs", 100, *SMALL) == 0
    assert_same_bits(np.load("y.npy"), opuproj.project(X, 100))
    zarr.create_array("one.zarr", shape=(70,), chunks=(9,), dtype="f4", zarr_format=version)[:] = X[0]
    assert project("one.zarr", "y.npy", "--outputs", 100) == 0
    assert_same_bits(np.load("y.npy"), opuproj.project(X[0], 100))


@pytest.mark.parametrize(("mode", "dtype"), [("intensity", "float32"), ("complex", "complex64"), ("linear", "float64")])
@pytest.mark.parametrize("x", [X, X[0], X[:0]], ids=["batch", "vector", "nothing"])
def test_zarr_out(x: np.ndarray, mode: str, dtype: str, small_tiles: None) -> None:
    zarr = zarr_library()
    np.save("x.npy", x)
    for _ in range(2):  # the second replaces the first
        assert project("x.npy", "y.zarr", "--outputs", N_OUTPUTS, "--mode", mode, "--dtype", dtype, *SMALL) == 0
        y = zarr.open_array("y.zarr", mode="r")
        assert_same_bits(y[:], opuproj.project(x, N_OUTPUTS, mode=mode, dtype=dtype))
        assert names() == {"x.npy", "y.zarr"}


def test_pipes() -> None:
    y = subprocess.run(
        [*COMMAND, "project", "-", "-", "--outputs", "99"], input=saved(X), capture_output=True, check=True, timeout=60
    )
    assert y.stdout == saved(opuproj.project(X, 99))
    assert y.stderr == b""


@pytest.mark.parametrize("n_rows", [1, 37])
def test_a_pipe_gets_the_bytes_in_order(
    n_rows: int, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    for size in (100, 4000, 10**6):
        monkeypatch.setattr(_plan, "TILE_BYTES", size)
        np.save("x.npy", X[:n_rows])
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(open(1, "wb", closefd=False)))  # noqa: SIM115
        assert project("x.npy", "-", "--outputs", N_OUTPUTS) == 0
        assert capfdbinary.readouterr().out == saved(opuproj.project(X[:n_rows], N_OUTPUTS))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe() -> None:
    os.mkfifo("pipe")
    writer = threading.Thread(target=lambda: Path("pipe").write_bytes(saved(X)))
    writer.start()
    assert project("pipe", "y.npy", "--outputs", 99) == 0
    writer.join()
    assert_same_bits(np.load("y.npy"), opuproj.project(X, 99))


def test_noise_that_is_drawn_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("x.npy", X)
    assert project("x.npy", "y.npy", "--outputs", 99, "--camera", "lighton") == 0
    seed = int(capsys.readouterr().err.split()[-1])
    assert_same_bits(np.load("y.npy"), opuproj.project(X, 99, camera=opuproj.Camera.lighton(), noise_seed=seed))


@pytest.mark.skipif(os.name != "posix", reason="needs a terminal")
def test_progress_is_shown_on_a_terminal() -> None:
    import fcntl
    import struct
    import termios

    np.save("x.npy", X)
    terminal, end = os.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [*COMMAND, "project", "x.npy", "y.npy", "--outputs", "3000"]
    subprocess.run(command, stderr=end, check=True, timeout=60)
    os.close(end)
    shown = b""
    with suppress(OSError):  # its end
        while part := os.read(terminal, 4096):
            shown += part
    os.close(terminal)
    assert b"100%" in shown
    assert b"y.npy: (37, 3000) float32, 444 kB" in shown


# Memory


@pytest.mark.long
def test_memory_holds_a_block_and_a_tile() -> None:
    resource = pytest.importorskip("resource")
    del resource
    x = np.zeros((1000, 40_000))
    x[:, ::97] = 1
    np.save("x.npy", x)  # 320 MB, to 240 MB
    code = (
        "import sys; from opuproj.cli import main; from pathlib import Path\n"
        "def peak(): return int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]) / 1024\n"
        "before = peak()\n"
        "assert main(['project', 'x.npy', 'y.npy', '--outputs', '60000']) == 0\n"
        "print(peak() - before)"
    )
    if not Path("/proc/self/status").exists():
        pytest.skip("needs Linux")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert float(done.stdout) < 100
    rows = slice(59_990, 60_000)
    assert_same_bits(np.load("y.npy", mmap_mode="r")[:, rows], opuproj.project(x, 60_000, rows=rows))


# The plan


@pytest.mark.parametrize("n_rows", [0, 1, 5, 256, 257, 4097, 100_000])
@pytest.mark.parametrize("n_outputs", [0, 1, 63, 100_000, 10**9])
@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize("batch_rows", [None, 1, 300])
def test_tiles_cover_the_result_once(n_rows: int, n_outputs: int, in_order: bool, batch_rows: int | None) -> None:
    made = _plan.plan(n_rows, n_outputs, 4, n_inputs=10_000, row_bytes=2500, batch_rows=batch_rows, in_order=in_order)
    if made.n_tiles > 10_000:
        return
    tiles = [
        tile for top, bottom, tiles in made.blocks(0) for tile in tiles if (tile.top, tile.bottom) == (top, bottom)
    ]
    assert [tile.number for tile in tiles] == list(range(made.n_tiles))
    assert sum((t.bottom - t.top) * (t.right - t.left) for t in tiles) == n_rows * n_outputs
    done = 0
    for tile in tiles:
        assert made.computed(tile.number) == done
        if in_order:
            assert tile.top * n_outputs + tile.left == done
        done += (tile.bottom - tile.top) * (tile.right - tile.left)
    assert made.computed(made.n_tiles) == done
    middle = made.n_tiles // 2
    assert [t.number for _, _, rest in made.blocks(middle) for t in rest] == list(range(middle, made.n_tiles))
    if batch_rows is None:
        assert made.rows * made.columns * 4 <= max(_plan.TILE_BYTES, 64 * made.rows * 4)
        assert made.rows * 2500 <= 1 << 24


@pytest.mark.parametrize("n_inputs", [1, 10**4, 10**6, 10**10])
@pytest.mark.parametrize("n_rows", [1, 64, 4096])
def test_a_tile_is_seconds_of_work(n_inputs: int, n_rows: int) -> None:
    row_bytes = n_inputs // 4 + 1
    made = _plan.plan(n_rows, 10**9, 4, n_inputs=n_inputs, row_bytes=row_bytes, batch_rows=None, in_order=False)
    assert made.columns == 64 or max(16, made.rows) * made.columns * n_inputs <= 1 << 39
