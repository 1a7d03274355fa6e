"""Packed batches in files."""

from __future__ import annotations

import os
import re
import zlib
from pathlib import Path

import numpy as np
import opuproj
import pytest
from helpers import ternary
from hypothesis import given
from hypothesis import strategies as st
from opuproj import TernaryBatch


@pytest.mark.parametrize("shape", [(1,), (70,), (5, 70), (0, 3), (2, 3, 64), (3, 0, 65)])
def test_a_saved_batch_loads(shape: tuple[int, ...], tmp_path: Path) -> None:
    batch = opuproj.pack(ternary(*shape))
    for path in (tmp_path / "a batch", str(tmp_path / "b"), os.fsencode(tmp_path / "c é")):
        batch.save(path)
        assert TernaryBatch.load(path) == batch
    assert sorted(os.listdir(tmp_path)) == ["a batch", "b", "c é"]


def test_saving_replaces(tmp_path: Path) -> None:
    path = tmp_path / "x"
    opuproj.pack(ternary(50, 70)).save(path)
    opuproj.pack(ternary(2, 70)).save(path)
    assert TernaryBatch.load(path) == opuproj.pack(ternary(2, 70))


def test_files_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        TernaryBatch.load(tmp_path / "nothing here")
    with pytest.raises(FileNotFoundError):
        opuproj.pack([1]).save(tmp_path / "no folder" / "x")
    with pytest.raises(TypeError):
        TernaryBatch.load(3)  # type: ignore[arg-type]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_file_does_not_replace_a_pipe_or_a_device(tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "null"
    os.mkfifo(pipe)
    link.symlink_to(os.devnull)
    for path in (pipe, link):
        with pytest.raises(ValueError, match=rf"path is '{path}', which is a device or a pipe"):
            opuproj.pack([1]).save(path)
    assert pipe.is_fifo()
    assert link.is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["null", "pipe"]


def test_every_shortened_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    opuproj.pack(ternary(3, 70)).save(path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"."):
            TernaryBatch.load(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(ValueError, match=r"."):
        TernaryBatch.load(path)


def file_of(x: np.ndarray) -> bytes:
    """What `save` writes of two-dimensional numbers, in plain NumPy."""
    header = b"OPUTERN2" + np.array([2, *x.shape], "<u8").tobytes()
    room = np.zeros((len(x), -(-x.shape[1] // 64) * 64), np.int8)
    room[:, : x.shape[1]] = x
    planes = [np.packbits(room == value, axis=1, bitorder="little").tobytes() for value in (1, -1)]
    checksums = [zlib.crc32(part) for part in (header, *planes)]
    return header + planes[0] + planes[1] + np.array(checksums, "<u4").tobytes()


@pytest.mark.parametrize("shape", [(3, 70), (1, 1), (0, 5), (5, 64), (40, 10_000)])
def test_what_a_file_holds(shape: tuple[int, int], tmp_path: Path) -> None:
    x = ternary(*shape)
    opuproj.pack(x).save(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == file_of(x)


def test_a_file_of_the_version_before_loads(tmp_path: Path) -> None:
    x = ternary(3, 70)
    (tmp_path / "x").write_bytes(b"OPUTERN1" + file_of(x)[8:-12])
    assert TernaryBatch.load(tmp_path / "x") == opuproj.pack(x)


def test_a_damaged_byte_is_noticed_wherever_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x"
    whole = file_of(ternary(3, 70))
    for position in range(len(whole)):
        for flipped in (1, 0x80, 0xFF):
            damaged = bytearray(whole)
            damaged[position] ^= flipped
            path.write_bytes(damaged)
            with pytest.raises(ValueError, match="ternary batch"):
                TernaryBatch.load(path)


def test_damage_says_which_part_it_is_in(tmp_path: Path) -> None:
    path = tmp_path / "x"
    whole = file_of(ternary(1, 2_000_000))
    parts = {100: "plane of the +1", 400_000: "plane of the -1", len(whole) - 11: "header"}
    for position, part in parts.items():
        damaged = bytearray(whole)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=re.escape(f"a damaged ternary batch: its {part} has another checksum")):
            TernaryBatch.load(path)


def test_damage_without_checksums_is_noticed_or_gives_a_valid_batch(tmp_path: Path) -> None:
    path = tmp_path / "x"
    whole = b"OPUTERN1" + file_of(ternary(3, 70))[8:-12]
    refused = 0
    for position in range(len(whole)):
        for flipped in (1, 0x80, 0xFF):
            damaged = bytearray(whole)
            damaged[position] ^= flipped
            path.write_bytes(damaged)
            try:
                loaded = TernaryBatch.load(path)
            except ValueError:
                refused += 1
                continue
            assert loaded.shape[-1] * len(loaded.nnz_per_row.reshape(-1)) <= 8 * len(whole)
            assert set(np.unique(loaded.to_numpy())) <= {-1, 0, 1}
    assert refused > 3  # at least whatever the file begins with


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    np.save(tmp_path / "x.npy", ternary(3, 70))
    for content in (b"", b"\0" * 1000, b"\xff" * 1000, (tmp_path / "x.npy").read_bytes(), os.urandom(4096)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"."):
            TernaryBatch.load(path)


@given(st.binary(max_size=300), st.integers(0, 200))
def test_a_real_beginning_and_a_hostile_end(end: bytes, kept: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        batch = opuproj.pack(ternary(3, 70))
        batch.save(path)
        whole = path.read_bytes()
        content = whole[: min(kept, len(whole))] + end
        path.write_bytes(content)
        try:
            loaded = TernaryBatch.load(path)
        except ValueError:
            return
        assert loaded == batch or content != whole
        assert set(np.unique(loaded.to_numpy())) <= {-1, 0, 1}
