"""The public function `project`, and `apply` and `apply_adjoint`, through which every call of an operator goes.

They check the arguments, choose the backend, and return the result in the library of the input.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from . import _check
from ._check import Ensemble, Mode
from ._spec import Spec
from .backends import Read, Request, Served, backend_for, named, registered
from .camera import Camera, refuse_digits
from .encoded import MAX_DIGITS, default_digits
from .inputs.arrays import array_rows, vectors
from .inputs.foreign import settle
from .inputs.rows import DigitRows, PackedRows, Rows


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
    device: Any = None,
    progress: bool = False,
) -> Any:
    r"""Send ternary vectors through a random scattering medium, as an optical processing unit does.

    The medium is a fixed random complex matrix T with `n_outputs` rows. T is never stored: each entry is a function of
    the seed, its row and its column, and it is computed at the moment it is multiplied. Mode ``"real"`` multiplies by a
    real random matrix G, made of the same numbers.

    Parameters
    ----------
    x : array_like of shape (..., n_inputs)
        Vectors of -1, 0 and 1: a NumPy array of any integer, bool or real dtype, a torch tensor, an array of another
        library that follows the array API standard or supports DLPack, a scipy.sparse matrix, or a
        :class:`TernaryBatch`. With `digits`, or as an :class:`EncodedBatch`, vectors of real numbers. For a sparse
        matrix, time and memory depend on the nonzeros only.
    n_outputs : int
        The number of rows of the matrix. A larger number adds rows and does not change the others.
    seed : int, default 0
        Selects the medium: from 0 to 2**64 - 1.
    mode : {"intensity", "linear", "complex", "real"}, default "intensity"
        The quantity that is returned for output i:

        - ``"intensity"``: \|(Tx)_i\|², the intensity that a camera measures. Its mean is \|\|x\|\|².
        - ``"linear"``: (Rx)_i = √2 Re(conj(r_i)/\|r_i\| (Tx)_i). This is the linear projection that can be recovered
          without holography [1]_ from intensities, with an anchor of field r. R is real; its entries have mean 0 and
          variance 1.
        - ``"complex"``: the field (Tx)_i itself. The entries of T have mean 0, E[T²] = 0 and E[\|T\|²] = 1.
        - ``"real"``: (Gx)_i for a real matrix G of independent entries of mean 0 and variance 1. Its rows 2k and 2k + 1
          are √2 times the real and the imaginary part of row k of T. An output takes one multiplication of each input;
          ``"linear"`` takes two. Use it if you only want a random matrix. It exists in software only, so it refuses a
          camera.
    ensemble : {"gaussian", "structured"}, default "gaussian"
        The distribution of T:

        - ``"gaussian"``: independent entries, as on the device.
        - ``"structured"``: blocks of three rounds of random signs and Walsh-Hadamard transforms [2]_, in software only.
          An output costs about 4 log₂ `n_inputs` additions (2 log₂ `n_inputs` in mode ``"real"``). `x` may hold any
          finite real numbers, which are rounded to float32. The entries have the same first and second moments as
          Gaussian ones, but they are not independent. T depends on `n_inputs`, through the next power of two, and rows
          of T are computed in whole blocks of that many. `digits` and `camera` are not available.
    digits : int, optional
        Round real x to this many digits of -1, 0 and 1, from 1 to 20, as :func:`encode` does. With 5 digits, the error
        is at most 0.4 % of the largest element of each vector. The projection of the rounded numbers is exact. Up to 5
        digits cost as much as one ternary vector (with AVX2, 5 cost as much as two). A camera exposes each digit
        separately.
    rows : (start, stop), slice or range, optional
        Compute only these outputs. They equal the same outputs of the whole result exactly. All by default.
    n_anchor : int, default 64
        The number of pixels that the anchor lights, from 1 to 4096; `x` uses none of them. Mode ``"linear"`` uses the
        anchor, and mode ``"complex"`` with a camera.
    camera : Camera, optional
        The camera that reads the intensities, with its noise and quantization. ``"linear"`` and ``"complex"`` are
        recovered from its frames. Without a camera, and with ``Camera.ideal()``, results are exact.
    noise_seed : int, optional
        The seed of the camera's noise, from 0 to 2**64 - 1. By default each call has new noise. Calls with the same
        seed give vectors at the same index the same noise, so use another seed for each chunk of one batch.
    out : ndarray or tensor of shape (..., n_outputs), optional
        The array that receives the result. It is returned. It needs the result's dtype, and its last axis must be
        contiguous: it may be a slice of columns of a larger array, or a :class:`numpy.memmap` for results larger than
        memory. It must be in the CPU's memory. For a computation on a GPU, it may also be a tensor on that GPU, or an
        array there of a library whose arrays can be changed. It must not overlap `x` in memory, nor in a file that both
        map. (Overlap in a file is detected only if both are a :class:`numpy.memmap`.)
    dtype : dtype, default float32
        float32 or float64. Mode ``"complex"`` gives complex64 or complex128, and accepts either name. With a camera,
        mode ``"intensity"`` can also give the camera's own integers: uint8 or uint16.
    threads : int, optional
        The number of threads. By default ``OPUPROJ_NUM_THREADS`` if it is set, else the number of cores that this
        process may use. No bit of the result depends on it.
    device : str or torch.device, optional
        The device that computes: ``"cpu"``, ``"cuda"`` (the current GPU) or one such as ``"cuda:1"``. By default, the
        GPU that holds `x`, if one does, and else the CPU. An `x` in the CPU's memory is copied to the GPU, and the
        result is copied back. No bit of the result depends on it.
    progress : bool, default False
        Show a progress bar.

    Returns
    -------
    ndarray or tensor of shape (..., n_outputs)
        The results, in the library of `x` and on its device; or `out`, if given. They are NumPy arrays if `x` is sparse
        or packed, or if its library supports only DLPack or cannot hold the result. On a GPU, torch tensors take the
        place of NumPy arrays. Tensors are detached: gradients do not flow through.

    Raises
    ------
    ValueError
        If a value of `x` is not -1, 0 or 1, or an argument is out of range or unsuitable. The message names it.
    TypeError
        If an argument has a type that is not accepted, such as a sparse matrix with a GPU as `device`.
    RuntimeError
        If `device` cannot be used. The message says why.
    MemoryError
        If the output cannot be allocated: use `rows` or `out`.

    See Also
    --------
    Projector : the same computation as a reusable operator.

    Notes
    -----
    Fields are sums of integers. So they are exact, and the same on every machine, for every batch size, number of
    threads, instruction set and choice of rows. In the ensemble ``"structured"``, fields are float32 sums in a fixed
    order, so they too are the same everywhere.

    A call uses at most 64 MiB of memory beyond `x` and the result. Therefore a batch of more than 134 million elements
    is packed and projected in several blocks. To project it in one block, call :func:`pack` first. A dense ternary
    vector of more than 67 million elements is projected in slices. Other conversions of such a long vector take more:
    2 bits an element with a noisy camera; with digits, 2 bits an element and digit, and meanwhile up to 8 bytes an
    element. The ensemble ``"structured"`` also uses 12 to 24 bytes per input and thread.

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
    x_rows = vectors(x, digits, ensemble, device=None if device is None else named(device)[0])
    spec, n_threads = _checked(x_rows.n_inputs, n_outputs, seed, mode, ensemble, n_anchor, camera, dtype, threads)
    if rows is not None:
        spec = spec.rows(*_check.row_range(rows, spec.n_outputs))
    return apply(spec, x_rows, threads=n_threads, noise_seed=noise_seed, out=out, progress=progress)


