"""Projections of dask arrays: lazy, in chunks of vectors and of outputs, on one machine or a cluster.

y = opuproj.dask.project(x, 2_000_000, seed=0, chunks=100_000)    # a dask array
y.to_zarr("y.zarr")                                               # larger than memory
"""

from __future__ import annotations

import math
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dask
import dask.array as da
import numpy as np
from dask.utils import parse_bytes
from numpy.typing import NDArray

from . import _check
from ._check import Mode
from ._spec import Spec
from .backends.cpu import machine
from .camera import Camera, refuse_digits
from .encoded import MAX_DIGITS
from .inputs.arrays import check_array, vectors
from .packing import pack
from .projection import apply
from .ternary import TernaryBatch

__all__ = ["project"]

# An automatic chunk has a multiple of this number of row blocks, so that it consists of whole tiles of the core.
_BLOCKS = 8

# Each task uses all threads of its worker, or of the process. So tasks of one worker run one after the other: one lock
# for each worker, and one for a process without workers.
_locks: weakref.WeakKeyDictionary[Any, threading.Lock] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def project(
    x: Any,
    n_outputs: int,
    *,
    seed: int = 0,
    mode: Mode = "intensity",
    digits: int | None = None,
    rows: tuple[int, int] | slice | range | None = None,
    n_anchor: int = 64,
    camera: Camera | None = None,
    noise_seed: int | None = None,
    dtype: Any = np.float32,
    threads: int | None = None,
    chunks: Any = "auto",
) -> Any:
    r"""Send the vectors of a dask array through a random scattering medium, lazily.

    The result equals that of :func:`opuproj.project` bit for bit, for any chunks, number of workers and order of tasks.
    A task that runs again after the loss of its worker gives the same bits. Each chunk of vectors is packed on the
    worker that holds it. Its bits, 2 per element, go to the workers that compute its outputs. No part of the matrix is
    sent.

    Parameters
    ----------
    x : dask.array.Array of shape (..., n_inputs)
        As in :func:`opuproj.project`. Chunks along the last axis are merged.
    n_outputs, seed, mode, digits, rows, n_anchor, camera, dtype
        As in :func:`opuproj.project`.
    noise_seed : int, optional
        As in :func:`opuproj.project`. The default seed is drawn when this function is called, not when the result is
        computed.
    threads : int, optional
        The maximum number of threads of a task. By default the ``nthreads`` of its worker, or, without a worker, the
        default of :func:`opuproj.project`. A task never uses more threads than its worker has: the projections of one
        worker run one after the other.
    chunks : int, tuple of int or "auto", default "auto"
        The number of outputs of a chunk (-1 for all), or of each chunk. With ``"auto"``, chunks of results have at most
        dask's ``array.chunk-size``.

    Returns
    -------
    dask.array.Array of shape (..., n_outputs)
        It has the chunks of `x` along the leading axes.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type. The message names it. Values of `x` are checked when the
        result is computed.

    Examples
    --------
    >>> import dask.array as da
    >>> import opuproj.dask
    >>> x = da.random.default_rng(0).integers(-1, 2, size=(1000, 300), chunks=(500, 300))
    >>> y = opuproj.dask.project(x, 2000, chunks=1000)
    >>> y.chunks
    ((500, 500), (1000, 1000))
    >>> bool(abs(y.mean().compute() - 200) < 2)  # of 300 elements, two in three are not 0
    True
    """
    _check_array(x)
    spec = Spec.checked(x.shape[-1], n_outputs, seed=seed, mode=mode, n_anchor=n_anchor, camera=camera, dtype=dtype)
    threads = _check.threads(threads)
    if rows is not None:
        spec = spec.rows(*_check.row_range(rows, spec.n_outputs))
    if digits is not None:
        digits = _check.integer("digits", digits, 1, MAX_DIGITS)
    if noise_seed is not None and camera is None:
        raise ValueError(f"noise_seed is {noise_seed!r}, but there is no camera that makes noise: pass camera=")
    if digits is not None:
        refuse_digits(spec.mode, camera)
    noise = _check.noise_seed(noise_seed) if spec.noisy else None
    widths = _widths(chunks, spec, max(map(math.prod, _products(x.chunks[:-1])), default=1))
    whole = x.rechunk({x.ndim - 1: -1})
    if digits is None:
        n_bytes = 2 * -(-spec.n_inputs // 8)
        whole = whole.map_blocks(
            _pack_chunk, dtype=np.uint8, chunks=(*whole.chunks[:-1], (n_bytes,)), meta=np.empty((0,) * x.ndim, np.uint8)
        )
    parts, start = [], 0
    for width in widths:
        part = whole.map_blocks(
            _project_chunk,
            spec=spec.rows(start, start + width),
            threads=threads,
            digits=digits,
            noise_seed=noise,
            leading=x.shape[:-1],
            dtype=spec.dtype,
            chunks=(*whole.chunks[:-1], (width,)),
            meta=np.empty((0,) * x.ndim, spec.dtype),
        )
        parts.append(part)
        start += width
    return da.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]


