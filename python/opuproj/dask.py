"""The operator on dask arrays: lazily, by chunks of vectors and of outputs, on one machine or a cluster.

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
from .inputs.arrays import check_array
from .inputs.vectors import vectors
from .packing import pack
from .projection import apply
from .ternary import TernaryBatch

__all__ = ["project"]

# Outputs of a chunk are whole tiles of the core.
_ROWS = 64

# Tasks that use all the threads of a worker, or of a process without one, take turns.
_turns: weakref.WeakKeyDictionary[Any, threading.Lock] = weakref.WeakKeyDictionary()
_turn = threading.Lock()


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

    What comes out is :func:`opuproj.project`'s, bit for bit, for any chunks, number of workers and order of tasks; a
    task that runs again, because its worker died, gives the same bits again. Each chunk of vectors is packed where it
    is, and 2 bits an element go to the workers that compute its outputs; no part of the matrix travels.

    Parameters
    ----------
    x : dask.array.Array of shape (..., n_inputs)
        As for :func:`opuproj.project`. Chunks along the last axis are put together.
    n_outputs, seed, mode, digits, rows, n_anchor, camera, dtype
        As in :func:`opuproj.project`.
    noise_seed : int, optional
        As in :func:`opuproj.project`; by default, one is drawn here, and not when the result is computed.
    threads : int, optional
        The most threads of a task; by default as many as its worker has (its ``nthreads``), or without a worker as in
        :func:`opuproj.project`. Never more than the worker has: projections on one worker take turns.
    chunks : int, tuple of int or "auto", default "auto"
        Outputs in a chunk (-1 for all), or in each; automatic ones keep chunks of results to dask's
        ``array.chunk-size``.

    Returns
    -------
    dask.array.Array of shape (..., n_outputs)
        Of as many chunks along the leading axes as `x`.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type, which the message names. Values of `x` are looked at when
        the result is computed.

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
        raise ValueError(f"x has shape {x.shape}, but must be of known size: call x.compute_chunk_sizes() first")


def _products(chunks: tuple[tuple[int, ...], ...]) -> list[tuple[int, ...]]:
    """Return the shape of the largest chunk, or nothing if there are no leading axes."""
    return [tuple(max(sizes) for sizes in chunks)] if chunks else []


def _widths(chunks: Any, spec: Spec, n_vectors: int) -> tuple[int, ...]:
    """Return how many outputs are in each chunk."""
    n = spec.n_outputs
    if isinstance(chunks, str) and chunks == "auto":
        limit = parse_bytes(dask.config.get("array.chunk-size"))
        fitting = limit // (max(1, n_vectors) * spec.dtype.itemsize) // _ROWS * _ROWS
        chunks = max(_ROWS, fitting)
    if isinstance(chunks, (tuple, list)):
        widths = tuple(_check.integer("chunks", width, 1, _check.MAX_SIZE) for width in chunks)
        if sum(widths) != n:
            raise ValueError(f"chunks is {tuple(chunks)}, which are {sum(widths)} outputs together, but there are {n}")
        return widths
    try:
        width = _check.integer("chunks", chunks, -1, _check.MAX_SIZE)
    except TypeError:
        raise TypeError(f"chunks is {chunks!r}, but must be an integer, a tuple of integers or 'auto'") from None
    if width == 0:
        raise ValueError("chunks is 0, but must be at least 1, or -1 for one chunk")
    width = n if width == -1 else width
    return tuple(min(width, n - start) for start in range(0, n, width or 1)) or (0,)


# What tasks do


def _pack_chunk(x: Any, block_info: Any = None) -> NDArray[np.uint8]:
    """Return a chunk as the bytes of its two bit planes, one after the other in each vector."""
    try:
        batch = pack(x)
    except ValueError as error:
        begin = [start for start, _ in block_info[0]["array-location"]]
        raise ValueError(f"{error} (x is here the chunk that begins at {begin})") from None
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
    """Project a chunk of packed vectors, or of real ones in digits, onto the rows of a specification."""
    if digits is None:
        half = x.shape[-1] // 2
        x = TernaryBatch.from_planes(x[..., :half], x[..., half:], spec.n_inputs, "little")
    with _cores(threads) as n_threads:
        if noise_seed is None:
            return apply(spec, vectors(x, digits, spec.ensemble), threads=n_threads)
        y = np.empty((*x.shape[:-1], spec.n_outputs), spec.dtype)
        begin = [start for start, _ in block_info[0]["array-location"]][:-1]
        # Runs of vectors that follow each other in the whole array too: the camera's noise goes by their number there.
        for index in np.ndindex(y.shape[:-2]):
            at = (*(np.add(begin[:-1], index) if index else ()), *begin[-1:])
            first = int(np.ravel_multi_index(tuple(map(int, at)), leading)) if at else 0
            rows = vectors(x[index] if index else x, digits, spec.ensemble)
            apply(spec, rows, threads=n_threads, noise_seed=noise_seed, out=y[index], first_vector=first)
        return y


@contextmanager
def _cores(threads: int | None) -> Iterator[int]:
    """Wait for the cores of this task's worker, and yield how many threads may run on them."""
    worker = _worker()
    if worker is None:
        lock, most = _turn, machine.n_threads(threads)
    else:
        lock = _turns.setdefault(worker, threading.Lock())
        most = min(machine.n_threads(threads), int(worker.state.nthreads))
    with lock:
        yield most


def _worker() -> Any:
    """Return the worker of `distributed` whose task this is, or None."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        return distributed.get_worker()
    except ValueError:
        return None