def _checked(*arguments: Any) -> tuple[Spec, int | None]:
    """Return the specification and the threads; the cache saves the checks, which take most of a small call's time."""
    try:
        return _cached(*arguments)
    except TypeError:  # an argument has no hash or a wrong type: _new, outside of this handler, says which
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


# Arguments are positional: keywords would become part of the key, which takes as long again.
_cached = lru_cache(maxsize=64, typed=True)(_new)


def synchronize() -> None:
    """Wait until all GPUs have computed all results, and raise the errors about values that they found.

    A call with a CUDA tensor returns before its result is computed. So a value that is not allowed raises no error in
    that call. The results of its vector are NaN, and a later call raises the error, or this one.

    Raises
    ------
    ValueError
        If a value was not allowed in an earlier call. The message names it and its place.

    Examples
    --------
    >>> import opuproj
    >>> opuproj.synchronize()  # returns at once where no GPU was used
    """
    for backend in registered().values():
        backend.synchronize()


def apply(
    spec: Spec,
    rows: Rows,
    *,
    threads: int | None = None,
    noise_seed: int | None = None,
    out: Any = None,
    progress: bool | Callable[[float], None] = False,
    first_vector: int = 0,
    column_start: int = 0,
) -> Any:
    """Return the projections of vectors, in their own library; the noise of vector i has index `first_vector` + i.

    `column_start`, a multiple of 16, is the column of the first element of dense vectors in digits.
    """
    if rows.n_inputs != spec.n_inputs:
        raise ValueError(_wrong_length(spec, rows.shape))
    noise = 0
    if spec.camera is None:
        if noise_seed is not None:
            raise ValueError(f"noise_seed is {noise_seed!r}, but there is no camera that makes noise: pass camera=")
    else:
        if isinstance(rows, DigitRows) or (isinstance(rows, PackedRows) and rows.encoded):
            refuse_digits(spec.mode, spec.camera, f"the digits of {rows.name}")
        if noise_seed is None and spec.noisy and backend_for(rows).capturing(rows):
            raise RuntimeError(
                "noise_seed is None, but a CUDA graph, which is being captured, would repeat the noise of this call: "
                "pass a noise_seed if that is wanted"
            )
        if noise_seed is not None or spec.noisy:
            noise = _check.noise_seed(noise_seed)
    request = Request(threads, noise, first_vector, column_start, progress)

    with Served(rows) as backend:
        result = backend.project(spec, rows, out, request)
        return rows.wrap(result) if out is None else _filled(out, rows)


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
    device: str | None = None,
) -> Any:
    """Return vectors of outputs multiplied by the adjoint, or by the transpose, in their own library."""
    rows = array_rows("y", y, complex_too=spec.mode == "complex", fewest=0, device=device)
    if rows.n_inputs != spec.n_outputs:
        raise ValueError(
            f"y has shape {rows.shape}, so its vectors have {rows.n_inputs} numbers, but this adjoint "
            f"takes {spec.n_outputs}, one for each output"
        )
    dtype = np.result_type(spec.dtype, np.float64) if rows.double else spec.dtype
    if read == "real part":
        dtype = np.empty(0, dtype).real.dtype
    n_digits = _check.integer("digits", default_digits(dtype) if digits is None else digits, 1, MAX_DIGITS)
    spec, request = spec.changed(dtype=dtype), Request(threads, progress=progress)

    with Served(rows) as backend:
        result = backend.adjoint(spec, rows, read, conjugated=conjugated, n_digits=n_digits, out=out, request=request)
        return rows.wrap(result) if out is None else _filled(out, rows)


def _filled(out: Any, rows: Rows) -> Any:
    """Return the user's `out` to which a call wrote the results of rows."""
    if rows.device != "cpu":
        settle(out)
    return out


def _wrong_length(spec: Spec, shape: tuple[int, ...]) -> str:
    message = f"x has shape {shape}, so its vectors have {shape[-1]} inputs, but this operator takes {spec.n_inputs}"
    if len(shape) == 2 and shape[0] == spec.n_inputs:
        message += "; vectors lie along the last axis: for columns use op(x.T).T"
    return message
