"""Exact fields of vectors on the GPU: the choice of kernels, and their sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ._gpu import TABLE_BYTES, TABLE_STRIDE, Gpu, grid_for

# Components of a row block.
BLOCK = 16
# The most vectors whose fields are made together, and those that one fused kernel multiplies.
MOST_VECTORS = 4096
FUSED_VECTORS = 32
# The most nonzeros of a vector of a list.
LIST_CAPACITY = 64
# Costs of a column of a list, and of a column in use, in percent of one that is generated in order.
_LIST_COST, _COMPACT_COST = 250, 135
# Shorter vectors are multiplied whole: a choice would take longer than it saves.
_CHOICE_INPUTS = 2048
# Elements whose products with entries of T surely add up to an int32: ternary ones, and int8 ones of up to 121.
_TERNARY_COLUMNS, BYTE_COLUMNS = 1 << 24, 1 << 17
# The most columns of a panel.
_PANEL_COLUMNS = 1 << 15
_LISTS, _IN_USE, _ALL = np.int32(0), np.int32(1), np.int32(2)


@dataclass
class Planes:
    """Ternary vectors as bit planes. If split, vectors 2r and 2r + 1 are the two planes of row r."""

    positive: torch.Tensor  # int32, (n_rows, words)
    negative: torch.Tensor
    counts: torch.Tensor  # int32, (n_rows,): the number of nonzeros of each row
    used: torch.Tensor  # int32, (words,): a bit for each column that a row uses
    n_inputs: int
    split: bool = False

    @property
    def n_vectors(self) -> int:
        return len(self.positive) * (1 + self.split)

    @property
    def words(self) -> int:
        return int(self.positive.shape[1])

    most_columns = _TERNARY_COLUMNS


@dataclass
class Bytes:
    """Vectors of int8 numbers from -121 to 121, of which each row holds the first n_inputs, and zeros beyond."""

    x: torch.Tensor  # int8, (n_vectors, a multiple of 128)
    n_inputs: int

    @property
    def n_vectors(self) -> int:
        return len(self.x)

    most_columns = BYTE_COLUMNS


class FieldMaker:
    """Computes fields of one batch, for one range of row blocks after the other.

    The vectors begin at column `first_column`, a multiple of 16.
    """

    def __init__(self, gpu: Gpu, seed: int, vectors: Planes | Bytes, scratch: int, first_column: int = 0) -> None:
        self._gpu, self._seed, self._vectors = gpu, np.uint64(seed), vectors
        self._device = vectors.x.device if isinstance(vectors, Bytes) else vectors.positive.device
        self._n, self._v = vectors.n_inputs, vectors.n_vectors
        self._scratch, self._first_column = scratch, np.uint64(first_column)
        self._wide = self._n > vectors.most_columns  # whether sums need 64 bits
        self._fused = self._v <= FUSED_VECTORS and not self._wide
        self._path: torch.Tensor | None = None
        self._columns: torch.Tensor | None = None
        self._count: torch.Tensor | None = None
        self._n_columns = self._n
        self._lists: torch.Tensor | None = None
        self._compact: torch.Tensor | None = None
        self._prepare()

    @property
    def blocks_at_once(self) -> int:
        """The number of row blocks whose fields and panel fit the scratch memory."""
        width = 8 if self._wide else 4
        if self._fused:
            bytes_each = BLOCK * width * self._v
        else:
            bytes_each = BLOCK * (self._panel_columns + (4 + width) * self._padded_vectors)
        return max(1, min(1 << 24, int((self._scratch - self._operand_bytes) // bytes_each)))

    @property
    def _padded_vectors(self) -> int:
        return max(32, -(-self._v // 32) * 32)

    @property
    def _panel_columns(self) -> int:
        return min(_PANEL_COLUMNS, max(128, -(-self._n_columns // 128) * 128))

    @property
    def _operand_bytes(self) -> int:
        return 0 if self._fused else self._padded_vectors * self._panel_columns

    def _empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device=self._device)

    def _prepare(self) -> None:
        """Choose the way to compute: the GPU chooses for few vectors, else the host, which waits for two numbers."""
        x = self._vectors
        if not isinstance(x, Planes) or self._n < _CHOICE_INPUTS:
            return
        self._columns = self._empty((self._n,), torch.int32)
        chosen = self._empty((2,), torch.int32)
        path, self._count = chosen.split(1)
        counts = x.counts  # of both planes together, which is at least the number of each
        passes = 1 if self._fused else max(1, self._v // 256)
        costs = (np.int32(_LIST_COST), np.int32(_COMPACT_COST if self._fused else 100), np.int32(passes))
        total = np.int32(self._n if self._fused else self._n + 1)
        arguments = (
            path, self._columns, self._count, x.used, np.int32(x.words), counts, np.int32(len(counts)), total,
            np.int32(LIST_CAPACITY), *costs,
        )  # fmt: skip
        self._gpu.launch("packing.cu", "choose", 1, 1024, 4 * 64, arguments)
        if self._fused:
            self._path = path
            self._lists, self._list_counts = self._empty_lists()
            width = -(-self._n // 128) * 128
            self._compact = self._empty((self._v, width), torch.int8)
            either = (
                self._lists, self._list_counts, np.int32(LIST_CAPACITY), self._compact, np.int64(width), x.positive,
                x.negative, np.int32(x.words), np.int32(self._v), np.int32(x.split), self._columns, self._count,
                np.int32(self._n), path,
            )  # fmt: skip
            self._launch("lists_or_rows", 256, self._v * max(1, width // 128), either, tables=False, file="packing.cu")
        elif not self._gpu.capturing():
            best, self._n_columns = chosen.tolist()
            if best == 0:
                self._lists, self._list_counts = self._empty_lists()
                lists = (
                    self._lists, self._list_counts, np.int32(LIST_CAPACITY), x.positive, x.negative, np.int32(x.words),
                    np.int32(self._v), np.int32(x.split),
                )  # fmt: skip
                self._launch("lists", 256, self._v, lists, tables=False, file="packing.cu")

    def _empty_lists(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self._empty((self._v, LIST_CAPACITY), torch.int32), self._empty((self._v,), torch.int32)

    def _expanded(self, start: int, stop: int) -> torch.Tensor:
        """Return the columns in use number start to stop - 1 of all vectors as int8, padded with zeros."""
        x, width = self._vectors, -(-(stop - start) // 128) * 128
        assert isinstance(x, Planes)
        out = self._empty((self._padded_vectors, width), torch.int8)
        if len(out) > self._v:
            out[self._v :] = 0
        arguments = (
            out, np.int64(width), x.positive, x.negative, np.int32(x.words), np.int32(self._v), np.int32(x.split),
            self._columns, np.int32(start), self._count, np.int32(self._n), None, _IN_USE,
        )  # fmt: skip
        self._launch("expand", 256, self._v * width // 128, arguments, tables=False, file="packing.cu")
        return out

    def _launch(
        self,
        kernel: str,
        threads: int,
        warps: int,
        arguments: tuple[Any, ...],
        *,
        tables: bool = True,
        file: str = "projection.cu",
    ) -> None:
        """Launch a kernel whose warps take tasks from a range of `warps`."""
        grid = grid_for(self._gpu, 32 * warps, threads, 1 if tables else 8)
        shared = TABLE_BYTES if tables else 0
        self._gpu.launch(file, kernel, grid, threads, shared, (*arguments, TABLE_STRIDE) if tables else arguments)

    def fields(self, first_block: int, blocks: int) -> torch.Tensor:
        """Return the fields of some row blocks, (n_vectors, 16 · blocks), as int32, or int64 if they may need it."""
        if self._lists is not None and not self._fused:
            out = self._empty((self._v, BLOCK * blocks), torch.int32)
            self._of_lists(out, first_block, blocks, None)
            return out
        return self._fused_fields(first_block, blocks) if self._fused else self._panel_fields(first_block, blocks)

    def _of_lists(self, out: torch.Tensor, first_block: int, blocks: int, path: torch.Tensor | None) -> None:
        arguments = (
            out, np.int64(out.stride(0)), self._seed, np.uint64(first_block), np.int32(blocks),
            self._first_column, self._lists, np.int32(LIST_CAPACITY), self._list_counts, np.int32(self._v),
            path, _LISTS,
        )  # fmt: skip
        self._launch("field_lists", 512, self._v * -(-blocks // 32), arguments)

    def _fused_fields(self, first_block: int, blocks: int) -> torch.Tensor:
        size = 8 if self._v <= 8 else 16 if self._v <= 16 else 32
        threads = 384 if size == 32 else 512
        groups, warps = -(-blocks // 8), self._gpu.multiprocessors * threads // 32
        # Slices of the columns keep all warps busy if there are few rows.
        slices = max(1, min(-(-self._n // 512), warps // groups if groups < warps else 1))
        columns = -(-self._n // BLOCK) * BLOCK
        slice_ = -(-columns // (slices * BLOCK)) * BLOCK
        slices = -(-columns // slice_)
        shape = (self._v, BLOCK * blocks)
        make = torch.zeros if slices > 1 else torch.empty
        out = make(shape, dtype=torch.int32, device=self._device)
        x = self._vectors
        where = (np.int64(out.stride(0)), self._seed, np.uint64(first_block), np.int32(blocks), self._first_column)
        cut = (np.int32(slice_), np.int32(slices))
        if isinstance(x, Bytes):
            all_columns = (None, np.int32(self._n), None, x.x, np.int64(x.x.stride(0)), np.int32(self._v))
            self._launch(f"field_bytes_{size}", threads, groups * slices, (out, *where, *all_columns, *cut, None, _ALL))
            return out
        planes = (x.positive, x.negative, np.int32(x.words), np.int32(self._v), np.int32(x.split))
        self._launch(
            f"field_{size}", threads, groups * slices, (out, *where, np.int32(columns), *planes, *cut, self._path, _ALL)
        )
        if self._path is not None:
            assert self._compact is not None
            vectors = (self._compact, np.int64(self._compact.stride(0)), np.int32(self._v))
            listed = (self._columns, np.int32(self._n), self._count, *vectors)
            self._launch(
                f"field_bytes_{size}", threads, groups * slices, (out, *where, *listed, *cut, self._path, _IN_USE)
            )
            self._of_lists(out, first_block, blocks, self._path)
        return out

    def _panel_fields(self, first_block: int, blocks: int) -> torch.Tensor:
        width = self._panel_columns
        panel = self._empty((BLOCK * blocks, width), torch.int8)
        part = self._empty((self._padded_vectors, BLOCK * blocks), torch.int32)
        whole: torch.Tensor | None = None
        for start in range(0, max(1, self._n_columns), width):
            stop = min(self._n_columns, start + width)
            size = max(128, -(-(stop - start) // 128) * 128)
            x = self._operand(start, stop, size)
            used = panel[:, :size]
            arguments = (
                used, np.int64(used.stride(0)), self._seed, np.uint64(first_block), np.int32(blocks),
                self._first_column, self._columns, np.int32(start), np.int32(stop - start), None, None,
                _IN_USE, np.int32(64),
            )  # fmt: skip
            if stop > start:
                self._launch("panel", 512, size // 128 * -(-blocks // 64), arguments)
                self._gpu.product(x, used, part)
            else:
                part.zero_()
            if self._n_columns <= width:
                return part[: self._v]
            if whole is None:
                whole = part[: self._v].to(torch.int64) if self._wide else part[: self._v].clone()
            else:
                whole += part[: self._v]
        assert whole is not None
        return whole

    def _operand(self, start: int, stop: int, size: int) -> torch.Tensor:
        """Return columns number start to stop - 1 as int8, (a multiple of 32, size), with zeros around them."""
        x = self._vectors
        if isinstance(x, Planes):
            return self._expanded(start, start + size)
        part = x.x[:, start : start + size]
        if len(part) == self._padded_vectors and part.is_contiguous():
            return part
        out = torch.zeros((self._padded_vectors, size), dtype=torch.int8, device=self._device)
        out[: len(part), : part.shape[1]] = part
        return out
