"""Reads and writes Zarr arrays on disk in whole chunks."""

from __future__ import annotations

import errno
import importlib
import math
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _memory
from ._files import sync_file, sync_folder
from ._plan import Plan, Tile
from ._reader import Reader

# The size of rows that are read together, so that no chunk is decoded twice.
_BAND_BYTES = 1 << 26


def library(path: str) -> Any:
    """Return the zarr package, or raise ValueError that says how to install it."""
    try:
        return importlib.import_module("zarr")
    except ImportError as error:
        raise ValueError(f"{path} is a Zarr array, which needs the zarr package: pip install 'opuproj[cli]'") from error


@contextmanager
def zarr_errors(path: str) -> Iterator[None]:
    """Make errors of zarr and its codecs name the array, mostly as a ValueError, and silence their warnings."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except OSError:
        raise
    except MemoryError as error:  # has no text; a damaged index of a shard may ask for any number of bytes
        raise MemoryError(f"{path} cannot be read: it needs more memory than there is, or it is damaged") from error
    except Exception as error:
        raise ValueError(f"{path} cannot be read: {str(error).partition(chr(10))[0]}") from error


class ZarrReader(Reader):
    """A Zarr array of one or two axes in a folder."""

    kind = "a Zarr array"

    def __init__(self, path: str) -> None:
        metadata = [Path(path, name) for name in ("zarr.json", ".zarray", ".zgroup")]
        there = [file for file in metadata if file.exists()]
        if not there:
            raise ValueError(f"{path} is a folder, but not a Zarr array")
        zarr = library(path)
        try:
            with zarr_errors(path):
                array = zarr.open_array(path, mode="r")
        except (ValueError, FileNotFoundError) as error:
            raise ValueError(f"{path} is not a Zarr array: name an array inside it; {error}") from error
        super().__init__(path, tuple(array.shape), np.dtype(array.dtype))
        if len(self.shape) > 2:
            raise ValueError(f"{path} has {len(self.shape)} axes, but a Zarr array may have one or two here")
        self.chunks: tuple[int, ...] = tuple(array.chunks)
        if min(self.chunks) < 1:
            raise ValueError(f"{path} has chunks of shape {self.chunks}, but chunks must not be empty")
        self._array, self._path = array, path
        self._changed = there[0].stat().st_mtime_ns
        _memory.reserve(f"a chunk of {path}", self.chunks, math.prod(self.chunks) * self.dtype.itemsize, "rechunk it")

    def step(self) -> int:
        """Return the number of rows in a row of chunks, or in a part of it if that is large."""
        high = 1 if len(self.shape) == 1 else self.chunks[0]
        fitting = max(1, _BAND_BYTES // self.row_bytes)
        if high > fitting:
            return fitting
        return high * max(1, (_memory.PIECE_BYTES // self.row_bytes) // high)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        with zarr_errors(self._path):
            rows = self._array[:] if len(self.shape) == 1 else self._array[start:stop]
        return np.ascontiguousarray(rows).reshape(stop - start, self.n_inputs)

    def identity(self) -> dict[str, Any]:
        # The times of chunks are left out, because there may be millions.
        return {
            "path": os.path.realpath(self._path),
            "shape": list(self.shape),
            "chunks": list(self.chunks),
            "mtime_ns": self._changed,
        }


class ZarrWriter:
    """Writes a result as a Zarr array in a folder. Tiles are whole chunks, so no chunk is written twice."""

    def __init__(self, folder: Path, plan: Plan, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        if len(shape) > 2:
            raise ValueError(f"the result has shape {shape}, but a Zarr array may have one or two axes here: use .npy")
        self._folder, self._plan, self._shape, self._dtype = folder, plan, shape, dtype
        self._zarr = library(str(folder))
        self._array: Any = None
        self._unsynced: list[Tile] = []

    def create(self) -> None:
        """Create an empty array, after checking that the disk has space for all of it."""
        needed = math.prod(self._shape) * self._dtype.itemsize
        free = shutil.disk_usage(self._folder).free
        if needed > free:
            text = f"{os.strerror(errno.ENOSPC)}: it takes {needed:,} bytes, and there are {free:,}"
            raise OSError(errno.ENOSPC, text, str(self._folder))
        chunks = (self._plan.chunk_rows, self._plan.columns)[-len(self._shape) :]
        self._array = self._zarr.create_array(
            self._folder,
            shape=self._shape,
            chunks=tuple(max(1, min(size, chunk)) for size, chunk in zip(self._shape, chunks, strict=True)),
            dtype=self._dtype,
            compressors=None,  # speckle is noise, which cannot be compressed
            fill_value=0,
        )
        for path in sorted(self._folder.rglob("*")):
            if path.is_file():
                sync_file(path)
        sync_folder(self._folder)

    def reopen(self) -> None:
        """Open the existing array, and check its shape and dtype."""
        self._array = self._zarr.open_array(self._folder, mode="r+")
        if (tuple(self._array.shape), self._array.dtype) != (self._shape, self._dtype):
            raise ValueError(f"{self._folder} holds another array than when it was begun: --restart deletes it")

    def write(self, tile: Tile, values: NDArray[Any]) -> None:
        """Write a tile, and remember that it is not synced yet."""
        self._unsynced.append(tile)
        if len(self._shape) == 1:
            self._array[tile.left : tile.right] = values[0]
        else:
            self._array[tile.top : tile.bottom, tile.left : tile.right] = values

    def sync(self) -> None:
        """Wait until everything written is on disk: first the chunks, then their names."""
        folders = {self._folder}
        for tile in self._unsynced:
            for path in self._chunk_files(tile):
                if path.exists():  # zarr does not store a chunk of zeros
                    sync_file(path)
                    folders.update(parent for parent in path.parents if self._folder in parent.parents)
        for folder in sorted(folders, reverse=True):
            sync_folder(folder)
        self._unsynced.clear()

    def _chunk_files(self, tile: Tile) -> Iterator[Path]:
        chunks = self._array.chunks
        for j in range(tile.left // chunks[-1], -(-tile.right // chunks[-1])):
            if len(chunks) == 1:
                yield self._folder / self._array.metadata.encode_chunk_key((j,))
                continue
            for i in range(tile.top // chunks[0], -(-tile.bottom // chunks[0])):
                yield self._folder / self._array.metadata.encode_chunk_key((i, j))

    def close(self) -> None:
        """Release the array."""
        self._array = None
