"""The operator: a transmission matrix that is never stored, applied to ternary vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from . import _check, _config, _outputs, _progress, _sources, _structured, _window, encoded
from ._check import Ensemble, Mode
from ._run import Call, run
from .adjoint import Adjoint, default_digits
from .camera import Camera, checked_camera, imperfect, refuse_digits

# What to do about real numbers, of which matvec takes none for intensities.
_ADVICE: dict[Mode, str] = {
    "intensity": "use op(x, digits=…) for real numbers, or opuproj.ternarize",
    **dict.fromkeys(
        ("linear", "complex"), "use op(x, digits=…) or op.matvec(x) for real numbers, or opuproj.ternarize"
    ),
}


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
    source = _sources.source(x, digits, ensemble)
    operator = _operator(source.n_inputs, n_outputs, seed, mode, ensemble, n_anchor, camera, dtype, threads)
    if rows is not None:
        operator = operator._window(*_check.row_range(rows, operator.n_outputs))
    return operator._apply(source, noise_seed, out, progress)


@dataclass(frozen=True, init=False, repr=False)
class Projector:
    r"""The linear operator of a random scattering medium, and what a camera behind it sees.

    It holds a few integers, whatever its shape: it is immutable, hashable, pickles, and may be shared by threads.

    Parameters
    ----------
    n_inputs : int
        The length of the vectors it takes.
    n_outputs : int
        The length of the results.
    seed : int, default 0
        Which medium, from 0 to 2**64 - 1.
    mode : {"intensity", "linear", "complex"}, default "linear"
        What is measured, as in :func:`project`.
    ensemble : {"gaussian", "structured"}, default "gaussian"
        Which random matrices T is one of, as in :func:`project`.
    n_anchor : int, default 64
        How many pixels the anchor lights, from 1 to 4096. Used by ``"linear"``, and by ``"complex"`` in front of a
        camera.
    camera : Camera, optional
        Read the intensities through this camera, as in :func:`project`.
    dtype : dtype, default float32
        As in :func:`project`.
    threads : int, optional
        By default ``OPUPROJ_NUM_THREADS`` if set, else the number of cores that this process may use; looked up at each
        call. It changes no result, and takes no part in equality.

    Attributes
    ----------
    n_inputs, n_outputs, seed, mode, ensemble, n_anchor, camera, dtype, threads
        As given; `dtype` is that of the results.
    row_start : int
        The row of T that gives output 0: not 0 for an operator made by :meth:`rows`.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong type, which the message names.

    Notes
    -----
    Two operators with the same seed share their entries wherever both have them: T does not depend on its shape. So
    disjoint ranges of rows are independent projections, and many workers can each compute a part. (Of the ensemble
    ``"structured"`` the rows are the same for any `n_outputs`, but not for any `n_inputs`.)

    The law of the entries, and how R comes from intensities, are described in [1]_ and in :func:`project`.

    `digits`, `out`, `noise_seed` and `progress` are arguments of the call, ``op(x, digits=5)``; ``op @ x`` projects
    rows; `matvec` and `matmat` take real numbers and columns.

    References
    ----------
    .. [1] R. Ohana, D. Hesslow, D. Brunner, S. Gigan and K. Müller, "Linear optical random projections without
       holography", Optics Express 31, 25881, 2023.

    Examples
    --------
    >>> import numpy as np
    >>> import opuproj
    >>> op = opuproj.Projector(1000, 50_000, seed=7)
    >>> x = np.zeros(1000, dtype=np.int8)
    >>> x[[3, 14, 15]] = 1, -1, 1
    >>> y = op @ x
    >>> y.shape
    (50000,)
    >>> np.array_equal(op[100:200](x), y[100:200])
    True
    >>> np.allclose(op.matrix(rows=slice(0, 5)) @ x, y[:5])
    True
    """

    n_inputs: int
    n_outputs: int
    seed: int
    mode: Mode
    ensemble: Ensemble
    n_anchor: int
    camera: Camera | None
    dtype: np.dtype[Any]
    threads: int | None = field(compare=False)
    row_start: int

    # NumPy must not take this for an array: array @ operator is an error, not a loop over elements.
    __array_ufunc__ = None

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        *,
        seed: int = 0,
        mode: Mode = "linear",
        ensemble: Ensemble = "gaussian",
        n_anchor: int = 64,
        camera: Camera | None = None,
        dtype: Any = np.float32,
        threads: int | None = None,
    ) -> None:
        mode, ensemble = _check.mode(mode), _check.ensemble(ensemble)
        if ensemble == "structured":
            _structured.refuse_camera(camera)
        self._set(
            n_inputs=_check.size("n_inputs", n_inputs),
            n_outputs=_check.size("n_outputs", n_outputs),
            seed=_check.seed(seed),
            mode=mode,
            ensemble=ensemble,
            n_anchor=_check.n_anchor(n_anchor),
            camera=checked_camera(camera),
            dtype=_check.dtype(dtype, mode, camera),
            threads=_check.threads(threads),
            row_start=0,
        )

    def _set(self, **values: Any) -> None:
        self.__dict__.update(values)  # around what keeps it frozen

    # What it is

    @property
    def shape(self) -> tuple[int, int]:
        """(n_outputs, n_inputs), as that of the matrix."""
        return self.n_outputs, self.n_inputs

    def __repr__(self) -> str:
        stop = self.row_start + self.n_outputs
        whole = self.row_start == 0 and self.n_outputs > 0
        text = (
            f"Projector({self.n_inputs}, {max(1, stop)}, seed={self.seed}, mode={self.mode!r}, "
            f"n_anchor={self.n_anchor}, dtype={self.dtype.name!r}"
            f"{'' if self.ensemble == 'gaussian' else f', ensemble={self.ensemble!r}'}"
            f"{'' if self.camera is None else f', camera={self.camera}'}"
            f"{'' if self.threads is None else f', threads={self.threads}'})"
        )
        return text if whole else f"{text}.rows({self.row_start}, {stop})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Plain numbers and names, which every version of NumPy can read back.
        state = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return _restore, ({**state, "dtype": self.dtype.name},)

    def __copy__(self) -> Projector:
        return self

    def __deepcopy__(self, memo: object) -> Projector:
        return self

    # What it does

    def __call__(
        self,
        x: Any,
        *,
        digits: int | None = None,
        noise_seed: int | None = None,
        out: Any = None,
        progress: bool = False,
    ) -> Any:
        """Project vectors.

        Parameters
        ----------
        x : array_like of shape (..., n_inputs)
            Vectors of -1, 0 and 1, from any library that :func:`project` takes, or an :class:`EncodedBatch`; of any
            real numbers for the ensemble ``"structured"``.
        digits : int, optional
            Take x as real numbers, in so many digits, as in :func:`project`.
        noise_seed : int, optional
            Which noise the operator's camera makes, as in :func:`project`; by default, noise that no other call has.
        out : ndarray or CPU tensor of shape (..., n_outputs), optional
            Filled with the result and returned, as in :func:`project`.
        progress : bool, default False
            Show a progress bar.

        Returns
        -------
        ndarray or tensor of shape (..., n_outputs)

        Raises
        ------
        ValueError, TypeError, MemoryError
            As :func:`project`.
        """
        return self._apply(_sources.source(x, digits, self.ensemble, _ADVICE[self.mode]), noise_seed, out, progress)

    def __matmul__(self, x: Any) -> Any:
        """Project vectors: ``op @ x`` is ``op(x)``, so x has shape (..., n_inputs)."""
        return self._apply(_sources.source(x, None, self.ensemble, _ADVICE[self.mode]), None, None, False)

    def __rmatmul__(self, x: object) -> NoReturn:
        none = self.mode == "intensity" or self.ensemble == "structured"
        adjoint = "" if none else f", and op.T @ x takes rows of n_outputs ({self.n_outputs}) back"
        raise TypeError(
            f"x @ op is not defined: op @ x projects the rows of x, which have n_inputs ({self.n_inputs}) elements"
            f"{adjoint}"
        )

    def __mul__(self, factor: object) -> NoReturn:
        raise TypeError("an operator is not multiplied by a number: multiply its results, as in 2 * op(x)")

    __rmul__ = __mul__

    def _apply(
        self,
        source: _sources.Source,
        noise_seed: int | None,
        out: Any,
        progress: bool | Callable[[float], None],
        first_vector: int = 0,
    ) -> Any:
        """Project vectors whose place among those of one noise seed begins at `first_vector`."""
        if source.n_inputs != self.n_inputs:
            raise ValueError(self._wrong_length(source.shape))
        if noise_seed is not None and self.camera is None:
            raise ValueError(f"noise_seed is {noise_seed!r}, but there is no camera that makes noise: pass camera=")
        if isinstance(source, (encoded.EncodingSource, encoded.EncodedSource)):
            refuse_digits(self.mode, self.camera, f"the digits of {source.name}")
        unused = noise_seed is None and not imperfect(self.camera)
        noise = 0 if unused else _check.noise_seed(noise_seed)
        shape = (*source.shape[:-1], self.n_outputs)
        result = _outputs.new(shape, self.dtype) if out is None else _outputs.given(out, shape, self.dtype, source)
        rows = _outputs.rows_of(result)
        isa, threads = _config.isa(), _config.n_threads(self.threads)
        call = Call(isa, threads, noise, first_vector, None)
        if self.ensemble == "structured":
            _structured.reserve(self.n_inputs, threads, self.mode == "linear")
        blocks = _sources.blocks(source, self.ensemble)
        if rows.size == 0:
            pass
        elif not progress:
            run(self, blocks, rows, call)
        elif callable(progress):
            run(self, blocks, rows, call._replace(advance=progress))
        else:
            with _progress.bar(rows.size) as advance:
                run(self, blocks, rows, call._replace(advance=advance))
        return source.wrap(result) if out is None else out

    def _wrong_length(self, shape: tuple[int, ...]) -> str:
        message = (
            f"x has shape {shape}, so its vectors have {shape[-1]} inputs, but this operator takes {self.n_inputs}"
        )
        if len(shape) == 2 and shape[0] == self.n_inputs:
            message += "; vectors lie along the last axis: for columns use op(x.T).T"
        return message

    # Back, and what solvers ask for

    @property
    def H(self) -> Adjoint:  # noqa: N802
        """The adjoint: ``op.H @ y`` is Rᵗy for mode ``"linear"``, Tᴴy for ``"complex"``. See :class:`Adjoint`.

        Raises
        ------
        AttributeError
            If the mode is ``"intensity"``, which is not linear, or the ensemble ``"structured"``.
        """
        return self._adjoint(conjugated=True)

    @property
    def T(self) -> Adjoint:  # noqa: N802
        """The transpose: ``op.T @ y`` is Rᵗy for mode ``"linear"``, Tᵗy for ``"complex"``. See :class:`Adjoint`.

        Raises
        ------
        AttributeError
            If the mode is ``"intensity"``, which is not linear, or the ensemble ``"structured"``.
        """
        return self._adjoint(conjugated=False)

    def _adjoint(self, *, conjugated: bool) -> Adjoint:
        try:
            return Adjoint(self, conjugated)
        except ValueError as error:  # hasattr and the like must see that there is none
            raise AttributeError(str(error)) from None

    def matvec(self, x: Any) -> NDArray[Any]:
        """Multiply one vector of real or complex numbers, as :func:`scipy.sparse.linalg.aslinearoperator` expects.

        Parameters
        ----------
        x : array_like of shape (n_inputs,) or (n_inputs, 1)
            Real numbers, and for mode ``"complex"`` complex ones. They are taken in 10 ternary digits, right to 1.7e-5
            of the largest element, or in 20, right to 2.9e-10, if the operator's dtype is of double precision: which
            it should be for a solver that is to converge further.

        Returns
        -------
        ndarray of shape (n_outputs,) or (n_outputs, 1)

        Raises
        ------
        ValueError, TypeError
            As :func:`project`; or if the mode is ``"intensity"``, which is not linear.
        """
        product: NDArray[Any] = self._multiply(np.asarray(x).T).T
        return product

    def matmat(self, x: Any) -> NDArray[Any]:
        """Multiply the columns of a matrix of shape (n_inputs, k), as :meth:`matvec` does one."""
        product: NDArray[Any] = self._multiply(np.asarray(x).T).T
        return product

    def rmatvec(self, y: Any) -> NDArray[Any]:
        """Multiply one vector of shape (n_outputs,) or (n_outputs, 1) by the adjoint: ``op.H @ y``."""
        product: NDArray[Any] = Adjoint(self)(np.asarray(y).T).T
        return product

    def rmatmat(self, y: Any) -> NDArray[Any]:
        """Multiply the columns of a matrix of shape (n_outputs, k) by the adjoint."""
        product: NDArray[Any] = Adjoint(self)(np.asarray(y).T).T
        return product

    def _multiply(self, x: NDArray[Any]) -> NDArray[Any]:
        """Project rows of real or complex numbers: as they are, or in as many digits as the dtype deserves."""
        if self.mode == "intensity":
            raise ValueError("mode is 'intensity', which is not linear: use mode 'linear' or 'complex'")
        digits = None if self.ensemble == "structured" else default_digits(self.dtype)
        if x.dtype.kind != "c" or self.mode == "linear":
            return np.asarray(self(x, digits=digits))
        real, imaginary = self(np.stack([x.real, x.imag]), digits=digits)
        return np.asarray(real + 1j * imaginary)

    # Parts of it

    def rows(self, start: int, stop: int) -> Projector:
        """Return the operator of outputs start to stop - 1 alone: the same entries, as a view of rows.

        Parameters
        ----------
        start, stop : int
            0 <= start <= stop <= n_outputs.

        Returns
        -------
        Projector
            With ``n_outputs == stop - start``. Rows of rows count from where the first began.

        Raises
        ------
        ValueError
            If the rows do not all exist.

        Examples
        --------
        >>> import opuproj
        >>> op = opuproj.Projector(10, 1000)
        >>> op.rows(100, 300).rows(5, 10) == op.rows(105, 110)
        True
        """
        return self._window(*_check.row_range((start, stop), self.n_outputs))

    def seen_by(self, camera: Camera | None) -> Projector:
        """Return the same operator in front of a camera, or of none.

        Raises
        ------
        ValueError, TypeError
            If `camera` is no camera, the operator's dtype is one that only its own camera gives, or its ensemble is
            ``"structured"``, which no camera sees.
        """
        if self.ensemble == "structured":
            _structured.refuse_camera(camera)
        return self._changed(camera=checked_camera(camera), dtype=_check.dtype(self.dtype, self.mode, camera))

    def __getitem__(self, index: slice) -> Projector:
        """Return the operator of a slice of outputs, cut off at the ends as Python does."""
        if not isinstance(index, slice):
            raise TypeError(
                f"an operator is indexed with a slice of outputs, not {index!r}; "
                "use op[i:i + 1] for one output and op.matrix(rows, columns) for entries"
            )
        start, stop, step = index.indices(self.n_outputs)
        if step != 1:
            raise ValueError(f"the slice has step {step}, but rows of an operator must be contiguous (step 1)")
        return self._window(start, max(start, stop))

    def _window(self, start: int, stop: int) -> Projector:
        return self._changed(n_outputs=stop - start, row_start=self.row_start + start)

    def _changed(self, **values: Any) -> Projector:
        changed = object.__new__(type(self))
        changed._set(**{**self.__dict__, **values})
        return changed

    def matrix(
        self,
        rows: slice | range | Sequence[int] | NDArray[np.integer[Any]] | None = None,
        columns: slice | range | Sequence[int] | NDArray[np.integer[Any]] | None = None,
    ) -> NDArray[Any]:
        """Return exact entries of the matrix that the operator multiplies by, for small windows of it.

        Parameters
        ----------
        rows, columns : slice, range or sequence of int, optional
            Which outputs and which inputs, in any order; all by default. Negative numbers count from the end.

        Returns
        -------
        ndarray of shape (n_rows, n_columns)
            R, real, for mode ``"linear"``; T, complex, for ``"complex"`` and ``"intensity"``. In the precision of
            `dtype`.

        Raises
        ------
        IndexError
            If a row or a column does not exist.
        MemoryError
            If the window cannot be allocated.

        Examples
        --------
        >>> import opuproj
        >>> op = opuproj.Projector(10**6, 2 * 10**6, mode="complex")
        >>> op.matrix(rows=slice(1_999_998, None), columns=[0, 999_999]).shape
        (2, 2)
        """
        return _window.entries(self, rows, columns)


def _operator(*arguments: Any) -> Projector:
    """Return an operator: one that was made before, if it was, as checking its arguments is most of a small call."""
    try:
        return _kept_operator(*arguments)
    except TypeError:  # of what is no key, or no argument either: which, is said outside of this error
        pass
    return _new_operator(*arguments)


def _new_operator(
    n_inputs: int,
    n_outputs: int,
    seed: int,
    mode: Mode,
    ensemble: Ensemble,
    n_anchor: int,
    camera: Camera | None,
    dtype: Any,
    threads: int | None,
) -> Projector:
    return Projector(
        n_inputs,
        n_outputs,
        seed=seed,
        mode=mode,
        ensemble=ensemble,
        n_anchor=n_anchor,
        camera=camera,
        dtype=dtype,
        threads=threads,
    )


# By place and not by name: names would be part of the key, and take as long again.
_kept_operator = lru_cache(maxsize=64, typed=True)(_new_operator)


def _restore(state: dict[str, Any]) -> Projector:
    """Return the operator of a pickled state, all of which is checked as arguments are."""
    fields = {"camera": None, "ensemble": "gaussian", **state}  # older pickles have neither
    missing = [name for name in Projector.__dataclass_fields__ if name not in fields]
    if missing:
        raise ValueError(f"the state has no {missing[0]!r}: it is not that of a Projector")
    start = _check.integer("row_start", fields.pop("row_start"), 0, _check.MAX_SIZE)
    n_outputs = _check.integer("n_outputs", fields.pop("n_outputs"), 0, _check.MAX_SIZE - start)
    whole = Projector(n_outputs=max(1, start + n_outputs), **fields)
    return whole._window(start, start + n_outputs)
