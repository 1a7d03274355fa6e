"""The one-line use, and what every call of an operator goes through: checks, the backend, the library of the input."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from . import _check
from ._check import Ensemble, Mode
from ._spec import Spec
from .backends import Read, Request, backend_for
from .camera import Camera, refuse_digits
from .encoded import MAX_DIGITS, default_digits
from .inputs.arrays import array_rows
from .inputs.rows import DigitRows, PackedRows, Rows
from .inputs.vectors import vectors


def project(
    x: Any,
    n_outputs: int,
    *,
    seed: int = 0,
    mode: Mode = "intensity",
    ensemble: Ensemble = "gaussian",
    digits: int | None = None,
    rows: tuple[int, int] | slice | range | None = None,
    n_anchor: int = 64,
    camera: Camera | None = None,
    noise_seed: int | None = None,
    out: Any = None,
    dtype: Any = np.float32,
    threads: int | None = None,
    progress: bool = False,
) -> Any:
    r"""Send ternary vectors through a random scattering medium, as an optical processing unit does.

    The medium is a fixed random complex matrix T of `n_outputs` rows. It is never stored: every entry is a function of
    its row, its column and the seed, and is computed at the moment it is multiplied.

    Parameters
    ----------
    x : array_like of shape (..., n_inputs)
        Vectors of -1, 0 and 1: a NumPy array of any integer, bool or real dtype, a torch tensor, an array of another
        library that keeps to the array API standard or speaks DLPack, a scipy.sparse matrix, or a
        :class:`TernaryBatch`. With `digits`, or as an :class:`EncodedBatch`, vectors of real numbers. Of a sparse
        matrix, time and memory follow the nonzeros alone.
    n_outputs : int
        The number of rows of T. A larger one extends T and keeps the rows that were there.
    seed : int, default 0
        Which medium, from 0 to 2**64 - 1.
    mode : {"intensity", "linear", "complex"}, default "intensity"
        What is measured for output i:

        - ``"intensity"``: what a camera sees, \|(Tx)_i\|², of mean \|\|x\|\|²;
        - ``"linear"``: (Rx)_i = √2 Re(conj(r_i)/\|r_i\| (Tx)_i), the linear projection that intensities with an anchor
          of field r give without holography [1]_: R is real, its entries have mean 0 and variance 1;
        - ``"complex"``: the field (Tx)_i itself. The entries of T have mean 0, E[T²] = 0 and E[\|T\|²] = 1.
    ensemble : {"gaussian", "structured"}, default "gaussian"
        Which random matrices T is one of:

        - ``"gaussian"``: the device's, of independent entries;
        - ``"structured"``: blocks of three rounds of random signs and Walsh-Hadamard transforms [2]_, in software only.
          An output costs some 4 log₂ `n_inputs` additions, and `x` may hold any finite real numbers, which are taken as
          float32. Its entries have the same first and second moments, but depend on each other; T depends on `n_inputs`
          (through the next power of two), and rows are computed in whole blocks of that many. There are no `digits` and
          no `camera` for it.
    digits : int, optional
        Take x as real numbers, in so many digits of -1, 0 and 1, from 1 to 20, as :func:`encode` does: 5 are right to
        0.4 % of the largest element of each vector. The projection is of exactly these digits. Up to 5 of them are
        multiplied at once, as one ternary vector is (5 as two with AVX2, or where a vector has more than 177,477
        nonzeros); in front of a camera, each digit is photographed by itself.
    rows : (start, stop), slice or range, optional
        Compute these outputs only, exactly as they are among all of them: for shards and slices. All by default.
    n_anchor : int, default 64
        How many pixels the anchor lights, from 1 to 4096; they are apart from those of `x`. Used by ``"linear"``, and
        by ``"complex"`` in front of a camera.
    camera : Camera, optional
        Read the intensities through this camera, with its noise and quantization, and recover ``"linear"`` and
        ``"complex"`` from its frames. Without one, and with ``Camera.ideal()``, results are exact.
    noise_seed : int, optional
        Which noise the camera makes, from 0 to 2**64 - 1; by default, noise that no other call has. The same seed gives
        the vector at the same place of another call the same noise: chunks of one batch need different ones.
    out : ndarray or CPU tensor of shape (..., n_outputs), optional
        Filled with the result and returned. It needs the result's dtype, and its last axis contiguous: a slice of
        columns of a larger array will do, and so will a :class:`numpy.memmap` for results larger than memory. It must
        not overlap `x`, nor its bytes in a file that both map; of a file, only two :class:`numpy.memmap` are compared.
    dtype : dtype, default float32
        float32 or float64; mode ``"complex"`` gives complex64 or complex128, by either name. In front of a camera, mode
        ``"intensity"`` can give its own integers: uint8 or uint16.
    threads : int, optional
        By default ``OPUPROJ_NUM_THREADS`` if set, else the number of cores that this process may use. The result does
        not depend on it, not in a single bit.
    progress : bool, default False
        Show a progress bar.

    Returns
    -------
    ndarray or tensor of shape (..., n_outputs)
        In the library of `x`, on its device (NumPy for sparse and packed `x`, and for libraries that only speak DLPack
        or cannot hold the result); `out` if that was given. Tensors are detached: no gradient flows through.

    Raises
    ------
    ValueError
        If a value of `x` is not -1, 0 or 1, or an argument is out of range or unfit, which the message names.
    TypeError
        If an argument is of a type that is not accepted.
    MemoryError
        If the output cannot be allocated: use `rows` or `out`.

    See Also
    --------
    Projector : the same as an operator, to use many times.

    Notes
    -----
    Fields are sums of integers, so they are exact, and the same on every machine, for every batch size, number of
    threads, instruction set and choice of rows. Of the ensemble ``"structured"`` they are float32, in an order that is
    fixed: the same everywhere, too.

    Beyond `x` and the result, at most 64 MiB of memory is used (and by the ensemble ``"structured"`` 12 to 24 bytes for
    each input and thread). A batch of more than 134 million elements is therefore packed and projected in several
    blocks; pack it yourself with :func:`pack` to have it done in one.

    References
    ----------
    .. [1] R. Ohana, D. Hesslow, D. Brunner, S. Gigan and K. Müller, "Linear optical random projections without
       holography", Optics Express 31, 25881, 2023.
    .. [2] J. Dong, R. Ohana, M. Rafayelyan and F. Krzakala, "Reservoir computing meets recurrent kernels and structured
       transforms", NeurIPS 2020.

    Examples
    --------
    >>> import numpy as np
    >>> import opuproj
    >>> x = np.array([[1, 0, -1, 1], [0, 0, 0, 0]])
    >>> y = opuproj.project(x, 1_000_000, seed=1)
    >>> y.shape, y.dtype
    ((2, 1000000), dtype('float32'))
    >>> bool(abs(y[0].mean() - 3) < 0.02), bool(y[1].any())
    (True, False)
    >>> part = opuproj.project(x, 1_000_000, seed=1, rows=(500, 600))
    >>> np.array_equal(part, y[:, 500:600])
    True
    """
    ensemble = _check.ensemble(ensemble)
    x_rows = vectors(x, digits, ensemble)
    spec, n_threads = _checked(x_rows.n_inputs, n_outputs, seed, mode, ensemble, n_anchor, camera, dtype, threads)
    if rows is not None:
        spec = spec.rows(*_check.row_range(rows, spec.n_outputs))
    return apply(spec, x_rows, threads=n_threads, noise_seed=noise_seed, out=out, progress=progress)


def _checked(*arguments: Any) -> tuple[Spec, int | None]:
    """Return a specification and threads: cached ones when available, as checks are most of a small call."""
    try:
        return _cached(*arguments)
    except TypeError:  # an argument has no hash or a wrong type: the next line says which, outside of this error
        pass
    return _new(*arguments)


def _new(
    n_inputs: int,
    n_outputs: Any,
    seed: Any,
    mode: Any,
    ensemble: Any,
    n_anchor: Any,
    camera: Any,
    dtype: Any,
    threads: Any,
) -> tuple[Spec, int | None]:
    spec = Spec.checked(
        n_inputs, n_outputs, seed=seed, mode=mode, ensemble=ensemble, n_anchor=n_anchor, camera=camera, dtype=dtype
    )
    return spec, _check.threads(threads)


# By position: names would be part of the key, and take as long again.
_cached = lru_cache(maxsize=64, typed=True)(_new)


def apply(
    spec: Spec,
    rows: Rows,
    *,
    threads: int | None = None,
    noise_seed: int | None = None,
    out: Any = None,
    progress: bool | Callable[[float], None] = False,
    first_vector: int = 0,
) -> Any:
    """Return the projections of vectors, in their own library; `first_vector` is the place that begins their noise."""
    if rows.n_inputs != spec.n_inputs:
        raise ValueError(_wrong_length(spec, rows.shape))
    noise = 0
    if spec.camera is None:
        if noise_seed is not None:
            raise ValueError(f"noise_seed is {noise_seed!r}, but there is no camera that makes noise: pass camera=")
    else:
        if isinstance(rows, DigitRows) or (isinstance(rows, PackedRows) and rows.encoded):
            refuse_digits(spec.mode, spec.camera, f"the digits of {rows.name}")
        if noise_seed is not None or spec.noisy:
            noise = _check.noise_seed(noise_seed)
    result = backend_for(rows).project(spec, rows, out, Request(threads, noise, first_vector, progress))
    return rows.wrap(result) if out is None else out


def apply_adjoint(
    spec: Spec,
    y: Any,
    read: Read,
    *,
    conjugated: bool = True,
    digits: int | None = None,
    threads: int | None = None,
    out: Any = None,
    progress: bool = False,
) -> Any:
    """Return vectors of outputs multiplied by the adjoint, or by the transpose, in their own library."""
    rows = array_rows("y", y, complex_too=spec.mode == "complex", fewest=0)
    if rows.n_inputs != spec.n_outputs:
        raise ValueError(
            f"y has shape {rows.shape}, so its vectors have {rows.n_inputs} numbers, but this adjoint "
            f"takes {spec.n_outputs}, one for each output"
        )
    dtype = np.result_type(spec.dtype, np.float64) if rows.double else spec.dtype
    if read == "real":
        dtype = np.empty(0, dtype).real.dtype
    n_digits = _check.integer("digits", default_digits(dtype) if digits is None else digits, 1, MAX_DIGITS)
    result = backend_for(rows).adjoint(
        spec.changed(dtype=dtype),
        rows,
        read,
        conjugated=conjugated,
        n_digits=n_digits,
        out=out,
        request=Request(threads, progress=progress),
    )
    return rows.wrap(result) if out is None else out


def _wrong_length(spec: Spec, shape: tuple[int, ...]) -> str:
    message = f"x has shape {shape}, so its vectors have {shape[-1]} inputs, but this operator takes {spec.n_inputs}"
    if len(shape) == 2 and shape[0] == spec.n_inputs:
        message += "; vectors lie along the last axis: for columns use op(x.T).T"
    return message