def _check_array(x: Any) -> None:
    if not isinstance(x, da.Array):
        raise TypeError(f"x is a {type(x).__name__}, but must be a dask array: use dask.array.from_array")
    check_array("x", x)
    if any(math.isnan(size) for size in x.shape):
        raise ValueError(f"x has shape {x.shape}, but its shape must be known: call x.compute_chunk_sizes() first")


def _products(chunks: tuple[tuple[int, ...], ...]) -> list[tuple[int, ...]]:
    """Return the shape of the largest chunk, or an empty list if there are no leading axes."""
    return [tuple(max(sizes) for sizes in chunks)] if chunks else []


def _widths(chunks: Any, spec: Spec, n_vectors: int) -> tuple[int, ...]:
    """Return the number of outputs of each chunk."""
    n = spec.n_outputs
    if isinstance(chunks, str) and chunks == "auto":
        limit = parse_bytes(dask.config.get("array.chunk-size"))
        rows = _BLOCKS * spec.block_rows
        chunks = max(rows, limit // (max(1, n_vectors) * spec.dtype.itemsize) // rows * rows)
    if isinstance(chunks, (tuple, list)):
        widths = tuple(_check.integer("chunks", width, 1, _check.MAX_SIZE) for width in chunks)
        if sum(widths) != n:
            raise ValueError(f"chunks is {tuple(chunks)}, {sum(widths)} outputs in total, but there are {n} outputs")
        return widths
    try:
        width = _check.integer("chunks", chunks, -1, _check.MAX_SIZE)
    except TypeError:
        raise TypeError(f"chunks is {chunks!r}, but must be an integer, a tuple of integers or 'auto'") from None
    if width == 0:
        raise ValueError("chunks is 0, but must be at least 1, or -1 for one chunk")
    width = n if width == -1 else width
    return tuple(min(width, n - start) for start in range(0, n, width or 1)) or (0,)


# The tasks


def _pack_chunk(x: Any, block_info: Any = None) -> NDArray[np.uint8]:
    """Return the bytes of a chunk's two bit planes, one after the other in each vector."""
    try:
        batch = pack(x)
    except ValueError as error:
        begin = [start for start, _ in block_info[0]["array-location"]]
        raise ValueError(f"{error} (here x is the chunk that begins at {begin})") from None
    return np.concatenate(batch.planes("little"), axis=-1)


def _project_chunk(
    x: Any,
    spec: Spec,
    threads: int | None,
    digits: int | None,
    noise_seed: int | None,
    leading: tuple[int, ...],
    block_info: Any = None,
) -> Any:
    """Project a chunk of packed vectors, or of real vectors in digits, onto the rows of a specification."""
    if digits is None:
        half = x.shape[-1] // 2
        x = TernaryBatch.from_planes(x[..., :half], x[..., half:], spec.n_inputs, "little")
    with _cores(threads) as n_threads:
        if noise_seed is None:
            return apply(spec, vectors(x, digits, spec.ensemble), threads=n_threads)
        y = np.empty((*x.shape[:-1], spec.n_outputs), spec.dtype)
        begin = [start for start, _ in block_info[0]["array-location"]][:-1]
        # The camera's noise depends on a vector's index in the whole array. So project runs of consecutive vectors.
        for index in np.ndindex(y.shape[:-2]):
            at = (*(np.add(begin[:-1], index) if index else ()), *begin[-1:])
            first = int(np.ravel_multi_index(tuple(map(int, at)), leading)) if at else 0
            rows = vectors(x[index] if index else x, digits, spec.ensemble)
            apply(spec, rows, threads=n_threads, noise_seed=noise_seed, out=y[index], first_vector=first)
        return y


@contextmanager
def _cores(threads: int | None) -> Iterator[int]:
    """Wait until this task's worker is free, and yield the number of threads that the task may use."""
    worker = _worker()
    if worker is None:
        lock, most = _lock, machine.n_threads(threads)
    else:
        lock = _locks.setdefault(worker, threading.Lock())
        most = min(machine.n_threads(threads), int(worker.state.nthreads))
    with lock:
        yield most


def _worker() -> Any:
    """Return the `distributed` worker that runs this task, or None."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        return distributed.get_worker()
    except ValueError:
        return None
